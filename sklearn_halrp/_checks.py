"""The door: every argument is checked here, before anything is changed."""

from collections.abc import Mapping, Set
from functools import partial
from numbers import Integral, Number

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight
from skorch import NeuralNetClassifier
from skorch.callbacks import LoadInitState

from sklearn_halrp._datasets import check_rows
from sklearn_halrp._labels import (
    array_of,
    as_plain,
    entries,
    fitting,
    is_missing,
    keep_types,
    lost_in,
    plain,
    rounds_from,
    shortened,
    shown,
)
from sklearn_halrp._training import has_callback
from sklearn_halrp.exceptions import MissingTaskError, UnknownTaskError


def check_net(net, net_class=NeuralNetClassifier):
    """Refuse anything but an unfitted skorch classifier whose phases we can run.

    Raises
    ------
    TypeError
        If it is no such classifier.
    ValueError
        If it is fitted, or one of its settings makes sense for a single training only.
    """
    wanted = net_class.__name__
    if isinstance(net, type) and issubclass(net, net_class):
        raise TypeError(
            f"net must be an instance, not the class {net.__name__}. Write "
            f"{net.__name__}(Module, ...), without fitting it."
        )
    if not isinstance(net, net_class):
        loss = "CrossEntropyLoss" if net_class is NeuralNetClassifier else "MSELoss"
        raise TypeError(
            f"net must be a skorch.{wanted} (or a subclass), unfitted; got "
            f"{getattr(net, '__name__', type(net).__name__)}. A torch module is wrapped as "
            f"{wanted}(Module, criterion=torch.nn.{loss}, ...)."
        )
    if getattr(net, "initialized_", False):
        raise ValueError(
            "net is fitted already, and its weights would be lost. To perturb them, give its "
            "module as it is and say so: give "
            f"{wanted}(net.module_, ...) and base='pretrained'. To train anew, pass "
            "sklearn.base.clone(net)."
        )
    if has_callback(net, LoadInitState):
        raise ValueError(
            "A task is trained in several phases, each with other parameters, so LoadInitState "
            "has nothing to load into. Leave it out; partial_fit goes on by itself."
        )
    if isinstance(net.train_split, partial) and "valid_ds" in net.train_split.keywords:
        raise ValueError(
            "predefined_split holds out the same rows for every task, with labels that are not "
            "those of the task. Give the net's train_split a function that splits each task's "
            "own data, such as skorch.dataset.ValidSplit(5, stratified=True)."
        )


def check_task_id(value):
    """Return one task id as a Python int or str.

    >>> check_task_id(np.int64(3)), check_task_id(np.str_("site")), check_task_id(2.0)
    (3, 'site', 2)
    """
    value = plain(value)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    if is_missing(value):
        raise TypeError(
            f"Some rows have no task id: got {value!r} for an int or a string. Fill in the missing "
            "ids, or leave those rows out."
        )
    number = isinstance(value, float | np.floating)
    if number and value.is_integer():
        return _exact(value)  # an id that travelled in a float array
    if number:
        hint = "Was the column of ids scaled with the features?"
    elif isinstance(value, Mapping | Set):
        hint = "For an id per row pass a list or an array of them."
    else:
        hint = f"Write {as_plain(value, 'task_id')} instead."
    raise TypeError(f"A task id is an int or a string; got {shown(value)}. {hint}")


def _exact(value):
    """Return a whole float as an int, if its type tells that int from its neighbours."""
    limit = rounds_from(type(value))
    if abs(value) >= limit:
        raise ValueError(
            f"Task id {int(value)} came as {type(value).__name__}, which rounds ints from {limit} "
            "on, so that ids of several tasks may have been merged. Keep ids in a DataFrame's "
            "column of their own or in an array of ints, or use small codes: 0, 1, 2."
        )
    return int(value)


def group_rows(task_id, n_samples):
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
        return {check_task_id(task_id): slice(None)}
    ids = entries(task_id)
    if ids.ndim != 1 or len(ids) != n_samples:
        raise ValueError(
            f"task_id must be one id, or one id per row: X has {n_samples} rows, "
            f"task_id has shape {ids.shape}."
        )
    if ids.dtype == object:
        ids = [check_task_id(value) for value in ids]
        codes = {value: code for code, value in enumerate(dict.fromkeys(ids))}
        inverse = np.fromiter((codes[value] for value in ids), dtype=np.intp, count=len(ids))
        names = list(codes)
    else:
        values, first, codes = np.unique(ids, return_index=True, return_inverse=True)
        order = np.argsort(first)
        names = [check_task_id(values[i]) for i in order]
        inverse = np.argsort(order)[codes]
    rows = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1]
    return dict(zip(names, np.split(rows, ends), strict=True))


def default_task_id(task_id, known, method):
    """Return the id that is meant when it may be left out."""
    if task_id is not None:
        return task_id
    if not known:
        return 0
    last = next(reversed(known))
    number = "1 task is" if len(known) == 1 else f"{len(known)} tasks are"
    meant = f"{number} known, so {method} must be told which one is meant"
    if method == "partial_fit" and list(known) != [0]:
        # A forgotten id must not train the next customer's rows into the last one's task.
        raise MissingTaskError(
            f"{meant}: pass task_id={last!r} to go on with that one, or a new id for a new task. "
            f"Known: {listed(known)}."
        )
    if len(known) == 1:
        return last
    if method in ("to_module", "for_task"):
        raise MissingTaskError(f"{meant}: {method}({last!r}). Known: {listed(known)}.")
    raise MissingTaskError(
        f"{meant}: pass task_id={last!r}, or one id per row. Known: {listed(known)}. "
        "If you did pass it to a pipeline or a search, let scikit-learn pass it on with "
        "sklearn.set_config(enable_metadata_routing=True), and score with the default scorer or "
        "sklearn_halrp.model_selection.task_scorer; where it passes no ids to predict, use "
        "task_column."
    )


def check_known(ids, known):
    """Refuse ids that were never learned."""
    unknown = [task_id for task_id in ids if task_id not in known]
    if unknown:
        raise UnknownTaskError(f"Unknown task id {listed(unknown)}. Known: {listed(known)}.")


def listed(ids, limit=20):
    """Return ids as text, shortened when there are many.

    >>> listed(["a", 1]), listed(range(100), limit=2)
    ("'a', 1", '0, 1, ... (100 in all)')
    """
    ids = [value.item() if isinstance(value, np.generic) else value for value in ids]
    text = ", ".join(shortened(value) for value in ids[:limit])
    return text if len(ids) <= limit else f"{text}, ... ({len(ids)} in all)"


def labels_of_task(task_id, y):
    """Return the labels of one task as an array of numbers or of strings."""
    if y.dtype == object:
        if len({isinstance(label, str) for label in y.tolist()}) > 1:
            raise ValueError(
                f"The labels of task {task_id!r} mix numbers and strings: {listed(y, 5)}."
            )
        y = array_of(y.tolist(), "y")
    check_classification_targets(y)
    return y


def check_weights(sample_weight, X):
    """Return the weights of rows as finite numbers that are not negative."""
    rows = np.empty((len(X), 1))
    weights = sample_weight if isinstance(sample_weight, Number) else entries(sample_weight)
    try:
        return _check_sample_weight(weights, rows, dtype=np.float64, ensure_non_negative=True)
    except OverflowError as error:
        raise ValueError("sample_weight has an int that is too large for a float.") from error


def in_proportion(weights):
    """Return weights over a power of two, so that no sum is infinite and no digit another.

    >>> in_proportion(np.array([2.0**1023, 2.0**1022])).tolist()
    [0.5, 0.25]
    """
    return np.ldexp(weights, -np.frexp(weights.max())[1])


def rows_of(array, rows):
    """Return some entries of an array that may be None."""
    return None if array is None else array[rows]


def balanced(task_id, weights):
    """Return the weights of a task with the mean 1, so that the step size stays as it is."""
    if not weights.any():
        raise ValueError(f"All sample weights of task {task_id!r} are zero.")
    weights = in_proportion(weights)
    return (weights * (len(weights) / weights.sum())).astype(np.float32)


def task_classes(task_id, y, declared, known):
    """Return the sorted classes of a task: those seen, declared and known before."""
    parts = [np.unique(y)]
    if declared is not None:
        declared = labels_of_task(task_id, keep_types(declared, "classes"))
        parts.append(np.unique(declared))
    parts += [known] if known is not None else []
    if len({is_text(part) for part in parts}) > 1:
        raise ValueError(
            f"The labels of task {task_id!r} would mix numbers and strings: it has "
            f"{listed(parts[-1])}, and now {listed(parts[0])}."
        )
    if declared is not None:
        allowed = {label for part in parts[1:] for label in part.tolist()}
        outside = [label for label in parts[0].tolist() if label not in allowed]
        if outside:
            raise ValueError(
                f"y has labels of task {task_id!r} that are not in classes: {listed(outside)}."
            )
    classes = _united(parts)
    if classes.dtype == object:
        raise ValueError(
            f"The labels of task {task_id!r} would be floats, which do not hold all its ints: "
            f"{listed(classes)}. Pass them as ints that fit into int64, or as strings."
        )
    if known is not None and len(classes) == len(known):
        return known  # of the type that they had
    if len(classes) < 2:
        raise ValueError(
            f"Task {task_id!r} has one class only: {listed(classes)}. A classifier needs at "
            "least 2 classes; if others come later, declare them all with "
            "partial_fit(..., classes=[...])."
        )
    return classes


def is_text(labels):
    """Whether labels are strings rather than numbers."""
    return labels.dtype.kind in "OUST"


def union_of_classes(several):
    """Return all labels of all tasks, sorted; numbers before strings where both occur.

    >>> union_of_classes([np.array([2, 1]), np.array([3])])
    array([1, 2, 3])
    >>> union_of_classes([np.array(["b", "a"]), np.array([3])])
    array([3, 'a', 'b'], dtype=object)
    """
    text = [classes for classes in several if is_text(classes)]
    numbers = [classes for classes in several if not is_text(classes)]
    united = [_united(part) for part in (numbers, text) if part]
    if len(united) == 1:
        return united[0]
    return np.concatenate([part.astype(object) for part in united])


def _united(several):
    """Return the labels of one kind, sorted; as objects where no type holds them all."""
    if len({classes.dtype.kind for classes in several}) == 1:
        return np.unique(np.concatenate(several))
    labels = sorted({label for classes in several for label in classes.tolist()})
    array = fitting(labels)
    return np.array(labels, dtype=object) if lost_in(array, labels) else array


def positions_in(classes, labels):
    """Return the place of every label within classes, which hold them all."""
    if classes.dtype == object:
        place = {label: i for i, label in enumerate(classes.tolist())}
        return np.array([place[label] for label in labels.tolist()], dtype=np.int64)
    # Of one type, since numpy compares ints with floats, and with uint64, as rounded floats.
    return np.searchsorted(classes, labels.astype(classes.dtype))


def innermost(estimator, X=None):
    """Return what fitted searches and pipelines end in, and X as it arrives there."""
    if hasattr(estimator, "best_estimator_"):
        return innermost(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        before = estimator[:-1]
        return innermost(estimator[-1], X if X is None or not len(before) else before.transform(X))
    return estimator, X


def split_task_column(X, column):
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
        names = list(getattr(X, "column_names", X.columns))  # the columns of pyarrow are data
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
    given = X
    X = check_array(X, dtype=None, ensure_all_finite=False)
    if isinstance(given, list | tuple) and X.dtype.kind in "US":
        X = np.asarray(given, dtype=object)  # with the ids as they are
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
