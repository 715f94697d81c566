"""The small network that is built when the user brings none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn


class MultilayerPerceptron(nn.Sequential):
    """Two hidden layers with ReLU, and a linear one: a logit per class, or a number per target.

    Parameters
    ----------
    n_features : int
        Values of one sample, however they are arranged.
    n_classes : int
        Outputs.
    hidden : int
        Width of each hidden layer.
    """

    def __init__(self, n_features: int, n_classes: int, hidden: int = 100) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(n_features, hidden, dtype=torch.float32),  # as its rows, by any default
            nn.ReLU(),
            nn.Linear(hidden, hidden, dtype=torch.float32),
            nn.ReLU(),
            nn.Linear(hidden, n_classes, dtype=torch.float32),
        )


class HoldOut:
    """Hold out a fifth of the rows, by class where there are classes that all allow it.

    Of fewer than ten rows nothing is held out.
    """

    def __repr__(self) -> str:
        return "HoldOut()"

    def __call__(self, dataset: Any, y: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        """Return the training set and the held-out set, or None for the latter."""
        if len(dataset) < 10:
            return dataset, None
        y = None if y is None else np.asarray(y)
        classes = y is not None and y.dtype.kind in "iu"
        counts = np.bincount(y)[np.unique(y)] if classes else np.array([0])
        stratify = y if counts.min() >= 2 and len(counts) <= len(dataset) // 5 else None
        kept, held_out = train_test_split(np.arange(len(dataset)), test_size=0.2, stratify=stratify)
        return torch.utils.data.Subset(dataset, kept), torch.utils.data.Subset(dataset, held_out)


def default_net(
    n_features: int,
    n_outputs: int,
    kind: Callable[..., NeuralNet] = NeuralNetClassifier,
    criterion: type[nn.Module] = nn.CrossEntropyLoss,
) -> NeuralNet:
    """Return an unfitted skorch net for samples of `n_features` values."""
    return kind(
        MultilayerPerceptron,
        module__n_features=n_features,
        module__n_classes=n_outputs,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=50,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=HoldOut(),
        verbose=0,
    )
