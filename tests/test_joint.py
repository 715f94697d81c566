"""Several tasks train the base together, and nothing depends on their order."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch.callbacks import Callback, EarlyStopping, Freezer
from skorch.hf import AccelerateMixin
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import InvalidNetworkError, TrainingDivergedError
from sklearn_halrp.metrics import aopd, mopd
from sklearn_halrp.persistence import load, save
from sklearn_halrp.store import Store
from tests.conftest import make_classifier, make_net, make_regressor, permuted
from tests.inside import (
    HoldOut,
    SeveralModules,
    SeveralSets,
    choose_ranks,
    get_tensor,
    keep_better,
    mean_loss,
    network_of,
    spread,
    turns,
    visit,
)
from tests.modules import MLP

SIZES = {"b": 90, "a": 40, 3: 60}
N_CLASSES = {"b": 10, "a": 2, 3: 3}


def rows(digits, sizes=SIZES):
    """The rows of each task, as (X, y), each with labels of its own."""
    X, y = digits
    found, begin = {}, 0
    for place, (task_id, size) in enumerate(sizes.items()):
        part = slice(begin, begin + size)
        found[task_id] = permuted(X[part], place), y[part] % N_CLASSES[task_id]
        begin += size
    return found


def in_order(tasks, order, interleaved=None):
    """X, y and ids with the tasks in an order, or interleaved; each has its rows in order."""
    ids = np.concatenate([np.full(len(tasks[name][1]), name, dtype=object) for name in order])
    if interleaved is not None:
        ids = np.random.RandomState(interleaved).permutation(ids)
    shape = next(iter(tasks.values()))[0].shape[1:]
    X, y = np.empty((len(ids), *shape), dtype=np.float32), np.empty(len(ids), dtype=int)
    for name in order:
        rows_of_task, labels = tasks[name]
        mine = np.array([other == name for other in ids])
        X[mine], y[mine] = rows_of_task, labels
    return X, y, ids.tolist()


def said(clf, X):
    """What a classifier predicts for each of its tasks, with their ids sorted."""
    return [clf.predict_proba(X, task_id=name) for name in sorted(clf.tasks_, key=str)]


def all_equal(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


class Watch(Callback):
    """Writes down what it sees in the joint phase, where the module is that of several tasks."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_begin(self, net, **kwargs):
        if isinstance(net.module_, SeveralModules):
            self.seen.append(("begin", copy.deepcopy(net.module_.state_dict())))

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if isinstance(net.module_, SeveralModules):
            self.seen.append((training, net.module_.current, batch))

    def on_epoch_end(self, net, **kwargs):
        if isinstance(net.module_, SeveralModules):
            state = copy.deepcopy(net.module_.state_dict())
            self.seen.append(("epoch", state, net.history[-1].get("valid_loss")))


def test_no_order_changes_a_bit_of_any_network(digits, animal):
    tasks = rows(digits, {"b": 34, "a": 34})
    tasks = {name: (X.reshape(len(X), *animal.shape), y) for name, (X, y) in tasks.items()}
    settings = {"warmup_epochs": 0, "growth_budget": 10, "net": {"max_epochs": 1}}
    fitted = [
        make_classifier(animal.module, base="joint", **settings).fit(*in_order(tasks, *order))
        for order in (("ab", None), ("ba", 1))
    ]
    X = tasks["a"][0]
    expected = said(fitted[0], X)
    assert all_equal(expected, said(fitted[1], X))
    assert all_equal(expected, said(pickle.loads(pickle.dumps(fitted[1])), X))


def test_disparities_of_orders_are_0(digits):
    tasks, (X_test, y_test) = rows(digits), (digits[0][-200:], digits[1][-200:])
    accuracy, bits = [], []
    orders = [["a", "b", 3], [3, "b", "a"], ["b", 3, "a"]]
    for number, order in enumerate(orders):
        clf = make_classifier(base="joint")
        X, y, ids = in_order(tasks, order, None if number == 0 else number)
        clf.fit(X, y, ids)
        assert clf.tasks_ == list(dict.fromkeys(ids))  # that of the data stays theirs
        bits.append(said(clf, X_test))
        labels = {name: y_test % n_classes for name, n_classes in N_CLASSES.items()}
        accuracy.append([clf.score(X_test, y, task_id=name) for name, y in labels.items()])
    assert all_equal(bits[0], bits[1])
    assert all_equal(bits[0], bits[2])
    assert aopd(accuracy) == mopd(accuracy) == 0


def test_what_comes_later_changes_no_bit(digits):
    tasks = rows(digits)
    X, bits = tasks["a"][0], []
    for order, later in (("ab", [3, "new"]), ("ba", ["new", 3])):
        clf = make_classifier(base="joint").fit(*in_order(tasks, order, 0))
        before = clf.for_task("a").predict_proba(X)
        for name in later:
            clf.partial_fit(*tasks[3], task_id=name)
        clf.partial_fit(*tasks["b"], task_id="b")  # it goes on
        assert np.array_equal(clf.for_task("a").predict_proba(X), before)
        bits.append(said(clf, X))
        assert clf.report_["b"]["visits"] == 2
        assert "joint" not in clf.report_["new"]["seconds"]
    assert all_equal(*bits)


def test_the_base_is_that_of_plain_steps_on_one_task_at_a_time(digits):
    seen = []
    net = {"optimizer": torch.optim.SGD, "lr": 0.1, "callbacks": [Watch(seen)], "max_epochs": 2}
    clf = make_classifier(base="joint", net=net).fit(*in_order(rows(digits), ["b", 3, "a"]))
    (_, state), *others = seen
    state = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
    names = sorted({name.split(".", 2)[2] for name in state})
    of_own = {name for name in names if name.endswith("bias") or name.startswith("last.")}
    for entry in others:
        if entry[0] is not True:
            continue
        _, place, (X, y) = entry
        used = {name: state[f"copies.{place if name in of_own else 0}.{name}"] for name in names}
        logits = functional_call(MLP(used["last.bias"].numel()), used, (X,))
        loss = torch.nn.functional.cross_entropy(logits, y)
        gradients = torch.autograd.grad(loss, list(used.values()))
        with torch.no_grad():
            for tensor, gradient in zip(used.values(), gradients, strict=True):
                tensor -= 0.1 * gradient
    network = network_of(clf)
    for name in network.roles.perturbed:
        expected = state[f"copies.0.{name}"].detach()
        torch.testing.assert_close(get_tensor(network.base, name), expected)
    # Later tasks begin with the mean of the biases, and with no head of another task.
    several = [state[f"copies.{place}.body.0.bias"].detach() for place in range(3)]
    torch.testing.assert_close(get_tensor(network.base, "body.0.bias"), sum(several) / 3)
    assert not get_tensor(network.base, "last.weight").any()


def test_what_is_held_out_trains_neither_the_base_nor_the_task(digits):
    seen = []

    class Both(Callback):
        def __init__(self, seen):
            self.seen = seen

        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            self.seen += [(training, row.numpy().tobytes()) for row in batch[0]]

    clf = make_classifier(base="joint", net={"callbacks": [Both(seen)]})
    clf.fit(*in_order(rows(digits), ["b", 3, "a"]))
    trained, held_out = ({row for kind, row in seen if kind is which} for which in (True, False))
    assert not trained & held_out
    assert len(trained | held_out) == sum(SIZES.values())


def test_a_base_of_one_task_is_that_of_the_first(digits):
    tasks = rows(digits)
    bits = []
    for base in ("joint", "first"):
        clf = make_classifier(base=base).fit(*tasks["b"], "b")
        clf.partial_fit(*tasks["b"], task_id="b")  # the base is not final yet
        clf.partial_fit(*tasks["a"], task_id="a")
        bits.append(said(clf, tasks["a"][0]))
        assert "joint" not in {row["phase"] for row in clf.history_["b"]}
    assert np.array_equal(bits[0][1], bits[1][1])


@pytest.mark.parametrize(("power", "shares"), [(1, (16, 2)), (0.5, (13, 5)), (0, (9, 9))])
def test_large_tasks_leave_turns_to_small_ones(digits, power, shares):
    seen, tasks = [], rows(digits, {"b": 320, "a": 40})
    net = {"callbacks": [Watch(seen)], "batch_size": 20, "train_split": None, "max_epochs": 2}
    clf = make_classifier(base="joint", joint_sampling=power, net=net, warmup_epochs=0)
    clf.fit(*in_order(tasks, "ba"))
    turn = [place for kind, place, *_ in seen if kind is True]
    assert np.bincount(turn).tolist() == [2 * shares[1], 2 * shares[0]]  # a before b
    large = [batch[0] for kind, place, *batch in seen if kind is True and place == 1]
    different = {row.numpy().tobytes() for X, _ in large for row in X}
    assert len(different) == min(320, 2 * 20 * shares[0])  # no row twice before each was once
    seconds = [clf.report_[name]["seconds"]["joint"] for name in "ab"]
    assert seconds[0] / seconds[1] == pytest.approx(shares[1] / shares[0], rel=1e-3)


def test_turns_add_up_to_about_an_epoch():
    rng = np.random.RandomState(0)
    for _ in range(50):
        n_rows = rng.randint(1, 5000, rng.randint(1, 9)).tolist()
        n_batches, power = int(rng.randint(1, 500)), rng.rand()
        found = turns(n_rows, n_batches, power)
        assert min(found) >= 1
        assert abs(sum(found) - n_batches) <= len(n_rows)
        assert (np.diff(np.array(found)[np.argsort(n_rows)]) >= 0).all()


class Last(HoldOut):
    """Holds out the last 8 rows."""

    def __call__(self, dataset, y=None, **kwargs):
        places = np.arange(len(dataset))
        return [torch.utils.data.Subset(dataset, part) for part in (places[:-8], places[-8:])]


def test_the_accuracy_that_is_shown_is_that_of_all_tasks(digits):
    net = {"lr": 0.0, "train_split": Last(), "max_epochs": 2, "optimizer": torch.optim.SGD}
    clf = make_classifier(base="joint", net=net, warmup_epochs=0, l1_penalty=0, l2_penalty=0)
    clf.fit(*in_order(rows(digits), ["b", 3, "a"]))
    last = {name: epochs[-1] for name, epochs in clf.history_.items()}
    for key in ("valid_acc", "valid_loss"):
        mean = np.mean([row[key] for row in last.values()])
        for name in clf.tasks_:
            assert clf.history_[name][0][key] == pytest.approx(mean, rel=1e-4)
            assert clf.history_[name][0]["phase"] == "joint"


def test_an_early_stop_brings_the_best_base_back(digits):
    seen = []
    stop = EarlyStopping(patience=2, load_best=True)
    net = {"callbacks": [Watch(seen), stop], "max_epochs": 30, "lr": 0.05}
    clf = make_classifier(base="joint", net=net).fit(*in_order(rows(digits), ["b", 3, "a"]))
    epochs = [(loss, state) for kind, state, loss, *_ in (e for e in seen if e[0] == "epoch")]
    best = min(range(len(epochs)), key=lambda number: epochs[number][0])
    assert best < len(epochs) - 1
    base = network_of(clf).base
    for name in network_of(clf).roles.perturbed:
        assert torch.equal(get_tensor(base, name), epochs[best][1][f"copies.0.{name}"])
    mean = sum(epochs[best][1][f"copies.{place}.body.2.bias"] for place in range(3)) / 3
    torch.testing.assert_close(get_tensor(base, "body.2.bias"), mean)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.integers(1, 60), min_size=1, max_size=5), st.integers(1, 80))
def test_some_of_the_rows_are_some_of_each_task(sizes, wanted):
    if not any(sizes):
        return
    parts = {
        name: size and TensorDataset(torch.full((size,), name), torch.arange(size))
        for name, size in enumerate(sizes)
    }
    some = spread(SeveralSets(parts, joint_sampling=0.5), wanted)
    total = sum(size or 0 for size in sizes)
    assert some.joint_sampling == 0.5
    assert list(some.parts) == list(parts)
    for name, size in enumerate(sizes):
        if size is None:
            assert some.parts[name] is None
            continue
        got = [tuple(map(int, row)) for row in some.parts[name]]
        assert {task for task, _ in got} == {name}
        assert len(got) == min(size, math.ceil(min(wanted, total) * size / total))
        assert sorted({place for _, place in got}) == [place for _, place in got]


def test_callbacks_get_the_rows_and_the_labels_of_all_tasks(digits):
    seen = []

    class Given(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            seen.append((net.module_, X, y))

    tasks = rows(digits)
    clf = make_classifier(base="joint", net={"callbacks": [Given()], "train_split": HoldOut()})
    clf.fit(*in_order(tasks, list(SIZES)))
    module, X, y = seen[0]
    assert isinstance(module, SeveralModules)
    order = (3, "a", "b")
    assert np.array_equal(y, np.concatenate([tasks[name][1] for name in order]))
    given = np.stack([np.asarray(X[i][0]) for i in range(len(X))])
    assert np.array_equal(given, np.concatenate([tasks[name][0] for name in order]))


def test_where_one_task_lies_is_not_where_all_lie():
    """A column of one task is elsewhere: that is no part of the base."""
    draw = np.random.RandomState(0)
    X, ids = draw.randn(320, 3), np.repeat(["a", "b", "c", "far"], [100, 100, 100, 20])
    y = (X.sum(axis=1) > 0).astype(int)
    X[ids == "far"] += 80
    clf = ContinualClassifier(base="joint", random_state=0).fit(X, y, task_id=ids)
    base = dict(network_of(clf).base.named_buffers())
    assert (base["0.offset"] == 0).all()
    assert (base["0.stretch"] == 1).all()
    assert (network_of(clf).own(network_of(clf).tasks["far"])["0.offset"] > 3).all()


def test_means_of_weights_are_judged_by_the_rows_of_each_task(digits, monkeypatch):
    """There are more rows than are looked at, and heads of several sizes."""
    sizes = {"b": 700, "a": 200, 3: 800}
    seen = []

    def listening(net, means, sets, renew):
        if not isinstance(sets[0], SeveralSets):  # a task after the base
            return
        expected, some = [], spread(sets[0], 1024).parts.values()
        for module, part in zip(net.module_.copies, some, strict=True):
            X, y = (torch.as_tensor(np.array(column)) for column in zip(*part, strict=True))
            expected.append(nn.functional.cross_entropy(module.eval()(X), y, reduction="none"))
        seen.append((mean_loss(net, sets[0], 1024), torch.cat(expected).mean().item()))
        keep_better(net, means, sets, renew)

    monkeypatch.setattr(visit, "keep_better", listening)
    net = {"train_split": None, "max_epochs": 4}
    clf = make_classifier(base="joint", net=net, average_last=0.3)
    clf.fit(*in_order(rows(digits, sizes), list(sizes)))
    said, expected = seen[0]
    assert said == pytest.approx(expected, rel=1e-5)


def test_parameters_go_by_the_names_of_the_module(digits):
    groups = [("last.*", {"lr": 0.0}), ("body.0.*", {"lr": 0.0})]
    seen = []
    net = {"callbacks": [Watch(seen), Freezer("body.2.*")], "optimizer__param_groups": groups}
    clf = make_classifier(base="joint", net=net, warmup_epochs=0)
    clf.fit(*in_order(rows(digits), "ab"))
    before, after = seen[0][1], next(e[1] for e in reversed(seen) if e[0] == "epoch")
    assert len(before) == 2 * 6
    assert all(torch.equal(before[name], after[name]) for name in before)


class Raises(Callback):
    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, net, **kwargs):
        if isinstance(net.module_, SeveralModules):
            raise self.error


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        ({"lr": 1e38, "optimizer": torch.optim.SGD}, TrainingDivergedError, "in the joint phase"),
        ({"callbacks": [Raises(KeyboardInterrupt())]}, KeyboardInterrupt, None),
        ({"callbacks": [Raises(OSError("full"))]}, OSError, "full"),
        ({"iterator_train__drop_last": True, "batch_size": 50}, ValueError, "Task 3 gave no batch"),
    ],
)
def test_it_completes_or_leaves_all_as_it_was(digits, net, error, message):
    tasks = rows(digits)
    clf = make_classifier(base="joint").fit(*tasks["b"], "b")
    before = clf.predict_proba(tasks["b"][0], task_id="b")
    good, clf.net = clf.net, make_net(**net)
    with pytest.raises(error, match=message) as caught:
        clf.fit(*in_order(tasks, ["b", 3, "a"]))
    if error is not KeyboardInterrupt:
        assert "3 tasks trained the base together" in " ".join(caught.value.__notes__)
    assert clf.tasks_ == ["b"]
    assert np.array_equal(clf.predict_proba(tasks["b"][0], task_id="b"), before)
    clf.set_params(net=good).fit(*in_order(tasks, ["b", 3, "a"]))
    assert clf.tasks_ == ["b", 3, "a"]


def test_processes_of_an_accelerator_are_refused(digits):
    accelerate = pytest.importorskip("accelerate")

    class Shared(AccelerateMixin, type(make_net())):
        pass

    net = Shared(MLP, accelerator=accelerate.Accelerator(), criterion=torch.nn.CrossEntropyLoss)
    with pytest.raises(ValueError, match=r"base='joint' .*AccelerateMixin"):
        ContinualClassifier(net, base="joint").fit(*in_order(rows(digits), "ab"))


def test_files_stores_single_tasks_and_forgetting(digits, tmp_path):
    tasks = rows(digits)
    clf = make_classifier(base="joint", joint_sampling=0.7).fit(*in_order(tasks, ["b", 3, "a"]))
    X = tasks["a"][0]
    expected = said(clf, X)
    save(clf, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", net=make_net())
    assert (again.base, again.joint_sampling) == ("joint", 0.7)
    assert all_equal(said(again, X), expected)
    alone = clf.for_task("a").predict_proba(X)
    assert np.array_equal(alone, expected[1][:, :2])  # of all labels, a has the first two
    with Store.create(tmp_path / "tasks.halrp", clf) as store:
        store.partial_fit(*tasks["a"], task_id="later")
        assert np.array_equal(store.for_task("a").predict_proba(X), alone)
    clf.partial_fit(*tasks["a"], task_id="later").forget_task("b")
    assert np.array_equal(clf.for_task("a").predict_proba(X), alone)
    assert "3 tasks" in clf._repr_html_()
    frame = clf.report()
    assert (frame["seconds_joint"].notna() == [True, True, False]).all()
    assert set(frame["visits"]) == {1}


def test_a_dataset_learns_as_its_array(digits):
    X, y, ids = in_order(rows(digits), ["b", 3, "a"], 0)
    weights = np.random.RandomState(0).rand(len(y))
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    one, other = make_classifier(base="joint"), make_classifier(base="joint")
    one.fit(X, y, ids, sample_weight=weights)
    other.fit(dataset, None, ids, sample_weight=weights)
    assert all_equal(said(one, X[:20]), said(other, X[:20]))


def test_numbers_in_units_of_their_own(digits):
    X = digits[0][:180].astype(float)
    ids = np.array(["far", "near", "far"] * 60, dtype=object)
    y = np.where(ids == "far", 1e4 + 1e3 * X.mean(1), X[:, :32].mean(1))
    net = {"max_epochs": 10, "lr": 0.02, "module__n_classes": 1}
    fitted = [
        make_regressor(base="joint", net=net).fit(X[order], y[order], ids[order])
        for order in (np.arange(180), np.argsort(ids == "far", kind="stable"))
    ]
    for name in ("far", "near"):
        mine = ids == name
        first, second = (reg.predict(X[mine], task_id=name) for reg in fitted)
        assert np.array_equal(first, second)
        assert fitted[0].score(X[mine], y[mine], task_id=name) > 0.4
    two = np.column_stack([y, y])
    reg = make_regressor(base="joint", net={"module__n_classes": 1})
    assert reg.fit(X, two, ids).predict(X, task_id="far").shape == (180, 2)


def test_an_instance_is_where_it_begins_and_stays_as_it_is(digits):
    module = MLP()
    before = copy.deepcopy(module.state_dict())
    clf = make_classifier(module, base="joint").fit(*in_order(rows(digits), "ab"))
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    base = get_tensor(network_of(clf).base, "body.0.weight")
    assert 0 < (base - before["body.0.weight"]).norm() < before["body.0.weight"].norm()


def test_no_rank_where_little_is_to_gain(digits):
    X, y, ids = in_order(rows(digits), ["b", 3, "a"])
    ranks = []
    for least in (0, 0.02, 1e9):
        clf = make_classifier(base="joint", least_gain=least).fit(X, y, ids)
        ranks.append(sum(sum(of_task.values()) for of_task in clf.ranks_.values()))
    assert ranks[0] >= ranks[1] >= ranks[2] == 0
    assert ranks[0] > 0
    ask = {"a": np.array([8.0, 1.0]), "b": np.array([1.0, 0.0])}
    assert choose_ranks(ask, 0.0, 10, fewest=0) == {"a": 0, "b": 0}
    assert choose_ranks(ask, 0.8, 10, fewest=0) == {"a": 1, "b": 0}


def test_the_base_of_the_first_task_keeps_its_ranks(digits):
    X, y, ids = in_order(rows(digits), ["b", 3, "a"])
    bits = [said(make_classifier(**given).fit(X, y, ids), X) for given in ({}, {"least_gain": 0})]
    assert all_equal(*bits)


class Forgetful(MLP):
    """Learns something that is no tensor of the module's."""

    scale = 1.0

    def forward(self, x):
        self.scale += 0.1 * self.training
        return self.scale * super().forward(x)


def test_what_would_be_lost_with_a_copy_is_refused(digits):
    with pytest.raises(InvalidNetworkError, match="neither a parameter nor a buffer"):
        make_classifier(Forgetful, base="joint").fit(*in_order(rows(digits), "ab"))
