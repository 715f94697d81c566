"""What a norm with running statistics makes redundant, and how it is neither trained nor stored.

A layer gives ``z = r a + b`` for each output, with ``a`` what its weights make of a row, and a
norm after it ``y = g (z - m) / sqrt(v + e) + h``. Of six numbers two are free: a line in ``a``. So
a task keeps the g and h with which r is 1 and b, m and v are those of the base. While it is
trained, m and v have to be those of its own rows; they are then measured.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from skorch import NeuralNet
from skorch.dataset import unpack_data
from torch import nn

from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor, locate
from sklearn_halrp._network import Network
from sklearn_halrp._processes import agreed
from sklearn_halrp._statistics import BATCHES

# Rows of U are divided by r, where all of a layer are at least this large.
SMALLEST_SCALE = 0.1
# Most that outputs may move, over the largest of them, by another form of the same line.
TOLERANCE = 1e-4

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Normed:
    """A layer whose outputs go into a norm and nowhere else.

    Attributes
    ----------
    weight : str
        Name of its weight.
    bias : str or None
    norm : str
        Name of the norm; ``eps`` is its.
    """

    weight: str
    bias: str | None
    norm: str
    eps: float

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of what the norm counts and measures."""
        return tuple(f"{self.norm}.{leaf}" for leaf in (*_MEASURED, "num_batches_tracked"))

    @property
    def redundant(self) -> tuple[str, ...]:
        """Names of the tensors that a task need not store."""
        return (*self.buffers, *([self.bias] if self.bias else []))


_MEASURED = ("running_mean", "running_var")


class _Line(NamedTuple):
    """What the norm makes of ``a``, in one of its forms: r, b, m, v, each (out,)."""

    r: torch.Tensor
    b: torch.Tensor
    mean: torch.Tensor
    var: torch.Tensor


def normed_layers(
    network: Network, forward: Callable[[nn.Module], torch.Tensor]
) -> tuple[Normed, ...]:
    """Find the layers whose outputs go into a norm with running statistics, and nowhere else.

    Parameters
    ----------
    network : Network
    forward : callable
        Applies a module to a few rows, and gives its outputs.

    Returns
    -------
    tuple of Normed
        Each has been tried: with another r and b, and the g and h for them, the outputs are the
        same.
    """
    candidates = _candidates(network, forward)
    before = forward(network.base_alone()) if candidates else None
    if _all_hold(network, candidates, forward, before):
        return candidates
    return tuple(one for one in candidates if _all_hold(network, (one,), forward, before))


def _candidates(network: Network, forward: Callable[[nn.Module], Any]) -> tuple[Normed, ...]:
    roles, module = network.roles, network.base_alone()
    layers: dict[str, list[Any]] = {}
    norms: dict[str, list[Any]] = {}
    hooks = []
    for name in roles.perturbed:
        owner, leaf = locate(module, name)
        if leaf == "weight" and type(owner) in _LAYERS and name not in roles.aliases:
            seen = layers.setdefault(name, [])
            hooks.append(owner.register_forward_hook(lambda *call, seen=seen: seen.append(call[2])))
    for prefix, norm in module.named_modules():
        own = {f"{prefix}.{leaf}" for leaf in ("weight", "bias", *_MEASURED, "num_batches_tracked")}
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and own <= set(roles.own):
            seen = norms.setdefault(prefix, [])
            hooks.append(
                norm.register_forward_pre_hook(lambda *call, seen=seen: seen.append(call[1][0]))
            )
    if not layers or not norms:
        return ()
    forward(module)
    found = []
    for name, outputs in layers.items():
        called_once = {prefix: inputs[0] for prefix, inputs in norms.items() if len(inputs) == 1}
        after = [
            prefix for prefix, x in called_once.items() if len(outputs) == 1 and x is outputs[0]
        ]
        if len(after) != 1:
            continue
        its_norm: Any = module.get_submodule(after[0])
        leaf = f"{name.removesuffix('weight')}bias"
        bias = leaf if leaf in roles.own else None
        has_bias = locate(module, name)[0].bias is not None
        if its_norm.num_features == len(get_tensor(module, name)) and has_bias == bool(bias):
            found.append(Normed(name, bias, after[0], its_norm.eps))
    return tuple(found)


_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _all_hold(
    network: Network,
    normed: Sequence[Normed],
    forward: Callable[[nn.Module], Any],
    before: Any,
) -> bool:
    """Whether other weights and biases, with the norms' numbers for them, give the same."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    base = network.own_of_base()
    for one in normed:
        weight = get_tensor(network.base, one.weight).detach()
        drawn = torch.rand(2, len(weight), generator=generator).to(weight) + 0.5
        tensors[one.weight] = weight * drawn[0].reshape(-1, *(1,) * (weight.dim() - 1))
        line = _line(base, one, drawn[0])
        if one.bias:
            tensors[one.bias] = line.b + drawn[1]
            line = line._replace(b=tensors[one.bias])
        tensors |= _moved(base, one, _line(base, one), line)
    return not normed or same_outputs(forward(network.module_with(tensors).eval()), before)


def same_outputs(outputs: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether outputs are as they were, up to rounding."""
    return bool((outputs - before).abs().max() <= TOLERANCE * before.abs().max().clamp_min(1))


def _line(own: Mapping[str, torch.Tensor], one: Normed, r: torch.Tensor | None = None) -> _Line:
    mean, var = (own[f"{one.norm}.{leaf}"] for leaf in _MEASURED)
    ones = torch.ones_like(mean)
    b = own[one.bias] if one.bias else torch.zeros_like(mean)
    return _Line(ones if r is None or not r.numel() else r, b, mean, var)


def _moved(own: Mapping[str, torch.Tensor], one: Normed, old: _Line, new: _Line) -> Tensors:
    """Return the g and h of a norm for another form of the same line."""
    g, h = (own[f"{one.norm}.{leaf}"] for leaf in ("weight", "bias"))
    like, (g, h) = g, (g.double(), h.double())
    old, new = (_Line(*(t.double() for t in line)) for line in (old, new))
    slope = g / (old.var + one.eps).sqrt()
    there = slope * old.r / new.r
    moved = {
        f"{one.norm}.weight": there * (new.var + one.eps).sqrt(),
        f"{one.norm}.bias": h + slope * (old.b - old.mean) - there * (new.b - new.mean),
    }
    return {name: tensor.to(like) for name, tensor in moved.items()}


def begin(
    normed: Iterable[Normed],
    base: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    factors: Mapping[str, Factors],
) -> tuple[Tensors, dict[str, Factors]]:
    """Return a task of the same outputs to be trained, with no r before a norm, and b the base's.

    Parameters
    ----------
    normed : iterable of Normed
    base : dict of str to tensor
        The own tensors as the base has them.
    own : dict of str to tensor
    factors : dict of str to Factors
        A layer keeps its r where some of it is near 0.

    Returns
    -------
    own : dict of str to tensor
    factors : dict of str to Factors
    """
    own, factors = dict(own), dict(factors)
    for one in normed:
        old = _line(own, one, factors[one.weight].r)
        if old.r.abs().min() < SMALLEST_SCALE:
            continue
        b = base[one.bias] if one.bias else torch.zeros_like(old.b)
        new = _Line(torch.ones_like(old.r), b, (old.mean - old.b) / old.r + b, old.var / old.r**2)
        own |= _moved(own, one, old, new)
        own |= dict(zip((f"{one.norm}.{leaf}" for leaf in _MEASURED), new[2:], strict=True))
        own |= {one.bias: b.clone()} if one.bias else {}
        _, s, u, v = factors[one.weight]
        factors[one.weight] = Factors(old.r.new_empty(0), s, u / old.r[:, None], v)
    return own, factors


@torch.no_grad()
def measure(
    normed: Sequence[Normed], own: Mapping[str, torch.Tensor], net: NeuralNet, dataset: Any
) -> Tensors:
    """Return the tensors of a task with the statistics of its own rows, and the same outputs.

    Parameters
    ----------
    normed : sequence of Normed
    own : dict of str to tensor
    net : skorch.NeuralNet
        Around a module that computes the task.
    dataset : Dataset
        Rows to train on.

    Returns
    -------
    dict of str to tensor
    """
    module: Any = net.module_
    module.eval()
    with _watched(module, normed) as seen:
        for batch in islice(net.get_iterator(dataset, training=True), BATCHES):
            net.infer(unpack_data(batch)[0])
    own = dict(own)
    for one in normed:
        values = agreed(
            net, [torch.stack(kind).mean(0).cpu() for kind in zip(*seen[one.norm], strict=True)]
        )
        old = _line(own, one)
        mean, var = (value.to(old.mean) for value in values)
        own |= _moved(own, one, old, old._replace(mean=mean, var=var))
        own |= dict(zip((f"{one.norm}.{leaf}" for leaf in _MEASURED), (mean, var), strict=True))
    return own


@contextmanager
def _watched(module: nn.Module, normed: Iterable[Normed]) -> Iterator[dict[str, list[Any]]]:
    """Note the mean and variance of each batch that goes into a norm, as it would itself."""
    seen: dict[str, list[Any]] = {one.norm: [] for one in normed}

    def note(name: str, x: torch.Tensor) -> None:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        seen[name].append((x.mean(axes), x.var(axes)))

    hooks = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: note(name, inputs[0])
        )
        for name in seen
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def fold(
    network: Network,
    normed: Iterable[Normed],
    module: nn.Module,
    factors: Mapping[str, Factors],
    forward: Callable[[nn.Module], torch.Tensor],
) -> None:
    """Give a trained module the base's statistics, and the g and h with which it gives the same.

    Parameters
    ----------
    network : Network
    normed : iterable of Normed
    module : torch.nn.Module
        Changed in place, unless its outputs would change.
    factors : dict of str to Factors
        With which it was trained.
    forward : callable
        Applies a module to a few rows, and gives its outputs.
    """
    normed = tuple(normed)
    if not normed:
        return
    base, before = network.own_of_base(), forward(module)
    own = {name: get_tensor(module, name).detach().clone() for name in network.roles.own}
    folded: Tensors = {}
    for one in normed:
        r = factors[one.weight].r
        folded |= _moved(own, one, _line(own, one, r), _line(base, one, r))
        folded |= {name: base[name] for name in one.redundant}
    _put(module, folded)
    if not same_outputs(forward(module), before):
        _put(module, own)


def _put(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        get_tensor(module, name).copy_(tensor)
