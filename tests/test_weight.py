import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.inside import (
    FORMS,
    Factors,
    PerturbedWeight,
    copy_with,
    effective_weight,
    get_tensor,
    matrix_shape,
    named_tensors,
    partition,
)
from tests.modules import ZOO

SEQUENTIAL = {"conv1d", "conv2d", "conv3d", "depthwise", "transposed"}


def factors_for(weight, form, rank):
    rows, columns = matrix_shape(weight.shape, form)
    return Factors(
        *(
            nn.Parameter(t)
            for t in (
                1 + torch.randn(weight.shape[0]) / 10,
                1 + torch.randn(weight.shape[1]) / 10,
                torch.randn(rows, rank) / 10,
                torch.randn(rank, columns) / 10,
            )
        )
    )


def _head_of(module):
    return "head" if hasattr(module, "head") else "last"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"binary"}))
def test_outputs_and_gradients_equal_the_dense_weight(name, rank, form):
    torch.manual_seed(0)
    module, shape = ZOO[name].module(), ZOO[name].shape
    module = module.eval()  # no dropout, so that two passes can be compared
    linear = [k for k, m in module.named_modules() if isinstance(m, nn.Linear)]
    roles = partition(module, linear[-1] if name in SEQUENTIAL else _head_of(module))
    factors = {n: factors_for(get_tensor(module, n), form, rank) for n in roles.perturbed}
    x = torch.rand(7, *shape)

    def output_and_gradients(make):
        replaced = {}
        for n, f in factors.items():
            weight = make(get_tensor(module, n).detach(), f)
            replaced |= dict.fromkeys(roles.every_name(n), weight)
        output = copy_with(module, replaced)(x)
        parameters = [p for f in factors.values() for p in f]
        return output, torch.autograd.grad(output.pow(2).sum(), parameters, allow_unused=rank == 0)

    ours, ours_grad = output_and_gradients(lambda w, f: PerturbedWeight(w, f, form))
    dense, dense_grad = output_and_gradients(lambda w, f: effective_weight(w, f, form))
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours_grad, dense_grad, strict=True):
        if b is not None and b.numel():
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_linear_layer_forms_no_dense_weight(monkeypatch):
    weight = torch.randn(5, 4)
    lazy = PerturbedWeight(weight, factors_for(weight, "channel", 2), "channel")
    expected = F.linear(torch.ones(3, 4), lazy.dense(), torch.ones(5))

    def fail(self):
        raise AssertionError("the dense weight was formed")

    monkeypatch.setattr(PerturbedWeight, "dense", fail)
    layer = copy_with(nn.Linear(4, 5), {"weight": lazy, "bias": nn.Parameter(torch.ones(5))})
    torch.testing.assert_close(layer(torch.ones(3, 4)), expected)
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size(0)) == ((5, 4), torch.float32, 2, 5)


def test_what_would_lose_the_gradient_is_refused():
    weight = torch.randn(5, 4)
    lazy = PerturbedWeight(weight, factors_for(weight, "channel", 1), "channel")
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(NotImplementedError):
        torch.add(lazy, 1)


def test_factors_of_another_weight_are_refused():
    weight = torch.randn(5, 4)
    with pytest.raises(ValueError, match="do not fit"):
        PerturbedWeight(weight, factors_for(torch.randn(6, 4), "channel", 1), "channel")


@pytest.mark.parametrize("name", ZOO)
def test_a_copy_shares_what_was_not_replaced(name):
    module = ZOO[name].module()
    bias = next(n for n in named_tensors(module) if n.endswith(("bias", "scale", "weight")))
    clone = copy_with(module, {bias: nn.Parameter(torch.ones_like(get_tensor(module, bias)))})
    assert type(clone) is type(module)
    for n, tensor in named_tensors(clone).items():
        assert (tensor is get_tensor(module, n)) == (n != bias), n


def test_a_copy_has_its_own_of_what_is_empty_and_what_is_shared_stays_so():
    """As with ``copy.deepcopy``; a container of layers without any is false."""

    class Empty(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.none, self.layers = nn.Linear(2, 2), nn.Sequential(), nn.ModuleList()
            self.kept = self.log = []
            self.also = {"layer": self.layer, "log": self.log}

    module = Empty()
    clone = copy_with(module, {})
    for name in ("layer", "none", "layers", "kept", "also"):
        assert getattr(clone, name) is not getattr(module, name), name
    assert clone.kept is clone.log is clone.also["log"]
    assert clone.also["layer"] is clone.layer
    assert clone.layer.weight is module.layer.weight


def test_under_autocast_the_types_are_those_of_a_linear_layer():
    weight = torch.randn(4, 3)
    factors, x = factors_for(weight, "channel", 2), torch.randn(5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = F.linear(x, PerturbedWeight(weight, factors, "channel"), torch.zeros(4))
    assert ours.dtype is torch.bfloat16
    expected = F.linear(x, effective_weight(weight, factors, "channel"))
    torch.testing.assert_close(ours.float(), expected, rtol=0.05, atol=0.05)
