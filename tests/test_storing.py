import warnings
from dataclasses import replace

import joblib
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import norm
from skorch.callbacks import Callback
from torch import nn

from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, permuted
from tests.inside import LEVELS, MOST_PRUNED, Coded, in_half, raw_arrays, task_of
from tests.modules import MLP, ZOO

FOUR = ("mlp", "conv2d", "words", "attention", "waves", "experts")  # bits, for these


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


# --- one byte


def coded_slowly(array):
    """Codes and scales, number by number."""
    flat, codes, scales = array.reshape(-1), [], []
    for begin in range(0, flat.size, 64):
        group = flat[begin : begin + 64]
        scale = float(np.float16(max(abs(float(x)) for x in group)))
        scales.append(scale)
        for x in group:
            code = round(float(x) / (scale / 127)) if scale else 0
            codes.append(min(max(code, -127), 127))
    return codes, scales


@given(
    arrays(np.float32, array_shapes(max_dims=2, max_side=90), elements=st.floats(-8, 8, width=32))
)
@example(np.zeros((3, 70), np.float32))
@example(np.full((1, 65), 1e-9, np.float32))
@example(np.array([7e4, 1.0], np.float32))
@example(np.arange(130, dtype=np.float32))
def test_codes_are_those_of_a_slow_reference(array):
    coded = Coded.of(array)
    length = np.linalg.norm(array.astype("f8"))
    if np.abs(array).max() > np.finfo(np.float16).max:
        assert coded is None
        return
    codes, scales = coded_slowly(array)
    steps = np.repeat(scales, 64)[: array.size] / 127
    numbers = (np.array(codes) * steps).reshape(array.shape)
    if coded is None:
        assert np.linalg.norm(numbers - array) > 0.0199 * length
        return
    assert coded.size == array.size
    assert coded.codes.nbytes + coded.scales.nbytes == array.size + 2 * len(scales)
    assert coded.codes.reshape(-1).tolist() == codes
    assert coded.scales.tolist() == scales
    np.testing.assert_allclose(coded.dense(), numbers, rtol=1e-6)
    # A step is a 127th of the scale, which two bytes hold to eleven bits, or to 2^-25.
    off = np.abs(coded.dense() - array).reshape(-1)
    assert (off <= steps * (0.5 + 127 * 2.0**-11) * 1.001 + 2.0**-25).all()


@given(
    arrays(np.float32, array_shapes(max_dims=2, max_side=90), elements=st.floats(-8, 8, width=32))
)
@example(np.zeros((3, 70), np.float32))
@example(np.array([7e4, 1.0], np.float32))
@example(np.array([1.0] + 64 * [0.1], np.float32))
@example(np.arange(131, dtype=np.float32))
def test_codes_of_four_bits_are_the_nearest_levels(array):
    """Number by number; the levels are quantiles of a normal distribution, as in QLoRA."""
    upper = [norm.ppf(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
    lower = [-norm.ppf(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
    levels = np.sort([*lower, 0, *upper]) / max(upper)
    np.testing.assert_allclose(LEVELS, levels, atol=2e-5)
    coded, length = Coded.of(array, bits=4), np.linalg.norm(array.astype("f8"))
    if np.abs(array).max() > np.finfo(np.float16).max:
        assert coded is None
        return
    _, scales = coded_slowly(array)
    flat = array.astype("f8").reshape(-1)
    nearest = [
        min(LEVELS.tolist(), key=lambda level: abs(level * scales[i // 64] - x))
        if scales[i // 64]
        else 0.0
        for i, x in enumerate(flat)
    ]
    numbers = np.array(nearest) * np.repeat(scales, 64)[: array.size]
    off = np.linalg.norm(numbers - flat)
    if coded is None:
        assert off > 0.1499 * length
        return
    assert off <= 0.1501 * length
    assert coded.size == array.size
    assert coded.codes.nbytes == -(-array.size // 2)
    np.testing.assert_allclose(
        np.abs(coded.dense().reshape(-1) - flat), np.abs(numbers - flat), atol=1e-5
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_codes_or_scales_of_another_number_are_refused(bits):
    """As a damaged file may have them."""
    coded = Coded.of(np.arange(1, 130, dtype=np.float32), bits)
    for changes in (
        {"codes": coded.codes[:-1]},
        {"scales": coded.scales[:1]},
        {"scales": np.repeat(coded.scales, 2)},
        {"codes": coded.codes.astype(np.int64)},
    ):
        with pytest.raises(ValueError, match="a task has codes"):
            replace(coded, **changes).dense()


def test_half_a_byte_is_for_factors_alone(digits):
    full, small = (learn_tightly(digits, precision=p)[0] for p in ("full", "nf4"))
    before, kept = raw_arrays(task_of(full, 1)), raw_arrays(task_of(small, 1))
    assert task_of(small, 1).n_numbers == task_of(full, 1).n_numbers
    halves = set()
    for (part, name), array in before.items():
        if part.endswith("mask"):
            assert np.array_equal(kept[part, name], array)
            continue
        bits = 4 if part in "uv" else 8
        wanted = Coded.of(array - 1 if part in "rs" else array, bits=bits)
        assert np.array_equal(kept[part, name], wanted.codes)
        if bits == 4:
            assert kept[part, name].nbytes == -(-array.size // 2)
            halves.add(part)
    assert halves == {"u", "v"}
    X = permuted(digits[0], 1)
    assert (full.predict(X, task_id=1) == small.predict(X, task_id=1)).mean() > 0.9


def test_one_byte_holds_all_that_a_task_keeps(digits):
    full, small = (learn_tightly(digits, precision=p)[0] for p in ("full", "int8"))
    before, after = (task_of(clf, 1) for clf in (full, small))
    assert after.n_numbers == before.n_numbers
    kept, n_scales = raw_arrays(after), 0
    for (part, name), array in raw_arrays(before).items():
        if part.endswith("mask"):
            assert np.array_equal(kept[part, name], array)
            continue
        wanted = Coded.of(array - 1 if part in "rs" else array)
        assert np.array_equal(kept[part, name], wanted.codes)
        assert np.array_equal(kept[f"{part} scales", name], wanted.scales)
        n_scales += wanted.scales.size
    assert before.n_bytes - after.n_bytes == 3 * before.n_numbers - 2 * n_scales
    for name, stored in before.factors.items():
        for one, other in [(stored.r, after.factors[name].r), (stored.s, after.factors[name].s)]:
            np.testing.assert_array_equal(Coded.of(one - 1).dense() + 1, other)
    assert full.n_bytes_ - small.n_bytes_ == before.n_bytes - after.n_bytes
    X = permuted(digits[0], 1)
    moved = full.predict_proba(X, task_id=1) - small.predict_proba(X, task_id=1)
    assert 0 < np.abs(moved).max() < 0.1


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "int8") for name in ZOO), *((name, "nf4") for name in FOUR)]
)
def test_what_is_kept_in_one_byte_or_less_never_changes(digits, tmp_path, name, precision):
    X, y = digits
    X = X[:100].reshape(-1, *ZOO[name].shape)
    clf = make_classifier(ZOO[name].module, growth_budget=2.0, precision=precision)
    clf.partial_fit(X, y[:100], task_id=0).partial_fit(permuted(X, 1), y[:100] % 3, task_id=1)
    before = clf.predict_proba(X, task_id=1)[:, :3]
    clf.partial_fit(permuted(X, 2), y[:100] % 3, task_id=2)
    save(clf, tmp_path / "clf.safetensors")
    joblib.dump(clf, tmp_path / "clf.joblib")
    for again in (
        clf,
        load(tmp_path / "clf.safetensors", net=clf.net),
        joblib.load(tmp_path / "clf.joblib"),
        joblib.load(tmp_path / "clf.joblib", mmap_mode="r"),
    ):
        assert np.array_equal(again.predict_proba(X, task_id=1)[:, :3], before)
        assert again.n_bytes_ == clf.n_bytes_
    module = clf.to_module(1).eval()
    assert all(torch.isfinite(p).all() for p in module.parameters() if p.is_floating_point())


def test_a_task_in_one_byte_goes_on_from_what_was_rounded(digits):
    X, y = (part[:300] for part in digits)
    clf = make_classifier(precision="int8", growth_budget=0.5, net={"max_epochs": 6})
    clf.partial_fit(X, y, task_id=0).partial_fit(permuted(X, 1), y, task_id=1)
    score = clf.score(permuted(X, 1), y, task_id=1)
    clf.partial_fit(permuted(X, 1), y, task_id=1)
    assert clf.score(permuted(X, 1), y, task_id=1) >= score - 0.02
    assert any(part.endswith("scales") for part, _ in raw_arrays(task_of(clf, 1)))


def test_statistics_take_two_bytes_and_counts_are_exact(digits):
    class Body(nn.Sequential):
        """Its norm has no numbers of its own, that its statistics could be folded into."""

        def __init__(self, n_classes=10):
            layers = nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU()
            super().__init__(*layers, nn.Linear(8, n_classes))

    X, y = digits[0][:200], digits[1][:200]
    clf = make_classifier(Body, precision="int8", growth_budget=2.0)
    clf.partial_fit(X[:100], y[:100], task_id=0).partial_fit(permuted(X, 1), y, task_id=1)
    kept = {name: array for (part, name), array in raw_arrays(task_of(clf, 1)).items()}
    kinds = {name.rpartition(".")[2]: array.dtype.str for name, array in kept.items()}
    assert kinds["running_mean"] == kinds["running_var"] == "<f2"
    assert kinds["num_batches_tracked"] == "<i8"
