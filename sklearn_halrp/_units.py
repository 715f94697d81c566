"""A module whose outputs are standardised, made to give them in their own units."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sklearn_halrp._faults import let_through


class Units(nn.Module):
    """Gives ``scale * x + center``.

    Parameters
    ----------
    center, scale : tensor of shape (n_outputs,)
    """

    def __init__(self, center: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)

    def forward(self, x: Any) -> Any:
        """Return x in its own units; of several outputs, the first."""
        if isinstance(x, tuple):
            return (self(x[0]), *x[1:])
        return self.scale * x + self.center


def in_units(
    module: nn.Module,
    head: str,
    center: Any,
    scale: Any,
    trial: Callable[[], Callable[..., Any]],
) -> nn.Module:
    """Return a module whose outputs are ``scale * x + center`` of those of this one.

    Where the outputs are the head's own, the head takes in center and scale, and the module is
    of the same class as before. Otherwise `Units` come after it.

    Parameters
    ----------
    module : torch.nn.Module
        It may be changed.
    head : str
        Name of the linear layer that gives the outputs.
    center, scale : array of shape (n_outputs,)
    trial : callable
        Returns a function that applies a module to a few rows.

    Returns
    -------
    torch.nn.Module
    """
    if not center.any() and (scale == 1).all():
        return module
    layer: Any = module.get_submodule(head)
    center, scale = (torch.from_numpy(a).to(layer.weight.device) for a in (center, scale))
    if _ends_in(module, head, trial()):
        return _scaled(module, head, scale, center)
    units = Units(center.to(layer.weight.dtype), scale.to(layer.weight.dtype))
    return nn.Sequential(OrderedDict(network=module, units=units)).eval()


def _ends_in(module: nn.Module, head: str, forward: Callable[..., Any]) -> bool:
    """Whether the outputs of a module are those of its head, also where these are far away."""
    seen: list[Any]
    for factor in (1, -1024):  # what bends, or cuts off, does not leave both alone
        trial: Any = copy.deepcopy(module)
        factors = torch.full((trial.get_submodule(head).out_features,), factor)
        trial, seen = _scaled(trial, head, factors), []
        layer = trial.get_submodule(head)
        layer.register_forward_hook(lambda *args, seen=seen: seen.append(args[-1]))
        try:
            outputs = forward(trial)
        except Exception as error:  # the rows are made up, and not every module takes such
            let_through(error, answer=Warning)
            return False
        if len(seen) != 1 or not torch.equal(outputs, seen[0]):
            return False
    return True


def _scaled(
    module: nn.Module, head: str, scale: torch.Tensor, center: torch.Tensor | None = None
) -> nn.Module:
    """Return the module with a head that multiplies each output by a number, and adds one."""
    layer: Any = module.get_submodule(head)
    weight, bias = layer.weight, layer.bias
    scale = scale.to(weight.device).double()
    layer.weight = _like(weight, weight.double() * scale[:, None])
    if bias is not None or center is not None:
        shift = 0 if center is None else center
        own = torch.zeros_like(scale) if bias is None else bias.double()
        layer.bias = _like(weight if bias is None else bias, own * scale + shift)
    return module


def _like(parameter: torch.Tensor, values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().to(parameter.dtype), requires_grad=parameter.requires_grad)
