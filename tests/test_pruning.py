import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.inside import Compact, cut_to_fit, prune

values = st.one_of(st.just(0.0), st.floats(-8, 8, width=32))


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 9), st.integers(0, 9)),
        elements=st.one_of(st.just(np.float32(0)), st.floats(-8, 8, width=32)),
    )
)
def test_compact_gives_back_what_it_was_given(array):
    stored = Compact.of(array)
    assert np.array_equal(stored.dense(), array)
    assert stored.dense().dtype == array.dtype
    assert stored.n_numbers == np.count_nonzero(array)
    bits = 0 if np.all(array != 0) else -(-array.size // 8)
    assert stored.n_bytes == 4 * np.count_nonzero(array) + bits


@st.composite
def factor_pairs(draw):
    pairs = {}
    for name in draw(st.sets(st.sampled_from("abc"), min_size=1)):
        out, k, m = (draw(st.integers(1, 6)) for _ in range(3))
        pairs[name] = (
            draw(arrays(np.float64, (out, k), elements=values)),
            draw(arrays(np.float64, (k, m), elements=values)),
        )
    return pairs


@given(factor_pairs(), st.sampled_from([0.0, 1e-5, 0.5]), st.integers(0, 60))
def test_pruning_keeps_the_largest_within_the_budget(pairs, threshold, budget):
    pruned = prune(pairs, threshold, budget)
    left = np.concatenate([np.abs(f[f != 0]) for pair in pruned.values() for f in pair])
    assert left.size <= budget
    assert (left > threshold).all()
    before = np.concatenate([np.abs(f[f != 0]) for pair in pairs.values() for f in pair])
    above = before[before > threshold]
    # One cut: what it spares is exactly what lies above, less terms with an empty side.
    cut = min(left, default=np.inf)
    for name, (u, v) in pairs.items():
        u, v = np.where(np.abs(u) >= cut, u, 0), np.where(np.abs(v) >= cut, v, 0)
        np.testing.assert_allclose(pruned[name][0] @ pruned[name][1], u @ v, atol=1e-12)
        if not len(left):
            assert not pruned[name][0].size
    if above.size <= budget and left.size:
        assert cut <= min(above) or left.size < above.size


@given(factor_pairs())
def test_no_stored_term_is_empty(pairs):
    for u, v in prune(pairs, 1e-5, 10**6).values():
        assert u.shape[1] == v.shape[0]
        assert u.any(axis=0).all()
        assert v.any(axis=1).all()


def test_without_pressure_nothing_is_lost():
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(5, 3)), rng.normal(size=(3, 4))
    pruned_u, pruned_v = prune({"w": (u, v)}, 0.0, 27)["w"]
    assert np.array_equal(pruned_u, u)
    assert np.array_equal(pruned_v, v)


@given(
    st.lists(arrays(np.float32, st.integers(0, 9), elements=values.map(np.float32)), max_size=4),
    st.integers(0, 20),
)
def test_the_cut_is_the_lowest_that_fits(found, most):
    cut = cut_to_fit(found, most)
    entries = np.abs(np.concatenate([np.zeros(0), *found]))
    assert np.sum(entries > cut) <= most
    if cut:  # with any lower one too much is left
        assert np.sum(entries >= cut) > most
