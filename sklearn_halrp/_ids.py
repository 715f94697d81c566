"""Ids of tasks: what they may be, which rows are whose, and the column that may hold them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Set, Sized
from difflib import get_close_matches
from itertools import islice
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_array

from sklearn_halrp._datasets import check_one_input, check_rows
from sklearn_halrp._labels import (
    as_plain,
    entries,
    is_missing,
    plain,
    rounds_from,
    shortened,
    shown,
)
from sklearn_halrp._types import TaskId
from sklearn_halrp.exceptions import MissingTaskError, UnknownTaskError


def check_task_id(value: Any, of_rows: bool = False) -> TaskId:
    """Return one task id as a Python int or str.

    Parameters
    ----------
    value : object
        A whole float is the int that it equals: ids that travel in an array of floats are floats.
    of_rows : bool
        Whether it came with rows, for errors.

    Raises
    ------
    TypeError
        If it is missing, or neither an int nor a string.
    ValueError
        If it is a float so large that it may stand for several ids, or half a character.

    Examples
    --------
    >>> check_task_id(np.int64(3)), check_task_id(np.str_("site")), check_task_id(2.0)
    (3, 'site', 2)
    """
    value = plain(value)
    if isinstance(value, str | int) and not isinstance(value, bool):
        _check_text(value)
        return value
    if is_missing(value):
        if not of_rows:
            raise TypeError(
                f"A task id is an int or a string; got {value!r}. Say which task is meant."
            )
        raise TypeError(
            f"Some rows have no task id: got {value!r} for an int or a string. Fill in the missing "
            "ids, or leave those rows out."
        )
    number = isinstance(value, float | np.floating)
    if number and value.is_integer():
        return _exact(value)  # an id that travelled in a float array
    if number and of_rows:
        hint = (
            "Are these weights? They go by name, sample_weight=... Or was a column of ids scaled "
            "with the features?"
        )
    elif not of_rows and (np.ndim(value) or isinstance(value, Mapping | Set)):
        hint = "Give one id per call."
    elif isinstance(value, Mapping | Set):
        hint = "For an id per row pass a list or an array of them."
    else:
        hint = f"Write {as_plain(value, 'task_id')} instead."
    raise TypeError(f"A task id is an int or a string; got {shown(value)}. {hint}")


def _check_text(value: str | int) -> None:
    """Refuse a string that no file can hold, as one that was cut in the midst of a character."""
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Task id {value!r} is no text: it has half of a character that takes two codes. "
            f"Write task_id.encode('utf-8', 'replace').decode() instead."
        ) from error


def _exact(value: Any) -> int:
    """Return a whole float as an int, if its type tells that int from its neighbours."""
    limit = rounds_from(type(value))
    if abs(value) >= limit:
        raise ValueError(
            f"Task id {int(value)} came as {type(value).__name__}, which rounds ints from {limit} "
            "on, so that ids of several tasks may have been merged. Keep ids in a DataFrame's "
            "column of their own or in an array of ints, or use small codes: 0, 1, 2."
        )
    return int(value)


def group_rows(task_id: Any, n_samples: int) -> dict[TaskId, Any]:
    """Return the rows of each task, in order of first appearance.

    Parameters
    ----------
    task_id : int, str or array-like of shape (n_samples,)
    n_samples : int

    Returns
    -------
    dict of task id to slice or array of row numbers

    Raises
    ------
    ValueError
        If there are not as many ids as rows, or if one came as a float so large that it
        may stand for several.
    TypeError
        If an id is missing, or neither an int nor a string.

    Examples
    --------
    >>> group_rows("a", 3)
    {'a': slice(None, None, None)}
    >>> group_rows(["b", "a", "b"], 3)
    {'b': array([0, 2]), 'a': array([1])}
    """
    if not isinstance(task_id, list | tuple) and np.ndim(task_id) == 0:
        return {check_task_id(task_id, of_rows=True): slice(None)}
    ids: Any = entries(task_id)
    if ids.ndim != 1 or len(ids) != n_samples:
        raise ValueError(
            f"task_id must be one id, or one id per row: X has {n_samples} rows, "
            f"task_id has shape {ids.shape}."
        )
    if ids.dtype == object:
        ids = [check_task_id(value, of_rows=True) for value in ids]
        codes: Any = {value: code for code, value in enumerate(dict.fromkeys(ids))}
        inverse = np.fromiter((codes[value] for value in ids), dtype=np.intp, count=len(ids))
        names = list(codes)
    else:
        values, first, codes = np.unique(ids, return_index=True, return_inverse=True)
        order = np.argsort(first)
        names = [check_task_id(values[i], of_rows=True) for i in order]
        inverse = np.argsort(order)[codes]
    rows = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1]
    return dict(zip(names, np.split(rows, ends), strict=True))


def ids_in(task_id: Any) -> list[TaskId]:
    """Return the ids that rows have, each once, in order of first appearance.

    >>> ids_in("a"), ids_in(["b", "a", "b"]), ids_in([])
    (['a'], ['b', 'a'], [])
    """
    n_rows = len(task_id) if np.ndim(entries(task_id)) else 1
    return list(group_rows(task_id, n_rows)) if n_rows else []


_WHERE_IDS_GET_LOST = (
    " If you did pass it to a pipeline or a search, let scikit-learn pass it on with "
    "sklearn.set_config(enable_metadata_routing=True), and score with the default scorer or "
    "sklearn_halrp.model_selection.task_scorer; where it passes no ids to predict, use "
    "task_column."
)


def default_task_id(task_id: Any, known: Any, method: str, hint: str = _WHERE_IDS_GET_LOST) -> Any:
    """Return the id that is meant when it may be left out; the hint ends an error.

    Errors name none that is known: whoever is served should not read of other customers.
    """
    if task_id is not None:
        return task_id
    if not known:
        return 0
    number = "1 task is" if len(known) == 1 else f"{len(known)} tasks are"
    meant = f"{number} known, so {method} must be told which one is meant"
    if method == "partial_fit" and list(known) != [0]:
        # A forgotten id must not train the next customer's rows into the last one's task.
        raise MissingTaskError(
            f"{meant}: pass the task_id of a known task to go on with it, or a new one for a new "
            "task."
        )
    if len(known) == 1:
        return next(iter(known))
    if method in ("to_module", "for_task"):
        raise MissingTaskError(f"{meant}: {method}(task_id).")
    raise MissingTaskError(f"{meant}: pass task_id=..., or one id per row.{hint}")


def check_known(ids: Iterable[TaskId], known: Collection[TaskId]) -> None:
    """Refuse ids that were never learned.

    The error names no known id but one that may be meant, since those of other customers do not
    belong into a log.

    >>> check_known(["Acme"], ["acme", "globex"])
    Traceback (most recent call last):
    sklearn_halrp.exceptions.UnknownTaskError: Unknown task id 'Acme'. 2 tasks are known. There is \
a task 'acme'.
    """
    unknown = [task_id for task_id in ids if task_id not in known]
    if unknown:
        number = "1 task is" if len(known) == 1 else f"{len(known)} tasks are"
        said = [f"Unknown task id {listed(unknown)}.", f"{number} known."]
        raise UnknownTaskError(" ".join([*said, *_meant(unknown[:5], known)]))


def _meant(unknown: Iterable[TaskId], known: Collection[TaskId]) -> Iterator[str]:
    """Say of each unknown id which known one is the same in another type, or spelt alike."""
    texts = {}
    if len(known) <= _COMPARED:
        texts = {name.casefold(): name for name in known if isinstance(name, str)}
    for name in unknown:
        if isinstance(name, int):
            if str(name) in known:
                yield f"There is a task {str(name)!r}, a string."
            continue
        number = re.fullmatch(r"(-?[0-9]{1,99})(\.0)?", name.strip())
        if number and int(number[1]) in known:
            yield f"There is a task {int(number[1])}, an int."
        else:
            alike = get_close_matches(name.strip().casefold(), texts, n=1, cutoff=0.8)
            yield from (f"There is a task {shortened(texts[text])}." for text in alike)


_COMPARED = 1000  # tasks, so that a wrong id costs milliseconds


def listed(ids: Iterable[Any], limit: int = 20) -> str:
    """Return ids as text, shortened when there are many.

    >>> listed(["a", 1]), listed(range(100), limit=2)
    ("'a', 1", '0, 1, ... (100 in all)')
    """
    ids = ids if isinstance(ids, Sized) else list(ids)
    some = [v.item() if isinstance(v, np.generic) else v for v in islice(ids, limit)]
    text = ", ".join(shortened(value) for value in some)
    return text if len(ids) <= limit else f"{text}, ... ({len(ids)} in all)"


def split_task_column(X: Any, column: int | str) -> tuple[Any, Any]:
    """Take the column of task ids out of X.

    Parameters
    ----------
    X : DataFrame or array of shape (n_samples, n_columns)
    column : str or int
        A name, or a position.

    Returns
    -------
    rest : like X, with one column less
    ids : the column
    """
    if hasattr(X, "columns"):
        names: Any = list(getattr(X, "column_names", X.columns))  # the columns of pyarrow are data
        if any(np.ndim(name) and not isinstance(name, tuple) for name in names):
            raise TypeError(f"The columns of X, a {type(X).__name__}, have no names to look for.")
        position = isinstance(column, Integral) and -len(names) <= column < len(names)
        if column not in names and not position:
            raise ValueError(f"task_column={column!r} is no column of X; it has {listed(names)}.")
        name = column if column in names else names[column]
        if position and name != names[column]:
            raise ValueError(
                f"task_column={column} is the name of one column of X and the position of another, "
                f"{names[column]!r}. Give the columns names that are strings."
            )
        rest = X.drop(columns=[name]) if hasattr(X, "iloc") else X.drop(name)
        return rest, X[name]
    check_rows(X)
    check_one_input(X, n_axes=1)
    if isinstance(X, list | tuple):
        X = np.asarray(X, dtype=object)  # with the ids as they are
    X = check_array(X, dtype=None, ensure_all_finite=False)
    if isinstance(column, str):
        raise ValueError(
            f"task_column={column!r} is a name, and X came as an array, without names: some of "
            "scikit-learn's tools, such as BaggingClassifier, make one of every table. Give the "
            "column's position instead."
        )
    if not -X.shape[1] <= column < X.shape[1]:
        raise ValueError(
            f"task_column={column!r} must be the position of a column of X, an array of shape "
            f"{X.shape}."
        )
    return np.delete(X, column, axis=1), X[:, column]
