"""Tasks come and go; what is left does not change."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_halrp.exceptions import MissingTaskError, UnknownTaskError
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import network_of, task_of
from tests.modules import MLP, ZOO


@pytest.mark.parametrize("gone", ["first", 2, "third"])
def test_a_forgotten_task_leaves_the_others(learned, digits, gone):
    X, y = digits
    clf = pickle.loads(pickle.dumps(learned))
    before = {t: clf.predict_proba(X, task_id=t) for t in clf.tasks_}
    size = len(pickle.dumps(clf))
    clf.forget_task(gone)
    assert clf.tasks_ == [t for t in learned.tasks_ if t != gone]
    for task_id in clf.tasks_:
        assert np.array_equal(clf.predict_proba(X, task_id=task_id), before[task_id])
    with pytest.raises(UnknownTaskError, match=repr(gone)):
        clf.predict(X, task_id=gone)
    if gone != "first":
        assert len(pickle.dumps(clf)) < size - 0.9 * task_of(learned, gone).n_bytes
    # Learning it again gives what it was.
    if gone != "first":
        rows = permuted(X[:400], learned.tasks_.index(gone))
        clf.partial_fit(rows, y[:400], task_id=gone)
        assert np.array_equal(clf.predict_proba(X, task_id=gone), before[gone])


def test_the_base_stays_frozen_when_its_task_is_gone(learned, digits):
    X, y = digits
    clf = pickle.loads(pickle.dumps(learned))
    clf.forget_task("first").forget_task(2)
    base = {n: t.clone() for n, t in network_of(clf).base.state_dict().items()}
    clf.partial_fit(permuted(X[:100], 2), y[:100], task_id="third")
    clf = pickle.loads(pickle.dumps(clf))
    clf.partial_fit(permuted(X[:100], 2), y[:100], task_id="third")
    for name, tensor in network_of(clf).base.state_dict().items():
        assert torch.equal(tensor, base[name])
    with pytest.raises(ValueError, match="'third' is the only task"):
        clf.forget_task("third")


def test_nothing_of_a_forgotten_head_is_left(learned):
    clf = pickle.loads(pickle.dumps(learned))
    head = network_of(clf).base.last.weight.numpy().tobytes()
    assert head in pickle.dumps(clf)
    assert head not in pickle.dumps(clf.forget_task("first"))


def test_forgetting_an_unknown_task_is_refused(learned):
    with pytest.raises(UnknownTaskError, match="'nobody'"):
        learned.forget_task("nobody")


@pytest.mark.parametrize("name", ZOO)
def test_a_plain_module_of_any_task(name, digits):
    X, y = digits
    X = X.reshape(-1, *ZOO[name].shape)
    clf = make_classifier(ZOO[name].module, growth_budget=2.0)
    clf.fit(X[:200], y[:200], task_id=np.repeat([0, 1], 100))
    module = clf.to_module(1)
    assert type(module) is ZOO[name].module
    assert not module.training
    with torch.no_grad():
        probabilities = module(torch.from_numpy(X[:64])).softmax(-1).numpy()
    columns = np.searchsorted(clf.classes_, clf.task_classes_[1])
    before = clf.predict_proba(X[:64], task_id=1)
    np.testing.assert_allclose(probabilities, before[:, columns], atol=1e-6)
    # It is the user's own: training it does not reach the classifier.
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0)
    module.zero_grad()
    module.train()(torch.from_numpy(X[:64])).pow(2).sum().backward()
    optimizer.step()
    assert np.array_equal(clf.predict_proba(X[:64], task_id=1), before)


def test_a_module_needs_to_be_told_its_task(learned):
    with pytest.raises(MissingTaskError):
        learned.to_module()
    with pytest.raises(UnknownTaskError):
        learned.to_module("nobody")


def test_a_pretrained_module_is_the_base(digits):
    X, y = digits
    # Pretrain on the digits below five; the tasks are about the others.
    torch.manual_seed(0)
    low, high = y < 5, y >= 5
    pretrained = make_net(MLP(n_classes=5), max_epochs=15).fit(X[low], y[low]).module_
    weights = {n: t.clone() for n, t in pretrained.state_dict().items()}
    clf = make_classifier(pretrained, base="pretrained", net={"max_epochs": 10})
    clf.partial_fit(X[high][:300], y[high][:300], task_id="a")
    clf.partial_fit(permuted(X[high], 1)[:300], y[high][:300], task_id="b")
    for name in network_of(clf).roles.perturbed:
        assert torch.equal(network_of(clf).base.state_dict()[name], weights[name])
    for name, tensor in pretrained.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert all(clf.growth_[t] > 0 for t in ("a", "b"))
    assert all(max(clf.ranks_[t].values()) > 0 for t in ("a", "b"))
    assert clf.score(X[high][300:], y[high][300:], task_id="a") > 0.8
    # Neither task depends on the other, nor on which came first.
    other = make_classifier(pretrained, base="pretrained", net={"max_epochs": 10})
    other.partial_fit(permuted(X[high], 1)[:300], y[high][:300], task_id="b")
    assert np.array_equal(other.predict_proba(X, "b"), clf.predict_proba(X, "b"))
    loaded = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(loaded.predict_proba(X, "a"), clf.predict_proba(X, "a"))
