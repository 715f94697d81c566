import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inside import Factors, PerturbedWeight, convolution, effective_weight

FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def perturbed(out, inputs, kernel, rank, smallest=0.5):
    """A weight and its factors, in double precision."""
    scales = [
        1 + random(size, seed=seed).clamp(-0.5, 0.5) for seed, size in enumerate((out, inputs))
    ]
    scales[0][0] = smallest
    factors = [*scales, random(out, rank, seed=3), random(rank, inputs, seed=4)]
    return random(out, inputs, *kernel, seed=5), Factors(*(f.requires_grad_() for f in factors))


@given(
    kernel=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rank=st.integers(0, 2),
    extra=st.integers(0, 3),
    padding=st.integers(0, 1),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    smallest=st.sampled_from([0.5, -0.5, 0.0]),
)
@settings(max_examples=80, deadline=None)
def test_output_and_gradients_are_those_of_the_dense_weight(
    kernel, channels, rank, extra, padding, stride, bias, smallest
):
    weight, factors = perturbed(*channels, kernel, rank, smallest)
    x = random(5, channels[1], *(k + extra for k in kernel), seed=6).requires_grad_()
    b = random(channels[0], seed=7).requires_grad_() if bias else None
    function, inputs = FUNCTIONS[len(kernel)], [x, *factors, *([b] if bias else [])]
    found = []
    for w in (
        PerturbedWeight(weight, factors, "channel"),
        effective_weight(weight, factors, "channel"),
    ):
        y = function(x, w, b, stride, padding)
        gradients = torch.autograd.grad(y.sin().sum(), inputs, allow_unused=rank == 0)
        found.append([y, *gradients])
    for ours, dense in zip(*found, strict=True):
        if dense is not None:
            torch.testing.assert_close(ours, dense, rtol=1e-8, atol=1e-8)


@pytest.fixture
def case():
    weight, factors = perturbed(4, 3, (3, 3), 2)
    x = random(6, 3, 8, 8, seed=6).requires_grad_()
    return x, weight, factors, random(4, seed=7)


def gradients(x, w, b, factors, after):
    return torch.autograd.grad(after(F.conv2d(x, w, b, padding=1)).sum(), [x, *factors])


@pytest.mark.parametrize("after", [torch.relu_, torch.tanh, lambda y: y.mul_(2).exp()])
@pytest.mark.parametrize("part", [1, 100, 2**17])
def test_the_output_may_be_changed_in_place(case, after, part, monkeypatch):
    monkeypatch.setattr(convolution, "PART", part)
    x, weight, factors, _ = case
    ours = gradients(x, PerturbedWeight(weight, factors, "channel"), None, factors, after)
    dense = gradients(x, effective_weight(weight, factors, "channel"), None, factors, after)
    for a, b in zip(ours, dense, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_can_be_differentiated(case):
    x, weight, factors, bias = case
    found = []
    for w in (
        PerturbedWeight(weight, factors, "channel"),
        effective_weight(weight, factors, "channel"),
    ):
        y = F.conv2d(x, w, bias, padding=1).sin().sum()
        (gx,) = torch.autograd.grad(y, x, create_graph=True)
        found.append(torch.autograd.grad(gx.pow(2).sum(), [x, *factors]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_in_single_precision_the_gradients_are_as_good_as_the_dense_ones(case):
    x, weight, factors, _ = case
    exact = gradients(x, effective_weight(weight, factors, "channel"), None, factors, torch.sin)
    low = Factors(*(f.detach().float().requires_grad_() for f in factors))
    rows = x.detach().float().requires_grad_()
    for w in (
        PerturbedWeight(weight.float(), low, "channel"),
        effective_weight(weight.float(), low, "channel"),
    ):
        for a, b in zip(gradients(rows, w, None, low, torch.sin), exact, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_an_empty_batch_and_transforms_of_functions(case):
    x, weight, factors, _ = case
    lazy = PerturbedWeight(weight, factors, "channel")
    dense = effective_weight(weight, factors, "channel")
    none = x[:0].detach().requires_grad_()
    assert F.conv2d(none, lazy, padding=1).shape == (0, 4, 8, 8)
    F.conv2d(none, lazy, padding=1).sum().backward()
    found = [
        torch.func.grad(lambda x, w=w: F.conv2d(x, w).sin().sum())(x.detach())
        for w in (lazy, dense)
    ]
    torch.testing.assert_close(*found)
