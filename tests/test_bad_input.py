"""Every mistake gets an error that says what to do, and changes nothing."""

from collections import UserDict

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from skorch import NeuralNetRegressor
from skorch.callbacks import Checkpoint, LoadInitState
from skorch.dataset import Dataset
from skorch.helper import SliceDict, predefined_split
from torch import nn
from torch.utils.data import DataLoader

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import (
    HalrpError,
    InvalidNetworkError,
    MissingTaskError,
    TrainingDivergedError,
    UnknownTaskError,
)
from sklearn_halrp.model_selection import TaskStratifiedKFold
from tests.conftest import make_classifier, make_net
from tests.inside import network_of
from tests.modules import MLP, Conv2d

X = np.random.RandomState(0).rand(40, 64).astype(np.float32)
Y = np.arange(40) % 4


@pytest.fixture
def clf(digits):
    rows, labels = digits
    return make_classifier().fit(rows[:80], labels[:80], task_id=np.repeat(["a", "b"], 40))


MISTAKES = {
    "nan": ({"X": np.where(X > 0.99, np.nan, X)}, "NaN"),
    "infinite": ({"X": np.where(X > 0.99, np.inf, X)}, "infinity"),
    "features": ({"X": X[:, :60]}, "60 features, but .* expecting 64"),
    "image": ({"X": X.reshape(-1, 64, 1)}, r"\(64, 1\).*\(64,\)"),
    "labels": ({"y": Y[:30]}, "inconsistent numbers of samples"),
    "no labels": ({"y": None}, "y to be passed"),
    "one class": ({"y": np.zeros(40)}, "'new' has one class only: 0.0"),
    "continuous": ({"y": np.linspace(0, 1, 40)}, "continuous"),
    "ids": ({"task_id": ["new"] * 39}, r"40 rows, task_id has shape \(39,\)"),
    "ids in 2-D": ({"task_id": np.zeros((40, 1), dtype=int)}, r"shape \(40, 1\)"),
    "fractional id": ({"task_id": 0.5}, "int or a string; got 0.5"),
    "boolean id": ({"task_id": True}, "int or a string; got True"),
    "no id in ids": ({"task_id": ["new"] * 39 + [None]}, "no task id: got None"),
    "NaN in ids": ({"task_id": np.r_[np.zeros(39), np.nan]}, "no task id: got .*nan"),
    "long float32 ids": (
        {"task_id": np.float32([20240001, 20240002] * 20)},
        "2024000. .*float32.*16777216.*merged",
    ),
    "no id": ({"task_id": None}, "2 tasks are known.*task_id of a known task"),
    "undeclared": ({"classes": [0, 1]}, "not in classes: 2, 3"),
    "no label in classes": ({"classes": [0, 1, 2, 3, np.nan]}, "NaN"),
    "continuous classes": ({"classes": [0, 1, 2, 3, 4.5]}, "continuous"),
    "mixed": ({"y": [0, "a"] * 20}, "'new' mix numbers and strings: 0, 'a'"),
    "other type": ({"task_id": "a", "y": Y.astype(str)}, "mix numbers and strings"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_partial_fit_refuses_and_changes_nothing(clf, digits, name):
    arguments, message = MISTAKES[name]
    state = dict(vars(clf))
    before = {t: clf.predict_proba(digits[0], task_id=t) for t in clf.tasks_}
    with pytest.raises((ValueError, TypeError), match=message):
        clf.partial_fit(**{"X": X, "y": Y, "task_id": "new"} | arguments)
    assert vars(clf) == state
    assert clf.tasks_ == ["a", "b"]
    for task_id, probabilities in before.items():
        assert np.array_equal(clf.predict_proba(digits[0], task_id=task_id), probabilities)


def no_names(columns):
    """A table that gives its columns themselves, and no names."""
    return type("Table", (), {"columns": columns})()


ONE = "put what the module takes into one array"
HALVES = {"left": X[:, :32], "right": X[:, 32:]}
TEXTS = ["one", "two"] * 20
NO_ROWS = {
    "dict": (HALVES, f"X is a dict, and must be one array.*DataFrame.*{ONE}"),
    "dict of tensors": ({k: torch.from_numpy(v) for k, v in HALVES.items()}, f"dict.*{ONE}"),
    "SliceDict": (SliceDict(**HALVES), f"X is a SliceDict.*{ONE}"),
    "UserDict": (UserDict(HALVES), f"X is a UserDict.*{ONE}"),
    "arrays of several shapes": ([X[:, :32], X[:, 28:]], f"several shapes.*{ONE}"),
    "arrays of one shape": (
        [X[:, :32], X[:, 32:]],
        rf"list of 2 arrays of shape \(40, 32\), .* 2 rows.*{ONE}",
    ),
    "tuple": ((X[:, :32], X[:, 32:]), rf"tuple of 2 arrays of shape \(40, 32\).*{ONE}"),
    "tensors": (
        [torch.from_numpy(X), torch.from_numpy(X)],
        rf"2 arrays of shape \(40, 64\).*{ONE}",
    ),
    "tables": ([pd.DataFrame(X), pd.DataFrame(X)], rf"2 arrays of shape \(40, 64\).*{ONE}"),
    "one in a list": ([X], rf"list of 1 arrays of shape \(40, 64\).*{ONE}"),
    "images": (
        [X.reshape(40, 8, 8), X.reshape(40, 8, 8)],
        rf"2 arrays of shape \(40, 8, 8\).*{ONE}",
    ),
    "records": ([{"a": 1.0}] * 40, r"rows that are a dict.*pandas.DataFrame\(X\)"),
    "array of records": (np.array([{"a": 1.0}] * 40), "rows that are a dict"),
    "texts": (TEXTS, "rows that are strings.*vectorizer"),
    "array of texts": (np.array(TEXTS), "rows that are strings"),
    "series of texts": (pd.Series(TEXTS), "rows that are strings"),
    "text": ("one", "rows that are strings"),
    "bytes": ([b"one"] * 40, "rows that are strings"),
    "set": ({1, 2}, "X is a set, and must be an array"),
    "generator": ((row for row in X), "X is a generator, and must be an array"),
}


@pytest.mark.parametrize("name", NO_ROWS)
@pytest.mark.parametrize("column", [None, 3, "site"])
def test_what_is_not_rows_of_numbers_is_refused_and_changes_nothing(clf, name, column):
    rows, message = NO_ROWS[name]
    clf.set_params(task_column=column)
    ids = None if column is not None else "a"
    state = dict(vars(clf))
    for call in (
        lambda: clf.partial_fit(rows, Y, ids),
        lambda: clf.fit(rows, Y, ids),
        lambda: clf.predict(rows, ids),
        lambda: clf.score(rows, Y, task_id=ids),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    if column is not None:
        with pytest.raises((TypeError, ValueError), match=message):
            TaskStratifiedKFold(2, task_column=column).split(rows, Y)
    assert vars(clf) == state


@pytest.mark.parametrize("kind", [list, tuple])
def test_images_in_a_list_are_rows(kind):
    images = X.reshape(40, 1, 8, 8)
    expected = make_classifier(Conv2d).fit(images, Y).predict_proba(images)
    clf = make_classifier(Conv2d).fit(kind(images), Y)
    assert np.array_equal(clf.predict_proba(kind(images)), expected)
    with pytest.raises(ValueError, match=r"40 rows, and y has 39 labels"):
        clf.partial_fit(kind(images), Y[:39])


def test_errors_show_no_data():
    clf = make_classifier(task_column="site")
    with pytest.raises(TypeError, match="The columns of X, a Table, have no names") as caught:
        clf.fit(no_names(list(X.T)), Y)
    assert len(str(caught.value)) < 100
    clf = make_classifier()
    for call in (
        lambda: clf.fit(X, Y, {i: "a" for i in range(1000)}),
        lambda: clf.fit(X, [["a" * 1000], 3] * 20),
        lambda: clf.fit(X, ["a" * 1000, 3] * 20),
        lambda: clf.fit(X, dict.fromkeys(range(1000))),
        lambda: clf.fit({"a": X}, Y),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert len(str(caught.value)) < 500


def test_one_bad_task_of_many_stops_all(clf):
    with pytest.raises(ValueError, match="'z' has one class only"):
        clf.partial_fit(X, np.where(np.arange(40) < 20, Y, 1), np.repeat(["n", "z"], 20))
    assert clf.tasks_ == ["a", "b"]


@pytest.mark.parametrize("name", ["nan", "infinite", "features", "image", "ids", "fractional id"])
def test_predict_refuses_the_same(clf, name):
    arguments, message = MISTAKES[name]
    call = {"X": X, "task_id": "a"} | arguments
    for method in (clf.predict, clf.predict_proba):
        with pytest.raises((ValueError, TypeError), match=message):
            method(**call)


def test_unknown_ids_are_said(clf):
    for ids in ("zz", ["a"] * 39 + ["zz"]):
        with pytest.raises(UnknownTaskError, match=r"^Unknown task id 'zz'\. 2 tasks are known\.$"):
            clf.predict(X, task_id=ids)
    with pytest.raises(UnknownTaskError, match="0"):
        clf.score(X, Y, task_id=0)


def test_a_missing_id_is_never_guessed(clf):
    for method in (clf.predict, clf.predict_proba):
        with pytest.raises(MissingTaskError, match="2 tasks are known"):
            method(X)
    with pytest.raises(MissingTaskError):
        clf.score(X, Y)


def test_to_module_asks_for_its_own_argument(clf):
    with pytest.raises(MissingTaskError, match=r"to_module\(task_id\)\.$"):
        clf.to_module()


def test_with_one_task_the_id_may_be_left_out(digits):
    rows, labels = digits
    clf = make_classifier().partial_fit(rows[:60], labels[:60])
    clf.partial_fit(rows[:60], labels[:60])
    assert clf.tasks_ == [0]
    assert clf.report_[0]["visits"] == 2
    assert np.array_equal(clf.predict(rows), clf.predict(rows, task_id=0))


def test_before_learning_there_is_nothing_to_ask():
    clf = make_classifier()
    for call in (lambda: clf.predict(X), lambda: clf.tasks_, clf.report):
        with pytest.raises(NotFittedError):
            call()
    with pytest.raises(TypeError, match="growth_budgt"):
        ContinualClassifier(growth_budgt=1)


class Restless(nn.Linear):
    """Normalises its weight in place whenever it is applied, and draws it anew."""

    def __init__(self):
        super().__init__(64, 10)

    def forward(self, x):
        with torch.no_grad():
            self.weight.mul_(0.9)
        return super().forward(x)


class Averaging(MLP):
    """Keeps a running mean in a tensor that it does not register."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(64)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return super().forward(x - self.mean)


class Label(torch.Tensor):
    pass


class Marked(MLP):
    def __init__(self):
        super().__init__()
        self.last.weight = nn.Parameter(torch.randn(10, 24).as_subclass(Label))


class ByHand(MLP):
    """Looks its weights up in the list of parameters."""

    def forward(self, x):
        return super().forward(x) + 0 * dict(self.body.named_parameters())["0.weight"].sum()


class Observing(MLP):
    """Changes a buffer that counts, also when it only predicts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return super().forward(x) * self.seen


class LazyNorm(MLP):
    def __init__(self):
        super().__init__()
        self.norm = nn.LazyBatchNorm1d(affine=False)

    def forward(self, x):
        return super().forward(self.norm(x))


NETS = {
    "a module": (MLP(), TypeError, r"NeuralNetClassifier\(Module"),
    "a regressor": (NeuralNetRegressor(MLP), TypeError, "NeuralNetClassifier"),
    "a module class": (MLP, TypeError, r"got MLP.*NeuralNetClassifier\(Module"),
    "logits for probabilities": (
        make_net(criterion=nn.NLLLoss),
        InvalidNetworkError,
        "CrossEntropyLoss",
    ),
    "a class": (type(make_net()), TypeError, "must be an instance"),
    "nothing to perturb": (
        make_net(nn.Linear, module__in_features=64, module__out_features=4),
        InvalidNetworkError,
        "nothing to perturb",
    ),
    "nothing to train": (make_net(nn.Flatten), InvalidNetworkError, "empty parameter list"),
    "no linear layer": (
        make_net(nn.LayerNorm, module__normalized_shape=64),
        InvalidNetworkError,
        "No torch.nn.Linear",
    ),
    "another shape": (make_net(Conv2d), InvalidNetworkError, r"rows of shape \(64,\)"),
    "missing arguments": (make_net(nn.Linear), InvalidNetworkError, "module__hidden"),
    "fitted": (make_net().initialize(), ValueError, "fitted already.*base='pretrained'"),
    "loading": (
        make_net(callbacks=[LoadInitState(Checkpoint())]),
        ValueError,
        "LoadInitState",
    ),
    "one held-out set": (
        make_net(train_split=predefined_split(Dataset(X, Y))),
        ValueError,
        "same rows for every task",
    ),
    "weights that change": (make_net(Restless), InvalidNetworkError, "changes weight whenever"),
    "hidden state": (make_net(Averaging), InvalidNetworkError, "register_buffer"),
    "tensor subclass": (make_net(Marked), InvalidNetworkError, "last.weight is a Label"),
    "weights by hand": (make_net(ByHand), InvalidNetworkError, "weights that a task has perturb"),
    "other outputs each time": (make_net(Observing), InvalidNetworkError, "something else each"),
    "lazy buffers": (make_net(LazyNorm), InvalidNetworkError, "norm.running_mean has no shape"),
    "wrong arguments": (make_net(module__n_layers=3), InvalidNetworkError, "n_layers"),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_that_cannot_serve_is_refused(name):
    net, error, message = NETS[name]
    clf = ContinualClassifier(net, random_state=0)
    with pytest.raises(error, match=message):
        clf.fit(X, Y)
    assert vars(clf) == {**clf.get_params(deep=False)}


ENDS = {
    "softmax": (nn.Softmax(dim=1), nn.CrossEntropyLoss, UserWarning, "Leave the softmax"),
    "relu": (nn.ReLU(), nn.CrossEntropyLoss, UserWarning, "as after a ReLU.* end in its linear"),
    "logarithm": (nn.LogSoftmax(dim=1), nn.NLLLoss, InvalidNetworkError, "log-probabilities, pass"),
    "one hidden too few": (nn.Identity(), nn.CrossEntropyLoss, InvalidNetworkError, "Add a hidden"),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_that_does_not_fit_the_loss_is_said(name):
    end, criterion, kind, message = ENDS[name]
    hidden = [nn.Linear(64, 64), nn.Tanh()] if "hidden" not in name else []
    module = nn.Sequential(*hidden, nn.Linear(64, 4), end)
    clf = make_classifier(module, net={"criterion": criterion})
    expect = pytest.warns if issubclass(kind, Warning) else pytest.raises
    with expect(kind, match=message):
        clf.fit(X, Y)


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid(), nn.LogSoftmax(dim=1), nn.Softplus()])
def test_other_ends_are_nobodys_business(end):
    module = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4), end)
    assert make_classifier(module).fit(X, Y).tasks_ == [0]


@pytest.mark.filterwarnings("ignore")  # torch deprecates both ways
@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (torch.jit.script, "is TorchScript"),
        (lambda module: torch.compile(module, backend="eager"), "compiled already"),
        (
            lambda module: torch.ao.quantization.quantize_dynamic(
                module, {nn.Linear}, dtype=torch.qint8
            ),
            "is quantised",
        ),
    ],
)
def test_modules_in_fixed_form_are_refused(convert, message):
    with pytest.raises(InvalidNetworkError, match=message):
        make_classifier(convert(MLP())).fit(X, Y)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("start", "cold"),
        ("start", None),
        ("warmup_epochs", -1),
        ("warmup_epochs", 1.0),  # an epoch, or all of them?
        ("warmup_epochs", 0.0),
        ("retrain_epochs", -1),
        ("retrain_epochs", 1.0),
        ("approximation_rate", 0.0),
        ("approximation_rate", 1.5),
        ("max_rank", 0),
        ("l1_penalty", -1.0),
        ("l2_penalty", -1.0),
        ("factor_lr_scale", 0),
        ("growth_budget", 0),
        ("growth_budget", 60),
        ("convolution", "both"),
        ("importance", "guess"),
        ("random_state", "x"),
        ("head", 3),
    ],
)
def test_parameters_out_of_range_are_refused(parameter, value):
    with pytest.raises(ValueError, match=parameter):
        make_classifier(**{parameter: value}).fit(X, Y)


def test_another_module_on_the_same_base_is_refused(clf):
    before = clf.predict_proba(X, "a")
    clf.set_params(net=make_net(Conv2d))
    with pytest.raises(ValueError, match=r"The base is a MLP, and net has .* Conv2d"):
        clf.partial_fit(X, Y, task_id="new")
    assert np.array_equal(clf.predict_proba(X, "a"), before)
    clf.set_params(net=make_net(lr=1e-3)).partial_fit(X, Y, task_id="new")


def test_a_forgotten_id_does_not_train_the_last_customer_s_task(digits):
    X, y = digits
    clf = make_classifier().partial_fit(X[:60], y[:60], task_id="acme")
    before = clf.predict_proba(X[:60])
    with pytest.raises(MissingTaskError, match=r"task_id of a known task .* new one for a new"):
        clf.partial_fit(X[:60, ::-1], y[:60] % 2)
    assert np.array_equal(clf.predict_proba(X[:60]), before)
    without = make_classifier().partial_fit(X[:60], y[:60]).partial_fit(X[60:120], y[60:120])
    assert without.tasks_ == [0]


def test_a_default_network_has_nothing_pretrained(digits):
    with pytest.raises(ValueError, match="net=None builds one with random weights"):
        ContinualClassifier(base="pretrained").fit(digits[0][:60], digits[1][:60])


def test_held_out_rows_without_a_finite_loss_are_an_error(digits):
    rows, labels = digits

    def split(dataset, y, **kwargs):
        return dataset, Dataset(np.full((5, 64), 3e38, dtype=np.float32), np.zeros(5, dtype=int))

    clf = make_classifier().fit(rows[:60], labels[:60], task_id="a")
    clf.set_params(net__train_split=split)
    with pytest.raises(TrainingDivergedError, match="held-out loss is not finite"):
        clf.partial_fit(rows[:60], labels[:60], task_id="b")
    assert clf.tasks_ == ["a"]


def test_what_is_learned_cannot_be_changed_from_outside(clf, digits):
    before = clf.predict(digits[0], "b")
    clf.task_classes_["b"][:] = 0
    clf.report_["b"]["seconds"].clear()
    clf.report_["b"]["layers"].clear()
    assert np.array_equal(clf.predict(digits[0], "b"), before)
    assert clf.report_["b"]["seconds"]
    assert clf.report_["b"]["layers"]


def test_small_slips_are_answered(clf, digits):
    with pytest.raises(ValueError, match="net__lr is a parameter of a net, and net is None"):
        ContinualClassifier().set_params(net__lr=0.1)
    assert ContinualClassifier().set_params(net=make_net(), net__lr=0.1).net.lr == 0.1
    for name, call in {
        "score": lambda: clf.score(X, Y, "a"),
        "fit": lambda: clf.fit(X, Y, 0, Y),
    }.items():
        with pytest.raises(TypeError, match=rf"{name}\(\) takes .* positional arguments"):
            call()  # third are weights elsewhere in scikit-learn, and ids here
    with pytest.raises(TypeError, match="loader's dataset"):
        clf.partial_fit(DataLoader(Dataset(X, Y)), task_id="a")


def test_all_errors_have_one_root():
    assert issubclass(UnknownTaskError, HalrpError)
    assert issubclass(MissingTaskError, ValueError)


def test_a_head_may_be_named(digits):
    rows, labels = digits
    clf = make_classifier(head="last").fit(rows[:60], labels[:60])
    assert network_of(clf).roles.head == "last"
    with pytest.raises(InvalidNetworkError, match=r"'body.0', 'body.2', 'last'"):
        make_classifier(head="output").fit(rows[:60], labels[:60])


def test_the_type_of_X_can_be_chosen(digits):
    class Tokens(nn.Module):
        def __init__(self, n_classes=10):
            super().__init__()
            self.words = nn.Embedding(17, 4)
            self.mix = nn.Linear(256, 16)
            self.last = nn.Linear(16, n_classes)

        def forward(self, x):
            return self.last(torch.relu(self.mix(self.words(x).flatten(1))))

    rows, labels = digits
    tokens = (rows * 16).astype(np.int64)
    clf = make_classifier(Tokens, net={"max_epochs": 10}, dtype="int64")
    clf.fit(tokens[:400], labels[:400], task_id=np.repeat([0, 1], 200))
    assert clf.score(tokens[400:], labels[400:], task_id=1) > 0.5
    with pytest.raises(InvalidNetworkError, match="float32"):
        make_classifier(Tokens).fit(tokens[:60], labels[:60])
