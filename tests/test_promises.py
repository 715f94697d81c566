"""The promises of the package, each kept by both faces for every network of the zoo."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier

from tests.conftest import make_classifier, make_regressor, permuted
from tests.inside import (
    get_tensor,
    named_tensors,
    network_of,
    predictors_of,
    ready_nets,
    task_of,
)
from tests.modules import ZOO


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


def three(y):
    """Three numbers a row, on scales of their own."""
    return np.stack([y, 1e4 * (y % 2), -(y**2)], axis=1).astype(float)


# How a face is made, and the targets of four tasks.
FACES = {
    "classifier": (
        make_classifier,
        {
            "first": lambda y: y,
            1: lambda y: y % 3,
            "third": lambda y: [f"c{v}" for v in y],
            3: lambda y: y + 5,
        },
    ),
    "regressor": (
        make_regressor,
        {"first": lambda y: y, 1: three, "third": lambda y: y / 10, 3: lambda y: three(y)[:, :2]},
    ),
}


def said(est, X, task_id):
    """What is predicted: numbers, or the probabilities of the task's own labels."""
    if not is_classifier(est):
        return est.predict(X, task_id)
    probability, every = est.predict_proba(X, task_id), list(est.classes_)
    own = [every.index(label) for label in est.task_classes_[task_id]]
    assert not np.delete(probability, own, axis=1).any()
    return probability[:, own]


# Where nothing has a kernel both forms are the same; targets and networks do not know each other.
KERNELS = ("conv1d", "conv2d", "conv3d", "transposed", "residual", "experts")
NUMBERS = ("mlp", "conv2d", "recurrent", "checkpointed")


def streams():
    """Every face, form and animal; those that hardly differ from others are slow tests."""
    for animal in ZOO:
        yield pytest.param(("classifier", "unfolded", animal))
        marks = [] if animal in KERNELS else [pytest.mark.slow]
        yield pytest.param(("classifier", "channel", animal), marks=marks)
        marks = [] if animal in NUMBERS else [pytest.mark.slow]
        yield pytest.param(("regressor", "unfolded", animal), marks=marks)


@pytest.fixture(params=streams(), ids="-".join)
def stream(request, digits):
    """An estimator with two tasks, the rows and digits of three, and the targets of a task."""
    X, y = digits
    face, form, animal = request.param
    animal = ZOO[animal]
    X = X.reshape(-1, *animal.shape)
    make, targets = FACES[face]
    # So small a network is half head; without this its tasks would have no room for terms.
    clf = make(animal.module, convolution=form, growth_budget=2.0)
    clf.partial_fit(X[:200], targets["first"](y[:200]), task_id="first")
    clf.partial_fit(permuted(X[:200], 1), targets[1](y[:200]), task_id=1)
    return clf, X, y, targets


def test_zero_forgetting_bit_for_bit(stream):
    clf, X, y, targets = stream
    tasks = {"first": X[200:400], 1: permuted(X[200:400], 1)}
    predicted = {task_id: said(clf, rows, task_id) for task_id, rows in tasks.items()}
    before = snapshot(clf)
    clf.partial_fit(permuted(X[:200], 2), targets["third"](y[:200]), task_id="third")
    clf.partial_fit(permuted(X[:200], 3), targets[3](y[:200]), task_id=3)
    assert_untouched(before, snapshot(clf))
    ready_nets(predictors_of(clf)).clear()  # what is kept would hide a changed base
    for task_id, rows in tasks.items():
        assert np.array_equal(said(clf, rows, task_id), predicted[task_id])


def test_the_effective_weights_equal_a_dense_reference(stream):
    clf, X, *_ = stream
    network, task = network_of(clf), task_of(clf, 1)
    module = network.module_for(task)
    assert set(task.factors) == set(network.roles.perturbed)
    for name, stored in task.factors.items():
        base = get_tensor(network.base, name).detach().numpy().astype(np.float64)
        rest = [1] * (base.ndim - 2)
        product = stored.u.dense().astype(np.float64) @ stored.v.dense()
        if network.form == "channel":
            product = np.broadcast_to(product.reshape(*base.shape[:2], *rest), base.shape)
        r = stored.r.reshape(-1, 1, *rest) if stored.r.size else 1
        s = stored.s.reshape(1, -1, *rest) if stored.s.size else 1
        expected = r * base * s + product.reshape(base.shape)
        for alias in network.roles.every_name(name):
            weight = get_tensor(module, alias).detach().numpy()
            np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)
    assert type(module) is type(network.base)
    with torch.no_grad():
        outputs = module(torch.from_numpy(X[:50]))
    if is_classifier(clf):
        expected = outputs.softmax(-1).numpy()
    else:
        expected = outputs.numpy() * clf.target_scales_[1] + clf.target_means_[1]
    np.testing.assert_allclose(said(clf, X[:50], 1), expected, rtol=1e-5)


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
    clf, X, y, targets = stream
    loaded = pickle.loads(pickle.dumps(clf))
    for task_id in clf.tasks_:
        assert np.array_equal(said(loaded, X, task_id), said(clf, X, task_id))
    assert_untouched(snapshot(clf), snapshot(loaded))
    for each in (clf, loaded):
        each.partial_fit(permuted(X[:100], 2), targets["first"](y[:100]), task_id="more")
    assert np.array_equal(said(loaded, X, "more"), said(clf, X, "more"))


def test_a_task_becomes_the_same_whatever_else_was_learned(stream):
    clf, X, y, targets = stream
    alone = clone(clf)
    alone.partial_fit(X[:200], targets["first"](y[:200]), task_id="first")
    for each in (clf, alone):
        each.partial_fit(permuted(X[:200], 2), targets["first"](y[:200]), task_id="new")
    assert np.array_equal(said(clf, X, "new"), said(alone, X, "new"))


def test_going_on_with_the_first_task_leaves_the_base(stream):
    clf, X, y, targets = stream
    before = snapshot(clf)
    other = said(clf, X, 1)
    clf.partial_fit(X[200:400], targets["first"](y[200:400]), task_id="first")
    assert_untouched(before, snapshot(clf))
    assert np.array_equal(said(clf, X, 1), other)
    assert set(clf.ranks_["first"].values()) != {0}
    assert clf.growth_["first"] > 0
