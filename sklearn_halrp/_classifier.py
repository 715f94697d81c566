"""The scikit-learn face of a classifier: arguments in, labels and probabilities out."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch.utils.data import Dataset

from sklearn_halrp._classes import Classes
from sklearn_halrp._datasets import labels_in
from sklearn_halrp._documented import documented
from sklearn_halrp._estimator import ContinualEstimator
from sklearn_halrp._label_sets import positions_in
from sklearn_halrp._labels import keep_types
from sklearn_halrp._one_task import TaskClassifier
from sklearn_halrp._row_weights import check_weights, in_proportion
from sklearn_halrp._serving import check_predicted
from sklearn_halrp._types import TaskId


@documented
class ContinualClassifier(ClassifierMixin, ContinualEstimator):
    """One compact network that learns task after task and forgets none.

    <method>

    Parameters
    ----------
    net : skorch.NeuralNetClassifier, default=None
        The recipe for networks and training: module, criterion, optimizer, ``lr``,
        ``max_epochs``, ``batch_size``, device, callbacks. It must not be fitted and is
        never changed. None builds a network from the data, which takes tables as they are:
        numbers are standardised inside, NaN is missing, and text and categories of a
        DataFrame are encoded. It has two hidden layers of 128 units, dropout and weight decay;
        epochs and batches follow from the rows, and training ends at the best epoch for rows
        held out. See the guide, ``docs/guide/tables.md``. Parameters such as ``net__lr`` need
        a net that is given.
    class_weight : "balanced" or dict, default=None
        How much each class counts, in the loss of every phase and in the importance of layers,
        beside the `sample_weight` of its rows. With ``"balanced"`` the classes of a task count
        alike: each by the task's rows over classes times rows of the class, in every call. A
        dict has weights by label, for all tasks; a label that it lacks has weight 1.
    <parameters>

    Attributes
    ----------
    <attributes>
    classes_ : array of shape (n_classes,)
        The labels of all tasks together, sorted.
    task_classes_ : dict of task id to array
        The labels of each task, sorted.

    See Also
    --------
    published_settings : The settings of the publication.
    sklearn_halrp.metrics : Accuracy, forgetting and growth over a stream of tasks.

    References
    ----------
    <references>

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0)
    >>> clf = clf.partial_fit(X[:900] / 16, y[:900], task_id="upright")
    >>> before = clf.predict_proba(X[900:] / 16, task_id="upright")
    >>> clf = clf.partial_fit(X[:900, ::-1] / 16, y[:900] % 2, task_id="turned")
    >>> bool((clf.predict_proba(X[900:] / 16, task_id="upright") == before).all())
    True
    >>> clf.score(X[900:, ::-1] / 16, y[900:] % 2, task_id="turned") > 0.9
    True
    """

    _target = Classes
    _one_task = TaskClassifier

    __metadata_request__predict_proba = {"task_id": True}
    __metadata_request__predict_log_proba = {"task_id": True}

    def fit(
        self,
        X: ArrayLike | Dataset[Any],
        y: ArrayLike | None = None,
        task_id: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Forget everything and learn the tasks in the order they first appear.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Finite numbers: an array, a DataFrame, a tensor; without a net also NaN, and
            categories in a DataFrame. Or a
            ``torch.utils.data.Dataset`` of pairs of a row and a label,
            which is read batch by batch, when it is needed; rows are converted to `dtype`.
        y : array-like of shape (n_samples,)
            Labels, ints or strings. None with a Dataset: its attribute ``targets`` or ``y``
            is used, or all rows are read once for them.
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. None is a single task, 0.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts among those of its task: in the loss of every phase
            and in the importance of layers. Not negative.

        Returns
        -------
        self : ContinualClassifier

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used. As with every error and interruption, the
            estimator is left as it was before the call.
        sklearn_halrp.exceptions.TrainingDivergedError
            If a loss, a weight or a prediction for held-out rows becomes NaN or infinite.
        """
        return self._learn(X, y, task_id, sample_weight, afresh=True)

    def partial_fit(
        self,
        X: ArrayLike | Dataset[Any],
        y: ArrayLike | None = None,
        task_id: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn a new task, or go on learning a known one.

        A new id learns a task. A known id goes on learning that task and changes no
        other; new labels give its head new outputs. Going on trains on the rows given and
        on nothing else, so within its own task it can lose what older rows taught: give
        some of those again. The first task trains the base for as long as it is alone;
        with the second the base is frozen for good.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Rows of the same shape as those of the first task, or a Dataset, as for `fit`.
        y : array-like of shape (n_samples,)
            Labels, ints or strings; None with a Dataset.
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row; several new tasks are learned in order
            of first appearance. It may be left out as long as it always was: the rows then
            belong to one task, 0.
        classes : array-like of shape (n_classes,), default=None
            All labels the tasks of this call will ever have, when `y` lacks some.
        sample_weight : array-like of shape (n_samples,), default=None
            As for `fit`.

        Returns
        -------
        self : ContinualClassifier

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used. As with every error and interruption, the
            estimator is left as it was before the call.
        sklearn_halrp.exceptions.MissingTaskError
            If `task_id` is left out and a task with another id than 0 is known.
        sklearn_halrp.exceptions.TrainingDivergedError
            If a loss, a weight or a prediction for held-out rows becomes NaN or infinite.

        Notes
        -----
        A `sklearn.pipeline.Pipeline` has no ``partial_fit``. To go on at the end of one, leave
        its other steps as they were fitted:
        ``model[-1].partial_fit(model[:-1].transform(X), y, task_id)``.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_halrp import ContinualClassifier
        >>> X = np.repeat(np.eye(2), 20, axis=0)
        >>> clf = ContinualClassifier(random_state=0)
        >>> clf = clf.partial_fit(X, ["no"] * 20 + ["yes"] * 20, task_id="spam")
        >>> clf = clf.partial_fit(X, [3] * 20 + [7] * 20, task_id="grade")
        >>> clf.predict(np.eye(2), task_id=["spam", "grade"]).tolist()
        ['no', 7]
        """
        return self._learn(X, y, task_id, sample_weight, declared=classes)

    def predict_proba(
        self, X: ArrayLike | Dataset[Any], task_id: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. It may be left out while only one task
            is known.

        Returns
        -------
        array of shape (n_samples, n_classes)
            Of the type of the network's outputs, float32 or float64. Columns are `classes_`; those
            of other tasks are 0. NaN where the network gives NaN.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If no task has been learned.
        sklearn_halrp.exceptions.UnknownTaskError
            If an id was never learned.
        sklearn_halrp.exceptions.MissingTaskError
            If several tasks are known and `task_id` is left out.
        ValueError
            If X does not have the shape of the rows that were learned, or has infinity, or NaN
            where a net was given, or the number of ids differs from that of the rows.
        """
        return self._predict_proba(X, task_id, "predict_proba")

    def _predict_proba(self, X: Any, task_id: Any, method: str) -> NDArray[Any]:
        learned = self._what_was_learned()
        n_samples, groups = self._outputs(learned, X, task_id, method)
        result: Any
        result, labels = None, learned.joined
        every_row = np.arange(n_samples)
        for target, rows, values in groups:
            if result is None:
                result = np.zeros((n_samples, len(labels)), dtype=values.dtype)
            columns = positions_in(labels, target.labels)
            result[every_row[rows, None], columns] = values
        return result

    def predict_log_proba(
        self, X: ArrayLike | Dataset[Any], task_id: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict the logarithm of the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            As for `predict_proba`.

        Returns
        -------
        array of shape (n_samples, n_classes)
            Of the type of the network's outputs, float32 or float64. Columns are `classes_`; those
            of other tasks are minus infinity.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `predict_proba`.
        """
        probability = self._predict_proba(X, task_id, "predict_log_proba")
        with np.errstate(divide="ignore"):
            return np.log(probability)

    def predict(
        self, X: ArrayLike | Dataset[Any], task_id: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict the label of every row, among those of its task.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. It may be left out while only one task
            is known.

        Returns
        -------
        array of shape (n_samples,)
            Labels of the tasks asked for: an array of objects if some of these tasks have
            ints and others strings.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `predict_proba`; and if the network gives NaN for a row, which has no label then.
        """
        return self._predict(X, task_id, "predict")

    def _predict(self, X: Any, task_id: Any, method: str) -> NDArray[Any]:
        n_samples, groups = self._outputs(self._what_was_learned(), X, task_id, method)
        groups = list(groups)
        joined = self._target.joined([target for target, *_ in groups])
        result = np.empty(n_samples, dtype=joined.dtype)
        broken = np.zeros(n_samples, dtype=bool)
        for target, rows, values in groups:
            result[rows] = target.labels[values.argmax(axis=1)]
            broken[rows] = np.isnan(values).any(axis=1)
        check_predicted(broken, method)
        return result

    def score(
        self,
        X: ArrayLike | Dataset[Any],
        y: ArrayLike | None = None,
        *,
        task_id: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        y : array-like of shape (n_samples,)
        task_id : int, str or array-like of shape (n_samples,), default=None
            As for `predict`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts.

        Returns
        -------
        float
            Mean accuracy over the rows, in [0, 1].

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `predict`; and if `y` or `sample_weight` cannot be used.

        Notes
        -----
        scikit-learn's classifiers take weights in third place, where `fit` and `predict` have
        ids here. So that neither is taken for the other, both go by name.
        """
        predicted = self._predict(X, task_id, "score")
        if sample_weight is not None:
            sample_weight = in_proportion(check_weights(sample_weight, predicted))
        y = labels_in(X) if isinstance(X, Dataset) and y is None else y
        if y is None:
            raise ValueError("score requires y to be passed: the labels of the rows of X.")
        y = column_or_1d(np.asarray(keep_types(y), dtype=object))
        check_consistent_length(y, predicted)
        # Entry by entry, since scikit-learn's metrics mix no ints and strings.
        correct = np.array(y == predicted.astype(object), dtype=bool)
        return accuracy_score(np.ones_like(correct), correct, sample_weight=sample_weight)

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels of all tasks together, sorted."""
        return self._what_was_learned().joined

    @property
    def task_classes_(self) -> dict[TaskId, NDArray[Any]]:
        """The labels of each task, sorted."""
        tasks: dict[TaskId, Any] = self._what_was_learned().tasks
        return {name: task.target.labels.copy() for name, task in tasks.items()}
