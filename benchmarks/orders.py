"""How much the order of tasks matters: AOPD and MOPD over random orders.

    python -m benchmarks.orders STREAM --data-dir DIR [--orders 21] [--jobs 2] [--json FILE]

Every method learns the stream in each order with the same seed, and in the first order with as many
seeds, which says how large the same figures are by chance alone. Methods are tuned once, in the
first order.
"""

import math

import numpy as np

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.compare import tune
from benchmarks.contestants import contestants
from benchmarks.running import learn_stream
from benchmarks.tables import deviation, grouped
from sklearn_halrp.metrics import aopd, mopd

METHODS = (
    "HALRP, defaults",
    "HALRP, published",
    "separate networks",
    "fine-tuning",
    "EWC",
    "PackNet",
    "LoRA, rank 4",
)


def orders_of(n_tasks, count):
    """Return so many different orders, or all there are; the first is the natural one."""
    random = np.random.RandomState(0)
    orders = [list(range(n_tasks))]
    while len(orders) < min(count, math.factorial(n_tasks)):
        order = random.permutation(n_tasks).tolist()
        if order not in orders:
            orders.append(order)
    return orders


def learn_in_orders(results, stream, training, count, n_jobs=1, names=METHODS):
    """Return the runs of all methods in all orders, and with all seeds."""
    chosen = contestants(stream, names)
    best = tune(results, stream, chosen, training, n_jobs)
    natural, *others = orders_of(len(stream.tasks), count)
    visits = [(natural, seed) for seed in range(1 + len(others))]
    visits += [(order, 0) for order in others]
    jobs = [
        (
            {"method": name, "order": order, "seed": seed, "settings": best[name]},
            learn_stream,
            (stream.in_order(order), one.with_settings(training, seed, best[name]), False),
        )
        for order, seed in visits
        for name, one in chosen.items()
    ]
    return results.complete(jobs, n_jobs)


def final(run):
    """Return the final accuracy of each task, in the natural order of tasks."""
    accuracy = np.empty(len(run["accuracy"]))
    accuracy[run["key"]["order"]] = run["accuracy"][-1]
    return accuracy


def robustness(runs):
    """Return what the orders, and what the seeds, do to one method.

    Returns
    -------
    dict
        For ``"orders"`` and ``"seeds"``: AOPD, MOPD, and mean, lowest and standard deviation of
        ACC.
    """
    natural = sorted(runs[0]["key"]["order"])
    groups = {
        "orders": [run for run in runs if run["key"]["seed"] == 0],
        "seeds": [run for run in runs if run["key"]["order"] == natural],
    }
    values = {}
    for group, members in groups.items():
        accuracy = np.array([final(run) for run in members])
        means = accuracy.mean(1)
        values[group] = {
            "AOPD": aopd(accuracy),
            "MOPD": mopd(accuracy),
            "mean": means.mean(),
            "worst": means.min(),
            "sd": deviation(means),
        }
    return values


def found(runs):
    """Return method -> `robustness`."""
    ordered = [run for run in runs if "order" in run["key"]]
    return {name: robustness(own) for name, own in grouped(ordered, "method").items()}


def table(values):
    """Return one line per method."""
    rows = []
    for name, one in values.items():
        both = [one[group][key] for key in ("AOPD", "MOPD") for group in ("orders", "seeds")]
        means = [one["orders"][key] for key in ("mean", "worst", "sd")]
        rows.append([name, *(f"{100 * value:.2f}" for value in both + means)])
    header = ["", "AOPD", "by chance", "MOPD", "by chance", "mean ACC", "worst order", "sd"]
    return tables.table(header, rows)


def main(arguments=None):
    """Run the command."""
    one = parser("orders", __doc__)
    one.add_argument(
        "--orders", type=int, default=21, help="how many: the natural one and random ones (21)"
    )
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    names = options.methods or METHODS
    runs = learn_in_orders(results, stream, training, options.orders, options.jobs, names)
    print(table(found(runs)))


if __name__ == "__main__":
    main()
