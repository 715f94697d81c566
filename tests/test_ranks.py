import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.inside import choose_ranks

layers = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=12).map(
        lambda values: np.sort(np.array(values, dtype=float))[::-1]
    ),
    min_size=1,
    max_size=5,
)


def slow_ranks(scores, rate, max_rank):
    """Take the largest score left, one by one, until the share is reached."""
    left = [(value, name) for name, values in scores.items() for value in values]
    total, reached, counts = sum(v for v, _ in left), 0.0, dict.fromkeys(scores, 0)
    while True:
        best = max(range(len(left)), key=lambda i: (left[i][0], -i))
        value, name = left.pop(best)
        counts[name] += 1
        reached += value
        if reached >= rate * total * (1 - 1e-9) or not left:
            break
    return {n: min(max(c, 1), max_rank, len(scores[n])) for n, c in counts.items()}


@given(scores=layers, rate=st.sampled_from([0.1, 0.5, 0.77, 0.9, 0.99]), cap=st.integers(1, 8))
def test_ranks_equal_a_slow_global_sort(scores, rate, cap):
    assert choose_ranks(scores, rate, cap) == slow_ranks(scores, rate, cap)


@given(scores=layers)
def test_the_whole_share_keeps_every_term_that_scores(scores):
    ranks = choose_ranks(scores, 1.0, 100)
    for name, values in scores.items():
        assert ranks[name] >= min(max(int((values > 0).sum()), 1), len(values))


@given(scores=layers, budget=st.integers(0, 200), data=st.data())
def test_a_budget_gives_up_the_lowest_scores(scores, budget, data):
    costs = {name: data.draw(st.integers(1, 30)) for name in scores}
    free = choose_ranks(scores, 0.9, 100)
    ranks = choose_ranks(scores, 0.9, 100, costs, budget)
    spent = sum(ranks[n] * costs[n] for n in ranks)
    assert spent <= budget
    assert all(ranks[n] <= free[n] for n in ranks)
    kept = [scores[n][i] for n in ranks for i in range(ranks[n])]
    lost = [scores[n][i] for n in ranks for i in range(ranks[n], free[n])]
    if kept and lost:
        assert min(kept) >= max(lost)
    if not lost:
        assert ranks == free


def test_a_layer_that_matters_more_gets_more():
    values = np.array([4.0, 2.0, 1.0, 0.5, 0.25])
    ranks = choose_ranks({"heavy": 100 * values, "light": values}, 0.9, 100)
    assert ranks == {"heavy": 4, "light": 1}


def test_no_score_at_all_leaves_one_term_each():
    assert choose_ranks({"a": np.zeros(3), "b": np.zeros(2)}, 0.9, 100) == {"a": 1, "b": 1}
