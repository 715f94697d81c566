from hypothesis import given
from hypothesis import strategies as st

from sklearn_halrp._epochs import to_columns, to_rows

rows = st.lists(
    st.fixed_dictionaries(
        {"phase": st.sampled_from(["base", "warm-up", "low-rank"]), "epoch": st.integers(0, 999)},
        optional={
            "loss": st.floats(allow_nan=False),
            "best": st.booleans(),
            "note": st.text("a\u00e9\u65e5\0", max_size=20),
            "count": st.integers(),
        },
    )
)


@given(rows)
def test_rows_come_back_from_columns(rows):
    assert to_rows(to_columns(rows)) == rows
