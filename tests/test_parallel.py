"""Tasks learned in parallel are the same as tasks learned one by one."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_halrp.exceptions import GrowthBudgetWarning
from tests.conftest import make_classifier, permuted


@pytest.fixture
def stream(digits):
    """Rows of four tasks in one array, with their ids."""
    X, y = digits
    rows = np.concatenate([permuted(X[:100], t) for t in range(4)])
    return rows, np.tile(y[:100], 4), np.repeat(["a", "b", "c", "d"], 100)


def assert_same(one, other, X):
    assert one.tasks_ == other.tasks_
    for task_id in one.tasks_:
        assert np.array_equal(one.predict_proba(X, task_id), other.predict_proba(X, task_id))
        assert one.ranks_[task_id] == other.ranks_[task_id]


def test_two_processes_learn_what_one_does(stream, digits):
    X, y, ids = stream
    alone = make_classifier().fit(X, y, task_id=ids)
    together = make_classifier(n_jobs=2).fit(X, y, task_id=ids)
    assert_same(alone, together, digits[0])
    # Going on with known tasks, the first among them, beside a new one.
    later = np.where(ids == "d", "new", ids)
    for clf in (alone, together):
        clf.partial_fit(X, y, task_id=later)
    assert_same(alone, together, digits[0])
    assert together.tasks_ == ["a", "b", "c", "d", "new"]


def test_the_first_task_is_no_base_any_more_when_another_comes_before_it(stream, digits):
    X, y, ids = stream
    clf = make_classifier().partial_fit(X[ids == "a"], y[ids == "a"], task_id="a")
    base = {n: t.clone() for n, t in clf._network.base.state_dict().items()}
    clf.partial_fit(X[:200][::-1], y[:200][::-1], task_id=ids[:200][::-1])
    assert clf.tasks_ == ["a", "b"]
    for name, tensor in clf._network.base.state_dict().items():
        assert torch.equal(tensor, base[name])
    assert set(clf.ranks_["a"].values()) != {0}


def test_warnings_arrive_from_other_processes(stream):
    X, y, ids = stream
    with pytest.warns(GrowthBudgetWarning, match="over the growth_budget") as found:
        make_classifier(n_jobs=2, growth_budget=0.05).fit(X, y, task_id=ids)
    assert [str(w.message)[:8] for w in found] == ["Task 'b'", "Task 'c'", "Task 'd'"]


def test_inside_a_parallel_search_it_learns_one_by_one(stream):
    X, y, ids = stream
    with_ids = np.insert(X, 0, np.unique(ids, return_inverse=True)[1], axis=1)
    grid, cv = {"net__lr": [1e-3, 1e-2]}, StratifiedKFold(2, shuffle=True, random_state=0)
    scores = [
        GridSearchCV(
            make_classifier(task_column=0, n_jobs=inner), grid, cv=cv, n_jobs=outer, refit=False
        )
        .fit(with_ids, y)
        .cv_results_["mean_test_score"]
        for inner, outer in [(None, None), (2, 2)]
    ]
    assert np.array_equal(*scores)
