import matplotlib

matplotlib.use("Agg")

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from sklearn_halrp.inspection import (
    AccuracyMatrixDisplay,
    GrowthDisplay,
    RanksDisplay,
    SpectrumDisplay,
)
from tests.conftest import make_classifier

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


def test_predictions_are_drawn_as_the_shares_that_are_right():
    y_true, ids = np.array([0, 1, 1, 0, 5, 6]), ["b"] * 4 + ["a"] * 2
    y_preds = [[0, 0, 1, 0], [1, 1, 1, 0, 5, 5]]
    display = AccuracyMatrixDisplay.from_predictions(y_true, y_preds, task_id=ids, colorbar=False)
    np.testing.assert_array_equal(display.im_.get_array().compressed(), [3 / 4, 3 / 4, 1 / 2])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["b", "a"]


@pytest.mark.parametrize("n_tasks", SIZES)
def test_growth_adds_up(n_tasks):
    rng = np.random.RandomState(1)
    growth = {t: float(rng.rand() / 10) * (t > 0) for t in range(n_tasks)}
    display = GrowthDisplay(growth).plot()
    bars = list(display.bars_)
    assert len(bars) == n_tasks
    np.testing.assert_allclose([bar.get_height() for bar in bars], list(growth.values()))
    tops = [bar.get_y() + bar.get_height() for bar in bars]
    np.testing.assert_allclose(tops, np.cumsum(list(growth.values())))
    assert f"{tops[-1]:.1%}" in display.ax_.get_title(loc="left")
    assert_labels_do_not_overlap(display.ax_.xaxis)


@pytest.mark.parametrize("n_tasks", SIZES)
@pytest.mark.parametrize("n_layers", [3, 40])
def test_ranks_are_in_their_places(n_tasks, n_layers):
    rng = np.random.RandomState(1)
    layers = [f"block.{i}.conv.weight" for i in range(n_layers)]
    ranks = {t: {n: int(rng.randint(0, 50)) for n in layers} for t in range(n_tasks)}
    display = RanksDisplay(ranks).plot()
    table = np.array([[ranks[t][n] for t in range(n_tasks)] for n in layers])
    assert np.array_equal(display.im_.get_array().filled(0), table)
    written = {text.get_position()[::-1]: text.get_text() for text in display.text_}
    few = n_tasks <= 12 and n_layers <= 12
    assert written == ({p: str(v) for p, v in np.ndenumerate(table) if v} if few else {})
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        assert_labels_do_not_overlap(axis)


def test_many_tasks_do_not_smear_the_layers_into_each_other():
    ranks = {t: {"a.weight": 1, "b.weight": 100, "c.weight": 1} for t in range(200)}
    display = RanksDisplay(ranks).plot()
    display.figure_.canvas.draw()
    box = display.ax_.get_window_extent()
    from_below = np.asarray(display.figure_.canvas.buffer_rgba())[::-1]
    column = from_below[int(box.y0) + 2 : int(box.y1) - 2, int(box.x0 + box.x1) // 2]
    assert len(np.unique(column, axis=0)) == 2


def test_a_classifier_is_drawn_into_given_axes(learned):
    figure, axes = plt.subplots(1, 2)
    ranks = RanksDisplay.from_estimator(learned, ax=axes[0])
    growth = GrowthDisplay.from_estimator(learned, ax=axes[1])
    assert ranks.figure_ is growth.figure_ is figure
    assert [bar.get_height() for bar in growth.bars_] == list(learned.growth_.values())
    found = {text.get_position(): text.get_text() for text in ranks.text_}
    assert found[1, 0] == str(next(iter(learned.ranks_[2].values())))
    for ax in axes:
        assert [label.get_text() for label in ax.get_xticklabels()] == ["first", "2", "third"]


def test_long_names_keep_their_ends_and_leave_room_for_the_picture():
    names = [f"{'encoder.' * 9}layer.{i}.query" for i in range(3)]
    display = AccuracyMatrixDisplay(np.eye(3), names).plot()
    shown = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert all(len(text) <= 28 and "…" in text for text in shown)
    assert [text[-13:] for text in shown] == [name[-13:] for name in names]
    display.figure_.canvas.draw()
    assert display.ax_.get_window_extent().width > display.figure_.bbox.width / 4


def test_classifiers_inside_pipelines_and_searches_are_drawn(learned):
    search = GridSearchCV(GaussianNB(), {})
    search.best_estimator_ = make_pipeline("passthrough", learned)
    for model in (search, search.best_estimator_):
        assert RanksDisplay.from_estimator(model).ranks == learned.ranks_
        assert GrowthDisplay.from_estimator(model).growth == learned.growth_
        layers = SpectrumDisplay.from_estimator(model, 2).layers
        assert layers == learned.report_[2]["layers"]
    for display in (RanksDisplay, GrowthDisplay):
        with pytest.raises(TypeError, match=r"fitted ContinualClassifier.*got a GridSearchCV"):
            display.from_estimator(GridSearchCV(learned, {}))
        with pytest.raises(NotFittedError):
            display.from_estimator(make_pipeline("passthrough", make_classifier()))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 tasks need as many task_ids; got 2"):
        AccuracyMatrixDisplay(np.eye(3), ["a", "b"]).plot()
    with pytest.raises(ValueError, match="n_tasks, n_tasks"):
        AccuracyMatrixDisplay(np.ones((2, 3))).plot()
    for display in (GrowthDisplay({}), RanksDisplay({})):
        with pytest.raises(ValueError, match="no tasks"):
            display.plot()


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
    legend = display.ax_.get_legend()
    named = [name.removesuffix(".weight") for name in layers]
    if n_layers > 12:
        assert legend is None
        (bar,) = set(display.figure_.axes) - {display.ax_}
        assert [text.get_text() for text in bar.get_yticklabels()] == [named[0], named[-1]]
    else:
        assert [text.get_text().split(":")[0] for text in legend.get_texts()] == named


def test_spectra_of_a_classifier(learned):
    display = SpectrumDisplay.from_estimator(learned, 2)
    assert list(display.lines_) == list(learned.ranks_[2])
    with pytest.raises(ValueError, match=r"'first' has no spectra; these have: \[2, 'third'\]"):
        SpectrumDisplay.from_estimator(learned, "first")
    with pytest.raises(ValueError, match="no layers"):
        SpectrumDisplay({}).plot()
