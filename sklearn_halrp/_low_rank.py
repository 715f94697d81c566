"""The low-rank perturbation of one weight, as functions of tensors only.

A weight ``W`` has shape ``(out, in, *kernel)``; ``kernel`` is empty for a linear
layer. A task uses ``W_t = diag(r) W diag(s) + U V``, where ``r`` acts on the first
axis, ``s`` on the second, and ``U V`` is spread over the kernel in one of two forms:

``"channel"``
    ``U V`` has shape ``(out, in)`` and is added at every kernel position.
``"unfolded"``
    ``U V`` has shape ``(out, in * positions)`` and is folded into the kernel.

For a linear layer the two are the same.

Source: Li et al., "Hessian Aware Low-Rank Perturbation for Order-Robust Continual
Learning", IEEE TKDE 36(11), 2024, arXiv:2311.15161, section 4.
"""

from typing import NamedTuple

import torch

FORMS = ("channel", "unfolded")


class Factors(NamedTuple):
    """The tensors of one perturbation: r (out,), s (in,), u (out, k), v (k, m).

    An r or s of no numbers stands for ones, which are neither trained nor stored.
    """

    r: torch.Tensor
    s: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor


class Spectrum(NamedTuple):
    """Singular values of a matrix, descending, with the vectors of its short side."""

    values: torch.Tensor
    vectors: torch.Tensor
    side: str


def positions(shape: tuple[int, ...]) -> int:
    """Return the number of kernel positions of a weight of this shape.

    >>> positions((8, 3, 5, 5)), positions((8, 3))
    (25, 1)
    """
    count = 1
    for size in shape[2:]:
        count *= size
    return count


def matrix_shape(shape: tuple[int, ...], form: str) -> tuple[int, int]:
    """Return the shape of ``U V`` for a weight of this shape.

    >>> matrix_shape((8, 3, 5, 5), "channel"), matrix_shape((8, 3, 5, 5), "unfolded")
    ((8, 3), (8, 75))
    """
    columns = shape[1] if form == "channel" else shape[1] * positions(shape)
    return (shape[0], columns)


def copies(shape: tuple[int, ...], form: str) -> int:
    """Return how many entries of the weight one entry of ``U V`` stands for."""
    return positions(shape) if form == "channel" else 1


def scale(weight: torch.Tensor, r: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Return ``diag(r) W diag(s)``."""
    rest = (1,) * (weight.dim() - 2)
    if r.numel():
        weight = weight * r.reshape(-1, 1, *rest)
    return weight * s.reshape(1, -1, *rest) if s.numel() else weight


def spread(matrix: torch.Tensor, shape: tuple[int, ...], form: str) -> torch.Tensor:
    """Return ``U V`` as a tensor that can be added to a weight of this shape."""
    if form == "channel":
        return matrix.reshape(*matrix.shape, *(1,) * (len(shape) - 2))
    return matrix.reshape(shape)


def gather(delta: torch.Tensor, form: str) -> torch.Tensor:
    """Return the matrix whose spread is nearest to a change of the weight.

    In the channel form that is the mean over the kernel positions.
    """
    flat = delta.flatten(2) if delta.dim() > 2 else delta.unsqueeze(2)
    return flat.mean(2) if form == "channel" else flat.flatten(1)


def effective_weight(weight: torch.Tensor, factors: Factors, form: str) -> torch.Tensor:
    """Return ``W_t = diag(r) W diag(s) + U V``.

    Parameters
    ----------
    weight : tensor of shape (out, in, *kernel)
        The base's weight W.
    factors : Factors
        The task's perturbation.
    form : {"channel", "unfolded"}
        How ``U V`` is spread over the kernel.

    Returns
    -------
    tensor of shape (out, in, *kernel)

    Examples
    --------
    >>> W = torch.ones(2, 3)
    >>> one = Factors(torch.tensor([1., 2.]), torch.ones(3),
    ...               torch.ones(2, 1), torch.zeros(1, 3))
    >>> effective_weight(W, one, "channel")
    tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    scaled = scale(weight, factors.r, factors.s)
    if factors.u.shape[1] == 0:
        return scaled
    return scaled + spread(factors.u @ factors.v, weight.shape, form)


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Divide, and give 1 where there is nothing to divide by."""
    safe = denominator > torch.finfo(denominator.dtype).tiny
    return torch.where(safe, numerator / denominator.where(safe, 1), 1.0)


def fit_scales(free: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the scales of the base's weight to a freely trained one, in closed form.

    First ``r_j = <F[j], W[j]> / ||W[j]||^2`` row by row; then, with
    ``W' = diag(r) W``, ``s_i = <F[:, i], W'[:, i]> / ||W'[:, i]||^2`` column by
    column. Each is a least-squares solution; where a row or column of the base is
    zero its scale is 1. Sums run in double precision.

    Parameters
    ----------
    free, weight : tensors of shape (out, in, *kernel)

    Returns
    -------
    r : tensor of shape (out,)
    s : tensor of shape (in,)

    Examples
    --------
    >>> W = torch.tensor([[1., 2.], [3., 4.]])
    >>> r, s = fit_scales(torch.tensor([[2.], [5.]]) * W, W)
    >>> r, s
    (tensor([2., 5.]), tensor([1., 1.]))
    """
    f, w = free.double(), weight.double()
    over_rows = tuple(range(1, w.dim()))
    over_columns = tuple(axis for axis in range(w.dim()) if axis != 1)
    r = _ratio((f * w).sum(over_rows), (w * w).sum(over_rows))
    w = w * r.reshape(-1, *(1,) * (w.dim() - 1))
    s = _ratio((f * w).sum(over_columns), (w * w).sum(over_columns))
    return r.to(weight.dtype), s.to(weight.dtype)


def spectrum(matrix: torch.Tensor) -> Spectrum:
    """Return the singular values of a matrix without a full decomposition.

    They are the roots of the eigenvalues of the Gram matrix of the shorter side,
    formed in double precision. They agree with those of a full SVD to about 1e-7 of the
    largest one, and better where they are larger: 1e-3 of the largest to nine digits. What
    lies lower is noise that no choice of ranks depends on.

    Parameters
    ----------
    matrix : tensor of shape (out, in)

    Returns
    -------
    Spectrum
        ``min(out, in)`` values in descending order.

    Examples
    --------
    >>> spectrum(torch.diag(torch.tensor([1., 3., 2.]))).values
    tensor([3., 2., 1.], dtype=torch.float64)
    """
    m = matrix.double()
    side = "left" if m.shape[0] <= m.shape[1] else "right"
    gram = m @ m.T if side == "left" else m.T @ m
    squares, vectors = torch.linalg.eigh(gram)
    return Spectrum(squares.clamp_min(0).sqrt().flip(0), vectors.flip(1), side)


def split(matrix: torch.Tensor, spectrum: Spectrum, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return balanced factors ``U sqrt(S)`` and ``sqrt(S) V`` of the best rank-k part.

    Parameters
    ----------
    matrix : tensor of shape (out, in)
    spectrum : Spectrum
        Of this matrix.
    rank : int
        Number of terms kept.

    Returns
    -------
    u : tensor of shape (out, rank)
    v : tensor of shape (rank, in)
        A term whose singular value is 0 gets a zero column in ``u`` and a unit row
        in ``v``: it adds nothing yet, and can still be trained.

    Examples
    --------
    >>> D = torch.tensor([[2., 0.], [0., 1.]])
    >>> u, v = split(D, spectrum(D), 1)
    >>> torch.round(u @ v, decimals=4).abs()
    tensor([[2., 0.],
            [0., 0.]])
    """
    m = matrix.double()
    root = spectrum.values[:rank].sqrt()
    near = spectrum.vectors[:, :rank]
    if spectrum.side == "left":
        u, v = near * root, _ratio_or_zero(near.T @ m, root[:, None])
    else:
        u, v = _ratio_or_zero(m @ near, root), (near * root).T
    dead = root == 0
    if dead.any():
        u[:, dead] = 0
        v[dead] = torch.eye(v.shape[1], dtype=v.dtype, device=v.device)[: int(dead.sum())]
    return u.to(matrix.dtype).contiguous(), v.to(matrix.dtype).contiguous()


def _ratio_or_zero(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp_min(1e-300), 0)
