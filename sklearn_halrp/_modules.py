"""Reading and replacing the tensors of a user's module, without touching the module."""

import copy

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def locate(module, name):
    """Return the submodule that owns a tensor, and the tensor's own name there."""
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def get_tensor(module, name):
    """Return a parameter or buffer by its dotted name."""
    owner, leaf = locate(module, name)
    return getattr(owner, leaf)


def named_tensors(module):
    """Return all parameters and buffers by name, each tensor once.

    >>> list(named_tensors(nn.BatchNorm1d(2)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _every_name(module):
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def copy_with(module, replace):
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
    names = {}
    for name, tensor in _every_name(module):
        names.setdefault(id(tensor), []).append(name)
    for old, known_as in names.items():
        first = replace.get(known_as[0])
        if first is not None and all(replace.get(name) is first for name in known_as):
            shared[old] = first
    with _ValuesOfActivations():
        clone = copy.deepcopy(module, shared)
    for name, tensor in replace.items():
        owner, leaf = locate(clone, name)
        if leaf in owner._parameters and not isinstance(tensor, nn.Parameter):
            delattr(owner, leaf)
        setattr(owner, leaf, tensor)
    return clone


class _ValuesOfActivations(TorchFunctionMode):
    """Copy only the values of what a forward pass left behind in a module.

    Such a tensor belongs to a graph, and torch refuses to copy it.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.__deepcopy__ and args[0].grad_fn is not None:
            args[1][id(args[0])] = args[0].detach().clone()
            return args[1][id(args[0])]
        return func(*args, **(kwargs or {}))
