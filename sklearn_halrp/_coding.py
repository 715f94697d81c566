"""Numbers in one byte each, or in half of one, in groups that share a scale."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

GROUP = 64  # numbers that share a scale of two bytes
MOST = 127  # the largest code of a byte
# What four bits stand for: quantiles of a normal distribution, on a scale whose ends are -1 and 1,
# and 0 itself; "NF4", appendix E of Dettmers et al., "QLoRA", NeurIPS 2023.
LEVELS = np.array(
    [
        *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    ],
    dtype=np.float32,
)
# Most that rounding may move an array, as a vector, over its length, by the bits of a number.
TOLERANCE = {8: 0.02, 4: 0.15}


@dataclass(frozen=True)
class Coded:
    """An array whose numbers have a byte or four bits each, and a scale a group.

    Attributes
    ----------
    codes : array of int8, or of shape (ceil(size / 2),), uint8
        A byte stands for ``scale * code / 127``, and has the array's shape; of two times four bits
        each stands for ``scale * LEVELS[code]``, the lower ones for the number that comes first.
    scales : array of shape (ceil(size / 64),), float16
    shape : tuple of int
    """

    codes: NDArray[Any]
    scales: NDArray[np.float16]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any], bits: int = 8) -> Self | None:
        """Return an array so, or None where that would move it too far.

        >>> Coded.of(np.array([-1.0, 0.5, 0.0])).dense().tolist()
        [-1.0, 0.5039370059967041, 0.0]
        >>> Coded.of(np.array([-1.0, 0.5, 0.0]), bits=4).dense().tolist()
        [-1.0, 0.44070982933044434, 0.0]
        >>> Coded.of(np.array([1e9, 1.0])) is None  # no scale of two bytes is as large
        True
        """
        groups = _groups(array.astype(np.float64))
        with np.errstate(over="ignore"):
            scales = np.abs(groups).max(axis=1, initial=0).astype(np.float16)
        if not np.isfinite(scales).all():
            return None
        wide = scales.astype(np.float64)[:, None]
        shares = np.divide(groups, wide, where=wide > 0, out=np.zeros_like(groups))
        codes = (_in_bytes if bits == 8 else _in_halves)(shares.reshape(-1)[: array.size])
        coded = cls(codes.reshape(array.shape) if bits == 8 else codes, scales, array.shape)
        off = np.linalg.norm(coded.dense().astype(np.float64) - array)
        return coded if off <= TOLERANCE[bits] * np.linalg.norm(array.astype(np.float64)) else None

    @property
    def size(self) -> int:
        """Numbers that it stands for."""
        return math.prod(self.shape)

    def dense(self) -> NDArray[np.float32]:
        """Return the array that it stands for.

        Raises
        ------
        ValueError
            If there are codes or scales for another number of them, as in a damaged file.
        """
        if self.codes.dtype == np.int8:
            shares, unit = self.codes.reshape(-1).astype(np.float32), np.float32(MOST)
        elif self.codes.dtype != np.uint8:
            raise ValueError(f"a task has codes of type {self.codes.dtype}")
        else:
            both = np.stack([self.codes & 15, self.codes >> 4], axis=-1)
            shares, unit = LEVELS[both.reshape(-1)[: self.size]], np.float32(1)
        if len(shares) != self.size or self.scales.shape != (-(-self.size // GROUP),):
            raise ValueError("a task has codes or scales for another number of values")
        step = self.scales.astype(np.float32)[:, None] / unit
        return (_groups(shares) * step).reshape(-1)[: self.size].reshape(self.shape)


def _in_bytes(shares: NDArray[Any]) -> NDArray[np.int8]:
    return np.clip(np.round(shares * MOST), -MOST, MOST).astype(np.int8)


def _in_halves(shares: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the nearest of the levels for each number, two to a byte."""
    between = (LEVELS[1:].astype(np.float64) + LEVELS[:-1]) / 2
    codes = np.searchsorted(between, shares).astype(np.uint8)
    first, second = codes[::2], np.zeros(-(-len(codes) // 2), dtype=np.uint8)
    second[: len(codes) // 2] = codes[1::2]
    second <<= 4
    return first | second


def _groups(array: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers of an array in rows of a group each, the last one filled with zeros."""
    n_groups = -(-array.size // GROUP)
    whole = np.zeros(n_groups * GROUP, dtype=array.dtype)
    whole[: array.size] = array.reshape(-1)
    return whole.reshape(n_groups, GROUP)
