"""What the outputs of a network mean for one task.

A target knows how many outputs a task needs, turns labels into what the loss takes and
outputs into what is predicted, and says what a task keeps of this. No other room asks
which kind of target it is. `Classes` are the labels of a classifier.
"""

from dataclasses import dataclass

import numpy as np
from skorch import NeuralNetClassifier
from torch import nn

from sklearn_halrp._checks import labels_of_task, positions_in, task_classes, union_of_classes
from sklearn_halrp._default_net import default_net
from sklearn_halrp._labels import keep_types
from sklearn_halrp._predictive import chances, self_loss


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """One output for each label of a task.

    Attributes
    ----------
    labels : array of shape (n_classes,)
        Sorted: the order of the outputs.
    """

    labels: np.ndarray

    # --- a kind of target: what holds for all tasks of an estimator

    net_class = NeuralNetClassifier
    y_checks = {}  # beside those of scikit-learn's `check_X_y`
    default_net = staticmethod(default_net)

    @staticmethod
    def prepared(y):
        """Return y as scikit-learn's checks can take it."""
        return keep_types(y)

    @classmethod
    def of_task(cls, task_id, y, known=None, declared=None):
        """Return the target of a task, and its labels as the loss takes them.

        Parameters
        ----------
        task_id : int or str
        y : array of shape (n_samples,)
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
        y = labels_of_task(task_id, y)
        labels = task_classes(task_id, y, declared, None if known is None else known.labels)
        return cls(labels), positions_in(labels, y).astype(np.int64)

    @classmethod
    def from_state(cls, state):
        """Return the target that `to_state` was asked for; take its entries out."""
        return cls(state.pop("classes"))

    # --- the target of one task

    @property
    def n_outputs(self):
        """Outputs that the head needs."""
        return len(self.labels)

    def places_of(self, known):
        """Return where the outputs of an earlier target of this task are among these."""
        return positions_in(self.labels, known.labels)

    def check_loss(self, criterion, task_id):
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
    def curvature_loss(net, outputs, y, x):
        """Return a scalar whose squared gradient stands for the Hessian, or None.

        It is that of labels that the net predicts; None if it predicts no probabilities.
        See `self_loss`.
        """
        p = chances(net, outputs)
        return None if p is None else self_loss(net, outputs, p, x)

    def summary(self):
        """Return what a report says of the target."""
        return {"n_classes": len(self.labels)}

    def names(self):
        """Return a name for each output."""
        return [str(label) for label in self.labels.tolist()]

    def to_state(self):
        """Return arrays and settings to save."""
        return {"classes": self.labels}

    @staticmethod
    def joined(several):
        """Return the labels of all tasks together, sorted."""
        return union_of_classes([target.labels for target in several])


def target_from_state(state):
    """Return the target that was saved with a task; its entries are taken out of the state.

    >>> target_from_state({"classes": np.array([0, 1]), "visits": 1}).n_outputs
    2
    """
    return next(kind for key, kind in _KINDS.items() if key in state).from_state(state)


# By an entry of the state that only this kind has.
_KINDS = {"classes": Classes}
