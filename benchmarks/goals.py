"""What the method is meant to reach, and whether the results in benchmarks/results do.

python -m benchmarks.goals
"""

import json
from pathlib import Path

import numpy as np

from benchmarks import compare, little_data, tables

RESULTS = Path(__file__).parent / "results"


def runs_of(results, kind, stream):
    """Return the runs of a file, or none."""
    path = results / f"{kind}-{stream}.json"
    return json.loads(path.read_text())["runs"] if path.exists() else []


def in_points(ours, others):
    """Return how much higher the mean of accuracies is, in points as tables show them."""
    return round(100 * float(np.mean(ours) - np.mean(others)), 2)


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
        yield "no task is ever forgotten", f"{count} runs, {'all' if same else 'not all'}", same


def beside(results, stream, ours, other, least, growth, text):
    """Return whether a method is so many points above another one, at a growth."""
    found = compare.found(runs_of(results, "compare", stream))
    if {ours, other} <= found.keys():
        points = in_points(found[ours]["ACC"], found[other]["ACC"])
        grown = round(100 * float(found[ours]["growth"].mean()), 1)
        words = f"{points:+.2f} points at {grown:.1f} % ({ours})"
        yield f"{stream}: {text}", words, points >= least and grown <= growth


def third(results, stream, ours, published):
    """Return whether a third of the growth gives the accuracy of the published settings."""
    found = compare.found(runs_of(results, "compare", stream))
    if {ours, published} <= found.keys():
        points = in_points(found[ours]["ACC"], found[published]["ACC"])
        share = float(found[ours]["growth"].mean() / found[published]["growth"].mean())
        words = f"{points:+.2f} points at {share:.2f} of it ({ours})"
        goal = f"{stream}: as accurate as the published settings at a third of their growth"
        yield goal, words, points >= 0 and share <= 1 / 3


def with_little(results, stream):
    """Return whether a base pays where tasks have a quarter of their rows or less."""
    found = little_data.found(runs_of(results, "little_data", stream))
    if {"HALRP, defaults", "separate networks"} <= found.keys():
        ours, alone = (found[name] for name in ("HALRP, defaults", "separate networks"))
        points = [in_points(ours[share], alone[share]) for share in sorted(ours) if share <= 0.25]
        words = ", ".join(f"{one:+.1f}" for one in points) + " points"
        goal = f"{stream}: above separate networks with 5, 10 and 25 % of the rows"
        yield goal, words, min(points) > 0


def goals(results=RESULTS):
    """Return goal, what was measured, and whether it is met, as far as there are results."""
    tight, tighter = "HALRP, budget 0.02", "HALRP, budget 0.007"
    halved = "HALRP, budget 0.04, half precision"
    separate, published = "separate networks", "HALRP, published"
    within = "within 0.5 points of separate networks at 20 % growth for ten tasks"
    above = "a point above separate networks at 3 % growth"
    return [
        *forgetting(results),
        *beside(results, "permuted-mnist-32", tight, separate, -0.5, 20, within),
        *beside(results, "permuted-mnist-32", halved, separate, -0.5, 20, within),
        *third(results, "permuted-mnist-32", tight, published),
        *beside(results, "split-cifar10", tighter, separate, 1, 3, above),
        *with_little(results, "five-datasets"),
        *with_little(results, "split-cifar10"),
    ]


def table(results=RESULTS):
    """Return one line per goal."""
    rows = [[goal, words, "yes" if met else "no"] for goal, words, met in goals(results)]
    return tables.table(["goal", "measured", "met"], rows)


if __name__ == "__main__":
    print(table())
