"""Inside a phase a callback finds its own net, as with skorch alone."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import Dataset
from torch import nn
from torch.utils.data import DataLoader

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_net, permuted
from tests.modules import MLP


def skorch_copies_nets():
    """Whether skorch itself can copy a net: skorch 1.1 cannot, with torch from 2.6 on."""
    try:
        copy.deepcopy(make_net().initialize())
    except pickle.UnpicklingError:
        return False
    return True


needs_copies = pytest.mark.skipif(not skorch_copies_nets(), reason="skorch itself copies no net")


class Look(Callback):
    """Calls a function with the net of every phase, when it has been trained."""

    look = None  # of the class, since nets with callbacks are copied
    seen = 0

    def on_train_end(self, net, **kwargs):
        Look.seen += 1
        Look.look(net)


@pytest.fixture
def look():
    """Return a function that learns two tasks, and one of them on, while a function looks."""

    def learn(look, X, y, net, weighted=False, shape=(64,), **settings):
        Look.look, Look.seen = staticmethod(look), 0
        clf = ContinualClassifier(net, start="warm-up", random_state=0, **settings)
        weights = np.linspace(0.5, 1.5, 80) if weighted else None
        for seed, task_id in [(0, "a"), (1, "b"), (1, "b")]:
            rows = permuted(X[:80], seed).reshape(-1, *shape)
            clf.partial_fit(rows, y[:80], task_id=task_id, sample_weight=weights)
        assert Look.seen == 4  # base, warm-up, low-rank, and low-rank again
        return clf

    yield learn
    Look.look = None


class Own(NeuralNetClassifier):
    """A net with a parameter and methods of its own."""

    def __init__(self, *args, factor=1.0, **kwargs):
        self.factor = factor
        super().__init__(*args, **kwargs)

    def infer(self, x, **parameters):
        return self.factor * super().infer(x, **parameters)


NETS = {
    "skorch's": lambda **settings: make_net(callbacks=[Look()], **settings),
    "own": lambda **settings: Own(
        **make_net(callbacks=[("look", Look)], **settings).get_params(deep=False), factor=0.5
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_callback_sees_what_it_sees_in_skorch(name, weighted, digits, look):
    X, y = digits
    alone = NETS[name]()
    found = {}

    def note(net):
        found["names"] = set(net.get_params())
        found["repr"] = repr(net).partition("\n")[0]
        found["type"] = (type(net).__name__, type(net).__module__, type(net).__doc__)
        found["iterators"] = (net.iterator_train, net.iterator_valid)
        found["callbacks"] = [name for name, _ in net.callbacks_]
        assert is_classifier(net)

    Look.look = staticmethod(note)
    alone.fit(X[:80], y[:80])
    expected = dict(found)
    assert expected["iterators"] == (DataLoader, DataLoader)

    def compare(net):
        note(net)
        assert found == expected

    look(compare, X, y, NETS[name](), weighted)


def assert_trains_alone(net, X, y):
    net.set_params(callbacks=[]).fit(X, y)
    assert np.isfinite(net.predict_proba(X)).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_clone_is_a_net_of_the_user(name, weighted, digits, look):
    X, y = digits

    def check(net):
        other = clone(net)
        assert type(other) in (Own, NeuralNetClassifier)
        assert not other.initialized_
        assert other.get_params(deep=False).keys() == net.get_params(deep=False).keys()
        assert type(other.initialize().module_) is MLP
        assert_trains_alone(other, X[:80], y[:80])

    look(check, X, y, NETS[name](), weighted)


def pickled(net):
    return [pickle.loads(pickle.dumps(net, protocol)) for protocol in range(6)][-1]


@needs_copies
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_copy_is_a_net_of_the_user_as_it_is_now(name, weighted, copied, digits, look):
    X, y = digits

    def check(net):
        other = copied(net)
        assert type(other) in (Own, NeuralNetClassifier)
        assert np.array_equal(other.predict_proba(X[:50]), net.predict_proba(X[:50]))
        before = net.predict_proba(X[:50])
        other.callbacks_ = []
        other.partial_fit(X[:80], y[:80])  # goes on with the weights, factors or not
        assert np.abs(other.predict_proba(X[:50]) - before).max() > 1e-3
        assert np.array_equal(net.predict_proba(X[:50]), before)
        assert_trains_alone(other, X[:80], y[:80])

    look(check, X, y, NETS[name](), weighted)


@needs_copies
def test_a_copy_in_mid_training_keeps_parameters_and_factors_together(animal, digits, look):
    X, y = digits
    rows = X[:40].reshape(-1, *animal.shape)
    try:
        pickle.dumps(animal.module())
    except RuntimeError as error:
        pytest.skip(f"torch pickles no such module: {error}")

    def check(net):
        other = pickled(net)
        names = [name for name, _ in other.module_.named_parameters()]
        assert names == [name for name, _ in net.module_.named_parameters()]
        outputs = [n.infer(torch.from_numpy(rows.copy())) for n in (net, other)]
        assert torch.equal(*outputs)
        trained = {id(p) for group in other.optimizer_.param_groups for p in group["params"]}
        assert trained == {id(p) for p in other.module_.parameters()}
        loss = [output.square().sum() for output in outputs]
        gradients = [
            torch.autograd.grad(
                loss[i],
                [p for p in n.module_.parameters() if p.requires_grad],
                materialize_grads=True,
                allow_unused=True,
            )
            for i, n in enumerate((net, other))
        ]
        for expected, found in zip(*gradients, strict=True):
            torch.testing.assert_close(found, expected)

    net = make_net(animal.module, callbacks=[Look()], max_epochs=2)
    with torch.backends.cudnn.flags(enabled=False):
        look(check, X, y, net, shape=animal.shape, growth_budget=2.0)


@pytest.mark.parametrize("verbose", [0, 1])
def test_what_ours_holds_hinders_no_copy(verbose, digits, look, capsys):
    X, y = digits
    look(lambda net: pickle.dumps(net), X, y, NETS["skorch's"](), verbose=verbose)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_callback_may_predict_and_score_other_rows(weighted, digits, look):
    X, y = digits
    others = Dataset(X[200:240], y[200:240].astype(np.int64))

    def check(net):
        expected = net.module_.eval()(torch.from_numpy(X[200:240])).softmax(1).detach()
        for rows in (X[200:240], others):
            np.testing.assert_allclose(net.predict_proba(rows), expected, rtol=1e-5, atol=1e-6)
        loss = net.get_loss(expected, torch.from_numpy(y[200:240]), X=X[200:240])
        assert loss.shape == ()
        assert net.get_dataset(X[200:240]).X is not None
        assert net.criterion_.reduction == "mean"

    scoring = EpochScoring("f1_macro", use_caching=False, lower_is_better=False)
    net = make_net(callbacks=[Look(), scoring])
    clf = look(check, X, y, net, weighted)
    assert all(0 <= row["f1_macro"] <= 1 for row in clf.history_["b"])


def test_no_net_is_patched(digits, look):
    X, y = digits

    def check(net):
        methods = {name for name in dir(NeuralNetClassifier) if not name.startswith("__")}
        methods = {name for name in methods if callable(getattr(NeuralNetClassifier, name))}
        assert not methods & set(vars(net))

    look(check, X, y, NETS["skorch's"](), weighted=True)


# --- what a net's own initialize makes ---------------------------------------------------


class Teaches(NeuralNetClassifier):
    """Makes a teacher and a mean of its module, and shapes the module."""

    def initialize_module(self):
        super().initialize_module()
        self.mean_ = copy.deepcopy(self.module_)
        for layer in self.module_.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        return self

    def initialize(self):
        super().initialize()
        self.steps_ = 0
        self.kept_ = {"last": self.module_.last}
        teacher = MLP()
        self.module_.load_state_dict(teacher.state_dict())
        self.module_.body[0].requires_grad_(False)
        self.module_.last = nn.Linear(24, 10)
        return self

    def train_step(self, batch, **parameters):
        step = super().train_step(batch, **parameters)
        self.steps_ += 1
        assert self.kept_["last"] is self.module_.last
        with torch.no_grad():
            for mean, now in zip(self.mean_.parameters(), self.module_.parameters(), strict=True):
                mean.lerp_(now, 0.5)
        return step


def test_what_a_nets_own_initialize_makes_is_there_in_training(digits, look):
    X, y = digits
    steps = []

    def check(net):
        steps.append(net.steps_)
        now, mean = (dict(m.named_parameters()) for m in (net.module_, net.mean_))
        assert now.keys() == mean.keys()
        moved = [name for name in now if not torch.equal(now[name], mean[name])]
        assert moved  # the mean lags behind

    clf = look(check, X, y, Teaches(**make_net(callbacks=[Look()]).get_params(deep=False)))
    assert all(steps)
    for task_id in ("a", "b"):  # the weights were neither lost nor frozen
        losses = [row["train_loss"] for row in clf.history_[task_id]]
        assert losses[-1] < losses[0] - 0.02


def test_what_a_nets_own_initialize_does_to_weights_changes_no_phase(digits):
    # A net whose module is shaped where it is built, and one that shapes it by initialize.
    class Shaped(NeuralNetClassifier):
        def initialize(self):
            super().initialize()
            with torch.no_grad():
                self.module_.body[0].weight.copy_(
                    torch.linspace(-0.2, 0.2, 24 * 64).reshape(24, 64)
                )
            torch.rand(3)  # a draw that may not show
            return self

    class Built(MLP):
        def __init__(self):
            super().__init__()
            weight = torch.linspace(-0.2, 0.2, 24 * 64).reshape(24, 64)
            self.body[0].weight = nn.Parameter(weight)

    X, y = digits
    ids = np.repeat(["a", "b"], 60)
    nets = [Shaped(**make_net().get_params(deep=False)), make_net(Built)]
    found = [ContinualClassifier(n, random_state=0).fit(X[:120], y[:120], ids) for n in nets]
    for task_id in ("a", "b"):
        assert np.array_equal(*(clf.predict_proba(X, task_id) for clf in found))


class PredictsByMean(Teaches):
    def infer(self, x, **parameters):
        if self.module_.training:
            return super().infer(x, **parameters)
        return self.mean_(x)


def test_a_net_may_predict_by_what_its_initialize_makes(digits):
    X, y = digits
    plain = make_net(max_epochs=2)
    clf = ContinualClassifier(PredictsByMean(**plain.get_params(deep=False)), random_state=0)
    clf.fit(X[:120], y[:120], np.repeat(["a", "b"], 60))
    torch.manual_seed(0)
    expected = torch.rand(1)
    for task_id in ("a", "b"):
        torch.manual_seed(0)
        found = clf.predict_proba(X, task_id)
        assert torch.equal(torch.rand(1), expected)  # predictions draw no number
        outputs = clf.to_module(task_id)(torch.from_numpy(X)).softmax(1).detach()
        np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-6)


def test_an_initialize_that_cannot_be_called_in_a_phase_is_named(digits):
    class Wraps(NeuralNetClassifier):
        def initialize_module(self):
            super().initialize_module()
            self.module_ = nn.Sequential(self.module_.body, self.module_.last)
            return self

    X, y = digits
    clf = ContinualClassifier(Wraps(**make_net().get_params(deep=False)), random_state=0)
    with pytest.warns(
        UserWarning, match=r"Wraps\.initialize_module cannot be called.*AttributeError"
    ):
        clf.fit(X[:80], y[:80], np.repeat(["a", "b"], 40))
    assert clf.tasks_ == ["a", "b"]
