import matplotlib

matplotlib.use("Agg")

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_halrp.inspection import AccuracyMatrixDisplay, GrowthDisplay, SpectrumDisplay

SIZES = [1, 3, 20, 200]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def random_matrix(n_tasks):
    matrix = np.random.RandomState(0).rand(n_tasks, n_tasks)
    matrix[np.triu_indices(n_tasks, 1)] = np.nan
    return matrix


def assert_labels_do_not_overlap(axis):
    """Compare the drawn boxes of neighbouring tick labels."""
    figure = axis.get_figure()
    figure.canvas.draw()
    labels = [label for label in axis.get_ticklabels() if label.get_text()]
    sizes = [label.get_fontsize() * figure.dpi / 72 for label in labels]
    # A label is placed at its tick; turned or not, neighbours must be a line apart.
    along = 0 if axis.axis_name == "x" else 1
    places = [axis.axes.transData.transform((t, t))[along] for t in axis.get_ticklocs()]
    assert len(places) == len(labels)
    assert all(abs(b - a) >= 0.9 * max(sizes) for a, b in itertools.pairwise(places))


@pytest.mark.parametrize("n_tasks", SIZES)
def test_the_accuracy_matrix_shows_what_is_below_the_diagonal(n_tasks):
    matrix = random_matrix(n_tasks)
    names = [f"a task named {i}" for i in range(n_tasks)]
    display = AccuracyMatrixDisplay(matrix, names).plot()
    shown = display.im_.get_array()
    assert np.array_equal(shown.mask, ~np.tri(n_tasks, dtype=bool))
    np.testing.assert_array_equal(shown.compressed(), matrix[~np.isnan(matrix)])
    assert len(display.text_) == (n_tasks * (n_tasks + 1) // 2 if n_tasks <= 12 else 0)
    for text in display.text_:
        column, row = (int(v) for v in text.get_position())
        assert text.get_text() == f"{100 * matrix[row, column]:.1f}"
    assert display.im_.get_clim() == (0, 1)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == [names[int(t)] for t in display.ax_.get_yticks()]
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        assert_labels_do_not_overlap(axis)


@pytest.mark.parametrize("n_tasks", SIZES)
def test_growth_adds_up_and_ranks_are_in_their_places(n_tasks):
    rng = np.random.RandomState(1)
    layers = ["conv1.weight", "conv2.weight", "fc.weight"]
    ranks = {t: {n: int(rng.randint(0, 50)) for n in layers} for t in range(n_tasks)}
    growth = {t: float(rng.rand() / 10) * (t > 0) for t in range(n_tasks)}
    display = GrowthDisplay(ranks, growth).plot()
    table = np.array([[ranks[t][n] for t in range(n_tasks)] for n in layers])
    assert np.array_equal(display.im_.get_array().filled(0), table)
    bars = list(display.bars_)
    assert len(bars) == n_tasks
    np.testing.assert_allclose([bar.get_height() for bar in bars], list(growth.values()))
    tops = [bar.get_y() + bar.get_height() for bar in bars]
    np.testing.assert_allclose(tops, np.cumsum(list(growth.values())))
    assert f"{tops[-1]:.1%}" in display.axes_[1].get_title(loc="left")
    for ax in display.axes_:
        assert_labels_do_not_overlap(ax.xaxis)


def test_many_tasks_do_not_smear_the_layers_into_each_other():
    ranks = {t: {"a.weight": 1, "b.weight": 100, "c.weight": 1} for t in range(200)}
    display = GrowthDisplay(ranks, dict.fromkeys(ranks, 0.1)).plot()
    display.figure_.canvas.draw()
    box = display.axes_[0].get_window_extent()
    from_below = np.asarray(display.figure_.canvas.buffer_rgba())[::-1]
    column = from_below[int(box.y0) + 2 : int(box.y1) - 2, int(box.x0 + box.x1) // 2]
    assert len(np.unique(column, axis=0)) == 2


def test_a_classifier_is_drawn_into_given_axes(learned):
    _, axes = plt.subplots(1, 2)
    display = GrowthDisplay.from_estimator(learned, axes=axes)
    assert display.figure_ is axes[0].figure
    assert [bar.get_height() for bar in display.bars_] == list(learned.growth_.values())
    labels = [label.get_text() for label in axes[1].get_xticklabels()]
    assert labels == ["first", "2", "third"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 tasks need as many task_ids; got 2"):
        AccuracyMatrixDisplay(np.eye(3), ["a", "b"]).plot()
    with pytest.raises(ValueError, match="n_tasks, n_tasks"):
        AccuracyMatrixDisplay(np.ones((2, 3))).plot()
    with pytest.raises(ValueError, match="same tasks"):
        GrowthDisplay({"a": {}}, {"b": 0.0}).plot()


@pytest.mark.parametrize("n_layers", [1, 5, 40])
def test_spectra_show_what_is_kept(n_layers):
    rng = np.random.RandomState(0)
    layers = {
        f"layer {i}.weight": {"spectrum": np.sort(rng.rand(30))[::-1].tolist(), "rank": i % 7}
        for i in range(n_layers)
    }
    display = SpectrumDisplay(layers).plot()
    for name, found in layers.items():
        rank = found["rank"]
        assert display.lines_[name].get_ydata().tolist() == found["spectrum"][:rank]
        if rank:
            assert display.cuts_[name].get_xdata() == [rank]
            assert display.cuts_[name].get_ydata() == [found["spectrum"][rank - 1]]
        else:
            assert name not in display.cuts_
    assert (display.ax_.get_legend() is None) == (n_layers > 12)


def test_spectra_of_a_classifier(learned):
    display = SpectrumDisplay.from_estimator(learned, 2)
    assert list(display.lines_) == list(learned.ranks_[2])
    with pytest.raises(ValueError, match=r"'first' has no spectra; these have: \[2, 'third'\]"):
        SpectrumDisplay.from_estimator(learned, "first")
    with pytest.raises(ValueError, match="no layers"):
        SpectrumDisplay({}).plot()
