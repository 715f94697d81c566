import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier

from tests.conftest import make_classifier, make_net
from tests.inside import (
    Predictors,
    batch_size_of,
    net_for,
    network_of,
    outputs_of,
    predictors_of,
    ready_nets,
    task_of,
)
from tests.modules import MLP, Probabilities


def test_the_memory_held_is_bounded_and_predictions_stay(learned, digits):
    X, _ = digits
    expected = {t: learned.predict_proba(X[:50], task_id=t) for t in learned.tasks_}
    small = Predictors()
    for _ in range(2):
        for task_id in learned.tasks_:
            net = small.net(learned.net_, network_of(learned), task_id, max_bytes=1)
            columns = np.searchsorted(learned.classes_, learned.task_classes_[task_id])
            assert np.array_equal(net.predict_proba(X[:50]), expected[task_id][:, columns])
            assert len(ready_nets(small)) == 1


def test_the_bound_may_change_at_any_time(learned, digits):
    X, _ = digits
    clf = copy.deepcopy(learned)
    for task_id in clf.tasks_:
        clf.predict(X[:9], task_id)
    assert len(ready_nets(predictors_of(clf))) == 3
    other = pickle.loads(pickle.dumps(clf)).set_params(cache_bytes=0)
    for task_id in other.tasks_:
        other.predict(X[:9], task_id)
    assert len(ready_nets(predictors_of(other))) == 1
    ready_nets(predictors_of(clf)).pop("third")
    clf.set_params(cache_bytes=0).predict(X[:9], "third")
    assert len(ready_nets(predictors_of(clf))) == 1


def test_a_network_is_merged_once(learned):
    cache = Predictors()
    first = cache.net(learned.net_, network_of(learned), 2, 2**28)
    assert cache.net(learned.net_, network_of(learned), 2, 2**28) is first
    assert cache.net(learned.net_, network_of(learned), "third", 2**28) is not first


def test_what_was_relearned_is_merged_again(learned, digits):
    X, _ = digits
    cache = Predictors()
    first = cache.net(learned.net_, network_of(learned), 2, 2**28)
    other = network_of(learned).with_task(2, task_of(learned, "third"))
    second = cache.net(learned.net_, other, 2, 2**28)
    assert second is not first
    assert not np.array_equal(first.predict_proba(X[:9]), second.predict_proba(X[:9]))


def test_many_threads_get_the_right_answers(learned, digits):
    X, _ = digits
    expected = {t: learned.predict_proba(X[:20], task_id=t) for t in learned.tasks_}

    def ask(i):
        task_id = learned.tasks_[i % 3]
        return np.array_equal(learned.predict_proba(X[:20], task_id=task_id), expected[task_id])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(200)))


class Doubled(NeuralNetClassifier):
    def evaluation_step(self, batch, training=False):
        return 2 * super().evaluation_step(batch, training)


class Mirrored(NeuralNetClassifier):
    def infer(self, x, **parameters):
        return super().infer(x.flip(1), **parameters)


class Flat(NeuralNetClassifier):
    def predict_proba(self, X):
        return np.full_like(super().predict_proba(X), 0.1)


WAYS = {
    "plain": (NeuralNetClassifier, MLP, {}, True),
    "all at once": (NeuralNetClassifier, MLP, {"batch_size": -1}, True),
    "own size": (NeuralNetClassifier, MLP, {"iterator_valid__batch_size": 7}, True),
    "no nonlinearity": (NeuralNetClassifier, MLP, {"predict_nonlinearity": None}, True),
    "own infer": (Mirrored, MLP, {}, True),
    "own step": (Doubled, MLP, {}, False),
    "own probabilities": (Flat, MLP, {}, True),
    "workers": (NeuralNetClassifier, MLP, {"iterator_valid__num_workers": 0}, False),
    "probabilities": (
        NeuralNetClassifier,
        Probabilities,
        {"criterion": torch.nn.NLLLoss},
        True,
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_short_way_gives_what_skorch_gives(digits, name):
    kind, module, settings, short = WAYS[name]
    X, y = digits
    net = kind(**make_net(module, **settings).get_params(deep=False))
    clf = make_classifier().set_params(net=net).fit(X[:60], y[:60])
    ready = net_for(clf, 0)
    assert (batch_size_of(ready) is not None) == short
    for rows in (X[:1], X[:100]):
        assert np.array_equal(outputs_of(ready, rows), ready.predict_proba(rows))
