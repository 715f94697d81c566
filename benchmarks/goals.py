"""What the method is meant to reach, and whether the results in benchmarks/results do.

python -m benchmarks.goals
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t, ttest_ind

from benchmarks import compare, little_data, tables
from benchmarks.command import Parser
from benchmarks.tables import deviation, grouped

RESULTS = Path(__file__).parent / "results"


def runs_of(results, kind, stream):
    """Return the runs of a file, or none."""
    path = results / f"{kind}-{stream}.json"
    return json.loads(path.read_text())["runs"] if path.exists() else []


class Lead(NamedTuple):
    """Points of accuracy, their standard error, and half the width of their 95 % interval."""

    points: float
    error: float
    half: float


def lead(ours, others, paired=True):
    """Return the lead of ours over others, whose runs are pairs of one seed, or not (Welch).

    >>> [round(value, 1) for value in lead([0.93, 0.95], [0.92, 0.92])]
    [2.0, 1.0, 12.7]
    >>> [round(value, 1) for value in lead([0.93, 0.95], [0.91, 0.93], paired=False)]
    [2.0, 1.4, 6.1]
    """
    ours, others = 100 * np.asarray(ours), 100 * np.asarray(others)
    samples = [ours - others] if paired else [ours, others]
    error = sum(deviation(one) ** 2 / len(one) for one in samples) ** 0.5
    half = 0.0
    if error:
        freedom = len(ours) - 1 if paired else ttest_ind(ours, others, equal_var=False).df
        half = t.ppf(0.975, freedom) * error
    return Lead(float(ours.mean() - others.mean()), float(error), float(half))


def said(found, least, small=True):
    """Return whether a goal is met, by something small enough, and whether that could be chance.

    >>> said(Lead(1.1, 0.1, 0.3), 1)
    'reached, within noise'
    >>> said(Lead(1.5, 0.1, 0.3), 1), said(Lead(1.5, 0.1, 0.3), 1, small=False)
    ('yes', 'no')
    """
    reached = small and found.points >= least
    if small and abs(found.points - least) < found.half:
        return f"{'reached' if reached else 'missed'}, within noise"
    return "yes" if reached else "no"


def forgetting(results):
    """Return whether no accuracy of a task ever changes."""
    files = [json.loads(path.read_text()) for path in sorted(results.glob("compare-*.json"))]
    kept = []
    for run in [run for file in files for run in file["runs"] if "seed" in run["key"]]:
        if run["key"]["method"].startswith("HALRP"):
            matrix = np.array(run["accuracy"], dtype=float)
            kept.append(all((matrix[i:, i] == matrix[i, i]).all() for i in range(len(matrix))))
    if kept:
        measured = f"{len(kept)} runs, {'all' if all(kept) else 'not all'}"
        yield "no task is ever forgotten", measured, "yes" if all(kept) else "no"


def beside(results, stream, ours, other, least, growth, text):
    """Return whether a method is so many points above another one, at a growth.

    What it is on the tasks after the first alone, which is a plain network with both, is said too.
    """
    runs = runs_of(results, "compare", stream)
    found = compare.found(runs)
    if {ours, other} <= found.keys():
        ahead = lead(found[ours]["ACC"], found[other]["ACC"], paired=False)
        seeds = grouped([run for run in runs if "seed" in run["key"]], "method")
        pair = ([np.mean(little_data.later(run)) for run in seeds[name]] for name in (ours, other))
        later = lead(*pair, paired=False)
        grown = round(100 * float(found[ours]["growth"].mean()), 6)
        words = f"{ahead.points:+.2f} ± {ahead.error:.2f} points at {grown:.1f} % ({ours}); "
        words += f"{later.points:+.2f} ± {later.error:.2f} on the later tasks"
        yield f"{stream}: {text}", words, said(ahead, least, grown <= growth)


def third(results, stream, ours, published):
    """Return whether a third of the growth gives the accuracy of the published settings."""
    found = compare.found(runs_of(results, "compare", stream))
    if {ours, published} <= found.keys():
        ahead = lead(found[ours]["ACC"], found[published]["ACC"])
        share = float(found[ours]["growth"].mean() / found[published]["growth"].mean())
        words = f"{ahead.points:+.2f} ± {ahead.error:.2f} points at {share:.2f} of it ({ours})"
        goal = f"{stream}: as accurate as the published settings at a third of their growth"
        yield goal, words, said(ahead, 0, share <= 1 / 3)


def with_little(results, stream):
    """Return whether a base pays where tasks have a quarter of their rows or less."""
    found = little_data.found(runs_of(results, "little_data", stream))
    names = (little_data.OURS, little_data.ALONE)
    if set(names) <= found.keys():
        ours, alone = ({share: few.mean(1) for share, few in found[name].items()} for name in names)
        leads = [lead(ours[share], alone[share]) for share in sorted(ours) if share <= 0.25]
        words = ", ".join(f"{one.points:+.1f} ± {one.error:.1f}" for one in leads) + " points"
        goal = f"{stream}: above separate networks with 5, 10 and 25 % of the rows"
        least_sure = min(leads, key=lambda one: one.points - one.half)
        yield goal, words, said(least_sure, 0, min(leads).points > 0)


def goals(results=RESULTS):
    """Return goal, what was measured, and whether it is met, as far as there are results."""
    tight, tighter = "HALRP, budget 0.02", "HALRP, budget 0.007"
    separate, published = "separate networks", "HALRP, published"
    within = "within 0.5 points of separate networks at 20 % growth for ten tasks"
    smaller = "the same at 10 % for five tasks, with a network of a third of the size"
    above = "a point above separate networks at 3 % growth"
    return [
        *forgetting(results),
        *beside(results, "permuted-mnist-32", tight, separate, -0.5, 20, within),
        *beside(results, "permuted-mnist", tight, separate, -0.5, 10, smaller),
        *third(results, "permuted-mnist-32", tight, published),
        *beside(results, "split-cifar10", tighter, separate, 1, 3, above),
        *with_little(results, "five-datasets"),
    ]


def table(results=RESULTS):
    """Return one line per goal."""
    return tables.table(["goal", "measured", "met"], [list(row) for row in goals(results)])


def main(arguments=None):
    Parser("goals", __doc__).parse_args(arguments)
    print(table())


if __name__ == "__main__":
    main()
