"""What two processes learn together. Each runs parts of this file, and fails where they differ.

torchrun --standalone --nproc-per-node 2 -m tests.shared_training FOLDER PART ...
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, Freezer, LRScheduler
from torch import distributed

from docs.examples.networks import DigitNet, SharedNet
from sklearn_halrp import ContinualClassifier
from tests.conftest import make_net, permuted
from tests.inside import IMPORTANCES, named_tensors, network_of
from tests.modules import MLP, ZOO

torch.set_num_threads(1)


class Checked(Callback):
    """After each epoch: did all train the same, and see the same losses?"""

    def on_epoch_end(self, net, **kwargs):
        row = {name: value for name, value in net.history[-1].items() if "loss" in name}
        assert_agreed([row, digest(dict(net.get_all_learnable_params()))])


def assert_agreed(value):
    """Check that every process has this value."""
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, json.dumps(value))
    assert len(values) == 2
    assert values[0] == values[1]


def digest(tensors):
    """One number for many tensors."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode() + tensor.detach().numpy().tobytes())
    return found.hexdigest()


def digests(clf):
    """One number for the base, and one for each task."""
    tasks = {name: named_tensors(clf.to_module(name)) for name in clf.tasks_}
    return [digest(named_tensors(network_of(clf).base)), *map(digest, tasks.values()), clf.ranks_]


class Double(MLP):
    """In double precision, so that the order of sums hardly matters."""

    def __init__(self):
        super().__init__()
        self.double()


def exact_net():
    """A net whose training two processes repeat but for rounding: no batch is cut short."""
    return make_net(Double, iterator_train__shuffle=False, batch_size=40, max_epochs=8)


def learn(clf, shape=(64,)):
    """Learn two tasks of 300 real digits, and then the second again beside a third."""
    X, y = load_digits(return_X_y=True)
    X = X[:300] / 16
    for seed, task_id in [(0, "a"), (1, "b"), (1, np.repeat(["b", "c"], 150))]:
        clf.partial_fit(permuted(X, seed).reshape(-1, *shape), y[:300], task_id=task_id)
    return clf


def accelerator(kind, **settings):
    """An accelerator with one thing set."""
    import accelerate  # not there on every machine that collects this file

    one = getattr(accelerate, kind)(**settings)
    options = {"dataloader_config": one} if "Loader" in kind else {"kwargs_handlers": [one]}
    return accelerate.Accelerator(cpu=True, device_placement=False, **options)


def shared(net, accelerator, **settings):
    """The same net, trained by all processes."""
    params = {**net.get_params(deep=False), "device": "cpu", **settings}
    params["callbacks"] = [*(params["callbacks"] or []), Checked()]
    return SharedNet(**params, accelerator=accelerator)


def check_halves(folder):
    """Each process trains on half of every batch; to predict takes no other process."""
    halves = accelerator("DataLoaderConfiguration", split_batches=True)
    clf = learn(ContinualClassifier(shared(exact_net(), halves), dtype="float64", random_state=0))
    assert_agreed(digests(clf))
    if halves.is_main_process:
        X = load_digits(return_X_y=True)[0][300:] / 16
        np.savez(folder / "halves.npz", **{name: clf.predict_proba(X, name) for name in clf.tasks_})
    # Without room for terms U and V are empty, and get no gradient. Running statistics differ
    # between processes, until validation, of which there is none, or the end.
    net = shared(make_net(DigitNet, train_split=None, max_epochs=2), halves)
    clf = learn(ContinualClassifier(net, growth_budget=0.01, random_state=0, n_jobs=2))
    assert set(clf.ranks_["b"].values()) == {0}
    assert_agreed(digests(clf))


def check_callbacks(folder):
    """Callbacks decide by losses, freeze and reload; seeds and rounding differ."""
    whole = accelerator("DistributedDataParallelKwargs", find_unused_parameters=True)
    np.random.seed(distributed.get_rank())
    torch.manual_seed(distributed.get_rank())
    if not whole.is_main_process:
        # More than a machine of another make would differ.
        IMPORTANCES["fisher"] = IMPORTANCES["uniform"]
    callbacks = [
        Freezer("1.*"),
        LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0, threshold=0.5),
        Checkpoint(dirname=folder, load_best=True),
        EarlyStopping(monitor="train_loss", threshold=0.5, patience=2, load_best=True),
    ]
    net = shared(make_net(DigitNet, callbacks=callbacks, max_epochs=8), whole)
    clf = learn(ContinualClassifier(net, n_jobs=2, warmup_epochs=2))
    assert_agreed([digests(clf), clf.history_["b"][-1]["epoch"]])
    assert len(clf.history_["b"]) < 16
    assert clf.ranks_["b"]["1.weight"] == 0  # it was frozen by its own name


def check_zoo(folder):
    """Every kind of network, with batches of its own for each process."""
    whole = accelerator("DistributedDataParallelKwargs", find_unused_parameters=True)
    for animal in ZOO.values():
        net = shared(make_net(animal.module, max_epochs=2), whole)
        clf = ContinualClassifier(net, growth_budget=2.0, random_state=0)
        assert_agreed(digests(learn(clf, animal.shape)))


if __name__ == "__main__":
    for part in sys.argv[2:]:
        globals()[f"check_{part}"](Path(sys.argv[1]))
    distributed.destroy_process_group()
    # Its threads live on, and abort the process if one lets go of a tensor while Python ends.
    sys.stdout.flush()
    os._exit(0)
