"""Time and memory of learning one more task and of predicting, for every method.

    python -m benchmarks.cost STREAM --data-dir DIR [--rounds 3] [--json FILE]

Methods take turns, each run in a process of its own with one thread. Times are processor time for
a task after the first, and for predicting the rows of all tasks, one task after the other, over
plain fine-tuning's in the same round; memory is the most that the process held while learning
and predicting, less what it held before, the rows excluded (Linux only). Joint training's time is
its share for one task. Nothing is tuned.
"""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.contestants import CONTESTANTS, contestants
from benchmarks.running import learn_stream, summary
from benchmarks.tables import grouped


def resident():
    """Return the bytes of memory that this process holds, as Linux counts them.

    Pages that the system takes back from a process that has been idle do not count, so this is for
    fresh ones.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 4096 * pages


@contextmanager
def watched(every=0.01):
    """Yield a list that ends up with the most memory that was held, above that at the start."""
    start, most, stop = resident(), [0], threading.Event()

    def look():
        while not stop.wait(every):
            most[0] = max(most[0], resident() - start)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def learned(stream, method):
    """Run in this process, which is a fresh one, and add the memory that it took."""
    torch.set_num_threads(1)
    with watched() as most:
        result = learn_stream(stream, method, False)
    return {**result, "memory": most[0]}


def apart(function, *arguments):
    """Call a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def jobs_of(stream, training, rounds, names=None):
    """Return what is to be run: all methods, in turn."""
    untuned = [name for name in CONTESTANTS if name != "HALRP, tuned"]  # it is the defaults here
    return [
        (
            {"method": name, "round": number, "settings": one.settings()[0]},
            apart,
            (learned, stream, one.with_settings(training, number, one.settings()[0])),
        )
        for number in range(rounds)
        for name, one in contestants(stream, names or untuned).items()
    ]


def found(runs, reference="fine-tuning"):
    """Return method -> times over the reference's, of every round, memory and stored bytes."""
    plain = {run["key"]["round"]: run for run in runs if run["key"]["method"] == reference}

    def ratio(run, seconds):
        return seconds(run) / seconds(plain[run["key"]["round"]])

    return {
        name: {
            "time": np.array([ratio(run, lambda one: summary(one)["seconds"]) for run in own]),
            "predicting": np.array([ratio(run, lambda one: one["predicting"]) for run in own]),
            "memory": np.median([run["memory"] for run in own]),
            "bytes": np.median([run["bytes"][-1] for run in own]),
        }
        for name, own in grouped(runs, "method").items()
    }


def rounds_of(ratios):
    """Return the median of some rounds, and the lowest and the highest.

    >>> rounds_of(np.array([1.0, 1.5, 1.25]))
    '1.25 (1.00 to 1.50)'
    """
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def table(values):
    """Return one line per method: of ratios the median and, in brackets, the range of rounds."""
    rows = [
        [
            name,
            *(rounds_of(one[key]) for key in ("time", "predicting")),
            *(f"{one[key] / 1e6:.{digits}f}" for key, digits in (("memory", 0), ("bytes", 2))),
        ]
        for name, one in values.items()
    ]
    heads = ["", "learning / fine-tuning", "predicting / fine-tuning", "memory MB", "stored MB"]
    return tables.table(heads, rows)


def main(arguments=None):
    options = parser("cost", __doc__, rounds=3).parse_args(arguments)
    stream, training, results = prepared(options)
    jobs = jobs_of(stream, training, options.rounds, options.methods)
    print(table(found(results.complete(jobs, 1))))


if __name__ == "__main__":
    main()
