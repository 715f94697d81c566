"""Nested data as JSON and arrays, and back: what files and stores are made of."""

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
        return {"type": value.dtype.str, "labels": value.tolist()}
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
        return np.array(value["labels"], dtype=np.dtype(value["type"]))
    return {key: nested(entry, arrays) for key, entry in value.items()}
