import copy
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sklearn_halrp import metrics
from sklearn_halrp.metrics import (
    accuracy_matrix,
    aopd,
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    growth,
    mopd,
    order_disparity,
)

NAN = np.nan

# Task 0 rises to 0.95 and ends at 0.70; task 1 falls from 0.80 to 0.60; task 2 gains.
WORKED = [
    [0.90, NAN, NAN, NAN],
    [0.95, 0.80, NAN, NAN],
    [0.85, 0.75, 0.50, NAN],
    [0.70, 0.60, 0.55, 0.99],
]
OF_A_MATRIX = [
    average_accuracy,
    forgetting,
    backward_transfer,
    lambda a: forward_transfer(a, np.zeros(len(a))),
]
OF_ORDERS = [order_disparity, aopd, mopd]

unit = st.floats(0, 1, width=32)
matrices = st.integers(1, 6).flatmap(lambda n: arrays(float, (n, n), elements=unit))
several_orders = arrays(
    float, st.tuples(st.integers(2, 5), st.integers(1, 5)), elements=st.floats(0, 1, width=32)
)


def test_average_accuracy_is_the_mean_of_the_last_row():
    assert average_accuracy(WORKED) == pytest.approx((0.70 + 0.60 + 0.55 + 0.99) / 4)


def test_forgetting_starts_from_the_best_a_task_ever_was():
    drops = [0.95 - 0.70, 0.80 - 0.60, 0.50 - 0.55]
    assert forgetting(WORKED) == pytest.approx(sum(drops) / 3)


def test_backward_transfer_starts_from_when_a_task_was_learned():
    changes = [0.70 - 0.90, 0.60 - 0.80, 0.55 - 0.50]
    assert backward_transfer(WORKED) == pytest.approx(sum(changes) / 3)


def test_forward_transfer_compares_with_networks_that_learned_one_task():
    single = [0.0, 0.70, 0.60, 0.90]
    gains = [0.80 - 0.70, 0.50 - 0.60, 0.99 - 0.90]
    assert forward_transfer(WORKED, single) == pytest.approx(sum(gains) / 3)


def test_where_avalanche_says_the_same_and_where_not():
    """What Avalanche 0.6's own classes gave at the end of the worked case, 100 rows in each task.

    With 100, 200, 300 and 400 rows StreamAccuracy gave 0.751: it weighs tasks by their rows.
    """
    stream_accuracy, stream_forgetting, stream_bwt = 0.71, 0.116667, -0.116667
    assert average_accuracy(WORKED) == pytest.approx(stream_accuracy)
    assert backward_transfer(WORKED) == pytest.approx(stream_bwt, abs=1e-6)
    # Task 0 was better after task 1 than when it was learned, by 0.05.
    assert forgetting(WORKED) == pytest.approx(stream_forgetting + 0.05 / 3, abs=1e-6)


def test_growth_is_what_came_on_top_of_the_first():
    assert growth([200]) == 0.0
    assert growth([200, 150, 500]) == pytest.approx(1.5)
    assert growth(100 * np.arange(1, 8)) == pytest.approx(6)  # seven networks of one size


def test_growth_is_the_sum_of_the_shares_of_a_classifier(learned):
    first = copy.deepcopy(learned)
    first.forget_task("third")
    both = first.n_numbers_
    first.forget_task(2)
    sizes = [first.n_numbers_, both, learned.n_numbers_]
    assert growth(sizes) == pytest.approx(sum(learned.growth_.values()))
    assert growth(sizes[:2]) == pytest.approx(learned.growth_[2])


@pytest.mark.parametrize("sizes", [[], 3.0, [[1.0, 2.0]], [0, 1], [1, -1], [1, NAN], [np.inf, 1]])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ValueError, match="positive, finite size"):
        growth(sizes)


def test_nothing_is_lost_or_gained_over_a_single_task():
    assert average_accuracy([[0.7]]) == 0.7
    assert forgetting([[0.7]]) == 0.0
    assert backward_transfer([[0.7]]) == 0.0
    assert forward_transfer([[0.7]], [0.1]) == 0.0


def test_order_disparity_is_the_range_over_orders_task_by_task():
    accuracies = [[0.9, 0.5, 0.8], [0.7, 0.5, 0.6], [0.8, 0.5, 0.9]]
    np.testing.assert_allclose(order_disparity(accuracies), [0.2, 0.0, 0.3])
    assert aopd(accuracies) == pytest.approx(0.5 / 3)
    assert mopd(accuracies) == pytest.approx(0.3)


@given(matrices, unit)
def test_what_lies_above_the_diagonal_is_not_used(a, other):
    changed = np.where(np.tri(len(a), dtype=bool), a, other)
    hidden = np.where(np.tri(len(a), dtype=bool), a, NAN)
    for metric in OF_A_MATRIX:
        assert metric(a) == metric(changed) == metric(hidden)


@given(matrices)
def test_forgetting_is_at_least_the_backward_transfer_lost(a):
    assert forgetting(a) >= -backward_transfer(a) - 1e-12


@given(arrays(float, st.integers(1, 6), elements=unit))
def test_accuracies_that_never_change_are_never_forgotten(final):
    a = np.tile(final, (len(final), 1))
    assert forgetting(a) == 0.0
    assert backward_transfer(a) == 0.0
    assert forward_transfer(a, final) == 0.0


@given(matrices)
def test_percentages_give_percentages(a):
    for metric in OF_A_MATRIX:
        assert metric(100 * a) == pytest.approx(100 * metric(a), abs=1e-9)


@given(several_orders, st.randoms())
def test_disparity_does_not_depend_on_how_the_orders_are_listed(accuracies, random):
    rows = random.sample(range(len(accuracies)), len(accuracies))
    np.testing.assert_array_equal(order_disparity(accuracies[rows]), order_disparity(accuracies))
    assert 0 <= aopd(accuracies) <= mopd(accuracies) + 1e-12


@pytest.mark.parametrize("metric", OF_A_MATRIX)
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([0.5, 0.5], r"shape \(n_tasks, n_tasks\).*got \(2,\)"),
        ([[0.5, 0.5]], r"got \(1, 2\)"),
        (np.zeros((0, 0)), r"got \(0, 0\)"),
        ([[0.5, NAN], [NAN, 0.5]], r"matrix\[1, 0\] is nan"),
        ([[np.inf, NAN], [0.5, 0.5]], r"matrix\[0, 0\] is inf"),
    ],
)
def test_a_bad_matrix_is_refused(metric, matrix, message):
    with pytest.raises(ValueError, match=message):
        metric(matrix)


@pytest.mark.parametrize("single", [[0.5], 0.5, [0.5, NAN]])
def test_bad_single_task_accuracies_are_refused(single):
    with pytest.raises(ValueError, match="one finite accuracy per task, 2 in all"):
        forward_transfer([[0.5, NAN], [0.5, 0.5]], single)


@pytest.mark.parametrize("metric", OF_ORDERS)
@pytest.mark.parametrize("accuracies", [[0.5, 0.5], [[0.5, 0.5]], np.zeros((2, 0))])
def test_orders_of_the_wrong_shape_are_refused(metric, accuracies):
    with pytest.raises(ValueError, match="at least 2 orders"):
        metric(accuracies)


@pytest.mark.parametrize("metric", OF_ORDERS)
def test_orders_with_gaps_are_refused(metric):
    with pytest.raises(ValueError, match="must be finite"):
        metric([[0.5, NAN], [0.5, 0.5]])


def test_the_matrix_is_what_a_count_row_by_row_gives():
    rng = np.random.RandomState(0)
    order = ["c", "a", 7]
    ids = [order[j] for j in rng.permutation(np.repeat([0, 1, 2], [5, 8, 11]))]
    y_true = [rng.choice([1, 2]) if name == 7 else rng.choice(["x", "y"]) for name in ids]
    of_all = [
        [rng.choice([1, 2]) if n == 7 else rng.choice(["x", "y"]) for n in ids] for _ in "cab"
    ]
    expected = np.full((3, 3), NAN)
    for i, j in zip(*np.tril_indices(3), strict=True):
        rows = [r for r, name in enumerate(ids) if name == order[j]]
        expected[i, j] = sum(y_true[r] == of_all[i][r] for r in rows) / len(rows)
    known = [
        [p for p, n in zip(row, ids, strict=True) if n in order[: i + 1]]
        for i, row in enumerate(of_all)
    ]
    for y_preds in (of_all, known):
        found = accuracy_matrix(y_true, y_preds, task_id=ids, tasks=order)
        np.testing.assert_array_equal(found, expected)


def test_the_matrix_of_a_classifier_is_its_scores(digits, learned):
    X, y = digits
    ids = np.array(["first", 2, "third"], dtype=object).repeat(20)
    y_preds = [learned.predict(X[400 : 400 + n], task_id=ids[:n].tolist()) for n in (20, 40, 60)]
    found = accuracy_matrix(y[400:460], y_preds, task_id=ids)
    for j, name in enumerate(learned.tasks_):
        rows = slice(400 + 20 * j, 420 + 20 * j)
        score = learned.score(X[rows], y[rows], task_id=name)
        np.testing.assert_allclose(found[j:, j], score)


@pytest.mark.parametrize(
    ("y_preds", "settings", "message"),
    [
        ([[0, 1]], {}, "2 tasks need as many y_preds; got 1"),
        ([[0], [0, 1, 2]], {}, r"y_preds\[0\] must hold .* each of the 2 rows"),
        ([[0, 1], [0, 1, 2]], {"tasks": ["a"]}, "tasks must be those of the rows"),
        ([[0, 1], [0, 1, 2]], {"tasks": ["a", "b", "c"]}, "tasks must be those of the rows"),
        ([[0, 1], [0, 1, 2]], {"task_id": ["a", "b"]}, r"shapes \(3,\) and \(2,\)"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(y_preds, settings, message):
    with pytest.raises(ValueError, match=message):
        accuracy_matrix([0, 1, 2], y_preds, **{"task_id": ["a", "a", "b"]} | settings)


def test_every_public_function_is_listed():
    own = {n: v for n, v in vars(metrics).items() if inspect.isfunction(v)}
    public = {n for n, v in own.items() if v.__module__ == metrics.__name__ and n[0] != "_"}
    assert public == set(metrics.__all__)
