"""What the benchmarks reach into the package for; all else goes through its public names.

A benchmark that is about a part of the package has to get hold of that part. README.md says for
which question each of these is needed.
"""

from contextlib import contextmanager
from unittest import mock

import torch
from skorch.callbacks import Callback


def stored_tasks(clf):
    """Return what a classifier keeps of its tasks beside the base, by id."""
    return clf._learned.tasks


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
