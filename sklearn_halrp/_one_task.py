"""One task of a continual estimator as a plain fitted estimator, for tools that know no tasks."""

from typing import Any, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from torch.utils.data import Dataset

from sklearn_halrp._documented import named_by_method
from sklearn_halrp._types import TaskId


@named_by_method
class OneTask(BaseEstimator):
    """A continual estimator that knows a single task, seen as an estimator without tasks.

    Nothing about it can be set or learned, and its clone is itself, as that of scikit-learn's
    `FrozenEstimator`: so it gets into every tool as it is.

    Parameters
    ----------
    model : ContinualEstimator
        Fitted, with one task.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Refuse: it is fitted, and learning belongs to the model.

        It is here because scikit-learn's tools take nothing without `fit` for an estimator.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            f"{self!r} is fitted for good. For a tool that fits what it is given, such as a "
            "pipeline, wrap it: sklearn.frozen.FrozenEstimator(model.for_task("
            f"{self.task_id!r})). To learn on, call model.partial_fit(X, y, task_id="
            f"{self.task_id!r}), and then model.for_task again."
        )

    def predict(self, X: ArrayLike | Dataset[Any]) -> NDArray[Any]:
        """Predict as the model does for this task.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Without a column of task ids.

        Returns
        -------
        array of shape (n_samples,), or of a regressor (n_samples, n_outputs)
        """
        return self._model.predict(X)

    @property
    def task_id(self) -> TaskId:
        """The id of the task in the model."""
        return self._model.tasks_[0]

    @property
    def n_features_in_(self) -> int:
        """Size of the second axis of X."""
        return self._model.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns, where X had any."""
        return self._model.feature_names_in_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the id of the task, which tells this estimator from others.

        Parameters
        ----------
        deep : bool, default=True
            It makes no difference.

        Returns
        -------
        dict
        """
        return {"task_id": self.task_id}

    def set_params(self, **params: Any) -> Self:
        """Refuse whatever is to be set.

        Returns
        -------
        self : estimator
            If there is nothing to set.

        Raises
        ------
        ValueError
            If there is.
        """
        if params:
            raise ValueError(
                f"{next(iter(params))} cannot be set: {self!r} is fitted for good. For another "
                "task call model.for_task; what is learned is set in the model."
            )
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> Self:
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = self._model.__sklearn_tags__().input_tags
        return tags


class TaskClassifier(ClassifierMixin, OneTask):
    """One task of a `ContinualClassifier` as a classifier of its own; see `OneTask`."""

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels of the task, sorted."""
        return self._model.classes_

    def predict_proba(self, X: ArrayLike | Dataset[Any]) -> NDArray[Any]:
        """Predict the probability of every class of the task.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Without a column of task ids.

        Returns
        -------
        array of shape (n_samples, n_classes), float32
            Columns are `classes_`.
        """
        return self._model.predict_proba(X)

    def predict_log_proba(self, X: ArrayLike | Dataset[Any]) -> NDArray[Any]:
        """Predict the logarithm of the probability of every class of the task.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Without a column of task ids.

        Returns
        -------
        array of shape (n_samples, n_classes), float32
            Columns are `classes_`.
        """
        return self._model.predict_log_proba(X)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = len(self.classes_) > 2
        return tags


class TaskRegressor(RegressorMixin, OneTask):
    """One task of a `ContinualRegressor` as a regressor of its own; see `OneTask`."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
