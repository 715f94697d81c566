"""Which networks need their weights formed, found on a few rows."""

import numpy as np
import pytest
import torch

from tests.conftest import make_classifier, permuted
from tests.inside import network_of, task_of
from tests.modules import MLP, ZOO, Binary


def test_only_plain_tensors_go_through_functions_of_the_users_own(digits):
    X, y = digits
    for name, animal in ZOO.items():
        clf = make_classifier(animal.module, net={"max_epochs": 1})
        clf.fit(X[:60].reshape(-1, *animal.shape), y[:60])
        assert network_of(clf).dense == (name == "binary"), name


def test_a_weight_behind_such_a_function_is_learned(digits):
    X, y = digits
    clf = make_classifier(Binary, growth_budget=2.0, net={"max_epochs": 6})
    clf.partial_fit(X[:400], y[:400], task_id="a").partial_fit(
        permuted(X[:400], 1), y[:400], task_id="b"
    )
    clf.set_params(net__max_epochs=1)
    before = task_of(clf, "b").factors["weight"]
    clf.partial_fit(permuted(X[:400], 1), y[:400], task_id="b")
    after = task_of(clf, "b").factors["weight"]
    assert not np.array_equal(before.r, after.r)
    assert not np.array_equal(before.u.dense(), after.u.dense())
    assert clf.score(permuted(X[:400], 1), y[:400], task_id="b") > 0.6


@pytest.mark.parametrize("name", ZOO)
def test_trying_a_pretrained_base_changes_nothing_of_it(digits, name):
    (X, y), animal = digits, ZOO[name]
    module = animal.module()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    clf = make_classifier(module, base="pretrained", growth_budget=5, net={"max_epochs": 1})
    clf.partial_fit(X[:60].reshape(-1, *animal.shape), y[:60], task_id="a")
    found = network_of(clf).base.state_dict()
    head = network_of(clf).roles.head + "."
    # One of them counts its calls in evaluation mode too.
    for name in before.keys() - {head + "weight", head + "bias", "calls"}:
        assert torch.equal(found[name], before[name]), name


def test_a_trained_base_has_the_statistics_of_its_training_alone(digits):
    X, y = digits
    clf = make_classifier(ZOO["conv2d"].module, net={"max_epochs": 2, "batch_size": 30})
    clf.set_params(net__train_split=None)
    clf.partial_fit(X[:60].reshape(-1, 1, 8, 8), y[:60], task_id="a")
    assert network_of(clf).base.state_dict()["1.num_batches_tracked"] == 2 * 2


def product(x, weight):
    """Refuses anything but a plain tensor or parameter, as compiled code does."""
    if type(weight) not in (torch.Tensor, torch.nn.Parameter):
        raise RuntimeError("compiled code takes plain tensors")
    return x @ weight.T


def test_compiled_helpers_get_plain_tensors(digits):
    class Helped(MLP):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(24, 64) / 8)

        def forward(self, x):
            return self.last(torch.relu(product(x, self.weight)) + self.body(x))

    X, y = digits
    clf = make_classifier(Helped, net={"max_epochs": 2})
    clf.fit(X[:100], y[:100], np.repeat([0, 1], 50))
    assert network_of(clf).dense
    assert clf.tasks_ == [0, 1]
