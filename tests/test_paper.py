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
    words = ["small", "--orders", "A", "B", "--seeds", "1", "--epochs", "2", "--rows", "40"]
    words += ["--tasks", "2"]
    runs = paper.main([*words, "--data-dir", str(tmp_path), "--json", str(file)])
    shown = capsys.readouterr().out
    assert "permuted-mnist" in shown
    assert "order B seed 0: ACC" in shown
    written = json.loads(file.read_text())
    assert written["runs"] == runs
    assert str(tmp_path) not in file.read_text().replace(str(file), "")
    assert written["command"].startswith("python -m benchmarks.paper small")
    assert set(written["versions"]) >= {"python", "torch", "numpy", "sklearn", "skorch"}
    for run in runs:
        assert run["accuracy"] == run["accuracy when learned"]
        assert run["BWT"] == 0
        assert run["ACC"] == pytest.approx(np.mean(run["accuracy"]))
        first = run["tasks"][0]
        assert run["growth"][first] == 0
        assert 0 < run["growth"][1 - first] <= 0.6 / 9
    difference = np.abs(np.subtract(*(run["accuracy"] for run in runs)))
    assert written["disparity"]["AOPD"] == pytest.approx(difference.mean())
    assert written["disparity"]["MOPD"] == pytest.approx(difference.max())


def test_orders_keep_what_is_left_of_them(tmp_path, monkeypatch):
    seen = []

    def run(protocol, stream, order, seed, epochs):
        seen.append((order, seed))
        return {"accuracy": [0.5] * 3, "ACC": 0.5, "BWT": 0.0, "growth": [0.0] * 3}

    monkeypatch.setattr(paper, "run", run)
    write_mnist(tmp_path / "mnist")
    words = ["permuted-mnist", "--data-dir", str(tmp_path), "--tasks", "3", "--seeds", "2"]
    paper.main([*words, "--orders", "C"])
    order = PROTOCOLS["permuted-mnist"].orders["C"]
    expected = sorted(range(3), key=order.index)
    assert seen == [(expected, 0), (expected, 1)]


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
