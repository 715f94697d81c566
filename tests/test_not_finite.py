"""What is not finite: never learned, never served as an answer, and said where it comes from."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from sklearn_halrp.exceptions import InvalidNetworkError, TrainingDivergedError
from tests.conftest import make_classifier, make_regressor
from tests.modules import MLP
from tests.test_promises import assert_untouched, snapshot

X = np.random.RandomState(0).rand(60, 64).astype(np.float32)
Y = np.arange(60) % 4
FACES = {"classifier": (make_classifier, Y), "regressor": (make_regressor, X[:, 0])}


class Exponential(nn.Module):
    """Its outputs are infinite when its weights are large, and no smaller for being finite."""

    def __init__(self, n_classes=4, scale=1.0):
        super().__init__()
        self.hidden, self.scale = nn.Linear(64, 16), scale
        self.last = nn.Linear(16, n_classes)

    def forward(self, x):
        return self.last(torch.exp(self.hidden(x)))


class ByNorm(MLP):
    """An empty row has no direction, whatever the weights."""

    def forward(self, x):
        return super().forward(x / x.norm(dim=1, keepdim=True))


STEP = {"lr": 1e6, "max_epochs": 1, "optimizer": torch.optim.SGD, "batch_size": -1}


def of(face):
    make, y = FACES[face]
    outputs = {} if face == "classifier" else {"module__n_classes": 1}
    return make, y, outputs


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("held_out", [True, False])
def test_a_base_that_predicts_nan_is_not_kept(face, held_out):
    make, y, outputs = of(face)
    split = {} if held_out else {"train_split": None}
    model = make(Exponential, net={**STEP, **outputs, **split})
    of_rows = "held-out" if held_out else "training"
    says = rf"'a' diverged in the base phase: all weights are finite, .* {of_rows} rows.*net__lr"
    with pytest.raises(TrainingDivergedError, match=says):
        model.fit(X, y, "a")
    assert vars(model) == model.get_params(deep=False)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("known", [True, False])
def test_a_task_that_predicts_nan_is_not_kept(face, known):
    make, y, outputs = of(face)
    model = make(Exponential, net={**outputs, "train_split": None}, warmup_epochs=0)
    model.fit(X, y, np.repeat(["a", "b"], 30))
    state, tensors, before = dict(vars(model)), snapshot(model), model.predict(X, "b")
    model.set_params(**{f"net__{name}": value for name, value in STEP.items()})
    says = r"task '\w' diverged in the low-rank phase: all weights are finite, .* training rows"
    with pytest.raises(TrainingDivergedError, match=says):
        model.partial_fit(X, y, "b" if known else "c")
    assert vars(model) == state
    assert_untouched(tensors, snapshot(model))
    assert np.array_equal(model.predict(X, "b"), before)


def test_rows_without_a_prediction_from_the_start_forbid_no_task():
    rows = X.copy()
    rows[45] = 0

    def split(dataset, y, **kwargs):
        return Subset(dataset, range(40)), Subset(dataset, range(40, 60))

    clf = make_classifier(ByNorm, net={"train_split": split}).fit(rows, Y)
    assert np.isnan(clf.predict_proba(rows)).any(axis=1).nonzero()[0].tolist() == [45]


class Rows(Dataset):
    """Pairs of a row, converted, and a label."""

    def __init__(self, rows, labels, convert):
        self.rows, self.labels, self.convert = rows, labels, convert

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.convert(self.rows[i]), self.labels[i]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1j])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, np.ndarray.tolist])
@pytest.mark.filterwarnings("error")
def test_a_dataset_is_refused_where_its_array_is(face, value, convert):
    make, y, _ = of(face)
    model = make().fit(X, y, "a")
    state, tensors = dict(vars(model)), snapshot(model)
    rows = X.astype(type(value))
    rows[43, 7] = value
    dataset, first = Rows(rows, y, convert), 0 if value == 1j else 43  # all rows are complex
    for call, array in {
        "predict": lambda: model.predict(rows, "a"),
        "score": lambda: model.score(rows, y, task_id="a"),
        "partial_fit": lambda: model.partial_fit(rows, y, "b"),
        "fit": lambda: clone(model).fit(rows, y),
    }.items():
        with pytest.raises(ValueError, match=r"X contains|Complex data not supported"):
            array()
        ids = {} if call == "fit" else {"task_id": "b" if call == "partial_fit" else "a"}
        method = getattr(clone(model) if call == "fit" else model, call)
        with pytest.raises(ValueError, match=rf"[Rr]ow {first} of X (contains|has)"):
            method(dataset, **ids)
    assert vars(model) == state
    assert_untouched(tensors, snapshot(model))


def test_a_number_that_is_large_and_finite_is_no_infinity():
    rows = np.zeros((60, 64), dtype=np.float32)
    rows[:, :2] = 3e38  # their sum is infinite
    clf = make_classifier().fit(X, Y)
    probability = clf.predict_proba(TensorDataset(torch.from_numpy(rows), torch.from_numpy(Y)))
    assert np.array_equal(probability, clf.predict_proba(rows), equal_nan=True)


def test_a_row_without_a_prediction_has_no_label():
    clf = make_classifier(ByNorm).fit(X, Y, np.repeat(["a", "b"], 30))
    rows, ids = X[:9].copy(), ["a", "b", "b"] * 3
    rows[[4, 6]] = 0
    says = "no finite numbers for 2 of the 9 rows of X, the first of them row 4, so {} has no"
    with pytest.raises(ValueError, match=says.format("predict")):
        clf.predict(rows, ids)
    with pytest.raises(ValueError, match=says.format("score")):
        clf.score(rows, Y[:9], task_id=ids)
    one = clf.for_task("a")
    with pytest.raises(ValueError, match="row 4, so predict has no answer"):
        one.predict(rows)
    broken = np.isnan(clf.predict_proba(rows, ids)).any(axis=1)
    assert broken.nonzero()[0].tolist() == [4, 6]
    assert np.isnan(clf.predict_log_proba(rows, ids)).any(axis=1).tolist() == broken.tolist()
    fine = [0, 1, 2, 3, 5, 7, 8]
    clf.predict(rows[fine], [ids[i] for i in fine])


def test_a_row_without_a_prediction_has_no_number_either():
    reg = make_regressor(ByNorm).fit(X, X[:, 0])
    rows = X[:9].copy()
    rows[4] = 0
    assert np.isnan(reg.predict(rows)).nonzero()[0].tolist() == [4]
    with pytest.raises(ValueError, match="1 of the 9 rows of X, the first of them row 4, so score"):
        reg.score(rows, rows[:, 0])


class WithSpare(MLP):
    """Has weights and a buffer that no output depends on, and a mask."""

    def __init__(self, number=torch.nan):
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.register_buffer("unset", torch.full((2,), torch.nan))
        self.mask = nn.Parameter(torch.tensor([0.0, -torch.inf]), requires_grad=False)
        with torch.no_grad():
            self.spare.weight[0, 0] = number


@pytest.mark.parametrize("name", ["body.0.weight", "body.0.bias", "last.weight"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("base", ["first", "pretrained"])
def test_weights_that_are_not_finite_from_the_start_are_named(name, number, base):
    module = MLP()
    module.get_parameter(name).data.view(-1)[0] = number
    with pytest.raises(InvalidNetworkError, match=f"module's {name} is not finite before"):
        make_classifier(module, base=base).fit(X, Y)


def test_weights_that_are_never_used_must_be_finite_and_constants_need_not():
    with pytest.raises(InvalidNetworkError, match=r"module's spare\.weight is not finite before"):
        make_classifier(WithSpare).fit(X, Y)
    clf = make_classifier(WithSpare, net={"module__number": 1.0})
    clf.fit(X, Y, np.repeat(["a", "b"], 30)).partial_fit(X, Y, "b")
    assert clf.to_module("b").unset.isnan().all()


class Infinite(MLP):
    def forward(self, x):
        return super().forward(x) + torch.inf


@pytest.mark.parametrize("face", FACES)
def test_outputs_that_are_infinite_from_the_start_are_said(face):
    make, y, outputs = of(face)
    with pytest.raises(InvalidNetworkError, match="outputs for row 0 are NaN or infinite before"):
        make(Infinite, net=outputs).fit(X, y)
