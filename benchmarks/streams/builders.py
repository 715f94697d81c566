"""Ways to make tasks from data sets; each gives functions that make the tasks one by one.

Halves are pairs of images or columns, and labels from 0; `rows` is a `Rows`.
"""

from functools import partial

import numpy as np

from benchmarks.streams.preparing import moments, prepare
from benchmarks.streams.tasks import Task, take


def make_task(name, halves, rows, number, change, labels=None):
    """Return a task of some rows of two halves.

    Its number draws other rows for each task; `change` makes rows of the task from those of the
    data set.
    """
    (X, y), (X_test, y_test) = halves
    learn, valid, tested = rows.choose(y, y_test, number)
    parts = [(X, y, learn), (X, y, valid), (X_test, y_test, tested)]
    changed = ((change(take(X, i)), y[i].astype(np.int64)) for X, y, i in parts)
    return Task(name, int(y.max()) + 1, *changed, labels)


def permuted(halves, n_tasks, rows, size, channels):
    """Return tasks that see all values of the images in an order of their own."""
    scale = moments(halves.train[0])

    def permute(number, images):
        order = np.random.RandomState(number).permutation(channels * size**2)
        X = prepare(images, size, channels, scale)
        return X.reshape(len(X), len(order))[:, order].reshape(X.shape)

    return [
        partial(make_task, f"permuted {number}", halves, rows, number, partial(permute, number))
        for number in range(n_tasks)
    ]


def relabelled(half, classes):
    """Return the rows of some classes, which become 0, 1, 2, in the order they are given."""
    X, y = half
    number = np.full(max(y.max(), *classes) + 1, -1)
    number[list(classes)] = np.arange(len(classes))
    inside = number[y] >= 0
    return X[inside], number[y[inside]]


def split(halves, groups, rows, change):
    """Return tasks that have some classes each, given as name -> classes."""

    def make(name, classes, number):
        own = (relabelled(half, classes) for half in halves)
        return make_task(name, own, rows, number, change, np.array(classes))

    return [partial(make, *item, number) for number, item in enumerate(groups.items())]


def in_groups(n_classes, size):
    """Return the classes in groups of one size, as they come; what is left over is left out.

    >>> in_groups(7, 3)
    {'0-2': range(0, 3), '3-5': range(3, 6)}
    """
    starts = range(0, n_classes - n_classes % size, size)
    return {f"{start}-{start + size - 1}": range(start, start + size) for start in starts}


def with_rotations(images, labels):
    """Return images turned by 0, 90, 180 and 270 degrees, four classes for each label."""
    turned = np.concatenate([np.rot90(images, turn, axes=(2, 3)) for turn in range(4)])
    return turned, np.concatenate([4 * labels + turn for turn in range(4)])


def several(sets, rows, change):
    """Return one task for each data set, given as name -> halves.

    ``change(images)`` gives, for the training images of a set, what makes rows of its images.
    """

    def make(name, halves, number):
        return make_task(name, halves, rows, number, change(halves.train[0]))

    return [partial(make, *item, number) for number, item in enumerate(sets.items())]
