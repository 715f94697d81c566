"""Batches cut from arrays at once, where a DataLoader would collect them row by row."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, Subset

from sklearn_halrp._sample_weight import WithWeights, with_weights

_KNOWN = {"batch_size", "shuffle", "drop_last"}


def drawn(dataset: Any, **settings: Any) -> DataLoader[Any]:
    """Return a DataLoader that fetches a whole batch at once, if it is one of arrays.

    The batches are those of torch's own, entry by entry, and as many random numbers are drawn.
    With settings such as ``num_workers``, or a dataset of the user's own, it is torch's own.
    """
    arrays = _arrays(dataset)
    if arrays is None or not set(settings) <= _KNOWN:
        return DataLoader(dataset, **settings)
    kind = RandomSampler if settings.get("shuffle") else SequentialSampler
    batches = BatchSampler(
        kind(dataset), settings.get("batch_size", 1), settings.get("drop_last", False)
    )
    # It needs no more than a length and entries.
    return DataLoader(_Rows(*arrays), sampler=batches, batch_size=None)  # type: ignore[arg-type]


def sliced(dataset: Any, **settings: Any) -> Iterable[Any]:
    """Return the same batches in order, without drawing a random number."""
    arrays = _arrays(dataset)
    if arrays is None or not set(settings) <= _KNOWN or settings.get("shuffle"):
        # torch's own draws a number each time, for workers that it may start.
        return DataLoader(dataset, **{"generator": torch.Generator(), **settings})
    rows, size = _Rows(*arrays), settings.get("batch_size", 1)
    return (
        tuple(map(torch.from_numpy, rows[slice(start, start + size)]))
        for start in range(0, len(dataset), size)
    )


class _Rows:
    """Rows of arrays, copied, since a module may change its input in place."""

    def __init__(
        self,
        X: NDArray[Any],
        y: NDArray[Any] | None,
        places: NDArray[Any] | None,
        weights: NDArray[Any] | None,
    ) -> None:
        self.X, self.y, self.places, self.weights = X, y, places, weights

    def __len__(self) -> int:
        return len(self.X if self.places is None else self.places)

    def __getitem__(self, rows: Any) -> tuple[Any, NDArray[Any]]:
        if self.places is not None:
            rows = self.places[rows]
        X = self.X[rows]
        y = np.zeros((len(X), 1), dtype=np.float32) if self.y is None else self.y[rows]
        if isinstance(rows, slice):
            X, y = X.copy(), y.copy()
        return (X if self.weights is None else with_weights(X, self.weights[rows])), y


def _arrays(dataset: Any) -> tuple[Any, Any, Any, Any] | None:
    """Return the arrays behind a dataset, the places of its rows, and weights; or None."""
    places = weights = None
    while type(dataset) is Subset:
        inner = np.asarray(dataset.indices, dtype=np.int64)
        places = inner if places is None else inner[places]
        dataset = dataset.dataset
    if isinstance(dataset, WithWeights):
        weights, dataset = dataset.weights, dataset.dataset
    if type(dataset) is not skorch.dataset.Dataset or type(dataset.X) is not np.ndarray:
        return None
    if dataset.y is not None and type(dataset.y) is not np.ndarray:
        return None
    if len(dataset.X) != len(dataset):
        return None
    return dataset.X, dataset.y, places, weights
