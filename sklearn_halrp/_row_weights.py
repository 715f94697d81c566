"""Weights of rows as they come in: finite, not negative, and balanced within a task."""

from numbers import Number

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from sklearn_halrp._labels import entries


def check_weights(sample_weight, X):
    """Return the weights of rows as finite numbers that are not negative."""
    rows = np.empty((len(X), 1))
    weights = sample_weight if isinstance(sample_weight, Number) else entries(sample_weight)
    try:
        return _check_sample_weight(weights, rows, dtype=np.float64, ensure_non_negative=True)
    except OverflowError as error:
        raise ValueError("sample_weight has an int that is too large for a float.") from error


def in_proportion(weights):
    """Return weights over a power of two, so that no sum is infinite and no digit another.

    >>> in_proportion(np.array([2.0**1023, 2.0**1022])).tolist()
    [0.5, 0.25]
    """
    return np.ldexp(weights, -np.frexp(weights.max())[1])


def rows_of(array, rows):
    """Return some entries of an array that may be None."""
    return None if array is None else array[rows]


def balanced(task_id, weights):
    """Return the weights of a task with the mean 1, so that the step size stays as it is."""
    if not weights.any():
        raise ValueError(f"All sample weights of task {task_id!r} are zero.")
    weights = in_proportion(weights)
    return (weights * (len(weights) / weights.sum())).astype(np.float32)
