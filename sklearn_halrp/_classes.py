"""Labels as targets: what a classifier learns."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from sklearn_halrp._default_net import default_net
from sklearn_halrp._label_sets import labels_of_task, positions_in, task_classes, union_of_classes
from sklearn_halrp._labels import keep_types
from sklearn_halrp._predictive import add_up, chances, kind_of_loss, self_loss
from sklearn_halrp._types import TaskId
from sklearn_halrp.exceptions import InvalidNetworkError


def check_outputs(recipe: NeuralNet, outputs: Any) -> None:
    """Refuse or question outputs that are not what the loss takes.

    Raises
    ------
    InvalidNetworkError
        If skorch's NLLLoss, which takes the logarithm of probabilities, would get others.

    Warns
    -----
    UserWarning
        If CrossEntropyLoss, which takes logits, would get probabilities, or outputs of a ReLU.
    """
    own_loss = type(recipe).get_loss is not NeuralNetClassifier.get_loss
    if own_loss or not isinstance(outputs, torch.Tensor):
        return
    kind = kind_of_loss(recipe)
    probable = add_up(outputs)
    if kind is nn.NLLLoss and not probable:
        raise InvalidNetworkError(
            "The net's criterion is NLLLoss, skorch's default, for which the module must return "
            "probabilities; this one does not. If it returns logits, or log-probabilities, pass "
            "criterion=torch.nn.CrossEntropyLoss to the net; otherwise end it in a softmax."
        )
    if kind is not nn.CrossEntropyLoss:
        return
    if probable and outputs.shape[-1] > 1:
        warnings.warn(
            "The module returns probabilities, and the net's criterion is CrossEntropyLoss, which "
            "takes logits and learns little from them. Leave the softmax at the module's end "
            "out, or pass criterion=torch.nn.NLLLoss to the net.",
            stacklevel=2,
        )
    elif (outputs >= 0).all() and 0 < (outputs == 0).sum() < outputs.numel():
        warnings.warn(
            "No output of the module is negative, and some are 0, as after a ReLU: a class with "
            "output 0 teaches nothing. Let the module end in its linear layer.",
            stacklevel=2,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """One output for each label of a task.

    Attributes
    ----------
    labels : array of shape (n_classes,)
        Sorted: the order of the outputs.
    """

    labels: NDArray[Any]

    # --- a kind of target: what holds for all tasks of an estimator

    net_class = NeuralNetClassifier
    y_checks: ClassVar[dict[str, Any]] = {}  # beside those of scikit-learn's `check_X_y`
    default_net = staticmethod(default_net)
    check_outputs = staticmethod(check_outputs)
    noun: ClassVar[str] = "classes"
    # How well it is learned, for a notebook.
    shown: ClassVar[tuple[str, str, str]] = ("valid_acc", "held-out accuracy", ".1%")

    @staticmethod
    def prepared(y: Any, name: str = "y") -> Any:
        """Return y, or what an argument of this name brings, as scikit-learn's checks take it."""
        return keep_types(y, name)

    @classmethod
    def of_task(
        cls,
        task_id: TaskId,
        y: NDArray[Any],
        weights: NDArray[Any] | None = None,
        known: Self | None = None,
        declared: ArrayLike | None = None,
    ) -> tuple[Self, NDArray[np.int64]]:
        """Return the target of a task, and its labels as the loss takes them.

        Parameters
        ----------
        task_id : int or str
        y : array of shape (n_samples,)
        weights : array of shape (n_samples,), optional
            Not used: a label is one, however little its rows weigh.
        known : Classes, optional
            What the task had before this call.
        declared : array-like, optional
            All labels that it will ever have.

        Returns
        -------
        target : Classes
        encoded : array of shape (n_samples,), int64

        Raises
        ------
        ValueError
            If the labels are none, or fewer than two, or not among the declared ones.
        """
        if y.ndim > 1:  # of a Dataset: an array was looked at before
            raise ValueError(
                f"The labels of task {task_id!r} have shape {y.shape[1:]} each, and a label is one "
                "int or string. Of one-hot labels give the places of the ones."
            )
        y = labels_of_task(task_id, y)
        labels = task_classes(task_id, y, declared, None if known is None else known.labels)
        return cls(labels), positions_in(labels, y).astype(np.int64)

    @classmethod
    def made_up(cls, n_outputs: int) -> Self:
        """Return the target of a task that nobody has."""
        return cls(np.arange(n_outputs))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the target that `to_state` was asked for; take its entries out."""
        return cls(state.pop("classes"))

    # --- the target of one task

    @property
    def n_outputs(self) -> int:
        """Outputs that the head needs."""
        return len(self.labels)

    def places_of(self, known: "Classes") -> NDArray[np.int64]:
        """Return where the outputs of an earlier target of this task are among these."""
        return positions_in(self.labels, known.labels)

    def check_loss(self, criterion: nn.Module, task_id: TaskId) -> None:
        """Refuse a loss with weights for another number of classes."""
        if not isinstance(criterion, nn.modules.loss._WeightedLoss):
            return
        weight = criterion.weight
        if weight is not None and weight.shape != (len(self.labels),):
            raise ValueError(
                f"The criterion has weights of shape {tuple(weight.shape)}, and task "
                f"{task_id!r} has {len(self.labels)} classes. Set criterion__weight for "
                "each task, or leave it out."
            )

    @staticmethod
    def curvature_loss(net: NeuralNet, outputs: Any, y: Any, x: Any) -> torch.Tensor | None:
        """Return a scalar whose squared gradient stands for the Hessian, or None.

        It is that of labels that the net predicts; None if it predicts no probabilities.
        See `self_loss`.
        """
        p = chances(net, outputs)
        return None if p is None else self_loss(net, outputs, p, x)

    @staticmethod
    def decoded(outputs: NDArray[Any], net: NeuralNet) -> NDArray[Any]:
        """Return what a net's outputs say: the probability of each label."""
        return outputs

    @staticmethod
    def finished(
        module: nn.Module, head: str, trial: Callable[[], Callable[..., Any]]
    ) -> nn.Module:
        """Return a task's module as it is given away."""
        return module

    def summary(self) -> dict[str, int]:
        """Return what a report says of the target."""
        return {"n_classes": len(self.labels)}

    def names(self) -> list[Any]:
        """Return what each output means."""
        return self.labels.tolist()

    def to_state(self) -> dict[str, Any]:
        """Return arrays and settings to save."""
        return {"classes": self.labels}

    def check(self) -> None:
        """Refuse what no task has; it may have come from a file.

        Raises
        ------
        ValueError
        """
        labels = self.labels
        kind = labels.dtype.kind
        if labels.ndim != 1 or len(labels) < 2 or kind not in "biufUO":
            raise ValueError(f"it has labels of type {labels.dtype} and shape {labels.shape}")
        if kind == "O" and not all(isinstance(label, str) for label in labels):
            raise ValueError("it has labels that are not all strings")
        if not (labels[:-1] < labels[1:]).all():
            raise ValueError("it has labels that are not sorted, or some of them twice")

    def shown_beside_others(self) -> dict[str, Any]:
        """Return what a prediction for other tasks shows of this one: columns for its labels."""
        return self.to_state()

    @staticmethod
    def joined(several: Iterable["Classes"]) -> NDArray[Any]:
        """Return the labels of all tasks together, sorted."""
        return union_of_classes([target.labels for target in several])
