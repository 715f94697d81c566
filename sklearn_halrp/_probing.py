"""What a module does with its weights, tried on a few rows before anything is trained."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from skorch import NeuralNet
from torch import nn

from sklearn_halrp._faults import let_through
from sklearn_halrp._head import columns_of
from sklearn_halrp._low_rank import Factors, matrix_shape
from sklearn_halrp._modules import get_tensor, named_tensors, same
from sklearn_halrp._network import Network
from sklearn_halrp._perturbed import perturbed_module
from sklearn_halrp._phase import has_own
from sklearn_halrp._predictive import broken_rows, first_of
from sklearn_halrp._random import seeded
from sklearn_halrp._training import around, recipe_of
from sklearn_halrp._types import TaskId
from sklearn_halrp.exceptions import HalrpError, InvalidNetworkError

ROWS = 8


def forward_on(
    recipe: NeuralNet, X: NDArray[Any], training: bool = False
) -> Callable[[nn.Module], Any]:
    """Return a function that applies a module to a few rows, and gives what it predicts by.

    Parameters
    ----------
    recipe : skorch.NeuralNet
    X : array of shape (n_samples, *sample_shape)
    training : bool
        Whether in training mode and with gradients.
    """
    outputs = outputs_on(recipe, X)
    return lambda module: first_of(outputs(module, training, gradients=training))


def outputs_on(recipe: NeuralNet, X: NDArray[Any]) -> Callable[..., Any]:
    """Return a function that applies a module to a few rows, and gives all that it returns.

    It takes the module, whether it is in training, and whether gradients are wanted.
    """
    net, own = recipe_of(recipe), has_own(recipe, "infer")
    dataset = net.get_dataset(X, np.zeros(len(X), dtype=np.int64))
    (batch, _), *_ = net.get_iterator(dataset, training=False)

    def outputs(module: nn.Module, training: bool, gradients: bool = True) -> Any:
        with torch.set_grad_enabled(gradients):
            module.train(training)
            ready = around(net, module, own=own, callbacks="disable", compile=False)
            return ready.infer(batch)

    return outputs


def check_reading_changes_nothing(
    module: nn.Module, forward: Callable[..., Any], seed: int
) -> None:
    """Refuse a module that computes something else each time, or rewrites its weights."""
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    outputs = []
    for _ in range(2):
        with seeded(seed):  # a module may be random by intention
            outputs.append(forward(module))
    for name, parameter in module.named_parameters():
        if not same(parameter, before[name]):
            raise InvalidNetworkError(
                f"The module changes {name} whenever it is applied, also in evaluation mode, so "
                "no task could keep its predictions. Compute with a changed copy of the weight."
            )
    if not same(*outputs):
        raise InvalidNetworkError(
            "The module computes something else each time it is applied, also in evaluation "
            "mode, so no task could keep its predictions. Let it change its buffers only while "
            "self.training is true."
        )


def check_finite(module: nn.Module, outputs: Any) -> None:
    """Refuse outputs that are no matrix of real numbers, or not finite.

    Minus infinity may stand for a class that is ruled out.

    Raises
    ------
    InvalidNetworkError
    """
    columns_of(outputs)
    if not outputs.is_floating_point():
        raise InvalidNetworkError(
            f"The module gives outputs of type {_name(outputs.dtype)}, and a loss takes real "
            "numbers. Return logits: no labels, and of complex numbers their .real or .abs()."
        )
    _check_weights(module)
    rows = broken_rows(outputs).nonzero().flatten().tolist()
    if not rows:
        return
    broken = [name for name, t in named_tensors(module).items() if not torch.isfinite(t).all()]
    cause = f"Is it for {broken[0]}, which is not finite? Or look" if broken else "Look"
    raise InvalidNetworkError(
        f"The module's outputs for row {rows[0]} are NaN or infinite before anything is trained. "
        f"{cause} for a division by 0, such as by the norm of an empty row, or a logarithm of 0."
    )


def _check_weights(module: nn.Module) -> None:
    """Refuse weights that are not finite, but for what is never trained, such as a mask."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise InvalidNetworkError(
                f"The module's {name} is not finite before anything is trained. Give a module "
                "with finite weights; register what is constant as a buffer."
            )


def check_gradients_reach(network: Network, used: set[str]) -> None:
    """Refuse a network in which no gradient reaches a weight that tasks perturb.

    Parameters
    ----------
    network : Network
    used : set of str
        The parameters that the module's outputs depend on.
    """
    perturbed = network.roles.perturbed
    if used.isdisjoint(perturbed):
        raise InvalidNetworkError(
            f"No gradient reaches a weight that a task could perturb ({', '.join(perturbed)}). "
            "Let the outputs depend on them, without torch.no_grad(), .detach() or "
            "checkpoint(..., use_reentrant=True) between."
        )


def warn_if_unmoved(task_id: TaskId, network: Network, module: nn.Module) -> None:
    """Say that a warm-up changed no weight, so that a task becomes its own tensors alone.

    Parameters
    ----------
    task_id : int or str
    network : Network
    module : torch.nn.Module
        After the warm-up.

    Warns
    -----
    UserWarning
        If every weight that tasks perturb is still that of the base.
    """
    names = network.roles.perturbed
    if all(same(get_tensor(module, n).detach(), get_tensor(network.base, n)) for n in names):
        warnings.warn(
            f"The warm-up of task {task_id!r} changed none of the weights that it could perturb "
            f"({', '.join(names)}), so it has rank 0 everywhere: only its head, biases and "
            "normalisation are learned. Does a callback freeze them, is lr 0, or are all outputs "
            "of the layers 0?",
            stacklevel=2,
        )


def with_weights_it_can_use(
    network: Network, recipe: NeuralNet, X: NDArray[Any], seed: int
) -> Network:
    """Return the network, told to form its weights densely if its module needs that.

    A weight that is handed to compiled code, or to an autograd function of the user's own,
    has to be a plain tensor.

    Raises
    ------
    InvalidNetworkError
        If the module cannot compute with other weights than its parameters.
    """
    forward = forward_on(recipe, X[:ROWS], training=True)
    try:
        with seeded(seed):
            forward(network.module_with(_own(network)))
    except Exception as error:  # such as a batch normalisation of one row: training will say it
        let_through(error)
        return network
    dense = replace(network, dense=True)
    try:
        expected = _trial(dense, forward, seed)
    except Exception as error:
        let_through(error)
        _check_gradient(network, forward, seed)
        raise InvalidNetworkError(
            "The module cannot compute with weights that a task has perturbed: "
            f"{type(error).__name__}: {error}. Its code should read a weight as an attribute, "
            "such as self.linear.weight, and not from its list of parameters."
        ) from error
    try:
        found = _trial(network, forward, seed)
    except Exception as error:
        let_through(error)
        return dense
    return network if all(map(_close, found, expected)) else dense


def _check_gradient(network: Network, forward: Callable[..., Any], seed: int) -> None:
    """Refuse a module whose gradient cannot be taken, with whatever weights."""
    names = network.roles.perturbed
    free = {name: get_tensor(network.base, name).detach().clone() for name in names}
    module = network.module_with({**_own(network), **free})
    weights = [get_tensor(module, name) for name in names]
    try:
        with seeded(seed):
            torch.autograd.grad(forward(module).float().sum(), weights, allow_unused=True)
    except Exception as error:
        let_through(error)
        raise InvalidNetworkError(
            f"The gradient of the module's outputs cannot be taken: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def rows_explained(module: nn.Module, X: Any, dtype: DTypeLike) -> Iterator[None]:
    """Say why a module that has learned cannot take rows: they are of another type, or no entries.

    Parameters
    ----------
    module : torch.nn.Module
    X : array or DatasetRows
    dtype : str or numpy dtype
        What rows are converted to.

    Raises
    ------
    ValueError
        In the place of torch's own errors.
    """
    try:
        yield
    except (RuntimeError, TypeError, IndexError) as error:
        kind = np.dtype(getattr(X, "dtype", dtype))
        if isinstance(error, IndexError):
            if kind.kind in "iu" and "out of range" in str(error):
                raise ValueError(
                    f"X has a number for which the network has no entry, as an embedding: {error}."
                ) from error
            raise
        kinds = sorted({_name(p.dtype) for p in module.parameters() if p.is_floating_point()})
        if kind.name in kinds or "type" not in str(error) or isinstance(error, HalrpError):
            raise
        raise ValueError(
            f"The network cannot be applied to rows of the type {kind}: {error}. Its weights are "
            f"{', '.join(kinds)}. Was dtype another when it was learned? Set that again, "
            "set_params(dtype=...), or begin anew with fit."
        ) from error


def _own(network: Network) -> dict[str, torch.Tensor]:
    """Return copies, since running statistics change in training mode."""
    return {name: tensor.clone() for name, tensor in network.own_of_base().items()}


def _trial(
    network: Network, forward: Callable[..., Any], seed: int
) -> tuple[torch.Tensor | None, ...]:
    """Return the outputs of a perturbed module, and the gradients of all factors."""
    generator = torch.Generator().manual_seed(seed)

    def parameter(*shape: int, like: torch.Tensor, mean: float = 0.0) -> nn.Parameter:
        values = mean + 0.1 * torch.randn(*shape, generator=generator)
        return nn.Parameter(values.to(like))

    factors = {}
    for name in network.roles.perturbed:
        weight = get_tensor(network.base, name).detach()
        rows, columns = matrix_shape(weight.shape, network.form)
        factors[name] = Factors(
            parameter(weight.shape[0], like=weight, mean=1.0),
            parameter(weight.shape[1], like=weight, mean=1.0),
            parameter(rows, 1, like=weight),
            parameter(1, columns, like=weight),
        )
    flat = [tensor for tensors in factors.values() for tensor in tensors]
    with seeded(seed):
        outputs = forward(perturbed_module(network, _own(network), factors))
        gradients = torch.autograd.grad(outputs.float().square().sum(), flat, allow_unused=True)
    return outputs.detach(), *gradients


def _close(found: torch.Tensor | None, expected: torch.Tensor | None) -> bool:
    if found is None or expected is None:
        return found is expected
    finite = expected[torch.isfinite(expected)]  # a class that is ruled out has minus infinity
    size = 1e-3 * float(finite.abs().max()) if len(finite) else 0.0
    return torch.allclose(found, expected, rtol=1e-2, atol=max(size, 1e-7), equal_nan=True)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
