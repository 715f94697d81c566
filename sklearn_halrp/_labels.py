"""Labels and ids as they were given, to the last digit and letter, or refused.

numpy cuts, rounds and merges what its types do not hold: members of an enumeration, ints of
more than 53 bits beside a float, strings that end in NUL.
"""

from collections.abc import Sized
from enum import Enum
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def entries(values: Any) -> NDArray[Any]:
    """Return labels or ids as an array; where numpy could change them, as one of objects.

    >>> entries(["north", 2])
    array(['north', 2], dtype=object)
    >>> entries(np.ma.masked_equal([1, 2], 2))
    array([1, None], dtype=object)
    """
    if isinstance(values, torch.Tensor):
        if values.dtype is torch.bfloat16:
            raise TypeError("Labels and ids in bfloat16 are rounded from 256 on: pass ints.")
        return values.detach().cpu().numpy()
    if isinstance(values, np.ma.MaskedArray):
        array = np.ma.getdata(values).astype(object)
        array[np.ma.getmaskarray(values)] = None
        return array
    if isinstance(values, list | tuple):
        return np.asarray(values, dtype=object)
    array = np.asarray(values)
    if array is not values and _may_differ(array, values):
        return np.asarray(values.to_list() if hasattr(values, "to_list") else list(values), object)
    return array.astype(object) if array.dtype.kind == "T" else array


def _may_differ(array: NDArray[Any], column: Any) -> bool:
    """Whether numpy may have changed a column: cut its strings, or made floats of ints."""
    floats = "float" in str(getattr(column, "dtype", "float")).lower()
    return array.dtype.kind == "U" or (array.dtype.kind == "f" and not floats)


def plain(value: Any) -> Any:
    """Return one label or id as the int, bool, float or str that it is, and all else as it is.

    A member of an enumeration that is itself a string or a number, such as of `enum.StrEnum`,
    equals its value, and so becomes that. A float of numpy keeps its type, which tells how
    large ints it holds.

    >>> from enum import Enum
    >>> Site = Enum("Site", {"NORTH": "north"}, type=str)
    >>> plain(Site.NORTH), plain(np.int8(3)), plain(np.bool_(True))
    ('north', 3, True)
    """
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = entries(value)[()]
    if isinstance(value, np.timedelta64 | bool):  # numpy calls the former an int
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float) and not isinstance(value, np.generic):
        return float(value)
    return value


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or NA.

    >>> [is_missing(value) for value in (None, np.nan, np.datetime64("NaT"), "nan", 0)]
    [True, True, True, False, False]
    """
    if isinstance(value, str | int):
        return False
    return value is None or value is np.ma.masked or str(value).lower() in ("nan", "nat", "<na>")


def rounds_from(kind: Any) -> int:
    """Return the smallest int from which on a type of floats does not hold every int.

    >>> rounds_from(np.float32) == 2**24
    True
    """
    return 2 ** (np.finfo(kind).nmant + 1)


def shortened(value: Any, limit: int = 60) -> str:
    """Return a value as text that is short, whatever the value is.

    >>> shortened("north"), shortened(np.datetime64("2020-01-01")), shortened([0] * 99, limit=9)
    ("'north'", '2020-01-01', '[0, 0,...')
    """
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shown(value: Any) -> str:
    """Return a value as short text, and its type.

    >>> shown(b"north")
    "b'north' (bytes)"
    """
    return f"{shortened(value)} ({type(value).__name__})"


def as_plain(value: Any, name: str) -> str:
    """Return the code that makes an int or a string of a value of another kind.

    >>> as_plain(b"north", "label"), as_plain(np.datetime64("2020-01-01"), "label")
    ('label.decode()', 'str(label)')
    """
    if isinstance(value, bytes):
        return f"{name}.decode()"
    return f"{name}.value" if isinstance(value, Enum) else f"str({name})"


def keep_types(y: Any, name: str = "y") -> Any:
    """Return labels as an array that holds each of them exactly.

    Parameters
    ----------
    y : array-like
        None is left as it is.
    name : str
        What the argument is called, for errors.

    Returns
    -------
    array of the same shape
        Of bools, ints, floats or strings. Where numbers and strings occur, of objects, since
        numpy would make strings of all: each task has labels of one kind.

    Raises
    ------
    TypeError
        If a label is of another kind, such as a date.
    ValueError
        If some are missing, or the array could not hold them exactly.

    Examples
    --------
    >>> keep_types([1, "a"])
    array([1, 'a'], dtype=object)
    >>> keep_types([2**60, 2**60 + 1])
    array([1152921504606846976, 1152921504606846977])
    """
    if y is None:
        return y
    array = entries(y)
    if array.ndim == 0:
        raise TypeError(f"{name} must be an array or a list of labels; got {shown(y)}.")
    if array.ndim > 2:
        raise ValueError(f"{name} must have one label for each row; got shape {array.shape}.")
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must have labels, ints or strings.")
    if array.dtype.kind not in "biufU":
        labels = [plain(label) for label in array.ravel()]
        _check_labels(labels, name)
        labels = [float(x) if isinstance(x, np.floating) else x for x in labels]
        if len({isinstance(label, str) for label in labels}) > 1:
            kept = np.empty(len(labels), dtype=object)
            kept[:] = labels
        else:
            kept = array_of(labels, name)
        return kept.reshape(array.shape)
    if array.dtype == np.uint64 and (array < 2**63).all():
        return array.astype(np.int64)  # numpy compares uint64 with other ints as floats
    return _checked_floats(array, name) if array.dtype.kind == "f" else array


def array_of(labels: list[Any], name: str) -> NDArray[Any]:
    """Return a list of plain labels, all strings or all numbers, as an array of their own type.

    Raises
    ------
    ValueError
        If the array would hold another label than the list.
    """
    array = fitting(labels)
    for label in lost_in(array, labels):
        why = (
            "a string cannot end in a NUL character"
            if isinstance(label, str)
            else "ints must fit into 64 bits, and beside floats into 53"
        )
        raise ValueError(
            f"{name} has the label {shown(label)}, which an array cannot hold exactly: {why}. "
            "Write such labels as other strings."
        )
    return _checked_floats(array, name) if array.dtype.kind == "f" else array


def fitting(labels: list[Any]) -> NDArray[Any]:
    """Return plain labels as an array of the type that fits them best; see `lost_in`.

    >>> fitting([1, 2]).dtype, fitting([1, 2**63]).dtype, fitting([-1, 2**63]).dtype
    (dtype('int64'), dtype('uint64'), dtype('float64'))
    """
    unsigned = all(isinstance(label, int) and 0 <= label < 2**64 for label in labels)
    if unsigned and max(labels, default=0) >= 2**63:
        return np.array(labels, dtype=np.uint64)  # numpy itself takes floats
    return np.array(labels)


def lost_in(array: NDArray[Any], labels: list[Any]) -> list[Any]:
    """Return the labels that an array made of them does not hold, or holds as a rounded float.

    >>> lost_in(fitting([-1, 2**63]), [-1, 2**63]), lost_in(fitting([-1, 2]), [-1, 2])
    ([9223372036854775808], [])
    """
    if array.dtype == object:
        return [x for x in labels if isinstance(x, int) and not -(2**63) <= x < 2**64] or labels
    limit = 2**53 if array.dtype.kind == "f" else 2**64
    return [
        label
        for label, kept in zip(labels, array.tolist(), strict=True)
        if label != kept or (isinstance(label, int) and abs(label) >= limit)
    ]


def _check_labels(labels: list[Any], name: str) -> None:
    """Refuse labels that are missing, or neither numbers nor strings."""
    _refuse_missing([i for i, label in enumerate(labels) if is_missing(label)], labels, name)
    for i, label in enumerate(labels):
        if isinstance(label, np.floating):
            _checked_floats(np.array([label]), name)
        elif not isinstance(label, str | int | float):
            raise TypeError(
                f"{name} must have labels that are ints or strings; label {i} is {shown(label)}. "
                f"Write {as_plain(label, 'label')} for each of them."
            )


def _refuse_missing(places: Any, labels: Sized, name: str) -> None:
    if len(places):
        raise ValueError(
            f"{len(places)} of {len(labels)} labels in {name} are missing (None, NaN or NA), the "
            f"first at {places[0]}. Fill them in, or leave those rows out."
        )


def _checked_floats(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Refuse floats that are no labels, or so large that they may stand for several."""
    _refuse_missing(np.flatnonzero(np.isnan(array)), array.ravel(), name)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a label that is infinity. Labels are ints or strings.")
    limit = min(rounds_from(array.dtype), 2**53)
    if (np.abs(array) >= limit).any():
        raise ValueError(
            f"{name} came as {array.dtype.name}, which rounds ints from {limit} on, so that "
            "several labels may have been merged. Keep labels in an array of ints, or as strings."
        )
    return array.astype(np.float64) if array.dtype.itemsize > 8 else array
