"""An error at any place of a store's call: it is done or it is not, and the store goes on."""

import gc
import os
import shutil
import threading

import pytest

from sklearn_halrp.store import Store
from tests.injection import ERRORS, KINDS, Injected, Injection
from tests.inside import around_a_fork, is_connected
from tests.test_failures import LABELS, ROWS, folder, learned, net, told  # noqa: F401

CALLS = {
    "len": len,
    "in": lambda store: "b" in store,
    "task_ids": Store.task_ids,
    "predict": lambda store: store.predict(ROWS[:6], "b"),
    "for_task": lambda store: store.for_task("b").predict_proba(ROWS[:6]),
    "partial_fit": lambda store: store.partial_fit(ROWS[:12], LABELS[:12], "new"),
    "forget_task": lambda store: store.forget_task("b"),
    "backup": lambda store: store.backup("backup.halrp"),
}
WRITE = {"partial_fit", "forget_task"}


def answered(call):
    """What a call returns in another thread, which is not to wait for ever."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(30)
    assert found, "the store hangs, or raised an error"
    return found[0]


def said(store):
    return {name: store.for_task(name).predict_proba(ROWS[:6]).tobytes() for name in store}


class Case:
    """One call of a store of two tasks."""

    def __init__(self, name):
        self.call = CALLS[name]
        Store.create("first.halrp", learned()).close()
        shutil.copy("first.halrp", "now.halrp")
        self.store = Store("now.halrp", net(), timeout=5)
        self.before = said(self.store)
        told(self.call(self.store))
        self.after = said(self.store)
        assert (self.before != self.after) == (name in WRITE)
        self.places = {}
        for kind in KINDS:
            self.begin()
            injection = Injection(kind)
            injection.during(lambda: self.call(self.store))
            self.places[kind] = injection.passed

    def begin(self):
        shutil.copy("first.halrp", "new.halrp")
        os.replace("new.halrp", "now.halrp")

    def disturbed(self, injection):
        self.begin()
        error = None
        try:
            injection.during(lambda: self.call(self.store))
        except BaseException as raised:
            error = raised  # it holds the frames, as in a debugger
        place = (injection.error.__name__, injection.kind, injection.at, injection.where, error)
        now = answered(lambda: said(self.store))
        assert now in (self.before, self.after), place
        if error is None:
            assert now == self.after or injection.error is Injected, place
        if now == self.before:
            self.call(self.store)
        assert answered(lambda: said(self.store)) == self.after, place
        assert not os.path.exists("now.halrp-journal"), place


# A file or folder whose opening is interrupted at once is closed by Python, with a warning.
@pytest.mark.filterwarnings(
    "ignore:.*(ScandirIterator|FileIO):pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("more", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_done_or_not_and_the_next_one_works(name, more, folder):  # noqa: F811
    case = Case(name)
    for kind, n_places in case.places.items():
        # The last places are those where the file is opened, written and closed.
        n_points = more * (4 if name == "partial_fit" else 8)
        points = {1 + int((n + 0.5) / n_points * n_places) for n in range(n_points)}
        last = set(range(max(1, n_places - 3 * more), n_places + 1))
        for number, at in enumerate(sorted(points | last)):
            case.disturbed(Injection(kind, ERRORS[number % 4], at))
    case.store.close()


def test_every_place_of_a_short_call_may_be_interrupted(folder):  # noqa: F811
    case = Case("in")
    for kind, n_places in case.places.items():
        for at in range(1, n_places + 1):
            case.disturbed(Injection(kind, KeyboardInterrupt, at))
    case.store.close()


@pytest.mark.parametrize("kind", ["call", "line"])
def test_an_interruption_of_a_fork_leaves_no_lock_and_no_connection(kind, folder):  # noqa: F811
    Store.create("now.halrp", learned()).close()
    gc.collect()  # a fork holds every store there is: those of other tests go now, or never
    with Store("now.halrp", net(), timeout=5) as store:
        injection = Injection(kind)
        injection.during(around_a_fork)
        for at in range(1, injection.passed + 1):
            assert len(store) == 2
            assert is_connected(store)
            injection = Injection(kind, KeyboardInterrupt, at)
            with pytest.raises(KeyboardInterrupt):
                injection.during(around_a_fork)
            assert not is_connected(store), injection.where
            assert answered(lambda: len(store)) == 2, injection.where
