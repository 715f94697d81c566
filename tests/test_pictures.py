"""The pictures of the page draw the numbers of the files: marks are read back from the axes."""

import json
from collections import defaultdict

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks import page


@pytest.fixture(autouse=True)
def without_a_screen():
    plt.switch_backend("agg")


def drawn(kind, stream):
    """Return the axes of a picture of the committed results, and the runs of its file."""
    command, draw = page.SECTIONS[kind]
    runs = json.loads((page.RESULTS / f"{kind}-{stream}.json").read_text())["runs"]
    figure = draw(command.found(runs), stream)
    plt.close(figure)
    return figure.axes, runs


def by_method(runs, value, **chosen):
    """Return method -> what its runs without those of tuning give."""
    values = defaultdict(list)
    for run in runs:
        key = run["key"]
        if "tuning" not in key and all(key.get(k) == v for k, v in chosen.items()):
            values[key["method"]].append(value(run))
    return values


def curves(ax):
    """Return label -> x and y of the labelled lines."""
    return {
        line.get_label(): line.get_data()
        for line in ax.get_lines()
        if not line.get_label().startswith("_")
    }


def test_accuracy_against_bytes():
    (ax,), runs = drawn("compare", "letters")
    accuracy = by_method(runs, lambda run: 100 * np.mean(run["accuracy"][-1]))
    n_bytes = by_method(runs, lambda run: run["bytes"][-1] / 1e6)
    found = {one.get_label(): one.lines[0].get_data() for one in ax.containers}
    assert set(found) == set(accuracy)
    for name, (x, y) in found.items():
        assert x == pytest.approx(np.mean(n_bytes[name]))
        assert y == pytest.approx(np.mean(accuracy[name]))
        low, high = ax.get_ylim()
        assert low < y < high


def test_little_data():
    (ax,), runs = drawn("little_data", "letters")
    found = curves(ax)
    for rows in (10, 20, 40, 100, 400):
        final = by_method(runs, lambda run: 100 * np.mean(run["accuracy"][-1][6:]), rows=rows)
        assert set(found) == set(final)
        for name, (x, y) in found.items():
            (place,) = np.flatnonzero(np.isclose(x, rows))
            assert y[place] == pytest.approx(np.mean(final[name]))


def test_costs():
    (time, predicting, memory), runs = drawn("cost", "letters")
    names = [label.get_text() for label in time.get_yticklabels()]
    bars = [
        {n: b.get_width() for n, b in zip(names, ax.patches, strict=True)}
        for ax in (time, predicting, memory)
    ]
    expected = by_method(runs, lambda run: run["memory"] / 1e6)
    assert set(names) == set(expected)
    assert bars[0]["fine-tuning"] == bars[1]["fine-tuning"] == 1
    for name, values in expected.items():
        assert bars[2][name] == pytest.approx(np.median(values))
    plain = {run["key"]["round"]: run for run in runs if run["key"]["method"] == "fine-tuning"}
    ours = [run for run in runs if run["key"]["method"] == "EWC"]
    ratios = [run["predicting"] / plain[run["key"]["round"]]["predicting"] for run in ours]
    assert bars[1]["EWC"] == pytest.approx(np.median(ratios))


def test_ablations_draw_every_seed_or_say_how_far_below_it_is():
    (ax,), runs = drawn("ablations", "letters")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert set(names) == {run["key"]["variant"] for run in runs}
    later = defaultdict(dict)
    for run in runs:
        final = dict(zip(run["tasks"], run["accuracy"][-1], strict=True))
        bases = {one["tasks"][0] for one in runs}
        kept = [value for task, value in final.items() if task not in bases]
        later[run["key"]["variant"]][run["key"]["seed"]] = 100 * np.mean(kept)
    dots = {int(line.get_ydata()[0]): line for line in ax.get_lines() if line.get_marker() == "o"}
    written = {int(text.get_position()[1]): text.get_text() for text in ax.texts}
    for i, name in enumerate(names):
        expected = [value - later["defaults"][seed] for seed, value in later[name].items()]
        if i in dots:
            assert sorted(dots[i].get_xdata()) == pytest.approx(sorted(expected))
        else:
            assert written[i] == f"← {np.mean(expected):.1f}"
