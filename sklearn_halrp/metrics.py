"""How well a stream of tasks was learned, kept, and put to use.

Most functions take an accuracy matrix ``a`` of shape (n_tasks, n_tasks), in which
``a[i, j]`` is the accuracy on task j, measured after task i was learned. Tasks are
numbered in the order they were learned, so what lies above the diagonal is not used and
may be NaN. `accuracy_matrix` makes one of predictions. Accuracies may be shares or
percentages; the result is in the same unit.

Not every library means the same by a name. The notes of each function say where Avalanche 0.6
differs, and the guide has the differences in one table.

Examples
--------
Two tasks; learning the second cost the first one 0.1.

>>> import numpy as np
>>> from sklearn_halrp.metrics import average_accuracy, backward_transfer, forgetting
>>> a = np.array([[0.9, np.nan],
...               [0.8, 0.7]])
>>> print(f"{average_accuracy(a):.2f} {forgetting(a):.2f} {backward_transfer(a):.2f}")
0.75 0.10 -0.10
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_halrp._ids import check_task_id
from sklearn_halrp._labels import entries, keep_types

__all__ = [
    "accuracy_matrix",
    "aopd",
    "average_accuracy",
    "backward_transfer",
    "forgetting",
    "forward_transfer",
    "growth",
    "mopd",
    "order_disparity",
]


def accuracy_matrix(
    y_true: ArrayLike,
    y_preds: Sequence[ArrayLike] | NDArray[Any],
    *,
    task_id: ArrayLike,
    tasks: Sequence[int | str] | NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Accuracy on every task after every task, from what was predicted on the way.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of the test rows of all tasks.
    y_preds : sequence of n_tasks array-likes
        For each task what was predicted after it was learned: for the rows of the tasks
        known by then, in the order of y_true. Predictions for all rows will do as well;
        those for tasks not yet learned are not looked at.
    task_id : array-like of shape (n_samples,)
        The task of each row.
    tasks : sequence of task ids, default=None
        The tasks in the order they were learned. None takes them in the order of their
        first rows.

    Returns
    -------
    array of shape (n_tasks, n_tasks)
        NaN above the diagonal.

    Raises
    ------
    ValueError, TypeError
        If there are not as many predictions as tasks or as rows of known tasks, if
        tasks are not those of the rows, or if labels or ids are none, or not exact.

    Examples
    --------
    After "b" was learned, one of the two rows of "a" is wrong.

    >>> from sklearn_halrp.metrics import accuracy_matrix
    >>> y_true, ids = [0, 1, "yes", "no"], ["a", "a", "b", "b"]
    >>> accuracy_matrix(y_true, [[0, 1], [0, 0, "yes", "no"]], task_id=ids)
    array([[1. , nan],
           [0.5, 1. ]])
    """
    # As objects, so that ints beside strings stay ints.
    labels = keep_types(y_true, "y_true").astype(object)
    ids, names = _ids_of(task_id), _order(task_id, tasks)
    if labels.ndim != 1 or labels.shape != ids.shape or set(names) != set(ids.tolist()):
        raise ValueError(
            "y_true and task_id must have one entry for each row, and tasks must be those of "
            f"the rows; got shapes {labels.shape} and {ids.shape}, and tasks {names}."
        )
    if len(y_preds) != len(names):
        raise ValueError(f"{len(names)} tasks need as many y_preds; got {len(y_preds)}.")
    number = {name: j for j, name in enumerate(names)}
    places = np.array([number[name] for name in ids.tolist()], dtype=int)
    matrix = np.full((len(names), len(names)), np.nan)
    for i, predicted in enumerate(y_preds):
        known = places <= i
        predicted = entries(predicted)
        if predicted.shape == labels.shape:
            predicted = predicted[known]
        if predicted.shape != (known.sum(),):
            raise ValueError(
                f"y_preds[{i}] must hold a prediction for each of the {known.sum()} rows of known "
                f"tasks, or of all {len(labels)} rows; got an array of shape {predicted.shape}."
            )
        predicted = keep_types(predicted, f"y_preds[{i}]").astype(object)
        right = (labels[known] == predicted).astype(float)
        matrix[i, : i + 1] = np.bincount(places[known], right) / np.bincount(places[known])
    return matrix


def average_accuracy(matrix: ArrayLike) -> float:
    """Mean accuracy over all tasks at the end of the stream.

    With T tasks, ``ACC = 1/T sum_j a[T-1, j]``.

    Parameters
    ----------
    matrix : array-like of shape (n_tasks, n_tasks)
        ``matrix[i, j]`` is the accuracy on task j after learning task i.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the matrix is not square, or not finite on and below its diagonal.

    Notes
    -----
    Every task counts the same. Avalanche's `StreamAccuracy` counts every row the same, so it
    differs where tasks have different numbers of test rows.

    References
    ----------
    Lopez-Paz, Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017,
    arXiv:1706.08840.

    Examples
    --------
    >>> average_accuracy([[1.0, 0.0], [0.5, 1.0]])
    0.75
    """
    return float(_accuracy_matrix(matrix)[-1].mean())


def forgetting(matrix: ArrayLike) -> float:
    """Mean drop from the best accuracy a task ever had to that at the end of the stream.

    With T tasks, ``F = 1/(T-1) sum_{j<T-1} (max_{j<=i<T-1} a[i, j] - a[T-1, j])``. The
    last task had no time to be forgotten and does not count. F is 0 for a single task,
    and negative where later tasks improve earlier ones.

    Parameters
    ----------
    matrix : array-like of shape (n_tasks, n_tasks)
        ``matrix[i, j]`` is the accuracy on task j after learning task i.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the matrix is not square, or not finite on and below its diagonal.

    Notes
    -----
    Avalanche's `StreamForgetting` starts from the accuracy a task had when it was learned, not
    from its best: what it calls forgetting is minus `backward_transfer`.

    References
    ----------
    Chaudhry, Dokania, Ajanthan, Torr, "Riemannian Walk for Incremental Learning:
    Understanding Forgetting and Intransigence", ECCV 2018, arXiv:1801.10112.

    Examples
    --------
    The first task was best after the second, and then lost 0.25.

    >>> forgetting([[0.5, 0.0, 0.0], [0.75, 1.0, 0.0], [0.5, 1.0, 1.0]])
    0.125
    """
    a = _accuracy_matrix(matrix)
    return _mean([a[j:-1, j].max() - a[-1, j] for j in range(len(a) - 1)])


def backward_transfer(matrix: ArrayLike) -> float:
    """Mean change of a task's accuracy from when it was learned to the end of the stream.

    With T tasks, ``BWT = 1/(T-1) sum_{j<T-1} (a[T-1, j] - a[j, j])``. Negative values
    mean forgetting. BWT is 0 for a single task.

    Parameters
    ----------
    matrix : array-like of shape (n_tasks, n_tasks)
        ``matrix[i, j]`` is the accuracy on task j after learning task i.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the matrix is not square, or not finite on and below its diagonal.

    Notes
    -----
    Avalanche's `StreamBWT` at the end of the stream is the same.

    References
    ----------
    Lopez-Paz, Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017,
    arXiv:1706.08840.

    Examples
    --------
    >>> backward_transfer([[1.0, 0.0], [0.75, 1.0]])
    -0.25
    """
    a = _accuracy_matrix(matrix)
    return _mean(a[-1, :-1] - a.diagonal()[:-1])


def forward_transfer(matrix: ArrayLike, single: ArrayLike) -> float:
    """Mean gain of learning a task after others, over learning it alone.

    With T tasks, ``FWT = 1/(T-1) sum_{j>0} (a[j, j] - single[j])``: the accuracy of a
    task when it has just been learned, against *single-task learning*, a network of its
    own trained on this task only. The first task follows no other and does not count.
    FWT is 0 for a single task.

    This is not the forward transfer of Lopez-Paz and Ranzato (2017), which is the
    accuracy on a task *before* it is learned, against a network with random weights, nor
    Avalanche's `StreamForwardTransfer`, which is the same. With a head per task that is not
    defined: there is no head before the task is learned.

    Parameters
    ----------
    matrix : array-like of shape (n_tasks, n_tasks)
        ``matrix[i, j]`` is the accuracy on task j after learning task i.
    single : array-like of shape (n_tasks,)
        Accuracy of a network that learned task j alone, in the unit of the matrix.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the matrix is not square, or not finite on and below its diagonal; if `single`
        does not hold one finite number per task.

    References
    ----------
    Wang, Zhang, Su, Zhu, "A Comprehensive Survey of Continual Learning: Theory, Method
    and Application", IEEE TPAMI 46(8), 2024, arXiv:2302.00487.

    Examples
    --------
    >>> forward_transfer([[1.0, 0.0], [1.0, 0.75]], single=[1.0, 0.5])
    0.25
    """
    a = _accuracy_matrix(matrix)
    single = np.asarray(single, dtype=float)
    if single.shape != (len(a),) or not np.isfinite(single).all():
        raise ValueError(
            f"single must hold one finite accuracy per task, {len(a)} in all; got an array "
            f"of shape {single.shape} with {np.sum(~np.isfinite(single))} values not finite."
        )
    return _mean(a.diagonal()[1:] - single[1:])


def growth(sizes: ArrayLike) -> float:
    """Size that the tasks after the first added to the model, over what it had before.

    With ``S[i]`` the numbers that the model stores after task i was learned, of T tasks,
    ``G = S[T-1] / S[0] - 1``. A network of its own for each task, of one size, gives
    ``G = T - 1``; fine-tuning a single one gives 0.

    Parameters
    ----------
    sizes : array-like of shape (n_tasks,)
        Numbers or bytes that are stored after each task, in the order of learning.
        Where the base is pretrained, let its size come first.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If sizes is not one-dimensional, or holds no value, or one that is not finite and
        positive.

    See Also
    --------
    sklearn_halrp.ContinualClassifier : Its ``growth_`` has the share of each task; their sum
        is this growth, with ``n_numbers_`` as sizes.

    References
    ----------
    Yoon, Kim, Yang, Hwang, "Scalable and Order-robust Continual Learning with Additive
    Parameter Decomposition", ICLR 2020, arXiv:1902.09432, where ``1 + G`` is the *capacity*.

    Examples
    --------
    A second task added an eighth, and the third another one.

    >>> growth([8000, 9000, 10000])
    0.25
    """
    s = np.asarray(sizes, dtype=float)
    if s.ndim != 1 or s.size == 0 or not np.all(np.isfinite(s) & (s > 0)):
        raise ValueError(
            "sizes must hold the positive, finite size of the model after each task; got an "
            f"array of shape {s.shape}{f' with smallest value {s.min()}' if s.size else ''}."
        )
    return float(s[-1] / s[0] - 1)


def order_disparity(accuracies: ArrayLike) -> NDArray[np.float64]:
    """How far the final accuracy of each task depends on the order of the stream.

    With ``P[r, t]`` the accuracy of task t at the end of order r, the order-normalised
    performance disparity of task t is ``OPD_t = max_r P[r, t] - min_r P[r, t]``.

    Parameters
    ----------
    accuracies : array-like of shape (n_orders, n_tasks)
        At least two orders. A column is one and the same task in all of them, wherever
        it came in the stream.

    Returns
    -------
    array of shape (n_tasks,)

    Raises
    ------
    ValueError
        If the array is not of this shape, or not finite.

    References
    ----------
    Yoon, Kim, Yang, Hwang, "Scalable and Order-robust Continual Learning with Additive
    Parameter Decomposition", ICLR 2020, arXiv:1902.09432.

    Examples
    --------
    >>> order_disparity([[1.0, 0.5], [0.75, 0.5]])
    array([0.25, 0.  ])
    """
    p = np.asarray(accuracies, dtype=float)
    if p.ndim != 2 or p.shape[0] < 2 or p.shape[1] < 1:
        raise ValueError(
            "accuracies must have shape (n_orders, n_tasks), with at least 2 orders and 1 "
            f"task; got {p.shape}."
        )
    if not np.isfinite(p).all():
        raise ValueError("accuracies must be finite: every order must end with every task.")
    return p.max(axis=0) - p.min(axis=0)


def aopd(accuracies: ArrayLike) -> float:
    """Average of `order_disparity` over the tasks.

    ``AOPD = mean_t OPD_t``.

    Parameters
    ----------
    accuracies : array-like of shape (n_orders, n_tasks)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `order_disparity`.

    References
    ----------
    Yoon, Kim, Yang, Hwang, "Scalable and Order-robust Continual Learning with Additive
    Parameter Decomposition", ICLR 2020, arXiv:1902.09432.

    Examples
    --------
    >>> aopd([[1.0, 0.5], [0.75, 0.5]])
    0.125
    """
    return float(order_disparity(accuracies).mean())


def mopd(accuracies: ArrayLike) -> float:
    """Maximum of `order_disparity` over the tasks.

    ``MOPD = max_t OPD_t``.

    Parameters
    ----------
    accuracies : array-like of shape (n_orders, n_tasks)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `order_disparity`.

    References
    ----------
    Yoon, Kim, Yang, Hwang, "Scalable and Order-robust Continual Learning with Additive
    Parameter Decomposition", ICLR 2020, arXiv:1902.09432.

    Examples
    --------
    >>> mopd([[1.0, 0.5], [0.75, 0.5]])
    0.25
    """
    return float(order_disparity(accuracies).max())


def _order(task_id: Any, tasks: Any = None) -> list[int | str]:
    """Return the tasks in the order of their first rows, unless they are given."""
    return list(dict.fromkeys(_ids_of(task_id if tasks is None else tasks).ravel().tolist()))


def _ids_of(task_id: Any) -> NDArray[Any]:
    """Return ids as an array of ints and strings."""
    given = entries(task_id)
    ids = np.empty(given.shape, dtype=object)
    ids.ravel()[:] = [check_task_id(value, of_rows=True) for value in given.ravel()]
    return ids


def _accuracy_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return the matrix as an array of floats, or say what is wrong with it."""
    a = np.asarray(matrix, dtype=float)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or a.size == 0:
        raise ValueError(
            "matrix must have shape (n_tasks, n_tasks), row i holding the accuracies after "
            f"task i was learned; got {a.shape}."
        )
    missing = np.argwhere(~np.isfinite(a) & np.tri(len(a), dtype=bool))
    if len(missing):
        i, j = missing[0]
        raise ValueError(
            f"matrix[{i}, {j}] is {a[i, j]}: after task i is learned, the accuracies on tasks "
            "0 to i must be finite. Only entries above the diagonal may be NaN."
        )
    return a


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the mean of the values, or 0 when there are none."""
    return float(np.mean(values)) if len(values) else 0.0
