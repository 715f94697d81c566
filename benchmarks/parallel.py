"""How much faster two processes learn eight tasks than one, each with one thread.

    python -m benchmarks.parallel [--tasks 8] [--rows 512] [--epochs 2] [--rounds 3] [--json FILE]

The tasks are permutations of real digits, learned by a LeNet on a base that is there already.
One process and two take turns, A B A B ..., and the speed-up is the median over the rounds.
In the same turns stand processes that only multiply matrices: on a shared machine two
processes seldom have two cores to themselves. The first time, in which the processes start, is
shown apart.
"""

import pickle

import joblib
import numpy as np
import torch

from benchmarks import tables
from benchmarks.command import Parser
from benchmarks.networks import LeNet, recipe
from benchmarks.running import Results
from benchmarks.speed import cell, digits, ratios, seconds
from sklearn_halrp import ContinualClassifier


def in_processes(n_jobs, function, times=8):
    """Call a function several times in the processes that tasks are learned in."""
    jobs = [joblib.delayed(function)() for _ in range(times)]
    # With other settings than learn_all's joblib would start other processes.
    return joblib.Parallel(n_jobs=n_jobs, mmap_mode="c")(jobs)


def multiply(times=400):
    """Keep one core busy."""
    torch.set_num_threads(1)
    matrix = torch.eye(384)
    for _ in range(times):
        matrix = matrix @ matrix


def several_tasks(X, y, n_tasks):
    """Return rows of several tasks, each with the pixels in an order of its own."""
    flat = X.reshape(*X.shape[:2], -1)
    orders = [np.random.RandomState(task).permutation(flat.shape[2]) for task in range(n_tasks)]
    rows = np.concatenate([flat[:, :, order] for order in orders]).reshape(-1, *X.shape[1:])
    return rows, np.tile(y, n_tasks), np.repeat(np.arange(n_tasks), len(y))


def run(n_tasks, n_rows, epochs, rounds):
    """Return the seconds of the start, and those of one process and of two in every round."""
    clf = ContinualClassifier(recipe(LeNet, epochs), random_state=0)
    X, y = digits((3, 32, 32), n_rows)
    base = pickle.dumps(clf.partial_fit(X, y, task_id="base"))
    X, y, ids = several_tasks(X, y, n_tasks)
    predicted = []

    def learn(n_jobs):
        clf = pickle.loads(base).set_params(n_jobs=n_jobs)
        taken = seconds(lambda: clf.partial_fit(X, y, task_id=ids))
        predicted.append(clf.predict_proba(X, task_id=ids))
        return taken

    def keep_busy(n_jobs):
        return seconds(lambda: in_processes(n_jobs, multiply))

    start, found = learn(2), {"tasks": [], "matrices": []}
    for _ in range(rounds):
        for what, measure in (("tasks", learn), ("matrices", keep_busy)):
            found[what].append([measure(1), measure(2)])
            print(what, *(f"{taken:.1f} s" for taken in found[what][-1]), flush=True)
    assert all(np.array_equal(predicted[0], one) for one in predicted)
    return {"start": start, "seconds": found}


def table(runs):
    """Return one line for tasks and one for matrices."""
    names = {"tasks": "learning tasks", "matrices": "multiplying matrices"}
    rows = [[names[what], cell(ratios(rows)[0])] for what, rows in runs[0]["seconds"].items()]
    return tables.table(["", "one process / two"], rows)


def main(arguments=None):
    counts = {"tasks": 8, "rows": 512, "epochs": 2, "rounds": 5}
    options = Parser("parallel", __doc__, **counts).results().parse_args(arguments)
    settings = {name: getattr(options, name) for name in counts}
    versions = {"joblib": joblib.__version__}
    results = Results(options.json, settings, options.words, versions)
    (found,) = results.complete([({}, run, tuple(settings.values()))], 1)
    print(table([found]))
    print(f"The first time, when the processes have to start, it takes {found['start']:.1f} s.")


if __name__ == "__main__":
    main()
