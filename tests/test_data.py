"""The same rows, whatever holds them: compared with an array of float32, ints and task_id."""

import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch.utils.data import Dataset

from tests.conftest import make_classifier, permuted, polars_with_names
from tests.modules import Conv2d

N = 120
IDS = np.repeat([0, 1], N // 2)
NAMES = [f"pixel {i}" for i in range(64)]


@pytest.fixture(scope="module")
def data(digits):
    """Whole numbers, which every type holds."""
    return digits[0][:N] * 16, digits[1][:N]


@pytest.fixture(scope="module")
def plain(data):
    return make_classifier().fit(*data, IDS)


def polars():
    return pytest.importorskip("polars")


TYPES = "float16 float32 float64 >f8 int8 int16 int32 int64 uint8 uint16 uint32 uint64 object"
TENSORS = "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8"
HOLDERS = {
    "list": np.ndarray.tolist,
    "by columns": np.asfortranarray,
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "tensor with gradient": lambda X: torch.from_numpy(X).requires_grad_(),
    "pandas": lambda X: pd.DataFrame(X, columns=NAMES),
    "pandas float64": lambda X: pd.DataFrame(X.astype(float), columns=NAMES),
    "pandas Int16": lambda X: pd.DataFrame(X, columns=NAMES).astype("Int16"),
    "polars": lambda X: polars_with_names().DataFrame(X, schema=NAMES),
    "polars UInt8": lambda X: polars_with_names().DataFrame(X.astype(np.uint8), schema=NAMES),
    **{name: lambda X, name=name: X.astype(name) for name in TYPES.split()},
    **{
        f"tensor {name}": lambda X, name=name: torch.from_numpy(X).to(getattr(torch, name))
        for name in TENSORS.split()
    },
}


@pytest.mark.parametrize("name", HOLDERS)
def test_rows_may_be_held_by_anything(data, plain, name):
    X, y = data
    rows, expected = HOLDERS[name](X), plain.predict_proba(X, IDS)
    clf = make_classifier().fit(rows, y, IDS)
    assert np.array_equal(clf.predict_proba(rows, IDS), expected)
    if name.startswith("pandas"):
        rows = rows.set_axis(range(64), axis=1)  # scikit-learn warns of names that are new
    elif name.startswith("polars"):
        rows = rows.to_numpy()
    assert np.array_equal(plain.predict_proba(rows, IDS), expected)
    named = name.startswith(("pandas", "polars"))
    assert list(getattr(clf, "feature_names_in_", [])) == (NAMES if named else [])
    assert clf.n_features_in_ == 64


@pytest.mark.parametrize("name", ["bool", "uint8", "float64", "tensor"])
def test_images_keep_their_axes(data, name):
    X, y = (data[0] > 8).reshape(-1, 1, 8, 8), data[1]
    rows = torch.from_numpy(X) if name == "tensor" else X.astype(name)
    found, wanted = make_classifier(Conv2d).fit(rows, y, IDS), make_classifier(Conv2d)
    wanted.fit(X.astype(np.float32), y, IDS)
    assert found.sample_shape_ == (1, 8, 8)
    assert np.array_equal(found.predict_proba(rows, IDS), wanted.predict_proba(X, IDS))


COLUMNS = {
    "list": np.ndarray.tolist,
    "tensor": torch.from_numpy,
    "pandas": pd.Series,
    "pandas Int64": lambda values: pd.Series(values, dtype="Int64"),
    "polars": lambda values: polars().Series(values),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_labels_ids_and_weights_may_be_held_by_anything(data, name):
    (X, y), hold = data, COLUMNS[name]
    weights = 1 + np.arange(N) % 3
    wanted = make_classifier().fit(X, y, IDS, sample_weight=weights)
    found = make_classifier().fit(X, hold(y), hold(IDS), sample_weight=hold(weights))
    assert found.tasks_ == wanted.tasks_
    assert found.score(X, hold(y), task_id=hold(IDS)) == wanted.score(X, y, task_id=IDS)
    for clf in (found, wanted):
        assert clf.classes_.tolist() == list(range(10))
    found.partial_fit(X, hold(y), hold(IDS), sample_weight=hold(weights))
    wanted.partial_fit(X, y, IDS, sample_weight=weights)
    assert np.array_equal(found.predict_proba(X, hold(IDS)), wanted.predict_proba(X, IDS))


@pytest.mark.parametrize("name", ["pandas", "pandas categories", "polars", "polars categories"])
def test_strings_may_be_held_by_anything(data, name):
    X, y, ids = (
        data[0],
        np.array([f"digit {i}" for i in data[1]]),
        np.array(["north", "south"])[IDS],
    )
    hold = {
        "pandas": pd.Series,
        "pandas categories": lambda values: pd.Series(values, dtype="category"),
        "polars": lambda values: polars().Series(values.tolist()),
        "polars categories": lambda v: polars().Series(v.tolist(), dtype=polars().Categorical),
    }[name]
    wanted = make_classifier().fit(X, y, ids)
    found = make_classifier().fit(X, hold(y), hold(ids))
    assert found.tasks_ == ["north", "south"]
    assert found.classes_.tolist() == wanted.classes_.tolist()
    assert np.array_equal(found.predict(X, hold(ids)), wanted.predict(X, ids))
    assert found.score(X, hold(y), task_id=hold(ids)) == wanted.score(X, y, task_id=ids)


def test_sparse_rows_are_refused(data):
    X, y = data
    clf = make_classifier().fit(X, y)
    for rows in (sparse.csr_matrix(X), sparse.csc_array(X)):
        calls = [
            lambda rows=rows: make_classifier().fit(rows, y),
            lambda rows=rows: make_classifier(task_column=0).fit(rows, y),
            lambda rows=rows: clf.partial_fit(rows, y),
            lambda rows=rows: clf.predict(rows),
            lambda rows=rows: clf.score(rows, y),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=r"[Ss]parse data.*\.toarray\(\)"):
                call()
    with pytest.raises(TypeError, match=r"to_dense\(\)"):
        clf.predict(torch.from_numpy(X).to_sparse())


def test_columns_in_another_order_are_refused(data):
    X, y = data
    frame = pd.DataFrame(X, columns=NAMES)
    clf = make_classifier().fit(frame, y, "a")
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        clf.partial_fit(frame[NAMES[::-1]], y, "b")
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        clf.predict(X)
    assert not hasattr(clf, "set_output")  # of transformers alone


class Streamed(Dataset):
    """Makes rows when they are asked for, and counts those that are still held."""

    def __init__(self, X, y):
        self.X, self.y, self.held, self.most = X, y, 0, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        row = self.X[i].copy()
        self.held += 1
        self.most = max(self.most, self.held)
        weakref.finalize(row, self.forget)
        return row, self.y[i]

    def forget(self):
        self.held -= 1


def test_of_a_dataset_no_more_than_a_few_batches_are_held(digits):
    X, y = digits
    clf = make_classifier(net={"batch_size": 16, "max_epochs": 2})
    for task in (0, 1):
        data = Streamed(permuted(X, task), y)
        data.targets = y
        clf.partial_fit(data, task_id=task)
        clf.predict(data, task_id=task)
        assert 16 <= data.most <= 64
