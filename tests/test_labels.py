"""Labels and ids come back as they went in, or are refused: compared with Python's own equality."""

import datetime
import uuid
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.validation import column_or_1d
from torch.utils.data import Dataset, Subset

from sklearn_halrp.model_selection import task_report, task_scorer
from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, make_net
from tests.inside import Classes, group_rows, labels_in, positions_in

# str() of the first two is shorter than their values, and begins alike.
Site = Enum("Site", {"NORTH": "northern_1", "NORTHEAST": "northern_2", "SOUTH": "s"}, type=str)
Town = StrEnum("Town", ["OSLO", "ROME"])
Kind = IntEnum("Kind", ["A", "B", "C"])
Share = Enum("Share", {"NONE": 0.0, "ALL": 1.0}, type=float)
Plain = Enum("Plain", ["A", "B"])


class Word(str):
    """A string that prints as something else."""

    def __str__(self):
        return "word"


TEXTS = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["x", "x\0", "nan", "", "1", *Site, *Town, np.str_("north"), Word("a")]),
)
EDGES = [2**53, 2**62, 2**63, 2**64, -(2**63), 2**24, 2**11]
INTS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.builds(int.__add__, st.sampled_from(EDGES), st.integers(-2, 2)),
    st.sampled_from([*Kind, np.int8(-1), np.uint64(2**63), torch.tensor(7), np.array(3)]),
)
NUMBERS = st.one_of(
    INTS,
    st.booleans(),
    st.builds(float, st.integers(-(2**54), 2**54)),
    st.sampled_from([*Share, np.float32(3), np.float16(2048), np.bool_(True)]),
)
OTHERS = st.one_of(
    st.binary(max_size=2),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.tuples(st.integers(), st.text()),
    st.sampled_from(
        [*Plain, None, np.nan, np.inf, pd.NA, pd.NaT, np.ma.masked, 1j, np.bytes_(b"a")]
    ),
    st.sampled_from([np.datetime64("2020-01-01", "ns"), np.timedelta64(3, "D"), pd.Period("2020")]),
)
LISTS = st.one_of(
    *(st.lists(kind, min_size=1, max_size=8) for kind in (TEXTS, INTS, NUMBERS)),
    st.lists(st.one_of(TEXTS, NUMBERS, OTHERS), min_size=1, max_size=8),
)
HOLDERS = {
    "list": list,
    "tuple": tuple,
    "array of objects": lambda values: pd.Series(values, dtype=object).to_numpy(),
    "Series": lambda values: pd.Series(values, dtype=object),
    "categories": lambda values: pd.Series(pd.Categorical.from_codes(range(len(values)), values)),
}


def hold(values, holder):
    """Hold values in something else; pandas refuses some, with any kind of error."""
    try:
        return HOLDERS[holder](values)
    except Exception:
        return list(values)


def attempt(call):
    """Return what a call gives and None, or None and why it refused."""
    try:
        return call(), None
    except (TypeError, ValueError) as error:
        return None, str(error)


def equal(a, b):
    """Whether two values are equal; numpy raises where an int is too large to be."""
    try:
        return bool(a == b)
    except OverflowError:
        return False


def same(found, given):
    """Whether values are equal, and strings where strings were given."""
    return all(
        equal(a, b) and isinstance(a, str) == isinstance(b, str)
        for a, b in zip(found, given, strict=True)
    )


@given(LISTS, st.sampled_from(list(HOLDERS)))
def test_labels_come_back_or_are_refused(labels, holder):
    kept, refusal = attempt(lambda: column_or_1d(Classes.prepared(hold(labels, holder))))
    if kept is None:
        assert " y " in f" {refusal}"
        return
    assert same(kept.tolist(), labels)
    assert {type(label) for label in kept.tolist()} <= {int, str, float, bool}
    assert all(value is not None and value == value for value in kept.tolist())


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@given(st.one_of(st.lists(TEXTS, min_size=2), st.lists(NUMBERS, min_size=2)), st.data())
def test_classes_are_the_labels_of_all_calls(labels, data):
    cut = data.draw(st.integers(1, len(labels) - 1))
    target = None
    for part in (labels[:cut], labels[cut:]):
        try:
            target, codes = Classes.of_task("t", Classes.prepared(part), known=target)
        except (TypeError, ValueError):
            return
        assert same(target.labels[codes].tolist(), part)
    found = target.labels.tolist()
    assert all(any(equal(a, b) for b in labels) for a in found)
    assert all(any(equal(a, b) for b in found) for a in labels)
    assert len(set(found)) == len(found)


@given(st.lists(st.one_of(st.lists(TEXTS, min_size=1), st.lists(NUMBERS, min_size=1)), min_size=1))
def test_the_labels_of_all_tasks_together_are_all_of_them(tasks):
    try:
        parts = [np.unique(Classes.prepared(labels)) for labels in tasks]
    except (TypeError, ValueError):
        return
    united = Classes.joined([Classes(part) for part in parts])
    assert set(united.tolist()) == {label for part in parts for label in part.tolist()}
    for part in parts:
        assert united[positions_in(united, part)].tolist() == part.tolist()


@given(LISTS, st.sampled_from(list(HOLDERS)))
def test_ids_come_back_or_are_refused(ids, holder):
    groups, refusal = attempt(lambda: group_rows(hold(ids, holder), len(ids)))
    if groups is None:
        assert "task id" in refusal.lower() or "task_id" in refusal
        return
    found = np.empty(len(ids), dtype=object)
    for name, rows in groups.items():
        assert type(name) in (int, str)
        found[rows] = [name] * len(found[rows])
    assert same(found.tolist(), ids)
    alone, _ = attempt(lambda: list(group_rows(ids[0], 1)))
    assert alone is None or alone == [found[0]]


LABELS = {
    "str and Enum": [Site.NORTH, Site.NORTHEAST, Site.SOUTH],
    "StrEnum": [Town.OSLO, Town.ROME],
    "IntEnum": [Kind.A, Kind.B, Kind.C],
    "subclass of str": [Word("a"), Word("b"), "c"],
    "str_": [np.str_("a"), np.str_("bc")],
    "bool": [False, True],
    "nullable bool": pd.Series([False, True], dtype="boolean"),
    "nullable ints": pd.Series([5, 2**53, 2**53 + 1], dtype="Int64"),
    "nullable strings": pd.Series(["a", "b"], dtype="string"),
    "categories of ints": pd.Series([2**53, 2**53 + 1], dtype="category"),
    "large ints": [2**62, 2**62 + 1, -(2**63)],
    "uint64": np.array([2**62, 2**62 + 1], dtype=np.uint64),
    "large uint64": np.array([2**63, 2**63 + 1, 3], dtype=np.uint64),
    "large unsigned": [2**63, 2**64 - 1, 0],
    "object ints": np.array([2**62, 2**62 + 1], dtype=object),
    "tensor": torch.tensor([2**53, 2**53 + 1]),
    "tensors": [torch.tensor(2**53), torch.tensor(2**53 + 1)],
    "long strings": ["a" * 99, "a" * 98 + "b"],
}
if hasattr(np.dtypes, "StringDType"):
    LABELS["StringDType"] = np.array(["a", "bcd"], dtype=np.dtypes.StringDType())


def repeated(labels, n=60):
    places = np.arange(n) % len(labels)
    if isinstance(labels, list):
        return [labels[i] for i in places]
    return labels.iloc[places] if isinstance(labels, pd.Series) else labels[places]


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_learned_predicted_and_saved_as_they_are(name, digits, tmp_path):
    X, y = digits[0][:60], repeated(LABELS[name])
    wanted = {v.item() if isinstance(v, torch.Tensor) else v for v in LABELS[name]}
    clf = make_classifier(net={"max_epochs": 2}).fit(X, y, task_id="a")
    clf.partial_fit(X, y, task_id="b")
    assert clf.classes_.tolist() == sorted(wanted)
    predicted = clf.predict(X, task_id="a")
    assert set(predicted.tolist()) <= wanted
    right = np.mean([a == b for a, b in zip(predicted.tolist(), y, strict=True)])
    assert clf.score(X, y, task_id="a") == right
    assert task_scorer("accuracy")(clf, X, y, task_id="a") == right
    assert set(task_report(clf, X, y, "a", output="dict")["a"]["classes"]) == wanted
    save(clf, tmp_path / "safe")
    joblib.dump(clf, tmp_path / "pickled")
    for again in (load(tmp_path / "safe", net=make_net()), joblib.load(tmp_path / "pickled")):
        assert again.classes_.dtype == clf.classes_.dtype
        assert again.classes_.tolist() == clf.classes_.tolist()
        assert np.array_equal(again.predict(X, task_id="b"), clf.predict(X, task_id="b"))


def test_members_are_their_values_wherever_they_are_ids(digits):
    X, y = digits[0][:60], digits[1][:60]
    ids = repeated([Site.NORTH, Site.NORTHEAST, Kind.A])
    plain = repeated(["northern_1", "northern_2", 1])
    clf = make_classifier(net={"max_epochs": 1}).fit(X, y, ids)
    assert clf.tasks_ == ["northern_1", "northern_2", 1]
    assert {type(name) for name in clf.tasks_} == {str, int}
    expected = clf.predict_proba(X, plain)
    for hold in (list, pd.Series, lambda v: pd.Series(v, dtype="category"), tuple):
        assert np.array_equal(clf.predict_proba(X, hold(ids)), expected)
    assert np.array_equal(clf.predict(X, Site.NORTH), clf.predict(X, "northern_1"))
    clf.to_module(Site.NORTH)
    assert clf.forget_task(Site.NORTHEAST).tasks_ == ["northern_1", 1]
    rows = [[*row, site] for row, site in zip(X.tolist(), ids, strict=True)]
    column = make_classifier(net={"max_epochs": 1}, task_column=64).fit(rows, y)
    assert column.tasks_ == ["northern_1", "northern_2", 1]


def test_a_task_keeps_the_type_of_its_labels(digits):
    X, y = digits[0][:60], digits[1][:60]
    clf = make_classifier(net={"max_epochs": 1}).fit(X, y)
    for again in (y.astype(float), pd.Series(y).convert_dtypes(), y.astype(np.uint64), y.tolist()):
        assert clf.partial_fit(X, again).predict(X).dtype == y.dtype
    large = y + 2**60
    clf.partial_fit(X, large, task_id=1).partial_fit(X, large.astype(np.uint64), task_id=1)
    assert clf.task_classes_[1].tolist() == list(range(2**60, 2**60 + 10))


def filled(value):
    """Return strings with another value in two places."""
    return [value if i in (7, 9) else "ab"[i % 2] for i in range(60)]


MISSING = r"2 of 60 labels in y are missing \(None, NaN or NA\), the first at 7"
KINDS = "y must have labels that are ints or strings; label 7 is "
REFUSED = {
    "None": (filled(None), MISSING),
    "nan": (filled(np.nan), MISSING),
    "NA": (pd.Series(filled(None), dtype="string"), MISSING),
    "category": (pd.Series(filled(None), dtype="category"), MISSING),
    "nullable ints": (
        pd.Series([None if i in (7, 9) else i % 3 for i in range(60)], dtype="Int64"),
        MISSING,
    ),
    "masked": (np.ma.masked_array(np.arange(60) % 3, np.isin(np.arange(60), (7, 9))), MISSING),
    "floats": (np.where(np.isin(np.arange(60), (7, 9)), np.nan, np.arange(60) % 3), MISSING),
    "infinity": ([0.0, np.inf] * 30, "infinity"),
    "bytes": (filled(b"\xff"), KINDS + r"b'\\xff' \(bytes\). Write label.decode\(\)"),
    "date": (filled(datetime.date(2020, 1, 1)), KINDS + r".*Write str\(label\)"),
    "uuid": (filled(uuid.UUID(int=1)), KINDS + r"UUID.*Write str\(label\)"),
    "Decimal": (filled(Decimal(3)), KINDS + "Decimal"),
    "Fraction": (filled(Fraction(3)), KINDS + "Fraction"),
    "tuple": (pd.Series(filled((1, 2))), KINDS + r"\(1, 2\) \(tuple\)"),
    "member": (filled(Plain.A), KINDS + r".*Write label.value"),
    "datetime64": (np.array(["2020", "2021"], "datetime64[ns]")[np.arange(60) % 2], "datetime64"),
    "timedelta64": (np.array([1, 2], "timedelta64[D]")[np.arange(60) % 2], r"str\(label\)"),
    "Timestamps": (pd.Series(pd.to_datetime(["2020", "2021"] * 30)), r"str\(label\)"),
    "Periods": (pd.Series(pd.PeriodIndex(["2020", "2021"] * 30, freq="Y")), r"str\(label\)"),
    "Intervals": (pd.cut(np.arange(60), 3), r"Interval.*str\(label\)"),
    "array of bytes": (np.array([b"a", b"b"] * 30), r"b'a' \(bytes_\)"),
    "complex": (np.arange(60) % 3 + 0j, "Complex data not supported: y"),
    "beyond int64": ([2**64, 2**64 + 1] * 30, r"18446744073709551616 \(int\).*64 bits"),
    "no type of ints": ([2**63, -1] * 30, r"9223372036854775808 \(int\).*64 bits"),
    "int beside floats": ([2**53 + 1, 1.0] * 30, "9007199254740993.*beside floats into 53"),
    "large floats": (np.array([2.0**53, 1.0] * 30), "came as float64.*9007199254740992.*merged"),
    "large float32": (np.float32([2**24, 1] * 30), "came as float32.*16777216.*merged"),
    "NUL": (["x", "x\0"] * 30, r"'x\\x00' \(str\).*NUL"),
    "dict": ({"a": 1}, r"y must be an array or a list of labels; got .*\(dict\)"),
    "bfloat16": (torch.zeros(60, dtype=torch.bfloat16), "bfloat16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_labels_are_refused_and_change_nothing(name, digits, learned):
    y, message = REFUSED[name]
    X = digits[0][:60]
    state, new = dict(vars(learned)), make_classifier()
    calls = [
        lambda: new.fit(X, y),
        lambda: learned.partial_fit(X, y, task_id="new"),
        lambda: learned.fit(X, y),
        lambda: learned.score(X, y, task_id=2),
        lambda: task_scorer("accuracy")(learned, X, y, task_id=2),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    assert vars(learned) == state
    assert vars(new) == new.get_params(deep=False)


def test_declared_classes_are_held_to_the_same(digits, learned):
    X, y = digits[0][:60], np.arange(60) % 2
    state = dict(vars(learned))
    for classes, message in {
        ("a", b"b"): "classes must have labels that are ints or strings; label 1 is b'b'",
        (0, None): "1 of 2 labels in classes are missing",
        (0, 1, 2**64): "classes has the label 18446744073709551616",
        (0, 1, 2.0**53): "classes came as float64",
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            learned.partial_fit(X, y, task_id="new", classes=list(classes))
    assert vars(learned) == state
    clf = make_classifier(net={"max_epochs": 1})
    with pytest.raises(ValueError, match=f"not in classes: {2**53 + 1}"):
        clf.partial_fit(X, y + 2**53, classes=[2**53, 2**53 + 2])
    clf.partial_fit(X, y + 2**53, classes=pd.Series([2**53, 2**53 + 1, 3], dtype="Int64"))
    assert clf.classes_.tolist() == [3, 2**53, 2**53 + 1]
    with pytest.raises(ValueError, match="would be floats, which do not hold all its ints"):
        clf.partial_fit(X, y.astype(float))
    assert clf.partial_fit(X, y * 1.0, task_id=1).classes_.tolist() == [0, 1, 3, 2**53, 2**53 + 1]


IDS = {
    "bytes": (b"\xff", r"b'\\xff' \(bytes\). Write task_id.decode\(\)"),
    "datetime64": (np.datetime64("2020-01-01", "ns"), r"2020-01-01.*Write str\(task_id\)"),
    "timedelta64": (np.timedelta64(3, "D"), "timedelta64"),
    "Period": (pd.Period("2020"), "Period"),
    "Timestamp": (pd.Timestamp("2020"), "Timestamp"),
    "member": (Plain.A, r"Write task_id\.value"),
    "bool": (np.bool_(True), r"True \(bool\)"),
    "Decimal": (Decimal(3), "Decimal"),
    "Fraction": (Fraction(2**80, 3), "Fraction"),
    "NaT": (pd.NaT, "no task id"),
    "masked": (np.ma.masked, "no task id"),
    "longdouble": (np.longdouble(2**40) + np.longdouble(0.5), "scaled"),
    "infinity": (np.inf, "inf"),
}


@pytest.mark.parametrize("name", IDS)
def test_other_ids_are_refused_and_change_nothing(name, digits, learned):
    value, message = IDS[name]
    X, y = digits[0][:60], digits[1][:60]
    state = dict(vars(learned))
    many = np.empty(60, dtype=object)
    many[:] = ["first"] * 59 + [value]
    for ids in (value, many, many.tolist(), tuple(many), pd.Series(many)):
        for call in (
            lambda ids=ids: learned.partial_fit(X, y, task_id=ids),
            lambda ids=ids: learned.fit(X, y, task_id=ids),
            lambda ids=ids: learned.predict(X, task_id=ids),
        ):
            with pytest.raises((TypeError, ValueError), match=message):
                call()
    assert vars(learned) == state


def test_ids_in_sets_dicts_and_masked_arrays_are_refused(digits, learned):
    X = digits[0][:60]
    for ids in ({"first"}, {"first": 1}):
        with pytest.raises(TypeError, match="pass a list or an array"):
            learned.predict(X, task_id=ids)
    masked = np.ma.masked_array(np.full(60, 2), np.arange(60) == 5)
    with pytest.raises(TypeError, match="no task id"):
        learned.predict(X, task_id=masked)
    assert len(learned.predict(X, task_id=np.ma.masked_array(np.full(60, 2)))) == 60


class Labelled(Dataset):
    def __init__(self, X, labels, **attributes):
        self.X, self.labels = X, labels
        vars(self).update(attributes)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.labels[i]


@pytest.mark.parametrize("where", ["rows", "targets", "y"])
def test_the_labels_of_a_dataset_are_kept_as_well(where, digits):
    X = digits[0][:60]
    for labels in (
        repeated([Site.NORTH, Site.NORTHEAST, Site.SOUTH]),
        repeated([2**53, 2**53 + 1]),
        repeated([1, "1"]),
        repeated([np.array([3]), torch.tensor([4])]),
    ):
        attributes = {} if where == "rows" else {where: labels}
        if where != "rows" and np.ndim(labels[0]):
            continue
        data = Labelled(X, labels, **attributes)
        assert same(labels_in(data).tolist(), labels)
        assert same(labels_in(Subset(data, [5, 0])).tolist(), [labels[5], labels[0]])
    data = Labelled(X, filled(None), **({} if where == "rows" else {where: filled(None)}))
    with pytest.raises(ValueError, match="2 of 60 labels in X are missing"):
        labels_in(data)
    assert labels_in(Subset(data, range(5))).tolist() == filled(None)[:5]
    with pytest.raises(TypeError, match=r"X must have labels.*str\(label\)"):
        make_classifier().fit(Labelled(X, [datetime.date(2020, 1, 1)] * 60))
