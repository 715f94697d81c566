"""Torch datasets in the place of arrays."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_classifier, permuted
from tests.modules import Conv2d


class Lazily(Dataset):
    """Counts the rows that are read; hides its labels unless asked to show them."""

    def __init__(self, X, y, targets=True):
        self.rows, self.labels, self.read = X, y, 0
        if targets:
            self.targets = list(y)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        self.read += 1
        return torch.from_numpy(self.rows[i]), self.labels[i]


@pytest.mark.parametrize("targets", [True, False])
def test_a_dataset_teaches_what_its_arrays_teach(digits, targets):
    X, y = digits[0][:200].reshape(-1, 1, 8, 8), digits[1][:200] + 5
    arrays, datasets = make_classifier(Conv2d), make_classifier(Conv2d)
    for task in (0, 1):
        rows = permuted(X, task)
        arrays.partial_fit(rows, y, task_id=task)
        data = Lazily(rows, y, targets)
        datasets.partial_fit(data, task_id=task)
        assert data.read >= 200
    assert datasets.classes_.tolist() == list(range(5, 15))
    for task in (0, 1):
        data = Lazily(X, y)
        expected = arrays.predict_proba(X, task)
        assert np.array_equal(datasets.predict_proba(data, task), expected)
        assert datasets.score(data, task_id=task) == arrays.score(X, y, task_id=task)
    ids = np.arange(200) % 2
    assert np.array_equal(
        datasets.predict_proba(Subset(data, range(200)), ids), arrays.predict_proba(X, ids)
    )


def test_several_tasks_strings_and_weights(digits):
    X, y = digits[0][:120], np.array([f"digit {label}" for label in digits[1][:120]])
    ids, weights = np.repeat(["a", "b"], 60), np.arange(120) + 1
    one = make_classifier(n_jobs=2).fit(Lazily(X, y), task_id=ids, sample_weight=weights)
    other = make_classifier().fit(X, y, task_id=ids, sample_weight=weights)
    for task_id in "ab":
        assert np.array_equal(one.predict(X, task_id), other.predict(X, task_id))
    assert one.sample_shape_ == (64,)
    assert one.n_features_in_ == 64


class Entries(Dataset):
    """Gives what a function makes of a row and its label."""

    def __init__(self, X, y, entry):
        self.X, self.y, self.entry = X, y, entry

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.entry(torch.from_numpy(self.X[i]), int(self.y[i]))


class Stream(IterableDataset):
    def __iter__(self):
        raise NotImplementedError


class Endless(Dataset):
    def __getitem__(self, i):
        raise NotImplementedError


UNFIT = {
    "stream": (lambda X, y: Stream(), "Stream, whose rows cannot be counted"),
    "no length": (lambda X, y: Endless(), "Endless, whose rows cannot be counted"),
    "loader": (lambda X, y: DataLoader(Entries(X, y, lambda *e: e)), "the loader's dataset"),
    "rows alone": (lambda X, y: Entries(X, y, lambda x, y: x), "are a Tensor. .*any label will do"),
    "one tensor": (lambda X, y: TensorDataset(torch.from_numpy(X)), "are a tuple of 1.*pairs"),
    "triples": (lambda X, y: Entries(X, y, lambda x, y: (x, y, y)), "are a tuple of 3.*pairs"),
    "records": (lambda X, y: Entries(X, y, lambda x, y: {"x": x, "y": y}), "are a dict of 2"),
    "dict rows": (lambda X, y: Entries(X, y, lambda x, y: ({"x": x}, y)), "rows are a dict.*one"),
    "no rows": (lambda X, y: Entries(X[:0], y, lambda *e: e), "of 0 rows"),
    "ragged": (
        lambda X, y: Entries(X, y, lambda x, y: (x[:-1] if y == 3 else x, y)),
        r"has shape \(63,\), and row 0 has \(64,\)",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_no_dataset_of_pairs_is_refused_at_the_door(name, digits):
    X, y = digits[0][:60], digits[1][:60]
    make, message = UNFIT[name]
    clf = make_classifier(net={"max_epochs": 1}).fit(X, y)
    for call in (clf.predict, clf.predict_proba, clf.score, clf.partial_fit, clf.fit):
        with pytest.raises((TypeError, ValueError), match=message):
            call(make(X, y))
    assert clf.tasks_ == [0]


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64])
@pytest.mark.parametrize("as_array", [True, False])
def test_rows_are_converted_as_arrays_are(kind, as_array, digits):
    X, y = torch.from_numpy(digits[0][:60] * 16).to(kind), digits[1][:60]
    data = Entries(X.numpy(), y, lambda x, y: (x.numpy() if as_array else x, y))
    for clf in (make_classifier(), ContinualClassifier(random_state=0)):
        found, expected = clone(clf).fit(data), clone(clf).fit(X.numpy(), y)
        assert np.array_equal(found.predict_proba(data), expected.predict_proba(X))


def test_datasets_that_do_not_fit_are_refused(digits):
    X, y = digits
    data = TensorDataset(torch.from_numpy(X[:60]), torch.from_numpy(y[:60]))
    clf = make_classifier().fit(data, task_id="a")
    with pytest.raises(ValueError, match="leave y out"):
        clf.partial_fit(data, y[:60], task_id="b")
    with pytest.raises(ValueError, match=r"rows of shape \(60,\)"):
        clf.predict(TensorDataset(torch.from_numpy(X[:9, :60]), torch.from_numpy(y[:9])))
    with pytest.raises(ValueError, match="task_column"):
        make_classifier(task_column=0).fit(data)
    assert clf.score(data) > 0.1


def test_labels_of_several_entries_are_no_labels(digits):
    X, y = digits[0][:60], np.eye(10, dtype=int)[digits[1][:60]]
    with pytest.raises(ValueError, match=r"shape \(10,\) each.* give the places of the ones"):
        make_classifier().fit(Lazily(X, y, targets=False))
