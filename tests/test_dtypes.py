"""Numbers of any type, and calls where gradients are off."""

import pickle

import joblib
import numpy as np
import pytest
import torch

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import network_of
from tests.modules import MLP, ZOO


@pytest.fixture
def double_by_default():
    """Let a test set torch's default type."""
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


def two_tasks(digits, clf, shape=(64,)):
    X, y = digits[0][:150].reshape(-1, *shape), digits[1][:150]
    return clf.partial_fit(X, y, task_id="a").partial_fit(permuted(X, 1), y, task_id="b")


def all_predictions(digits, clf):
    return [clf.predict_proba(digits[0][:50], task_id) for task_id in clf.tasks_]


# --- the type of the outputs ----------------------------------------------------------


class Bfloat16(MLP):
    def __init__(self):
        super().__init__()
        self.bfloat16()

    def forward(self, x):
        return super().forward(x.bfloat16())


class Autocast(MLP):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class HalfOutputs(MLP):
    def forward(self, x):
        return super().forward(x).half()


class Bfloat16Probabilities(MLP):
    def forward(self, x):
        return super().forward(x).softmax(-1).bfloat16()


@pytest.mark.parametrize("kind", [Bfloat16, Autocast, HalfOutputs, Bfloat16Probabilities])
@pytest.mark.parametrize("loads", [{}, {"num_workers": 0}], ids=["arrays", "loader"])
def test_outputs_of_two_bytes_are_learned_and_predicted(digits, kind, loads, tmp_path):
    net = {f"iterator_valid__{name}": value for name, value in loads.items()}
    if kind is Bfloat16Probabilities:
        net |= {"criterion": torch.nn.NLLLoss}
    clf = two_tasks(digits, make_classifier(kind, net))
    predicted = all_predictions(digits, clf)
    for task_id, found in zip(clf.tasks_, predicted, strict=True):
        assert found.dtype == np.float32
        assert clf.history_[task_id][-1]["valid_acc"] >= 0  # skorch's own scoring ran too
        outputs = clf.to_module(task_id)(torch.from_numpy(digits[0][:50])).detach().float()
        expected = outputs if kind is Bfloat16Probabilities else outputs.softmax(-1)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    save(clf, tmp_path / "safe")
    for loaded in (pickle.loads(pickle.dumps(clf)), load(tmp_path / "safe", make_net(kind, **net))):
        for found, expected in zip(all_predictions(digits, loaded), predicted, strict=True):
            assert np.array_equal(found, expected)


def test_predictions_inside_autocast_are_those_of_its_type(digits):
    clf = make_classifier().fit(digits[0][:150], digits[1][:150])
    plain = clf.predict_proba(digits[0][:50])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = clf.predict_proba(digits[0][:50])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain, atol=0.02)
    assert not np.array_equal(found, plain)


# --- the default type -----------------------------------------------------------------


def test_the_default_net_is_the_same_under_any_default_type(digits, double_by_default):
    plain = two_tasks(digits, ContinualClassifier(random_state=0))
    double_by_default()
    found = two_tasks(digits, ContinualClassifier(random_state=0))
    for mine, theirs in zip(*(all_predictions(digits, c) for c in (found, plain)), strict=True):
        assert mine.dtype == np.float32
        assert np.array_equal(mine, theirs)


def saved_and_loaded(clf, kind, net, path):
    if kind == "pickle":
        data = pickle.dumps(clf)
        return lambda: pickle.loads(data)
    if kind == "safe":
        save(clf, path)
        return lambda: load(path, net)
    joblib.dump(clf, path)
    return lambda: joblib.load(path, mmap_mode="r" if kind == "mapped" else None)


@pytest.mark.parametrize("kind", ["pickle", "joblib", "mapped", "safe"])
@pytest.mark.parametrize("module", [None, MLP, ZOO["conv2d"].module, "instance"])
def test_what_was_saved_comes_back_in_its_type(digits, kind, module, double_by_default, tmp_path):
    shape = (1, 8, 8) if module is ZOO["conv2d"].module else (64,)
    net = None if module is None else make_net(MLP() if module == "instance" else module)
    clf = two_tasks(digits, ContinualClassifier(net, random_state=0), shape)
    X = digits[0][:50].reshape(-1, *shape)
    expected = clf.predict_proba(X, "b")
    open_again = saved_and_loaded(clf, kind, net, tmp_path / "model")
    double_by_default()
    loaded = open_again()
    for name, tensor in network_of(clf).base.state_dict().items():
        assert network_of(loaded).base.state_dict()[name].dtype == tensor.dtype
    assert np.array_equal(loaded.predict_proba(X, "b"), expected)
    rows, y = permuted(digits[0][:100].reshape(-1, *shape), 2), digits[1][:100]
    loaded.partial_fit(rows, y, task_id="c")
    torch.set_default_dtype(torch.float32)
    clf.partial_fit(rows, y, task_id="c")
    assert np.array_equal(loaded.predict_proba(X, "c"), clf.predict_proba(X, "c"))


class Casting(MLP):
    def forward(self, x):
        return super().forward(x.to(self.last.weight.dtype))


@pytest.mark.parametrize("kind", ["pickle", "safe"])
@pytest.mark.parametrize("other", [torch.bfloat16, torch.float64])
def test_a_module_of_the_default_type_comes_back_in_two_bytes(digits, kind, other, tmp_path):
    """It is built with another default; numpy has kept its weights as float32."""
    try:
        torch.set_default_dtype(other)
        net = make_net(Casting)
        clf = two_tasks(digits, ContinualClassifier(net, random_state=0))
        expected = all_predictions(digits, clf)
        open_again = saved_and_loaded(clf, kind, net, tmp_path / "model")
        torch.set_default_dtype(torch.float32)
        loaded = open_again()
    finally:
        torch.set_default_dtype(torch.float32)
    assert network_of(loaded).base.last.weight.dtype == other
    for found, before in zip(all_predictions(digits, loaded), expected, strict=True):
        assert np.array_equal(found, before)


def test_modules_of_double_weights_take_double_rows(digits, double_by_default):
    double_by_default()
    clf = two_tasks(digits, make_classifier(dtype="float64"))
    torch.set_default_dtype(torch.float32)
    assert clf.predict_proba(digits[0], "a").dtype == np.float64


# --- calls where gradients are off ----------------------------------------------------


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("make", [ContinualClassifier, make_classifier])
def test_learning_is_the_same_where_gradients_are_off(digits, off, make):
    plain = two_tasks(digits, make(random_state=0))
    with off():
        found = two_tasks(digits, make(random_state=0))
        found.partial_fit(permuted(digits[0][:150], 1), digits[1][:150], task_id="b")
        assert torch.is_inference_mode_enabled() == (off is torch.inference_mode)
        assert not torch.is_grad_enabled()
    plain.partial_fit(permuted(digits[0][:150], 1), digits[1][:150], task_id="b")
    for mine, theirs in zip(*(all_predictions(digits, c) for c in (found, plain)), strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_what_is_made_where_gradients_are_off_can_be_trained(digits, off):
    clf = two_tasks(digits, make_classifier(ZOO["stateful"].module))
    expected = clf.predict_proba(digits[0][:50], "b")
    with off():
        loaded = pickle.loads(pickle.dumps(clf))
        module = loaded.to_module("b")
        inside = loaded.predict_proba(digits[0][:50], "b")  # a network that is kept
    assert np.array_equal(inside, expected)
    assert np.array_equal(loaded.predict_proba(digits[0][:50], "b"), expected)
    module(torch.from_numpy(digits[0][:4])).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    with off():
        loaded.forget_task("a")
    for each in (clf, loaded):
        each.partial_fit(permuted(digits[0][:100], 2), digits[1][:100], task_id="c")
    assert np.array_equal(loaded.predict_proba(digits[0], "c"), clf.predict_proba(digits[0], "c"))


def test_a_module_made_in_inference_mode_is_learned(digits):
    with torch.inference_mode():
        module = MLP()
    clf = two_tasks(digits, make_classifier(module, base="pretrained"))
    assert clf.tasks_ == ["a", "b"]


# --- types that torch has not ---------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, ">f4"])
@pytest.mark.parametrize("as_dataset", [False, True])
def test_numbers_in_another_byte_order_are_the_same_numbers(digits, dtype, as_dataset):
    X, y = digits[0][:100], digits[1][:100]
    other = X.astype(">f4")

    class Rows(torch.utils.data.Dataset):
        def __init__(self, X):
            self.X = X

        def __len__(self):
            return len(self.X)

        def __getitem__(self, i):
            return self.X[i], int(y[i])

    plain = make_classifier().fit(X, y, "a").partial_fit(X[:, ::-1], y, "b")
    clf = make_classifier(dtype=dtype)
    for rows, task_id in [(other, "a"), (np.ascontiguousarray(other[:, ::-1]), "b")]:
        clf.partial_fit(*((Rows(rows), None) if as_dataset else (rows, y)), task_id=task_id)
    found = clf.predict_proba(Rows(other) if as_dataset else other, "b")
    assert np.array_equal(found, plain.predict_proba(X, "b"))


@pytest.mark.parametrize("call", ["fit", "partial_fit", "predict"])
def test_objects_are_refused_where_types_are_left_as_they_are(digits, call):
    X, y = digits[0][:60], digits[1][:60]
    clf = make_classifier(dtype=None).fit(X, y, "a")
    labels = [] if call == "predict" else [y]
    with pytest.raises(ValueError, match=r"X holds Python objects.*dtype='float32'"):
        getattr(clf, call)(X.astype(object), *labels, task_id="a")
