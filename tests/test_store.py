"""A store on disk: the same predictions, task by task, for many processes, and no trace after."""

import hashlib
import os
import pickle
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
import traceback
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import MissingTaskError, UnknownTaskError
from sklearn_halrp.store import Store
from tests.conftest import (
    make_classifier,
    make_net,
    make_numbers_net,
    make_regressor,
    permuted,
)
from tests.inside import (
    IMPORTANCES,
    PAGE,
    Reading,
    Records,
    Row,
    Writing,
    packed,
    padded,
    read_tasks,
    records_of,
    saved,
    task_of,
    unpacked,
    without_padding,
)
from tests.modules import MLP
from tests.test_promises import FACES, assert_untouched, snapshot


def net():
    return make_net(max_epochs=2)


def small(**settings):
    return make_classifier(net={"max_epochs": 2}, **settings)


@pytest.fixture(scope="module")
def fitted(digits):
    """A classifier with three tasks, of which the first is the base's; tests must not change it."""
    X, y = digits
    clf = small()
    clf.partial_fit(X[:200], y[:200], task_id="first")
    clf.partial_fit(permuted(X[:200], 1), y[:200] % 3, task_id=2)
    clf.partial_fit(permuted(X[:200], 2), [f"c{v % 2}" for v in y[:200]], task_id="third")
    return clf


@pytest.fixture
def path(tmp_path):
    return tmp_path / "customers.halrp"


@pytest.fixture
def store(fitted, path):
    with Store.create(path, fitted) as store:
        yield store


def assert_same(store, clf, X):
    """Whatever is asked, a store says what the classifier says, to the last bit."""
    assert store.task_ids() == list(store) == clf.tasks_
    assert len(store) == len(clf.tasks_)
    for task_id in clf.tasks_:
        assert task_id in store
        assert np.array_equal(store.predict(X, task_id), clf.predict(X, task_id))
    if hasattr(clf, "classes_"):
        assert store.classes_.tolist() == clf.classes_.tolist()
        for task_id in clf.tasks_:
            assert np.array_equal(store.predict_proba(X, task_id), clf.predict_proba(X, task_id))


def timeless(found):
    """The same nested data without what differs from time to time."""
    if isinstance(found, dict):
        return {k: timeless(v) for k, v in found.items() if k not in ("seconds", "dur")}
    return [timeless(entry) for entry in found] if isinstance(found, list) else found


def in_files(path):
    """All bytes of all files beside a path."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


# --- what it predicts and learns


@pytest.mark.parametrize("face", FACES)
def test_it_is_the_estimator_to_the_last_bit(face, digits, path):
    X, y = digits
    make, targets = FACES[face]
    clf = make(net={"max_epochs": 2}, growth_budget=2.0)
    names = list(targets)
    clf.partial_fit(X[:150], np.asarray(targets[names[0]](y[:150])), task_id=names[0])
    with Store.create(path, clf) as store:
        assert_same(store, clf, X[:20])
        first = np.asarray(targets[names[0]](y[150:300]))
        steps = [(names[0], X[150:300], first)]
        steps += [
            (name, permuted(X[:150], i), np.asarray(targets[name](y[:150])))
            for i, name in enumerate(names[1:], 1)
        ]
        steps += [(names[1], permuted(X[150:300], 1), np.asarray(targets[names[1]](y[150:300])))]
        for name, rows, target in steps:
            for each in (store, clf):
                each.partial_fit(rows, target, task_id=name)
            assert_same(store, clf, X[:20])
        for each in (store, clf):
            each.forget_task(names[0])
        assert_same(store, clf, X[:20])
        for each in (store, clf):
            each.partial_fit(X[:150], first, task_id="more")
            each.partial_fit(X[:150], first, task_id="most")
            each.forget_task("more")
        assert_same(store, clf, X[:20])
        whole = store.estimator()
    assert type(whole) is type(clf)
    assert timeless(whole.report_) == timeless(clf.report_)
    assert timeless(whole.history_) == timeless(clf.history_)
    assert whole.growth_ == clf.growth_
    assert_untouched(snapshot(clf), snapshot(whole))


def test_every_network_comes_back(animal, digits, path):
    X, y = digits
    X = X.reshape(-1, *animal.shape)
    clf = make_classifier(animal.module, growth_budget=2.0, net={"max_epochs": 1})
    clf.partial_fit(X[:60], y[:60], task_id="first")
    clf.partial_fit(permuted(X[:60], 1), [f"c{label % 3}" for label in y[:60]], task_id=1)
    with Store.create(path, clf) as store:
        assert_same(store, clf, X[:9])
        for each in (store, clf):
            each.forget_task("first")
            each.partial_fit(permuted(X[:60], 2), y[:60], task_id="more")
    with Store(path, make_net(animal.module, max_epochs=1)) as store:
        assert_same(store, clf, X[:9])


def test_one_call_asks_for_many_tasks(store, fitted, digits):
    X, _ = digits
    ids = np.array([fitted.tasks_[i % 3] for i in range(30)], dtype=object)
    assert np.array_equal(store.predict(X[:30], ids), fitted.predict(X[:30], ids))
    assert np.array_equal(store.predict_proba(X[:30], ids), fitted.predict_proba(X[:30], ids))


def test_only_the_tasks_that_are_asked_for_are_read(store, digits):
    X, _ = digits
    assert read_tasks(store) == {}
    store.predict(X[:2], 2)
    assert len(read_tasks(store)) == 1
    store.predict(X[:2], ["third", 2])
    assert len(read_tasks(store)) == 2


def test_memory_is_bounded(fitted, path, digits):
    X, _ = digits
    with Store.create(path, fitted, cache_bytes=0) as store:
        for _ in range(2):
            assert_same(store, fitted, X[:2])
            assert len(read_tasks(store)) <= 4  # those of one call: a task and all labels
        assert store.estimator().cache_bytes == 0
        store.forget_task("first")  # which writes the base, with the settings that it had
    with Store(path, net()) as store:
        assert store.estimator().cache_bytes == fitted.cache_bytes


def test_one_task_is_a_plain_estimator(store, fitted, digits):
    X, _ = digits
    one = store.for_task("third")
    assert one.classes_.tolist() == ["c0", "c1"]
    store.forget_task("third")
    assert np.array_equal(one.predict_proba(X), fitted.for_task("third").predict_proba(X))
    assert pickle.loads(pickle.dumps(one)).task_id == "third"


def test_an_earlier_version_says_that_it_is_one(fitted, digits, path, monkeypatch):
    """A store that it made, with a task that it cannot read."""
    X, y = digits
    monkeypatch.setattr(saved, "FORMAT", 5)
    Store.create(path, fitted).close()
    monkeypatch.undo()
    with Store(path, net(), precision="int8") as store:
        store.partial_fit(permuted(X[:60], 8), y[:60], task_id="bytes")
    monkeypatch.setattr(saved, "FORMAT", 5)
    with Store(path, net()) as store:  # it reads this one
        expected = store.predict(X[:20], task_id="bytes")
    monkeypatch.undo()
    with Store(path, net(), precision="nf4", start="warm-up") as store:
        store.partial_fit(permuted(X[:60], 9), y[:60], task_id="halves")
        assert np.array_equal(store.predict(X[:20], task_id="bytes"), expected)
    monkeypatch.setattr(saved, "FORMAT", 5)
    with pytest.raises(ValueError, match="newer version"):
        Store(path, net()).predict(X[:20], task_id="bytes")


def test_an_estimator_of_some_tasks_learns_like_that_of_all(store, fitted, digits):
    X, y = digits
    some = store.estimator(["third"])
    assert some.tasks_ == ["third"]
    whole = store.estimator()
    for clf in (some, whole):
        clf.partial_fit(X[:100], y[:100] % 2, task_id="new")
    assert np.array_equal(
        some.for_task("new").predict_proba(X), whole.for_task("new").predict_proba(X)
    )
    assert "new" not in store
    assert store.estimator("third").tasks_ == ["third"]
    with pytest.raises(ValueError, match="at least one task"):
        store.estimator([])
    with pytest.raises(UnknownTaskError, match=r"'nobody'\. 3 tasks are known\.$"):
        store.estimator(["nobody"])


def test_ids_may_be_left_out_as_with_the_estimator(digits, path, fitted):
    X, y = digits
    alone = ContinualClassifier(random_state=0, net=net()).partial_fit(X[:60], y[:60])
    with Store.create(path, alone) as store:
        assert np.array_equal(store.predict(X), alone.predict(X))
        assert store.for_task().task_id == 0
        for each in (store, alone):
            each.partial_fit(X[60:120], y[60:120])  # goes on with the base
            each.partial_fit(X[60:120], y[60:120], task_id=1)
        assert_same(store, alone, X[:9])
        for call in (store.predict, store.predict_proba):
            with pytest.raises(MissingTaskError, match="2 tasks are known"):
                call(X)
        with pytest.raises(MissingTaskError, match="for_task"):
            store.for_task()
        with pytest.raises(MissingTaskError, match="partial_fit must be told"):
            store.partial_fit(X, y)


def test_ids_may_be_in_a_column(digits, path):
    X, y = digits
    frame = pd.DataFrame(X[:100]).rename(columns=str).assign(site=["a", "b"] * 50)
    clf = small(task_column="site").fit(frame, y[:100])
    with Store.create(path, clf) as store:
        assert np.array_equal(store.predict_proba(frame), clf.predict_proba(frame))
        more = frame.assign(site="c")
        for each in (store, clf):
            each.partial_fit(more, y[:100])
        assert np.array_equal(store.predict(more), clf.predict(more))
        assert store.task_ids() == clf.tasks_
        assert store.estimator().task_column == "site"


def test_several_tasks_of_a_call_are_learned_together_or_not_at_all(store, fitted, digits):
    X, y = digits
    clf = store.estimator()
    ids, bad = np.repeat(["n1", "n2"], 60), np.where(np.arange(120) < 60, y[:120], 7)
    with pytest.raises(ValueError, match="one class"):
        store.partial_fit(X[:120], bad, ids)
    assert_same(store, fitted, X[:9])
    for each in (store, clf):
        each.partial_fit(X[:120], y[:120], ids, sample_weight=np.arange(120.0))
        each.partial_fit(X[:60], y[:60] % 2, "n3", classes=[0, 1, 77])
    assert_same(store, clf, X[:9])


def test_a_pretrained_base(digits, path):
    X, y = digits
    module = MLP()
    clf = ContinualClassifier(make_net(module, max_epochs=2), base="pretrained", random_state=0)
    clf.partial_fit(X[:100], y[:100], task_id="a").partial_fit(X[:100, ::-1], y[:100], task_id="b")
    with Store.create(path, clf) as store:
        for each in (store, clf):
            each.forget_task("a")
            each.partial_fit(X[:100], y[:100], task_id="c")
        assert_same(store, clf, X[:9])


def test_the_labels_of_all_are_known_without_reading_all(digits, path):
    """And go with the last task that had them."""
    X, y = digits
    clf = small().partial_fit(X[:60], y[:60] % 2, task_id=0)
    for name in range(1, 5):
        clf.partial_fit(X[:60], y[:60] % 2 + 10 * (name // 3), task_id=name)
    with Store.create(path, clf) as store:
        assert store.classes_.tolist() == [0, 1, 10, 11]
        assert len(read_tasks(store)) == 2  # sets of labels
        for name in (3, 4, 0):
            store.forget_task(name)
            clf.forget_task(name)
            assert store.classes_.tolist() == clf.classes_.tolist()


def test_a_regressor_has_no_classes(digits, path):
    X, y = digits
    reg = make_regressor(net={"max_epochs": 1}).partial_fit(X[:60], y[:60].astype(float), task_id=0)
    with Store.create(path, reg) as store:
        assert np.array_equal(store.predict(X), reg.predict(X))
        for ask in (lambda: store.predict_proba(X), lambda: store.classes_):
            with pytest.raises(AttributeError, match="ContinualRegressor"):
                ask()


# --- what is refused


def test_a_store_never_takes_the_place_of_a_file(fitted, path):
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="never takes the place"):
        Store.create(path, fitted)
    assert path.read_text() == "mine"
    assert os.listdir(path.parent) == [path.name]


def test_any_name_of_a_file_will_do(fitted, tmp_path, digits):
    for name in ("a b", "what?mode=memory", "50%25#x", "Müller"):
        Store.create(tmp_path / name, fitted).close()
        with Store(tmp_path / name, net()) as store:
            assert np.array_equal(store.predict(digits[0], 2), fitted.predict(digits[0], 2))
    assert sorted(os.listdir(tmp_path)) == ["50%25#x", "Müller", "a b", "what?mode=memory"]


def test_a_net_and_an_importance_of_ones_own_are_given_again(digits, path):
    X, y = digits

    def own(layers, losses):
        return IMPORTANCES["fisher"]()(layers, losses)

    clf = small(importance="uniform").partial_fit(X[:60], y[:60], task_id=0)
    Store.create(path, clf).close()
    with pytest.raises(ValueError, match=r"pass a net with tests\.modules\.MLP"):
        Store(path)
    with pytest.raises((TypeError, ValueError), match="NeuralNetClassifier"):
        Store(path, make_numbers_net())
    with pytest.warns(UserWarning, match="importance"):
        Store(path, net(), importance="fisher").close()
    path.unlink()
    clf.importance = own
    Store.create(path, clf).close()
    with pytest.raises(ValueError, match="pass it again"):
        Store(path, net())
    with Store(path, net(), importance=own) as store:
        assert store.estimator().importance is own


class Moved(MLP):
    """The same network under another name."""


class Other(MLP):
    """Another network of the same shapes."""

    def forward(self, x):
        return super().forward(x.abs().sqrt())


class Wider(MLP):
    def __init__(self, n_classes=10):
        super().__init__(n_classes, hidden=25)


@pytest.mark.parametrize("forgotten", [[], ["first"]])
def test_another_network_is_noticed_as_it_is_opened(forgotten, store, path, digits):
    """Also where the first task is gone, and the head of the base with it."""
    for name in forgotten:
        store.forget_task(name)
    with pytest.warns(UserWarning, match=r"module=tests\.modules\.MLP.*Moved"):
        Store(path, make_net(Moved)).close()
    with pytest.raises(ValueError, match=r"does not fit the net.*computes something else"):
        Store(path, make_net(Other))
    with pytest.raises(ValueError, match=r"does not fit the net.*was saved with shape"):
        Store(path, make_net(Wider))


@pytest.mark.parametrize(
    "settings",
    [
        *({"timeout": value} for value in (None, -1, np.nan, np.inf)),
        *({"cache_bytes": value} for value in (-1, 1.5, "1")),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, fitted, store, path):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be"):
        Store(path, net(), **settings)
    with pytest.raises(ValueError, match=f"{name} must be"):
        Store.create(path.with_name("other"), fitted, **settings)
    assert not path.with_name("other").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"growth": 0.2}, "no setting 'growth'.*growth_budget"),
        ({"growth_budget": 20}, "growth_budget"),
        ({"class_weight": "even"}, "class_weight"),
        ({"random_state": 1}, "random_state is fixed"),
        ({"base": "pretrained"}, "base is fixed"),
        ({"net__lr": 0.1}, r"net=net\.set_params\(lr="),
    ],
)
def test_settings_of_learning_that_cannot_be_are_named(settings, message, store, path):
    with pytest.raises((TypeError, ValueError), match=message):
        Store(path, net(), **settings)


def test_a_setting_that_only_a_classifier_has(digits, path):
    X, y = digits
    reg = make_regressor(net={"max_epochs": 1}).partial_fit(X[:60], y[:60].astype(float), task_id=0)
    Store.create(path, reg).close()
    with pytest.raises(TypeError, match="ContinualRegressor has no setting 'class_weight'"):
        Store(path, make_numbers_net(), class_weight="balanced")


def test_learning_goes_by_the_settings_that_are_given(store, path, digits):
    """They go along with a pickle, and not into the file."""
    X, y = digits
    clf = store.estimator().set_params(growth_budget=0.3, class_weight="balanced")
    with Store(path, net(), growth_budget=0.3, class_weight="balanced") as other:
        for each in (other, clf):
            each.partial_fit(X[:100], y[:100], task_id="new")
        assert_same(store, clf, X[:9])
        other.forget_task("first")  # which writes the base
        assert other.estimator().growth_budget == 0.3
        with pickle.loads(pickle.dumps(other)) as third:
            assert third.estimator().class_weight == "balanced"
    with Store(path, net()) as again:
        assert again.estimator().growth_budget == 0.6
        assert again.estimator().class_weight is None


def test_what_cannot_be_made_a_store_leaves_no_file(path, digits):
    class Own(ContinualClassifier):
        pass

    with pytest.raises(TypeError, match="Own"):
        Store.create(path, Own())
    with pytest.raises(ValueError, match="not fitted"):
        Store.create(path, ContinualClassifier())
    assert os.listdir(path.parent) == []


def test_what_is_no_store_is_refused(path, fitted):
    with pytest.raises(FileNotFoundError, match=r"no store at .*Store\.create"):
        Store(path)
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(ValueError, match=r"customers\.halrp is no store; it looks like text"):
        Store(path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE state (a)")
    other.close()
    with pytest.raises(ValueError, match="is no store"):
        Store(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("PRAGMA user_version = 2", "newer version.*format 2.*reads up to 1"),
        ("CREATE VIEW extra AS SELECT 1", "tables are not those of a store"),
        ("DELETE FROM base", "is damaged"),
        ("DELETE FROM state", "is damaged"),
        ("UPDATE state SET salt = 'text'", "is damaged"),
        ("UPDATE records SET record = zeroblob(3) WHERE number IN base", "is damaged"),
        ("UPDATE records SET record = 7", "is damaged"),
    ],
)
def test_another_database_in_its_place_is_refused(change, message, store, path):
    store.close()
    change = change.replace("IN base", "IN (SELECT number FROM base)")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(change)
    other.close()
    with pytest.raises(ValueError, match=f"customers.halrp.*{message}"):
        Store(path, net())


def test_a_damaged_record_costs_one_task(store, fitted, path, digits):
    """Whichever byte it is: of the weights, of the text, of the digest."""
    X, _ = digits
    store.close()
    block = packed({"id": 2, **task_of(fitted, 2).to_state()})
    begin = path.read_bytes().find(block[40:400])
    assert begin > 0
    for offset in (0, 300, -30):
        data = bytearray(path.read_bytes())
        data[begin + offset] ^= 1
        path.write_bytes(data)
        with Store(path, net()) as again:
            with pytest.raises(
                ValueError, match=r"record of task 2 in .*customers.halrp is damaged"
            ):
                again.predict(X, 2)
            for task_id in ("first", "third"):
                assert np.array_equal(again.predict(X, task_id), fitted.predict(X, task_id))
        data[begin + offset] ^= 1
        path.write_bytes(data)
    data[begin] ^= 1
    path.write_bytes(data)
    with Store(path, net()) as again:
        again.forget_task(2)
        assert again.task_ids() == ["first", "third"]


def test_a_record_in_the_place_of_another_is_refused(store, path, digits):
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    block = packed({"id": 2, "visits": 1})
    text = b'"third"'
    record = padded(len(text).to_bytes(2, "little") + text + block)
    other.execute(
        "UPDATE records SET record = ? WHERE number = (SELECT number FROM tasks WHERE place = 3)",
        [record],
    )
    other.close()
    with Store(path, net()) as store, pytest.raises(ValueError, match="record of task 'third'"):
        store.predict(digits[0], "third")


@pytest.mark.parametrize("block", [b"", b"x", bytes(100), packed([1])[:-1]])
def test_a_block_that_is_damaged_is_refused(block):
    with pytest.raises(ValueError, match="do not have the digest"):
        unpacked(block)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"value": 1, "arrays": 1}',
        b'{"value": 1, "arrays": [["a", "<f8", [-1]]]}',
        b'{"value": 1, "arrays": [["a", "<f8", [1000000000000, 1000000]]]}',
        b'{"value": 1, "arrays": [["a", "|O", [0]]]}',
        b'{"value": 1, "arrays": [["a", "<f8", ["x"]]]}',
        b'{"value": {"array": "b"}, "arrays": []}',
        b"[" * 100_000,
    ],
)
def test_what_somebody_else_wrote_is_refused(text):
    """With the right digest: whoever writes a file can make one."""
    body = len(text).to_bytes(8, "little") + text
    for more in (b"", b"more"):
        with pytest.raises(ValueError, match=r"no block|array|bytes|Expecting"):
            unpacked(hashlib.sha256(body + more).digest() + body + more)


def test_bad_calls_change_nothing(store, fitted, digits):
    X, y = digits
    with pytest.raises(UnknownTaskError, match=r"'nobody'\. 3 tasks are known\.$"):
        store.predict(X, "nobody")
    with pytest.raises(UnknownTaskError, match="'nobody'"):
        store.forget_task("nobody")
    with pytest.raises(TypeError, match="A task id is an int or a string"):
        store.predict(X, 1.5)
    with pytest.raises(ValueError, match="one id per row"):
        store.predict(X, ["first"] * 3)
    with pytest.raises(ValueError, match="one id per row"):
        store.predict(X, [])
    with pytest.raises(ValueError, match="9 features"):
        store.predict(X[:, :9], "first")
    with pytest.raises(TypeError, match="unexpected keyword"):
        store.partial_fit(X, y, "first", wrong=1)
    with pytest.raises(ValueError, match="65,000 characters"):
        store.partial_fit(X[:60], y[:60], "x" * 70_000)
    assert_same(store, fitted, X[:9])


def test_the_last_task_stays(digits, path):
    X, y = digits
    with Store.create(path, small().partial_fit(X[:60], y[:60], task_id="a")) as store:
        with pytest.raises(ValueError, match="is the only task"):
            store.forget_task("a")
        assert store.task_ids() == ["a"]


def test_a_damaged_page_names_the_task_that_it_costs(store, fitted, path, digits):
    """SQLite itself cannot read it then."""
    X, _ = digits
    store.close()
    data = bytearray(path.read_bytes())
    block = packed({"id": 2, **task_of(fitted, 2).to_state()})
    page = data.find(block[40:400]) // PAGE * PAGE
    data[page : page + 4] = b"\xff" * 4  # the number of the page that goes on
    path.write_bytes(data)
    with Store(path, net()) as again:
        with pytest.raises(ValueError, match=r"customers\.halrp is damaged: task 2 cannot be read"):
            again.predict(X, 2)
        assert again.task_ids() == fitted.tasks_
        for task_id in ("first", "third"):
            assert np.array_equal(again.predict(X, task_id), fitted.predict(X, task_id))


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"\x10" + bytes(7) + b"{" + bytes(40), r"safetensors file; open it with .*load"),
        (pickle.dumps([1]), r"joblib\.load"),
        (zlib.compress(b"some"), r"joblib\.load.*compressed"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"id,name\n1,x\n", "text"),
        (b"\xff\xfe" * 20, "damaged"),
    ],
)
def test_a_file_of_another_kind_is_told(begin, message, path):
    path.write_bytes(begin * 50)
    with pytest.raises(ValueError, match=f"customers.halrp is no store.*{message}"):
        Store(path)


def test_folders_are_told(fitted, path):
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"customers\.halrp is a folder"):
        Store(path)
    with pytest.raises(FileNotFoundError, match="No such folder"):
        Store.create(path / "none" / "file", fitted)


def test_what_is_closed_stays_closed(fitted, store, path, digits):
    X, y = digits
    store.close()
    store.close()
    calls = [
        lambda: len(store),
        lambda: "first" in store,
        lambda: None in store,
        lambda: next(iter(store)),
        store.task_ids,
        lambda: store.classes_,
        lambda: store.predict(X, "first"),
        lambda: store.predict_proba(X, "first"),
        lambda: store.for_task("first"),
        store.estimator,
        lambda: store.partial_fit(X, y, "new"),
        lambda: store.forget_task("first"),
        lambda: store.backup(path.with_name("copy")),
        store.__enter__,
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"This store is closed: .*customers\.halrp"):
            call()
    assert os.listdir(path.parent) == [path.name]
    with Store(path, net()) as again:
        assert_same(again, fitted, X[:9])


def test_what_can_be_no_id_is_no_task(store):
    assert all(what not in store for what in (None, [1], 1.5, True, {}))


def test_a_missing_id_is_told_in_the_words_of_a_store(store, digits):
    with pytest.raises(MissingTaskError) as caught:
        store.predict(digits[0])
    assert "or one id per row" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("pipeline", "task_column"))


# --- other files in its place


def put(source, path, way):
    """Put a copy of a file in the place of another."""
    if way == "over it":
        shutil.copy(source, path)
    else:
        os.replace(shutil.copy(source, path.with_name("new")), path)


@pytest.mark.parametrize("way", ["over it", "in its place"])
def test_a_backup_is_put_in_place_while_stores_are_open(way, store, fitted, path, digits):
    """What is learned then is learned on what is there, under numbers that were never used."""
    X, y = digits
    clf = store.estimator()
    store.backup(path.with_name("backup"))
    with Store(path, net()) as other:
        other.partial_fit(X[:60], y[:60], task_id="lost")
        assert_same(store, other.estimator(), X[:9])
        put(path.with_name("backup"), path, way)
        for each in (store, other):
            assert_same(each, fitted, X[:9])
        for each in (store, clf):
            each.partial_fit(X[60:120], y[60:120] % 2, task_id="lost")
        for each in (store, other):
            assert_same(each, clf, X[:9])
    with Store(path, net()) as again:
        assert_same(again, clf, X[:9])


def test_another_store_takes_the_place_of_one_that_is_open(store, path, digits):
    X, y = digits
    clf = small(growth_budget=0.2).partial_fit(X[200:260], y[200:260], task_id="theirs")
    Store.create(path.with_name("theirs"), clf).close()
    put(path.with_name("theirs"), path, "in its place")
    assert_same(store, clf, X[:9])


def test_a_file_that_is_replaced_as_one_learns(store, fitted, path, digits, monkeypatch):
    X, y = digits
    clf = store.estimator()
    store.backup(path.with_name("backup"))
    during(monkeypatch, lambda: put(path.with_name("backup"), path, "in its place"))
    for each in (store, clf):
        each.partial_fit(X[:60], y[:60], task_id="new")
    with Store(path, net()) as again:
        assert_same(again, clf, X[:9])


def test_a_file_that_goes_takes_no_task_along(store, path, digits, monkeypatch):
    """It is not said to be learned."""
    X, y = digits
    during(monkeypatch, path.unlink)
    with pytest.raises(FileNotFoundError, match="There is no store at"):
        store.partial_fit(X[:60], y[:60], task_id="new")
    with pytest.raises(FileNotFoundError, match="There is no store at"):
        store.partial_fit(X[:60], y[:60], task_id="new")


def test_a_file_that_is_replaced_as_it_is_written(store, path):
    store.backup(path.with_name("backup"))

    def write(writing):
        writing.put(row(1, b"record"))
        put(path.with_name("backup"), path, "in its place")

    with pytest.raises(OSError, match="took the place of"):
        records_of(store).write(write)


def test_a_backup_is_a_store_of_one_moment(store, fitted, path, digits):
    X, y = digits
    copy = path.with_name("copy")
    copy.write_text("it is replaced")
    store.backup(copy)
    store.partial_fit(X[:60], y[:60], task_id="later")
    with Store(copy, net()) as other:
        assert_same(other, fitted, X[:9])
    with pytest.raises(ValueError, match="is this store"):
        store.backup(path)
    assert sorted(os.listdir(path.parent)) == ["copy", path.name]


# --- forgotten for good


def test_nothing_is_left_of_a_forgotten_task(digits, path):
    """Of the first one too, which the base was trained on."""
    X, y = digits
    clf = small().partial_fit(X[:100], y[:100], task_id="the first customer")
    for name in ("the second customer", "the third customer"):
        clf.partial_fit(permuted(X[:100], 3), [f"{name} {v % 2}" for v in y[:100]], task_id=name)
    with Store.create(path, clf) as store:
        new = "der vierte Kunde, Müller"
        store.partial_fit(X[:100], [f"label of four {v % 2}" for v in y[:100]], task_id=new)
        store.partial_fit(X[100:200], [f"label of four {v % 2}" for v in y[100:200]], task_id=new)
        clf = store.estimator()
        for name in [new, "the first customer", "the second customer"]:
            task = task_of(clf, name)
            traces = [
                name.encode(),
                name[-12:-4].encode(),
                task.data[:24].tobytes(),
                task.notes[8:40],
            ]
            traces += [str(label).encode("utf-32-le") for label in task.target.labels.tolist()]
            if name == "the first customer":
                head = clf.to_module(name).last.weight.detach().numpy()
                traces = [name.encode(), task.notes[8:40], head[0, :6].tobytes()]
            if name == new:
                traces = [b"der vierte Kunde", b"label of four", task.data[-24:].tobytes()]
            assert all(trace in in_files(path) for trace in traces if trace and len(trace) < 40)
            store.forget_task(name)
            left = in_files(path)
            assert [trace for trace in traces if trace in left] == []
        assert store.task_ids() == ["the third customer"]


def test_records_leave_no_copy_where_the_tree_moves_its_rows(tmp_path):
    """SQLite itself leaves some: of rows that lie in its tree as they are a few in a thousand."""
    rng = np.random.RandomState(0)
    records = Records(tmp_path / "file", 60)

    def record(number):
        size = rng.choice([20, 90, 700, 1500, 5000])
        return (b"mark%08d|" % number) * (size // 13 + 1)

    with_rows(tmp_path / "file", [(i, record(i)) for i in range(20)])
    known, number = list(range(20)), 20
    for _ in range(12):
        new = range(number, number + 40)
        records.write(lambda writing, new=new: [writing.put(row(n, record(n))) for n in new])
        known.extend(new)
        number += 40
        gone = [known.pop(rng.randint(len(known))) for _ in range(35)]
        for each in gone:
            records.write(partial(Writing.remove, task_id=id_of(each)))
        data = in_files(tmp_path / "file")
        assert [each for each in gone if b"mark%08d" % each in data] == []
        assert [each for each in gone if id_of(each).encode() in data] == []
        assert all(b"mark%08d" % each in data and id_of(each).encode() in data for each in known)
    records.close()


def id_of(number):
    return f"customer-{number:06d}"


def row(number, record, labels=None):
    return Row(id_of(number), record, labels, False)


def with_rows(path, rows):
    """Make a file of records."""

    def write(writing):
        writing.put_base(b"base")
        for number, record in rows:
            writing.put(row(number, record))

    Records.create(path, write)


@pytest.mark.parametrize(
    "size", [0, 1, 50, 103, 900, 1020, 4000, 8180, 8200, 20_000, 10**6, 10**6 * 2]
)
def test_no_byte_of_a_record_lies_in_the_tree(size, tmp_path):
    """Pages of trees begin with their kind, and overflow pages with the number of the next one."""
    for extra in range(0, 1100, 97):
        record = b"\xee" * (size + extra)
        assert without_padding(padded(record)) == record
    with_rows(tmp_path / "file", [(1, b"\xee" * size)])
    data = (tmp_path / "file").read_bytes()
    pages = [data[i : i + PAGE] for i in range(PAGE, len(data), PAGE)]
    trees = [page for page in pages if page[0] in (2, 5, 10, 13)]
    others = [page[4:] for page in pages if page[0] not in (2, 5, 10, 13)]
    assert len(trees) > 5
    assert all(b"\xee\xee\xee" not in page and b"customer" not in page for page in trees)
    assert b"".join(others).count(b"\xee") == size


def test_ids_of_equal_hash_are_told_apart(tmp_path, monkeypatch):
    hashes = Reading.hashes
    monkeypatch.setattr(Reading, "hashes", lambda self, text: (7, hashes(self, text)[1]))
    with_rows(tmp_path / "file", [(i, b"record %d" % i) for i in range(5)])
    records = Records(tmp_path / "file", 60)
    records.write(partial(Writing.remove, task_id=id_of(2)))
    records.write(partial(Writing.put, row=row(3, b"another")))
    assert records.read(list) == [id_of(i) for i in (0, 1, 3, 4)]
    assert not records.read(lambda reading: id_of(2) in reading)
    found = records.read(
        lambda reading: [reading.task(reading.number_of(name), name) for name in reading]
    )
    assert found == [b"record 0", b"record 1", b"another", b"record 4"]
    records.close()


# --- many at once


def test_a_reader_sees_what_others_do(store, fitted, path, digits):
    X, y = digits
    with Store(path, net()) as reader:
        assert_same(reader, fitted, X[:9])
        clf = store.estimator()
        for each in (store, clf):
            each.partial_fit(X[:100], y[:100] + 5, task_id="new")
        assert_same(reader, clf, X[:9])
        for each in (store, clf):
            each.partial_fit(X[100:200], y[100:200], task_id="new")
        assert_same(reader, clf, X[:9])
        for name in ("third", "first"):
            store.forget_task(name)
            clf.forget_task(name)
            with pytest.raises(UnknownTaskError, match=f"'{name}'"):
                reader.predict(X, name)
            assert_same(reader, clf, X[:9])
        assert not any("third" in str(held) for held in read_tasks(reader))


def test_a_pickle_is_the_way_to_the_file(store, fitted, digits):
    X, y = digits
    text = pickle.dumps(store)
    assert len(text) < 5000
    store.partial_fit(X[:60], y[:60], task_id="later")
    with pickle.loads(text) as again:
        assert again.task_ids() == [*fitted.tasks_, "later"]
        assert np.array_equal(again.predict(X, 2), fitted.predict(X, 2))


def test_threads_share_a_store(store, fitted, digits):
    """Readers, two learners and a forgetter: every answer is right, and nothing is lost."""
    X, y = digits
    truth = {name: fitted.predict(X[:20], name) for name in fitted.tasks_}
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            for name, expected in truth.items():
                try:
                    if not np.array_equal(store.predict(X[:20], name), expected):
                        wrong.append(name)
                except UnknownTaskError:
                    if name != "third":
                        wrong.append(name)

    def learn(name):
        store.partial_fit(X[:60], y[:60], task_id=name)

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=learn, args=[f"new{i}"]) for i in range(2)]
    writers.append(threading.Thread(target=store.forget_task, args=["third"]))
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    assert sorted(map(str, store)) == ["2", "first", "new0", "new1"]
    clf = store.estimator()
    alone = fitted.for_task("first")
    assert np.array_equal(clf.for_task("first").predict_proba(X), alone.predict_proba(X))


def during(monkeypatch, what):
    """Let something happen once, while the next partial_fit of an estimator learns."""
    learn = ContinualClassifier.partial_fit

    def partial_fit(self, *args, **kwargs):
        done = learn(self, *args, **kwargs)
        monkeypatch.setattr(ContinualClassifier, "partial_fit", learn)
        what()
        return done

    monkeypatch.setattr(ContinualClassifier, "partial_fit", partial_fit)


def test_two_that_learn_one_task_learn_one_after_the_other(store, path, digits, monkeypatch):
    X, y = digits
    clf = store.estimator()
    with Store(path, net()) as other:
        during(monkeypatch, lambda: other.partial_fit(X[:60], y[:60], task_id=2))
        store.partial_fit(X[60:120], y[60:120], task_id=2)
        clf.partial_fit(X[:60], y[:60], task_id=2).partial_fit(X[60:120], y[60:120], task_id=2)
        assert_same(store, clf, X[:9])
        during(monkeypatch, lambda: other.partial_fit(X[:60], y[:60], task_id="new"))
        store.partial_fit(X[60:120], y[60:120], task_id="new")
        clf.partial_fit(X[:60], y[:60], task_id="new")
        clf.partial_fit(X[60:120], y[60:120], task_id="new")
        assert_same(store, clf, X[:9])


def test_different_tasks_are_learned_at_the_same_time(store, path, digits, monkeypatch):
    X, y = digits
    clf = store.estimator()
    with Store(path, net()) as other:
        during(monkeypatch, lambda: other.partial_fit(X[:60], y[:60], task_id="theirs"))
        store.partial_fit(X[60:120], y[60:120], task_id="mine")
    clf.partial_fit(X[:60], y[:60], task_id="theirs").partial_fit(
        X[60:120], y[60:120], task_id="mine"
    )
    assert_same(store, clf, X[:9])


@pytest.mark.parametrize("theirs", ["first", "second"])
@pytest.mark.parametrize("mine", ["first", "second", "third"])
def test_two_that_learn_beside_a_base_that_is_not_final(mine, theirs, path, digits, monkeypatch):
    """What comes of it is what came of one after the other."""
    X, y = digits
    clf = small().partial_fit(X[:100], y[:100], task_id="first")
    with Store.create(path, clf) as store, Store(path, net()) as other:
        during(monkeypatch, lambda: other.partial_fit(X[100:160], y[100:160], task_id=theirs))
        store.partial_fit(X[160:220], y[160:220], task_id=mine)
        clf.partial_fit(X[100:160], y[100:160], task_id=theirs)
        clf.partial_fit(X[160:220], y[160:220], task_id=mine)
        for each in (store, clf):
            each.partial_fit(X[:60], y[:60], task_id="after")
        assert_same(store, clf, X[:9])


def test_what_is_forgotten_while_it_is_learned_stays_forgotten(store, path, digits, monkeypatch):
    X, y = digits
    with Store(path, net()) as other:
        during(monkeypatch, lambda: other.forget_task(2))
        with pytest.raises(UnknownTaskError, match="forgotten while these rows were learned"):
            store.partial_fit(X[:60], y[:60], task_id=2)
    assert store.task_ids() == ["first", "third"]


def test_a_base_that_loses_its_head_meanwhile(store, path, digits, monkeypatch):
    X, y = digits
    clf = store.estimator()
    with Store(path, net()) as other:
        during(monkeypatch, lambda: other.forget_task("first"))
        store.partial_fit(X[:60], y[:60], task_id="new")
    clf.forget_task("first").partial_fit(X[:60], y[:60], task_id="new")
    assert_same(store, clf, X[:9])


def test_another_that_writes_too_long_is_named(store, fitted, path, digits):
    X, y = digits
    with Store(path, net(), timeout=0.05) as hasty:

        def learn(_):
            with pytest.raises(TimeoutError, match=r"writing to .*customers.halrp for 0\.05"):
                hasty.partial_fit(X[:60], y[:60], task_id="new")

        records_of(store).write(learn)
        assert_same(hasty, fitted, X[:9])


def test_a_slow_reader_holds_up_a_change_that_is_not_made(store, fitted, path, digits):
    X, _ = digits
    with Store(path, net(), timeout=0.05) as other:

        def forget(_):
            with pytest.raises(TimeoutError, match=r"has been reading .*customers.halrp for 0\.05"):
                other.forget_task("third")

        records_of(store).read(forget)
        assert_same(other, fitted, X[:9])
        other.forget_task("third")
        assert "third" not in store


def test_readers_wait_for_the_moment_of_a_write(store, fitted, path, digits):
    """Also those that would not wait to write."""
    X, _ = digits
    with Store(path, net(), timeout=0) as hasty:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        ends = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        ends.start()
        assert_same(hasty, fitted, X[:9])
        ends.join()
        other.close()


def test_a_backup_is_taken_beside_a_reader(store, fitted, path, digits):
    with Store(path, net()) as other:
        records_of(other).read(lambda _: store.backup(path.with_name("copy")))
    with Store(path.with_name("copy"), net()) as copy:
        assert_same(copy, fitted, digits[0][:9])


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
old_warning = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def child(work):
    """Start a process that works, and ends with 0 if nothing goes wrong."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        signal.alarm(300)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(*children):
    """Wait for processes; return the codes that they ended with."""
    return [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children]


def as_nobody(work):
    """Do something in a process that no permission is given for by being root."""

    def without_rights():
        if os.geteuid() == 0:
            os.setuid(65534)
        work()

    assert ended(child(without_rights)) == [0]


@forks
@old_warning
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_store_that_may_not_be_written_serves_all_the_same(closed, fitted, digits, monkeypatch):
    """And it is said before anything is learned."""
    X, y = digits
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "customers.halrp"
        Store.create(path, fitted).close()
        path.chmod(0o444 if closed == "file" else 0o666)
        path.parent.chmod(0o555 if closed == "folder" else 0o777)
        learned = []

        def work():
            with Store(path, net()) as store:
                assert_same(store, fitted, X[:9])
                during(monkeypatch, lambda: learned.append(1))
                message = "permission to write" if closed == "file" else f"in the folder {folder}"
                with pytest.raises(PermissionError, match=message):
                    store.partial_fit(X[:60], y[:60], task_id="new")
                with pytest.raises(PermissionError, match=message):
                    store.forget_task(2)
                assert learned == []
                if closed == "file":
                    store.backup(path.with_name("copy"))

        try:
            as_nobody(work)
        finally:
            path.parent.chmod(0o755)


@forks
@old_warning
def test_what_a_killed_learner_leaves_spoils_no_backup(store, fitted, path, digits):
    X, y = digits
    store.backup(path.with_name("backup"))

    def work():
        store.partial_fit(X[:60], y[:60], task_id="new")
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(child(work)) == [-signal.SIGKILL]
    assert sorted(os.listdir(path.parent)) == ["backup", path.name]
    put(path.with_name("backup"), path, "over it")
    with Store(path, net()) as again:
        assert_same(again, fitted, X[:9])


@forks
@old_warning
def test_children_go_on_with_a_store(store, fitted, digits):
    """While other threads of the parent read and write."""
    X, _ = digits
    stop = threading.Event()
    truth = {name: fitted.predict(X[:9], name) for name in fitted.tasks_}

    def busy():
        while not stop.is_set():
            records_of(store).read(lambda _: time.sleep(0.001))
            records_of(store).write(lambda _: time.sleep(0.001))

    def ask():
        for name, expected in truth.items():
            assert np.array_equal(store.predict(X[:9], name), expected)

    thread = threading.Thread(target=busy)
    thread.start()
    codes = ended(*[child(ask) for _ in range(6)])
    stop.set()
    thread.join()
    assert codes == [0] * 6
    ask()


@forks
@old_warning
def test_processes_read_what_one_writes(store, fitted, digits):
    """A task is there or not, and never half; what is forgotten is gone for all."""
    X, y = digits
    truth = {name: fitted.predict_proba(X[:9], name).max(axis=1) for name in fitted.tasks_}
    clf = store.estimator()
    clf.partial_fit(X[:60], y[:60] + 100, task_id="new")
    new = clf.predict_proba(X[:9], "new").max(axis=1)

    def read():
        came = False
        while True:
            for name, expected in truth.items():
                assert np.array_equal(store.predict_proba(X[:9], name).max(axis=1), expected)
            try:
                assert np.array_equal(store.predict_proba(X[:9], "new").max(axis=1), new)
                came = True
            except UnknownTaskError:
                if came:
                    return

    readers = [child(read) for _ in range(2)]
    store.partial_fit(X[:60], y[:60] + 100, task_id="new")
    time.sleep(0.5)
    store.forget_task("new")
    assert ended(*readers) == [0, 0]


@forks
@old_warning
def test_processes_that_write_all_get_their_turn(store, fitted, digits):
    X, y = digits
    names = [[f"{letter}{i}" for i in range(3)] for letter in "abc"]

    def learn(some):
        for name in some:
            store.partial_fit(X[:40], y[:40], task_id=name)
        store.forget_task(some[0])

    assert ended(*[child(partial(learn, some)) for some in names]) == [0, 0, 0]
    left = [name for some in names for name in some[1:]]
    assert sorted(store.task_ids()[3:]) == left
    clf = fitted.for_task("first")
    whole = store.estimator(["first"])
    whole.partial_fit(X[:40], y[:40], task_id="c2")
    assert np.array_equal(store.for_task("first").predict_proba(X), clf.predict_proba(X))
    assert np.array_equal(
        store.for_task("c2").predict_proba(X), whole.for_task("c2").predict_proba(X)
    )


@forks
@old_warning
@pytest.mark.parametrize("n_kills", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_a_learner_that_is_killed_leaves_all_that_was_said(n_kills, store, fitted, digits):
    """What it said is there, whole; of what it was at, all or nothing; and no trace stays."""
    X, y = digits
    rng = np.random.RandomState(n_kills)
    expected = {name: fitted.for_task(name).predict_proba(X[:9]) for name in fitted.tasks_}
    begin, known = 0, set()

    def learn_and_forget(pipe):
        for number in range(begin, begin + 10_000):
            store.partial_fit(X[:40], y[:40] + number % 3, task_id=f"customer {number:06d}")
            os.write(pipe, b"+%d\n" % number)
            if number % 2:
                store.forget_task(f"customer {number - 1:06d}")
                os.write(pipe, b"-%d\n" % (number - 1))

    for _ in range(n_kills):
        read, write = os.pipe()
        learner = child(partial(learn_and_forget, write))
        os.close(write)
        time.sleep(rng.uniform(0, 0.6))
        os.kill(learner, signal.SIGKILL)
        with open(read) as pipe:
            said = pipe.read().split()
        assert ended(learner) == [-signal.SIGKILL]
        for word in said:
            (known.add if word[0] == "+" else known.discard)(int(word[1:]))
        found = {int(name.split()[1]) for name in store.task_ids()[3:]}
        at = max(known, default=begin - 1)  # the last that was learned
        assert known - found <= ({at - 1} if at % 2 else set())
        assert found - known <= {max(at + 1, begin)}
        for name in store:
            if name not in expected:
                alone = store.estimator(["first"])
                number = int(name.split()[1])
                alone.partial_fit(X[:40], y[:40] + number % 3, task_id=name)
                expected[name] = alone.for_task(name).predict_proba(X[:9])
            assert np.array_equal(store.for_task(name).predict_proba(X[:9]), expected[name])
        known = found
        begin = max(known | {begin}) + 1
        begin += begin % 2
    store.forget_task(2)
    gone = set(range(begin)) - known
    left = in_files(store.path)
    assert [number for number in gone if b"customer %06d" % number in left] == []
