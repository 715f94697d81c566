"""The promises of the package, each kept for every network of the zoo."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from tests.conftest import make_classifier, permuted
from tests.inside import (
    FORMS,
    get_tensor,
    named_tensors,
    network_of,
    predictors_of,
    ready_nets,
    task_of,
)


def snapshot(clf):
    """Everything that the base and the tasks hold, by name."""
    network = network_of(clf)
    tensors = {("base", n): t.clone() for n, t in named_tensors(network.base).items()}
    for task_id, task in network.tasks.items():
        tensors |= {(task_id, n): torch.from_numpy(a.copy()) for n, a in task.own.items()}
        for n, f in task.factors.items():
            arrays = {"r": f.r, "s": f.s, "u": f.u.dense(), "v": f.v.dense()}
            tensors |= {(task_id, n, p): torch.from_numpy(a.copy()) for p, a in arrays.items()}
    return tensors


def assert_untouched(before, after):
    assert set(before) <= set(after)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


@pytest.fixture(params=FORMS)
def stream(request, digits, animal):
    """A classifier with two tasks, the data of three, and the network."""
    X, y = digits
    X = X.reshape(-1, *animal.shape)
    # So small a network is half head; without this its tasks would have no room for terms.
    clf = make_classifier(animal.module, convolution=request.param, growth_budget=2.0)
    clf.partial_fit(X[:200], y[:200], task_id="first")
    clf.partial_fit(permuted(X[:200], 1), y[:200] % 3, task_id=1)
    return clf, X, y


def test_zero_forgetting_bit_for_bit(stream):
    clf, X, y = stream
    tasks = {"first": X[200:400], 1: permuted(X[200:400], 1)}
    probabilities = {t: clf.predict_proba(rows, task_id=t) for t, rows in tasks.items()}
    columns, before = clf.classes_, snapshot(clf)
    clf.partial_fit(permuted(X[:200], 2), [f"c{v}" for v in y[:200]], task_id="third")
    clf.partial_fit(permuted(X[:200], 3), y[:200] + 5, task_id=3)
    assert_untouched(before, snapshot(clf))
    ready_nets(predictors_of(clf)).clear()  # what is kept would hide a changed base
    places = [list(clf.classes_).index(c) for c in columns]
    for task_id, rows in tasks.items():
        after = clf.predict_proba(rows, task_id=task_id)
        assert np.array_equal(after[:, places], probabilities[task_id])
        others = np.setdiff1d(np.arange(len(clf.classes_)), places)
        assert not after[:, others].any()


def test_the_effective_weights_equal_a_dense_reference(stream):
    clf, X, _ = stream
    network, task = network_of(clf), task_of(clf, 1)
    module = network.module_for(task)
    assert set(task.factors) == set(network.roles.perturbed)
    for name, stored in task.factors.items():
        base = get_tensor(network.base, name).detach().numpy().astype(np.float64)
        rest = [1] * (base.ndim - 2)
        product = stored.u.dense().astype(np.float64) @ stored.v.dense()
        if network.form == "channel":
            product = np.broadcast_to(product.reshape(*base.shape[:2], *rest), base.shape)
        r, s = stored.r.reshape(-1, 1, *rest), stored.s.reshape(1, -1, *rest)
        expected = r * base * s + product.reshape(base.shape)
        for alias in network.roles.every_name(name):
            weight = get_tensor(module, alias).detach().numpy()
            np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)
    assert type(module) is type(network.base)
    with torch.no_grad():
        logits = module(torch.from_numpy(X[:50]))
    expected = logits.softmax(-1).numpy()
    np.testing.assert_allclose(clf.predict_proba(X[:50], task_id=1)[:, :3], expected, rtol=1e-5)


def test_growth_counts_what_is_stored(stream):
    clf, *_ = stream
    network = network_of(clf)
    base = sum(t.numel() for t in named_tensors(network.base).values())
    counted = {name: 0 for name in clf.tasks_}
    for (owner, *_), tensor in snapshot(clf).items():
        if owner != "base":
            counted[owner] += int(torch.count_nonzero(tensor))
    for name, task in network.tasks.items():
        zeros = sum(int((a == 0).sum()) for a in task.own.values())
        zeros += sum(int((f.r == 0).sum() + (f.s == 0).sum()) for f in task.factors.values())
        assert task.n_numbers == counted[name] + zeros
        assert clf.growth_[name] == pytest.approx((counted[name] + zeros) / base)
    assert clf.growth_["first"] == 0
    assert clf.n_numbers_ == base + sum(t.n_numbers for t in network.tasks.values())


def test_pickling_changes_no_prediction_and_learning_goes_on(stream):
    clf, X, y = stream
    loaded = pickle.loads(pickle.dumps(clf))
    for task_id in clf.tasks_:
        assert np.array_equal(loaded.predict_proba(X, task_id), clf.predict_proba(X, task_id))
    assert_untouched(snapshot(clf), snapshot(loaded))
    for each in (clf, loaded):
        each.partial_fit(permuted(X[:100], 2), y[:100], task_id="more")
    assert np.array_equal(loaded.predict_proba(X, "more"), clf.predict_proba(X, "more"))


def test_a_task_becomes_the_same_whatever_else_was_learned(stream):
    clf, X, y = stream
    alone = clone(clf)
    alone.partial_fit(X[:200], y[:200], task_id="first")
    for each in (clf, alone):
        each.partial_fit(permuted(X[:200], 2), y[:200], task_id="new")
    columns = np.searchsorted(clf.classes_, clf.task_classes_["new"])
    assert np.array_equal(
        clf.predict_proba(X, "new")[:, columns],
        alone.predict_proba(X, "new")[
            :, np.searchsorted(alone.classes_, alone.task_classes_["new"])
        ],
    )


def test_going_on_with_the_first_task_leaves_the_base(stream):
    clf, X, y = stream
    before = snapshot(clf)
    other = clf.predict_proba(X, 1)
    clf.partial_fit(X[200:400], y[200:400], task_id="first")
    assert_untouched(before, snapshot(clf))
    assert np.array_equal(clf.predict_proba(X, 1), other)
    assert set(clf.ranks_["first"].values()) != {0}
    assert clf.growth_["first"] > 0
