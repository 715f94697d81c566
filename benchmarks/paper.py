"""The tables of the HALRP paper, with this package's classifier.

    python -m benchmarks.paper PROTOCOL --data-dir DIR [--download] [--orders A B] [--seeds 5]

PROTOCOL is a name in `benchmarks.protocols.PROTOCOLS`, which says where the settings come from and
how they differ from the published ones.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.protocols import PROTOCOLS, HoldOut
from benchmarks.running import Results
from benchmarks.tables import spread
from sklearn_halrp.metrics import aopd, mopd


def learn(protocol, stream, order, seed, epochs=None, device="cpu"):
    """Learn a stream in an order and return what was measured.

    Returns
    -------
    dict
        In the natural order of the tasks: accuracy of each at the end of the stream, accuracy
        when it was learned, growth and seconds; and ACC and BWT of the stream.
    """
    clf = protocol.classifier(seed, epochs, device)
    learned, final, seconds = np.zeros((3, len(order)))
    names = {}
    for number in order:
        task = stream.tasks[number]
        names[number] = task.name
        X, y = (np.concatenate(parts) for parts in zip(task.train, task.valid, strict=True))
        clf.net.set_params(train_split=HoldOut(len(task.valid[1])))
        begin = time.perf_counter()
        clf.partial_fit(X, y, task_id=task.name)
        seconds[number] = time.perf_counter() - begin
        learned[number] = clf.score(*task.test, task_id=task.name)
    for number in order:
        final[number] = clf.score(*stream.tasks[number].test, task_id=names[number])
    earlier = order[:-1]
    return {
        "accuracy": final.tolist(),
        "accuracy when learned": learned.tolist(),
        "growth": [clf.growth_[names[number]] for number in sorted(order)],
        "seconds": seconds.round(2).tolist(),
        "ACC": float(final.mean()),
        "BWT": float(np.mean(final[earlier] - learned[earlier])) if earlier else 0.0,
    }


def disparity(runs):
    """Return AOPD and MOPD over the orders, of accuracies averaged over seeds."""
    orders = dict.fromkeys(run["key"]["order"] for run in runs)
    accuracy = [
        np.mean([run["accuracy"] for run in runs if run["key"]["order"] == order], axis=0)
        for order in orders
    ]
    return {"AOPD": aopd(accuracy), "MOPD": mopd(accuracy)} if len(orders) > 1 else {}


def report(stream, runs):
    """Return a table of what was measured, in per cent."""
    lines = [f"{stream.name}, accuracy in % in the natural order of tasks"]
    for run in runs:
        tasks = " ".join(f"{100 * value:.1f}" for value in run["accuracy"])
        lines.append(
            f"order {run['key']['order']} seed {run['key']['seed']}: ACC {100 * run['ACC']:.2f} "
            f"BWT {100 * run['BWT']:.2f} growth {100 * sum(run['growth']):.1f} | {tasks}"
        )
    lines.append(f"ACC {spread([run['ACC'] for run in runs])} over orders and seeds")
    lines += [f"{name} {100 * value:.2f}" for name, value in disparity(runs).items()]
    return "\n".join(lines)


def at_least_one(text):
    """Return a number that is given as an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"has to be at least 1; got {number}")
    return number


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("protocol", choices=PROTOCOLS, metavar="PROTOCOL", help=", ".join(PROTOCOLS))
    add("--data-dir", required=True, help="folder of the original files")
    add("--download", action="store_true", help="fetch files that are missing")
    add("--orders", nargs="+", choices=[*"ABCDE"], default=[*"ABCDE"])
    add("--seeds", type=at_least_one, default=5)
    add("--epochs", type=at_least_one, help="instead of the published ones")
    add(
        "--rows",
        type=at_least_one,
        help="most rows to learn a task, validation included, and to test it",
    )
    add("--tasks", type=at_least_one, help="only so many tasks")
    add("--device", default="cpu", help="for torch, such as cuda")
    add("--jobs", type=at_least_one, default=1, help="processes, each with one thread")
    add("--json", type=Path, help="file of runs to write; those that it has are not run again")
    options = parser.parse_args(arguments)
    protocol = PROTOCOLS[options.protocol]
    try:
        stream = protocol.load(options.data_dir, options.download, options.rows)
    except (FileNotFoundError, ImportError) as error:
        parser.error(str(error))
    n_tasks = min(options.tasks or protocol.n_tasks, protocol.n_tasks)
    if len(stream.tasks) < n_tasks:
        parser.error(
            f"{options.protocol} has {protocol.n_tasks} tasks, but the files in --data-dir give "
            f"{len(stream.tasks)}. Add the missing files, or say --tasks {len(stream.tasks)}."
        )
    about = {"protocol": options.protocol, "stream": stream.name, "tasks": n_tasks}
    about |= {"epochs": options.epochs or protocol.epochs, "rows": options.rows}
    words = ["benchmarks.paper", *(sys.argv[1:] if arguments is None else arguments)]
    results = Results(options.json, about, words)
    orders = {
        name: [number for number in protocol.orders[name] if number < n_tasks]
        for name in options.orders
    }
    jobs = [
        (
            {"order": name, "seed": seed, "tasks": order},
            learn,
            (protocol, stream, order, seed, options.epochs, options.device),
        )
        for name, order in orders.items()
        for seed in range(options.seeds)
    ]
    runs = results.complete(jobs, options.jobs)
    print(report(stream, runs))
    return runs


if __name__ == "__main__":
    main()
