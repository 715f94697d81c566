"""Whatever comes in: it is right, or an error that names the argument, and nothing has changed.

A case is a call that is fine, with up to two of its arguments made odd. Run more of them with
``pytest -m slow tests/test_fuzz.py --hypothesis-seed=1``.
"""

import copy
import random
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import is_classifier
from torch import nn
from torch.utils.data import Dataset

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.exceptions import TrainingDivergedError
from tests.conftest import make_net, make_numbers_net

EXAMPLES, MANY = 200, 10_000
ROWS, FEATURES = 24, 5
RNG = np.random.RandomState(0)
ROWS_OF_X = RNG.randint(0, 9, (ROWS, FEATURES)).astype(np.float32)  # of any type of numbers

# --- modules ---------------------------------------------------------------------------


class Tiny(nn.Module):
    def __init__(self, n_outputs=2, end="none", hidden=6):
        super().__init__()
        self.hidden, self.norm = nn.Linear(FEATURES, hidden), nn.BatchNorm1d(hidden)
        self.last, self.end = nn.Linear(hidden, n_outputs), end
        if end == "NaN weight":
            nn.init.constant_(self.hidden.weight, torch.nan)

    def forward(self, x):
        h = torch.relu(self.hidden(x))
        y = self.last(self.norm(h) if self.end == "norm" else h)
        return ENDS.get(self.end, lambda x, y: y)(x, y)


ENDS = {
    "dropout": lambda x, y: y + 0 * nn.functional.dropout(x, training=True).sum(),
    "by norm": lambda x, y: y / x.norm(dim=1, keepdim=True).clamp_min(1e-6),
    "exp": lambda x, y: y * torch.exp(x.mean(1, keepdim=True)),
    "dict": lambda x, y: {"y": y},
    "tuple": lambda x, y: (y, x),
    "empty": lambda x, y: (),
    "none": lambda x, y: y,
    "nothing": lambda x, y: None,
    "axes": lambda x, y: y[..., None],
    "one axis": lambda x, y: y[:, 0],
    "NaN": lambda x, y: y * torch.nan,
    "infinite": lambda x, y: y + torch.inf,
    "labels": lambda x, y: y.argmax(1),
    "complex": lambda x, y: y * 1j,
    "double": lambda x, y: y.double(),
    "half": lambda x, y: y.bfloat16(),
    "detached": lambda x, y: y.detach(),
    "raises": lambda x, y: y + torch.ones(3, 7),
}
MODULES = [{"end": end} for end in ("none", "norm", "by norm", "exp", "half")]
ODD_MODULES = [{"end": end} for end in ENDS if end not in ("none", "by norm", "exp", "half")]
ODD_MODULES += [{"hidden": n} for n in (0, -1, 1.5, "6", None)] + [{"nonsense": 1}]
ODD_MODULES += [{"end": "NaN weight"}]


# --- what comes in, by name: a function of the rows, or labels, and a number that is drawn


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], self.targets[int(i)]


def with_number(X, number):
    X = X.astype(np.float64)
    X[7, 2] = number
    return X


X_FORMS = {
    "array": lambda X, z: X,
    "double": lambda X, z: X.astype(np.float64),
    "ints": lambda X, z: X.astype(np.int64),
    "small ints": lambda X, z: X.astype(np.uint8),
    "half": lambda X, z: X.astype(np.float16),
    "fortran": lambda X, z: np.asfortranarray(X),
    "strided": lambda X, z: np.repeat(X, 2, axis=0)[::2],
    "backwards": lambda X, z: X[::-1].copy()[::-1],
    "read only": lambda X, z: np.frombuffer(X.tobytes(), np.float32).reshape(X.shape),
    "big endian": lambda X, z: X.astype(">f4"),
    "objects": lambda X, z: X.astype(object),
    "list": lambda X, z: X.tolist(),
    "tuples": lambda X, z: [tuple(row) for row in X.tolist()],
    "list of arrays": lambda X, z: list(X),
    "table": lambda X, z: pd.DataFrame(X),
    "nullable table": lambda X, z: pd.DataFrame(X).convert_dtypes(),
    "table with an index": lambda X, z: pd.DataFrame(X, index=np.arange(len(X)) * 7),
    "tensor": lambda X, z: torch.from_numpy(X.copy()),
    "double tensor": lambda X, z: torch.from_numpy(X.astype(np.float64)),
    "tensor with gradient": lambda X, z: torch.from_numpy(X.copy()).requires_grad_(),
    "dataset": lambda X, z: Rows(X),
    "dataset of tensors": lambda X, z: Rows(torch.from_numpy(X.copy())),
    "dataset of lists": lambda X, z: Rows(X.tolist()),
}
ODD_X = {
    "a number": with_number,
    "a number in a dataset": lambda X, z: Rows(with_number(X, z)),
    "a number in a tensor": lambda X, z: torch.from_numpy(with_number(X, z)),
    "a number in a table": lambda X, z: pd.DataFrame(with_number(X, z)),
    "NaN": lambda X, z: with_number(X, np.nan),
    "minus infinity": lambda X, z: with_number(X, -np.inf),
    "large": lambda X, z: with_number(X, 3e38),
    "too large": lambda X, z: with_number(X, 1e300),
    "NaN in a dataset": lambda X, z: Rows(with_number(X, np.nan)),
    "missing in a table": lambda X, z: pd.DataFrame(with_number(X, np.nan)).convert_dtypes(),
    "None in a list": lambda X, z: [[None, *row[1:]] for row in X.tolist()],
    "fewer features": lambda X, z: X[:, :3],
    "more features": lambda X, z: np.hstack([X, X]),
    "fewer rows": lambda X, z: X[:5],
    "no rows": lambda X, z: X[:0],
    "no features": lambda X, z: X[:, :0],
    "one axis": lambda X, z: X[0],
    "three axes": lambda X, z: X[:, :, None],
    "a number alone": lambda X, z: z,
    "nothing": lambda X, z: None,
    "strings": lambda X, z: [["a"] * FEATURES] * len(X),
    "texts": lambda X, z: ["a"] * len(X),
    "dict": lambda X, z: {"a": X},
    "set": lambda X, z: {1, 2},
    "generator": lambda X, z: (row for row in X),
    "complex": lambda X, z: X * 1j,
    "dates": lambda X, z: X.astype("M8[D]"),
    "ragged": lambda X, z: [[1.0], *X.tolist()[1:]],
    "sparse": lambda X, z: csr_matrix(X),
    "large ints": lambda X, z: [[10**400] * FEATURES] * len(X),
    "table of dates": lambda X, z: pd.DataFrame(X).assign(a=pd.Timestamp("2020-01-01")),
    "table of strings": lambda X, z: pd.DataFrame(X).assign(a="a"),
    "empty dataset": lambda X, z: Rows(X[:0]),
    "ragged dataset": lambda X, z: Rows([*X[:-1], X[-1, :2]]),
    "dataset of strings": lambda X, z: Rows([["a"] * FEATURES] * len(X)),
    "dataset of None": lambda X, z: Rows([None] * len(X)),
}
LABELS = {
    "ints": [0, 1],
    "strings": ["no", "yes"],
    "large": [2**62, 2**62 + 1],
    "negative": [-1, 1],
    "floats": [0.0, 2.0],
    "bools": [False, True],
    "unsigned": [2**63, 2**63 + 1],
}
Y_FORMS = {
    "list": list,
    "array": np.array,
    "objects": lambda y: np.array(y, dtype=object),
    "series": pd.Series,
    "categories": lambda y: pd.Series(pd.Categorical(y)),
    "polars": pl.Series,
    "column": lambda y: np.array(y)[:, None],
}
ODD_Y = {
    "short": lambda y, z: y[:-1],
    "none": lambda y, z: None,
    "a number": lambda y, z: [z, *y[1:]],
    "NaN": lambda y, z: [np.nan, *y[1:]],
    "one": lambda y, z: y[:1] * len(y),
    "one alone": lambda y, z: y[0],
    "mixed": lambda y, z: ["a", 1] * (len(y) // 2),
    "bytes": lambda y, z: [b"a\xff", b"b"] * (len(y) // 2),
    "fractions": lambda y, z: np.linspace(0, 1, len(y)),
    "two axes": lambda y, z: np.eye(len(y))[:, :3],
    "three axes": lambda y, z: np.zeros((len(y), 1, 1)),
    "ragged": lambda y, z: [[1], [1, 2]] * (len(y) // 2),
    "NUL": lambda y, z: ["x", "x\0"] * (len(y) // 2),
    "mixed signs": lambda y, z: [-1, 2**63] * (len(y) // 2),
    "huge": lambda y, z: [10**400, 1] * (len(y) // 2),
    "too large": lambda y, z: np.full(len(y), 1e300),
    "complex": lambda y, z: [1j, 2j] * (len(y) // 2),
    "dates": lambda y, z: np.arange(len(y)).astype("M8[D]"),
    "dict": lambda y, z: {"a": 1},
    "text": lambda y, z: "ab",
    "generator": lambda y, z: (x for x in y),
    "surrogate": lambda y, z: ["\ud800", "a"] * (len(y) // 2),
}
ID_FORMS = {
    "list": list,
    "array": lambda ids: np.array(ids, dtype=None if len({*map(type, ids)}) == 1 else object),
    "objects": lambda ids: np.array(ids, dtype=object),
    "series": lambda ids: pd.Series(ids, dtype=object),
    "tuple": tuple,
}
ODD_IDS = {
    "short": lambda ids, z: ids[:-1],
    "a number": lambda ids, z: z,
    "numbers": lambda ids, z: [z] * len(ids),
    "missing": lambda ids, z: [None, *ids[1:]],
    "NaN": lambda ids, z: [*ids[:-1], np.nan],
    "bytes": lambda ids, z: [b"\xff", *ids[1:]],
    "one of bytes": lambda ids, z: b"a",
    "two axes": lambda ids, z: np.array([ids, ids], dtype=object),
    "bools": lambda ids, z: [True] * len(ids),
    "fractions": lambda ids, z: np.linspace(0, 1, len(ids)),
    "unknown": lambda ids, z: "unknown",
    "large floats": lambda ids, z: np.full(len(ids), 2.0**60),
    "dict": lambda ids, z: {"a": 1},
    "ragged": lambda ids, z: [["a"], *ids[1:]],
    "generator": lambda ids, z: (x for x in ids),
    "surrogate": lambda ids, z: "\ud800",
    "empty": lambda ids, z: "",
    "complex": lambda ids, z: 1j,
    "table": lambda ids, z: pd.DataFrame({"a": ids}),
    "no ids": lambda ids, z: [],
}
WEIGHTS = {
    "none": lambda z: None,
    "ones": lambda z: np.ones(ROWS),
    "ints": lambda z: list(range(1, ROWS + 1)),
    "large": lambda z: np.full(ROWS, 1.7e308),
    "tiny": lambda z: np.full(ROWS, 5e-324),
    "one": lambda z: 3.0,
    "series": lambda z: pd.Series(np.ones(ROWS), index=np.arange(ROWS) + 5),
    "bools": lambda z: np.ones(ROWS, dtype=bool),
}
ODD_WEIGHTS = {
    "a number": lambda z: np.r_[z, np.ones(ROWS - 1)],
    "NaN": lambda z: np.r_[np.nan, np.ones(ROWS - 1)],
    "infinite": lambda z: np.r_[np.inf, np.ones(ROWS - 1)],
    "negative": lambda z: -np.ones(ROWS),
    "zero": lambda z: np.zeros(ROWS),
    "short": lambda z: np.ones(ROWS - 1),
    "two axes": lambda z: np.ones((ROWS, 2)),
    "strings": lambda z: ["a"] * ROWS,
    "text": lambda z: "balanced",
    "dict": lambda z: {0: 1},
    "complex": lambda z: np.ones(ROWS) * 1j,
    "dates": lambda z: np.arange(ROWS).astype("M8[D]"),
    "missing": lambda z: [None] * ROWS,
    "huge": lambda z: [10**400] * ROWS,
    "ragged": lambda z: [[1.0]] + [1.0] * (ROWS - 1),
}
PARAMETERS = {
    "warmup_epochs": [0, 1, 0.5],
    "approximation_rate": [0.1, 1],
    "max_rank": [1, 100],
    "l1_penalty": [0, 1.0],
    "growth_budget": [0.01, 10],
    "retrain_epochs": [0, 1],
    "precision": ["half", "nf4"],
    "importance": ["empirical", "kfac", "uniform", "gradient", "activation", "hessian"],
    "base": ["pretrained", "joint"],
    "start": ["warm-up", "head", "transfer"],
    "joint_sampling": [0, 1],
    "least_gain": [0, 0.1],
    "cache_bytes": [0],
    "convolution": ["channel"],
    "random_state": [7],
    "task_column": [None],
}
ODD_VALUES = [-1, np.nan, np.inf, -np.inf, "a", None, 1j, [], {}, object, 10**400, b"a"]
DTYPES = [*ODD_VALUES, "float64", "int64", "M8[D]", "complex64"]

# What an error may call the argument that is odd.
NAMES = {
    "X": r"\bX\b|\brows?\b|features|Complex data|numbers of samples",
    "y": r"\by\b|\by_true\b|labels?\b|class|targets?\b|Complex data|numbers of samples",
    "task_id": r"task.ids?\b|Task id",
    "sample_weight": r"(?i)sample.?weight",
    "parameter": None,  # its own name
    "module": r"(?i)module|network|\bnet\b|CrossEntropyLoss|gradient",
}
NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 2.0**53, 1e300, 3e38, -1e-300]))


@st.composite
def cases(draw):
    """Names of what comes in; up to two arguments of them are odd."""
    odd = draw(st.lists(st.sampled_from(list(NAMES)), max_size=2, unique=True))

    def one_of(name, fine, odd_ones):
        return draw(st.sampled_from(list(odd_ones if name in odd else fine)))

    return {
        "face": draw(st.sampled_from(["classifier", "regressor"])),
        "call": draw(st.sampled_from(["predict", "score", "partial_fit", "fit"])),
        "odd": odd,
        "number": draw(NUMBERS),
        "labels": draw(st.sampled_from(list(LABELS))),
        "X": one_of("X", X_FORMS, ODD_X),
        "y": one_of("y", Y_FORMS, ODD_Y),
        "task_id": one_of("task_id", ID_FORMS, ODD_IDS),
        "tasks": draw(st.sampled_from([["a"], ["a", 7], [7, "new"], ["new"], ["new", 2**70]])),
        "sample_weight": one_of("sample_weight", WEIGHTS, ODD_WEIGHTS),
        "parameter": draw(st.sampled_from([*PARAMETERS, "dtype"] if odd else list(PARAMETERS))),
        "value": draw(st.integers(0, 99)),
        "module": draw(st.sampled_from(ODD_MODULES if "module" in odd else MODULES)),
    }


FITTED = {}


def model_of(face):
    """A model of two tasks, each time with a shell of its own around what was learned."""
    if face not in FITTED:
        FITTED[face] = blank(face, {}).fit(ROWS_OF_X, np.arange(ROWS) // 2 % 2, ["a", 7] * 12)
    return copy.copy(FITTED[face])


def blank(face, module):
    settings = {f"module__{name}": value for name, value in module.items()}
    settings |= {"max_epochs": 1, "batch_size": 16, "train_split": None}
    if face == "classifier":
        return ContinualClassifier(make_net(Tiny, **settings), random_state=0)
    net = make_numbers_net(Tiny, module__n_outputs=1, **settings)
    return ContinualRegressor(net, random_state=0)


def arguments_of(case, model):
    """The arguments of a call, and whether its parameters were changed."""
    z, odd, odd_id = case["number"], case["odd"], "task_id" in case["odd"]
    learning = case["call"] in ("fit", "partial_fit")
    tasks = case["tasks"] if learning else [t for t in case["tasks"] if t in ("a", 7)] or ["a"]
    ids = (tasks * ROWS)[:ROWS]
    labels = LABELS[case["labels"] if learning and case["call"] == "fit" else "ints"]
    if not is_classifier(model):
        labels = [0.5, 2.5]
    y = [labels[i // 2 % 2] for i in range(ROWS)]  # both in every task
    X = (ODD_X if "X" in odd else X_FORMS)[case["X"]](ROWS_OF_X, z)
    y = ODD_Y[case["y"]](y, z) if "y" in odd else Y_FORMS[case["y"]](y)
    if isinstance(X, Rows) and "y" in odd:
        X = X.rows  # a dataset of labels that it cannot give would fail by itself
    arguments = {
        "X": X,
        "task_id": ODD_IDS[case["task_id"]](ids, z) if odd_id else ID_FORMS[case["task_id"]](ids),
    }
    if isinstance(X, Rows):
        X.targets = y
        if case["call"] != "predict":
            arguments["y"] = None
    elif case["call"] != "predict":
        arguments["y"] = y
    if case["call"] != "predict":
        weights = (ODD_WEIGHTS if "sample_weight" in odd else WEIGHTS)[case["sample_weight"]]
        arguments["sample_weight"] = weights(z)
    return arguments


def parameter_of(case):
    name = case["parameter"]
    values = DTYPES if name == "dtype" else ODD_VALUES
    values = values if "parameter" in case["odd"] else PARAMETERS.get(name, ["float32"])
    return {name: values[case["value"] % len(values)]}


def around_us():
    """What belongs to everybody: generators, and what torch is set to."""
    return (
        torch.get_rng_state().numpy().tobytes(),
        str(np.random.get_state()),
        random.getstate(),
        torch.is_grad_enabled(),
        torch.backends.cudnn.enabled,
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
    )


def check(case):
    model = model_of(case["face"]) if case["call"] != "fit" else blank(case["face"], case["module"])
    parameter = parameter_of(case)
    model.set_params(**parameter)
    params, state = model.get_params(deep=False), dict(vars(model))
    arguments = arguments_of(case, model)
    before, known = around_us(), known_predictions(case["face"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = getattr(model, case["call"])(**arguments)
    except (ValueError, TypeError, TrainingDivergedError) as error:
        check_error(case, error, parameter)
        result = None
        assert vars(model).keys() == state.keys()
        assert all(value is state[name] for name, value in vars(model).items())
    finally:
        assert around_us() == before
    for name, value in model.get_params(deep=False).items():
        assert value is params[name]
    if result is not None:
        check_result(case, model, arguments, result)
    for task_id, expected in known.items():
        assert np.array_equal(FITTED[case["face"]].predict(ROWS_OF_X, task_id), expected)


def known_predictions(face):
    """What the tasks predict that every case shares."""
    model_of(face)
    return {task_id: FITTED[face].predict(ROWS_OF_X, task_id) for task_id in ("a", 7)}


def check_error(case, error, parameter):
    odd = [name for name in case["odd"] if name != "module" or case["call"] == "fit"]
    text = f"{error} {' '.join(getattr(error, '__notes__', []))}"
    assert len(text) < 1500
    if isinstance(error, TrainingDivergedError):
        assert odd, text
        return
    names = [NAMES[name] or rf"\b{next(iter(parameter))}\b" for name in odd]
    if parameter.get("start") in ("head", "transfer") and case["module"] != {"end": "none"}:
        names.append("cannot have start=")  # of a module whose outputs are not those of its head
    assert any(re.search(name, text) for name in names), text


def check_result(case, model, arguments, result):
    if case["call"] == "score":
        assert isinstance(result, float)
        assert result <= 1
        return
    if case["call"] == "predict":
        check_predictions(case, model, arguments, result)
        return
    assert result is model
    for task_id in model.tasks_:
        rows = model.predict(ROWS_OF_X, task_id)
        assert rows.shape[0] == ROWS
        known = case["call"] == "partial_fit" and task_id in ("a", 7)
        touched = case["odd"] or task_id in case["tasks"]
        if known and not touched:
            assert np.array_equal(rows, FITTED[case["face"]].predict(ROWS_OF_X, task_id))
        if is_classifier(model):
            assert set(rows.tolist()) <= set(model.task_classes_[task_id].tolist())
            p = model.predict_proba(ROWS_OF_X, task_id)
            double = case["call"] == "fit" and case["module"] == {"end": "double"}
            assert p.dtype == (np.float64 if double else np.float32)
            assert np.allclose(p.sum(axis=1), 1, atol=1e-4)
        else:
            assert np.isfinite(rows).all()


def check_predictions(case, model, arguments, result):
    if case["odd"] or "half" in case["X"]:
        assert len(result) == len(arguments["X"])
        return
    ids = np.array(list(arguments["task_id"]), dtype=object)
    expected = FITTED[case["face"]].predict(ROWS_OF_X, ids)
    assert np.array_equal(result, expected)  # whatever holds the rows and the ids
    order = np.random.RandomState(1).permutation(ROWS)
    there = FITTED[case["face"]].predict(ROWS_OF_X[order], ids[order])
    same = there == expected[order] if is_classifier(model) else np.isclose(there, expected[order])
    assert np.all(same)
    assert result.shape == (ROWS,)


QUIET = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}


@settings(max_examples=EXAMPLES, derandomize=True, **QUIET)
@given(cases())
def test_what_comes_in_is_right_or_named(case):
    note(case)
    check(case)


@pytest.mark.slow
@settings(max_examples=MANY, **QUIET)
@given(cases())
def test_many_more_come_in(case):
    note(case)
    check(case)
