"""Weights of single rows, in every loss that a task is learned from."""

from collections.abc import Callable
from typing import Any

import skorch
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn
from torch.utils.data import Dataset


class WithWeights(Dataset[Any]):
    """A dataset of which each row brings its weight along.

    Parameters
    ----------
    dataset : Dataset
        Of pairs of a row and a label.
    weights : array of shape (n_samples,)
    """

    def __init__(self, dataset: Any, weights: NDArray[Any]) -> None:
        self.dataset = dataset
        self.weights = weights

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: Any) -> tuple[Any, Any]:
        row, label = self.dataset[i]
        return with_weights(row, self.weights[i]), label


class _SkorchWithWeights(WithWeights, skorch.dataset.Dataset):
    """The same of a dataset of skorch's, where its callbacks look for rows and labels."""

    X = property(lambda self: self.dataset.X)
    y = property(lambda self: self.dataset.y)


def rows_with_weights(dataset: Any, weights: NDArray[Any]) -> WithWeights:
    """Return a dataset of which each row brings its weight along."""
    known = isinstance(dataset, skorch.dataset.Dataset)
    return (_SkorchWithWeights if known else WithWeights)(dataset, weights)


def with_weights(rows: Any, weights: Any) -> dict[str, Any]:
    """Return rows and their weights as one input of a net."""
    return {"rows": rows, "sample_weight": weights}


def weights_in(x: Any) -> Any:
    """Return the weights that an input of a net brings along, or None."""
    brings = isinstance(x, dict) and set(x) == {"rows", "sample_weight"}
    return x["sample_weight"] if brings else None


def rows_in(x: Any) -> Any:
    """Return an input of a net without the weights that it may bring along."""
    return x if weights_in(x) is None else x["rows"]


def check_criterion(criterion: nn.Module) -> None:
    """Refuse a criterion that cannot give the loss of each row."""
    if not hasattr(criterion, "reduction"):
        raise ValueError(
            f"sample_weight needs the loss of every row, and {type(criterion).__name__} has "
            "no attribute reduction that could be 'none'. Use a loss of torch.nn, or leave "
            "sample_weight out."
        )


def weighted_loss(
    net: NeuralNet,
    get_loss: Callable[..., Any],
    y_pred: Any,
    y_true: Any,
    *args: Any,
    X: Any = None,
    **parameters: Any,
) -> torch.Tensor:
    """Return the mean of weight times loss of the rows, by a net's own ``get_loss``.

    Raises
    ------
    ValueError
        If that gives no loss for each row.
    """
    weights = weights_in(X)
    if weights is None:
        return get_loss(y_pred, y_true, *args, X=X, **parameters)
    reduction, net.criterion_.reduction = net.criterion_.reduction, "none"
    try:
        losses = get_loss(y_pred, y_true, *args, X=X["rows"], **parameters)
    finally:
        net.criterion_.reduction = reduction
    if losses.dim() > 1 and losses.shape == y_true.shape:  # one loss for each target of a row
        losses = losses.flatten(1).mean(1)
    if losses.shape != y_true.shape[:1]:
        raise ValueError(
            f"sample_weight needs the loss of every row: {type(net).__name__}.get_loss gives "
            f"shape {tuple(losses.shape)} for {len(y_true)} rows with reduction='none'."
        )
    return (losses * weights.to(losses)).mean()
