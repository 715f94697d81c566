"""What the benchmarks reach into the package for; all else goes through its public names.

A benchmark that is about a part of the package has to get hold of that part. README.md says for
which question each of these is needed.
"""

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import torch
from skorch.callbacks import Callback

from sklearn_halrp.store import _row


def stored_tasks(clf):
    """Return what a classifier keeps of its tasks beside the base, by id."""
    return clf._learned.tasks


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
    store._records.write(lambda writing: writing.put(row))


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
