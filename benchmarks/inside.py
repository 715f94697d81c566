"""What the benchmarks reach into the package for; all else goes through its public names.

A benchmark that is about a part of the package has to get hold of that part. README.md says for
which question each of these is needed.
"""

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_halrp._low_rank import spectrum
from sklearn_halrp._pruning import Compact
from sklearn_halrp._ranks import choose_ranks
from sklearn_halrp._task import StoredFactors, Task
from sklearn_halrp.store import _row


def stored_tasks(clf):
    """Return what a classifier keeps of its tasks beside the base, by id."""
    return clf._learned.tasks


def _put(clf, task_id, task):
    learned = clf._learned
    clf._learned = learned.with_network(learned.network.with_task(task_id, task))


def repeat_task(clf, task_id, ids):
    """Give a classifier tasks that are the same as another one, without training them."""
    for other in ids:
        _put(clf, other, stored_tasks(clf)[task_id])


def with_copies(clf, n_tasks):
    """Let a classifier know so many tasks: its own, and copies of these with other ids."""
    learned = clf._learned
    several, tasks = list(learned.tasks.values()), dict(learned.tasks)
    for number in range(n_tasks - len(tasks)):
        task = several[number % len(several)]
        tasks[f"copy {number}"] = replace(task, data=task.data.copy())
    clf._learned = learned.with_network(replace(learned.network, tasks=tasks))


def put(store, task_id, clf, of):
    """Write a task of a classifier into a store under another id, as what was learned is."""
    row = _row(clf._learned.network, task_id, stored_tasks(clf)[of])
    with store._records.writing() as writing:
        writing.put(row)


def give_ranks(clf, task_id, ranks):
    """Let a task go on with random factors of these ranks, in the order of the layers."""
    task, rng = stored_tasks(clf)[task_id], np.random.RandomState(0)
    factors = {}
    for (name, stored), rank in zip(task.factors.items(), ranks, strict=True):
        u = rng.randn(len(stored.r), rank).astype(np.float32) / 100
        v = rng.randn(rank, stored.v.shape[1]).astype(np.float32) / 100
        factors[name] = StoredFactors(stored.r, stored.s, Compact.of(u), Compact.of(v))
    task = Task.of(task.target, factors, task.own, 1, task.history, task.report)
    _put(clf, task_id, task)


def singular_values(matrix):
    """Return the singular values of a change of weights, as the choice of ranks takes them."""
    return spectrum(matrix).values


def ranks_of(values, rate, highest):
    """Return the ranks of layers, given the singular values of each by name."""
    scores = {name: one.double().numpy() ** 2 for name, one in values.items()}
    return choose_ranks(scores, rate, highest)


def has_factors(module):
    """Return whether a module that is being trained has low-rank terms."""
    return any(name.endswith("_r") for name, _ in module.named_parameters())


class _Fixed(Callback):
    """Train neither r nor s."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        for name, tensor in net.module_.named_parameters():
            if name.endswith(("_r", "_s")):
                tensor.requires_grad_(False)


def _ones(free, weight):
    return torch.ones(free.shape[0]), torch.ones(free.shape[1])


@contextmanager
def scales_at_one(clf):
    """Let a classifier learn with r and s at 1: W_t = W + U V. They still count as stored."""
    clf.net.set_params(callbacks=[("fixed", _Fixed())])
    with mock.patch("sklearn_halrp._low_rank.fit_scales", _ones):
        yield
