"""What torch has in the place of X: tensors, and datasets, whose rows are read when needed."""

import math
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from sklearn_halrp._labels import entries, keep_types


def from_tensor(X: Any, task_column: int | str | None = None) -> Any:
    """Return a tensor as an array in main memory, and all else as it is.

    Raises
    ------
    ValueError
        If a column holds ids and the type rounds them.
    """
    if not isinstance(X, torch.Tensor):
        return X
    if task_column is not None and X.dtype is torch.bfloat16:
        raise ValueError(
            "X is a tensor of bfloat16, which rounds ids from 256 on, so it can have no "
            "task_column: pass the ids as task_id, or X as float32 made before the ids went in."
        )
    X = X.detach().cpu()
    return (X.float() if X.dtype is torch.bfloat16 else X).numpy()  # numpy has no bfloat16


ONE_INPUT = "put what the module takes into one array, and take it apart in the module's forward."


def check_rows(X: Any) -> None:
    """Refuse several inputs, and rows that are not numbers but records or texts.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(X, Mapping) and not hasattr(X, "toarray"):  # one kind of sparse matrix is a dict
        raise TypeError(
            f"X is a {type(X).__name__}, and must be one array, DataFrame, tensor or Dataset. Of "
            f"columns make a table, pandas.DataFrame(X); of several inputs, {ONE_INPUT}"
        )
    if isinstance(X, Set | Iterator):
        raise TypeError(f"X is a {type(X).__name__}, and must be an array or a list of rows.")
    listed = isinstance(X, list | tuple) and len(X) > 0
    shapes = {row.shape for row in X if hasattr(row, "shape")} if listed else ()
    if len(shapes) > 1:
        raise ValueError(
            f"X is a {type(X).__name__} of arrays of several shapes, and all rows must have one "
            f"shape. Of several inputs, {ONE_INPUT}"
        )
    kind = getattr(getattr(X, "dtype", None), "kind", "")
    if kind == "c":
        raise ValueError("Complex data not supported: give X the real parts, or the magnitudes.")
    if kind in ("m", "M"):
        raise TypeError(f"X has dates or times ({X.dtype}), and a row must have numbers.")
    first = X[0] if listed else _first_of_one_axis(X)
    if isinstance(first, Mapping):
        raise TypeError(
            f"X has rows that are a {type(first).__name__}, and a row must be an array of numbers. "
            f"Of records make a table, pandas.DataFrame(X); of several inputs, {ONE_INPUT}"
        )
    if isinstance(first, str | bytes) or isinstance(X, str | bytes):
        raise TypeError(
            "X has rows that are strings, and a row must be an array of numbers. Turn each text "
            "into one first, with an encoder or a vectorizer of sklearn.feature_extraction.text."
        )


def check_one_input(X: Any, n_rows: int | None = None, n_axes: int | None = None) -> None:
    """Refuse a list of several inputs of one shape, each with all rows.

    Parameters
    ----------
    X : object
        As it was passed. Arrays in a list are its rows.
    n_rows : int, optional
        As many as there are labels.
    n_axes : int, optional
        Of one row.

    Raises
    ------
    ValueError
    """
    if not isinstance(X, list | tuple) or not len(X):
        return
    shape = tuple(getattr(X[0], "shape", ()))
    too_many = n_axes is not None and len(shape) > n_axes
    if len(shape) > 1 and (too_many or n_rows not in (None, len(X))):
        labels = "" if n_rows is None else f", and y has {n_rows} labels"
        raise ValueError(
            f"X is a {type(X).__name__} of {len(X)} arrays of shape {shape}, which is read as "
            f"{len(X)} rows{labels}. Of several inputs, {ONE_INPUT}"
        )


def _first_of_one_axis(X: Any) -> Any:
    """Return the first entry of what has one axis, such as a Series, else None."""
    shape = getattr(X, "shape", None)
    if isinstance(X, Dataset | torch.Tensor) or not isinstance(shape, tuple) or len(shape) != 1:
        return None
    return next(iter(X), None)


def check_dataset(X: Any) -> None:
    """Refuse what torch has for rows and this package cannot look up.

    Raises
    ------
    TypeError
        If X is a DataLoader, or a dataset whose rows have no places or come without labels, or
        what `check_rows` refuses.
    ValueError
        If it is a dataset without rows.
    """
    if isinstance(X, DataLoader):
        raise TypeError(
            "X is a DataLoader, and the net makes batches itself: pass the loader's dataset."
        )
    if not isinstance(X, Dataset):
        check_rows(X)
        return
    name = type(X).__name__
    if isinstance(X, IterableDataset) or not hasattr(X, "__len__"):
        raise TypeError(
            f"X is a {name}, whose rows cannot be counted and looked up. Pass a Dataset with "
            "__len__ and __getitem__, or an array of its rows."
        )
    if not len(X):
        raise ValueError(f"X is a {name} of 0 rows.")
    first = X[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        many = f" of {len(first)}" if isinstance(first, tuple | list | dict) else ""
        raise TypeError(
            f"X is a {name} whose entries are a {type(first).__name__}{many}. They must be pairs "
            "of a row and a label. To predict, any label will do, such as 0; or pass an array."
        )
    if isinstance(first[0], Mapping | str | bytes):
        raise TypeError(
            f"X is a {name} whose rows are a {type(first[0]).__name__}. A row must be one tensor "
            f"or array: {ONE_INPUT}"
        )


class DatasetRows:
    """Gives a dataset the length, shape and indexing of an array.

    Parameters
    ----------
    dataset : Dataset
        Of pairs of a row and a label. All rows have the shape of the first.
    """

    nbytes = 0  # held in memory

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    @classmethod
    def checked(cls, dataset: Any, dtype: DTypeLike, missing: bool = False) -> Self:
        """Return the rows of a user's dataset, which are looked at when they are read.

        Parameters
        ----------
        dataset : Dataset
        dtype : str or numpy dtype
            What they are converted to; None leaves them as they are.
        missing : bool
            Whether numbers may be NaN.
        """
        return cls(_Checked(dataset, dtype, missing))

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and shape of one."""
        return (len(self), *np.shape(self.dataset[0][0]))

    def __getitem__(self, rows: Any) -> "DatasetRows":
        return DatasetRows(Subset(self.dataset, np.arange(len(self))[rows]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        rows = np.stack([np.asarray(self.dataset[i][0]) for i in range(len(self))])
        return rows if dtype is None else rows.astype(dtype)

    def labelled(self, y: NDArray[Any]) -> Dataset[Any]:
        """Return a dataset of the same rows with these labels."""
        return _Labelled(self.dataset, y)


class _Checked(Dataset[Any]):
    """The same rows, of one type and shape, and finite or missing."""

    def __init__(self, dataset: Any, dtype: DTypeLike, missing: bool) -> None:
        self.dataset = dataset
        self.missing = missing
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.shape = tuple(np.shape(dataset[0][0]))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: Any) -> tuple[Any, Any]:
        row, label = self.dataset[i]
        shape = tuple(np.shape(row))
        if shape != self.shape:
            raise ValueError(f"Row {i} of X has shape {shape}, and row 0 has {self.shape}.")
        try:
            row = _array_of(row, self.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"Row {i} of X is no array of numbers: {error}") from error
        if _is_complex(row):
            raise ValueError(f"Complex data not supported: row {i} of X has complex numbers.")
        if not _finite(row, self.missing):
            what = "infinity" if self.missing else "NaN or infinity"
            raise ValueError(
                f"Row {i} of X contains {what}, or a number that is too large for its "
                f"type, {row.dtype}. Fill it in, or leave that row out."
            )
        return row, label


def _array_of(row: Any, dtype: Any) -> Any:
    """Return a row as an array of a type, or a tensor as one; of complex numbers, as it is."""
    tensor = isinstance(row, torch.Tensor)
    row = row if tensor else np.asarray(row)
    if _is_complex(row) or (tensor and dtype is None):
        return row
    if dtype is None:
        return readable(row)
    if tensor:
        return row.to(torch.from_numpy(np.empty(0, dtype)).dtype)
    with np.errstate(over="ignore"):
        return readable(row.astype(dtype, copy=False))


def readable(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as torch can read them: in the byte order of the machine.

    Raises
    ------
    ValueError
        If they are objects.

    >>> readable(np.array([1.0], dtype=">f4")).dtype.isnative
    True
    """
    if values.dtype.kind == "O":
        raise ValueError(
            "X holds Python objects, which dtype=None leaves as they are. Give the numbers a type, "
            "with X.astype, or with dtype='float32'."
        )
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _is_complex(row: Any) -> bool:
    return row.is_complex() if isinstance(row, torch.Tensor) else row.dtype.kind == "c"


def _finite(row: Any, missing: bool) -> bool:
    """Whether all numbers of a row are finite, or missing where they may be."""
    if missing and isinstance(row, torch.Tensor):
        return not row.isinf().any()
    if not isinstance(row, torch.Tensor):
        infinite = np.isinf if missing else lambda values: ~np.isfinite(values)
        return row.dtype.kind != "f" or not infinite(row).any()
    # The sum is had in a quarter of the time, and is finite but for very large numbers.
    return math.isfinite(row.sum()) or bool(row.isfinite().all())


class _Labelled(Dataset[Any]):
    def __init__(self, dataset: Any, y: NDArray[Any]) -> None:
        self.dataset = dataset
        self.y = y

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: Any) -> tuple[Any, Any]:
        return self.dataset[i][0], self.y[i]


def given(X: Any) -> Any:
    """Return what a skorch net takes: an array, or the dataset behind the rows."""
    return X.dataset if isinstance(X, DatasetRows) else X


def labels_in(dataset: Any, prepared: Callable[..., Any] = keep_types) -> Any:
    """Return the labels of a dataset, or its targets if these are numbers.

    They are its attribute ``targets`` or ``y``, if that has an entry for each row; otherwise
    every row is read once.

    Parameters
    ----------
    dataset : Dataset
    prepared : callable
        What a kind of target makes of them; takes them and the name of the argument.

    Raises
    ------
    ValueError, TypeError
        As `prepared`.

    >>> labels_in([("a row", 3), ("another", 5)])
    array([3, 5])
    """
    return prepared(_entries_of(dataset), "X")


def _entries_of(dataset: Any) -> NDArray[Any]:
    if type(dataset) is Subset:
        return _entries_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    for name in ("targets", "y"):
        labels = getattr(dataset, name, None)
        labels = None if labels is None else entries(labels)
        if labels is not None and labels.shape == (len(dataset),):
            return labels
    labels = [dataset[i][1] for i in range(len(dataset))]
    return entries([_of_one(label) for label in labels])


def _of_one(label: Any) -> Any:
    """Return a label that came as an array or tensor of one entry without its axes."""
    one = isinstance(label, torch.Tensor | np.ndarray) and np.prod(label.shape) == 1
    return label.reshape(()) if one else label
