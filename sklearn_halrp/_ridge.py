"""Ridge regression in closed form, its strength chosen by leaving out one row after the other."""

from typing import NamedTuple

import torch

# What is added to squared singular values, in parts of the sum of them all.
STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-8, 7))
# No row that is left out counts for more than this many times its residual.
_MOST = 1e6


class Ridge(NamedTuple):
    """A linear map, and what it says of each row that it has not seen.

    Attributes
    ----------
    weight : tensor of shape (n_outputs, n_features)
    bias : tensor of shape (n_outputs,)
    left_out : tensor of shape (n_samples, n_outputs)
        What is said of each row by the fit to all others.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    left_out: torch.Tensor


def ridge(X: torch.Tensor, Y: torch.Tensor, weights: torch.Tensor | None = None) -> Ridge:
    """Fit ridge regression with the strength whose squared error on rows left out is least.

    Parameters
    ----------
    X : tensor of shape (n_samples, n_features), float64
    Y : tensor of shape (n_samples, n_outputs), float64
    weights : tensor of shape (n_samples,), optional
        Of rows, above 0.

    Returns
    -------
    Ridge

    References
    ----------
    Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 2nd edition 2009,
    equation 7.64: a linear fit misses a row that is left out by its residual over 1 - h, where h
    is the row's entry in the diagonal of the matrix that maps targets to fitted values.

    Examples
    --------
    >>> X = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    >>> found = ridge(X, 2 * X + 1)
    >>> found.weight.round(decimals=2), found.bias.round(decimals=2)
    (tensor([[2.]], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    share = torch.ones(len(X), dtype=X.dtype) if weights is None else weights.to(X.dtype)
    share = share / share.sum()
    root = share.sqrt()[:, None]
    center, mean = share @ X, share @ Y
    u, values, vh = torch.linalg.svd(root * (X - center), full_matrices=False)
    squares = values.square()
    whole = squares.sum().clamp(min=torch.finfo(X.dtype).tiny)
    aimed = u.T @ (root * (Y - mean))

    def left_out(strength: float) -> torch.Tensor:
        kept = squares / (squares + strength * whole)
        fitted = mean + u @ (kept[:, None] * aimed) / root
        own = share + u.square() @ kept  # the diagonal; the mean has the row in it too
        return Y - (Y - fitted) / (1 - own).clamp(min=1 / _MOST)[:, None]

    def error(strength: float) -> float:
        return float((share * (Y - left_out(strength)).square().sum(dim=1)).sum())

    strength = min(STRENGTHS, key=error)
    weight = (vh.T @ ((values / (squares + strength * whole))[:, None] * aimed)).T
    return Ridge(weight, mean - weight @ center, left_out(strength))
