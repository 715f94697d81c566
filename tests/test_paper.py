"""The paper's experiments as data, and the command that runs them."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks import paper
from benchmarks.methods import Training
from benchmarks.methods._method import train
from benchmarks.networks import AlexNet, LeNet
from benchmarks.protocols import PROTOCOLS
from benchmarks.running import summary
from tests.test_readers import write_mnist


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols(name):
    protocol = PROTOCOLS[name]
    assert list(protocol.orders) == list("ABCDE")
    assert protocol.orders["A"] == list(range(protocol.n_tasks))
    assert len({tuple(order) for order in protocol.orders.values()}) == 5
    for order in protocol.orders.values():
        assert sorted(order) == list(range(protocol.n_tasks))
    settings = protocol.published(protocol.n_tasks)
    assert settings["growth_budget"] * (protocol.n_tasks - 1) == pytest.approx(protocol.growth)
    assert protocol.training().epochs > settings["warmup_epochs"]
    network = protocol.network(n_classes=7).eval()
    channels = 1 if protocol.stream == "omniglot-rotation" else 3
    with torch.no_grad():
        assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 7)


# As the paper has them: epochs, batch, rate, warm-up, alpha, highest rank, lambda_1, lambda_2,
# growth.
SETTINGS = {
    "cifar100-splits": (20, 128, 1e-3, 1, 0.9, 100, 1e-4, 1e-4, 0.2),
    "cifar100-superclass": (20, 128, 1e-3, 1, 0.9, 100, 1e-4, 1e-4, 0.2),
    "permuted-mnist": (12, 128, 1e-3, 1, 0.9, 100, 1e-6, 1e-3, 0.6),
    "five-datasets-alexnet": (12, 128, 1e-3, 1, 0.9, 100, 1e-6, 1e-4, 0.6),
    "five-datasets-resnet18": (12, 128, 1e-3, 3, 0.95, 120, 1e-6, 1e-4, 0.6),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_those_of_the_paper(name):
    protocol = PROTOCOLS[name]
    training, published = protocol.training(), protocol.published(protocol.n_tasks)
    names = ["warmup_epochs", "approximation_rate", "max_rank", "l1_penalty", "l2_penalty"]
    assert (
        training.epochs,
        training.batch_size,
        training.lr,
        *(published[name] for name in names),
        protocol.growth,
    ) == SETTINGS[name]


def test_alexnet_refuses_images_that_are_too_small():
    with torch.no_grad():
        assert AlexNet(3, 1, 19).eval()(torch.zeros(1, 1, 19, 19)).shape == (1, 3)
    with pytest.raises(ValueError, match="size=18"):
        AlexNet(3, 1, 18)


def test_a_paper_table(tmp_path, capsys, monkeypatch):
    small = {"network": partial(LeNet, channels=1, size=8), "changes": {"size": 8, "channels": 1}}
    monkeypatch.setitem(PROTOCOLS, "small", replace(PROTOCOLS["permuted-mnist"], **small))
    write_mnist(tmp_path / "mnist", n=(80, 30))
    file = tmp_path / "found.json"
    words = ["small", "--orders", "A", "C", "--seeds", "1", "--epochs", "2", "--rows", "40"]
    words += ["--tasks", "2", "--methods", "HALRP, published", "EWC"]
    runs = paper.main([*words, "--data-dir", str(tmp_path), "--json", str(file)])
    shown = capsys.readouterr().out
    written = json.loads(file.read_text())
    assert [run for run in written["runs"] if "order" in run["key"]] == runs
    assert 6 <= sum("tuning" in run["key"] for run in written["runs"]) <= 10  # of EWC
    assert written["about"]["tasks"] == 2
    assert written["command"].startswith("python -m benchmarks.paper small --orders A C")
    assert str(tmp_path) not in written["command"]
    ours = [run for run in runs if run["key"]["method"] == "HALRP, published"]
    assert [run["key"]["order"] for run in ours] == [[0, 1], [1, 0]]
    for run in ours:
        assert summary(run)["BWT"] == 0
        assert run["key"]["settings"]["l2_penalty"] == 1e-3
        assert run["numbers"][1] / run["numbers"][0] - 1 <= 0.6 / 9
    found = paper.found(runs)["HALRP, published"]
    natural, turned = (np.array(run["accuracy"][-1]) for run in ours)
    difference = np.abs(natural - turned[::-1])
    assert found["AOPD"] == pytest.approx(difference.mean())
    assert found["MOPD"] == pytest.approx(difference.max())
    assert f"{100 * difference.max():.2f}" in shown
    assert "| EWC " in shown
    # What is in the file is not run again.
    monkeypatch.setattr("benchmarks.compare.learn_stream", None)
    assert paper.main([*words, "--data-dir", str(tmp_path), "--json", str(file)]) == runs


def test_orders_keep_what_is_left_of_them(tmp_path, monkeypatch):
    seen = []

    def learn(stream, method, *rest):
        seen.append([task.name for task in stream.tasks])
        return {
            "accuracy": [[0.5] * 3] * 3,
            "bytes": [1] * 3,
            "network": 1,
            "seconds": [0.0] * 3,
        }

    monkeypatch.setattr("benchmarks.compare.learn_stream", learn)
    write_mnist(tmp_path / "mnist")
    words = ["permuted-mnist", "--data-dir", str(tmp_path), "--tasks", "3", "--seeds", "2"]
    paper.main([*words, "--orders", "C"])
    order = PROTOCOLS["permuted-mnist"].orders["C"]
    stream = PROTOCOLS["permuted-mnist"].load(str(tmp_path))
    expected = [stream.tasks[number].name for number in sorted(range(3), key=order.index)]
    assert seen == [expected, expected]


def test_disparity_is_that_of_accuracies_averaged_over_seeds():
    runs = [
        {
            "key": {"method": "m", "name": name, "order": order, "seed": seed},
            "accuracy": [[0, 0], accuracy],
            "bytes": [1, 1],
            "network": 1,
            "seconds": [0, 0],
        }
        for name, order, seed, accuracy in [
            ("A", [0, 1], 0, [0.5, 0.9]),
            ("A", [0, 1], 1, [0.7, 0.7]),
            ("B", [1, 0], 0, [0.8, 0.5]),
            ("B", [1, 0], 1, [0.8, 0.5]),
        ]
    ]
    found = paper.found(runs)["m"]  # of 60, 80 and 50, 80 per cent
    assert (found["AOPD"], found["MOPD"]) == (pytest.approx(0.05), pytest.approx(0.1))
    assert "AOPD" not in paper.found(runs[:2])["m"]


def test_the_rate_decays_once_over_the_epochs_of_a_task():
    protocol = PROTOCOLS["cifar100-splits"]  # 4,000 rows to learn a task, batches of 128
    assert protocol.training().decay ** (4000 / 128) == pytest.approx(0.95)
    seen = []

    def step(rows):
        seen.append(None)
        return (weight**2).sum()

    weight = torch.nn.Parameter(torch.ones(1))
    training = Training(epochs=1, batch_size=2, lr=0.1, decay=0.0)
    train(step, [weight], 6, training)  # after the first batch nothing moves any more
    assert len(seen) == 3
    assert weight.item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cifar100-splits"], r"no CIFAR100 "),
        (["cifar100"], "invalid choice"),
        (["permuted-mnist", "--rows", "0"], "takes a number from 1 on"),
        (["permuted-mnist", "--orders", "F"], "invalid choice"),
        (["permuted-mnist", "--methods", "GEM"], 'There is no method "GEM"'),
    ],
)
def test_errors_say_what_to_do(tmp_path, capsys, words, message):
    write_mnist(tmp_path / "mnist")
    with pytest.raises(SystemExit):
        paper.main([*words, "--data-dir", str(tmp_path)])
    assert re.search(message, capsys.readouterr().err)
