"""No failure costs a learned task: a call completes, or nothing happened."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sklearn_halrp.exceptions import TrainingDivergedError
from tests.conftest import make_classifier, permuted
from tests.modules import MLP
from tests.test_promises import assert_untouched, snapshot


class Trouble(Callback):
    """Does something nasty in a given training run and epoch."""

    def __init__(self, deed=None, run=1, epoch=1):
        self.deed, self.run, self.epoch = deed, run, epoch

    runs = 0

    def on_train_begin(self, net, **kwargs):
        Trouble.runs += 1

    def on_epoch_end(self, net, **kwargs):
        if self.deed and Trouble.runs == self.run and len(net.history) == self.epoch:
            self.deed(net)


@pytest.fixture
def listening():
    """Ctrl-C arrives, even under a parent that ignores it, as nohup and some runners do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stop(net):
    raise KeyboardInterrupt


def fail(net):
    raise RuntimeError("a callback failed")


def press_ctrl_c(net):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(5)


@pytest.mark.parametrize(
    ("deed", "error"),
    [(stop, KeyboardInterrupt), (fail, RuntimeError), (press_ctrl_c, KeyboardInterrupt)],
)
@pytest.mark.parametrize(
    "call",
    [
        ("partial_fit", "new", 1),  # in the warm-up
        ("partial_fit", "new", 2),  # in the low-rank phase
        ("partial_fit", "b", 1),  # going on with a task
        ("partial_fit", "a", 1),  # going on with the first
        ("fit", "new", 1),  # which would forget everything
    ],
)
def test_an_interruption_leaves_everything_as_it_was(digits, listening, deed, error, call):
    method, task_id, run = call
    X, y = digits
    clf = make_classifier(net={"callbacks": [("trouble", Trouble())]})
    clf.fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
    before = {t: clf.predict_proba(X, task_id=t) for t in clf.tasks_}
    state, tensors = dict(vars(clf)), snapshot(clf)
    Trouble.runs = 0
    clf.set_params(net__callbacks__trouble__deed=deed, net__callbacks__trouble__run=run)
    with pytest.raises(error):
        getattr(clf, method)(permuted(X[:100], 2), y[:100], task_id=task_id)
    assert vars(clf) == state
    assert_untouched(tensors, snapshot(clf))
    for t, probabilities in before.items():
        assert np.array_equal(clf.predict_proba(X, task_id=t), probabilities)
    # And the same call goes through when nothing disturbs it.
    clf.set_params(net__callbacks__trouble__deed=None)
    getattr(clf, method)(permuted(X[:100], 2), y[:100], task_id=task_id)
    assert task_id in clf.tasks_


def test_an_interrupted_first_task_leaves_an_unfitted_estimator(digits):
    X, y = digits
    clf = make_classifier(net={"callbacks": [Trouble(fail)]})
    Trouble.runs = 0
    with pytest.raises(RuntimeError, match="a callback failed"):
        clf.partial_fit(X[:100], y[:100], task_id="a")
    assert vars(clf) == clf.get_params(deep=False)


@pytest.mark.parametrize("phase", ["base", "warm-up", "low-rank"])
def test_a_loss_that_turns_nan_is_an_error(digits, phase):
    X, y = digits
    clf = make_classifier()
    if phase == "base":
        clf.set_params(net__lr=float("inf"))
    else:
        clf.fit(X[:100], y[:100], task_id="a")
        clf.set_params(net__lr=float("inf"), warmup_epochs=0 if phase == "low-rank" else 1)
    with pytest.raises(TrainingDivergedError, match=f"{phase} phase.*net__lr"):
        clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
    assert getattr(clf, "classes_", None) is None or clf.tasks_ == ["a"]


class ByNorm(MLP):
    def forward(self, x):
        return super().forward(x / x.norm(dim=1, keepdim=True))


class NormedByNorm(ByNorm):
    """A normalisation spreads the NaN of one row over its batch."""

    def __init__(self):
        super().__init__()
        self.body.append(nn.BatchNorm1d(24))


@pytest.mark.parametrize("phase", ["base", "warm-up", "low-rank"])
@pytest.mark.parametrize("kind", [ByNorm, NormedByNorm])
def test_a_row_that_the_module_turns_nan_is_said(digits, phase, kind):
    X, y = digits
    X = X[:128].copy()
    net = {"train_split": None, "batch_size": 128 if kind is NormedByNorm else 16}
    clf = make_classifier(kind, net=net, warmup_epochs=0 if phase == "low-rank" else 1)
    if phase != "base":
        clf.fit(X, y[:128], task_id="a")
    X[100] = 0
    count = "128 of the 128" if kind is NormedByNorm else "1 of the 16"
    says = rf"{phase} phase.*outputs for {count} rows.*division by 0.*logarithm of 0.*net__lr"
    with pytest.raises(TrainingDivergedError, match=says):
        clf.partial_fit(X, y[:128], task_id="b")


def test_a_learning_rate_that_is_too_high_does_not_blame_the_rows(digits):
    X, y = digits
    clf = make_classifier(net={"lr": float("inf")})
    with pytest.raises(TrainingDivergedError, match=r"kept\. Lower the learning rate \(net__lr"):
        clf.fit(X[:100], y[:100])


def test_a_weight_that_turns_nan_in_the_last_step_is_an_error(digits):
    X, y = digits

    def poison(net):
        with torch.no_grad():
            next(net.module_.parameters()).view(-1)[0] = torch.nan

    clf = make_classifier(net={"callbacks": [Trouble(poison, run=1, epoch=3)]})
    Trouble.runs = 0
    with pytest.raises(TrainingDivergedError, match="not finite"):
        clf.fit(X[:100], y[:100])


def test_several_new_tasks_are_learned_all_or_none(digits):
    X, y = digits
    clf = make_classifier(net={"callbacks": [Trouble(fail, run=4)]})
    clf.partial_fit(X[:60], y[:60], task_id="a")
    Trouble.runs = 0
    with pytest.raises(RuntimeError, match="a callback failed"):
        clf.partial_fit(X[:120], y[:120], task_id=np.repeat(["b", "c"], 60))
    assert clf.tasks_ == ["a"]


def test_an_error_in_an_importance_leaves_cudnn_as_it_was(digits):
    X, y = digits

    def failing(layers, held_out):
        batches = held_out.losses()
        next(batches)
        assert not torch.backends.cudnn.enabled  # it refuses recurrent layers here
        raise RuntimeError("an importance failed")

    clf = make_classifier(importance=failing).fit(X[:100], y[:100], task_id="a")
    with pytest.raises(RuntimeError, match="an importance failed") as raised:
        clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
    assert raised.traceback[-1].locals["batches"] is not None  # the error holds on to them
    assert torch.backends.cudnn.enabled


def test_an_importance_gets_the_module_back_after_a_loss_that_failed(digits):
    X, y = digits

    def trying(layers, held_out):
        before = {n: t.clone() for n, t in held_out.module.state_dict().items()}
        name, layer = next(iter(layers.items()))
        with pytest.raises(RuntimeError):
            held_out.mean_loss(20, {name: torch.ones_like(layer.free), "last.bias": torch.ones(3)})
        for key, tensor in held_out.module.state_dict().items():
            assert torch.equal(tensor, before[key])
        return dict.fromkeys(layers, 1.0)

    clf = make_classifier(importance=trying).fit(X[:100], y[:100], task_id="a")
    clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
