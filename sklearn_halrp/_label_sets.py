"""Labels of a task, and of all tasks together, as sorted sets, and places within them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets

from sklearn_halrp._ids import listed
from sklearn_halrp._labels import array_of, fitting, keep_types, lost_in
from sklearn_halrp._types import TaskId


def labels_of_task(task_id: TaskId, y: NDArray[Any]) -> NDArray[Any]:
    """Return the labels of one task as an array of numbers or of strings."""
    if y.dtype == object:
        if len({isinstance(label, str) for label in y.tolist()}) > 1:
            raise ValueError(
                f"The labels of task {task_id!r} mix numbers and strings: {listed(y, 5)}."
            )
        y = array_of(y.tolist(), "y")
    check_classification_targets(y)
    return y


def task_classes(
    task_id: TaskId, y: NDArray[Any], declared: ArrayLike | None, known: NDArray[Any] | None
) -> NDArray[Any]:
    """Return the sorted classes of a task: those seen, declared and known before."""
    parts = [np.unique(y)]
    if declared is not None:
        labels = keep_types(declared, "classes")
        if labels.ndim != 1:
            raise ValueError(f"classes must be a list of labels; got shape {labels.shape}.")
        parts.append(np.unique(labels_of_task(task_id, labels)))
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


def is_text(labels: NDArray[Any]) -> bool:
    """Whether labels are strings rather than numbers."""
    return labels.dtype.kind in "OUST"


def union_of_classes(several: Iterable[NDArray[Any]]) -> NDArray[Any]:
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


def _united(several: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the labels of one kind, sorted; as objects where no type holds them all."""
    if len({classes.dtype.kind for classes in several}) == 1:
        return np.unique(np.concatenate(several))
    labels = sorted({label for classes in several for label in classes.tolist()})
    array = fitting(labels)
    return np.array(labels, dtype=object) if lost_in(array, labels) else array


def positions_in(classes: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of every label within classes, which hold them all."""
    if classes.dtype == object:
        place = {label: i for i, label in enumerate(classes.tolist())}
        return np.array([place[label] for label in labels.tolist()], dtype=np.int64)
    # Of one type, since numpy compares ints with floats, and with uint64, as rounded floats.
    return np.searchsorted(classes, labels.astype(classes.dtype))
