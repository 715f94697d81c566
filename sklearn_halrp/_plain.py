"""Nested data as JSON and arrays, and back: what files and stores are made of."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def flat(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return nested data as JSON can hold it; numbers in arrays and bytes go to `arrays`.

    >>> arrays = {}
    >>> flat({"a": np.arange(2), "b": [1, ("x", b"z")]}, "", arrays)
    {'a': {'array': 'a'}, 'b': [1, ['x', {'bytes': 'b/1/1'}]]}
    >>> sorted(arrays)
    ['a', 'b/1/1']
    """
    if isinstance(value, dict):
        return {key: flat(entry, f"{path}/{key}", arrays) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [flat(entry, f"{path}/{i}", arrays) for i, entry in enumerate(value)]
    name = path.removeprefix("/")
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        arrays[name] = np.asarray(value, order="C")
        return {"array": name}
    if isinstance(value, np.ndarray):
        return listed(value)
    if isinstance(value, bytes):
        arrays[name] = np.frombuffer(value, dtype=np.uint8)
        return {"bytes": name}
    return value


def nested(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return what `flat` was given, with lists in place of tuples."""
    if isinstance(value, list):
        return [nested(entry, arrays) for entry in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"array"}:
        return arrays[value["array"]]
    if set(value) == {"bytes"}:
        return arrays[value["bytes"]].tobytes()
    if set(value) == {"type", "labels"}:
        return unlisted(value)
    return {key: nested(entry, arrays) for key, entry in value.items()}


# Wider arrays of text, in characters, and larger ones get the width of what they hold.
WIDEST = 256
MOST_BYTES = 2**24


def listed(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array of one axis as plain data, for what is too small for an array of a file.

    >>> listed(np.array([1, 2])), listed(np.array(["a", "bc"]))
    ({'type': '<i8', 'labels': [1, 2]}, {'type': '<U2', 'labels': ['a', 'bc']})
    """
    return {"type": array.dtype.str, "labels": array.tolist()}


def unlisted(value: dict[str, Any]) -> NDArray[Any]:
    """Return the array that `listed` was given.

    Raises
    ------
    ValueError, TypeError
        If the entries are not of the type that is named. Nothing large is made of a small list.
    """
    entries, kind = value["labels"], np.dtype(value["type"])
    if kind.kind not in "biufUO" or (kind.itemsize > 16 and kind.kind != "U"):
        raise ValueError(f"an array of type {value['type']!r}")
    if kind.kind == "U" and (
        kind.itemsize > 4 * WIDEST or kind.itemsize * len(entries) > MOST_BYTES
    ):
        kind = np.dtype(str)
    if not all(isinstance(entry, str | int | float) for entry in entries):
        raise ValueError("an array of entries that are neither numbers nor text")
    array = np.array(entries, dtype=kind)
    if array.tolist() != entries:
        raise ValueError(f"entries that do not fit the type {value['type']!r}")
    return array


def plain_number(value: np.generic) -> Any:
    """Return a number of numpy's as JSON can hold it.

    >>> plain_number(np.float32(0.5)), plain_number(np.longdouble(0.5)), plain_number(np.int8(1))
    (0.5, 0.5, 1)
    """
    return float(value) if isinstance(value, np.floating) else value.item()


def digest(about: Any, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return what tells whether a single bit of settings or arrays has changed, as text.

    It is the SHA-256 of the settings as JSON, keys sorted, and of the name, type, shape and
    little-endian bytes of every array, by name.

    >>> digest({"a": 1, "b": (2,)}, {}) == digest({"b": [2], "a": 1}, {})
    True
    >>> a = np.arange(2)
    >>> digest({}, {"a": a}) == digest({}, {"a": a[:1]}), digest({}, {"a": a}) == digest({}, {})
    (False, False)
    """
    if any(array.dtype.hasobject for array in arrays.values()):
        raise ValueError("an array of objects")  # a single bit of a pickle makes numbers be that
    little = {name: arrays[name].dtype.newbyteorder("<") for name in sorted(arrays)}
    shapes = [(name, kind.str, arrays[name].shape) for name, kind in little.items()]
    text = json.dumps([about, shapes], sort_keys=True, default=plain_number)
    found = hashlib.sha256(text.encode())
    for name, kind in little.items():
        whole = np.ascontiguousarray(arrays[name], dtype=kind)
        found.update(whole.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
