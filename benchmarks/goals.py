"""What the method is meant to reach, and whether the results in benchmarks/results do.

python -m benchmarks.goals
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t, ttest_ind

from benchmarks import compare, little_data, orders, tables
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
            columns = np.array(run["accuracy"], dtype=float).T
            seen = [column[~np.isnan(column)] for column in columns]  # tasks may come together
            kept.append(all((column == column[0]).all() for column in seen))
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


NOT_YET = ("not measured yet", "")
SEVERAL = ("letters", "tabular", "five-datasets", "permuted-mnist", "split-cifar10-16")
BEFORE = {  # accuracy, and bytes of a later task, of the defaults at commit 2930263
    "letters": (0.98337, 19184),
    "tabular": (0.91536, 45617),
    "five-datasets": (0.76242, 469037),
    "permuted-mnist": (0.94153, 300148),
}
RIVALS = ("LogisticRegression", "SVC", "HistGradientBoosting", "MLPClassifier")
OURS = ("HALRP, defaults", "HALRP, joint base", "HALRP, no net", "HALRP, no net, joint base")


def new(results, kind, stream):
    """Return the runs of a file in which all methods average weights, or none."""
    path = results / f"{kind}-{stream}.json"
    content = json.loads(path.read_text()) if path.exists() else {"about": {}, "runs": []}
    return content["runs"] if "averaged" in content.get("about", {}) else []


def judged(goal, names, values, judge):
    """Return a goal with what ``judge()`` says, if there are all of some values."""
    return (goal, *(judge() if set(names) <= values.keys() else NOT_YET))


def alone(results):
    """Return whether the defaults beat separate networks, stream by stream and on average."""
    pair, leads = ("HALRP, defaults", "separate networks"), []
    for stream in SEVERAL:
        found = compare.found(new(results, "compare", stream))

        def judge(found=found):
            leads.append(lead(*(found[name]["ACC"] for name in pair), paired=False))
            return f"{leads[-1].points:+.2f} ± {leads[-1].error:.2f} points", said(leads[-1], 0)

        yield judged(
            f"{stream}: defaults at least as good as separate networks", pair, found, judge
        )
    average = NOT_YET
    if len(leads) == len(SEVERAL):
        points = np.mean([one.points for one in leads])
        average = f"{points:+.2f} points", "yes" if points >= 0.5 else "no"
    yield ("on these streams half a point above separate networks on average", *average)


def as_it_comes(results, stream):
    """Return whether `ContinualClassifier()` is near the best model per task, and far smaller."""
    found = compare.found(new(results, "compare", stream))

    def judge():
        best = max(RIVALS, key=lambda name: found[name]["ACC"].mean())
        ahead = lead(found["HALRP, no net"]["ACC"], found[best]["ACC"])
        size = found["HALRP, no net"]["bytes"].mean() / found["MLPClassifier"]["bytes"].mean()
        words = f"{ahead.points:+.2f} ± {ahead.error:.2f} points beside {best}, {size:.2f} of MLPs"
        return words, said(ahead, -0.2, size <= 0.1)

    goal = f"{stream}: without a net within 0.2 points of the best model per task, at a tenth of"
    return judged(f"{goal} the bytes of MLPs", ("HALRP, no net", *RIVALS), found, judge)


def sites(results):
    """Return whether flights are told as well as by HistGradientBoosting for each airline."""
    found = compare.found(new(results, "compare", "flights"))
    pair = ("HALRP, no net", "HistGradientBoosting")

    def judge():
        ours, trees = (found[name]["ACC"] for name in pair)
        ahead = lead(ours, trees)
        return f"AUC {ours.mean():.3f} beside {trees.mean():.3f}", said(ahead, 0)

    return judged("flights: mean AUC at least that of trees per airline", pair, found, judge)


def few_rows(results, stream, rivals, leasts, unit="points"):
    """Return, for numbers of rows, whether the best of ours is so far above the best rival."""
    found = little_data.found(new(results, "little_data", stream))
    ours = [name for name in OURS if name in found]
    for n_rows, least in leasts.items():
        sizes = {name for name, one in found.items() if n_rows in one}

        def judge(n_rows=n_rows, least=least):
            best, other = (
                max(names, key=lambda name: found[name][n_rows].mean()) for names in (ours, rivals)
            )
            ahead = lead(*(found[name][n_rows].mean(1) for name in (best, other)))
            words = f"{ahead.points:+.1f} ± {ahead.error:.1f} {unit} ({best} beside {other})"
            return words, said(ahead, least)

        goal = f"{stream}: {least:+g} {unit} beside {', '.join(rivals)} with {n_rows} rows a task"
        needed = [*rivals, ours[0] if ours else "HALRP, joint base"]
        yield judged(goal, needed, dict.fromkeys(sizes), judge)


def smaller(results, stream):
    """Return whether a later task takes a quarter of the bytes that it took, and is as good."""
    found = new(results, "compare", stream)
    runs = [r for r in found if r["key"]["method"] == "HALRP, defaults" and "seed" in r["key"]]

    def judge():
        accuracy, size = BEFORE[stream]
        points = 100 * (np.mean([np.mean(run["accuracy"][-1]) for run in runs]) - accuracy)
        each = [(run["bytes"][-1] - run["bytes"][0]) / (len(run["bytes"]) - 1) for run in runs]
        share = np.mean(each) / size
        met = "yes" if points >= 0 and share <= 0.25 else "no"
        return f"{points:+.2f} points at {share:.2f} of the bytes", met

    goal = f"{stream}: as accurate as the defaults were, at a quarter of their bytes a task"
    return judged(goal, ["runs"], {"runs": runs} if runs else {}, judge)


def order_free(results):
    """Return whether the order of tasks makes no difference to a base from all of them."""
    found = orders.found(new(results, "orders", "letters"))
    name = "HALRP, joint base"

    def judge():
        both = [found[name]["orders"][measure] for measure in ("AOPD", "MOPD")]
        return "AOPD {:.2f}, MOPD {:.2f}".format(*both), "no" if any(both) else "yes"

    return judged("letters: with a joint base AOPD and MOPD are 0", [name], found, judge)


def goals(results=RESULTS):
    """Return goal, what was measured, and whether it is met; older goals as far as measured."""
    tight, separate = "HALRP, budget 0.02", "separate networks"
    trees, pooled = ["HistGradientBoosting"], ["HistGradientBoosting, all tasks"]
    small = "within 0.5 points of separate networks at 2 % a task"
    return [
        *forgetting(results),
        *beside(results, "permuted-mnist", tight, separate, -0.5, 10, small),
        *alone(results),
        *(as_it_comes(results, stream) for stream in ("letters", "tabular")),
        sites(results),
        *few_rows(results, "flights", trees, {60: 6, 200: 3, 600: 1}, "points of AUC"),
        *few_rows(results, "flights", pooled, {60: -1, 200: -1, 600: -1}, "points of AUC"),
        *few_rows(results, "letters", RIVALS, {10: 2, 40: 0.5}),
        *few_rows(results, "exercises", RIVALS, {35: 2}),
        *few_rows(results, "sentiment", RIVALS, {10: 2, 40: 0.5}),
        *(smaller(results, stream) for stream in BEFORE),
        order_free(results),
    ]


def table(results=RESULTS):
    """Return one line per goal."""
    return tables.table(["goal", "measured", "met"], [list(row) for row in goals(results)])


def main(arguments=None):
    Parser("goals", __doc__).parse_args(arguments)
    print(table())


if __name__ == "__main__":
    main()
