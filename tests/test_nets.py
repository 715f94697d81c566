"""Whatever a user's skorch net does, the base and earlier tasks stay as they are."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import joblib
import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    Freezer,
    GradientNormClipping,
    Initializer,
    LRScheduler,
    Unfreezer,
)
from torch import nn

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import InvalidNetworkError, TrainingDivergedError
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import predictors_of, ready_nets
from tests.modules import MLP, Words
from tests.test_promises import assert_untouched, snapshot


class Initialising(NeuralNetClassifier):
    """Initialises its module itself, as skorch users do."""

    def initialize_module(self):
        super().initialize_module()
        for layer in self.module_.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        return self


class InitialisingAll(NeuralNetClassifier):
    """Overrides initialize itself."""

    def initialize(self):
        super().initialize()
        for layer in self.module_.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        return self


class OwnLoss(nn.Module):
    """Has a weight of its own meaning."""

    def __init__(self):
        super().__init__()
        self.weight = torch.tensor(1.0)

    def forward(self, outputs, targets):
        return self.weight * nn.functional.cross_entropy(outputs, targets)


class Replacing(NeuralNetClassifier):
    def initialize_module(self):
        self.module_ = MLP(hidden=20)
        return self


class FirstOutput(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred[0], y_true, *args, **kwargs)


class TwoOutputs(MLP):
    def forward(self, x):
        return super().forward(x), x


class Double(MLP):
    def __init__(self):
        super().__init__()
        self.double()


def subclass(kind, module=MLP):
    net = make_net(module)
    return kind(**net.get_params(deep=False))


def nets(folder):
    return {
        "callbacks disabled": make_net(callbacks="disable"),
        "early stopping": make_net(
            callbacks=[EarlyStopping(monitor="train_loss", patience=1, load_best=True)]
        ),
        "checkpoint": make_net(callbacks=[Checkpoint(dirname=folder, load_best=True)]),
        "scheduler": make_net(callbacks=[LRScheduler("StepLR", step_size=2)]),
        "clipping": make_net(callbacks=[GradientNormClipping(1.0)]),
        "groups": make_net(optimizer__param_groups=[("*bias", {"lr": 1e-4})]),
        "freezer": make_net(callbacks=[Freezer("body.0.*")]),
        "all frozen": make_net(callbacks=[Freezer("body.*")]),
        "initializer": make_net(callbacks=[Initializer("*weight", fn=nn.init.xavier_uniform_)]),
        "weighted loss": make_net(criterion__weight=torch.ones(10)),
        "factory": make_net(lambda hidden: MLP(hidden=hidden), module__hidden=30),
        "no device": make_net(device=None),
        "validation drops rows": make_net(iterator_valid__drop_last=True),
        "momentum": make_net(optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=0.05),
        "initialises": subclass(Initialising),
        "initialises all": subclass(InitialisingAll),
        "own loss": make_net(criterion=OwnLoss),
        "replaces": subclass(Replacing),
        "two outputs": subclass(FirstOutput, TwoOutputs),
        "double": make_net(Double),
    }


@pytest.mark.parametrize("name", nets(None))
def test_nothing_is_forgotten(name, digits, tmp_path):
    X, y = digits
    dtype = "float64" if name == "double" else "float32"
    clf = ContinualClassifier(nets(tmp_path)[name], dtype=dtype, random_state=0)
    clf.partial_fit(X[:300], y[:300], task_id="a")
    before, state = clf.predict_proba(X, "a"), snapshot(clf)
    says = nullcontext()
    if name == "all frozen":
        says = pytest.warns(UserWarning, match="task 'b' changed none of the weights")
    with says:
        for _ in range(2):
            clf.partial_fit(permuted(X[:300], 1), y[:300], task_id="b")
    assert_untouched(state, snapshot(clf))
    ready_nets(predictors_of(clf)).clear()  # what is kept would hide a changed base
    assert np.array_equal(clf.predict_proba(X, "a"), before)
    assert_untouched(state, snapshot(clf))
    assert len(clf.predict(X[:45], "b")) == 45
    if name != "all frozen":
        assert clf.score(permuted(X[:300], 1), y[:300], task_id="b") > 0.25


@pytest.mark.parametrize(
    "callback",
    [Unfreezer("words.*", at=1), Initializer("words.*", fn=nn.init.normal_)],
)
def test_a_callback_cannot_reach_the_base(digits, callback):
    X, y = digits
    clf = make_classifier(Words).fit(X[:100], y[:100], task_id="a")
    clf.partial_fit(X[:100], y[:100], task_id="b")
    before, state = clf.predict_proba(X, "a"), snapshot(clf)
    clf.set_params(net__callbacks=[callback])
    with pytest.raises(InvalidNetworkError, match=r"callback .* changed words\.weight"):
        clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="c")
    assert_untouched(state, snapshot(clf))
    assert np.array_equal(clf.predict_proba(X, "a"), before)


def test_a_task_without_a_batch_is_an_error(digits):
    X, y = digits
    clf = make_classifier(net={"iterator_train__drop_last": True, "batch_size": 64})
    with pytest.raises(ValueError, match="30 rows are too few"):
        clf.fit(X[:30], y[:30])


def test_running_statistics_that_overflow_are_an_error(digits):
    class Normalised(nn.Sequential):
        def __init__(self):
            super().__init__(nn.BatchNorm1d(64), nn.Linear(64, 8), nn.Linear(8, 10))

    X, y = digits
    with pytest.raises(TrainingDivergedError, match=r"not finite|became"):
        make_classifier(Normalised).fit(X[:100] * np.float32(1e25), y[:100])


def test_a_lazy_module_is_refused(digits):
    class Lazy(nn.Sequential):
        def __init__(self):
            super().__init__(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 10))

    X, y = digits
    with pytest.raises(InvalidNetworkError, match=r"0\.weight has no shape"):
        make_classifier(Lazy).fit(X[:60], y[:60])


def test_a_failed_call_draws_no_random_number(digits):
    X, y = digits
    rng = np.random.RandomState(0)
    clf = make_classifier(random_state=rng, net={"lr": float("inf")})
    with pytest.raises(TrainingDivergedError, match="diverged"):
        clf.fit(X[:60], y[:60])
    assert rng.randint(10**6) == np.random.RandomState(0).randint(10**6)


def test_settings_changed_later_hold_for_training_and_the_file_stays_readable(digits, tmp_path):
    X, y = digits
    clf = make_classifier().fit(X[:100], y[:100], task_id="a")
    clf.set_params(net__max_epochs=5)
    clf.partial_fit(X[:100], y[:100], task_id="b")
    assert len(clf.history_["b"]) == 5
    joblib.dump(clf, tmp_path / "model.joblib")
    for mode in (None, "r"):
        loaded = joblib.load(tmp_path / "model.joblib", mmap_mode=mode)
        assert np.array_equal(loaded.predict_proba(X, "b"), clf.predict_proba(X, "b"))
        loaded.partial_fit(X[:100], y[:100], task_id="b")
        loaded.partial_fit(X[:100], y[:100], task_id="c")


@pytest.mark.parametrize("epochs", [{"warmup_epochs": 0}, {"warmup_epochs": 9}])
def test_a_phase_without_epochs_calls_no_callback(digits, tmp_path, epochs):
    X, y = digits
    best = [
        EarlyStopping(monitor="train_loss", load_best=True),
        Checkpoint(monitor="train_loss_best", dirname=tmp_path, load_best=True),
    ]
    clf = make_classifier(net={"callbacks": best}, **epochs).fit(X[:100], y[:100], task_id="a")
    clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
    plain = make_classifier(**epochs).fit(X[:100], y[:100], task_id="a")
    plain.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
    assert [row["phase"] for row in clf.history_["b"]] == [
        row["phase"] for row in plain.history_["b"]
    ]


def test_checkpoints_of_parallel_tasks_do_not_meet(digits, tmp_path):
    X, y = digits
    best = Checkpoint(monitor="train_loss_best", dirname=tmp_path, load_best=True)
    ids = np.repeat(["a", "b", "c", "d"], 50)
    found = [
        make_classifier(net={"callbacks": [best]}, n_jobs=n).fit(X[:200], y[:200], task_id=ids)
        for n in (None, 2)
    ]
    for task_id in "abcd":
        assert np.array_equal(*(clf.predict_proba(X, task_id) for clf in found))


def test_weights_for_another_number_of_classes_are_refused(digits):
    X, y = digits
    clf = make_classifier(net={"criterion__weight": torch.ones(10)})
    clf.fit(X[:100], y[:100], task_id="a")
    with pytest.raises(ValueError, match="task 'b' has 2 classes"):
        clf.partial_fit(X[:100], y[:100] % 2, task_id="b")


def test_a_callback_may_copy_the_module(digits):
    class Average(Callback):
        def on_train_begin(self, net, **kwargs):
            self.copy_ = copy.deepcopy(net.module_)
            x = torch.ones(2, 64)
            assert torch.equal(net.module_.eval()(x), self.copy_.eval()(x))

    X, y = digits
    clf = make_classifier(net={"callbacks": [Average()]})
    clf.fit(X[:100], y[:100], task_id=np.repeat([0, 1], 50))
    assert clf.tasks_ == [0, 1]


def test_modules_that_cannot_be_pickled_learn_in_parallel(digits):
    class Normed(MLP):
        def __init__(self):
            super().__init__()
            nn.utils.parametrizations.weight_norm(self.body[2])

    X, y = digits
    ids = np.repeat(["a", "b", "c"], 50)
    found = [
        make_classifier(Normed, n_jobs=n).fit(X[:150], y[:150], task_id=ids) for n in (None, 2)
    ]
    for task_id in "abc":
        assert np.array_equal(*(clf.predict_proba(X, task_id) for clf in found))


def test_fits_in_threads_are_those_of_one_thread(digits):
    X, y = digits

    def fit(seed):
        clf = make_classifier(random_state=seed)
        return clf.fit(X[:100], y[:100], np.repeat([0, 1], 50)).predict_proba(X[:50], 1)

    alone = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(fit, range(4)), alone))


def test_buffers_may_change_their_shape(digits):
    class Remembering(MLP):
        """Counts its training batches in a buffer that grows."""

        def __init__(self):
            super().__init__()
            self.register_buffer("sizes", torch.zeros(0))

        def forward(self, x):
            if self.training:
                self.sizes = torch.cat([self.sizes, x.new_tensor([len(x)])])
            return super().forward(x) + 0.01 * len(self.sizes)

    X, y = digits
    clf = make_classifier(Remembering).fit(X[:100], y[:100], np.repeat([0, 1], 50))
    state = clf.__getstate__()
    loaded = ContinualClassifier()
    loaded.__setstate__(state)
    for task_id in (0, 1):
        assert np.array_equal(loaded.predict_proba(X, task_id), clf.predict_proba(X, task_id))


def test_the_whole_net_may_be_pickled_while_it_trains(digits, tmp_path):
    X, y = digits
    saves = Checkpoint(monitor="train_loss_best", f_pickle="net.pkl", dirname=tmp_path)
    clf = make_classifier(net={"callbacks": [saves]})
    clf.fit(X[:100], y[:100], np.repeat(["a", "b"], 50))
    assert clf.tasks_ == ["a", "b"]
    assert (tmp_path / "net.pkl").exists()


def test_loading_draws_no_random_number(learned):
    data = pickle.dumps(learned)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    pickle.loads(data)
    assert torch.equal(torch.rand(1), expected)


def test_odd_entries_of_a_history_are_left_out(digits):
    class Odd(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("when", np.datetime64("2020-01-01"))
            net.history.record("count", np.int64(3))

    X, y = digits
    clf = make_classifier(net={"callbacks": [Odd()]}).fit(X[:60], y[:60], task_id=0)
    assert clf.history_[0][0]["count"] == 3
    assert "when" not in clf.history_[0][0]
