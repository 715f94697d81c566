"""Streams of tasks that are ready to learn, by name: ``load("permuted-mnist", data_dir)``.

Every stream is the same each time. Images are standardised by the mean and deviation of their data
set's training half.
"""

from functools import partial

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks.networks import MLP, LeNet
from benchmarks.streams import builders, readers
from benchmarks.streams.preparing import Rows, moments, prepare
from benchmarks.streams.readers import Halves
from benchmarks.streams.tasks import Stream, Task

FEW = Rows(300, 80, 150)
PAIRS = Rows(1600, 400, 1000)  # 800, 200 and 500 of each of two classes
SOME = Rows(2000, 500, 2000)
ALL = Rows()
TABLES = ("letter", "penbased", "satimage", "optdigits", "texture", "segment")

__all__ = ["STREAMS", "Rows", "Stream", "Task", "load"]


def halved(X, y, share=0.2):
    """Return rows without halves of their own as halves, the second with this share."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=share, stratify=y, random_state=0)
    return Halves((X, y), (X_test, y_test))


def as_prepared(size, channels, images):
    """Return a function that prepares images, on the scale of those that are given."""
    return partial(prepare, size=size, channels=channels, scale=moments(images))


def lenet(size, channels):
    return partial(LeNet, channels=channels, size=size)


# Each returns a name, functions that make the tasks, and the network.


def digits(data_dir=None):
    """Permutations of scikit-learn's digits, 1x8x8; needs no files."""
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)
    tasks = builders.permuted(halved(images, labels), 5, FEW, 8, 1)
    return "digits", tasks, partial(LeNet, channels=1, size=8, widths=(8, 16, 64, 32))


def permuted_mnist(data_dir, size=16, channels=1):
    """MNIST with all values permuted, each task with rows of its own."""
    tasks = builders.permuted(readers.mnist(data_dir), 10, SOME, size, channels)
    return "permuted-mnist", tasks, lenet(size, channels)


def split_cifar10(data_dir):
    """CIFAR-10 by pairs of classes."""
    halves = readers.cifar10(data_dir)
    change = as_prepared(32, 3, halves.train[0])
    tasks = builders.split(halves, builders.in_groups(10, 2), PAIRS, change)
    return "split-cifar10 (JPEG)", tasks, lenet(32, 3)


def five_datasets(data_dir):
    """One task per data set, all 3x16x16; of Omniglot the first 20 characters."""
    images, labels = readers.omniglot(data_dir, 28)
    first = labels < 20
    sets = {
        "cifar10 (JPEG)": readers.cifar10(data_dir),
        "mnist": readers.mnist(data_dir),
        "usps": readers.usps(data_dir),
        "fashion": readers.fashion_mnist(data_dir),
        "omniglot": halved(images[first], labels[first]),
    }
    tasks = builders.several(sets, SOME, partial(as_prepared, 16, 3))
    return "five-datasets (JPEG)", tasks, lenet(16, 3)


def letters(data_dir=None):
    """Letters by 16 measures of their shape, a data set of the UCI repository."""
    halves = halved(*readers.table("letter", data_dir))
    change = StandardScaler().fit(halves.train[0]).transform
    tasks = builders.split(halves, builders.in_groups(26, 2), ALL, change)
    return "letters", tasks, partial(MLP, n_features=16)


def tabular(data_dir=None, sets=TABLES):
    """Tables of different meaning, brought to 16 columns.

    letter and penbased have 16 columns and keep them. Of the others the columns are standardised
    and the 16 main components are taken, by the training half alone.
    """
    tables = {name: halved(*readers.table(name, data_dir)) for name in sets}
    return "tabular", builders.several(tables, SOME, main_columns), partial(MLP, n_features=16)


def main_columns(X, n_columns=16):
    """Return a function that brings rows like X to a number of columns of variance one."""
    steps = [StandardScaler()]
    if X.shape[1] > n_columns:
        steps += [PCA(n_columns, svd_solver="full"), StandardScaler()]
    for step in steps:
        X = step.fit(X).transform(X)

    def change(rows):
        for step in steps:
            rows = step.transform(rows)
        return rows.astype(np.float32)

    return change


STREAMS = {
    "digits": digits,
    "permuted-mnist": permuted_mnist,
    "permuted-mnist-32": partial(permuted_mnist, size=32, channels=3),
    "split-cifar10": split_cifar10,
    "five-datasets": five_datasets,
    "letters": letters,
    "tabular": tabular,
}


def load(name, data_dir=None, n_tasks=None):
    """Return a stream by its name.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    data_dir : str, optional
        Folder of the files (benchmarks/README.md); digits, letters and tabular need none.
    n_tasks : int, optional
        How many of its tasks are made.
    """
    if name not in STREAMS:
        raise ValueError(f"There is no stream {name!r}; choose from {', '.join(STREAMS)}.")
    called, makers, network = STREAMS[name](data_dir)
    if n_tasks is not None and n_tasks > len(makers):
        raise ValueError(f"{called} has {len(makers)} tasks, not {n_tasks}.")
    return Stream(called, tuple(make() for make in makers[:n_tasks]), network)
