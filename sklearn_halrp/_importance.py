"""How much a layer matters: one small function per estimator.

Each takes the losses of held-out batches and the freely trained weights, and returns
one number per weight that stands for the Hessian norm in the bound

    loss(rank k) - loss(free) <= 1/2 ||H_l||_F sum_{i>k} sigma_{l,i}^2 + o(.)

of arXiv:2311.15161, theorem 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch


def fisher(losses, weights, curvatures=None):
    """Estimate by the mean squared gradient: by the trace of the Fisher information.

    For batches ``b`` of ``n_b`` rows with mean loss ``L_b``, the importance of a weight
    W is the mean of ``n_b mean_j (dL_b / dW_j)^2``, in which each batch counts by its rows.
    Near a minimum the factor ``n_b`` turns the squared gradient of a batch mean into that of
    single rows, so that the value does not depend on the size of the batches.

    The losses should be of the labels that the network predicts, as those of `self_loss`: then
    the value is that of the Fisher information, and so near to that of the Hessian. With the
    labels of the rows, as published, a few rows that are badly predicted outweigh all others,
    and where the mean gradient is not 0, its square counts ``n_b`` times.

    Parameters
    ----------
    losses : iterable of (loss, n_rows, ...)
        Scalar tensors that depend on the weights.
    weights : dict of str to tensor
        Those that ask for no gradient, since a callback froze them, get 0.
    curvatures : Curvatures, optional
        Are given the gradients too, and the weights of the rows, where `losses` has them.

    Returns
    -------
    dict of str to float

    References
    ----------
    Kunstner, Balles & Hennig, "Limitations of the Empirical Fisher Approximation for Natural
    Gradient Descent", NeurIPS 2019, arXiv:1905.12558.

    Examples
    --------
    >>> w = torch.tensor([1., 2.], requires_grad=True)
    >>> fisher([((w ** 2).sum() / 2, 1)], {"w": w})  # the gradient is w
    {'w': 2.5}
    """
    total = dict.fromkeys(weights, 0.0)
    weights = {name: weight for name, weight in weights.items() if weight.requires_grad}
    seen = 0
    for loss, n_rows, *others in losses if weights else ():
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        gradients = dict(zip(weights, gradients, strict=True))
        if curvatures:
            curvatures.add(n_rows, gradients, *others[:1])  # the weights of the rows
        for name, gradient in gradients.items():
            if gradient is not None:
                total[name] += n_rows**2 * gradient.detach().double().pow(2).mean().item()
        seen += n_rows
    return {name: value / max(seen, 1) for name, value in total.items()}


def uniform(losses, weights, curvatures=None):
    """Give every weight the importance 1: ranks by singular values alone."""
    return dict.fromkeys(weights, 1.0)


class Estimator(NamedTuple):
    """A function of this file, and whether its losses are of the labels that a net predicts."""

    function: Callable
    predicted: bool


# "kfac" weighs single directions by `Curvatures`, and by `fisher` where that says nothing.
ESTIMATORS = {
    "empirical": Estimator(fisher, False),
    "fisher": Estimator(fisher, True),
    "kfac": Estimator(fisher, True),
    "uniform": Estimator(uniform, False),
}
