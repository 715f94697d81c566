"""What learning and predicting cost beside the plain network, side by side in one run.

    python -m benchmarks.speed [--repeats 15] [--threads 1] [--json FILE]

Every line is timed in turn, A B A B ..., and the ratio is the median over the pairs, since
single times on a shared machine mean little. The data are random: only time is measured.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn import functional as F

from benchmarks.networks import LeNet
from sklearn_halrp import ContinualClassifier


class MLP(nn.Sequential):
    """784-256-256-10."""

    def __init__(self, n_classes=10):
        super().__init__(
            nn.Linear(784, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, n_classes),
        )


NETWORKS = {"MLP 784-256-256-10": (MLP, (784,)), "LeNet 3x32x32": (LeNet, (3, 32, 32))}


def recipe(module, epochs=3):
    """Return the skorch net that both sides train with."""
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=128,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def paired(a, b, repeats):
    """Time two functions in turn; return the median seconds of each and of a / b."""
    a(), b()
    times = []
    for _ in range(repeats):
        row = []
        for function in (a, b):
            begin = time.perf_counter()
            function()
            row.append(time.perf_counter() - begin)
        times.append(row)
    ratio = statistics.median(x / y for x, y in times)
    return (*(statistics.median(column) for column in zip(*times, strict=True)), ratio)


def learned(module, shape, n_rows):
    """Return a classifier with two tasks, and their data."""
    rng = np.random.RandomState(0)
    X = rng.randn(n_rows, *shape).astype(np.float32)
    y = rng.randint(0, 10, n_rows)
    clf = ContinualClassifier(recipe(module), random_state=0)
    clf.partial_fit(X, y, task_id="base")
    clf.partial_fit(X[::-1].copy(), y, task_id="task")
    return clf, X, y


def measure(name, repeats):
    """Yield the rows of the table for one network."""
    module, shape = NETWORKS[name]
    clf, X, y = learned(module, shape, n_rows=1280)
    count = iter(range(10**6))

    def a_task():
        clf.partial_fit(X, y, task_id=f"new {next(count)}")
        clf.forget_task(clf.tasks_[-1])

    yield "learn a task / plain training", *paired(a_task, lambda: recipe(module).fit(X, y), 5)

    plain = recipe(module).fit(X, y)
    many = np.concatenate([X] * 8)[:10_000]
    torch_module = clf.to_module("task")

    def torch_alone():
        with torch.no_grad():
            for part in torch.from_numpy(many).split(128):
                F.softmax(torch_module(part), dim=-1)

    def ours():
        clf.predict_proba(many, "task")

    yield "predict 10,000 rows / torch module", *paired(ours, torch_alone, repeats)
    yield (
        "predict 10,000 rows / skorch",
        *paired(ours, lambda: plain.predict_proba(many), repeats),
    )
    one = X[:1]
    yield (
        "predict 1 row / skorch",
        *paired(lambda: clf.predict_proba(one, "task"), lambda: plain.predict_proba(one), 200),
    )


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name in NETWORKS:
        print(f"{name:<36}{'ours ms':>12}{'other ms':>12}{'ratio':>8}", flush=True)
        for what, ours, other, ratio in measure(name, options.repeats):
            print(f"  {what:<34}{1e3 * ours:>12.2f}{1e3 * other:>12.2f}{ratio:>8.2f}", flush=True)
            results.append({"network": name, "what": what, "ratio": ratio})
    if options.json:
        command = f"python -m benchmarks.speed --threads {options.threads}"
        found = {"command": command, "torch": torch.__version__, "results": results}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
