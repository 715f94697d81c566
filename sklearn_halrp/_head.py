"""The head: the linear layer that gives the outputs of a task."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sklearn_halrp._faults import let_through
from sklearn_halrp._modules import copy_with
from sklearn_halrp.exceptions import InvalidNetworkError


def head_tensors(name: str, layer: nn.Module) -> list[str]:
    """Return the names of the head's own tensors."""
    return [f"{name}.{leaf}" if name else leaf for leaf, _ in layer.named_parameters()]


def with_head(module: nn.Module, name: str, n_outputs: int) -> nn.Module:
    """Return a copy of the module with a fresh head of `n_outputs` outputs.

    All other tensors are shared with the original.
    """
    old: Any = module.get_submodule(name)
    fresh = nn.Linear(
        old.in_features,
        n_outputs,
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    prefix = f"{name}." if name else ""
    clone: Any = copy_with(module, {prefix + leaf: p for leaf, p in fresh.named_parameters()})
    clone.get_submodule(name).out_features = n_outputs
    return clone


def grow_head(
    fresh: Iterable[torch.Tensor], old: Iterable[torch.Tensor], places: ArrayLike
) -> None:
    """Copy the outputs of a head into a larger one, output i to place places[i]."""
    with torch.no_grad():
        for new, known in zip(fresh, old, strict=True):
            new[torch.as_tensor(places)] = known.to(new)


def find_head(module: nn.Module, forward: Callable[..., Any], name: str | None = None) -> str:
    """Find the linear layer whose outputs are the outputs of the network.

    A layer fits when one output more of it gives one output more of the network.

    Parameters
    ----------
    module : torch.nn.Module
    forward : callable
        Takes a module, returns its output for a small batch, shape (n, n_outputs).
    name : str, optional
        The head's name, when the user has named it.

    Returns
    -------
    str
        The name of the head within the module.

    Raises
    ------
    InvalidNetworkError
        If no layer or more than one fits, or the one named does not.
    """
    linear = {key: layer for key, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    columns = columns_of(forward(module))
    if name is not None:
        if name not in linear:
            raise InvalidNetworkError(
                f"head={name!r} names no torch.nn.Linear of the network; its linear "
                f"layers are {_listed(linear)}."
            )
        if not _fits(module, name, linear[name], columns, forward):
            _check_plain(module, {name: linear[name]}, columns, forward)
            raise InvalidNetworkError(
                f"head={name!r} does not fit: with one output more of it the network "
                f"does not have one more. Linear layers: {_listed(linear)}."
            )
        return name
    fitting = [
        key
        for key, layer in linear.items()
        if layer.out_features <= columns and _fits(module, key, layer, columns, forward)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidNetworkError(
            f"Several layers could be the head: {_listed(fitting)}. Name the one that "
            f"belongs to the task, with the parameter head={fitting[-1]!r}."
        )
    _check_plain(module, linear, columns, forward)
    raise InvalidNetworkError(
        "No torch.nn.Linear of the network can be its head: none of "
        f"{_listed(linear)} gives the network one output more when it has one more. "
        "End the network in a torch.nn.Linear with one output per class or target, with nothing "
        "after it but element-wise functions or a softmax."
    )


def _fits(
    module: nn.Module, name: str, layer: nn.Linear, columns: int, forward: Callable[..., Any]
) -> bool:
    try:
        return columns_of(forward(with_head(module, name, layer.out_features + 1))) == columns + 1
    except Exception as error:  # whatever a network raises when its shapes no longer match
        let_through(error)
        return False


def _check_plain(
    module: nn.Module, linear: Mapping[str, nn.Linear], columns: int, forward: Callable[..., Any]
) -> None:
    """Refuse a head whose weight is computed from others, and say how to make it plain.

    Its shape is theirs, so it cannot be given other outputs.
    """
    for name, layer in linear.items():
        undo = _undo(layer)
        if undo is None:
            continue
        plain = nn.Linear(layer.in_features, layer.out_features + 1)
        clone = copy_with(module, {})
        for each, part in list(module.named_modules(remove_duplicate=False)):
            if part is layer and each:
                owner, _, leaf = each.rpartition(".")
                setattr(clone.get_submodule(owner), leaf, plain.to(next(layer.parameters())))
        try:
            fits = columns_of(forward(clone)) == columns + 1
        except Exception as error:  # as in _fits
            let_through(error)
            continue
        if fits:
            raise InvalidNetworkError(
                f"The head {name!r} is reparametrised: its weight or bias is computed from other "
                "tensors, and each task needs a plain one of its own size. Leave that out for "
                f"this layer, or undo it at the end of __init__ with {undo}."
            )


def _undo(layer: Any) -> str | None:
    """Return the call that makes a reparametrised layer a plain one, or None if it is plain."""
    if parametrize.is_parametrized(layer):
        leaf = next(iter(layer.parametrizations))
        return f"torch.nn.utils.parametrize.remove_parametrizations(layer, {leaf!r})"
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            return "torch.nn.utils.remove_weight_norm(layer)"
        if isinstance(hook, SpectralNorm):
            return "torch.nn.utils.remove_spectral_norm(layer)"
        if isinstance(hook, prune.BasePruningMethod):
            return f"torch.nn.utils.prune.remove(layer, {hook._tensor_name!r})"
    return None


def columns_of(output: Any) -> int:
    """Return the number of outputs for a row; refuse all but a matrix."""
    if not isinstance(output, torch.Tensor):
        raise InvalidNetworkError(
            "The network must give an output of shape (n_samples, n_outputs); this one gave "
            f"the type {type(output).__name__}. Return the tensor itself, or a tuple that begins "
            "with it."
        )
    if output.dim() != 2:
        raise InvalidNetworkError(
            "The network must give an output of shape (n_samples, n_outputs); this one gave "
            f"{tuple(output.shape)}."
        )
    return output.shape[1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "(there are none)"
