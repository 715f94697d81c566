"""The tables of the HALRP paper, with this package's classifier.

    python -m benchmarks.paper PROTOCOL --data-dir DIR [--download] [--orders A B] [--seeds 5]

PROTOCOL is a name in `benchmarks.protocols.PROTOCOLS`, which says where the settings come from and
how they differ from the published ones.
"""

import argparse
import json
import platform
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch

import sklearn_halrp
from benchmarks.protocols import PROTOCOLS, HoldOut
from sklearn_halrp.metrics import aopd, mopd


def run(protocol, stream, order, seed, epochs=None):
    """Learn a stream in an order and return what was measured.

    Returns
    -------
    dict
        In the natural order of the tasks: accuracy of each at the end of the stream, accuracy
        when it was learned, growth and seconds; and ACC and BWT of the stream.
    """
    clf = protocol.classifier(seed, epochs)
    n_tasks = len(order)
    learned, final, seconds = np.zeros((3, n_tasks))
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
        "growth": [clf.growth_[names[number]] for number in range(n_tasks)],
        "seconds": seconds.round(2).tolist(),
        "ACC": float(final.mean()),
        "BWT": float(np.mean(final[earlier] - learned[earlier])) if earlier else 0.0,
    }


def disparity(runs):
    """Return AOPD and MOPD over the orders, of accuracies averaged over seeds."""
    orders = dict.fromkeys(one["order"] for one in runs)
    accuracy = [
        np.mean([one["accuracy"] for one in runs if one["order"] == order], axis=0)
        for order in orders
    ]
    return {"AOPD": aopd(accuracy), "MOPD": mopd(accuracy)} if len(orders) > 1 else {}


def report(stream, runs):
    """Return a table of what was measured, in per cent."""
    lines = [f"{stream.name}, accuracy in % in the natural order of tasks"]
    for one in runs:
        tasks = " ".join(f"{100 * value:.1f}" for value in one["accuracy"])
        lines.append(
            f"order {one['order']} seed {one['seed']}: ACC {100 * one['ACC']:.2f} "
            f"BWT {100 * one['BWT']:.2f} growth {100 * sum(one['growth']):.1f} | {tasks}"
        )
    values = 100 * np.array([one["ACC"] for one in runs])
    lines.append(f"ACC {values.mean():.2f} ±{values.std():.2f} over orders and seeds")
    lines += [f"{name} {100 * value:.2f}" for name, value in disparity(runs).items()]
    return "\n".join(lines)


def command(arguments):
    """Return the command as text, without the place of the data on this machine."""
    words = ["python", "-m", "benchmarks.paper"]
    hide = False
    for word in arguments:
        if hide:
            words.append("DIR")
        else:
            words.append("--data-dir=DIR" if word.startswith("--data-dir=") else word)
        hide = word == "--data-dir"
    return shlex.join(words)


def versions():
    """Return the versions of what computes."""
    modules = (torch, np, sklearn, skorch, sklearn_halrp)
    return {"python": platform.python_version(), **{m.__name__: m.__version__ for m in modules}}


def at_least_one(text):
    """Return a number that is given as an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"has to be at least 1; got {number}")
    return number


def main(arguments=None):
    """Run the command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "protocol", choices=PROTOCOLS, metavar="PROTOCOL", help=", ".join(PROTOCOLS)
    )
    parser.add_argument("--data-dir", required=True, help="folder of the original files")
    parser.add_argument("--download", action="store_true", help="fetch files that are missing")
    parser.add_argument("--orders", nargs="+", choices="ABCDE", default=list("ABCDE"))
    parser.add_argument("--seeds", type=at_least_one, default=5)
    parser.add_argument("--epochs", type=at_least_one, help="instead of the published ones")
    parser.add_argument(
        "--rows", type=at_least_one, help="most rows to learn a task, and to test it"
    )
    parser.add_argument("--tasks", type=at_least_one, help="only so many tasks")
    parser.add_argument("--json", type=Path, help="file to write the results to")
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
    runs = []
    for name in options.orders:
        order = [number for number in protocol.orders[name] if number < n_tasks]
        for seed in range(options.seeds):
            found = run(protocol, stream, order, seed, options.epochs)
            runs.append({"order": name, "tasks": order, "seed": seed, **found})
            print(f"order {name} seed {seed}: ACC {found['ACC']:.4f}", file=sys.stderr, flush=True)
            if options.json:  # after every run: the whole takes long
                result = {
                    "command": command(arguments),
                    "versions": versions(),
                    "stream": stream.name,
                    "disparity": disparity(runs),
                    "runs": runs,
                }
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(report(stream, runs))
    return runs


if __name__ == "__main__":
    main()
