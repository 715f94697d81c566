"""First and second derivatives of the losses of batches, weight by weight."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from sklearn_halrp._faults import let_through
from sklearn_halrp.exceptions import InvalidNetworkError


def mean_square_gradient(
    losses: Iterable[Any],
    weights: Mapping[str, torch.Tensor],
    watch: Callable[..., None] | None = None,
) -> dict[str, float]:
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


def squared_mean_gradient(
    losses: Iterable[Any], weights: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Return the mean square of the mean gradient of each weight.

    With L the mean loss over all rows, the value of a weight W is ``mean_j (dL / dW_j)^2``:
    here the gradients of rows that disagree cancel.

    Parameters
    ----------
    losses, weights
        As for `mean_square_gradient`.

    Returns
    -------
    dict of str to float

    Examples
    --------
    Two rows pull the second entry in opposite directions:

    >>> w = torch.zeros(2, requires_grad=True)
    >>> rows = torch.tensor([[1., 1.], [1., -1.]])
    >>> squared_mean_gradient([(row @ w, 1, None) for row in rows], {"w": w})
    {'w': 0.5}
    >>> mean_square_gradient([(row @ w, 1, None) for row in rows], {"w": w})
    {'w': 1.0}
    """
    trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
    total = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in trained.items()}
    seen = 0
    for loss, n_rows, *_ in losses if trained else ():
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        for name, gradient in zip(trained, found, strict=True):
            if gradient is not None:
                total[name] += n_rows * gradient
        seen += n_rows
    means = {name: (value / max(seen, 1)).square().mean().item() for name, value in total.items()}
    return {name: means.get(name, 0.0) for name in weights}


def hessian_norm(
    losses: Callable[[], Iterable[Any]], weights: Mapping[str, torch.Tensor], n_products: int
) -> dict[str, float]:
    """Estimate the Frobenius norm of the Hessian of the loss in each weight.

    With L the mean loss over all rows and H its second derivatives in one weight, all others
    held, the mean of ``||H v||^2`` over vectors v of random signs is ``||H||_F^2``. The value is
    the root of the mean over some of them. It is exact where H is diagonal; elsewhere the
    relative error of the square is about ``sqrt(2 / n_products)`` at most.

    Each product goes through the rows once, and back and forth once more for every weight, so
    that no more than two copies of the weights are held.

    Parameters
    ----------
    losses : callable
        Gives an iterable as for `mean_square_gradient`, the same rows each time. The losses
        can be differentiated twice.
    weights : dict of str to tensor
        Those that ask for no gradient get 0.
    n_products : int

    Returns
    -------
    dict of str to float

    Raises
    ------
    InvalidNetworkError
        If a part of the network has no second derivatives.

    References
    ----------
    Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian
    smoothing splines", Communications in Statistics 19(2), 1990, of the matrix H H. Pearlmutter,
    "Fast exact multiplication by the Hessian", Neural Computation 6(1), 1994, for H v.

    Examples
    --------
    The Hessian of the sum of w^3 / 6 is diag(w):

    >>> w = torch.tensor([3., 4.], requires_grad=True)
    >>> hessian_norm(lambda: [((w ** 3).sum() / 6, 1, None)], {"w": w}, n_products=1)
    {'w': 5.0}
    """
    trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
    squares = dict.fromkeys(weights, 0.0)
    for _ in range(n_products if trained else 0):
        signs = {
            name: 2 * torch.randint(0, 2, w.shape, device=w.device).to(w) - 1
            for name, w in trained.items()
        }
        total = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in trained.items()}
        seen = 0
        for loss, n_rows, *_ in losses():
            for name, product in _products(loss, trained, signs):
                total[name] += n_rows * product
            seen += n_rows
        for name, value in total.items():
            squares[name] += (value / max(seen, 1)).square().sum().item()
    return {name: (value / n_products) ** 0.5 for name, value in squares.items()}


def _products(
    loss: torch.Tensor, weights: Mapping[str, torch.Tensor], vectors: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name of each weight and its Hessian times a vector, where that is not 0."""
    try:
        gradients = torch.autograd.grad(
            loss, list(weights.values()), create_graph=True, allow_unused=True
        )
        _check_twice_differentiable(gradients)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is None or not gradient.requires_grad:
                continue  # the weight is not used, or the loss is linear in all weights
            (product,) = torch.autograd.grad(
                gradient, weight, vectors[name], retain_graph=True, allow_unused=True
            )
            if product is not None:
                yield name, product
    except RuntimeError as error:
        let_through(error)
        raise InvalidNetworkError(
            f"The Hessian takes second derivatives, and the network has none: {error} Choose an "
            "importance that takes first ones, such as 'fisher' or 'kfac'."
        ) from error


def _check_twice_differentiable(gradients: Iterable[torch.Tensor | None]) -> None:
    """Raise where torch would only go past the place, and give 0, since the way ends there."""
    seen, ahead = set(), [g.grad_fn for g in gradients if g is not None]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("::Error"):
            raise RuntimeError("a function is marked with once_differentiable.")
        seen.add(node)
        ahead += [before for before, _ in node.next_functions]
