from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.inside import choose_ranks, worthwhile_scales

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


def by_all_choices(with_scales, without, gains, costs, scale_costs, max_cost):
    """Return the most that scales and terms can be worth within the costs: a slow reference."""
    best = 0.0
    for scaled in product([True, False], repeat=len(gains)):
        spent, fixed, terms = 0, 0.0, []
        for name, has in zip(gains, scaled, strict=True):
            spent += has * scale_costs[name]
            fixed += has * gains[name]
            terms += [(x, costs[name]) for x in (with_scales if has else without)[name]]
        if spent > max_cost:
            continue
        for value, cost in sorted(terms, key=lambda term: -term[0] / term[1]):
            if spent + cost > max_cost:
                break
            spent, fixed = spent + cost, fixed + value
        best = max(best, fixed)
    return best


def worth(scaled, with_scales, without, gains, costs, scale_costs, max_cost):
    only = {name: gains[name] for name in gains if name in scaled}
    chosen = {n: (with_scales if n in scaled else without)[n] for n in gains}
    left = max_cost - sum(scale_costs[name] for name in scaled)
    assert left >= 0
    terms = sorted(
        ((x, costs[n]) for n in gains for x in chosen[n]), key=lambda term: -term[0] / term[1]
    )
    total = sum(only.values())
    for value, cost in terms:
        if cost > left:
            break
        left, total = left - cost, total + value
    return total


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_scales_are_kept_where_they_are_worth_their_numbers(seed, max_cost):
    rng = np.random.RandomState(seed)
    names = "abc"
    with_scales = {n: np.sort(rng.exponential(size=4))[::-1] for n in names}
    gains = {n: float(rng.exponential(2)) for n in names}
    # Without scales the terms have to do what the scales did: more energy, less well ordered.
    without = {n: with_scales[n] + gains[n] / 4 for n in names}
    costs = {n: int(rng.randint(2, 6)) for n in names}
    scale_costs = {n: int(rng.randint(1, 8)) for n in names}
    given_ = with_scales, without, gains, costs, scale_costs, max_cost
    scaled = worthwhile_scales(*given_)
    # What a price leaves out is at most the bargain that no longer fits.
    one_more = max(
        max(float(x) for n in names for x in (*with_scales[n], *without[n])),
        max(gains[n] + with_scales[n].sum() for n in names),
    )
    assert worth(scaled, *given_) >= by_all_choices(*given_) - one_more - 1e-9


def test_where_there_is_room_every_layer_has_scales():
    scores = {"a": np.array([3.0, 1.0]), "b": np.array([2.0, 0.0])}
    without = {"a": np.array([4.0, 1.0]), "b": np.array([2.5, 0.5])}
    settings = {"a": 1.0, "b": 1.0}, {"a": 5, "b": 5}, {"a": 5, "b": 5}
    assert worthwhile_scales(scores, without, *settings, max_cost=100) == {"a", "b"}
    assert worthwhile_scales(scores, without, *settings, max_cost=0) == set()
