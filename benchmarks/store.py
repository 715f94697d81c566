"""Ten to a hundred thousand tasks in a store on disk: milliseconds of what a service does.

    python -m benchmarks.store [--tasks 100000] [--rounds 21] [--json FILE]

Ten tasks are learned: the digits of scikit-learn, their pixels in an order of each task's own, with
a `growth_budget` of 0.1. All others are copies of these with other ids. Beside the store stand one
file of joblib with everything, and one file of joblib for each task with a network of
scikit-learn's of the same size. Files that were just written are in the system's memory; what is
written is waited for until it is on the disk. Nothing else should run meanwhile: it takes times.
"""

import gc
import os
import tempfile
import warnings
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from benchmarks import inside, tables
from benchmarks.command import Parser
from benchmarks.running import Results
from benchmarks.speed import seconds
from sklearn_halrp import ContinualClassifier
from sklearn_halrp.persistence import dump
from sklearn_halrp.store import Store

COUNTS = (10, 1000, 10_000, 100_000)
LEARNED = 10
ALONE = 200  # files of networks of their own: how many there are plays no part
AT_ONCE = 3  # rounds of what reads or writes a whole file; of more than so many tasks one
MANY = 10_000


class Tasks:
    """Makes the rows of each task from its number."""

    def __init__(self):
        X, self.y = load_digits(return_X_y=True)
        self.X = (X / 16).astype(np.float32)

    def __call__(self, number):
        order = np.random.RandomState(number).permutation(64)
        rows = np.random.RandomState(number + 1).permutation(len(self.X))[:200]
        return self.X[rows][:, order if number else slice(None)], self.y[rows]


def several(n_tasks):
    """Return a classifier that knows so many tasks."""
    tasks, clf = Tasks(), ContinualClassifier(growth_budget=0.1, random_state=0)
    for number in range(LEARNED):
        clf.partial_fit(*tasks(number), task_id=f"learned {number}")
    inside.with_copies(clf, n_tasks)
    return clf


def synced(path):
    """Wait until a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def times(function, rounds):
    """Return the milliseconds of a function of the round's number."""
    return [1000 * seconds(lambda i=i: function(i)) for i in range(rounds)]


def in_store(n_tasks, rounds):
    """Measure a store."""
    clf, row = several(n_tasks), Tasks()(0)[0][:1]
    chosen = np.random.RandomState(0).permutation(clf.tasks_)[:rounds].tolist()
    if n_tasks < rounds:
        chosen = [clf.tasks_[i % n_tasks] for i in range(rounds)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.halrp"
        making = seconds(lambda: Store.create(path, clf).close())
        size = path.stat().st_size
        expected = [clf.predict_proba(row, name) for name in chosen[:3]]
        stores = []
        opening = times(lambda i: stores.append(Store(path)), rounds)
        # Each store asks for its first task, which none before it has asked for.
        first = times(lambda i: stores[i].predict(row, chosen[i]), rounds)
        for name, answer in zip(chosen, expected, strict=False):
            assert np.array_equal(stores[0].predict_proba(row, name), answer)
        again = times(lambda i: stores[i].predict(row, chosen[i]), rounds)
        for store in stores[1:]:
            store.close()
        learned = clf.tasks_[1]
        more = times(lambda i: inside.put(stores[0], f"more {i}", clf, learned), rounds)
        forgetting = times(lambda i: stores[0].forget_task(f"more {i}"), rounds)
        stores[0].close()
    return {
        "open": opening,
        "first": first,
        "again": again,
        "more": more,
        "forget": forgetting,
        "bytes": size / n_tasks,
        "make": 1000 * making,
    }


def written(path, n_tasks, rounds):
    """Write one file of joblib with everything; return the milliseconds, and the ids."""
    clf = several(n_tasks)
    return times(lambda i: dump(clf, path), rounds), clf.tasks_


def in_one_file(n_tasks, rounds):
    """Measure one file of joblib with everything."""
    row, rounds = Tasks()(0)[0][:1], min(rounds, AT_ONCE if n_tasks <= MANY else 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.joblib"
        more, names = written(path, n_tasks, rounds)
        size = path.stat().st_size
        gc.collect()
        opening, first, again = [], [], []
        for i in range(rounds):
            loaded = []
            opening += times(lambda _, loaded=loaded: loaded.append(joblib.load(path)), 1)
            for found in (first, again):
                found += times(lambda _, i=i, loaded=loaded: loaded[0].predict(row, names[i]), 1)
            del loaded
    found = {"open": opening, "first": first, "again": again}
    return {**found, "more": more, "forget": more, "bytes": size / n_tasks}


def in_many_files(n_tasks, rounds):
    """Measure one file of joblib for each task, with a network of scikit-learn's."""
    tasks = Tasks()
    row, models = tasks(0)[0][:1], []
    for number in range(LEARNED):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = MLPClassifier((100, 100), max_iter=50, random_state=0)
            models.append(model.fit(*tasks(number)))
    with tempfile.TemporaryDirectory() as folder:

        def path(number):
            return Path(folder) / f"{number}.joblib"

        def write(number):
            joblib.dump(models[number % LEARNED], path(number))
            synced(path(number))

        for number in range(n_tasks):
            joblib.dump(models[number % LEARNED], path(number))
        size = path(0).stat().st_size
        loaded = []
        first = times(
            lambda i: loaded.append(joblib.load(path(i))) or loaded[i].predict(row), rounds
        )
        again = times(lambda i: loaded[i].predict(row), rounds)
        more = times(lambda i: write(n_tasks + i), rounds)
        forgetting = times(lambda i: path(n_tasks + i).unlink(), rounds)
    found = {"open": [], "first": first, "again": again}
    return {**found, "more": more, "forget": forgetting, "bytes": size}


COLUMNS = {
    "open": "to open",
    "first": "first prediction",
    "again": "next one",
    "more": "one more task",
    "forget": "forget one",
}


def cell(values):
    """Return the median, and the middle half in brackets, to three digits; - of none.

    >>> cell([1.0, 1.1, 1.2, 1.3, 9.0]), cell([12345.6])
    ('1.20 (1.10 to 1.30)', '12,346')
    """
    if not values:
        return "-"
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    digits = 2 if middle < 10 else 1 if middle < 100 else 0
    spread = f" ({low:,.{digits}f} to {high:,.{digits}f})" if len(values) > 1 else ""
    return f"{middle:,.{digits}f}{spread}"


def table(runs):
    """Return one line per place and number of tasks, in milliseconds."""
    rows = []
    for run in runs:
        n_tasks = run["key"]["tasks"]
        counted = f", {n_tasks:,} tasks" if run["key"]["in"] != "a file for each" else ""
        cells = [cell(run[name]) for name in COLUMNS]
        rows.append([run["key"]["in"] + counted, *cells, f"{run['bytes'] / 1000:.1f}"])
    return tables.table(["", *COLUMNS.values(), "kB a task"], rows)


def main(arguments=None):
    options = Parser("store", __doc__, tasks=COUNTS[-1], rounds=21).results().parse_args(arguments)
    about = {"tasks": options.tasks, "rounds": options.rounds}
    results = Results(options.json, about, options.words)
    counts = [n for n in COUNTS if n < options.tasks] + [max(options.tasks, LEARNED)]
    jobs = [
        ({"in": name, "tasks": n}, measure, (n, options.rounds))
        for name, measure in {"store": in_store, "one file": in_one_file}.items()
        for n in counts
    ]
    alone = min(ALONE, options.tasks)
    jobs.append(({"in": "a file for each", "tasks": alone}, in_many_files, (alone, options.rounds)))
    print(table(results.complete(jobs, 1)))


if __name__ == "__main__":
    main()
