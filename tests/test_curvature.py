"""Curvature from what layers see, against its definition."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.conftest import make_classifier
from tests.inside import (
    DAMPING,
    Curvatures,
    get_tensor,
    mean_square_gradient,
    network_of,
    whitened_spectrum,
    whitened_split,
)
from tests.test_low_rank import random

LAYERS = {
    "wide in": (nn.Linear(7, 4), (30, 7)),
    "wide out": (nn.Linear(3, 8), (30, 3)),
    "tokens": (nn.Linear(5, 3), (12, 6, 5)),
    "conv1d": (nn.Conv1d(3, 4, 3, stride=2, padding=1), (12, 3, 9)),
    "conv2d": (nn.Conv2d(2, 5, (3, 2), dilation=(1, 2), padding=1), (9, 2, 6, 5)),
    "same": (nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular"), (9, 2, 5, 5)),
    "conv3d": (nn.Conv3d(2, 3, 2), (8, 2, 3, 4, 3)),
}


class Head(nn.Module):
    """A layer and a loss whose gradient in the layer's outputs differs from row to row."""

    def __init__(self, layer):
        super().__init__()
        self.layer = copy.deepcopy(layer).double()

    def losses(self, x):
        y = self.layer(x)
        return (
            (y.sin() * torch.linspace(0.5, 2, y[0].numel()).reshape(y.shape[1:])).flatten(1).sum(1)
        )


def measure(module, x, changes, weights=None, batch=5):
    """Curvatures as found from the batches of some rows."""
    curvatures = Curvatures(module, changes)
    tensors = {name: get_tensor(module, name) for name in changes}
    with curvatures.watching():
        parts = [torch.arange(len(x))[i : i + batch] for i in range(0, len(x), batch)]
        mean_square_gradient(
            (
                (module.losses(x[p]).mean(), len(p), None)
                if weights is None
                else ((weights[p] * module.losses(x[p])).mean(), len(p), weights[p])
                for p in parts
            ),
            tensors,
            curvatures.add,
        )
    return curvatures.found()


def slow_moments(module, x):
    """A and G by their definitions, the patches by differentiating one output's places."""
    layer, weight = module.layer, module.layer.weight
    A = torch.zeros(weight[0].numel(), weight[0].numel(), dtype=torch.float64)
    G = torch.zeros(len(weight), len(weight), dtype=torch.float64)
    for row in x:

        def first_output(w, row=row):
            replaced = torch.cat([w[None], weight[1:].detach()])
            y = torch.func.functional_call(layer, {"weight": replaced}, (row[None],))
            return y[..., 0].flatten() if isinstance(layer, nn.Linear) else y[0, 0].flatten()

        patches = torch.autograd.functional.jacobian(first_output, weight[0].detach()).flatten(1)
        y = layer(row[None]).detach().requires_grad_()
        stand_in = copy.copy(module)
        stand_in._modules = {"layer": nn.Identity()}
        (g,) = torch.autograd.grad(stand_in.losses(y).sum(), y)
        g = g.movedim(-1 if isinstance(layer, nn.Linear) else 1, -1).flatten(0, -2)
        A += patches.T @ patches / len(x)
        G += g.T @ g / len(g) / len(x)
    return A.numpy(), G.numpy()


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0) ** exponent) @ vectors.T


def damped(matrix):
    return matrix + DAMPING * np.trace(matrix) / len(matrix) * np.eye(len(matrix))


@pytest.mark.parametrize("name", LAYERS)
def test_the_whitened_cut_is_that_of_the_definition(name):
    layer, shape = LAYERS[name]
    module, x = Head(layer), random(shape, 1).double()
    change = random(layer.weight.shape, 2).double()
    found = measure(module, x, {"layer.weight": change})["layer.weight"]
    A, G = slow_moments(module, x)
    if name == "wide out":
        A = damped(A)
    else:
        G = damped(G)
    D = change.flatten(1)
    white = power(G, 0.5) @ D.numpy() @ power(A, 0.5)
    left, values, _ = np.linalg.svd(white, full_matrices=False)
    spectrum = whitened_spectrum(found, min(D.shape))
    np.testing.assert_allclose(spectrum.values, values, rtol=1e-6, atol=1e-7 * values[0])
    for rank in range(min(D.shape) + 1):
        u, v = whitened_split(D, spectrum, rank)
        # What is left of the best rank-k version in this norm is what the cut leaves.
        rest = power(G, 0.5) @ (D - u @ v).numpy() @ power(A, 0.5)
        np.testing.assert_allclose(
            (rest**2).sum(), (values[rank:] ** 2).sum(), rtol=1e-6, atol=1e-9 * (values**2).sum()
        )
        kept = power(G, 0.5) @ (u @ v).numpy() @ power(A, 0.5)
        np.testing.assert_allclose(
            kept, left[:, :rank] @ left[:, :rank].T @ white, atol=1e-6 * values[0]
        )


def test_the_factors_are_balanced():
    module, x = Head(nn.Linear(7, 4)), random((30, 7), 1).double()
    change = random((4, 7), 2).double()
    found = measure(module, x, {"layer.weight": change})["layer.weight"]
    u, v = whitened_split(change, whitened_spectrum(found, 4), 3)
    torch.testing.assert_close(u.T @ u, v @ v.T)
    torch.testing.assert_close(u.T @ u, torch.diag((u.T @ u).diagonal()))


def test_the_norm_is_the_mean_square_of_the_change_where_rows_and_gradients_are_independent():
    # Every input meets every gradient: then K-FAC is the Fisher matrix, without approximation.
    inputs, gradients = random((6, 5), 0).double(), random((4, 3), 1).double()
    x, g = inputs.repeat(4, 1), gradients.repeat_interleave(6, 0)

    class Given(Head):
        def losses(self, rows):
            return (self.layer(rows[:, :5]) * rows[:, 5:]).sum(1)

    module, change = Given(nn.Linear(5, 3)), random((3, 5), 2).double()
    found = measure(module, torch.cat([x, g], 1), {"layer.weight": change})["layer.weight"]
    first_order = (x @ change.T * g).sum(1)
    assert (found.near * found.far).sum() == pytest.approx(first_order.square().mean())


def test_weights_are_repetitions():
    weights = torch.tensor([0.0, 1.0, 2.0, 0.0, 3.0, 0.0] * 2).double()
    for layer, shape in LAYERS.values():
        module, x = Head(layer), random((12, *shape[1:]), 1).double()
        changes = {"layer.weight": random(layer.weight.shape, 2).double()}
        ours = measure(module, x, changes, weights)["layer.weight"]
        slow = measure(module, x.repeat_interleave(weights.long(), 0), changes)["layer.weight"]
        for one, other in zip(ours[:2], slow[:2], strict=True):
            torch.testing.assert_close(one, other)


def test_a_change_in_place_afterwards_is_none_of_the_layers_business():
    class Relu(Head):
        def __init__(self, inplace):
            super().__init__(nn.Linear(7, 4))
            self.relu = nn.ReLU(inplace=inplace)

        def losses(self, x):
            return self.relu(self.layer(x)).square().sum(1)

    apart, inplace = Relu(False), Relu(True)
    inplace.layer = apart.layer
    x, changes = random((30, 7), 1).double(), {"layer.weight": random((4, 7), 2).double()}
    expected = measure(apart, x, changes)["layer.weight"]
    torch.testing.assert_close(measure(inplace, x, changes)["layer.weight"][:2], expected[:2])


class Odd(Head):
    """Uses its weight in more than the plain way."""

    def __init__(self, way):
        super().__init__(
            nn.Conv1d(4, 4, 3, padding=1, groups=2) if way == "groups" else nn.Linear(4, 4)
        )
        self.way = way

    def losses(self, x):
        if self.way == "groups":
            return self.layer(x[:, :, None]).square().flatten(1).sum(1)
        y = self.layer(x)
        if self.way == "twice":
            y = self.layer(y)
        if self.way == "read":
            y = y + F.linear(x.square(), self.layer.weight)
        if self.way == "unused":
            y = x * 1.0
        if self.way == "penalty":
            y = y + self.layer.weight.square().sum()
        return y.square().sum(1) + 0 * self.layer.bias.sum()


@pytest.mark.parametrize("way", ["groups", "twice", "read", "unused", "penalty"])
def test_nothing_is_said_of_weights_that_are_used_in_other_ways(way):
    module, x = Odd(way), random((30, 4), 1).double()
    change = random(module.layer.weight.shape, 2).double()
    assert measure(module, x, {"layer.weight": change}) == {}


def test_the_plain_way_is_recognised():
    module, x = Odd("plain"), random((30, 4), 1).double()
    assert set(measure(module, x, {"layer.weight": random((4, 4), 2).double()})) == {"layer.weight"}


def test_no_hook_stays():
    module = Head(nn.Linear(7, 4))
    measure(module, random((5, 7), 0).double(), {"layer.weight": random((4, 7), 1).double()})
    assert not module.layer._forward_hooks


def test_a_change_of_nothing_can_still_be_trained():
    module, x = Head(nn.Linear(7, 4)), random((30, 7), 1).double()
    change = torch.zeros(4, 7, dtype=torch.float64)
    found = measure(module, x, {"layer.weight": change})["layer.weight"]
    u, v = whitened_split(change, whitened_spectrum(found, 4), 2)
    assert not u.any()
    torch.testing.assert_close(v @ v.T, torch.eye(2, dtype=torch.float64))


def test_every_network_is_learned(animal, digits):
    X = digits[0][:120].reshape(-1, *animal.shape)
    clf = make_classifier(animal.module, importance="kfac", growth_budget=2.0)
    clf.fit(X, digits[1][:120], task_id=np.repeat([0, 1], 60))
    layers = clf.report_[1]["layers"]
    assert all(np.isfinite(row["predicted_increase"]) for row in layers.values())
    assert set(layers) == set(network_of(clf).roles.perturbed)
