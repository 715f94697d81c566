"""Tasks learned in parallel are the same as tasks learned one by one."""

import gc
import os
import pickle
import warnings
import weakref

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch.callbacks import Callback, Checkpoint
from torch import nn

from sklearn_halrp.exceptions import GrowthBudgetWarning
from sklearn_halrp.metrics import aopd, mopd
from tests.conftest import make_classifier, permuted
from tests.inside import network_of
from tests.modules import MLP


@pytest.fixture
def stream(digits):
    """Rows of four tasks in one array, with their ids."""
    X, y = digits
    rows = np.concatenate([permuted(X[:100], t) for t in range(4)])
    return rows, np.tile(y[:100], 4), np.repeat(["a", "b", "c", "d"], 100)


@pytest.fixture(scope="module")
def cluster():
    """Two dask workers, processes of one thread each, for the tests that follow."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        yield cluster


class WhichProcess(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("process", os.getpid())


def processes(clf, task_ids):
    return {row["process"] for task_id in task_ids for row in clf.history_[task_id]}


def assert_same(one, other, X):
    assert one.tasks_ == other.tasks_
    for task_id in one.tasks_:
        assert np.array_equal(one.predict_proba(X, task_id), other.predict_proba(X, task_id))
        assert one.ranks_[task_id] == other.ranks_[task_id]


def test_two_processes_learn_what_one_does(stream, digits):
    X, y, ids = stream
    alone = make_classifier().fit(X, y, task_id=ids)
    together = make_classifier(n_jobs=2).fit(X, y, task_id=ids)
    assert_same(alone, together, digits[0])
    # Going on with known tasks, the first among them, beside a new one.
    later = np.where(ids == "d", "new", ids)
    for clf in (alone, together):
        clf.partial_fit(X, y, task_id=later)
    assert_same(alone, together, digits[0])
    assert together.tasks_ == ["a", "b", "c", "d", "new"]


def test_on_a_joint_base_neither_processes_nor_orders_change_a_bit(stream, digits):
    X, y, ids = stream
    mixed = np.random.RandomState(0).permutation(ids)  # the rows of a task stay in their order
    rows = np.empty(len(ids), dtype=int)
    for task_id in "abcd":
        rows[mixed == task_id] = np.flatnonzero(ids == task_id)
    alone = make_classifier(base="joint").fit(X, y, task_id=ids)
    together = make_classifier(base="joint", n_jobs=2).fit(X[rows], y[rows], task_id=mixed)
    assert together.tasks_ != alone.tasks_
    accuracy = [
        [c.score(*digits, task_id=task_id) for task_id in "abcd"] for c in (alone, together)
    ]
    assert aopd(accuracy) == mopd(accuracy) == 0
    for task_id in "abcd":
        one, other = (c.predict_proba(digits[0], task_id=task_id) for c in (alone, together))
        assert np.array_equal(one, other)


def test_the_first_task_is_no_base_any_more_when_another_comes_before_it(stream, digits):
    X, y, ids = stream
    clf = make_classifier().partial_fit(X[ids == "a"], y[ids == "a"], task_id="a")
    base = {n: t.clone() for n, t in network_of(clf).base.state_dict().items()}
    clf.partial_fit(X[:200][::-1], y[:200][::-1], task_id=ids[:200][::-1])
    assert clf.tasks_ == ["a", "b"]
    for name, tensor in network_of(clf).base.state_dict().items():
        assert torch.equal(tensor, base[name])
    assert set(clf.ranks_["a"].values()) != {0}


def test_warnings_arrive_from_other_processes(stream):
    X, y, ids = stream
    with pytest.warns(GrowthBudgetWarning, match="over the growth_budget") as found:
        make_classifier(n_jobs=2, growth_budget=0.05).fit(X, y, task_id=ids)
    assert [str(w.message)[:8] for w in found] == ["Task 'b'", "Task 'c'", "Task 'd'"]


@pytest.mark.slow
def test_inside_a_parallel_search_it_learns_one_by_one(stream):
    X, y, ids = stream
    with_ids = np.insert(X, 0, np.unique(ids, return_inverse=True)[1], axis=1)
    grid, cv = {"net__lr": [1e-3, 1e-2]}, StratifiedKFold(2, shuffle=True, random_state=0)
    scores = [
        GridSearchCV(
            make_classifier(task_column=0, n_jobs=inner), grid, cv=cv, n_jobs=outer, refit=False
        )
        .fit(with_ids, y)
        .cv_results_["mean_test_score"]
        for inner, outer in [(None, None), (2, 2)]
    ]
    assert np.array_equal(*scores)


@pytest.mark.slow
def test_two_dask_workers_learn_what_one_process_does(stream, digits, cluster):
    X, y, ids = stream
    net = {"callbacks": [WhichProcess()]}
    alone = make_classifier(net=net).fit(X, y, task_id=ids)
    with joblib.parallel_config(backend="dask"):
        spread = make_classifier(net=net).fit(X, y, task_id=ids)
    assert len(processes(spread, "bcd") - {os.getpid()}) == 2
    assert_same(alone, spread, digits[0])
    later = np.where(ids == "d", "new", ids)
    alone.partial_fit(X, y, task_id=later)
    with joblib.parallel_config(backend="dask"):
        spread.partial_fit(X, y, task_id=later)
    assert_same(alone, spread, digits[0])


@pytest.mark.slow
def test_dask_sends_the_base_and_the_data_once(stream, cluster):
    X, y, ids = stream
    dask = pytest.importorskip("dask")
    clf = make_classifier(lambda: MLP(hidden=100)).fit(X, y, task_id=ids)
    limit = {"distributed.admin.large-graph-warning-threshold": "12 kB"}
    with joblib.parallel_config(backend="dask"), dask.config.set(limit):
        with warnings.catch_warnings(record=True) as found:  # dask gets stuck on errors
            warnings.simplefilter("always")
            clf.partial_fit(X, y, task_id=ids)
    assert network_of(clf).n_bytes > 50_000
    assert X[ids == "a"].nbytes > 25_000
    assert not found


def test_checkpoints_are_not_shared_between_workers(stream, cluster, tmp_path):
    X, y, ids = stream
    net = {"callbacks": [WhichProcess(), Checkpoint(dirname=tmp_path)]}
    with joblib.parallel_config(backend="dask"):
        clf = make_classifier(net=net).fit(X, y, task_id=ids)
    assert processes(clf, "bcd") == {os.getpid()}


def test_a_search_over_dask_workers_finds_what_one_process_does(stream, cluster):
    X, y, ids = stream
    X = np.insert(X, 0, np.unique(ids, return_inverse=True)[1], axis=1)
    grid, cv = {"net__lr": [1e-3, 1e-2]}, StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(make_classifier(task_column=0), grid, cv=cv, refit=False)
    alone = search.fit(X, y).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="dask"):
        assert np.array_equal(search.fit(X, y).cv_results_["mean_test_score"], alone)


def test_a_dask_worker_with_two_threads_learns_what_one_does(stream, digits):
    distributed = pytest.importorskip("distributed")
    X, y, ids = stream
    alone = make_classifier().fit(X, y, task_id=ids)
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, processes=False) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert_same(alone, make_classifier().fit(X, y, task_id=ids), digits[0])


@pytest.mark.slow
def test_what_a_net_has_become_since_the_base_is_the_same_elsewhere(stream, digits):
    class Dropping(MLP):
        def __init__(self, p=0.2):
            super().__init__()
            self.drop, self.calls = torch.nn.Dropout(p), 0

        def forward(self, x):
            self.calls += self.training
            ramp = min(self.calls, 10) if self.training else 1
            return super().forward(self.drop(x)) * ramp

    X, y, ids = stream
    found = []
    for n_jobs in (None, 2):
        clf = make_classifier(Dropping, n_jobs=n_jobs)
        clf.partial_fit(X[ids == "a"], y[ids == "a"], task_id="a")
        clf.set_params(net__lr=1e-3)
        found.append(clf.partial_fit(X[ids != "a"], y[ids != "a"], task_id=ids[ids != "a"]))
    assert_same(*found, digits[0])


class Watches(Callback):
    data = []

    def on_train_end(self, net, X=None, **kwargs):
        self.data.append(weakref.ref(X))


def test_data_are_let_go_at_once(stream):
    # joblib waits a second for files that processes still have open.
    X, y, ids = stream
    Watches.data.clear()
    gc.disable()
    try:
        make_classifier(net={"callbacks": [Watches()]}).fit(X, y, task_id=ids)
        assert len(Watches.data) == 7
        assert not any(watched() is not None for watched in Watches.data)
    finally:
        gc.enable()


class Coloured(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))


def test_the_layout_in_memory_changes_nothing(stream):
    # Another process gets plain arrays; libraries for images and tables give others too.
    X, y, ids = stream
    images = np.stack([X, X**2, 1 - X], axis=-1).reshape(-1, 8, 8, 3).transpose(0, 3, 1, 2)
    plain = np.ascontiguousarray(images)
    layouts = [images, plain]
    one, other = (
        make_classifier(Coloured, growth_budget=2.0).fit(rows, y, task_id=ids) for rows in layouts
    )
    assert_same(one, other, plain)
    assert np.array_equal(one.predict_proba(images, "b"), one.predict_proba(plain, "b"))


class ChannelsLast(Coloured):
    def __init__(self):
        super().__init__()
        self.to(memory_format=torch.channels_last)


def test_weights_keep_their_layout_in_another_process(stream):
    X, y, _ = stream
    images = np.stack([X, X**2, 1 - X], axis=1).reshape(-1, 3, 8, 8)
    here = make_classifier(ChannelsLast, growth_budget=2.0).fit(images, y, task_id="a")
    there = pickle.loads(pickle.dumps(here))
    for clf in (here, there):
        clf.partial_fit(images[:200], y[:200], task_id="b")
    assert_same(here, there, images)


def test_processes_have_their_own_number_of_threads_again(stream):
    X, y, ids = stream
    pool = joblib.Parallel(n_jobs=2, mmap_mode="c")  # the same processes, for other work
    here, before = torch.get_num_threads(), pool([joblib.delayed(torch.get_num_threads)()] * 4)
    try:
        torch.set_num_threads(before[0] + 1)
        make_classifier(n_jobs=2, warmup_epochs=0).fit(X, y, task_id=ids)
    finally:
        torch.set_num_threads(here)
    assert pool([joblib.delayed(torch.get_num_threads)()] * 4) == before
