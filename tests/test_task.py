from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.inside import Classes, Compact, StoredFactors, Task, target_from_state

own = st.dictionaries(
    st.text("ab.é", max_size=5),
    st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_]).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=4,
)


@st.composite
def stored_factors(draw):
    out, k, m = draw(st.integers(1, 9)), draw(st.integers(0, 3)), draw(st.integers(1, 9))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    values = st.sampled_from([0.0, 1.5, -2.0])
    r, s, u, v = (
        draw(arrays(kind, shape, elements=values)) for shape in [(out,), (m,), (out, k), (k, m)]
    )
    return StoredFactors(r, s, Compact.of(u), Compact.of(v))


rows = st.lists(
    st.fixed_dictionaries(
        {"phase": st.sampled_from(["base", "warm-up", "low-rank"]), "epoch": st.integers()},
        optional={"loss": st.floats(allow_nan=False), "note": st.text("a\0é日", max_size=9)},
    ),
    max_size=4,
)


@given(own, st.dictionaries(st.sampled_from("xyz"), stored_factors()), rows)
def test_everything_comes_back_as_it_was(own, factors, history):
    report = {"seconds": {"base": 0.1}, "layers": {"x": {"spectrum": [1.5, 0.1]}}}
    task = Task.of(Classes(np.array([1, 2])), factors, own, 3, history, report)
    state = task.to_state()
    again = Task(target_from_state(state), **state)
    for loaded in (task, again):
        assert set(loaded.own) == set(own)
        for name, array in own.items():
            assert loaded.own[name].dtype == array.dtype
            assert loaded.own[name].shape == array.shape
            assert np.array_equal(loaded.own[name], array, equal_nan=array.dtype.kind == "f")
        assert set(loaded.factors) == set(factors)
        for name, stored in factors.items():
            kept = loaded.factors[name]
            assert np.array_equal(kept.r, stored.r)
            assert np.array_equal(kept.s, stored.s)
            assert np.array_equal(kept.u.dense(), stored.u.dense())
            assert np.array_equal(kept.v.dense(), stored.v.dense())
            assert kept.v.dense().dtype == stored.r.dtype
            assert loaded.ranks[name] == stored.u.shape[1]
        assert loaded.history == [
            row | {"loss": float(f"{row['loss']:.4e}")} if "loss" in row else row for row in history
        ]
        assert loaded.report == report
        assert (loaded.visits, loaded.target.labels.tolist()) == (3, [1, 2])
    counted = sum(a.size for a in own.values())
    for stored in factors.values():
        counted += stored.r.size + stored.s.size
        counted += np.count_nonzero(stored.u.dense()) + np.count_nonzero(stored.v.dense())
    assert task.n_numbers == counted


def visited(before, visit, rows):
    return Task.of(Classes(np.array([1, 2])), visits=visit, history=rows, before=before)


@given(st.lists(st.tuples(rows, st.booleans()), max_size=12))
def test_visit_after_visit_the_history_is_all_rows(visits):
    task, expected = None, []
    for visit, (added, saved) in enumerate(visits):
        task = visited(task, visit + 1, added)
        expected += added
        if saved:  # and loaded, so that all notes are in one piece
            state = task.to_state()
            task = Task(target_from_state(state), **state)
        found = [{**row, **({"loss": None} if "loss" in row else {})} for row in task.history]
        assert found == [{**r, **({"loss": None} if "loss" in r else {})} for r in expected]


def test_a_visit_writes_nothing_anew_that_was_written_long_before():
    task, seen = None, []
    for visit in range(500):
        task = visited(task, visit + 1, [{"epoch": 1, "train_loss": visit / 7, "visit": visit}])
        seen.append((task.notes, task.pages))
    for (notes, _), (others, _) in pairwise(seen[1:]):
        assert notes == others
    for (_, before), (_, after) in pairwise(seen[1:]):
        kept = [page for page, old in zip(after, before, strict=False) if page is old]
        assert len(kept) >= len(before) - 1
        assert sum(map(len, after)) - sum(map(len, kept)) < 4000
    assert [row["visit"] for row in task.history] == list(range(500))
    assert len(task.to_state()["notes"]) < 2 * sum(map(len, task.pages))
