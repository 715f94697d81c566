"""How much the order of tasks matters: AOPD and MOPD over random orders.

    python -m benchmarks.orders STREAM --data-dir DIR [--orders 26] [--jobs 2] [--json FILE]

Every method learns the stream in each order with the same seed, and in the natural order with as
many seeds, which says how large the same figures are by chance alone. Each task comes first in
turn, since it trains the base of methods that have one: with as many orders as tasks, none can be
worse for them than the worst of these. "Not first" leaves out the orders in which a task comes
first itself, and so is a plain network. Methods are tuned once, in the natural order.
"""

import math

import numpy as np

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.compare import learn
from benchmarks.contestants import contestants
from benchmarks.tables import deviation, grouped
from sklearn_halrp.metrics import aopd, mopd

DRAWS = 1000

METHODS = ("HALRP, defaults", "HALRP, published", "separate networks", "fine-tuning", "EWC")
METHODS += ("PackNet", "LoRA, rank 4")


def orders_of(n_tasks, count):
    """Return so many different orders, or all there are.

    The first is the natural one, the others are random, but that each task comes first in turn.
    """
    random = np.random.RandomState(0)
    orders = [list(range(n_tasks))]
    while len(orders) < min(count, math.factorial(n_tasks)):
        first = len(orders) % n_tasks
        others = [task for task in random.permutation(n_tasks).tolist() if task != first]
        if [first, *others] not in orders:
            orders.append([first, *others])
    return orders


def final(run):
    """Return the final accuracy of each task, in the natural order of tasks."""
    accuracy = np.empty(len(run["accuracy"]))
    accuracy[run["key"]["order"]] = run["accuracy"][-1]
    return accuracy


def robustness(runs):
    """Return what the orders, and what the seeds, do to one method.

    Of orders AOPD, AOPD of tasks that are not the first one, MOPD, the number of different results,
    and mean, lowest and standard deviation of ACC; of seeds the disparities of so many.
    """
    natural = sorted(runs[0]["key"]["order"])
    groups = {
        "orders": [run for run in runs if run["key"]["seed"] == 0],
        "seeds": [run for run in runs if run["key"]["order"] == natural],
    }
    orders, seeds = (np.array([final(run) for run in group]) for group in groups.values())
    first = np.array([run["key"]["order"][0] for run in groups["orders"]])
    means, results = orders.mean(1), different(orders)
    later = natural[1:]  # with other seeds the first task is never a later one
    others = {task: orders[first != task] for task in later}
    chances = [by_chance(np.ptp, seeds[:, task], different(others[task])) for task in later]
    return {
        "orders": {
            "AOPD": aopd(orders),
            "later": np.mean([np.ptp(others[task][:, task]) for task in later]),
            "MOPD": mopd(orders),
            "results": results,
            "mean": means.mean(),
            "worst": means.min(),
            "sd": deviation(means),
        },
        "seeds": {
            "AOPD": by_chance(aopd, seeds, results),
            "later": np.mean(chances),
            "MOPD": by_chance(mopd, seeds, results),
        },
    }


def different(accuracy):
    """Return how many rows are different."""
    return len(np.unique(accuracy, axis=0))


def by_chance(measure, accuracy, count):
    """Return the mean of a measure over draws of so many of the rows.

    A range grows with the number of results that it is taken over, and many orders may give the
    same one. One result has no range.

    >>> accuracy = np.array([[0.5], [0.5], [0.9]])
    >>> round(by_chance(aopd, accuracy, 3), 2), by_chance(aopd, accuracy, 1)
    (0.4, 0.0)
    """
    if count == 1:
        return 0.0
    if count >= len(accuracy):
        return measure(accuracy)
    random = np.random.RandomState(0)
    draws = (random.choice(len(accuracy), count, replace=False) for _ in range(DRAWS))
    return float(np.mean([measure(accuracy[rows]) for rows in draws]))


def found(runs):
    """Return method -> `robustness`."""
    ordered = [run for run in runs if "order" in run["key"]]
    return {name: robustness(own) for name, own in grouped(ordered, "method").items()}


def table(values):
    rows = []
    for name, one in values.items():
        measures, sides = ("AOPD", "later", "MOPD"), ("orders", "seeds")
        both = [one[side][measure] for measure in measures for side in sides]
        means = [one["orders"][key] for key in ("mean", "worst", "sd")]
        numbers = [f"{100 * value:.2f}" for value in both + means]
        rows.append([name, str(one["orders"]["results"]), *numbers])
    header = ["", "results", "AOPD", "by chance", "AOPD, not first", "by chance", "MOPD"]
    header += ["by chance", "mean ACC", "worst order", "sd"]
    return tables.table(header, rows)


def main(arguments=None):
    options = parser("orders", __doc__, orders=26, jobs=1).parse_args(arguments)
    stream, training, results = prepared(options)
    natural, *others = orders_of(len(stream.tasks), options.orders)
    visits = [({"order": natural}, stream, seed) for seed in range(1 + len(others))]
    visits += [({"order": order}, stream.in_order(order), 0) for order in others]
    chosen = contestants(stream, options.methods or METHODS)
    print(table(found(learn(results, stream, chosen, training, visits, options.jobs))))


if __name__ == "__main__":
    main()
