"""The paper's experiments as data, and the command that runs them."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks import paper
from benchmarks.networks import AlexNet, LeNet
from benchmarks.protocols import PROTOCOLS
from tests.test_readers import write_mnist

SIZES = {"split-tiny-imagenet": 64}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols(name):
    protocol = PROTOCOLS[name]
    assert list(protocol.orders) == list("ABCDE")
    assert protocol.orders["A"] == list(range(protocol.n_tasks))
    assert len({tuple(order) for order in protocol.orders.values()}) == 5
    for order in protocol.orders.values():
        assert sorted(order) == list(range(protocol.n_tasks))
    clf = protocol.classifier(seed=3)
    assert clf.growth_budget * (protocol.n_tasks - 1) == pytest.approx(protocol.growth)
    assert clf.net.max_epochs > clf.warmup_epochs
    network = protocol.network(n_classes=7).eval()
    size = SIZES.get(protocol.stream, 32)
    channels = 1 if protocol.stream == "omniglot-rotation" else 3
    with torch.no_grad():
        assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


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
    words += ["--tasks", "2"]
    runs = paper.main([*words, "--data-dir", str(tmp_path), "--json", str(file)])
    shown = capsys.readouterr().out
    assert "permuted-mnist" in shown
    assert "order C seed 0: ACC" in shown
    written = json.loads(file.read_text())
    assert written["runs"] == runs
    assert written["about"]["tasks"] == 2
    for run in runs:
        assert run["accuracy"] == run["accuracy when learned"]
        assert run["BWT"] == 0
        assert run["ACC"] == pytest.approx(np.mean(run["accuracy"]))
        first, second = run["key"]["tasks"]
        assert run["growth"][first] == 0
        assert 0 < run["growth"][second] <= 0.6 / 9
    assert runs[0]["key"]["tasks"] == runs[1]["key"]["tasks"][::-1] == [0, 1]
    difference = np.abs(np.subtract(*(run["accuracy"] for run in runs)))
    found = paper.disparity(runs)
    assert found["AOPD"] == pytest.approx(difference.mean())
    assert found["MOPD"] == pytest.approx(difference.max())
    assert f"MOPD {100 * difference.max():.2f}" in shown
    monkeypatch.setattr(paper, "learn", None)  # what is in the file is not run again
    assert paper.main([*words, "--data-dir", str(tmp_path), "--json", str(file)]) == runs


def test_orders_keep_what_is_left_of_them(tmp_path, monkeypatch):
    seen = []

    def learn(protocol, stream, order, seed, *rest):
        seen.append((order, seed))
        return {"accuracy": [0.5] * 3, "ACC": 0.5, "BWT": 0.0, "growth": [0.0] * 3}

    monkeypatch.setattr(paper, "learn", learn)
    write_mnist(tmp_path / "mnist")
    words = ["permuted-mnist", "--data-dir", str(tmp_path), "--tasks", "3", "--seeds", "2"]
    paper.main([*words, "--orders", "C"])
    order = PROTOCOLS["permuted-mnist"].orders["C"]
    expected = sorted(range(3), key=order.index)
    assert seen == [(expected, 0), (expected, 1)]


def test_disparity_is_that_of_accuracies_averaged_over_seeds():
    runs = [
        {"key": {"order": order, "seed": seed}, "accuracy": accuracy}
        for order, seed, accuracy in [
            ("A", 0, [0.5, 0.9]),
            ("A", 1, [0.7, 0.7]),
            ("B", 0, [0.5, 0.8]),
            ("B", 1, [0.5, 0.8]),
        ]
    ]
    found = paper.disparity(runs)  # of 60, 80 and 50, 80 per cent
    assert found == {"AOPD": pytest.approx(0.05), "MOPD": pytest.approx(0.1)}
    assert paper.disparity(runs[:2]) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cifar100-splits"], r"Found none of cifar-100-python, cifar-100-python\.tar\.gz"),
        (["cifar100"], "invalid choice"),
        (["permuted-mnist", "--rows", "0"], "has to be at least 1"),
        (["permuted-mnist", "--orders", "F"], "invalid choice"),
    ],
)
def test_errors_say_what_to_do(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit):
        paper.main([*words, "--data-dir", str(tmp_path)])
    assert re.search(message, capsys.readouterr().err)
