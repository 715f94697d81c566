"""The importance of numbers, against the Gauss-Newton matrix of a linear network in closed form.

For outputs z = W x the entry of a row at W_ab is h_a x_b^2, where h_a is the second derivative
of the row's loss in z_a.
"""

import numpy as np
import pytest
import torch
from skorch import NeuralNetRegressor
from torch import nn

from tests.conftest import make_numbers_net
from tests.inside import (
    Curvatures,
    Numbers,
    WithWeights,
    around,
    gauss_newton_loss,
    losses,
    mean_square_gradient,
)

ROWS, INPUTS, OUTPUTS = 12, 4, 3


class HalfSquare(nn.Module):
    """A loss of one's own."""

    reduction = "mean"

    def forward(self, z, y):
        loss = (z - y) ** 2 / 2 * torch.tensor([1.0, 10.0, 100.0])
        return loss.mean() if self.reduction == "mean" else loss


# The loss, and its second derivative in an output, by hand, before the mean over outputs.
LOSSES = {
    "squared": (nn.MSELoss, lambda z, y: 2 + 0 * z),
    "huber": (lambda: nn.HuberLoss(delta=0.6), lambda z, y: abs(z - y) < 0.6),
    "smooth": (lambda: nn.SmoothL1Loss(beta=0.6), lambda z, y: (abs(z - y) < 0.6) / 0.6),
    "counts": (nn.PoissonNLLLoss, lambda z, y: np.exp(z)),
    "own": (HalfSquare, lambda z, y: np.array([1.0, 10.0, 100.0]) + 0 * z),
}


@pytest.fixture(params=LOSSES)
def case(request):
    """A net around a linear module, its rows and targets, and h by hand for each output."""
    criterion, second = LOSSES[request.param]
    rng = np.random.RandomState(0)
    X = rng.randn(ROWS, INPUTS).astype(np.float32)
    y = rng.rand(ROWS, OUTPUTS).astype(np.float32)
    module = nn.Linear(INPUTS, OUTPUTS, bias=False)
    z = X @ module.weight.detach().numpy().T
    return criterion, module, X, y, np.asarray(second(z, y), dtype=float) / OUTPUTS


def net_of(case, **settings):
    criterion, module, *_ = case
    return around(make_numbers_net(lambda: module, criterion=criterion), module, **settings)


def squares(net, dataset, weight):
    """The squared gradients of all batches, times their rows, over all rows; entry by entry."""
    total, n_rows = torch.zeros_like(weight), 0
    for x, y in net.get_iterator(dataset, training=False):
        loss = Numbers.curvature_loss(net, net.infer(x), y, x)
        if loss is not None:  # none of these rows has any
            total += (len(y) * torch.autograd.grad(loss, weight)[0]).square()
        n_rows += len(y)
    return total.numpy() / n_rows


def test_of_single_rows_it_is_exact(case):
    _, module, X, y, h = case
    net = net_of(case, batch_size=1)
    found = squares(net, net.get_dataset(X, y), module.weight)
    expected = h.T @ X.astype(float) ** 2 / ROWS
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_of_batches_it_is_on_average(case):
    _, module, X, y, h = case
    net = net_of(case, batch_size=5)
    dataset = net.get_dataset(X, y)
    found = np.array([squares(net, dataset, module.weight) for _ in range(400)])
    expected = h.T @ X.astype(float) ** 2 / ROWS
    error = found.std(0) / np.sqrt(len(found))
    np.testing.assert_array_less(abs(found.mean(0) - expected), 5 * error + 1e-6)
    assert error.mean() < 0.1 * expected.mean()


def test_weights_of_rows_multiply_it_as_they_multiply_a_loss(case):
    _, module, X, y, h = case
    weights = np.random.RandomState(1).randint(0, 4, ROWS).astype(np.float32)
    net = net_of(case, batch_size=1, weighted=True)
    found = squares(net, WithWeights(net.get_dataset(X, y), weights), module.weight)
    expected = (weights[:, None] ** 2 * h).T @ X.astype(float) ** 2 / ROWS
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_in_kronecker_form_too(case, weighted):
    _, module, X, y, h = case
    weights = np.random.RandomState(1).randint(0, 4, ROWS).astype(np.float32)
    weights = weights if weighted else np.ones_like(weights)
    net = net_of(case, batch_size=5, weighted=weighted)
    dataset = net.get_dataset(X, y)
    dataset = WithWeights(dataset, weights) if weighted else dataset
    change = torch.randn(OUTPUTS, INPUTS)
    curvatures = Curvatures(module, {"weight": change})
    with curvatures.watching():
        measured = losses(net, dataset, curvature_loss=Numbers.curvature_loss)
        mean_square_gradient(measured, {"weight": module.weight}, curvatures.add)
    (found,) = curvatures.found().values()
    share = weights.astype(float) / weights.sum()
    np.testing.assert_allclose(found.near.diagonal(), share @ h, rtol=1e-4)  # G
    seen = X @ change.numpy().T
    np.testing.assert_allclose(found.far, (seen * share[:, None]).T @ seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("criterion", [nn.L1Loss, lambda: nn.HuberLoss(delta=1e-9)])
def test_where_no_second_derivative_is_the_labels_of_the_rows_serve(criterion):
    X = np.random.RandomState(0).randn(ROWS, INPUTS).astype(np.float32)
    y = X[:, :OUTPUTS] + 1
    module = nn.Linear(INPUTS, OUTPUTS)
    net = around(make_numbers_net(lambda: module, criterion=criterion), module)
    x, labels = torch.from_numpy(X), torch.from_numpy(y)
    assert gauss_newton_loss(net, net.infer(x), labels, x) is None
    dataset = net.get_dataset(X, y)
    for one, other in zip(
        losses(net, dataset, curvature_loss=Numbers.curvature_loss),
        losses(net, dataset),
        strict=True,
    ):
        assert torch.equal(one.loss, other.loss)
        assert not one.drawn


class MeanAndSpread(nn.Module):
    """Gives a mean and the logarithm of a variance."""

    def __init__(self):
        super().__init__()
        self.mean, self.log = nn.Linear(INPUTS, 1, bias=False), nn.Linear(INPUTS, 1, bias=False)

    def forward(self, x):
        return self.mean(x), self.log(x)


class Gaussian(NeuralNetRegressor):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        mean, log = y_pred
        return ((y_true - mean) ** 2 / log.exp() + log).mean() / 2


def test_all_outputs_of_a_row_count():
    rng = np.random.RandomState(0)
    X, y = rng.randn(ROWS, INPUTS).astype(np.float32), rng.rand(ROWS, 1).astype(np.float32)
    module = MeanAndSpread()
    net = around(Gaussian(MeanAndSpread, verbose=0, batch_size=1), module)
    with torch.no_grad():
        mean, log = (part.numpy() for part in module(torch.from_numpy(X)))
    second = {module.mean: np.exp(-log), module.log: (y - mean) ** 2 * np.exp(-log) / 2}
    for layer, h in second.items():
        found = squares(net, net.get_dataset(X, y), layer.weight)
        np.testing.assert_allclose(found, h.T @ X**2 / ROWS, rtol=1e-4)
