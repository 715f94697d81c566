"""How much a layer matters: one small class per estimate of its Hessian.

An importance stands for the Hessian norm in the bound

    loss(rank k) - loss(free) <= 1/2 ||H_l||_F sum_{i>k} sigma_{l,i}^2 + o(.)

of arXiv:2311.15161, theorem 1. It is any callable

    importance(layers, held_out) -> {name of the weight: a number, or a Ranking}

where ``layers`` has a `Layer` for every perturbed weight, and ``held_out.losses()`` yields
the losses of held-out batches, with gradients to the freely trained weights
``layer.free``. A number weighs all terms of its layer alike; a `Ranking` ranks the
terms itself. A new importance is one class here, and one line in `IMPORTANCES`.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from sklearn_halrp._curvature import Curvatures
from sklearn_halrp._layer import Layer, Ranking


def mean_square_gradient(losses: Iterable, weights: Mapping, watch=None) -> dict[str, float]:
    """Return the mean squared gradient of each weight: the trace of the Fisher information.

    For batches ``b`` of ``n_b`` rows with mean loss ``L_b``, the value of a weight
    W is the mean of ``n_b mean_j (dL_b / dW_j)^2``, in which each batch counts by its rows.
    Near a minimum the factor ``n_b`` turns the squared gradient of a batch mean into that of
    single rows, so that the value does not depend on the size of the batches.

    Parameters
    ----------
    losses : iterable of (loss, n_rows, weights of rows or None, ...)
        Scalar tensors that depend on the weights.
    weights : dict of str to tensor
        Those that ask for no gradient, since a callback froze them, get 0.
    watch : callable, optional
        Is given the rows, the gradients and the weights of rows of each batch too.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> w = torch.tensor([1., 2.], requires_grad=True)
    >>> mean_square_gradient([((w ** 2).sum() / 2, 1, None)], {"w": w})  # the gradient is w
    {'w': 2.5}
    """
    total = dict.fromkeys(weights, 0.0)
    weights = {name: weight for name, weight in weights.items() if weight.requires_grad}
    seen = 0
    for loss, n_rows, row_weights, *_ in losses if weights else ():
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        gradients = dict(zip(weights, found, strict=True))
        if watch is not None:
            watch(n_rows, gradients, row_weights)
        for name, gradient in gradients.items():
            if gradient is not None:
                total[name] += n_rows**2 * gradient.detach().double().pow(2).mean().item()
        seen += n_rows
    return {name: value / max(seen, 1) for name, value in total.items()}


def _free(layers: Mapping[str, Layer]) -> dict[str, torch.Tensor]:
    return {name: layer.free for name, layer in layers.items()}


class Fisher:
    """The mean squared gradient, with the labels that the network itself predicts.

    It is the trace of the Fisher information over the weights of the layer, and so near to
    that of the Hessian. Where the outputs are no probabilities it is `Empirical`.

    References
    ----------
    Kunstner, Balles & Hennig, "Limitations of the Empirical Fisher Approximation for Natural
    Gradient Descent", NeurIPS 2019, arXiv:1905.12558.
    """

    def __call__(self, layers, held_out):
        """Return one number for each layer."""
        return mean_square_gradient(held_out.losses(predicted=True), _free(layers))


class Empirical:
    """The mean squared gradient, with the labels of the rows, as published.

    A few rows that are badly predicted outweigh all others, and where the mean gradient is
    not 0, its square counts as often as a batch has rows.

    References
    ----------
    arXiv:2311.15161, section 4.2.
    """

    def __call__(self, layers, held_out):
        """Return one number for each layer."""
        return mean_square_gradient(held_out.losses(), _free(layers))


class Kfac:
    """The Hessian in Kronecker form, which weighs single directions; see `_curvature.py`.

    Layers of which that form says nothing are ranked as by `Fisher`.
    """

    def __call__(self, layers, held_out):
        """Return a ranking for each layer."""
        curvatures = Curvatures(
            held_out.module, {name: layer.change for name, layer in layers.items()}
        )
        with curvatures.watching():
            importance = mean_square_gradient(
                held_out.losses(predicted=True), _free(layers), curvatures.add
            )
        found = curvatures.found()
        return {
            name: layer.whitened(found[name], importance[name])
            if name in found
            else importance[name]
            for name, layer in layers.items()
        }


class Uniform:
    """The same for all layers: ranks by singular values alone."""

    def __call__(self, layers, held_out):
        """Return 1 for each layer."""
        return dict.fromkeys(layers, 1.0)


IMPORTANCES: dict[str, Callable] = {
    "fisher": Fisher(),
    "empirical": Empirical(),
    "kfac": Kfac(),
    "uniform": Uniform(),
}


def rankings(importance, layers: Mapping[str, Layer], held_out) -> dict[str, Ranking]:
    """Rank the terms of all layers.

    Parameters
    ----------
    importance : str or callable
    layers : dict of str to Layer
    held_out : HeldOut

    Returns
    -------
    dict of str to Ranking

    Raises
    ------
    ValueError
        If a callable does not give a number of at least 0, or a `Ranking`, for each layer.
    """
    function = IMPORTANCES[importance] if isinstance(importance, str) else importance
    found = function(layers, held_out)
    if not isinstance(found, Mapping) or set(found) != set(layers):
        raise ValueError(
            f"importance={importance!r} must return a dictionary with an entry for each of "
            f"{', '.join(layers)}; got {found if isinstance(found, Mapping) else type(found)!r}."
        )
    return {name: _ranking(importance, name, layers[name], found[name]) for name in layers}


def _ranking(importance, name, layer, value):
    if isinstance(value, Ranking):
        return value
    if np.ndim(value) != 0 or isinstance(value, str | bytes) or not float(value) >= 0:
        if isinstance(importance, str) and np.isnan(value):
            return layer.ranking(value)  # the held-out loss diverged: the visit says so
        raise ValueError(
            f"importance={importance!r} must give a number of at least 0, or a Ranking, for "
            f"{name}; got {value!r}."
        )
    return layer.ranking(float(value))
