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

from benchmarks.networks import MLP, LeNet, WithoutBiases
from benchmarks.streams import builders, readers, users
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


# Each returns a name, functions that make the tasks, the network, and what else a stream has.


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


def permuted_mnist_wsn(data_dir, rows=SOME):
    """MNIST as in WSN's protocol: 784 values, a network without biases."""
    tasks = builders.permuted(readers.mnist(data_dir), 10, rows, 28, 1)
    return "permuted-mnist-wsn", tasks, WithoutBiases


def split_cifar10(data_dir, size=32):
    """CIFAR-10 by pairs of classes."""
    halves = readers.cifar10(data_dir)
    change = as_prepared(size, 3, halves.train[0])
    tasks = builders.split(halves, builders.in_groups(10, 2), PAIRS, change)
    return "split-cifar10 (JPEG)", tasks, lenet(size, 3)


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


def omniglot_rotation(data_dir, size=16, characters=60):
    """Characters of Omniglot, each turned by 0, 90, 180 and 270 degrees: four classes."""
    images, labels = readers.omniglot(data_dir, size)
    few = labels < characters
    halves = Halves(*(builders.with_rotations(*half) for half in halved(images[few], labels[few])))
    groups = builders.in_groups(4 * characters, 12)
    tasks = builders.split(halves, groups, ALL, as_prepared(size, 1, halves.train[0]))
    return "omniglot-rotation", tasks, lenet(size, 1)


def flights(data_dir=None):
    """Which flights come late, airline by airline; the four with the most flights come first."""
    sets = {name: halved(*rows, 0.4) for name, rows in users.flights().items()}
    many, few = dict([*sets.items()][:4]), dict([*sets.items()][4:])
    tasks = builders.several(many, Rows(3200, 800, 2000), as_it_is)
    tasks += builders.several(few, SOME, as_it_is)
    encode = users.Encoder([half.train[0] for half in many.values()])
    more = {"encode": encode, "score": "AUC", "alike": True}
    return "flights", tasks, partial(MLP, n_features=encode.n_columns), more


def exercises(data_dir=None):
    """Which exercise a watch sees, person by person; the second half of each is to test."""
    sets = {name: Halves(*halves) for name, halves in users.exercises().items()}
    change = StandardScaler().fit(next(iter(sets.values())).train[0]).transform
    tasks = builders.several(sets, ALL, lambda X: change)
    n_columns = next(iter(sets.values())).train[0].shape[1]
    return "exercises", tasks, partial(MLP, n_features=n_columns), {"alike": True}


def sentiment(data_dir=None):
    """Whether texts of four kinds are kind, by the features of a pretrained MiniLM."""
    sets = {name: halved(*rows, 0.5) for name, rows in users.sentiment(data_dir).items()}
    tasks = builders.several(sets, ALL, as_it_is)
    return "sentiment", tasks, partial(MLP, n_features=384), {"alike": True}


def as_it_is(rows):
    """Return a function that changes nothing."""
    return lambda rows: rows


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
    "permuted-mnist-wsn": partial(permuted_mnist_wsn, rows=Rows(48000, 12000, 10000)),
    "permuted-mnist-wsn-small": partial(permuted_mnist_wsn, rows=Rows(8000, 2000, 10000)),
    "split-cifar10": split_cifar10,
    "split-cifar10-16": partial(split_cifar10, size=16),
    "omniglot-rotation": omniglot_rotation,
    "five-datasets": five_datasets,
    "letters": letters,
    "tabular": tabular,
    "flights": flights,
    "exercises": exercises,
    "sentiment": sentiment,
}


def load(name, data_dir=None, n_tasks=None):
    """Return a stream by its name.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    data_dir : str, optional
        Folder of the files (benchmarks/README.md); those of packages need none.
    n_tasks : int, optional
        How many of its tasks are made.
    """
    if name not in STREAMS:
        raise ValueError(f"There is no stream {name!r}; choose from {', '.join(STREAMS)}.")
    called, makers, network, *more = STREAMS[name](data_dir)
    if n_tasks is not None and n_tasks > len(makers):
        raise ValueError(f"{called} has {len(makers)} tasks, not {n_tasks}.")
    tasks = tuple(make() for make in makers[:n_tasks])
    return Stream(called, tasks, network, **dict(*more))
