import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skorch.dataset import Dataset
from torch.utils.data import DataLoader, Subset

from tests.conftest import make_classifier, make_net
from tests.inside import around, drawn_batches, sliced_batches
from tests.modules import MLP


@given(
    n_rows=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    depth=st.integers(0, 2),
    labelled=st.booleans(),
)
def test_the_batches_are_those_of_a_loader(n_rows, batch_size, shuffle, drop_last, depth, labelled):
    X = np.arange(n_rows * 6, dtype=np.float32).reshape(n_rows, 2, 3)
    dataset = Dataset(X, np.arange(n_rows) if labelled else None)
    for _ in range(depth):
        dataset = Subset(dataset, np.arange(len(dataset))[::-1][: max(1, len(dataset) // 2)])
    settings = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
    torch.manual_seed(0)
    expected, drawn = list(DataLoader(dataset, **settings)), torch.rand(1)
    torch.manual_seed(0)
    found = list(drawn_batches(dataset, **settings))
    assert torch.equal(torch.rand(1), drawn)
    _assert_equal(found, expected)
    if not shuffle and not drop_last:
        _assert_equal(list(sliced_batches(dataset, batch_size=batch_size)), expected)


def _assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def test_models_are_those_of_torchs_own_loading(digits):
    X, y = digits
    ids = np.repeat([0, 1], 150)
    clf = make_classifier().fit(X[:300], y[:300], ids)
    own = {"iterator_train__num_workers": 0, "iterator_valid__num_workers": 0}
    slow = make_classifier(net=own).fit(X[:300], y[:300], ids)
    for task_id in (0, 1):
        assert np.array_equal(slow.predict_proba(X, task_id), clf.predict_proba(X, task_id))


class Other(Dataset):
    def transform(self, X, y):
        return super().transform(2 * X, y)


class Loader(DataLoader):
    pass


@pytest.mark.parametrize(
    "settings", [{"dataset": Other}, {"iterator_train": Loader, "iterator_valid": Loader}]
)
def test_loading_of_the_users_own_is_kept(digits, settings):
    X, y = digits
    net = around(make_net(**settings), MLP())
    for training in (True, False):
        loader = net.get_iterator(net.get_dataset(X, y), training=training)
        assert loader.batch_size == 32  # those of this package leave it to the sampler
    clf = make_classifier(net=settings).fit(X[:100], y[:100], np.repeat([0, 1], 50))
    assert len(clf.predict(X, 1)) == len(X)


def test_a_module_may_change_its_input_in_place(digits):
    class InPlace(torch.nn.Sequential):
        def __init__(self):
            super().__init__(
                torch.nn.Threshold(0.5, 0.0, inplace=True),
                torch.nn.Linear(64, 16),
                torch.nn.Linear(16, 10),
            )

    X, y = digits
    rows = X.copy()
    clf = make_classifier(InPlace).fit(rows[:100], y[:100], np.repeat([0, 1], 50))
    clf.predict(rows, 0)
    assert np.array_equal(rows, X)
