"""What a stream of tasks is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import train_test_split


@dataclass(frozen=True)
class Task:
    """Rows to learn, to choose settings by, and to test; each a pair (X, y).

    X is float32, y holds numbers from 0 to n_classes - 1.
    """

    name: str
    n_classes: int
    train: tuple
    valid: tuple
    test: tuple

    def fraction(self, share, seed):
        """Return the task with a share of its rows to learn and to choose by, class by class."""
        parts = [_share(part, share, seed) for part in (self.train, self.valid)]
        return replace(self, train=parts[0], valid=parts[1])


class Recipes(Sequence):
    """Tasks that are made when they are asked for, and kept by nobody here.

    Ten permutations of all of MNIST in three channels of 32x32 take 9 GB, one takes 0.9 GB.

    Parameters
    ----------
    recipes : sequence of callables
        Each makes a `Task`.
    """

    def __init__(self, recipes):
        self.recipes = tuple(recipes)

    def __len__(self):
        return len(self.recipes)

    def __getitem__(self, i):
        return Recipes(self.recipes[i]) if isinstance(i, slice) else self.recipes[i]()


@dataclass(frozen=True)
class Stream:
    """Tasks in an order, and a network for them.

    Attributes
    ----------
    name : str
    tasks : sequence of Task
    network : callable
        Given ``n_classes`` it returns a fresh module. It can be pickled.
    """

    name: str
    tasks: Sequence[Task]
    network: Callable

    def in_order(self, order):
        """Return the stream with its tasks in another order, a list of their numbers."""
        if sorted(order) != list(range(len(self.tasks))):
            raise ValueError(
                f"An order of {self.name} names each of 0 to {len(self.tasks) - 1} once; "
                f"got {list(order)}."
            )
        return replace(self, tasks=tuple(self.tasks[i] for i in order))

    def fraction(self, share, seed):
        """Return the stream with a share of the rows of every task, its test rows apart."""
        if not 0 < share <= 1:
            raise ValueError(f"share is a number above 0, at most 1; got {share}.")
        return replace(self, tasks=tuple(task.fraction(share, seed) for task in self.tasks))

    def first(self, n):
        """Return the stream of the first n tasks."""
        return replace(self, tasks=self.tasks[:n])

    def made(self):
        """Return the stream with all its tasks in memory."""
        return replace(self, tasks=tuple(self.tasks))


def _share(part, share, seed):
    X, y = part
    rows = some_rows(y, round(share * len(y)), seed)
    return X[rows], y[rows]


def some_rows(y, n_rows, seed):
    """Return the numbers of so many rows, shuffled, with the classes in their shares of y.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
    n_rows : int
        All rows are returned if it is no less than there are. At least one of each class is.
    seed : int
    """
    rng = np.random.RandomState(seed)
    classes = np.unique(y)
    n_rows = max(n_rows, len(classes))
    if len(y) - n_rows < len(classes):  # too few left over for scikit-learn to split off
        return rng.permutation(len(y))[:n_rows] if n_rows < len(y) else rng.permutation(len(y))
    return train_test_split(np.arange(len(y)), train_size=n_rows, stratify=y, random_state=rng)[0]
