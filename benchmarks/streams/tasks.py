"""What a stream of tasks is."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Task:
    """Rows to learn, to choose settings by, and to test; each a pair (X, y).

    X is a float32 array, or a DataFrame where the stream can `encode` it; y holds numbers from 0
    to n_classes - 1. ``labels``, of shape (n_classes,), is what a user calls them, where other
    tasks have other classes.
    """

    name: str
    n_classes: int
    train: tuple
    valid: tuple
    test: tuple
    labels: np.ndarray | None = None

    def named(self, y):
        """Return classes by the names that a user has for them."""
        return y if self.labels is None else self.labels[y]

    def fraction(self, share, seed):
        """Return the task with a share of its rows to learn and to choose by, class by class."""
        parts = [_share(part, share, seed) for part in (self.train, self.valid)]
        return replace(self, train=parts[0], valid=parts[1])

    def few(self, n_rows, seed, valid=True):
        """Return the task with so many rows to learn, and a quarter of that to choose by, or all.

        Each class has one at least.
        """
        share = min(1, n_rows / len(self.train[1]))
        small = replace(self, train=_share(self.train, share, seed))
        rest = min(1, n_rows / 4 / len(self.valid[1]))
        return replace(small, valid=_share(self.valid, rest, seed)) if valid else small


@dataclass(frozen=True)
class Stream:
    """Tasks in an order, and a network for them.

    Given ``n_classes``, the network returns a fresh module. It can be pickled.

    Parameters
    ----------
    encode : callable, optional
        Makes float32 arrays of tables with words and missing numbers.
    score : {"accuracy", "AUC"}
        What predictions are judged by; AUC is for two classes.
    alike : bool
        Whether columns and classes mean the same in all tasks, so that one model can serve all.
    """

    name: str
    tasks: tuple[Task, ...]
    network: Callable
    encode: Callable | None = None
    score: str = "accuracy"
    alike: bool = False

    def encoded(self):
        """Return the stream with arrays only."""
        if self.encode is None:
            return self

        def encoded(task):
            parts = {part: getattr(task, part) for part in ("train", "valid", "test")}
            return replace(task, **{part: (self.encode(X), y) for part, (X, y) in parts.items()})

        return replace(self, tasks=tuple(map(encoded, self.tasks)), encode=None)

    def in_order(self, order):
        """Return the stream with its tasks in another order, a list of their numbers."""
        return replace(self, tasks=tuple(self.tasks[i] for i in order))

    def fraction(self, share, seed):
        """Return the stream with a share of the rows of every task, its test rows apart."""
        return replace(self, tasks=tuple(task.fraction(share, seed) for task in self.tasks))

    def first(self, n):
        """Return the stream of the first n tasks."""
        return replace(self, tasks=self.tasks[:n])


def _share(part, share, seed):
    X, y = part
    rows = some_rows(y, max(round(share * len(y)), len(np.unique(y))), seed)
    return take(X, rows), y[rows]


def take(X, rows):
    """Return rows of an array or a table."""
    return X[rows] if isinstance(X, np.ndarray) else X.iloc[rows].reset_index(drop=True)


def some_rows(y, n_rows, seed):
    """Return the numbers of so many rows, or all, shuffled, each class in its share of y."""
    rng = np.random.RandomState(seed)
    shuffled = rng.permutation(len(y))
    place = np.empty(len(y))  # of a row among those of its class, from 0 to 1
    for label in np.unique(y):
        rows = shuffled[y[shuffled] == label]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    first = np.argsort(place[shuffled], kind="stable")[:n_rows]
    return rng.permutation(shuffled[first])
