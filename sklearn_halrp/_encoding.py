"""A layer that brings the columns of a table to what a network learns well from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# In standard deviations: how far the linear part goes on, before it grows as the logarithm.
LINEAR = 5.0
# From where on the numbers of a later task lie far from the first one's, or are spread far wider.
FAR = 3.0
# The smallest stretch: two bytes hold no much smaller number.
LEAST = 2.0**-10
# A bin that no number reaches: what has fewer values than bins leaves some without a width.
_UNREACHED = 1e30


class Encoding(nn.Module):
    """Standardise numbers, say how far they come into bins, and give categories a place each.

    Of a number x, ``z = (x - center) / scale``, the output is z, with the logarithm of what lies
    beyond ``±LINEAR``, and for each bin ``clip((z - lower) / width, 0, 1)``, its piecewise-linear
    encoding. A number that is missing, NaN, is 0 in all of them. A category c, a whole number, is 1
    in the place of c and 0 in all others; any other number is 0 in all.

    All these are parameters that are never trained: they belong to the base, and all tasks share
    them. Where a column of a later task lies far from where it was, its numbers are brought there
    first, as ``(z - offset) / stretch``. These two are buffers, which a task keeps if they differ
    from the base's, 0 and 1; see `moved`.

    Parameters
    ----------
    n_features : int
        Values of one sample, however they are arranged.
    bins : int
        Of each column of numbers. With 0 they are standardised, and no more.
    categories : sequence of int
        Of each column: how many categories it has, and 0 for numbers. Empty: all are numbers.

    References
    ----------
    Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning",
    NeurIPS 2022, section 3.2.

    Examples
    --------
    >>> layer = Encoding(2, bins=2, categories=[0, 3])
    >>> for name, value in encoding_of([[0, 1], [2, 0], [4, 2]], 2, [0, 3]).items():
    ...     _ = getattr(layer, name).copy_(torch.tensor(value))
    >>> layer(torch.tensor([[1.0, 2.0], [torch.nan, 7.0]]))[:, 1:]
    tensor([[0.5000, 0.0000, 0.0000, 0.0000, 1.0000],
            [0.0000, 0.0000, 0.0000, 0.0000, 0.0000]])
    """

    def __init__(self, n_features: int, bins: int = 0, categories: Sequence[int] = ()) -> None:
        super().__init__()
        sizes = tuple(categories) or (0,) * n_features
        self.numbers = [column for column, size in enumerate(sizes) if not size]
        self.places = [column for column, size in enumerate(sizes) for _ in range(size)]
        self.n_outputs = len(self.numbers) * (1 + bins) + len(self.places)
        n_numbers = len(self.numbers)
        self.register_buffer("offset", torch.zeros(n_numbers, dtype=torch.float32))
        self.register_buffer("stretch", torch.ones(n_numbers, dtype=torch.float32))
        self.center = _constant(np.zeros(n_numbers))
        self.scale = _constant(np.ones(n_numbers))
        self.bins, self.categories = bins, sizes
        self.n_plain = n_numbers + len(self.places)
        if bins:
            self.lower = _constant(np.full((n_numbers, bins), _UNREACHED))
            self.width = _constant(np.ones((n_numbers, bins)))
        if self.places:
            self.place = _constant([place for size in sizes for place in range(size)])

    offset: torch.Tensor
    stretch: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return rows of `n_outputs` values for rows of any shape."""
        x = x.flatten(1)
        parts = []
        if self.numbers:
            numbers = x[:, self.numbers] if self.places else x
            missing = numbers.isnan()
            z = ((numbers - self.center) / self.scale - self.offset) / self.stretch
            z = z.masked_fill(missing, 0)
            near = z.clamp(-LINEAR, LINEAR)
            parts.append(near + (z - near).sign() * (z - near).abs().log1p())
            if self.bins:
                inside = ((z.unsqueeze(2) - self.lower) / self.width).clamp(0, 1)
                parts.append(inside.masked_fill(missing.unsqueeze(2), 0).flatten(1))
        if self.places:
            parts.append((x[:, self.places] == self.place).to(x.dtype))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def plain(self, encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is no bin of encoded rows: numbers, and places of categories.

        Together they are `n_plain` columns.
        """
        return encoded[:, : len(self.numbers)], encoded[:, self.n_outputs - len(self.places) :]


def encoding_of(X: Any, bins: int, categories: Sequence[int] = ()) -> dict[str, NDArray[Any]]:
    """Return the tensors of an `Encoding` for rows like these, by name.

    Parameters
    ----------
    X : array of shape (n_samples, *sample_shape)
        Missing numbers are NaN.
    bins, categories
        As for `Encoding`. The bins lie between quantiles.

    Returns
    -------
    dict of str to array of float32

    Notes
    -----
    A column of one value gets the scale of the others, since another task may have others in it;
    without others, the magnitude of its value, or 1.

    >>> encoding_of([[1.0, 5.0], [3.0, 5.0]], 0)["scale"]
    array([1., 1.], dtype=float32)
    """
    X = np.asarray(X, dtype=np.float64).reshape(len(X), -1)
    sizes = tuple(categories) or (0,) * X.shape[1]
    numbers = [column for column, size in enumerate(sizes) if not size]
    center, scale = np.zeros(len(numbers)), np.zeros(len(numbers))
    lower, width = np.full((len(numbers), bins), _UNREACHED), np.ones((len(numbers), bins))
    for place, column in enumerate(numbers):
        values = X[:, column]
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        center[place], scale[place] = values.mean(), values.std()
        if scale[place] <= 1e-6 * abs(center[place]):  # but for rounding it is one value
            scale[place] = 0
            continue
        if bins:
            values = (values - center[place]) / scale[place]
            ends = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
            lower[place, : len(ends) - 1], width[place, : len(ends) - 1] = ends[:-1], np.diff(ends)
    varied = scale > 0
    others = np.sqrt(np.mean(scale[varied] ** 2)) if varied.any() else 0.0
    alone = np.where(center != 0, np.abs(center), 1.0)
    scale = np.where(varied, scale, others or alone)
    tensors: dict[str, NDArray[Any]] = {"center": center, "scale": scale}
    tensors |= {"lower": lower, "width": width} if bins else {}
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def moved(encoding: Encoding, X: Any) -> dict[str, torch.Tensor]:
    """Return the offset and the stretch of an `Encoding` for a task with rows like these.

    A column whose mean is more than `FAR` scales from the center, or whose deviation is more than
    `FAR` scales, is brought to the center and the scale; all others stay as they are.

    Parameters
    ----------
    encoding : Encoding
    X : array of shape (n_samples, *sample_shape)

    Returns
    -------
    dict of str to tensor of shape (n_numbers,)
    """
    columns = np.asarray(X, dtype=np.float64).reshape(len(X), -1)[:, encoding.numbers]
    center, scale = (t.double().cpu().numpy() for t in (encoding.center, encoding.scale))
    z = (columns - center) / scale
    there = ~np.isnan(z)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, z, 0).sum(axis=0) / count
    deviation = np.sqrt((np.where(there, z - mean, 0) ** 2).sum(axis=0) / count)
    far = (np.abs(mean) > FAR) | (deviation > FAR)
    varied = deviation > 1e-6 * np.abs(mean)
    stretch = np.where(far & varied, np.maximum(deviation, LEAST), 1.0)
    found = {"offset": np.where(far, mean, 0.0), "stretch": stretch}
    return {name: _in_two_bytes(array).to(encoding.offset) for name, array in found.items()}


def _in_two_bytes(array: NDArray[Any]) -> torch.Tensor:
    """Return numbers that two bytes hold exactly, if they can, so that a task may be kept so."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return torch.from_numpy(np.where(np.isfinite(half), half, array))


def _constant(values: Any) -> nn.Parameter:
    return nn.Parameter(torch.tensor(np.asarray(values, dtype=np.float32)), requires_grad=False)
