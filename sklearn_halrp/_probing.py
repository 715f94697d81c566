"""What a module does with its weights, tried on a few rows before anything is trained."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from sklearn_halrp._low_rank import Factors, matrix_shape
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._perturbed import perturbed_module
from sklearn_halrp._predictive import first_of
from sklearn_halrp._random import seeded
from sklearn_halrp._training import around, recipe_of
from sklearn_halrp.exceptions import InvalidNetworkError

ROWS = 8


def forward_on(recipe, X, training=False):
    """Return a function that applies a module to a few rows.

    Parameters
    ----------
    recipe : skorch.NeuralNet
    X : array of shape (n_samples, *sample_shape)
    training : bool
        Whether in training mode and with gradients.
    """
    net = recipe_of(recipe)
    dataset = net.get_dataset(X, np.zeros(len(X), dtype=np.int64))
    (batch, _), *_ = net.get_iterator(dataset, training=False)

    def forward(module):
        with torch.set_grad_enabled(training):
            module.train(training)
            output = around(net, module, callbacks="disable", compile=False).infer(batch)
        return first_of(output)

    return forward


def check_reading_changes_nothing(module, forward, seed):
    """Refuse a module that computes something else each time, or rewrites its weights."""
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    outputs = []
    for _ in range(2):
        with seeded(seed):  # a module may be random by intention
            outputs.append(forward(module))
    for name, parameter in module.named_parameters():
        if not torch.equal(parameter, before[name]):
            raise InvalidNetworkError(
                f"The module changes {name} whenever it is applied, also in evaluation mode, so "
                "no task could keep its predictions. Compute with a changed copy of the weight."
            )
    if not torch.equal(*outputs):
        raise InvalidNetworkError(
            "The module computes something else each time it is applied, also in evaluation "
            "mode, so no task could keep its predictions. Let it change its buffers only while "
            "self.training is true."
        )


def with_weights_it_can_use(network, recipe, X, seed):
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
    except Exception:  # such as a batch normalisation of one row: training will say it
        return network
    dense = replace(network, dense=True)
    try:
        expected = _trial(dense, forward, seed)
    except Exception as error:
        raise InvalidNetworkError(
            "The module cannot compute with weights that a task has perturbed: "
            f"{type(error).__name__}: {error}. Its code should read a weight as an attribute, "
            "such as self.linear.weight, and not from its list of parameters."
        ) from error
    try:
        found = _trial(network, forward, seed)
    except Exception:
        return dense
    return network if all(map(_close, found, expected)) else dense


def _own(network):
    """Return copies, since running statistics change in training mode."""
    return {name: tensor.clone() for name, tensor in network.own_of_base().items()}


def _trial(network, forward, seed):
    """Return the outputs of a perturbed module, and the gradients of all factors."""
    generator = torch.Generator().manual_seed(seed)

    def parameter(*shape, like, mean=0.0):
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


def _close(found, expected):
    if found is None or expected is None:
        return found is expected
    size = 1e-3 * float(expected.abs().max())
    return torch.allclose(found, expected, rtol=1e-2, atol=max(size, 1e-7))
