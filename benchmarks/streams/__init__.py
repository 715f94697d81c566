"""Streams of tasks that are ready to learn, by name.

    load("permuted-mnist", data_dir, n_tasks=5, rows=Rows(500, 100, 500))

Every stream is the same for the same arguments. Where rows are drawn, `Rows.split_seed` draws
others. Images are standardised by the mean and deviation of their data set's training half.
"""

import inspect
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
from benchmarks.streams.tasks import Recipes, Stream, Task

FEW = Rows(300, 80, 150)
PAIRS = Rows(1600, 400, 1000)  # 800, 200 and 500 of each of two classes
SOME = Rows(2000, 500, 2000)
ALL = Rows()
# Which of the 20 superclasses of CIFAR-100 a class belongs to; torchvision does not say.
SUPERCLASS = np.array([
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15,
    3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4,
    2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
    16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
])  # fmt: skip

__all__ = ["STREAMS", "Rows", "Stream", "Task", "load"]


def halved(X, y, share=0.2, seed=0):
    """Return rows without halves of their own as halves, the second with this share."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=share, stratify=y, random_state=seed)
    return Halves((X, y), (X_test, y_test))


def drawings(images, labels, n_test=4, seed=0):
    """Return the drawings of Omniglot as halves: some of each character's for testing."""
    share = n_test / np.bincount(labels).max()
    return halved(images, labels, share, seed)


def on_images(name, tasks, size, channels):
    """Return a stream of images with a LeNet."""
    return Stream(name, tasks, partial(LeNet, channels=channels, size=size))


def digits(data_dir=None, download=False, n_tasks=5, rows=FEW):
    """Permutations of scikit-learn's digits, 1x8x8; needs no files."""
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)
    tasks = builders.permuted(halved(images, labels), n_tasks, rows, 8, 1)
    return on_images("digits", tasks, 8, 1)


def permuted_mnist(data_dir, download=False, n_tasks=10, rows=SOME, size=16, channels=1):
    """MNIST with all values permuted, each task with rows of its own."""
    halves = readers.mnist(data_dir, download)
    tasks = builders.permuted(halves, n_tasks, rows, size, channels)
    return on_images("permuted-mnist", tasks, size, channels)


def rotated_fashion(data_dir, download=False, n_tasks=10, rows=SOME, size=16, channels=1):
    """Fashion-MNIST turned by equal shares of a full turn."""
    halves = readers.fashion_mnist(data_dir, download)
    tasks = builders.rotated(halves, n_tasks, rows, size, channels)
    return on_images("rotated-fashion", tasks, size, channels)


def by_classes(name, halves, groups, rows, size, channels=3):
    """Return a stream of images by groups of classes."""
    change = partial(prepare, size=size, channels=channels, scale=moments(halves.train[0]))
    return on_images(name, builders.split(halves, groups, rows, change), size, channels)


def split_cifar10(data_dir, download=False, classes_per_task=2, rows=PAIRS, size=32):
    """CIFAR-10 by classes; the stream's name says so where the images went through JPEG."""
    halves, kind = readers.cifar10(data_dir, download)
    groups = builders.in_groups(10, classes_per_task)
    return by_classes(f"split-cifar10{kind}", halves, groups, rows, size)


def split_cifar100(data_dir, download=False, classes_per_task=10, rows=ALL, size=32):
    """CIFAR-100 by classes as they come."""
    halves = readers.cifar100(data_dir, download)
    groups = builders.in_groups(100, classes_per_task)
    return by_classes("split-cifar100", halves, groups, rows, size)


def superclass_cifar100(data_dir, download=False, rows=ALL, size=32):
    """CIFAR-100 by its 20 superclasses of 5 classes."""
    halves = readers.cifar100(data_dir, download)
    groups = {str(group): np.flatnonzero(group == SUPERCLASS) for group in range(20)}
    return by_classes("superclass-cifar100", halves, groups, rows, size)


def _first_characters(data_dir, download, n_classes=20, size=28):
    images, labels = readers.omniglot(data_dir, download, size)
    inside = labels < n_classes
    return drawings(images[inside], labels[inside])


IMAGES = {
    "mnist": readers.mnist,
    "fashion": readers.fashion_mnist,
    "usps": readers.usps,
    "svhn": readers.svhn,
    "notmnist": readers.notmnist,
    "omniglot": _first_characters,
}


def five_datasets(
    data_dir,
    download=False,
    sets=("cifar10", "mnist", "usps", "fashion", "omniglot"),
    rows=SOME,
    size=16,
):
    """One task per data set, all in three channels and one size.

    The paper has svhn and notmnist in the places of usps and omniglot (20 characters).
    """
    found, kinds = {}, ""
    for name in sets:
        if name == "cifar10":
            halves, kinds = readers.cifar10(data_dir, download)
            found[name + kinds] = halves
        elif name in IMAGES:
            found[name] = IMAGES[name](data_dir, download)
        else:
            raise ValueError(f"There is no data set {name!r}; choose from cifar10, {list(IMAGES)}.")
    tasks = builders.several(found, rows, size, 3)
    return on_images(f"five-datasets{kinds}", tasks, size, 3)


def omniglot_rotation(
    data_dir, download=False, n_tasks=None, classes_per_task=12, n_test=4, rows=ALL, size=16
):
    """Characters of Omniglot, each turned by 0, 90, 180 and 270 degrees: four classes.

    Of the 20 drawings of a class, `n_test` are for testing. A last task with fewer classes than
    the others is left out.
    """
    images, labels = readers.omniglot(data_dir, download, size)
    halves = drawings(images, labels, n_test, rows.split_seed)
    halves = Halves(*(builders.with_rotations(*half) for half in halves))
    n_classes = 4 * (labels.max() + 1)
    groups = builders.in_groups(n_classes - n_classes % classes_per_task, classes_per_task)
    if n_tasks is not None:
        groups = dict(list(groups.items())[:n_tasks])
    return by_classes("omniglot-rotation", halves, groups, rows, size, channels=1)


def letters(data_dir=None, download=False, classes_per_task=2, rows=ALL):
    """Letters by 16 measures of their shape, a data set of the UCI repository."""
    X, y = readers.table("letter", data_dir)
    halves = halved(X, y, seed=rows.split_seed)
    change = StandardScaler().fit(halves.train[0]).transform
    tasks = builders.split(halves, builders.in_groups(26, classes_per_task), rows, change)
    return Stream("letters", tasks, partial(MLP, n_features=16, hidden=256))


def tabular(
    data_dir=None,
    download=False,
    sets=("letter", "penbased", "satimage", "optdigits", "texture", "segment"),
    rows=SOME,
    n_features=16,
):
    """Tables of different meaning, brought to one number of columns.

    letter and penbased have 16 columns and keep them. Of the others the columns that vary are
    standardised and the 16 main components are taken, by the training half alone; a table with
    fewer columns would get columns of zeros.
    """

    def recipe(name, number):
        X, y = readers.table(name, data_dir)
        halves = halved(X, y, seed=rows.split_seed)
        change = same_columns(halves.train[0], n_features)
        return builders.make_task(name, *halves, rows, number, change)

    tasks = Recipes(partial(recipe, name, number) for number, name in enumerate(sets))
    return Stream("tabular", tasks, partial(MLP, n_features=n_features, hidden=256))


def same_columns(X, n_columns):
    """Return a function that brings rows like X to a number of columns of variance one."""
    first = StandardScaler().fit(X)
    n_components = min(n_columns, X.shape[1])
    steps = [first.transform]
    if X.shape[1] > n_columns:
        main = PCA(n_components, svd_solver="full").fit(first.transform(X))
        second = StandardScaler().fit(main.transform(first.transform(X)))
        steps += [main.transform, second.transform]

    def change(rows):
        for step in steps:
            rows = step(rows)
        padding = ((0, 0), (0, n_columns - n_components))
        return np.pad(rows, padding).astype(np.float32)

    return change


STREAMS = {
    "digits": digits,
    "permuted-mnist": permuted_mnist,
    "permuted-mnist-32": partial(permuted_mnist, size=32, channels=3),
    "rotated-fashion": rotated_fashion,
    "split-cifar10": split_cifar10,
    "split-cifar100": split_cifar100,
    "superclass-cifar100": superclass_cifar100,
    "five-datasets": five_datasets,
    "omniglot-rotation": omniglot_rotation,
    "letters": letters,
    "tabular": tabular,
}


def load(name, data_dir=None, download=False, lazily=False, **changes):
    """Return a stream by its name.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    data_dir : str, optional
        Folder of the files (benchmarks/README.md); digits, letters and tabular need none.
    download : bool
        Whether torchvision fetches what is missing.
    lazily : bool
        Whether a task is made anew whenever it is asked for, which takes less memory.
    **changes
        Other values for the arguments of the stream, such as ``n_tasks``, ``size``, ``rows``.
    """
    if name not in STREAMS:
        raise ValueError(f"There is no stream {name!r}; choose from {', '.join(STREAMS)}.")
    known = list(inspect.signature(STREAMS[name]).parameters)[2:]
    if unknown := [key for key in changes if key not in known]:
        raise ValueError(f"{name} has no {', '.join(unknown)}; it takes {', '.join(known)}.")
    stream = STREAMS[name](data_dir, download, **changes)
    return stream if lazily else stream.made()
