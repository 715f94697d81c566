"""Errors that were obscure: each names what was passed, and what to do."""

from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, RandomSampler, TensorDataset

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.exceptions import InvalidNetworkError, MissingTaskError, UnknownTaskError
from sklearn_halrp.metrics import accuracy_matrix
from sklearn_halrp.model_selection import TaskStratifiedKFold, task_scorer
from tests.conftest import make_classifier, make_net, make_regressor
from tests.modules import MLP
from tests.test_promises import assert_untouched, snapshot

X = np.random.RandomState(0).rand(40, 64).astype(np.float32)
Y = np.arange(40) % 4
BIG = 2**62


class Wide(nn.Module):
    def __init__(self, hidden=8, n_classes=4):
        super().__init__()
        self.hidden, self.last = nn.Linear(64, hidden), nn.Linear(hidden, n_classes)

    def forward(self, x):
        return self.last(torch.relu(self.hidden(x)))


Outputs = namedtuple("Outputs", ["logits", "hidden"])


class Several(MLP):
    """Gives more than one output."""

    def __init__(self, n_classes=10, form=tuple):
        super().__init__(n_classes)
        self.form = form

    def forward(self, x):
        outputs = super().forward(x)
        if self.form is None:
            return ()
        return Outputs(outputs, x) if self.form is Outputs else (outputs, {"hidden": x})


class OfFirst(nn.CrossEntropyLoss):
    def forward(self, outputs, y):
        return super().forward(outputs[0], y)


MODULES = {
    "width 0": (Wide, {"module__hidden": 0}, "hidden.weight is empty"),
    "width -1": (Wide, {"module__hidden": -1}, "could not be built.*negative dimension"),
    "width 2.5": (Wide, {"module__hidden": 2.5}, "could not be built"),
    "tuple": (Several, {}, "gives a tuple of 2, .* CrossEntropyLoss takes one tensor"),
    "named": (Several, {"module__form": Outputs}, "gives a Outputs of 2"),
    "empty": (Several, {"module__form": None}, "gave the type tuple. Return the tensor"),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_cannot_serve_is_said(name):
    module, settings, message = MODULES[name]
    with pytest.raises(InvalidNetworkError, match=message):
        make_classifier(module, net=settings).fit(X, Y)


def test_several_outputs_are_welcome_where_the_loss_takes_them():
    clf = make_classifier(Several, net={"criterion": OfFirst}).fit(X, Y)
    assert clf.predict(X).shape == (40,)


@pytest.mark.parametrize("make", [make_classifier, make_regressor])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool"])
def test_another_type_of_rows_than_was_learned_is_said(make, dtype):
    model = make(Wide).fit(X, Y, "a").set_params(dtype=dtype)
    tensors = snapshot(model)
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y).float())
    for call in (
        lambda: model.predict(X, "a"),
        lambda: model.predict(dataset, "a"),
        lambda: model.partial_fit(X, Y, "b"),
        lambda: model.partial_fit(X, Y, "a"),
    ):
        with pytest.raises(ValueError, match=rf"rows of the type {dtype}: .*set_params\(dtype="):
            call()
    assert_untouched(tensors, snapshot(model))
    model.set_params(dtype="float32").partial_fit(X, Y, "b")


@pytest.mark.parametrize("dtype", ["nonsense", "complex64", object, "M8[D]", "U5", 3.5])
def test_a_type_that_has_no_numbers_is_refused(dtype):
    with pytest.raises(ValueError, match="dtype must be a type of numbers"):
        make_classifier(dtype=dtype).fit(X, Y)


def test_a_number_without_an_entry_is_said():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.mix, self.last = nn.Embedding(9, 4), nn.Linear(4, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.last(torch.relu(self.mix(self.words(x).mean(1))))

    rows = (X * 9).astype(int)
    clf = make_classifier(Words, dtype="int64").fit(rows, Y, "a")
    rows[30, 3] = 9
    for call in (lambda: clf.predict(rows, "a"), lambda: clf.partial_fit(rows, Y, "b")):
        with pytest.raises(ValueError, match="X has a number for which the network has no entry"):
            call()


def test_other_arguments_of_the_module_are_refused_and_equal_ones_taken():
    clf = make_classifier(Wide, net={"module__hidden": 8}).fit(X, Y, "a")
    clf.set_params(net__module__hidden=9)
    with pytest.raises(ValueError, match=r"net__module__hidden was changed since.*fit"):
        clf.partial_fit(X, Y, "b")
    clf.set_params(net=make_net(Wide)).partial_fit(X, Y, "b")  # its default is 8
    clf.set_params(net=make_net(Wide, module__hidden=9)).fit(X, Y, "a")


def broken(layers, held_out):
    raise ZeroDivisionError("of its own")


def test_an_importance_that_raises_is_named_with_its_task():
    clf = make_classifier(importance=broken)
    with pytest.raises(ZeroDivisionError, match="of its own") as caught:
        clf.fit(X, Y, np.repeat(["a", "b"], 20))
    notes = " ".join(caught.value.__notes__)
    assert "importance=broken" in notes
    assert "task 'b'" in notes


@pytest.mark.parametrize(
    "name", ["least_gain", "l1_penalty", "l2_penalty", "prune_threshold", "factor_lr_scale"]
)
def test_an_int_that_is_larger_than_any_float_is_refused_by_name(name):
    clf = make_classifier(**{name: 10**400})
    with pytest.raises(ValueError, match=f"'{name}' parameter of ContinualClassifier must be"):
        clf.fit(X, Y)


def test_names_are_listed_in_their_order():
    listed = "'fisher', 'empirical', 'kfac', 'uniform', 'gradient', 'activation', 'hessian'"
    with pytest.raises(ValueError, match=f"'importance' .* {{{listed}}}"):
        make_classifier(importance="fischer").fit(X, Y)
    for name, values in {
        "base": "'first', 'joint', 'pretrained'",
        "precision": "'full', 'half', 'int8', 'nf4'",
    }.items():
        with pytest.raises(ValueError, match=f"'{name}' .* {{{values}}}"):
            make_classifier(**{name: "other"}).fit(X, Y)


def test_a_sampler_given_as_its_class_is_named():
    with pytest.raises(ValueError, match="has a sampler, a RandomSampler, made for"):
        make_classifier(net={"iterator_train__sampler": RandomSampler}).fit(X, Y)


def test_no_error_names_a_class_that_is_private():
    one = make_classifier().fit(X, Y).for_task()
    for call in (
        lambda: ContinualClassifier(growth_budgt=1),
        lambda: ContinualRegressor(growth_budgt=1),
        lambda: ContinualClassifier(None, "first"),
        lambda: one.predict(X, "a"),
        lambda: one.predict(X, task_id="a"),
        lambda: one.get_params(1, 2),
        lambda: ContinualClassifier().for_task(1, 2),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert "ContinualEstimator" not in str(caught.value)
        assert "OneTask" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.asarray, list, pd.Series])
def test_weights_in_the_place_of_ids_are_said(kind):
    weights = kind(np.linspace(0.1, 2, 40))
    with pytest.raises(TypeError, match=r"Are these weights.*sample_weight="):
        make_classifier().fit(X, Y, weights)


WEIGHTS = {
    "strings": ["a"] * 40,
    "string": "balanced",
    "dict": {0: 1.0, 1: 2.0},
    "complex": np.ones(40) * 1j,
    "dates": np.full(40, np.datetime64("2020-01-01")),
    "large": [10**400] * 40,
    "missing": [None] * 40,
    "negative": -np.ones(40),
    "short": np.ones(39),
    "square": np.ones((40, 2)),
    "zero": np.zeros(40),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.filterwarnings("error")
def test_weights_that_are_none_are_said_at_every_door(name):
    clf = make_classifier().fit(X, Y)
    for call in (
        lambda: clf.partial_fit(X, Y, sample_weight=WEIGHTS[name]),
        lambda: clf.score(X, Y, sample_weight=WEIGHTS[name]),
        lambda: task_scorer("accuracy")(clf, X, Y, None, WEIGHTS[name]),
    ):
        with pytest.raises((TypeError, ValueError), match=r"(?i)sample.weight|samples"):
            call()


@pytest.mark.parametrize("average", ["rows", "tasks"])
def test_weights_whose_sum_is_infinite_count_in_proportion(average):
    ids, weights = np.repeat(["a", "b"], 20), np.tile([1.0, 3.0], 20)
    clf = make_classifier().fit(X, Y, ids)
    scorer = task_scorer("accuracy", average=average)
    expected = scorer(clf, X, Y, ids, weights)
    assert scorer(clf, X, Y, ids, weights * 2.0**1021) == pytest.approx(expected)


NO_NUMBERS = {
    "large": [10**400] * 40,
    "ragged": [[1.0], [1.0, 2.0]] * 20,
    "dict": {"a": 1},
    "number": 5,
    "set": {1, 2},
    "generator": (i for i in range(40)),
    "complex": [1j] * 40,
    "none": None,
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_targets_that_are_no_numbers_are_said_at_every_door(name):
    reg = make_regressor().fit(X, X[:, 0])
    for call in (reg.partial_fit, reg.score):
        with pytest.raises((TypeError, ValueError), match=r"\by\b"):
            call(X, NO_NUMBERS[name])


COLUMNS = {
    "polars": lambda values: pytest.importorskip("polars").Series(values),
    "pandas": pd.Series,
    "nullable": lambda values: pd.Series(values).convert_dtypes(),
    "array": lambda values: pd.array(values),
    "list": list,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_are_taken_exactly_or_refused(column):
    make = COLUMNS[column]
    y, ids = make([BIG, BIG + 1] * 20), make(["x"] * 20 + ["x\0"] * 20)
    clf = make_classifier().fit(X, y, ids)
    found = clf.predict(X, ids).tolist()
    assert clf.score(X, y, task_id=ids) == np.mean([a == b for a, b in zip(found, y, strict=True)])
    assert clf.classes_.tolist() == [BIG, BIG + 1]
    assert clf.tasks_ == ["x", "x\0"]
    with pytest.raises(ValueError, match="cannot end in a NUL"):
        make_classifier().fit(X, make(["x", "x\0"] * 20))
    with pytest.raises(ValueError, match="10 of 40 labels in y are missing"):
        make_classifier().fit(X, make([BIG, BIG + 1, BIG, None] * 10))
    refused = "no task id|came as float64"  # as pandas gives it, without a type for missing ints
    with pytest.raises((TypeError, ValueError), match=refused):
        make_classifier().fit(X, Y, make([BIG, BIG + 1, BIG, None] * 10))


def test_a_column_of_ids_in_a_list_is_exact_and_bytes_are_said():
    rows = [[BIG + i % 2, *row] for i, row in enumerate(X.tolist())]
    clf = make_classifier(task_column=0).fit(rows, Y)
    assert clf.tasks_ == [BIG, BIG + 1]
    mixed = [[b"\xff" if i % 2 else "a", *row] for i, row in enumerate(X.tolist())]
    for call in (
        lambda: make_classifier(task_column=0).fit(mixed, Y),
        lambda: TaskStratifiedKFold(2, task_column=0).split(mixed, Y),
        lambda: accuracy_matrix([1, 2], [[1], [1, 2]], task_id=["a", b"\xff"]),
    ):
        with pytest.raises(TypeError, match=r"A task id is an int or a string; got b'\\xff'"):
            call()


def test_half_a_character_is_no_id():
    for ids in ("\ud83d", ["\ud83d"] * 40):
        with pytest.raises(ValueError, match=r"Task id .* is no text"):
            make_classifier().fit(X, Y, ids)


def test_an_accuracy_matrix_counts_labels_and_ids_exactly():
    ids = ["a", "a"]
    assert accuracy_matrix([BIG, BIG + 1], [[BIG, BIG]], task_id=ids).tolist() == [[0.5]]
    for y, predicted, tasks, message in [
        ([BIG, BIG + 1], np.array([BIG, BIG], dtype=float), ids, r"y_preds\[0\] came as float64"),
        (np.array([BIG, BIG + 1], dtype=float), [BIG, BIG], ids, "y_true came as float64"),
        ([1, np.nan], [1, 1], ids, "1 of 2 labels in y_true are missing"),
        ([1, 2], [1, None], ids, r"1 of 2 labels in y_preds\[0\] are missing"),
        ([1, 2], [1, 2], np.array([BIG, BIG + 1], dtype=float), "Task id .* came as float64"),
        ([1, 2], [1, 2], ["a", np.nan], "no task id"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            accuracy_matrix(y, [predicted], task_id=tasks)


def test_what_is_declared_is_a_list():
    with pytest.raises(ValueError, match=r"classes must be a list of labels; got shape \(1, 4\)"):
        make_classifier().partial_fit(X, Y, "a", classes=[[0, 1, 2, 3]])


@pytest.mark.parametrize("rows", [X * 1j, X.astype("M8[D]"), X.astype("m8[D]")])
def test_rows_that_are_no_numbers_are_said(rows):
    clf = make_classifier().fit(X, Y)
    for call in (lambda: clf.partial_fit(rows, Y), lambda: clf.predict(rows)):
        with pytest.raises((TypeError, ValueError), match=r"\bX\b"):
            call()


# --- what fuzzing found ------------------------------------------------------------------


def test_predicting_from_a_dataset_draws_no_number():
    clf = make_classifier().fit(X, Y)
    before = torch.get_rng_state()
    clf.predict(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)))
    assert torch.equal(torch.get_rng_state(), before)


class Listed(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], 0


ODD_ROWS = {
    "large ints": [[10**400] * 64] * 40,
    "strings": [["a"] * 64] * 40,
    "nothing": None,
    "a number": 3.0,
}


@pytest.mark.parametrize("name", ODD_ROWS)
def test_what_scikit_learn_and_numpy_refuse_is_named(name):
    clf = make_classifier().fit(X, Y)
    rows = ODD_ROWS[name]
    calls = [lambda: clf.partial_fit(rows, Y), lambda: clf.predict(rows)]
    if isinstance(rows, list):
        calls += [lambda: clf.predict(Listed(rows))]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"\bX\b"):
            call()


def test_labels_and_targets_with_three_axes_are_not_called_rows():
    y = np.zeros((40, 1, 1))
    with pytest.raises(ValueError, match="y must have one label for each row; got shape"):
        make_classifier().fit(X, y)
    reg = make_regressor().fit(X, X[:, 0])
    for call in (reg.partial_fit, reg.score):
        with pytest.raises(ValueError, match="y must have one number for each row, or several"):
            call(X, y)


@pytest.mark.parametrize("value", [-1, "a", b"a", None, np.nan])
def test_a_bound_on_memory_that_is_none_is_said_when_it_is_used(value):
    clf = make_classifier().fit(X, Y).set_params(cache_bytes=value)
    with pytest.raises(ValueError, match="cache_bytes"):
        clf.predict(X)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_score_of_targets_that_are_no_measure_is_refused(value):
    reg = make_regressor().fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"\by (contains|has)"):
        reg.score(X, np.r_[value, np.ones(39)])


# --- ids that are not known --------------------------------------------------------------

NAMES = ["acme", "Globex", 17, "customer-00005", "3"]


@pytest.fixture(scope="module")
def served():
    ids = np.array(NAMES, dtype=object).repeat(40)
    return make_classifier(net={"max_epochs": 1}).fit(np.tile(X, (5, 1)), np.tile(Y, 5), ids)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("Acme", "'acme'"),
        (" acme ", "'acme'"),
        ("globex", "'Globex'"),
        ("customer-0005", "'customer-00005'"),
        ("17", "17, an int"),
        ("17.0", "17, an int"),
        (3, "'3', a string"),
        ("initech", None),
        (18, None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_an_unknown_id_names_the_one_that_is_meant_and_no_other(served, asked, meant):
    for call in (
        lambda: served.predict(X, asked),
        lambda: served.predict(X, ["acme"] * 39 + [asked]),
        lambda: served.score(X, Y, task_id=asked),
        lambda: served.for_task(asked),
        lambda: served.to_module(asked),
        lambda: served.forget_task(asked),
    ):
        with pytest.raises(UnknownTaskError, match="5 tasks are known") as caught:
            call()
        _, said = str(caught.value).split(" 5 tasks are known.")
        assert said == ("" if meant is None else f" There is a task {meant}.")


def test_a_missing_id_names_no_customer(served):
    for call in (
        lambda: served.predict(X),
        lambda: served.score(X, Y),
        lambda: served.partial_fit(X, Y),
        served.for_task,
        served.to_module,
        lambda: task_scorer("accuracy")(served, X, Y),
    ):
        with pytest.raises(MissingTaskError, match="5 tasks are known") as caught:
            call()
        assert [name for name in NAMES if repr(name) in str(caught.value)] == []


@pytest.mark.parametrize("ids", [["a", "b"], ("a",), {"a"}, np.array(["a"]), pd.Series(["a"])])
def test_a_call_for_one_task_takes_one_id(served, ids):
    for call in (served.forget_task, served.for_task, served.to_module):
        with pytest.raises(TypeError, match=r"one id per call\.$"):
            call(ids)


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT])
def test_a_missing_id_of_a_call_without_rows_does_not_speak_of_rows(served, value):
    with pytest.raises(TypeError, match=r"Say which task is meant\.$") as caught:
        served.forget_task(value)
    assert "row" not in str(caught.value)


def test_a_whole_float_is_the_int(served):
    gaps = pd.Series([17, None, 17]).dropna()  # floats, as pandas keeps ints beside gaps
    expected = served.predict(X[:2], 17)
    assert np.array_equal(served.predict(X[:2], gaps), expected)
    assert np.array_equal(served.predict(X[:2], 17.0), expected)
    assert served.for_task(17.0).task_id == 17


# --- columns of tables -------------------------------------------------------------------


def table(**columns):
    return pd.DataFrame(X, columns=[f"f{i}" for i in range(64)]).assign(**columns)


@pytest.mark.parametrize("change", ["order", "names", "missing"])
def test_names_of_columns_are_what_an_error_on_them_begins_with(change):
    clf = make_classifier().fit(table(), Y)
    other = {
        "order": table().iloc[:, ::-1],
        "names": table().rename(columns=str.upper),
        "missing": table().iloc[:, :60],
    }[change]
    for call in (lambda: clf.predict(other), lambda: clf.partial_fit(other, Y)):
        with pytest.raises(ValueError, match=r"^The feature names should match"):
            call()


NO_COLUMNS = {
    "dates": pd.date_range("2024-01-01", periods=40),
    "texts": ["red", "blue"] * 20,
    "some text": [1.0, "blue"] * 20,
    "categories": pd.Categorical(["red", "blue"] * 20),
    "lists": [[1.0]] * 40,
    "durations": pd.to_timedelta(range(40), unit="D"),
    "complex": np.ones(40) * 1j,
}


@pytest.mark.parametrize("name", NO_COLUMNS)
def test_a_column_that_has_no_numbers_is_named(name):
    clf = make_classifier().fit(table(), Y)
    rows = table(f7=NO_COLUMNS[name])
    message = r"X must be an array of numbers, .* column 'f7' has the type \w+"
    for call in (lambda: clf.predict(rows), lambda: clf.partial_fit(rows, Y)):
        with pytest.raises((TypeError, ValueError), match=message) as caught:
            call()
        assert "blue" not in str(caught.value)


def test_a_column_of_other_tables_is_named():
    polars = pytest.importorskip("polars")
    columns = {name: table()[name].tolist() for name in table().columns}
    rows = polars.DataFrame({**columns, "f7": ["red", "blue"] * 20})
    with pytest.raises((TypeError, ValueError), match="column 'f7' has the type String"):
        make_classifier().fit(rows, Y)
