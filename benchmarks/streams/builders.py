"""Ways to make tasks from data sets; each gives recipes, so that tasks are made when needed.

Halves are pairs of images or columns, and labels from 0; `rows` is a `Rows`.
"""

from functools import partial

import numpy as np
from scipy import ndimage

from benchmarks.streams.preparing import moments, prepare
from benchmarks.streams.tasks import Recipes, Task


def make_task(name, train, test, rows, number, change):
    """Return a task of some rows of two halves.

    Its number draws other rows for each task; `change` makes rows of the task from those of the
    data set.
    """
    (X, y), (X_test, y_test) = train, test
    learn, valid, tested = rows.choose(y, y_test, number)
    parts = [(X, y, learn), (X, y, valid), (X_test, y_test, tested)]
    changed = ((change(X[i]), y[i].astype(np.int64)) for X, y, i in parts)
    return Task(name, int(y.max()) + 1, *changed)


def changed(halves, rows, changes):
    """Return tasks that see the same images in other ways, given as name -> change."""
    return Recipes(
        partial(make_task, name, *halves, rows, number, change)
        for number, (name, change) in enumerate(changes.items())
    )


def permuted(halves, n_tasks, rows, size, channels):
    """Return tasks that see all values of the images in an order of their own."""
    scale = moments(halves.train[0])

    def permute(number, images):
        order = np.random.RandomState(number).permutation(channels * size**2)
        X = prepare(images, size, channels, scale)
        return X.reshape(len(X), len(order))[:, order].reshape(X.shape)

    changes = {f"permuted {number}": partial(permute, number) for number in range(n_tasks)}
    return changed(halves, rows, changes)


def rotated(halves, n_tasks, rows, size, channels):
    """Return tasks that see the images turned by a share of a full turn."""
    scale = moments(halves.train[0])

    def turn(degrees, images):
        if degrees:
            images = ndimage.rotate(images, degrees, (2, 3), reshape=False, order=1)
        return prepare(images, size, channels, scale)

    angles = np.arange(n_tasks) * 360 / n_tasks
    changes = {f"{angle:g} degrees": partial(turn, angle) for angle in angles}
    return changed(halves, rows, changes)


def relabelled(half, classes):
    """Return the rows of some classes, which become 0, 1, 2, in the order they are given."""
    X, y = half
    number = np.full(max(y.max(), *classes) + 1, -1)
    number[list(classes)] = np.arange(len(classes))
    inside = number[y] >= 0
    return X[inside], number[y[inside]]


def split(halves, groups, rows, change):
    """Return tasks that have some classes each, given as name -> classes."""

    def recipe(name, classes, number):
        own = (relabelled(half, classes) for half in halves)
        return make_task(name, *own, rows, number, change)

    return Recipes(
        partial(recipe, name, classes, number)
        for number, (name, classes) in enumerate(groups.items())
    )


def in_groups(n_classes, size):
    """Return the classes in groups of one size, as they come.

    >>> in_groups(6, 3)
    {'0-2': range(0, 3), '3-5': range(3, 6)}
    """
    if n_classes % size:
        raise ValueError(f"{n_classes} classes cannot be divided into tasks of {size}.")
    starts = range(0, n_classes, size)
    return {f"{start}-{start + size - 1}": range(start, start + size) for start in starts}


def several(sets, rows, size, channels):
    """Return one task for each data set, given as name -> halves."""

    def recipe(name, halves, number):
        change = partial(prepare, size=size, channels=channels, scale=moments(halves.train[0]))
        return make_task(name, *halves, rows, number, change)

    return Recipes(
        partial(recipe, name, halves, number) for number, (name, halves) in enumerate(sets.items())
    )


def with_rotations(images, labels):
    """Return each class four times, turned by 0, 90, 180 and 270 degrees.

    Class c, turned k times, becomes class 4 c + k.
    """
    turned = np.concatenate([np.rot90(images, k, (2, 3)) for k in range(4)])
    return turned, np.concatenate([4 * labels + k for k in range(4)])
