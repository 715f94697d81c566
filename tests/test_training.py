import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn

from tests.conftest import make_classifier, make_net, permuted
from tests.inside import around, mean_loss, spread
from tests.modules import Conv2d


def test_losses_are_those_of_the_evaluation_mode(digits):
    X, y = digits[0].reshape(-1, 1, 8, 8)[:120], digits[1][:120]
    module = Conv2d().train()  # with dropout and batch normalisation
    state = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        outputs = copy.deepcopy(module).eval()(torch.from_numpy(X))
        expected = nn.functional.cross_entropy(outputs, torch.from_numpy(y)).item()
    net = around(make_net(batch_size=50), module)
    assert mean_loss(net, net.get_dataset(X, y)) == pytest.approx(expected, rel=1e-5)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name])


# What torch.compile itself warns of is none of ours.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_nets_learn_the_same(digits):
    class Kinds(Callback):
        seen = []

        def on_train_begin(self, net, **kwargs):
            Kinds.seen.append(type(net.module_).__name__)

    X, y = digits
    compiled = {"compile": True, "compile__backend": "eager", "callbacks": [Kinds()]}
    classifiers = [make_classifier(net=net) for net in ({}, compiled)]
    for clf in classifiers:
        clf.partial_fit(X[:100], y[:100], task_id=0)
        clf.partial_fit(permuted(X[:100], 1), y[:100], task_id=1)
        clf.partial_fit(permuted(X[:100], 1), y[:100], task_id=1)
    # The base and the warm-up train plain weights; a perturbed one is not for the compiler.
    assert Kinds.seen == ["OptimizedModule", "OptimizedModule", "MLP", "MLP"]
    for task_id in (0, 1):
        plain, ours = (clf.predict_proba(permuted(X, task_id), task_id) for clf in classifiers)
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)


def test_few_rows_are_spread_over_all(digits):
    X, y = digits
    order = np.argsort(y[:500], kind="stable")
    dataset = Dataset(X[:500][order], y[:500][order].astype(np.int64))
    some = spread(dataset, 50)
    assert len(some) == 50
    assert np.bincount([label for _, label in some]).min() >= 3
    assert len({row.tobytes() for row, _ in some}) == 50
    assert spread(dataset, 500) is dataset
