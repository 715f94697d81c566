"""All of scikit-learn's own checks.

One of them, that a row of weight 2 is two rows, no learner can pass that draws batches at random.
scikit-learn expects it to fail for its own SGDClassifier and Perceptron; its MLPClassifier passes
since it takes the few rows of the check as one batch. Told to do so, ContinualClassifier passes.
"""

from inspect import signature

import numpy as np
import pytest
from scipy.sparse import issparse
from sklearn.neural_network import MLPClassifier
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)
from torch import nn

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_net


class AnyWidth(nn.Module):
    """Takes rows of any length: what is short is filled up, what is long is cut."""

    def __init__(self, width=24, n_classes=2):
        super().__init__()
        self.width = width
        self.body = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.last = nn.Linear(16, n_classes)

    def forward(self, x):
        x = x.flatten(1)[:, : self.width]
        return self.last(self.body(nn.functional.pad(x, (0, self.width - x.shape[1]))))


class WithIds(ContinualClassifier):
    """Finds ids in the last column of X, where a step of a pipeline would have put them.

    The checks fill all columns with features, so none of theirs can be the `task_column`.
    """

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(with_ids(X), y, sample_weight=sample_weight)

    def partial_fit(self, X, y, classes=None):
        return super().partial_fit(with_ids(X), y, classes=classes)

    def predict(self, X):
        return super().predict(with_ids(X))

    def predict_proba(self, X):
        return super().predict_proba(with_ids(X))

    def predict_log_proba(self, X):
        return super().predict_log_proba(with_ids(X))

    def score(self, X, y, sample_weight=None):
        return super().score(with_ids(X), y, sample_weight=sample_weight)


def with_ids(X):
    """X with one more column, if it is a table."""
    if hasattr(X, "columns"):
        return X.assign(task=7)
    if issparse(X) or np.asarray(X).ndim != 2:
        return X
    X = np.asarray(X)
    return np.insert(X, X.shape[1], 7, axis=1)


IMPOSSIBLE = {
    "check_sample_weight_equivalence_on_dense_data": (
        "batches of weighted rows and of repeated rows differ, and other rows are held out; where "
        "a batch holds all rows the check passes, see below"
    )
}
NET = make_net(AnyWidth, lr=0.03, max_epochs=6)


@parametrize_with_checks(
    [
        ContinualClassifier(random_state=0),
        ContinualClassifier(NET, random_state=0),
        WithIds(NET, random_state=0, task_column=-1),
    ],
    expected_failed_checks=lambda estimator: IMPOSSIBLE,
)
def test_scikit_learn_is_satisfied(estimator, check):
    check(estimator)


class Exact(AnyWidth):
    def __init__(self):
        super().__init__()
        self.double()


def test_a_row_of_weight_2_is_two_rows_where_a_batch_holds_all():
    net = make_net(Exact, lr=0.03, max_epochs=6, batch_size=-1, train_split=None)
    clf = ContinualClassifier(net, dtype="float64", random_state=0)
    check_sample_weight_equivalence_on_dense_data("ContinualClassifier", clf)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # has not converged
def test_with_batches_that_do_not_hold_all_others_fail_too():
    if "sample_weight" not in signature(MLPClassifier.fit).parameters:
        pytest.skip("MLPClassifier takes no sample_weight before scikit-learn 1.7")
    check_sample_weight_equivalence_on_dense_data("MLPClassifier", MLPClassifier(random_state=0))
    with pytest.raises(AssertionError, match="not equivalent to fitting with removed or repeated"):
        check_sample_weight_equivalence_on_dense_data(
            "MLPClassifier", MLPClassifier(batch_size=8, random_state=0)
        )
