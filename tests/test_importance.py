import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.conftest import make_net
from tests.inside import IMPORTANCES, Classes, Uniform, around, losses, mean_square_gradient
from tests.modules import MLP


def slow_fisher(module, X, y, names, batch_size):
    """The formula with one backward pass per batch, in evaluation mode."""
    module = copy.deepcopy(module).eval()
    expected = dict.fromkeys(names, 0.0)
    starts = range(0, len(X), batch_size)
    for start in starts:
        module.zero_grad()
        rows = torch.from_numpy(X[start : start + batch_size])
        labels = torch.from_numpy(y[start : start + batch_size])
        nn.functional.cross_entropy(module(rows), labels).backward()
        for name in names:
            grad = module.get_parameter(name).grad
            expected[name] += len(rows) ** 2 * float(grad.double().square().mean()) / len(X)
    return expected


def test_fisher_equals_autograd_on_single_batches(digits):
    X, y = digits
    module = MLP()
    net = around(make_net(batch_size=50), module, verbose=0)
    dataset = net.get_dataset(X[:120], y[:120])
    weights = {n: p for n, p in module.named_parameters() if n.endswith("weight")}
    ours = mean_square_gradient(losses(net, dataset), weights)
    for name, value in slow_fisher(module, X[:120], y[:120], weights, batch_size=50).items():
        assert ours[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, nn.NLLLoss])
def test_with_predicted_labels_it_is_the_mean_diagonal_of_the_hessian(digits, criterion):
    # In a softmax regression the two are equal, whatever the labels are: here all are wrong.
    X, _ = digits
    rows, wrong = torch.from_numpy(X[:1500, :12]), np.zeros(1500, int)
    torch.manual_seed(0)
    linear = nn.Linear(12, 3)

    def loss(weight):
        outputs = rows @ weight.T + linear.bias
        return nn.functional.cross_entropy(outputs, torch.from_numpy(wrong))

    hessian = torch.autograd.functional.hessian(loss, linear.weight.detach())
    expected = hessian.reshape(36, 36).diagonal().mean().item()
    layers = [linear] if criterion is nn.CrossEntropyLoss else [linear, nn.Softmax(dim=-1)]
    net = around(make_net(batch_size=10, criterion=criterion), nn.Sequential(*layers))
    dataset, weights = net.get_dataset(X[:1500, :12], wrong), {"w": linear.weight}
    found = mean_square_gradient(
        losses(net, dataset, curvature_loss=Classes.curvature_loss), weights
    )["w"]
    assert found == pytest.approx(expected, rel=0.15)
    # With the labels of the rows the gradients do not cancel in a batch.
    assert mean_square_gradient(losses(net, dataset), weights)["w"] > 3 * expected


def test_where_nothing_is_predicted_with_a_probability_labels_are_those_of_the_rows(digits):
    X, y = digits
    net = around(make_net(criterion=nn.MultiMarginLoss), MLP(), verbose=0)
    dataset = net.get_dataset(X[:100], y[:100])
    given, predicted = (
        [loss.item() for loss, *_ in losses(net, dataset, curvature_loss=function)]
        for function in (None, Classes.curvature_loss)
    )
    assert given == predicted


def test_fisher_is_the_same_in_single_rows_whatever_the_batch_size():
    # At a minimum the gradients of single rows cancel, and the expected square of a
    # batch mean is theirs over the number of rows.
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(20_000, 3, generator=g)
    rows -= rows.mean(0)
    w = torch.zeros(3, requires_grad=True)
    for n in (10, 100):
        batches = (((part @ w).mean(), n, None) for part in rows.split(n))
        assert mean_square_gradient(batches, {"w": w})["w"] == pytest.approx(1.0, rel=0.1)


@given(sizes=st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_every_row_counts_alike_in_whatever_batch_it_is(sizes):
    # Rows without a common input: the square of their mean gradient has no mixed terms.
    rows = torch.diag(torch.arange(1.0, sum(sizes) + 1))
    w = torch.zeros(len(rows), requires_grad=True)
    batches = [((part @ w).mean(), len(part), None) for part in rows.split(sizes)]
    assert mean_square_gradient(batches, {"w": w})["w"] == pytest.approx(
        rows.square().mean().item()
    )


def test_an_unused_weight_has_no_importance():
    used, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    assert mean_square_gradient([(used.sum(), 1, None)], {"a": used, "b": unused}) == {
        "a": 1.0,
        "b": 0.0,
    }


def test_uniform_is_one_everywhere():
    assert Uniform()({"a": None, "b": None}, None) == {"a": 1.0, "b": 1.0}
    assert set(IMPORTANCES) == {"empirical", "fisher", "kfac", "uniform"}
