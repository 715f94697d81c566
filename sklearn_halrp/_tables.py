"""Columns of a table that hold categories, as numbers."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_halrp._labels import is_missing, plain, shortened

# Of a column the most frequent categories get a place, and no more: all others are alike.
MOST_CATEGORIES = 64
# What stands for a category that has no place.
OTHER = -1

Category = str | int | float | bool | None
# Of each column: what stands for its places, or None for a column of numbers.
Categories = tuple[tuple[Category, ...] | None, ...]


def categories_in(X: Any) -> Categories | None:
    """Return the categories of each column of a table, or None if all are numbers.

    Columns of a pandas or polars DataFrame are categories if their type says so (``category``,
    ``Enum``), or if they hold text. Missing entries are a category too, None, where there are any.

    Parameters
    ----------
    X : object
        As it was passed, without a column of ids.

    Returns
    -------
    tuple or None
        The most frequent categories come first.

    Raises
    ------
    TypeError
        If a column has entries that are neither numbers nor text.
    """
    if not _is_table(X):
        return None
    found = tuple(_known_of(name, column) for name, column in _columns(X))
    return found if any(entries is not None for entries in found) else None


def with_codes(X: Any, categories: Categories, names: NDArray[Any] | None = None) -> Any:
    """Return a table in which the place of each category stands for it, and `OTHER` for the rest.

    Parameters
    ----------
    X : DataFrame, or array of shape (n_samples, n_columns)
        One with other columns than those learned is returned as it is: it is refused later.
    categories : tuple
    names : array of str, optional
        Of the columns that were learned.

    Raises
    ------
    ValueError
        If it is an array of numbers, which cannot have these categories, or a column of
        numbers has text now.
    """
    if not _is_table(X):
        return _array_with_codes(X, categories)
    same = len(X.columns) == len(categories)
    if not same or (names is not None and list(X.columns) != list(names)):
        return X
    coded, pandas = X.copy(deep=False) if hasattr(X, "iloc") else X, hasattr(X, "iloc")
    for place, (name, column) in enumerate(_columns(X)):
        known = categories[place]
        if known is not None:
            codes: NDArray[Any] = _codes(name, column, known)
        elif _is_categorical(column):
            codes = _numbers(name, column)
        else:
            continue
        if pandas:
            coded.isetitem(place, codes)
        else:
            coded = coded.with_columns(type(column)(name, codes))
    return coded


def _array_with_codes(X: Any, categories: Categories) -> Any:
    array = np.asarray(X, dtype=object) if isinstance(X, list | tuple) else X
    number = sum(known is not None for known in categories)
    if getattr(getattr(array, "dtype", None), "kind", "") != "O" or array.ndim != 2:
        raise ValueError(
            f"X has no categories, and {number} of the {len(categories)} columns that were "
            "learned had. Give a DataFrame with these columns."
        )
    if array.shape[1] != len(categories):
        raise ValueError(
            f"X has {array.shape[1]} features, and {len(categories)} columns were learned."
        )
    coded = array.copy()
    for place, known in enumerate(categories):
        column = array[:, place]
        coded[:, place] = column if known is None else _codes(place, column, known)
    return coded


def _is_table(X: Any) -> bool:
    return (hasattr(X, "iloc") and hasattr(X, "columns")) or hasattr(X, "with_columns")


def _columns(X: Any) -> Iterator[tuple[Any, Any]]:
    for place, name in enumerate(X.columns):
        yield name, X.iloc[:, place] if hasattr(X, "iloc") else X[name]


def _is_categorical(column: Any) -> bool:
    """Whether a column may have entries that are no numbers."""
    kind = str(column.dtype)
    return kind.startswith(("category", "Categorical", "Enum")) or (
        np.asarray(column[:0]).dtype.kind in "OUST" or kind in ("str", "string", "String")
    )


def _entries(column: Any) -> list[Any]:
    """Return the entries of a column as Python has them, None for those that are missing."""
    values = column.to_list() if hasattr(column, "to_list") else list(column)
    found = (None if is_missing(value) else plain(value) for value in values)
    return [value.item() if isinstance(value, np.generic) else value for value in found]


def _known_of(name: Any, column: Any) -> tuple[Category, ...] | None:
    """Return the categories of one column, the most frequent first, or None for numbers."""
    if not _is_categorical(column):
        return None
    entries = _entries(column)
    declared = str(column.dtype).startswith(("category", "Categorical", "Enum"))
    if not declared and all(isinstance(v, int | float | None) for v in entries):
        return None
    for value in entries:
        _check_entry(name, value)
    # Equal numbers of several types are one category, as in a dictionary.
    counts = Counter(entries)
    order = sorted(counts, key=lambda v: (-counts[v], type(v).__name__, str(v)))
    return tuple(order[:MOST_CATEGORIES])


def _check_entry(name: Any, value: Any) -> None:
    if not isinstance(value, Category):
        raise TypeError(
            f"Column {shortened(name)} of X has a {type(value).__name__}, {shortened(value)}. "
            "Categories are text or numbers."
        )


def _codes(name: Any, column: Any, known: tuple[Category, ...]) -> NDArray[np.float32]:
    places = {value: place for place, value in enumerate(known)}
    texts = {str(value): value for value in known}
    entries = _entries(column)
    for value in {type(value): value for value in entries}.values():
        _check_entry(name, value)
    for value in dict.fromkeys(entries):
        twin = None if value in places else texts.get(_as_text(value))
        if twin is not None:
            raise ValueError(
                f"Column {shortened(name)} of X has {value!r} ({type(value).__name__}), and had "
                f"{twin!r} ({type(twin).__name__}) when the base was learned. Give it that type: "
                "pandas may read one file with another type than the next."
            )
    return np.array([places.get(value, OTHER) for value in entries], dtype=np.float32)


def _as_text(value: Any) -> str:
    """Return what an entry may have been called as text; ``3.0`` is ``3`` with gaps beside it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(name: Any, column: Any) -> NDArray[np.float64]:
    """Return a column of objects as numbers, missing ones as NaN."""
    entries = _entries(column)
    for value in entries:
        if not isinstance(value, int | float | None):
            raise ValueError(
                f"Column {shortened(name)} of X has {shortened(value)}, and had numbers when "
                "the base was learned. What a column holds is fixed by the first call."
            )
    return np.array([np.nan if v is None else v for v in entries], dtype=np.float64)
