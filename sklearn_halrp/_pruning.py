"""Which entries of the factors go, and how what is left is stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

# Ranks are chosen so that pruning never has to remove more than this share of the
# factors to meet the growth budget: beyond it, entries that were trained for a purpose
# would go, and fewer terms, trained as such, serve better.
MOST_PRUNED = 0.5


@dataclass(frozen=True)
class Compact:
    """An array without its zeros: the other values, and one bit per place.

    Examples
    --------
    >>> stored = Compact.of(np.array([[0., 2., 0.], [1., 0., 0.]]))
    >>> stored.values, stored.n_numbers
    (array([2., 1.]), 2)
    >>> stored.dense()
    array([[0., 2., 0.],
           [1., 0., 0.]])
    """

    shape: tuple[int, ...]
    values: NDArray[Any]
    mask: NDArray[Any] | None

    @classmethod
    def of(cls, array: NDArray[Any]) -> Self:
        """Store an array; one without zeros needs no mask."""
        there = array != 0
        if there.all():
            return cls(array.shape, array.reshape(-1).copy(), None)
        return cls(array.shape, array[there], np.packbits(there.reshape(-1)))

    def dense(self) -> NDArray[Any]:
        """Return the whole array, zeros included."""
        if self.mask is None:
            return self.values.reshape(self.shape)
        size = int(np.prod(self.shape))
        there = np.unpackbits(self.mask, count=size).astype(bool)
        array = np.zeros(size, dtype=self.values.dtype)
        array[there] = self.values
        return array.reshape(self.shape)

    def check(self) -> None:
        """Refuse values and a mask that do not fit the shape, before an array is made of them.

        Raises
        ------
        ValueError
        """
        size, mask = math.prod(self.shape), self.mask
        if mask is None:
            fits = self.values.size == size
        else:
            fits = mask.dtype == np.uint8 and mask.size == -(-size // 8)
            fits = fits and np.unpackbits(mask, count=size).sum() == self.values.size
        if len(self.shape) != 2 or min(self.shape) < 0 or not fits:
            raise ValueError(f"values or places that do not fit an array of shape {self.shape}")

    @property
    def n_numbers(self) -> int:
        """Numbers stored."""
        return self.values.size

    @property
    def n_bytes(self) -> int:
        """Bytes stored, the mask included."""
        return self.values.nbytes + (0 if self.mask is None else self.mask.nbytes)


def prune(
    pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], threshold: float, max_numbers: int
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Zero the smallest entries of all factors and drop the terms that end up empty.

    Entries of magnitude at most ``max(threshold, q)`` go, where ``q`` is the smallest
    magnitude for which at most `max_numbers` entries are left. A term of which the
    column of ``u`` or the row of ``v`` is all zero contributes nothing and goes whole.

    Parameters
    ----------
    pairs : dict of str to (u, v)
        Arrays of shape (out, k) and (k, in) for each weight.
    threshold : float
        Entries up to this magnitude always go (published: 1e-5).
    max_numbers : int
        Most entries that may be left, over all pairs together.

    Returns
    -------
    dict of str to (u, v)
        New arrays.

    Examples
    --------
    >>> u, v = np.array([[3., 1e-6], [1., 0.]]), np.array([[2., .5], [1., 1.]])
    >>> prune({"w": (u, v)}, threshold=1e-5, max_numbers=3)
    {'w': (array([[3.],
           [1.]]), array([[2., 0.]]))}
    """
    pruned = {name: _drop_empty(*_above(u, v, threshold)) for name, (u, v) in pairs.items()}
    cut = cut_to_fit([factor for pair in pruned.values() for factor in pair], max_numbers)
    return {name: _drop_empty(*_above(u, v, cut)) for name, (u, v) in pruned.items()}


def cut_to_fit(arrays: Sequence[NDArray[Any]], max_numbers: int) -> float:
    """Return the magnitude up to which entries have to go so that no more are left than may be.

    Parameters
    ----------
    arrays : list of ndarray
    max_numbers : int
        Most entries other than zero that may be left, over all arrays together.

    Returns
    -------
    float
        0 if none has to go.

    Examples
    --------
    >>> cut_to_fit([np.array([3., 0., -1.]), np.array([2.])], max_numbers=2)
    1.0
    """
    magnitudes: Any = [np.abs(array[array != 0]) for array in arrays]
    magnitudes = np.concatenate(magnitudes) if magnitudes else np.zeros(0)
    surplus = magnitudes.size - max_numbers
    return float(np.partition(magnitudes, surplus - 1)[surplus - 1]) if surplus > 0 else 0.0


def _above(u: NDArray[Any], v: NDArray[Any], threshold: float) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.where(np.abs(u) > threshold, u, 0), np.where(np.abs(v) > threshold, v, 0)


def _drop_empty(u: NDArray[Any], v: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    alive = u.any(axis=0) & v.any(axis=1)
    return u[:, alive], v[alive]
