"""Torch datasets in the place of arrays."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

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
