"""How much the order of tasks matters: AOPD and MOPD over random orders.

    python -m benchmarks.orders STREAM --data-dir DIR [--orders 20] [--jobs 2] [--json FILE]

Every method learns the stream in each order with the same seed, and in the first order with as many
seeds, which says how large the same figures are by chance alone. Methods are tuned once, in the
first order.
"""

import numpy as np

from benchmarks.command import parser, prepared
from benchmarks.compare import tune
from benchmarks.contestants import contestants
from benchmarks.running import learn_stream
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
    """Return so many orders; the first is the natural one."""
    random = np.random.RandomState(0)
    return [list(range(n_tasks))] + [random.permutation(n_tasks).tolist() for _ in range(count - 1)]


def learn_in_orders(results, stream, training, count, n_jobs=1, names=METHODS):
    """Return the runs of all methods in all orders, and with all seeds."""
    chosen = contestants(len(stream.tasks), names)
    best = tune(results, stream, chosen, training, n_jobs)
    natural, *others = orders_of(len(stream.tasks), count)
    visits = [(natural, seed) for seed in range(count)] + [(order, 0) for order in others]
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


def robustness(runs, name):
    """Return what the orders, and what the seeds, do to a method.

    Returns
    -------
    dict
        For ``"orders"`` and ``"seeds"``: AOPD, MOPD, and mean, lowest and standard deviation of
        ACC.
    """
    runs = [run for run in runs if run["key"]["method"] == name]
    natural = sorted(runs[0]["key"]["order"])
    groups = {
        "orders": [run for run in runs if run["key"]["seed"] == 0],
        "seeds": [run for run in runs if run["key"]["order"] == natural],
    }
    found = {}
    for group, members in groups.items():
        values = np.array([final(run) for run in members])
        means = values.mean(1)
        found[group] = {
            "AOPD": aopd(values),
            "MOPD": mopd(values),
            "mean": means.mean(),
            "worst": means.min(),
            "sd": means.std(),
        }
    return found


def table(runs):
    """Return two lines per method."""
    lines = [f"{'':<22}{'':<8}{'AOPD':>7}{'MOPD':>7}{'ACC':>8}{'worst':>8}{'sd':>6}"]
    for name in dict.fromkeys(run["key"]["method"] for run in runs):
        for group, values in robustness(runs, name).items():
            cells = (100 * values[key] for key in ("AOPD", "MOPD", "mean", "worst", "sd"))
            a, m, mean, worst, sd = cells
            lines.append(f"{name:<22}{group:<8}{a:7.2f}{m:7.2f}{mean:8.2f}{worst:8.2f}{sd:6.2f}")
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    one = parser(__doc__)
    one.add_argument("--orders", type=int, default=20)
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    names = options.methods or METHODS
    print(table(learn_in_orders(results, stream, training, options.orders, options.jobs, names)))


if __name__ == "__main__":
    main()
