"""The scikit-learn face of a regressor: arguments in, numbers out."""

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags, check_array
from sklearn.utils._param_validation import StrOptions
from skorch import NeuralNet
from torch.utils.data import Dataset

from sklearn_halrp._datasets import labels_in
from sklearn_halrp._documented import documented
from sklearn_halrp._estimator import ContinualEstimator
from sklearn_halrp._intake import dtype_of
from sklearn_halrp._numbers import Numbers
from sklearn_halrp._one_task import TaskRegressor
from sklearn_halrp._row_weights import check_weights, in_proportion
from sklearn_halrp._serving import check_predicted
from sklearn_halrp._types import TaskId

# Sums of as many squares as there may be rows are finite up to here.
_LARGEST = 1e140


@documented
class ContinualRegressor(RegressorMixin, ContinualEstimator):
    """One compact network that learns to predict numbers, task after task, and forgets none.

    <method>

    Parameters
    ----------
    net : skorch.NeuralNetRegressor, default=None
        The recipe for networks and training: module, criterion, optimizer, ``lr``,
        ``max_epochs``, ``batch_size``, device, callbacks. It must not be fitted and is
        never changed. The module gives one output per number, also where that is one:
        shape (n_samples, 1). None builds a network from the data, with the squared error, which
        takes tables as they are: see ContinualClassifier. Parameters such as ``net__lr`` need a
        net that is given.
    standardize : "auto" or bool, default="auto"
        Whether the network learns the targets of each task less their mean, over their
        standard deviation, both of the task's first call. Predictions are in the units of y
        all the same. "auto" does it for the losses of differences that torch has: MSELoss,
        L1Loss, SmoothL1Loss and HuberLoss, whose ``beta`` and ``delta`` then count standard
        deviations. Other losses get targets as they are, since they may have a meaning, as
        the counts of PoissonNLLLoss: there predictions are means, the exponential of the
        outputs, unless the loss has ``log_input=False``. With True a quantile loss of your own
        trains as easily.
    <parameters>

    Attributes
    ----------
    <attributes>
    target_means_ : dict of task id to array of shape (n_outputs,)
        What is taken off the targets of each task; 0 where they are left as they are.
    target_scales_ : dict of task id to array of shape (n_outputs,)
        What they are divided by then; 1 where they are constant, or left as they are.

    See Also
    --------
    ContinualClassifier : The same for labels.
    sklearn_halrp.model_selection.task_scorer : Any metric, averaged over tasks.

    References
    ----------
    <references>

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn_halrp import ContinualRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X = X / X.std(axis=0)
    >>> reg = ContinualRegressor(random_state=0)
    >>> reg = reg.partial_fit(X[:300], y[:300], task_id="disease")
    >>> before = reg.predict(X[300:], task_id="disease")
    >>> blood = X[:, 4:8]  # the second task has four numbers a row
    >>> reg = reg.partial_fit(X[:300, ::-1], blood[:300], task_id="blood")
    >>> bool((reg.predict(X[300:], task_id="disease") == before).all())
    True
    >>> reg.predict(X[300:], task_id="blood").shape
    (142, 4)
    >>> reg.score(X[300:, ::-1], blood[300:], task_id="blood") > 0.8
    True
    """

    _target = Numbers
    _one_task = TaskRegressor

    _parameter_constraints = {
        **ContinualEstimator._parameter_constraints,
        "standardize": ["boolean", StrOptions({"auto"})],
    }
    del _parameter_constraints["class_weight"]

    def __init__(
        self,
        net: NeuralNet | None = None,
        *,
        standardize: Literal["auto"] | bool = "auto",
        base: Literal["first", "joint", "pretrained"] = "first",
        joint_sampling: float = 0.5,
        head: str | None = None,
        start: Literal["auto", "warm-up", "head", "transfer"] = "auto",
        warmup_epochs: int | float = 0.4,
        approximation_rate: float = 0.9,
        least_gain: float | Literal["auto"] = "auto",
        max_rank: int = 100,
        l1_penalty: float = 1e-6,
        l2_penalty: float = 1e-4,
        factor_lr_scale: Literal["auto"] | float = "auto",
        average_last: float = 0.3,
        prune_threshold: float = 1e-5,
        growth_budget: float = 0.6,
        retrain_epochs: int | float = 0.5,
        precision: Literal["full", "half", "int8", "nf4"] = "int8",
        convolution: Literal["unfolded", "channel"] = "unfolded",
        importance: str | Callable[..., Any] = "fisher",
        measured_losses: Literal["none", "network", "layers"] = "none",
        task_column: int | str | None = None,
        dtype: DTypeLike = "float32",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        cache_bytes: int = 2**28,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            net=net,
            base=base,
            joint_sampling=joint_sampling,
            head=head,
            start=start,
            warmup_epochs=warmup_epochs,
            approximation_rate=approximation_rate,
            least_gain=least_gain,
            max_rank=max_rank,
            l1_penalty=l1_penalty,
            l2_penalty=l2_penalty,
            factor_lr_scale=factor_lr_scale,
            average_last=average_last,
            prune_threshold=prune_threshold,
            growth_budget=growth_budget,
            retrain_epochs=retrain_epochs,
            precision=precision,
            convolution=convolution,
            importance=importance,
            measured_losses=measured_losses,
            task_column=task_column,
            dtype=dtype,
            random_state=random_state,
            n_jobs=n_jobs,
            cache_bytes=cache_bytes,
            verbose=verbose,
        )
        del self.class_weight
        self.standardize = standardize

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
            Finite numbers: an array, a DataFrame, a tensor. Or a
            ``torch.utils.data.Dataset`` of pairs of a row and its number or numbers,
            which is read batch by batch, when it is needed; rows are converted to `dtype`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Finite numbers. None with a Dataset: its attribute ``targets`` or ``y`` is used
            where that has one number a row, or all rows are read once for them.
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. None is a single task, 0. All tasks of one
            call have as many outputs as `y` has columns; others come by `partial_fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts among those of its task: in the loss of every phase,
            in the importance of layers, and in mean and deviation. Not negative.

        Returns
        -------
        self : ContinualRegressor

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used. As with every error and interruption, the
            estimator is left as it was before the call.
        sklearn_halrp.exceptions.TrainingDivergedError
            If a loss, a weight or a prediction for held-out rows becomes NaN or infinite.
        """
        return self._learn(X, y, task_id, sample_weight, afresh=True, **self._meaning())

    def partial_fit(
        self,
        X: ArrayLike | Dataset[Any],
        y: ArrayLike | None = None,
        task_id: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn a new task, or go on learning a known one.

        A new id learns a task. A known id goes on learning that task and changes no
        other; it keeps its number of outputs, and the mean and scale of its first targets.
        Going on trains on the rows given and on nothing else, so within its own task it can
        lose what older rows taught: give some of those again. The first task trains the base
        for as long as it is alone; with the second the base is frozen for good.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Rows of the same shape as those of the first task, or a Dataset, as for `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Finite numbers; None with a Dataset. A new task may have any number of outputs.
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row; several new tasks are learned in order
            of first appearance. It may be left out as long as it always was: the rows then
            belong to one task, 0.
        sample_weight : array-like of shape (n_samples,), default=None
            As for `fit`.

        Returns
        -------
        self : ContinualRegressor

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
        >>> from sklearn_halrp import ContinualRegressor
        >>> X = np.random.RandomState(0).rand(200, 2)
        >>> reg = ContinualRegressor(random_state=0)
        >>> reg = reg.partial_fit(X, 100 * X[:, 0], task_id="percent")
        >>> reg = reg.partial_fit(X, X * [1000, 1], task_id="metres")
        >>> reg.predict([[0.5, 0.5]], task_id="percent").shape
        (1,)
        >>> reg.predict([[0.5, 0.5]], task_id="metres").shape
        (1, 2)
        """
        return self._learn(X, y, task_id, sample_weight, **self._meaning())

    def _meaning(self) -> dict[str, Any]:
        """Return what decides, besides the numbers themselves, what the loss is given."""
        return {"standardize": self.standardize, "net": self.net, "dtype": dtype_of(self)}

    def predict(
        self, X: ArrayLike | Dataset[Any], task_id: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Predict the numbers of every row, in the units of y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. It may be left out while only one task
            is known.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs), float64
            One axis where the tasks that are asked for have one output. NaN where the network
            gives NaN.

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
            where a net was given, if the number of ids differs from that of the rows, or if the
            tasks that are asked for have not all as many outputs.
        """
        return self._predict(X, task_id, "predict")

    def _predict(self, X: Any, task_id: Any, method: str) -> NDArray[np.float64]:
        n_samples, groups = self._outputs(self._what_was_learned(), X, task_id, method)
        groups = list(groups)
        n_outputs = self._target.joined([target for target, *_ in groups])
        result = np.empty((n_samples, n_outputs))
        for _, rows, values in groups:
            result[rows] = values
        return result[:, 0] if n_outputs == 1 else result

    def score(
        self,
        X: ArrayLike | Dataset[Any],
        y: ArrayLike | None = None,
        *,
        task_id: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the coefficient of determination, R², of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        task_id : int, str or array-like of shape (n_samples,), default=None
            As for `predict`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts.

        Returns
        -------
        float
            At most 1; 0 is as good as the mean. Of several outputs it is the mean.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `predict`; if the network gives NaN or infinity for a row; and if `y` or
            `sample_weight` cannot be used.

        Notes
        -----
        All rows count together. Where the means of several tasks differ, knowing the task is
        rewarded too; `sklearn_halrp.model_selection.task_scorer` with ``average="tasks"`` looks
        at each task by itself.

        scikit-learn's regressors take weights in third place, where `fit` and `predict` have
        ids here. So that neither is taken for the other, both go by name.
        """
        predicted = self._predict(X, task_id, "score")
        if sample_weight is not None:
            sample_weight = in_proportion(check_weights(sample_weight, predicted))
        numbers: Any = predicted.reshape(len(predicted), -1)
        check_predicted(~np.isfinite(numbers).all(axis=1), "score")
        y = labels_in(X, Numbers.prepared) if isinstance(X, Dataset) and y is None else y
        if y is None:
            raise ValueError("score requires y to be passed: the targets of the rows of X.")
        y = check_array(Numbers.prepared(y), ensure_2d=False, input_name="y")
        if np.abs(y).max(initial=0) > _LARGEST:
            raise ValueError(
                f"y has numbers as large as {np.abs(y).max():.3g}, with infinite squares. Give "
                "them in another unit."
            )
        return r2_score(y, predicted, sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Tags:
        """Describe the estimator to scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @property
    def target_means_(self) -> dict[TaskId, NDArray[np.float64]]:
        """What is taken off the targets of each task."""
        return self._of_targets("center")

    @property
    def target_scales_(self) -> dict[TaskId, NDArray[np.float64]]:
        """What they are divided by."""
        return self._of_targets("scale")

    def _of_targets(self, name: str) -> dict[TaskId, NDArray[np.float64]]:
        tasks = self._what_was_learned().tasks
        return {task_id: getattr(task.target, name).copy() for task_id, task in tasks.items()}
