"""Ways to make tasks from data sets; each gives recipes, so that tasks are made when needed."""

from functools import partial

import numpy as np
from scipy import ndimage

from benchmarks.streams.preparing import moments, prepare
from benchmarks.streams.tasks import Recipes, Task


def make_task(name, train, test, rows, number, change):
    """Return a task of some rows of two halves.

    Parameters
    ----------
    name : str
    train, test : pairs of arrays
        Images or columns, and labels from 0.
    rows : benchmarks.streams.preparing.Rows
    number : int
        Draws other rows for each number.
    change : callable
        From rows of the data set to rows of the task.
    """
    (X, y), (X_test, y_test) = train, test
    learn, valid, tested = rows.choose(y, y_test, number)
    parts = [(X, y, learn), (X, y, valid), (X_test, y_test, tested)]
    return Task(
        name,
        int(y.max()) + 1,
        *((change(X[i]), y[i].astype(np.int64)) for X, y, i in parts),
    )


def permuted(halves, n_tasks, rows, size, channels):
    """Return tasks that see all values of the images in an order of their own."""
    scale = moments(halves.train[0])

    def change(number):
        order = np.random.RandomState(number).permutation(channels * size**2)

        def permute(images):
            X = prepare(images, size, channels, scale)
            return X.reshape(len(X), len(order))[:, order].reshape(X.shape)

        return permute

    return Recipes(
        partial(make_task, f"permuted {number}", *halves, rows, number, change(number))
        for number in range(n_tasks)
    )


def rotated(halves, n_tasks, rows, size, channels):
    """Return tasks that see the images turned by a share of a full turn."""
    scale = moments(halves.train[0])

    def change(degrees):
        def turn(images):
            if degrees:
                images = ndimage.rotate(images, degrees, (2, 3), reshape=False, order=1)
            return prepare(images, size, channels, scale)

        return turn

    return Recipes(
        partial(make_task, f"{angle:g} degrees", *halves, rows, number, change(angle))
        for number, angle in enumerate(np.arange(n_tasks) * 360 / n_tasks)
    )


def relabelled(half, classes):
    """Return the rows of some classes, which become 0, 1, 2, in the order they are given."""
    X, y = half
    number = np.full(max(y.max(), *classes) + 1, -1)
    number[list(classes)] = np.arange(len(classes))
    inside = number[y] >= 0
    return X[inside], number[y[inside]]


def split(halves, groups, rows, change):
    """Return tasks that have some classes each.

    Parameters
    ----------
    halves : pair of pairs
    groups : dict
        Name of each task, and its classes.
    rows : benchmarks.streams.preparing.Rows
    change : callable
    """

    def recipe(name, classes, number):
        return make_task(
            name, *(relabelled(half, classes) for half in halves), rows, number, change
        )

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


def superclasses(fine, coarse):
    """Return the fine classes of each superclass."""
    return {str(group): sorted(set(fine[coarse == group])) for group in np.unique(coarse)}


def several(sets, rows, size, channels):
    """Return one task for each data set.

    Parameters
    ----------
    sets : dict
        Name and halves of each.
    rows : benchmarks.streams.preparing.Rows
    size, channels : int
    """

    def recipe(name, halves, number):
        scale = moments(halves.train[0])
        change = partial(prepare, size=size, channels=channels, scale=scale)
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
