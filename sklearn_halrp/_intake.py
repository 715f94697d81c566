"""Where data comes in: rows, labels, ids and weights, as arrays, tables, tensors or Datasets."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import validate_data
from torch.utils.data import Dataset

from sklearn_halrp._datasets import (
    DatasetRows,
    check_dataset,
    check_one_input,
    from_tensor,
    labels_in,
    readable,
)
from sklearn_halrp._ids import split_task_column
from sklearn_halrp._labels import shortened
from sklearn_halrp._learned import Columns
from sklearn_halrp._row_weights import (
    balanced,
    check_weights,
    in_proportion,
    rows_of,
    weights_of_classes,
)
from sklearn_halrp._tables import categories_in, with_codes
from sklearn_halrp._types import Target, TaskId


@dataclass(frozen=True)
class Intake:
    """Rows as the package computes with them.

    Attributes
    ----------
    X : array or DatasetRows
    task_id : int, str, array-like or None
        As it was passed, or the column that holds the ids.
    y : array, optional
    weights : array of shape (n_samples,), optional
    columns : Columns
    """

    X: NDArray[Any] | DatasetRows
    task_id: Any
    columns: Columns
    y: Any = None
    weights: NDArray[Any] | None = None

    def of_task(
        self,
        task_id: TaskId,
        rows: slice | NDArray[Any],
        target_of: Callable[..., tuple[Target, NDArray[Any]]],
        class_weight: Any = None,
    ) -> dict[str, Any]:
        """Return what a `Lesson` needs of some rows.

        Parameters
        ----------
        task_id : int or str
        rows : slice or array of row numbers
        target_of : callable
            Takes the id, the labels and their weights; returns the target and the labels as
            the loss has them.
        class_weight : {"balanced"} or dict, optional
            As of ContinualClassifier.
        """
        weights = rows_of(self.weights, rows)
        of_mean_1 = None if weights is None else balanced(task_id, weights)
        parts = None if weights is None else in_proportion(weights)
        target: Any
        target, y = target_of(task_id, self.y[rows], parts)
        if class_weight is not None:
            by_class = weights_of_classes(class_weight, target.labels, y, task_id)
            of_mean_1 = balanced(task_id, by_class if parts is None else by_class * parts)
        return {
            "task_id": task_id,
            "X": self.X[rows],
            "y": y,
            "target": target,
            "weights": of_mean_1,
        }


def rows_to_predict(estimator: Any, X: Any, task_id: Any, columns: Columns) -> Intake:
    """Take in rows that are to be predicted.

    Parameters
    ----------
    estimator : ContinualEstimator
        For its parameters; it is not changed.
    X, task_id
        As they were passed.
    columns : Columns
        Of the rows that were learned.

    Returns
    -------
    Intake
    """
    X, task_id = without_ids(X, task_id, task_column=estimator.task_column)
    if isinstance(X, Dataset):
        X = DatasetRows.checked(X, dtype_of(estimator), missing=columns.missing)
    else:
        check_one_input(X, n_axes=len(columns.sample_shape))
        if columns.categories is not None:
            X = with_codes(X, columns.categories, columns.names)
        asker = _asker(estimator, columns)
        with _named(X):
            X = validate_data(asker, X, reset=False, **_checks(estimator, columns.missing))
            X = readable(X)
    _check_shape(X, columns)
    return Intake(X, task_id, columns)


def rows_to_learn(
    estimator: Any, X: Any, y: Any, task_id: Any, sample_weight: Any, columns: Columns | None = None
) -> Intake:
    """Take in rows that are to be learned.

    Parameters
    ----------
    estimator : ContinualEstimator
    X, y, task_id, sample_weight
        As they were passed.
    columns : Columns, optional
        Of the rows that were learned before.

    Returns
    -------
    Intake
    """
    X, task_id = without_ids(X, task_id, task_column=estimator.task_column)
    asker = _asker(estimator, columns)
    kind, categories, names = type(estimator)._target, None, None
    # The network of users who bring none knows what to do where a number is missing.
    missing = estimator.net is None if columns is None else columns.missing
    if isinstance(X, Dataset):
        if y is not None:
            raise ValueError("X is a Dataset, which has its labels itself: leave y out.")
        rows = DatasetRows.checked(X, dtype_of(estimator), missing=missing)
        X, y = rows, labels_in(X, kind.prepared)
        asker.n_features_in_ = X.shape[1]
    else:
        y = kind.prepared(y)
        if isinstance(X, list | tuple):
            n_rows = np.shape(np.asarray(y))[:1]  # none for y that is missing, or no array
            check_one_input(X, n_rows=n_rows[0] if n_rows else None)
        checks = {**_checks(estimator, missing), **kind.y_checks}
        if columns is not None:
            categories, names = columns.categories, columns.names
        elif missing:
            categories = categories_in(X)
        X = X if categories is None else with_codes(X, categories, names)
        with _named(X):
            X, y = validate_data(asker, X, y, reset=columns is None, **checks)
            X = readable(X)
    weights = None if sample_weight is None else check_weights(sample_weight, X)
    if columns is None:
        names = getattr(asker, "feature_names_in_", None)
        columns = Columns(asker.n_features_in_, X.shape[1:], names, categories, missing)
    else:
        _check_shape(X, columns)
    return Intake(X, task_id, columns, y, weights)


def _check_shape(X: Any, columns: Columns) -> None:
    if X.shape[1:] != columns.sample_shape:
        raise ValueError(
            f"X has rows of shape {X.shape[1:]}; the base was trained on rows of shape "
            f"{columns.sample_shape}. All tasks share one network, so bring X to that shape."
        )


def without_ids(X: Any, task_id: Any, task_column: int | str | None) -> tuple[Any, Any]:
    """Return X without the column of ids, and the ids."""
    check_dataset(X)
    X = from_tensor(X, task_column)
    if task_column is None:
        return X, task_id
    if isinstance(X, Dataset):
        raise ValueError("A Dataset has no columns: pass task_id, and leave task_column out.")
    if task_id is not None:
        raise ValueError(
            f"task_id was passed, and task_column={task_column!r} says that the ids "
            "are in X. Leave one of them out."
        )
    return split_task_column(X, task_column)


def dtype_of(estimator: Any) -> DTypeLike:
    """Return the type that rows are converted to.

    Raises
    ------
    ValueError
        If `dtype` is no type of numbers.
    """
    dtype = estimator.dtype
    if estimator.net is None:
        return "float32"
    try:
        kind = "f" if dtype is None else np.dtype(dtype).kind
    except TypeError:
        kind = ""
    if kind not in ("b", "i", "u", "f"):
        raise ValueError(
            f"dtype must be a type of numbers that numpy has, such as 'float32'; got {dtype!r}."
        )
    return dtype


def _checks(estimator: Any, missing: bool) -> dict[str, Any]:
    """Return how scikit-learn is to check and convert X."""
    # torch warns of arrays that it could write to and must not, as pandas gives them.
    # One layout: sums over another one round differently, and processes do not keep it.
    return {
        "dtype": dtype_of(estimator),
        "ensure_all_finite": "allow-nan" if missing else True,
        "order": "C",
        "allow_nd": True,
        "force_writeable": True,
    }


@contextmanager
def _named(X: Any) -> Iterator[None]:
    """Let errors of checks and conversions say that it is X, and where, if they name nothing.

    What is too large for its type is an error, and no warning beside it.
    """
    try:
        with np.errstate(over="ignore"):
            yield
    except (TypeError, ValueError, OverflowError) as error:
        if re.search(r"\b[Xy]\b|features|feature names|samples", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        why = _column_at_fault(X) or str(error)
        raise kind(f"X must be an array of numbers, a row for each sample: {why}") from error


def _column_at_fault(X: Any) -> str:
    """Return the first column of a table that does not have numbers, for an error; else nothing."""
    names = getattr(X, "column_names", getattr(X, "columns", ()))  # as pyarrow calls them
    for i, name in enumerate(names):
        if not hasattr(X, "iloc") and not isinstance(name, str):
            return ""
        column = X.iloc[:, i] if hasattr(X, "iloc") else X[name]
        values = np.asarray(column)
        try:
            if values.dtype.kind in "biufO":
                values.astype(float)
                continue
        except (TypeError, ValueError, OverflowError):
            pass
        kind = getattr(column, "dtype", values.dtype)
        return f"column {shortened(name)} has the type {kind}, and not all of it is a number."
    return ""


def _asker(estimator: Any, columns: Columns | None) -> Any:
    """Return what scikit-learn's checks may write to in place of the estimator.

    It has the estimator's name and tags, and of what was learned only the columns.
    """
    asker = type(type(estimator).__name__, (_Asker,), {})(get_tags(estimator))
    if columns is not None:
        asker.n_features_in_ = columns.n_features
        if columns.names is not None:
            asker.feature_names_in_ = columns.names
    return asker


class _Asker(BaseEstimator):
    def __init__(self, tags: Tags) -> None:
        self.tags = tags

    def __sklearn_tags__(self) -> Tags:
        return self.tags
