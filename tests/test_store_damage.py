"""A bit of a store's file that flips: a call is right, or it says that the file is damaged."""

import sqlite3

import numpy as np
import pytest

from sklearn_halrp.exceptions import UnknownTaskError
from sklearn_halrp.store import Store
from tests.inside import PAGE
from tests.test_failures import LABELS, ROWS, learned, net, twin


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a store of two tasks with labels of their own, and what it predicts."""
    clf = twin(learned()).partial_fit(ROWS[:12], LABELS[:12] % 2 + 5, task_id="b2")
    clf.forget_task("a")
    path = tmp_path_factory.mktemp("whole") / "whole.halrp"
    with Store.create(path, clf) as store:
        truth = {n: store.predict_proba(ROWS[:6], n).tobytes() for n in store}
    return path.read_bytes(), truth


def in_trees(data):
    """Where the trees are, and the first page; the rest are records, of which each has a digest."""
    pages = [n for n in range(0, len(data), PAGE) if not n or data[n] in (2, 5, 10, 13)]
    return np.concatenate([np.arange(n, n + PAGE) for n in pages])


def tried(call, place):
    """What a call returns, or None if it says that the file is damaged."""
    try:
        return call()
    except (ValueError, OSError) as error:
        if "damaged.halrp" not in str(error) or isinstance(error, UnknownTaskError):
            raise AssertionError(place, error) from error
        return None


def asked(call, expected, place):
    """Whether a call was answered, which is rightly then."""
    found = tried(call, place)
    assert found is None or found == expected, place
    return found is not None


def check(path, truth, place, learns):
    """Ask for all there is, learn a task anew or forget it, and ask for all again."""
    names = list(truth)
    store = tried(lambda: Store(path, net(), timeout=1), place)
    if store is None:
        return False
    with store:
        rights = []

        def ask(names):
            rights.append(asked(store.task_ids, names, place))
            rights.append(asked(lambda: list(store), names, place))
            rights.append(asked(lambda: len(store), len(names), place))
            rights.append(asked(lambda: "nobody" in store, False, place))
            for name in truth:
                rights.append(asked(lambda n=name: n in store, name in names, place))

        ask(names)
        for name in names:
            predicted = lambda n=name: store.predict_proba(ROWS[:6], n).tobytes()  # noqa: E731
            rights.append(asked(predicted, truth[name], place))
        last = names[-1]
        if learns:
            labels = LABELS[:12] % 2 + 5
            changed = asked(lambda: store.partial_fit(ROWS[:12], labels, last), store, place)
            ask(names)
        else:
            changed = asked(lambda: store.forget_task(last), store, place)
            ask(names[:-1] if changed else names)
        return all(rights) and changed


@pytest.mark.parametrize("n_flips", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_bit_that_flips_gives_no_wrong_answer(n_flips, whole, tmp_path):
    data, truth = whole
    path = tmp_path / "damaged.halrp"
    trees, rng, rights = in_trees(data), np.random.RandomState(0), 0
    for number in range(n_flips):
        at = rng.choice(trees) if number % 4 else rng.randint(len(data))
        bit = rng.randint(8)
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        rights += check(path, truth, (at, bit), learns=number % 8 == 0)
        for file in tmp_path.glob("damaged*"):
            file.unlink()
    assert 0 < rights < n_flips


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tasks SET hash = hash + 1 WHERE place = 2",
        "UPDATE tasks SET other_hash = other_hash + 1 WHERE place = 2",
        "UPDATE tasks SET number = 'x' WHERE place = 2",
        "UPDATE tasks SET number = (SELECT number FROM tasks WHERE place = 1) WHERE place = 2",
        "UPDATE tasks SET labels = 99",
        "UPDATE tasks SET on_base_head = 1 - on_base_head",
        "DELETE FROM labels",
        "UPDATE labels SET tasks = 9",
        "UPDATE labels SET number = -number",
        "UPDATE state SET salt = randomblob(16)",
        "UPDATE state SET frozen = 0",
        "UPDATE state SET next = 0",
        "UPDATE state SET forgotten = 'x'",
        "DELETE FROM state",
        "UPDATE base SET number = 'z'",
        "DELETE FROM records WHERE number = (SELECT number FROM tasks WHERE place = 2)",
    ],
)
def test_a_row_that_is_changed_gives_no_wrong_answer(change, whole, tmp_path):
    data, truth = whole
    for learns in (False, True):
        path = tmp_path / "damaged.halrp"
        path.write_bytes(data)
        other = sqlite3.connect(path)
        other.execute(change)
        other.commit()
        other.close()
        assert not check(path, truth, change, learns)
