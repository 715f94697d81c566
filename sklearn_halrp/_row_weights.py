"""Weights of rows as they come in: finite, not negative, and balanced within a task."""

import warnings
from collections.abc import Iterable, Mapping, Sized
from numbers import Number, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight

from sklearn_halrp._labels import entries, keep_types
from sklearn_halrp._types import TaskId


def check_weights(sample_weight: Any, X: Sized) -> NDArray[np.float64]:
    """Return the weights of rows as finite numbers that are not negative."""
    rows = np.empty((len(X), 1))
    weights = sample_weight if isinstance(sample_weight, Number) else entries(sample_weight)
    kind = np.asarray(weights).dtype
    if kind.kind not in "biufO":
        raise TypeError(f"sample_weight must have numbers that are not negative; got {kind}.")
    try:
        return _check_sample_weight(weights, rows, dtype=np.float64, ensure_non_negative=True)
    except OverflowError as error:
        raise ValueError("sample_weight has an int that is too large for a float.") from error
    except (TypeError, ValueError) as error:
        if "weight" in str(error):
            raise
        raise type(error)(f"sample_weight must have numbers, one for each row: {error}") from error


def in_proportion(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights over a power of two, so that no sum is infinite and no digit another.

    >>> in_proportion(np.array([2.0**1023, 2.0**1022])).tolist()
    [0.5, 0.25]
    """
    return np.ldexp(weights, -np.frexp(weights.max())[1])


def in_reach(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights as they are, or in proportion where their sum would be infinite."""
    with np.errstate(over="ignore"):
        return weights if np.isfinite(weights.sum()) else in_proportion(weights)


def plain_class_weight(class_weight: Mapping[Any, float]) -> dict[int | str, float]:
    """Return weights by label, with labels as those of y become.

    Raises
    ------
    ValueError
        If a weight is no finite number, or negative.
    """
    plain: dict[int | str, float] = {}
    for label, weight in class_weight.items():
        if not isinstance(weight, Real) or not 0 <= weight < np.inf:
            raise ValueError(
                f"class_weight has {weight!r} for label {label!r}; a weight is a finite number "
                "that is not negative."
            )
        (known_as,) = np.asarray(keep_types([label], "class_weight")).tolist()
        plain[known_as] = float(weight)
    return plain


def weights_of_classes(
    class_weight: str | Mapping[Any, float],
    labels: NDArray[Any],
    encoded: NDArray[np.int64],
    task_id: TaskId = 0,
) -> NDArray[np.float64]:
    """Return the weight that each row has for its class.

    Parameters
    ----------
    class_weight : {"balanced"} or dict
    labels : array of shape (n_classes,)
        Of the task.
    encoded : array of shape (n_samples,)
        Positions of the rows' labels among these.
    task_id : int or str
        For errors and warnings.

    Raises
    ------
    ValueError
        If a weight is no finite number, or negative; or its label is a text where the task has
        a number, or the other way round.

    Warns
    -----
    UserWarning
        If the dict has weights, and none for a label of the task.

    Examples
    --------
    >>> weights_of_classes("balanced", np.array(["a", "b", "c"]), np.array([0, 0, 0, 2])).tolist()
    [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 2.0]
    >>> weights_of_classes({"c": 5}, np.array(["a", "b", "c"]), np.array([0, 2])).tolist()
    [1.0, 5.0]
    """
    if not isinstance(class_weight, str):
        known = plain_class_weight(class_weight)
        _check_named(known, labels.tolist(), task_id)
        return np.array([known.get(label, 1.0) for label in labels.tolist()])[encoded]
    counts = np.bincount(encoded, minlength=len(labels))
    there = np.count_nonzero(counts)  # a task may lack rows of a class in one call
    return len(encoded) / (there * counts[encoded])


def _check_named(weighted: Iterable[Any], labels: list[Any], task_id: TaskId) -> None:
    """Refuse or question weights that cannot be meant, since they are of no label of the task.

    Labels of other tasks may be among them: a dict holds for all tasks.
    """
    weighted = list(weighted)
    alike = {text: label for label in labels if label not in weighted for text in _texts(label)}
    for key in weighted:
        label = next((alike[text] for text in _texts(key) if text in alike), None)
        if key not in labels and label is not None:
            raise ValueError(
                f"class_weight has a weight for {key!r} ({type(key).__name__}), and task "
                f"{task_id!r} has the label {label!r} ({type(label).__name__}): write "
                f"{{{label!r}: ...}}, beside it where another task has {key!r}."
            )
    if weighted and not any(key in labels for key in weighted):
        warnings.warn(
            f"class_weight has a weight for no label of task {task_id!r}, so all its classes count "
            "alike. If that is meant, give one of its labels the weight 1.",
            stacklevel=9,
        )


def _texts(label: Any) -> set[str]:
    """Return a label as the texts that it may be written as.

    >>> _texts(1.0) == {"1.0", "1"}, _texts("1") == _texts(1)
    (True, True)
    """
    whole = isinstance(label, float) and label.is_integer()
    return {str(label), str(int(label))} if whole else {str(label)}


def rows_of(array: NDArray[Any] | None, rows: slice | NDArray[Any]) -> NDArray[Any] | None:
    """Return some entries of an array that may be None."""
    return None if array is None else array[rows]


def balanced(task_id: TaskId, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights of a task with the mean 1, so that the step size stays as it is."""
    if not weights.any():
        raise ValueError(f"All sample weights of task {task_id!r} are zero.")
    weights = in_proportion(weights)
    found = (weights * (len(weights) / weights.sum())).astype(np.float32)
    if (found[weights > 0] == 0).any():
        raise ValueError(
            f"The sample weights of task {task_id!r} lie so far apart that the smallest would "
            "count as zero. Give those rows weight 0, or bring the others down."
        )
    return found
