"""The history of a task, by columns: a thousand tasks hold many epochs."""

import numpy as np

_NAMES = np.dtype("S8")


def to_columns(rows):
    """Return dictionaries, one per epoch, as one array per key.

    >>> columns = to_columns([{"phase": "base", "loss": 0.5}, {"phase": "base", "loss": 0.25}])
    >>> columns["loss"]
    array([0.5 , 0.25], dtype=float32)
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: _column([row.get(key) for row in rows]) for key in keys}


def _column(values):
    if any(value is None for value in values):
        return np.array(values, dtype=object)  # not every epoch has this key
    array = np.array(values)
    if array.dtype.kind == "U":
        return array.astype(_NAMES) if array.dtype.itemsize <= 4 * _NAMES.itemsize else array
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))


def to_rows(columns):
    """Return the columns as dictionaries, one per epoch.

    >>> to_rows({"phase": np.array([b"base"]), "loss": np.array([0.5])})
    [{'phase': 'base', 'loss': 0.5}]
    """
    lists = {
        key: (column.astype(str) if column.dtype.kind == "S" else column).tolist()
        for key, column in columns.items()
    }
    rows = zip(*lists.values(), strict=True)
    return [
        {key: value for key, value in zip(lists, row, strict=True) if value is not None}
        for row in rows
    ]
