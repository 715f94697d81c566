"""The methods of the library Avalanche, where it is installed."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.methods import Training
from benchmarks.networks import MLP
from benchmarks.running import learn_stream
from benchmarks.streams import load
from benchmarks.streams.tasks import Stream

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    library = pytest.importorskip("benchmarks.with_avalanche")

pytestmark = pytest.mark.filterwarnings("ignore")
TRAINING = Training(epochs=1, batch_size=32)
NAMES = ["fine-tuning", "EWC", "LwF", "replay, 50 rows", "replay, 200 rows"]


@pytest.fixture(scope="module")
def stream():
    return load("digits", n_tasks=2)


@pytest.fixture(scope="module")
def plain(stream):
    """The same rows, flat, for a network without norms."""

    def flat(part):
        return part[0].reshape(len(part[0]), -1), part[1]

    tasks = [
        type(task)(task.name, task.n_classes, flat(task.train), flat(task.valid), flat(task.test))
        for task in stream.tasks
    ]
    return Stream("plain", tuple(tasks), partial(MLP, n_features=64, hidden=32))


def learned(stream, name, **changes):
    one = library.contestants(stream)[f"{name} (Avalanche)"]
    method = one.with_settings(TRAINING, 0, {**one.settings()[0], **changes})(stream.network)
    for task in stream.tasks:
        method.learn(task)
    return method


def test_who_can_learn_what(stream, plain):
    assert list(library.contestants(stream)) == [f"{name} (Avalanche)" for name in NAMES]
    assert "PackNet (Avalanche)" in library.contestants(plain)
    assert list(library.contestants(stream, ["EWC (Avalanche)"])) == ["EWC (Avalanche)"]


@pytest.mark.parametrize("name", NAMES)
def test_result_has_the_form_of_the_others(stream, name):
    one = library.contestants(stream)[f"{name} (Avalanche)"]
    settings = one.settings()[0]
    result = learn_stream(stream, one.with_settings(TRAINING, 0, settings))
    assert result["accuracy"][0][1] is None
    assert min(result["accuracy"][0][0], *result["accuracy"][1]) > 0.2  # 0.1 by chance
    assert result["numbers"][1] > result["numbers"][0]
    again = learn_stream(stream, one.with_settings(TRAINING, 0, settings))
    assert again["accuracy"] == result["accuracy"]


def test_packnet_does_not_forget(plain):
    one = library.contestants(plain)["PackNet (Avalanche)"]
    training = Training(epochs=12, batch_size=32)
    matrix = learn_stream(plain, one.with_settings(training, 0, {**one.settings()[0]}))["accuracy"]
    assert matrix[0][0] == matrix[1][0] > 0.5


def test_a_penalty_without_end_keeps_the_first_task(plain):
    first = learned(plain.first(1), "EWC")
    held, free = (learned(plain, "EWC", strength=strength) for strength in (1e12, 0.0))
    name, X = plain.tasks[0].name, plain.tasks[0].test[0]
    agree = [np.mean(one.predict(name, X) == first.predict(name, X)) for one in (held, free)]
    assert agree[0] > agree[1]


def test_heads_of_other_tasks_stay_as_they_are(plain):
    """What our methods do too, and what momentum from an earlier task would spoil."""
    first, both = (learned(plain.first(n), "EWC") for n in (1, 2))
    heads = [one.model.heads.classifiers["0"].classifier.weight for one in (first, both)]
    assert torch.equal(*heads)


def test_replay_keeps_as_many_rows_of_each_task(stream):
    method = learned(stream, "replay, 50 rows")
    buffer = method.plugin.storage_policy.buffer
    assert sorted(row[-1] for row in buffer) == [0] * 50 + [1] * 50


def test_classes_that_a_task_has_not_are_masked(stream):
    method = learned(stream, "fine-tuning", n_outputs=20)
    X = torch.as_tensor(stream.tasks[0].test[0])
    out = method.model(X, torch.zeros(len(X), dtype=int))
    assert (out[:, 10:] == -1000).all()
