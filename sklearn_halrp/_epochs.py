"""The history of a task, by columns: a thousand tasks hold many epochs."""

import numpy as np

_COMPACT = ({float}, {bool})


def to_columns(rows):
    """Return dictionaries, one per epoch, as one array per key.

    >>> columns = to_columns([{"phase": "base", "loss": 0.5}, {"phase": "base", "loss": 0.25}])
    >>> columns["loss"]
    array([0.5 , 0.25])
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: _column([row.get(key) for row in rows]) for key in keys}


def _column(values):
    kinds = {type(value) for value in values}  # None where an epoch lacks this key
    return np.array(values, dtype=kinds.pop() if kinds in _COMPACT else object)


def to_rows(columns):
    """Return the columns as dictionaries, one per epoch.

    >>> to_rows({"phase": np.array(["base"]), "loss": np.array([0.5])})
    [{'phase': 'base', 'loss': 0.5}]
    """
    lists = {key: column.tolist() for key, column in columns.items()}
    rows = zip(*lists.values(), strict=True)
    return [
        {key: value for key, value in zip(lists, row, strict=True) if value is not None}
        for row in rows
    ]
