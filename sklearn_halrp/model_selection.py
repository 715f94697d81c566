"""Scores, folds and a report that know which task a row belongs to.

They work with ids that are passed as ``task_id``, under
``sklearn.set_config(enable_metadata_routing=True)``, and with ids that travel in a column
of X, the `task_column` of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_regressor
from sklearn.metrics import accuracy_score, get_scorer, precision_recall_fscore_support
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sklearn_halrp._ids import default_task_id, group_rows, split_task_column
from sklearn_halrp._label_sets import labels_of_task, positions_in
from sklearn_halrp._labels import array_of, entries, keep_types
from sklearn_halrp._pipelines import innermost
from sklearn_halrp._row_weights import check_weights, in_reach, rows_of

__all__ = ["TaskStratifiedKFold", "task_report", "task_scorer"]


def task_scorer(
    score_func: Callable[..., Any] | str,
    *,
    response_method: str | Sequence[str] = "predict",
    average: Literal["rows", "tasks"] = "rows",
    greater_is_better: bool = True,
    task_column: int | str | None = None,
    **kwargs: Any,
) -> _TaskScorer:
    """Make a scorer that tells the estimator which task every row belongs to.

    It goes wherever scikit-learn takes ``scoring``. With metadata routing enabled,
    searches and cross-validation hand it the ``task_id`` they are given; no
    ``set_score_request`` is needed. An estimator with a `task_column` needs neither.

    Parameters
    ----------
    score_func : callable or str
        A metric, ``score_func(y, response, **kwargs)``. Or the name of one of
        scikit-learn's scorers, such as ``"accuracy"`` or ``"roc_auc_ovr"``, or a scorer that
        ``sklearn.metrics.make_scorer`` made: these decide on `response_method` and
        `greater_is_better`.
    response_method : {"predict", "predict_proba", "decision_function"} or list of these, \
            default="predict"
        What the metric is computed from; of a list, the first that the estimator has.
    average : {"rows", "tasks"}, default="rows"
        One score of all rows together, or the mean of the scores of the tasks, each
        computed from the task's own rows, and from the columns of its own classes. Of
        two classes a metric gets the probability of the second, or of `pos_label`. A
        metric's own ``average`` goes into its name, ``"f1_macro"``, or into
        ``functools.partial(f1_score, average="macro")``.
    greater_is_better : bool, default=True
        Whether the metric is a score; the sign of a loss is turned.
    task_column : int or str, default=None
        Column of X, by position or name, that holds the task ids. Needed only for an average
        over tasks of an estimator that hides its classifier, such as a VotingClassifier; the
        classes of a task are then those of its rows in `y`.
    **kwargs
        Passed to the metric.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, task_id=None, sample_weight=None)`` gives a float. Its
        ``set_score_request(sample_weight=True)`` asks for weights too.

    Raises
    ------
    TypeError
        If `score_func` is neither a metric, nor a name, nor a scorer.
    ValueError
        If an argument is not one of those above. When the scorer is called: if an
        average over tasks is asked for and the tasks cannot be found.

    Notes
    -----
    A metric of responses that has a parameter ``labels``, such as
    ``sklearn.metrics.log_loss``, is told the classes: not every fold has rows of all.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import log_loss
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.model_selection import task_scorer
    >>> X, y = np.repeat(np.eye(2), 20, axis=0), np.repeat([0, 1], 20)
    >>> ids = np.tile(["a", "b"], 20)
    >>> clf = ContinualClassifier(random_state=0).fit(X, y, task_id=ids)
    >>> task_scorer("accuracy")(clf, X, y, task_id=ids)
    1.0
    >>> loss = task_scorer(
    ...     log_loss, response_method="predict_proba", average="tasks", greater_is_better=False
    ... )
    >>> loss(clf, X, y, task_id=ids) > -0.2
    True
    """
    sign = 1 if greater_is_better else -1
    known: Any = get_scorer(score_func) if isinstance(score_func, str) else score_func
    if all(hasattr(known, name) for name in _OF_A_SCORER):
        sign, response_method = known._sign, known._response_method
        score_func, kwargs = known._score_func, known._kwargs | kwargs
    if not callable(score_func):
        raise TypeError(
            "score_func must be a metric such as sklearn.metrics.accuracy_score, a scorer of "
            f"make_scorer, or the name of one, such as 'accuracy'; got {score_func!r}."
        )
    methods = (response_method,) if isinstance(response_method, str) else tuple(response_method)
    if not methods or set(methods) - {"predict", "predict_proba", "decision_function"}:
        raise ValueError(
            "response_method must be 'predict', 'predict_proba', 'decision_function' or a list "
            f"of these; got {response_method!r}."
        )
    if average not in ("rows", "tasks"):
        raise ValueError(
            f"average must be 'rows' or 'tasks'; got {average!r}. That of a metric goes into its "
            "name, as in task_scorer('f1_macro'), or into functools.partial(f1_score, "
            "average='macro')."
        )
    return _TaskScorer(score_func, sign, methods, average, kwargs, task_column)


_OF_A_SCORER = ("_score_func", "_sign", "_kwargs", "_response_method")


class _TaskScorer:
    """The scorer that `task_scorer` makes."""

    def __init__(
        self,
        score_func: Callable[..., Any],
        sign: int,
        methods: tuple[str, ...],
        average: str,
        kwargs: dict[str, Any],
        task_column: int | str | None,
    ) -> None:
        self._score_func = score_func
        self._sign = sign
        self._methods = methods
        self._average = average
        self._kwargs = kwargs
        self._task_column = task_column
        self._requests: dict[str, bool | str | None] = {"task_id": True, "sample_weight": None}

    def __call__(
        self,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike,
        task_id: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        estimator = getattr(estimator, "best_estimator_", estimator)  # a search takes no ids
        method = self._method_of(estimator)
        ids = {} if task_id is None else {"task_id": task_id}
        response = getattr(estimator, method)(X, **ids)
        y = _targets(y, estimator)
        check_consistent_length(y, response, sample_weight)
        if sample_weight is not None:
            sample_weight = in_reach(check_weights(sample_weight, y))
        if self._average == "rows":
            classes = None if method == "predict" else estimator.classes_
            return self._score(y, response, sample_weight, classes)
        scores = []
        for name, rows in _rows_of_tasks(estimator, X, task_id, len(y), self._task_column).items():
            part, classes = response[rows], None
            if method != "predict":
                classes = _classes_of(estimator, name, y[rows])
                places = positions_in(estimator.classes_, classes)
                part = part[:, places] if part.ndim == 2 else part
            weight = rows_of(sample_weight, rows)
            scores.append(self._score(y[rows], part, weight, classes))
        return float(np.mean(scores))

    def _method_of(self, estimator: BaseEstimator) -> str:
        for method in self._methods:
            if hasattr(estimator, method):
                return method
        raise AttributeError(
            f"{type(estimator).__name__} has no {' or '.join(self._methods)}, which {self} needs."
        )

    def _score(
        self,
        y: NDArray[Any],
        response: NDArray[Any],
        sample_weight: ArrayLike | None,
        classes: NDArray[Any] | None,
    ) -> float:
        y, kwargs = _plain(y), dict(self._kwargs)
        if classes is None:
            response = _plain(response)
        else:
            known = signature(self._score_func).parameters
            labels = _plain(classes).tolist()
            if response.ndim == 2 and len(labels) == 2:
                positive = kwargs.get("pos_label", labels[-1])
                if positive not in labels:
                    raise ValueError(f"pos_label={positive!r} is none of the classes {labels}.")
                response = response[:, labels.index(positive)]
                if "pos_label" in known:
                    kwargs["pos_label"] = positive
            if "labels" in known:
                kwargs.setdefault("labels", labels)
        if sample_weight is not None:
            kwargs["sample_weight"] = sample_weight
        return self._sign * self._score_func(y, response, **kwargs)

    def set_score_request(self, **requests: bool | str | None) -> Self:
        """Ask for `sample_weight`, or give `task_id` another name, under metadata routing.

        Parameters
        ----------
        task_id, sample_weight : bool, None or str
            Whether the scorer gets it; a string is the name under which it is passed.

        Returns
        -------
        self
        """
        if unknown := set(requests) - set(self._requests):
            raise TypeError(f"A task scorer takes {list(self._requests)}; got {sorted(unknown)}.")
        self._requests = self._requests | requests
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what scikit-learn shall pass on to the scorer.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
        """
        request = MetadataRequest(owner="task_scorer")
        for param, alias in self._requests.items():
            request.score.add_request(param=param, alias=alias)
        return request

    def _accept_sample_weight(self) -> bool:
        # What scikit-learn asks scorers while metadata routing is off.
        return "sample_weight" in signature(self._score_func).parameters

    def __repr__(self) -> str:
        name = getattr(self._score_func, "__name__", repr(self._score_func))
        return f"task_scorer({name}, average={self._average!r})"


class TaskStratifiedKFold(BaseCrossValidator):
    """Folds that all hold every task, with its classes in the same shares.

    Of each task, and of each class of a task, the numbers of rows in any two folds differ
    by one at most. So each fold has rows of every class that has as many rows as there
    are folds. Where `y` has fractions, or several numbers a row, there are no classes, and
    only the tasks are spread evenly.

    The tasks come as `task_id`, which scikit-learn passes on when metadata routing is
    enabled, as `groups`, or in a column of X.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=True
        Whether to draw the rows of a fold, rather than to deal them out in their order.
    random_state : int, RandomState instance or None, default=None
        An int draws the same folds every time.
    task_column : int or str, default=None
        Column of X, by position or name, that holds the task ids.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold : The same for one task.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_halrp.model_selection import TaskStratifiedKFold
    >>> X, y = np.zeros((8, 1)), [0, 0, 1, 1, 5, 5, 6, 6]
    >>> ids = np.repeat(["a", "b"], 4)
    >>> cv = TaskStratifiedKFold(2, random_state=0)
    >>> for train, test in cv.split(X, y, task_id=ids):
    ...     print(ids[test], np.take(y, test))
    ['a' 'a' 'b' 'b'] [0 1 5 6]
    ['a' 'a' 'b' 'b'] [0 1 5 6]
    """

    __metadata_request__split = {"task_id": True, "groups": True}

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        task_column: int | str | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.task_column = task_column

    def get_n_splits(
        self, X: object = None, y: object = None, groups: object = None, **params: object
    ) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Not used.
        **params
            Not used.

        Returns
        -------
        int
        """
        return self.n_splits

    def split(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        task_id: ArrayLike | None = None,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Give the rows to train with and those to test with, fold by fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Used for its `task_column`, if that is set.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels, ints or strings; or numbers.
        groups : array-like of shape (n_samples,), default=None
            Another name for `task_id`, which scikit-learn passes on without metadata
            routing.
        task_id : array-like of shape (n_samples,), default=None
            The task of every row.

        Returns
        -------
        iterator of pairs of arrays
            Row numbers, sorted.

        Raises
        ------
        ValueError
            If the tasks are not given, or given twice, or if one has fewer rows than
            there are folds.
        """
        if self.n_splits != int(self.n_splits) or self.n_splits < 2:
            raise ValueError(f"n_splits must be an int of at least 2; got {self.n_splits!r}.")
        y = _targets(y)
        folds = self._folds(y, group_rows(self._ids(X, groups, task_id), len(y)))
        rows = np.arange(len(y))
        return ((rows[folds != fold], rows[folds == fold]) for fold in range(self.n_splits))

    def _ids(self, X: ArrayLike, groups: ArrayLike | None, task_id: ArrayLike | None) -> ArrayLike:
        given = [ids for ids in (groups, task_id) if ids is not None]
        if len(given) + (self.task_column is not None) != 1:
            raise ValueError(
                "TaskStratifiedKFold needs the task of every row, once: as task_id (scikit-learn "
                "passes it on with sklearn.set_config(enable_metadata_routing=True)), as groups, "
                f"or in X. task_column is {self.task_column!r}, task_id was "
                f"{'not ' if task_id is None else ''}passed, groups were "
                f"{'not ' if groups is None else ''}passed."
            )
        return given[0] if given else split_task_column(X, self.task_column)[1]  # type: ignore[arg-type]

    def _folds(self, y: NDArray[Any], groups: dict[int | str, Any]) -> NDArray[np.intp]:
        """Return the fold of every row.

        With the rows sorted by task and class and dealt out like cards, whatever lies side
        by side is spread evenly.
        """
        n_samples = len(y)
        place = np.arange(n_samples)
        if self.shuffle:
            place = check_random_state(self.random_state).permutation(n_samples)
        order = []
        for name, rows in groups.items():
            rows = np.arange(n_samples)[rows]
            if len(rows) < self.n_splits:
                raise ValueError(
                    f"Task {name!r} has {len(rows)} rows, fewer than the {self.n_splits} folds, "
                    "so that some fold would lack it. Use fewer folds, or leave the task out."
                )
            codes = _codes(name, y[rows])
            order.append(rows[np.lexsort((place[rows], codes))])
        folds = np.empty(n_samples, dtype=np.intp)
        folds[np.concatenate(order)] = np.arange(n_samples) % self.n_splits
        return folds


def task_report(
    estimator: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    task_id: ArrayLike | None = None,
    *,
    task_column: int | str | None = None,
    output: Literal["text", "dict", "frame"] = "text",
    digits: int = 2,
) -> Any:
    """Report how well each task is predicted, and what it costs.

    Parameters
    ----------
    estimator : ContinualClassifier
        Fitted; or a Pipeline that ends in one, or a search over either; with `task_column`
        any classifier.
    X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        Rows to predict.
    y : array-like of shape (n_samples,)
        Their labels.
    task_id : int, str or array-like of shape (n_samples,), default=None
        Their tasks, as for `predict`.
    task_column : int or str, default=None
        Column of X, by position or name, that holds the task ids. Needed only for an
        estimator that hides its classifier, such as a VotingClassifier; growth and ranks
        are then left out.
    output : {"text", "dict", "frame"}, default="text"
        A table to print, nested dictionaries, or a pandas.DataFrame.
    digits : int, default=2
        Decimals in the text.

    Returns
    -------
    str, dict or pandas.DataFrame
        For each task with rows in X: precision, recall and F1 (means over its classes),
        accuracy, support (number of rows), growth, and the mean rank of the weights. The
        dictionary has the ranks of all weights as ``"ranks"`` and the numbers of each
        class as ``"classes"``.

    Raises
    ------
    ValueError
        If `output` is none of these, or as `ContinualClassifier.predict`.
    ImportError
        If pandas is not installed and a DataFrame is asked for.

    See Also
    --------
    sklearn.metrics.classification_report : The same for the classes of one task.

    Notes
    -----
    As in `sklearn.metrics.classification_report`, means are over the classes that are in
    `y` or are predicted. A ratio whose denominator is 0 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.model_selection import task_report
    >>> X, y = np.repeat(np.eye(2), 20, axis=0), np.repeat(["no", "yes"], 20)
    >>> ids = np.tile(["mail", "post"], 20)
    >>> clf = ContinualClassifier(random_state=0).fit(X, y, task_id=ids)
    >>> report = task_report(clf, X, y, task_id=ids, output="dict")
    >>> report["post"]["accuracy"], report["post"]["support"]
    (1.0, 20)
    >>> report["mail"]["growth"], report["mail"]["mean rank"]  # the base was trained on it
    (0.0, 0.0)
    """
    if output not in ("text", "dict", "frame"):
        raise ValueError(f"output must be 'text', 'dict' or 'frame'; got {output!r}.")
    estimator = getattr(estimator, "best_estimator_", estimator)
    clf, _ = _classifier(estimator) if task_column is None else innermost(estimator)
    if is_regressor(clf):
        raise ValueError(
            f"task_report measures how labels are told apart, and a {type(clf).__name__} predicts "
            "numbers. task_scorer(metric, average='tasks') takes any metric to them, and "
            "estimator.report() has sizes and losses of each task."
        )
    y = _labels(y)
    predicted = estimator.predict(X, **({} if task_id is None else {"task_id": task_id}))
    check_consistent_length(y, predicted)
    tasks = _rows_of_tasks(estimator, X, task_id, len(y), task_column)
    report = {n: _measures(_plain(y[rows]), _plain(predicted[rows])) for n, rows in tasks.items()}
    columns = _COLUMNS if hasattr(clf, "ranks_") else _COLUMNS[:-2]
    if columns is _COLUMNS:
        growth, ranks = clf.growth_, clf.ranks_
        for name, row in report.items():
            mean = float(np.mean(list(ranks[name].values())))
            row |= {"growth": growth[name], "mean rank": mean, "ranks": ranks[name]}
    if output == "dict":
        return report
    if output == "text":
        return _text(report, columns, digits)
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("output='frame' needs pandas; output='dict' holds the same.") from error
    frame = pd.DataFrame([[row[name] for name in columns] for row in report.values()])
    return frame.set_axis(list(columns), axis=1).set_axis(pd.Index(report, name="task"))


_RATIOS = ("precision", "recall", "f1-score")
_COLUMNS = (*_RATIOS, "accuracy", "support", "growth", "mean rank")


def _measures(y: NDArray[Any], predicted: NDArray[Any]) -> dict[str, Any]:
    """Return what classification_report has, for one task."""
    classes = np.unique(np.concatenate([y, predicted]))
    *ratios, support = precision_recall_fscore_support(
        y, predicted, labels=classes, zero_division=0.0
    )
    columns = [*(part.tolist() for part in ratios), support.tolist()]
    names = (*_RATIOS, "support")
    return {
        **{name: float(part.mean()) for name, part in zip(_RATIOS, ratios, strict=True)},
        "accuracy": float(accuracy_score(y, predicted)),
        "support": len(y),
        "classes": {
            label: dict(zip(names, row, strict=True))
            for label, row in zip(classes.tolist(), zip(*columns, strict=True), strict=True)
        },
    }


def _text(report: dict[Any, dict[str, Any]], columns: Sequence[str], digits: int) -> str:
    """Return the report as a table."""
    names = [str(name) for name in report]
    width = max(map(len, [*names, "task"]))
    lines = [f"{'task':>{width}}" + "".join(f"{name:>11}" for name in columns)]
    for name, row in zip(names, report.values(), strict=True):
        cells = [f"{row[c]:>11}" if c == "support" else f"{row[c]:>11.{digits}f}" for c in columns]
        lines.append(f"{name:>{width}}" + "".join(cells))
    return "\n".join(lines)


def _codes(name: int | str, y: NDArray[Any]) -> NDArray[Any]:
    """Return the class of each row of a task as a number; 0 where y has numbers, not classes."""
    if y.ndim == 2 or _are_numbers(y):
        return np.zeros(len(y), dtype=np.intp)
    return np.unique(labels_of_task(name, y), return_inverse=True)[1]


def _are_numbers(y: NDArray[Any]) -> bool:
    """Whether these are floats that no classifier takes as labels: fractions, or very large."""
    if y.dtype.kind != "f" or not np.isfinite(y).all():
        return False
    return bool((y != y.round()).any() or (np.abs(y) >= 2**53).any())


def _targets(y: ArrayLike | None, estimator: BaseEstimator | None = None) -> NDArray[Any]:
    """Return labels, or the numbers that a regressor predicts, maybe several to a row."""
    if y is None:
        return _labels(y)
    array = entries(y)
    if array.dtype == object and all(isinstance(value, float) for value in array.ravel()):
        array = array.astype(np.float64)
    if array.ndim == 2 and array.shape[1] > 1:
        return np.asarray(y)
    numbers = _are_numbers(array) if estimator is None else is_regressor(estimator)
    return column_or_1d(np.asarray(y)) if numbers else _labels(y)


def _labels(y: ArrayLike | None) -> NDArray[Any]:
    """Return labels as a 1-D array whose entries are as they were given."""
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    return column_or_1d(keep_types(y))


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as an array that scikit-learn's metrics take."""
    if labels.dtype != object:
        return labels
    if len({isinstance(label, str) for label in labels.tolist()}) > 1:
        raise ValueError(
            "The labels mix numbers and strings, which scikit-learn's metrics cannot compare. "
            "Use average='tasks' if each task has labels of one kind, or strings throughout."
        )
    return array_of(labels.tolist(), "y")


def _rows_of_tasks(
    estimator: BaseEstimator,
    X: ArrayLike,
    task_id: ArrayLike | None,
    n_samples: int,
    task_column: int | str | None = None,
) -> dict[int | str, Any]:
    """Return the rows of each task; the ids are given, in X, or those of the only task."""
    if task_column is not None:
        if task_id is not None:
            raise ValueError(
                f"task_id was passed, and task_column={task_column!r} says that the ids are in X. "
                "Leave one of them out."
            )
        task_id = split_task_column(X, task_column)[1]
    if task_id is None:
        clf, X = _classifier(estimator, X)
        if clf.task_column is None:
            task_id = default_task_id(None, clf.tasks_, "the score")
        else:
            task_id = split_task_column(X, clf.task_column)[1]
    return group_rows(task_id, n_samples)


def _classes_of(estimator: BaseEstimator, name: int | str, y: NDArray[Any]) -> NDArray[Any]:
    """Return the classes of a task; of a classifier that is hidden, those that occur."""
    clf, _ = innermost(estimator)
    if hasattr(clf, "task_classes_"):
        return clf.task_classes_[name]
    return np.intersect1d(labels_of_task(name, y), estimator.classes_)


def _classifier(estimator: BaseEstimator, X: ArrayLike | None = None) -> tuple[Any, Any]:
    """Return the classifier inside searches and pipelines, and X as it arrives there."""
    estimator, X = innermost(estimator, X)
    if not hasattr(estimator, "task_column"):
        raise ValueError(
            "To look at tasks one by one, their ids and classes must be known: give a "
            "ContinualClassifier, alone, at the end of a Pipeline or inside a search; got a "
            f"{type(estimator).__name__}. If X has a column of ids, name it: task_column=... works "
            "with any estimator. A task_id can be passed to average='tasks' of predictions by any "
            "estimator whose predict takes it."
        )
    return estimator, X
