"""Numbers in one byte each, in groups that share a scale."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

GROUP = 64  # numbers that share a scale of two bytes
MOST = 127  # the largest code
# Most that rounding may move an array, as a vector, over its length.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Coded:
    """An array whose numbers have one byte each: ``scale * code / 127``, a scale a group.

    Attributes
    ----------
    codes : array of int8
        Of the array's shape.
    scales : array of shape (ceil(size / 64),), float16
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float16]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Self | None:
        """Return an array so, or None where that would move it too far.

        >>> Coded.of(np.array([-1.0, 0.5, 0.0])).dense().tolist()
        [-1.0, 0.5039370059967041, 0.0]
        >>> Coded.of(np.array([1e9, 1.0])) is None  # no scale of two bytes is as large
        True
        """
        groups = _groups(array.astype(np.float64))
        with np.errstate(over="ignore"):
            scales = np.abs(groups).max(axis=1, initial=0).astype(np.float16)
        if not np.isfinite(scales).all():
            return None
        step = scales.astype(np.float64)[:, None] / MOST
        codes = np.round(np.divide(groups, step, where=step > 0, out=np.zeros_like(groups)))
        codes = np.clip(codes, -MOST, MOST).astype(np.int8)
        coded = cls(codes.reshape(-1)[: array.size].reshape(array.shape), scales)
        off = np.linalg.norm(coded.dense().astype(np.float64) - array)
        return coded if off <= TOLERANCE * np.linalg.norm(array.astype(np.float64)) else None

    @property
    def size(self) -> int:
        """Numbers that it stands for."""
        return self.codes.size

    def dense(self) -> NDArray[np.float32]:
        """Return the array that it stands for."""
        step = self.scales.astype(np.float32)[:, None] / np.float32(MOST)
        numbers = (_groups(self.codes).astype(np.float32) * step).reshape(-1)
        return numbers[: self.codes.size].reshape(self.codes.shape)


def _groups(array: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers of an array in rows of a group each, the last one filled with zeros."""
    n_groups = -(-array.size // GROUP)
    whole = np.zeros(n_groups * GROUP, dtype=array.dtype)
    whole[: array.size] = array.reshape(-1)
    return whole.reshape(n_groups, GROUP)
