"""What the method is meant to reach, and whether the results in benchmarks/results do.

python -m benchmarks.goals
"""

import json
from pathlib import Path

import numpy as np

from benchmarks import compare, little_data, tables
from benchmarks.tables import deviation

RESULTS = Path(__file__).parent / "results"


def runs_of(results, kind, stream):
    """Return the runs of a file, or none."""
    path = results / f"{kind}-{stream}.json"
    return json.loads(path.read_text())["runs"] if path.exists() else []


def in_points(ours, others):
    """Return how much higher accuracies are, in points as tables show them, and how sure that is.

    The second is the standard error of the differences between runs of the same seed.

    >>> in_points([0.93, 0.95], [0.92, 0.92])
    (2.0, 1.0)
    """
    differences = 100 * (np.asarray(ours) - np.asarray(others))
    error = deviation(differences) / len(differences) ** 0.5
    return round(float(differences.mean()), 2), round(error, 2)


def said(points, error, least, small=True):
    """Return whether a goal is met, by something small enough, and whether that could be chance.

    >>> said(1.1, 0.2, 1.0), said(1.5, 0.2, 1.0), said(1.5, 0.2, 1.0, small=False)
    ('yes, within noise', 'yes', 'no')
    """
    word = "yes" if small and points >= least else "no"
    return f"{word}, within noise" if abs(points - least) < 2 * error else word


def forgetting(results):
    """Return whether no accuracy of a task ever changes."""
    count, same = 0, True
    for path in sorted(results.glob("compare-*.json")):
        for run in json.loads(path.read_text())["runs"]:
            if run["key"]["method"].startswith("HALRP") and "seed" in run["key"]:
                matrix = np.array(run["accuracy"], dtype=float)
                count += 1
                kept = [bool((matrix[i:, i] == matrix[i, i]).all()) for i in range(len(matrix))]
                same = same and all(kept)
    if count:
        yield (
            "no task is ever forgotten",
            f"{count} runs, {'all' if same else 'not all'}",
            "yes" if same else "no",
        )


def beside(results, stream, ours, other, least, growth, text):
    """Return whether a method is so many points above another one, at a growth."""
    found = compare.found(runs_of(results, "compare", stream))
    if {ours, other} <= found.keys():
        points, error = in_points(found[ours]["ACC"], found[other]["ACC"])
        grown = round(100 * float(found[ours]["growth"].mean()), 1)
        words = f"{points:+.2f} ± {error:.2f} points at {grown:.1f} % ({ours})"
        yield f"{stream}: {text}", words, said(points, error, least, grown <= growth)


def third(results, stream, ours, published):
    """Return whether a third of the growth gives the accuracy of the published settings."""
    found = compare.found(runs_of(results, "compare", stream))
    if {ours, published} <= found.keys():
        points, error = in_points(found[ours]["ACC"], found[published]["ACC"])
        share = float(found[ours]["growth"].mean() / found[published]["growth"].mean())
        words = f"{points:+.2f} ± {error:.2f} points at {share:.2f} of it ({ours})"
        goal = f"{stream}: as accurate as the published settings at a third of their growth"
        yield goal, words, said(points, error, 0, share <= 1 / 3)


def with_little(results, stream):
    """Return whether a base pays where tasks have a quarter of their rows or less."""
    found = little_data.found(runs_of(results, "little_data", stream))
    if {"HALRP, defaults", "separate networks"} <= found.keys():
        ours, alone = (found[name] for name in ("HALRP, defaults", "separate networks"))
        points = [in_points(ours[share], alone[share]) for share in sorted(ours) if share <= 0.25]
        words = ", ".join(f"{one:+.1f} ± {error:.1f}" for one, error in points) + " points"
        goal = f"{stream}: above separate networks with 5, 10 and 25 % of the rows"
        least_sure = min(points, key=lambda one: one[0] - 2 * one[1])
        yield goal, words, said(*least_sure, 0, min(points)[0] > 0)


def goals(results=RESULTS):
    """Return goal, what was measured, and whether it is met, as far as there are results."""
    tight, tighter = "HALRP, budget 0.02", "HALRP, budget 0.007"
    separate, published = "separate networks", "HALRP, published"
    within = "within 0.5 points of separate networks at 20 % growth for ten tasks"
    above = "a point above separate networks at 3 % growth"
    return [
        *forgetting(results),
        *beside(results, "permuted-mnist-32", tight, separate, -0.5, 20, within),
        *third(results, "permuted-mnist-32", tight, published),
        *beside(results, "split-cifar10", tighter, separate, 1, 3, above),
        *with_little(results, "five-datasets"),
        *with_little(results, "split-cifar10"),
    ]


def table(results=RESULTS):
    """Return one line per goal."""
    return tables.table(["goal", "measured", "met"], [list(row) for row in goals(results)])


if __name__ == "__main__":
    print(table())
