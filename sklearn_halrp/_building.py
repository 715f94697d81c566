"""From the user's skorch net to a network without tasks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn
from torch.nn.parameter import is_lazy

from sklearn_halrp._copies import check_copies, copied, unchanged_by_copies
from sklearn_halrp._faults import let_through
from sklearn_halrp._head import find_head, with_head
from sklearn_halrp._network import Network
from sklearn_halrp._partition import partition
from sklearn_halrp._phase import has_own
from sklearn_halrp._predictive import first_of
from sklearn_halrp._probing import (
    ROWS,
    check_finite,
    check_gradients_reach,
    check_reading_changes_nothing,
    forward_on,
    outputs_on,
    with_weights_it_can_use,
)
from sklearn_halrp._random import seeded, seeded_beside
from sklearn_halrp._training import recipe_of
from sklearn_halrp._types import Target
from sklearn_halrp.exceptions import InvalidNetworkError


def build_module(recipe: NeuralNet, seed: int) -> nn.Module:
    """Return the user's module, freshly built on the net's device.

    With the same seed it is the same module, whatever its constructor draws from torch. Of an
    instance it is a copy. Nobody waits for a thread that learns.
    """
    net = recipe_of(recipe)
    net.compile = False
    with seeded_beside(seed, net.device):
        if _is_given(recipe):
            vars(net)["module"] = copied(recipe.module)  # see recipe_of
        try:
            module = net.initialize().module_
        except (TypeError, ValueError, RuntimeError) as error:
            let_through(error)
            if hasattr(net, "module_"):  # the optimizer may be the first to stumble
                _check_kind(net.module_)
            raise InvalidNetworkError(
                f"The net could not be built: {error}. The module's arguments are given to "
                f"the net, as in {type(recipe).__name__}(Module, module__hidden=32)."
            ) from error
    _check_kind(module)
    return module


def _is_given(recipe: NeuralNet) -> bool:
    """Whether the module is an instance, and not a class to be called."""
    return isinstance(recipe.module, torch.nn.Module)


_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def _check_kind(module: nn.Module) -> None:
    """Refuse modules whose weights cannot be replaced by others."""
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            what = "is TorchScript, whose weights are fixed in its code. Give the Python module"
        elif "_orig_mod" in part._modules:
            what = "was compiled already. Give the module as it was, and compile=True to the net"
        elif type(part).__module__.startswith(_QUANTISED):
            what = "is quantised, so that it cannot be trained. Give the module in floating point"
        else:
            continue
        raise InvalidNetworkError(f"{name or 'The module'} {what}.")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise InvalidNetworkError(
                f"{name} has no shape before data passes through the module. Give the layer its "
                "sizes, or pass one batch through the module and give the instance to the net."
            )
    for name, parameter in module.named_parameters():
        if type(parameter) is not torch.nn.Parameter:
            raise InvalidNetworkError(
                f"{name} is a {type(parameter).__name__}, not a plain parameter (quantised or "
                "spread over devices?). Give a module with plain weights."
            )


def with_outputs(module: nn.Module, head: str, n_outputs: int, seed: int) -> nn.Module:
    """Return the module if its head has this many outputs, else a copy with such a head."""
    if module.get_submodule(head).out_features == n_outputs:
        return module
    with seeded_beside(seed):
        return with_head(module, head, n_outputs)


@torch.inference_mode(False)  # where gradients are off, they are on inside
def build_network(
    recipe: NeuralNet,
    X: NDArray[Any],
    target: Target,
    head: str | None,
    form: str,
    seed: int,
    frozen: bool = False,
) -> Network:
    """Return a network without tasks, with a head for a target.

    Parameters
    ----------
    recipe : skorch.NeuralNet
    X : array of shape (n_samples, *sample_shape)
        A few rows are passed through the module to find its head.
    target : Classes or Numbers
        What the outputs will mean.
    head : str or None
    form : {"channel", "unfolded"}
    seed : int
    frozen : bool
        Whether the module's own weights are the base.

    Returns
    -------
    Network

    Raises
    ------
    InvalidNetworkError
        If the module cannot be built or applied, if no head fits, or if there is
        nothing to perturb.
    """
    users = recipe.module if _is_given(recipe) else None
    module = build_module(recipe, seed)
    with seeded(seed, recipe.device), unchanged_by_copies(users):
        forward = forward_on(recipe, X[:ROWS])
        try:
            every = outputs_on(recipe, X[:ROWS])(module, training=False, gradients=False)
        except Exception as error:
            let_through(error)
            raise InvalidNetworkError(
                f"The network cannot be applied to rows of shape {X.shape[1:]} and type "
                f"{X.dtype}: {error}{_hint(recipe, module, X)}"
            ) from error
        outputs = first_of(every)
        check_finite(module, outputs)
        _check_taken(recipe, every)
        target.check_outputs(recipe, outputs)
        check_reading_changes_nothing(module, forward, seed)
        used = check_copies(module, _seeded_outputs(recipe, X, seed), users)
        name = find_head(module, forward, head)
        module = with_outputs(module, name, target.n_outputs, seed)
        network = Network(module, partition(module, name), form, frozen=frozen)
        check_gradients_reach(network, used)
        network = with_weights_it_can_use(network, recipe, X, seed)
    if frozen:
        module.requires_grad_(False)
    module.eval()
    return network


def _seeded_outputs(recipe: NeuralNet, X: NDArray[Any], seed: int) -> Callable[..., Any]:
    """Return `outputs_on` the first rows, with the same random numbers each time."""
    outputs = outputs_on(recipe, X[:ROWS])

    def again(module: nn.Module, training: bool, gradients: bool = True) -> Any:
        with seeded(seed):
            return outputs(module, training, gradients)

    return again


def _check_taken(recipe: NeuralNet, outputs: Any) -> None:
    """Refuse a tuple of outputs for a loss of torch's, which takes one tensor."""
    criterion = recipe.criterion
    kind = criterion if isinstance(criterion, type) else type(criterion)
    torchs = kind.__module__.startswith("torch.nn.") and not has_own(recipe, "get_loss")
    if isinstance(outputs, tuple) and torchs:
        raise InvalidNetworkError(
            f"The module gives a {type(outputs).__name__} of {len(outputs)}, which skorch hands to "
            f"the criterion as it is, and {kind.__name__} takes one tensor. Return the tensor "
            "alone, or give the net a criterion or a get_loss of your own that takes all of them."
        )


def _hint(recipe: NeuralNet, module: nn.Module, X: NDArray[Any]) -> str:
    """Return what may be behind an error, as the end of its message."""
    if isinstance(X, np.ndarray) and X.dtype.kind == "f":
        kinds: Any = {p.dtype for p in module.parameters() if p.is_floating_point()}
        kinds = {str(kind).removeprefix("torch.") for kind in kinds}
        if kinds and X.dtype.name not in kinds:
            return (
                f". Its weights are {', '.join(sorted(kinds))}: say so with "
                "ContinualClassifier(net, dtype=...), or let the module convert its input."
            )
    if _is_given(recipe):
        return (
            ". A copy of the module is applied, in which functions made in __init__ (closures, "
            "lambdas) keep the layers of the original: write them as methods."
        )
    return ""
