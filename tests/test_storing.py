import warnings

import joblib
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skorch.callbacks import Callback

from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, permuted
from tests.inside import MOST_PRUNED, in_half, task_of
from tests.modules import MLP


@pytest.mark.parametrize("budget", [0.4, 0.7])
def test_a_budget_that_binds_is_used_up(digits, budget):
    X, y = digits
    clf = make_classifier(approximation_rate=1.0, growth_budget=budget)
    clf.partial_fit(X[:200], y[:200], task_id=0)
    clf.partial_fit(permuted(X[:200], 1), y[:200], task_id=1)
    module = MLP()
    n_numbers = sum(parameter.numel() for parameter in module.parameters())
    shapes = [module.body[0].weight.shape, module.body[2].weight.shape]
    # What a task keeps in full (biases, head), and the scales.
    fixed = n_numbers - sum(shape.numel() for shape in shapes) + sum(map(sum, shapes))
    allowed = budget * n_numbers
    # Ranks: as high as they may be when MOST_PRUNED of their entries are to go.
    before = clf.report_[1]["n_numbers_before_pruning"]
    most = fixed + (allowed - fixed) / (1 - MOST_PRUNED)
    assert most - max(map(sum, shapes)) < before <= most
    # Pruning: just enough, but that a term with an empty side goes whole.
    assert allowed < before
    stored = clf.growth_[1] * n_numbers
    assert allowed - 1 - max(map(max, shapes)) < stored < allowed + 1e-6


class Entries(Callback):
    """Count the entries of U and V that are not zero after each epoch of low-rank training."""

    seen = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        Entries.seen.append([])

    def on_epoch_end(self, net, **kwargs):
        factors = [t for name, t in net.module_.named_parameters() if name.endswith(("_u", "_v"))]
        Entries.seen[-1].append([np.flatnonzero(t.detach().numpy()) for t in factors])


def learn_tightly(digits, epochs=8, **settings):
    X, y = (part[:300] for part in digits)
    Entries.seen.clear()
    net = {"max_epochs": epochs, "callbacks": [Entries()]}
    clf = make_classifier(net=net, approximation_rate=1.0, growth_budget=0.4, **settings)
    clf.partial_fit(X, y, task_id=0).partial_fit(permuted(X, 1), y, task_id=1)
    return clf, Entries.seen[-1]


@pytest.mark.parametrize(
    ("settings", "full"),
    [
        ({"warmup_epochs": 2, "retrain_epochs": 2}, 4),
        ({"warmup_epochs": 2, "retrain_epochs": 0.5}, 3),
        ({"warmup_epochs": 2}, 3),
        ({"warmup_epochs": 2, "retrain_epochs": 0.01}, 5),  # of one epoch at least
        ({"warmup_epochs": 2, "retrain_epochs": 0}, 6),
        ({"warmup_epochs": 2, "retrain_epochs": 99}, 0),
    ],
)
def test_what_is_pruned_stays_at_zero_while_the_rest_is_trained(digits, settings, full):
    clf, epochs = learn_tightly(digits, **settings)
    n_numbers = sum(parameter.numel() for parameter in MLP().parameters())
    fixed = clf.report_[1]["n_numbers_before_pruning"]
    if full:
        fixed -= sum(map(len, epochs[0]))
    allowed = int(0.4 * n_numbers) - fixed if full else None
    assert len(epochs) == 6
    for before in epochs[:full]:
        assert sum(map(len, before)) == sum(map(len, epochs[0]))
    for after in epochs[full:]:
        for now, at_first in zip(after, epochs[full], strict=True):
            assert np.isin(now, at_first).all()
        if full:
            assert sum(map(len, after)) <= allowed < sum(map(len, epochs[0]))
    assert clf.growth_[1] <= 0.4


def test_epochs_after_pruning_mend_what_it_did(digits):
    X, y = (part[:300] for part in digits)
    losses = []
    for retrain in (0, 0.5):
        clf, _ = learn_tightly(digits, epochs=20, retrain_epochs=retrain)
        probabilities = clf.predict_proba(permuted(X, 1), task_id=1)
        losses.append(-np.log(probabilities[np.arange(len(y)), y]).mean())
    assert losses[1] < 0.9 * losses[0]


def test_a_budget_that_does_not_bind_leaves_the_training_alone(digits):
    X, y = (part[:300] for part in digits)
    found = []
    for retrain in (0, 0.5):
        clf = make_classifier(growth_budget=10.0, retrain_epochs=retrain)
        clf.partial_fit(X, y, task_id=0).partial_fit(permuted(X, 1), y, task_id=1)
        found.append(clf.predict_proba(X, task_id=1))
    assert np.array_equal(*found)


def some_arrays(largest):
    """Return a strategy for arrays up to a magnitude."""
    numbers = st.floats(-largest, largest, width=32)
    return arrays(np.float32, array_shapes(max_dims=2, max_side=5), elements=numbers)


@given(st.sampled_from([1e5, 1.0, 2.0**-14, 2.0**-23]).flatmap(some_arrays))
@example(np.full(3, 1e-9, dtype=np.float32))
@example(np.array([1.0, 1e-9], dtype=np.float32))
def test_half_the_bytes_are_right_to_three_digits_or_not_taken(array):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half = in_half(array)
    assert half.shape == array.shape
    length = np.linalg.norm(array.astype("f8"))
    if half.dtype == np.float16:
        assert np.linalg.norm(array.astype("f8") - half) <= 2.0**-10 * length
    else:
        assert half is array
        # Too large, or of the size of the error that numbers near 0 may have.
        assert np.abs(array).max() > np.finfo(np.float16).max or 0 < length < 2.0**-14 * 5


def test_half_precision_rounds_what_was_trained_and_nothing_else(digits):
    full, half = (learn_tightly(digits, precision=p)[0] for p in ("full", "half"))
    assert [row["train_loss"] for row in full.history_[1]] == [
        row["train_loss"] for row in half.history_[1]
    ]
    before, after = (task_of(clf, 1) for clf in (full, half))
    assert after.n_numbers == before.n_numbers
    assert all(np.array_equal(after.own[name], array) for name, array in before.own.items())
    own = sum(array.size for array in before.own.values())
    assert before.n_bytes - after.n_bytes == 2 * (before.n_numbers - own)
    assert before.factors
    for name, stored in before.factors.items():
        kept = after.factors[name]
        for one, other in [(stored.r, kept.r), (stored.s, kept.s)]:
            assert np.array_equal(one.astype(np.float16), other)
        for one, other in [(stored.u, kept.u), (stored.v, kept.v)]:
            assert np.array_equal(one.dense().astype(np.float16), other.dense())
    X = permuted(digits[0], 1)
    moved = full.predict_proba(X, task_id=1) - half.predict_proba(X, task_id=1)
    assert 0 < np.abs(moved).max() < 0.01


class Typed(MLP):
    """An MLP whose weights have another type than its inputs and outputs."""

    def __init__(self, dtype):
        super().__init__()
        self.to(dtype)
        self.dtype = dtype

    def forward(self, X):
        return super().forward(X.to(self.dtype)).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_half_precision_keeps_every_prediction_in_files_and_when_a_task_goes_on(
    digits, tmp_path, dtype
):
    X, y = (part[:300] for part in digits)
    net = {"module__dtype": dtype, "max_epochs": 4}
    clf = make_classifier(Typed, net=net, precision="half", growth_budget=0.5)
    clf.partial_fit(X, y, task_id=0).partial_fit(permuted(X, 1), y, task_id=1)
    factors = task_of(clf, 1).factors.values()
    assert {f.r.dtype for f in factors} | {f.u.values.dtype for f in factors} == {np.dtype("f2")}
    before, score = clf.predict_proba(X, task_id=1), clf.score(permuted(X, 1), y, task_id=1)

    joblib.dump(clf, tmp_path / "clf.joblib")
    save(clf, tmp_path / "clf.safetensors")
    for again in (
        joblib.load(tmp_path / "clf.joblib"),
        load(tmp_path / "clf.safetensors", net=clf.net),
    ):
        assert np.array_equal(again.predict_proba(X, task_id=1), before)
        assert again.n_bytes_ == clf.n_bytes_

    clf.partial_fit(permuted(X, 2), y, task_id=2)
    assert np.array_equal(clf.predict_proba(X, task_id=1), before)
    # A task goes on from what was rounded, and is rounded again.
    clf.partial_fit(permuted(X, 1), y, task_id=1)
    assert clf.score(permuted(X, 1), y, task_id=1) >= score - 0.02
    factors = task_of(clf, 1).factors.values()
    assert {f.u.values.dtype for f in factors} == {np.dtype("f2")}
