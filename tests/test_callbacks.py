import pickle
import threading
from collections import deque

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler, PrintLog, TensorBoard
from torch import nn

from tests.conftest import make_classifier, make_net, permuted
from tests.inside import Attending, FactorPenalty, Factors, network_of, task_of
from tests.test_promises import snapshot


def step(parameters, action):
    """Take a step that moves nothing, and let an action take part."""
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    Attending(optimizer, [action])
    optimizer.step()


@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_the_penalty_adds_the_gradient_of_its_formula(l1, l2):
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return nn.Parameter(torch.randn(*shape, generator=g))

    # Two layers, the second with a rank of 0.
    layers = [
        Factors(draw(5), draw(4), draw(5, 2), draw(2, 4)),
        Factors(draw(3), draw(6), draw(3, 0), draw(0, 6)),
    ]
    with torch.no_grad():
        layers[0].u[0, 0] = 0  # where |.| has a corner its gradient is 0
    parameters = [tensor for factors in layers for tensor in factors]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=g)
    before = [parameter.grad.clone() for parameter in parameters]
    step(parameters, FactorPenalty(layers, l1, l2))
    value = 0
    for r, s, u, v in layers:
        value = value + l1 * (u.abs().sum() + v.abs().sum())
        value = value + l2 / 2 * sum(t.square().sum() for t in (r, s, u, v))
    expected = torch.autograd.grad(value, parameters, materialize_grads=True, allow_unused=True)
    for parameter, old, added in zip(parameters, before, expected, strict=True):
        torch.testing.assert_close(parameter.grad, old + added)


def test_the_penalty_leaves_a_tensor_without_gradient_alone():
    factors = Factors(*(nn.Parameter(torch.ones(s)) for s in [(3,), (2,), (3, 1), (1, 2)]))
    factors.u.grad = torch.zeros(3, 1)
    step(factors, FactorPenalty([factors], l1=1.0, l2=1.0))
    assert factors.u.grad.flatten().tolist() == [2.0, 2.0, 2.0]
    assert [t.grad is None for t in (factors.r, factors.s, factors.v)] == [True] * 3


def test_clipping_bounds_the_penalty_too(digits):
    # One plain step with a rate of 1 moves everything that is trained by the gradient, so
    # its length is the bound, however large the penalty is.
    X, y = digits
    net = {"optimizer": torch.optim.SGD, "lr": 0.05, "batch_size": 200, "train_split": None}
    clf = make_classifier(net=net, prune_threshold=0.0, growth_budget=10.0, factor_lr_scale=1.0)
    clf.partial_fit(X[:200], y[:200], task_id=0)
    clf.partial_fit(permuted(X[:200], 1), y[:200], task_id=1)
    before = snapshot(clf)
    clf.set_params(l2_penalty=10.0, net__lr=1.0, net__max_epochs=1)
    clf.set_params(net__callbacks=[GradientNormClipping(0.5)])
    clf.partial_fit(permuted(X[:200], 1), y[:200], task_id=1)
    after = snapshot(clf)
    assert set(after) == set(before)
    length = sum((after[name] - before[name]).square().sum() for name in after) ** 0.5
    assert float(length) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("schedule", [False, True])
def test_factors_learn_at_a_rate_of_their_own(digits, schedule):
    # After one step of SGD the way of U is as long as the rate, from the same place.
    X, y = digits[0] + 0.1, digits[1]  # no column is all 0
    net = {"optimizer": torch.optim.SGD, "lr": 0.01, "batch_size": -1, "train_split": None}
    net |= {"max_epochs": 2}
    if schedule:
        net["callbacks"] = [LRScheduler(policy="StepLR", step_size=100)]
    settings = {"warmup_epochs": 1, "prune_threshold": 0.0, "growth_budget": 10.0}
    settings |= {"l1_penalty": 0.0, "l2_penalty": 0.0}
    learned = {}
    for scale in (1.0, 2.0, 4.0):
        clf = make_classifier(net=net, factor_lr_scale=scale, **settings)
        clf.fit(X[:200], y[:200], task_id="a").partial_fit(X[200:300], y[200:300], task_id="b")
        learned[scale] = network_of(clf).factors(task_of(clf, "b"))
    for plain, double, fast in zip(*(found.values() for found in learned.values()), strict=True):
        for part in ("u", "v"):
            once, thrice = (getattr(other, part) - getattr(plain, part) for other in (double, fast))
            assert once.abs().max() > 1e-6
            torch.testing.assert_close(thrice, 3 * once, rtol=1e-2, atol=1e-7)
        assert torch.equal(fast.r, plain.r)
        assert torch.equal(fast.s, plain.s)


# --- callbacks of the user's own ---------------------------------------------------------


class Writer:
    """As one of TensorBoard: it has a lock."""

    def __init__(self):
        self.rows, self.lock = [], threading.Lock()

    def add_scalar(self, tag, *args, **kwargs):
        if tag.endswith("train_loss"):
            self.rows.append(tag)

    def close(self):
        pass


class Into(Callback):
    """Writes to what it was given."""

    def __init__(self, rows):
        self.rows = rows

    def on_epoch_end(self, net, **kwargs):
        self.rows.append(net.history[-1, "train_loss"])


class Records(Into):
    """Makes its list itself, and counts its trainings."""

    def __init__(self):
        self.rows, self.count = deque(), 0

    def on_train_begin(self, net, **kwargs):
        self.count += 1
        assert self.count == 1  # each phase begins anew


class Changes(Into):
    """Changes its arguments."""

    def __init__(self, rows, names=("a", "b")):
        super().__init__(rows)
        self.names = list(names)


class Hides(Into):
    """Keeps its argument under another name, as Optuna's does."""

    def __init__(self, rows):
        self._found = rows

    rows = property(lambda self: self._found)


class Needs(Into):
    """Can be made only once."""

    made = 0

    def __init__(self, rows):
        super().__init__(rows)
        Needs.made += 1
        if Needs.made > 1:
            raise RuntimeError("there is one already")


class Locked(Into):
    def __init__(self, rows):
        super().__init__(rows)
        self.lock = threading.Lock()


def to_tensorboard(rows):
    writer = Writer()
    writer.rows = rows
    return TensorBoard(writer)


class Uncopied(Locked):
    """Says that it cannot be copied."""

    def __reduce_ex__(self, protocol):
        raise TypeError("no copies")


OWN = {
    "no copies": Uncopied,
    "a list of the user's": Into,
    "a list of its own": lambda rows: vars(callback := Records()).update(rows=rows) or callback,
    "changed arguments": Changes,
    "hidden arguments": Hides,
    "made once": Needs,
    "a lock": Locked,
    "a writer": to_tensorboard,
    "a sink": lambda rows: PrintLog(sink=rows.append, keys_ignored=("valid_loss",)),
    "a name": lambda rows: ("mine", Locked(rows)),
}


@pytest.mark.parametrize("name", OWN)
def test_a_callback_of_the_users_own_gets_what_it_gets_from_skorch(name, digits):
    X, y = digits
    Needs.made, alone, ours = 0, [], []
    quiet = {"verbose": int(name == "a sink")}
    make_net(callbacks=[OWN[name](alone)], **quiet).fit(X[:60], y[:60])
    Needs.made = 0
    clf = make_classifier(net={"callbacks": [OWN[name](ours)], **quiet})
    for task_id in ("a", "b", "b"):
        clf.partial_fit(X[:60], y[:60], task_id=task_id)
    if name == "a sink":  # the table has two lines for its head
        alone, ours = ([row for row in rows if row.strip()[:1].isdigit()] for rows in (alone, ours))
    assert len(alone) == 3
    assert len(ours) == sum(len(rows) for rows in clf.history_.values()) == 9


def test_a_callback_under_a_name_of_its_own_is_the_users(digits):
    X, y = digits
    rows = []
    clf = make_classifier(net={"callbacks": [("mine", Into([]))], "callbacks__mine": Locked(rows)})
    clf.fit(X[:60], y[:60], np.repeat(["a", "b"], 30))
    assert len(rows) == 6
    clf.set_params(net__callbacks__mine=None).partial_fit(X[:60], y[:60], "b")
    assert len(rows) == 6


def test_a_generator_of_a_callback_is_the_same_in_every_phase(digits):
    class Draws(Into):
        def __init__(self, rows, generator):
            self.rows, self.generator = rows, generator

        def on_train_begin(self, net, **kwargs):
            self.rows.append(self.generator.randint(1000))

        def on_epoch_end(self, net, **kwargs):
            pass

    X, y = digits
    rows, generator = [], np.random.RandomState(0)
    clf = make_classifier(net={"callbacks": [Draws(rows, generator)]})
    clf.fit(X[:60], y[:60], np.repeat(["a", "b"], 30))
    expected = np.random.RandomState(0).randint(1000)
    assert rows == [expected] * 3
    assert generator.randint(1000) == expected


@pytest.mark.parametrize("name", ["a list of the user's", "a lock"])
def test_what_cannot_go_to_other_processes_learns_in_this_one(name, digits):
    X, y = digits
    ids = np.repeat(["a", "b", "c"], 40)
    found = [
        make_classifier(net={"callbacks": [OWN[name]([])]}, n_jobs=n).fit(X[:120], y[:120], ids)
        for n in (None, 2)
    ]
    for task_id in "abc":
        assert np.array_equal(*(clf.predict_proba(X, task_id) for clf in found))


def test_a_classifier_with_a_recording_callback_can_be_saved(digits):
    X, y = digits
    rows = []
    clf = make_classifier(net={"callbacks": [Changes(rows)]}).fit(X[:60], y[:60])
    loaded = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    loaded.partial_fit(X[:60], y[:60])
    assert len(rows) == 3  # the loaded one has a list of its own


def test_optunas_pruning_reports_to_its_trial(digits):
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration")
    X, y = digits
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    trial = study.ask()
    callback = integration.SkorchPruningCallback(trial, "valid_acc")
    clf = make_classifier(net={"callbacks": [callback]}).fit(X[:60], y[:60])
    values = study._storage.get_trial(trial._trial_id).intermediate_values
    expected = [row["valid_acc"] for row in clf.history_[0]]
    assert list(values.values()) == pytest.approx(expected, rel=1e-4)
