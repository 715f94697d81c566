"""Threads and forked processes: nothing mixed up, nothing lost, nobody waits in vain."""

import os
import pickle
import random
import signal
import threading
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import UnknownTaskError
from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import OwnDraws, predictors_of, ready_nets, seeded, turn_of_predictors
from tests.modules import MLP, ZOO


class Gate(Callback):
    """Holds up whoever learns in a thread of the name "learner", at the end of an epoch."""

    there, go_on = threading.Event(), threading.Event()

    def on_epoch_end(self, net, **kwargs):
        if threading.current_thread().name == "learner":
            Gate.there.set()
            assert Gate.go_on.wait(20)


class Call(threading.Thread):
    """A call in a thread of its own; `result` waits, and gives or raises what it did."""

    def __init__(self, call, name=None):
        super().__init__(name=name, daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(20)
        assert not self.is_alive(), "a thread waits for ever"
        if self.error is not None:
            raise self.error
        return self.value


class Learning:
    """A classifier of three tasks, one thread of which is in the middle of learning "new"."""

    def __init__(self, digits, module=MLP, deed=None, **settings):
        self.X, self.y = X, y = digits
        Gate.there.clear()
        Gate.go_on.clear()
        self.clf = make_classifier(module, net={"callbacks": [Gate()]}, **settings)
        self.clf.fit(X[:150], y[:150], task_id=np.repeat(["a", "b", "c"], 50))
        self.call = Call(deed or self.learns("new"), "learner")
        assert Gate.there.wait(20)

    def learns(self, task_id):
        rows = permuted(self.X[:40], len(task_id))
        return lambda: self.clf.partial_fit(rows, self.y[:40], task_id=task_id)

    def end(self):
        Gate.go_on.set()
        return self.call.result()


def test_two_threads_learn_one_after_the_other(digits):
    learning = Learning(digits)
    other = Call(learning.learns("other"))
    time.sleep(0.1)  # so that it begins, and waits
    learning.end()
    other.result()
    assert learning.clf.tasks_ == ["a", "b", "c", "new", "other"]
    alone = make_classifier(net={"callbacks": [Gate()]})
    X, y = digits
    alone.fit(X[:150], y[:150], task_id=np.repeat(["a", "b", "c"], 50))
    for task_id in ("new", "other"):
        alone.partial_fit(permuted(X[:40], len(task_id)), y[:40], task_id=task_id)
        assert np.array_equal(
            alone.predict_proba(X, task_id), learning.clf.predict_proba(X, task_id)
        )


def test_what_one_thread_forgets_another_that_learns_does_not_bring_back(digits):
    learning = Learning(digits)
    other = Call(lambda: learning.clf.forget_task("b"))
    time.sleep(0.1)
    learning.end()
    other.result()
    assert learning.clf.tasks_ == ["a", "c", "new"]


def test_a_call_that_fails_undoes_nothing_of_another(digits):
    class Fails(MLP):
        fails = False

        def forward(self, x):
            if self.training and Fails.fails:
                raise RuntimeError("on purpose")
            return super().forward(x)

    learning = Learning(digits, Fails)
    forgets = Call(lambda: learning.clf.forget_task("b"))
    learning.clf.set_params(cache_bytes=5, net__lr=0.5)
    Fails.fails = True
    with pytest.raises(RuntimeError, match="on purpose"):
        learning.end()
    forgets.result()
    assert learning.clf.tasks_ == ["a", "c"]
    assert (learning.clf.cache_bytes, learning.clf.net.lr) == (5, 0.5)


def test_a_failure_leaves_what_others_drew_from_the_same_generator(digits):
    X, y = digits
    generator = np.random.RandomState(0)
    clf = make_classifier(random_state=generator)

    def draw_and_fail(net):
        drawn.append(generator.randint(2**31 - 1))
        raise RuntimeError("on purpose")

    drawn = []
    clf.set_params(net__callbacks=[OnEpochEnd(draw_and_fail)])
    with pytest.raises(RuntimeError, match="on purpose"):
        clf.fit(X[:50], y[:50])
    assert generator.randint(2**31 - 1) not in drawn


class OnEpochEnd(Callback):
    def __init__(self, deed):
        self.deed = deed

    def on_epoch_end(self, net, **kwargs):
        self.deed(net)


def test_parameters_set_while_it_learns_hold_from_the_next_call_on(digits):
    X, y = digits
    learning = Learning(digits)
    learning.clf.set_params(precision="half", max_rank=1, growth_budget=0.01, task_column=3)
    learning.end()
    learning.clf.set_params(task_column=None)
    alone = make_classifier(net={"callbacks": [Gate()]})
    alone.fit(X[:150], y[:150], task_id=np.repeat(["a", "b", "c"], 50))
    alone.partial_fit(permuted(X[:40], 3), y[:40], task_id="new")
    assert np.array_equal(alone.predict_proba(X, "new"), learning.clf.predict_proba(X, "new"))


def test_a_callback_may_not_change_the_estimator_that_it_serves(digits):
    X, y = digits
    deeds = {
        "learn": lambda net: clf.partial_fit(X[:40], y[:40], task_id="c"),
        "forget": lambda net: clf.forget_task("a"),
    }
    for deed in deeds.values():
        clf = make_classifier().fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
        clf.set_params(net__callbacks=[OnEpochEnd(deed)])
        with pytest.raises(RuntimeError, match="is learning"):
            clf.partial_fit(X[:40], y[:40], task_id="new")
        assert clf.tasks_ == ["a", "b"]


# --- readers


def make_anew(clf):
    """The same classifier, without a network that is ready."""
    ready_nets(predictors_of(clf)).clear()
    return clf


def test_readers_wait_for_no_learner(digits, tmp_path):
    X, y = digits
    given = make_classifier(MLP())
    given.fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
    file = tmp_path / "model.safetensors"
    save(given, file)
    blob = pickle.dumps(given)
    learning = Learning(digits)
    clf = learning.clf
    before = clf.predict_proba(X[:5], "a")
    calls = {
        "predict": lambda: clf.predict_proba(X[:5], "a"),
        "predict anew": lambda: make_anew(clf).predict_proba(X[:5], "a"),
        "to_module": lambda: clf.to_module("a"),
        "for_task": lambda: clf.for_task("a").predict(X[:5]),
        "report": lambda: clf.report_,
        "pickle": lambda: pickle.loads(pickle.dumps(clf)).predict_proba(X[:5], "a"),
        "pickle another": lambda: pickle.dumps(given),
        "load another": lambda: pickle.loads(blob).predict(X[:5], "a"),
        "save": lambda: save(given, tmp_path / "other"),
        "load": lambda: load(file, net=make_net(MLP())).predict(X[:5], "b"),
        "forget another": lambda: given.forget_task("a"),
    }
    found = {name: Call(call).result() for name, call in calls.items()}
    learning.end()
    for name in ("predict", "predict anew", "pickle"):
        assert np.array_equal(found[name], before)


class Prepares(NeuralNetClassifier):
    """A net whose own initialize draws random numbers."""

    def initialize(self):
        super().initialize()
        self.drawn_ = torch.rand(2)
        return self


def test_nets_with_an_initialize_of_their_own_are_read_without_a_wait(digits):
    X, y = digits
    clf = ContinualClassifier(make_net(kind=Prepares), random_state=0)
    clf.fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
    learning = Learning(digits)
    Call(lambda: clf.predict(X[:5], "a")).result()
    learning.end()


@pytest.mark.parametrize("name", ZOO)
def test_a_module_built_beside_a_learner_is_the_same(name):
    module = ZOO[name].module
    before = torch.get_rng_state()
    with OwnDraws(3):
        own = module().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(3):
        same = module().state_dict()
    assert list(own) == list(same)
    assert all(torch.equal(own[key], same[key]) for key in own)


def test_loading_beside_a_learner_changes_nothing_for_either(digits):
    X, y = digits
    learning = Learning(digits)
    blob = pickle.dumps(learning.clf)
    loaded = Call(lambda: pickle.loads(blob)).result()
    assert np.array_equal(loaded.predict_proba(X, "b"), learning.clf.predict_proba(X, "b"))
    learning.end()
    loaded.partial_fit(permuted(X[:40], 3), y[:40], task_id="new")
    assert np.array_equal(loaded.predict_proba(X, "new"), learning.clf.predict_proba(X, "new"))


class Watched(MLP):
    """Lets another thread act before the second of the networks that predict."""

    deeds = ()

    def forward(self, x):
        if Watched.deeds:
            deed, *Watched.deeds = Watched.deeds
            deed()
        return super().forward(x)


def test_labels_and_tasks_of_one_prediction_are_of_one_moment(digits):
    X, y = digits
    clf = make_classifier(Watched)
    for task_id, labels in {"a": y[:40] % 3 + 20, "b": y[:40] % 3 + 20, "z": y[:40] % 3}.items():
        clf.partial_fit(X[:40], labels, task_id=task_id)
    deeds = {
        "forget": lambda: clf.forget_task("z"),
        "learn": lambda: clf.partial_fit(X[:40], y[:40] % 4, task_id="q"),
    }
    for deed in deeds.values():
        wanted, before = clf.predict_proba(X[:2], ["a", "b"]), clf.tasks_
        Watched.deeds = [lambda: None, lambda deed=deed: Call(deed).result()]
        assert np.array_equal(clf.predict_proba(X[:2], ["a", "b"]), wanted)
        assert clf.tasks_ != before


def test_a_pickle_made_at_any_moment_is_whole(digits):
    X, y = digits
    clf = make_classifier()
    clf.fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50)).set_params(growth_budget=0.001)
    blobs = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda *args, **kwargs: blobs.append(pickle.dumps(clf))
        warnings.simplefilter("always")
        clf.partial_fit(permuted(X[:40], 3), y[:40] + 50, task_id="new")
    assert blobs
    for blob in blobs:
        loaded = pickle.loads(blob)
        for task_id in loaded.tasks_:
            assert loaded.predict_proba(X[:2], task_id).shape == (2, len(loaded.classes_))


# --- forks

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")


def in_child(call, seconds=20):
    """Whether a call comes to its end in a forked process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
        pid = os.fork()
    if not pid:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            call()
            os._exit(0)
        except BaseException:
            os._exit(3)
    return os.waitpid(pid, 0)[1] == 0


@needs_fork
def test_a_process_forked_beside_a_learner_can_do_everything(digits):
    X, y = digits
    learning = Learning(digits)
    clf, blob = learning.clf, pickle.dumps(learning.clf)
    before = clf.predict_proba(X[:5], "a")

    def everything():
        assert np.array_equal(clf.predict_proba(X[:5], "a"), before)
        assert pickle.loads(blob).tasks_ == ["a", "b", "c"]
        clf.to_module("a")
        clf.partial_fit(X[:40], y[:40], task_id="child")
        clf.forget_task("b")
        assert clf.tasks_ == ["a", "c", "child"]

    assert in_child(everything)
    learning.end()


@needs_fork
def test_a_process_forked_while_another_thread_reads_does_not_hang(digits):
    X, _ = digits
    clf = make_classifier().fit(X[:100], digits[1][:100], task_id=np.repeat(["a", "b"], 50))
    turn = turn_of_predictors(clf)
    held, done = threading.Event(), threading.Event()

    def hold():
        with turn.taken():
            held.set()
            done.wait(20)

    holder = Call(hold)
    held.wait(20)
    assert in_child(lambda: clf.predict(X[:5], "a"))
    done.set()
    holder.result()


@needs_fork
def test_a_callback_may_fork(digits):
    X, y = digits
    found = []

    def fork(net):
        found.append(in_child(lambda: other.partial_fit(X[:40], y[:40], task_id="b")))

    other = make_classifier().fit(X[:50], y[:50], task_id="a")
    clf = make_classifier(net={"callbacks": [OnEpochEnd(fork)], "max_epochs": 1})
    clf.fit(X[:50], y[:50])
    assert found
    assert all(found)


# --- all at once


def storm(digits, n_answers, pause=0.001, limit=600):
    """Eight readers, two learners, one who forgets and one who pickles, on a tiny cache.

    The truth is computed beforehand, one task after the other: a task is the same whichever
    others there are. It ends at so many right answers, within `limit` seconds; who learns,
    forgets or pickles waits for `pause` seconds after each deed, so that readers get somewhere.
    """
    X, y = digits
    X, y = X[:30], y[:30]
    names = [f"task {i}" for i in range(12)]
    kept, moving = names[:4], names[4:]
    labels = {name: y % 3 + number for number, name in enumerate(names)}
    rows = {name: permuted(X, number) for number, name in enumerate(names)}
    clf = make_classifier(net={"max_epochs": 1, "train_split": None}, cache_bytes=2**14)
    for name in names:
        clf.partial_fit(rows[name], labels[name], task_id=name)
    truth = {name: clf.predict(X[:4], name) for name in names}
    chances = {}
    for name in names:
        p = clf.predict_proba(X[:4], name)
        chances[name] = p[:, np.isin(clf.classes_, clf.task_classes_[name])]
    for name in moving:
        clf.forget_task(name)
    outcomes, stop, biggest = Counter(), threading.Event(), [0]

    def reads(seed):
        draws = random.Random(seed)
        while not stop.is_set():
            name, other = draws.choice(names), draws.choice(kept)
            try:
                found = clf.predict(X[:4], [name, name, other, other])
                for rows, one in (slice(2), name), (slice(2, 4), other):
                    right = np.array_equal(found[rows], truth[one][rows])
                    outcomes["right" if right else "wrong"] += 1
                p = clf.predict_proba(X[:4], name)
                right = np.array_equal(p[:, p.any(axis=0)], chances[name][:, chances[name].any(0)])
                outcomes["right" if right else "wrong"] += 1
            except UnknownTaskError:
                outcomes["wrong" if name in kept else "unknown"] += 1
            except BaseException as error:
                outcomes[repr(error)] += 1
            biggest[0] = max(biggest[0], len(ready_nets(predictors_of(clf))))
            if outcomes["right"] >= n_answers:
                stop.set()

    there = set()  # what was learned, and not yet asked to be forgotten
    learned = Counter()

    def learns(own):
        while not stop.is_set():
            for name in own:
                if name not in there:
                    clf.partial_fit(rows[name], labels[name], task_id=name)
                    learned[name] += 1
                    there.add(name)
                    time.sleep(pause)
            time.sleep(0.001)

    def forgets():
        while not stop.is_set():
            for name in sorted(there):
                outcomes["right" if name in clf.tasks_ else "lost"] += 1
                clf.forget_task(name)
                time.sleep(pause)
                outcomes["came back" if name in clf.tasks_ else "right"] += 1
                there.discard(name)

    def pickles():
        while not stop.is_set():
            other = pickle.loads(pickle.dumps(clf))
            name = other.tasks_[-1]
            right = np.array_equal(other.predict(X[:4], name), truth[name])
            outcomes["right" if right else "wrong"] += 1
            time.sleep(pause)

    deeds = [lambda s=s: reads(s) for s in range(8)] + [forgets, pickles]
    deeds += [lambda own=own: learns(own) for own in (moving[::2], moving[1::2])]
    calls = [Call(deed) for deed in deeds]
    calls[0].join(limit)
    stop.set()
    for call in calls:
        call.result()
    assert set(outcomes) <= {"right", "unknown"}, outcomes
    assert outcomes["right"] >= n_answers
    assert sum(learned.values()) > 3
    assert biggest[0] <= 2  # the last one, and for a moment one that comes in its place


def test_a_storm(digits):
    storm(digits, 300)


@pytest.mark.slow
def test_a_long_storm(digits):
    storm(digits, 100_000, pause=0.05, limit=1800)
