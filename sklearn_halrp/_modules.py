"""Reading and replacing the tensors of a user's module, without touching the module."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def locate(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the submodule that owns a tensor, and the tensor's own name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def get_tensor(module: nn.Module, name: str) -> Any:
    """Return a parameter or buffer by its dotted name."""
    owner, leaf = locate(module, name)
    return getattr(owner, leaf)


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, each tensor once.

    >>> list(named_tensors(nn.BatchNorm1d(2)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same shape and numbers; NaN is the same as NaN.

    >>> same(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, torch.nan]))
    True
    """
    if tensor.shape != other.shape:
        return False
    return bool(((tensor == other) | ((tensor != tensor) & (other != other))).all())


def every_tensor(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, by all their names where weights are tied."""
    return dict(_every_name(module))


def _every_name(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def copy_with(module: nn.Module, replace: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a module that shares all tensors but those replaced.

    Parameters
    ----------
    module : torch.nn.Module
    replace : dict of str to tensor or Parameter
        By name. A Parameter takes the place of a parameter, a tensor that of a buffer;
        a tensor in a parameter's place becomes a plain attribute, unseen by
        ``parameters()``.

    Returns
    -------
    torch.nn.Module
        Of the same class.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> other = copy_with(layer, {"bias": nn.Parameter(layer.bias + 1)})
    >>> other.weight is layer.weight, other.bias is layer.bias
    (True, False)
    """
    shared = {id(tensor): tensor for tensor in named_tensors(module).values()}
    # Other references to a replaced tensor, as in a list of the module's own, follow it.
    names: dict[int, list[str]] = {}
    for name, tensor in _every_name(module):
        names.setdefault(id(tensor), []).append(name)
    for old, known_as in names.items():
        first = replace.get(known_as[0])
        if first is not None and all(replace.get(name) is first for name in known_as):
            shared[old] = first
    with ValuesOfActivations():
        clone = _copied(module, shared)
    for name, tensor in replace.items():
        owner, leaf = locate(clone, name)
        if leaf in owner._parameters and not isinstance(tensor, nn.Parameter):
            delattr(owner, leaf)
        setattr(owner, leaf, tensor)
    return clone


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return what ``copy.deepcopy`` does, in a fraction of the time."""
    kind: Any = type(module)
    if id(module) in memo or not _is_copied_as_usual(kind):
        return copy.deepcopy(module, memo)
    clone: Any = object.__new__(kind)
    memo[id(module)] = clone
    for name, value in vars(module).items():
        if type(value) in _PLAIN:
            new = value
        elif name == "_modules":
            parts = value.items()
            new = {key: None if part is None else _copied(part, memo) for key, part in parts}
        elif type(value) in _CONTAINERS and not value:
            new = memo.setdefault(id(value), type(value)())
        else:
            new = copy.deepcopy(value, memo)
        clone.__dict__[name] = new
    return clone


_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)
_CONTAINERS = (dict, OrderedDict, set, list)
_COPYING = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


@cache
def _is_copied_as_usual(kind: type) -> bool:
    """Whether a class of modules has no way of its own to be copied."""
    return all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in _COPYING)


class ValuesOfActivations(TorchFunctionMode):
    """Copy only the values of what a forward pass left behind in a module.

    Such a tensor belongs to a graph, and torch refuses to copy it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and args[0].grad_fn is not None:
            args[1][id(args[0])] = args[0].detach().clone()
            return args[1][id(args[0])]
        return func(*args, **(kwargs or {}))


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Undo, in the end, what happens to a module's tensors and parts; let nothing load into it.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> weight, before = layer.weight, layer.weight.detach().clone()
    >>> with as_it_was(layer):
    ...     _ = nn.init.zeros_(layer.weight)
    ...     layer.weight = nn.Parameter(torch.ones(2, 2))
    ...     layer.load_state_dict({"of": "another module"})
    <All keys matched successfully>
    >>> layer.weight is weight, torch.equal(weight, before)
    (True, True)
    """
    parts = list(module.modules())
    entries = [
        (getattr(part, kind), dict(getattr(part, kind))) for part in parts for kind in _KINDS
    ]
    tensors = [(t, t.detach().clone(), t.requires_grad) for t in named_tensors(module).values()]
    modes = [(part, part.training) for part in parts]
    hooks: list[Any] = []
    try:
        for part in parts:
            # With its own state in place of the one given, no name and no shape can be wrong.
            hook = part._register_load_state_dict_pre_hook(_own_state, with_module=True)
            hooks.append(hook)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for now, before in entries:
            now.clear()
            now.update(before)
        for tensor, value, trained in tensors:
            if (tensor.shape, tensor.dtype) == (value.shape, value.dtype):
                with torch.no_grad():
                    tensor.copy_(value)
            else:
                tensor.data = value
            tensor.requires_grad_(trained)
        for part, mode in modes:
            part.training = mode


_KINDS = ("_parameters", "_buffers", "_modules")


def _own_state(module: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    state_dict.update(module.state_dict(prefix=prefix))
