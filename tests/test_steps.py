"""Penalties, rates and pruned entries hold at every step, however a net takes its steps."""

import inspect

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler, WarmRestartLR
from torch.optim import SGD, lr_scheduler

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_net, permuted
from tests.inside import task_of


class Counting(SGD):
    """Counts its steps, and keeps the rate of each parameter in each of them."""

    rates = []

    def step(self, closure=None):
        loss = super().step(closure)
        Counting.rates.append({p: g["lr"] for g in self.param_groups for p in g["params"]})
        return loss


def is_low_rank(net):
    return any(name.endswith("_u") for name, _ in net.module_.named_parameters())


class Net(NeuralNetClassifier):
    """Learns nothing from its rows in the low-rank phase, so that penalties are all there is."""

    gain = 1.0

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) * (0.0 if is_low_rank(self) else 1.0)


class Accumulating(Net):
    """Takes a step after every second batch, as in skorch's FAQ."""

    notifies = False

    def train_step(self, batch, **parameters):
        step = self.train_step_single(batch, **parameters)
        if self.notifies:
            named = list(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        if len(self.history[-1, "batches"]) % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


class AccumulatingLoudly(Accumulating):
    notifies = True


class Scaling(Net):
    """Scales its loss by hand, and the gradients back before the step."""

    def train_step_single(self, batch, **parameters):
        self._set_training(True)
        x, y = batch
        y_pred = self.infer(x, **parameters)
        loss = self.get_loss(y_pred, y, X=x, training=True)
        (2.0**16 * loss).backward()
        return {"loss": loss, "y_pred": y_pred}

    def train_step(self, batch, **parameters):
        self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **parameters)
        named = list(self.get_all_learnable_params())
        self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        for _, parameter in named:
            if parameter.grad is not None:
                parameter.grad /= 2.0**16
        self.optimizer_.step()
        return step


class TorchsScaler(Net):
    """Leaves the scaling to torch."""

    def initialize(self):
        super().initialize()
        self.scaler_ = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        return self

    def train_step(self, batch, **parameters):
        self.optimizer_.zero_grad()
        self._set_training(True)
        x, y = batch
        y_pred = self.infer(x, **parameters)
        loss = self.get_loss(y_pred, y, X=x, training=True)
        self.scaler_.scale(loss).backward()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()
        return {"loss": loss, "y_pred": y_pred}


class Silent(Net):
    """Gives the optimizer a closure that calls no callback."""

    def train_step(self, batch, **parameters):
        def loss_of():
            self.optimizer_.zero_grad()
            found.append(self.train_step_single(batch, **parameters))
            return found[-1]["loss"]

        found = []
        self.optimizer_.step(closure=loss_of)
        return found[-1]


class Two(Net):
    """Has an optimizer for its factors, and another for all else."""

    def initialize_optimizer(self):
        named = list(self.get_all_learnable_params())
        factors = [p for name, p in named if name.endswith(("_r", "_s", "_u", "_v"))]
        others = [p for name, p in named if not name.endswith(("_r", "_s", "_u", "_v"))]
        self.optimizer_ = Counting(factors or others[:1], lr=self.lr)
        self.other_ = SGD(others if factors else others[1:], lr=self.lr)
        return self


class Late(Net):
    """Makes another optimizer once training has begun."""

    def on_epoch_begin(self, net, **kwargs):
        super().on_epoch_begin(net, **kwargs)
        if len(self.history) == 1:
            self.initialize_optimizer()


class Wrapping(torch.optim.Optimizer):
    """Takes a step up, computes the loss again, and lets another take the step down."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.base_optimizer = Counting(self.param_groups, lr=lr)
        self.param_groups = self.base_optimizer.param_groups

    def step(self, closure):
        with torch.enable_grad():
            closure()
            loss = closure()
        self.base_optimizer.step()
        return loss


WAYS = {
    "skorch's": (Net, {}, 1),
    "accumulating": (Accumulating, {}, 2),
    "accumulating loudly": (AccumulatingLoudly, {}, 2),
    "scaling": (Scaling, {}, 1),
    "torch's scaler": (TorchsScaler, {}, 1),
    "silent": (Silent, {}, 1),
    "two optimizers": (Two, {}, 1),
    "late": (Late, {}, 1),
    "wrapping": (Wrapping, {"optimizer": Wrapping}, 1),
}
WAYS["wrapping"] = (Net, {"optimizer": Wrapping}, 1)


class Factors(Callback):
    """Keeps the factors as they are at the beginning and at the end of the last phase."""

    begin, end = {}, {}

    def on_train_begin(self, net, **kwargs):
        Factors.begin = self.found(net)
        Counting.rates = []

    def on_train_end(self, net, **kwargs):
        Factors.end = self.found(net)

    def found(self, net):
        return {
            name: p.detach().clone()
            for name, p in net.module_.named_parameters()
            if name.endswith(("_r", "_s", "_u", "_v"))
        }


def learned(kind, digits, net, **settings):
    X, y = digits
    net = {"optimizer": Counting, "train_split": None, "lr": 0.1, "max_epochs": 4} | net
    callbacks = [Factors(), *net.pop("callbacks", [])]
    net = kind(**make_net(callbacks=callbacks, **net).get_params(deep=False))
    settings = {"growth_budget": 10.0, "prune_threshold": 0.0, "precision": "full"} | settings
    settings |= {"start": "warm-up", "warmup_epochs": 2}
    clf = ContinualClassifier(net, random_state=0, **settings)
    clf.partial_fit(X[:128], y[:128], task_id="a")
    return clf.partial_fit(permuted(X[:128], 1), y[:128], task_id="b")


@pytest.mark.parametrize("way", WAYS)
def test_penalties_act_once_at_every_step(way, digits):
    kind, net, batches = WAYS[way]
    learned(kind, digits, net, l1_penalty=0.0, l2_penalty=0.5)
    steps = 2 * 4 // batches
    assert len(Counting.rates) == steps
    assert len(Factors.begin) == 8
    for name, tensor in Factors.begin.items():
        torch.testing.assert_close(Factors.end[name], tensor * (1 - 0.1 * 0.5) ** steps)


@pytest.mark.parametrize(
    "settings", [{"lr": 0.5}, {"lr": 0.5, "optimizer__line_search_fn": "strong_wolfe"}]
)
def test_an_optimizer_that_looks_for_the_minimum_finds_that_of_the_penalty(digits, settings):
    net = {"optimizer": torch.optim.LBFGS, "batch_size": -1, **settings}
    learned(Net, digits, net, l1_penalty=0.0, l2_penalty=0.5)
    assert sum(float(tensor.abs().sum()) for tensor in Factors.begin.values()) > 10
    assert all(tensor.abs().max() < 1e-3 for tensor in Factors.end.values())


def test_one_rate_for_all_and_one_for_factors_do_not_go_together(digits):
    net = {"optimizer": torch.optim.LBFGS, "batch_size": -1}
    with pytest.raises(ValueError, match=r"LBFGS has one learning rate.*factor_lr_scale at 1"):
        learned(Net, digits, net, factor_lr_scale=3.0)


class Watching(NeuralNetClassifier):
    """Takes two steps for each batch, and looks at what is 0 after each."""

    seen = []

    def train_step(self, batch, **parameters):
        for _ in range(2):
            self.optimizer_.zero_grad()
            step = self.train_step_single(batch, **parameters)
            self.optimizer_.step()
            found = Factors().found(self)
            left = [int((found[n] != 0).sum()) for n in found if n.endswith(("_u", "_v"))]
            Watching.seen.append(sum(left))
        return step


def test_what_was_pruned_stays_away_after_every_step(digits):
    net = {"optimizer": SGD, "optimizer__momentum": 0.9}
    clf = learned(Watching, digits, net, growth_budget=0.35)
    factors = task_of(clf, "b").factors.values()
    kept = sum(np.count_nonzero(part.dense()) for f in factors for part in (f.u, f.v))
    before, after = Watching.seen[-16:-8], Watching.seen[-8:]  # two epochs of the last phase
    assert min(before) > kept
    assert set(after) == {kept}


# --- rates -------------------------------------------------------------------------------

SCHEDULES = {
    "LambdaLR": [{"lr_lambda": lambda step: 0.9**step}, {"lr_lambda": [lambda step: 0.9**step]}],
    "MultiplicativeLR": [{"lr_lambda": lambda step: 0.9}],
    "StepLR": [{"step_size": 2}],
    "MultiStepLR": [{"milestones": [1, 3]}],
    "ConstantLR": [{"total_iters": 3}],
    "LinearLR": [{"total_iters": 3}],
    "ExponentialLR": [{"gamma": 0.9}],
    "SequentialLR": [lambda make: {"schedulers": [make(), make()], "milestones": [2]}],
    "PolynomialLR": [{"total_iters": 8}],
    "CosineAnnealingLR": [{"T_max": 8}],
    "ChainedScheduler": [lambda make: {"schedulers": [make(), make()]}],
    "ReduceLROnPlateau": [{"patience": 0, "threshold": 1.0}],
    "CyclicLR": [{"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2, "cycle_momentum": False}],
    "CosineAnnealingWarmRestarts": [{"T_0": 2}],
    "OneCycleLR": [{"max_lr": 0.1, "total_steps": 40}, {"max_lr": [0.1], "total_steps": 40}],
    "WarmRestartLR": [{"max_lr": 0.1, "base_period": 3}],
    "SWALR": [{"swa_lr": 0.05, "anneal_epochs": 3}],
}


def test_every_schedule_of_torch_is_among_them():
    kinds = {
        name: kind
        for name, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler)
    }
    abstract = {"LRScheduler", "_LRScheduler"}
    assert set(kinds) - abstract <= set(SCHEDULES)


def policy_of(name, settings):
    """A function that makes a schedule: skorch takes it for the class of one."""
    kinds = {"WarmRestartLR": WarmRestartLR, "SWALR": torch.optim.swa_utils.SWALR}
    kind = kinds.get(name) or getattr(lr_scheduler, name)

    def policy(optimizer, last_epoch=-1):
        def make():
            return lr_scheduler.StepLR(optimizer, step_size=3)

        chosen = settings(make) if callable(settings) else settings
        return kind(**chosen) if name == "ChainedScheduler" else kind(optimizer, **chosen)

    return policy


class Writes(Callback):
    """Sets the rate of all groups by itself."""

    def on_batch_begin(self, net, training=False, **kwargs):
        for group in net.optimizer_.param_groups:
            group["lr"] = 0.1 / (1 + len(net.history[-1, "batches"]))


class WritesLate(Callback):
    """Does so when gradients are known, and reads what it wrote."""

    def on_grad_computed(self, net, **kwargs):
        rate = 0.1 / (1 + len(net.history[-1, "batches"]))
        for group in net.optimizer_.param_groups:
            group["lr"] = rate

    def on_batch_end(self, net, training=False, **kwargs):
        rate = 0.1 / (1 + len(net.history[-1, "batches"]))
        assert [group["lr"] for group in net.optimizer_.param_groups] == [rate]


class Sets(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.set_params(lr=0.1 / (1 + len(net.history)))


WRITERS = {"batch": Writes, "gradient": WritesLate, "epoch": Sets}
CASES = {
    f"{name} {i}": lambda name=name, settings=settings, every=every: LRScheduler(
        policy_of(name, settings), monitor="train_loss", step_every=every
    )
    for name, several in SCHEDULES.items()
    for i, (settings, every) in enumerate(
        (settings, every)
        for settings in several
        for every in (("epoch",) if name == "ReduceLROnPlateau" else ("epoch", "batch"))
    )
} | WRITERS


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # SequentialLR's own
@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_factors_keep_their_share_of_whatever_rate(case, digits):
    rates = {}
    for scale in (1.0, 30.0):
        net = {"callbacks": [CASES[case]()], "lr": 0.1}
        learned(Net, digits, net, factor_lr_scale=scale, l1_penalty=0.0, l2_penalty=0.0)
        assert len(Counting.rates) == 8
        # By place, since the parameters of two runs are not the same.
        rates[scale] = [sorted(set(step.values())) for step in Counting.rates]
        assert len(Counting.rates[0]) == 8 + 4
    for alone, scaled in zip(rates[1.0], rates[30.0], strict=True):
        assert len(alone) == 1
        assert scaled == pytest.approx(sorted({alone[0], 30 * alone[0]}), rel=1e-12)


def test_groups_of_the_users_own_keep_theirs(digits):
    groups = [("*_u", {"lr": 0.02}), ("*bias", {"lr": 0.001})]
    net = {"optimizer__param_groups": groups}
    learned(Net, digits, net, factor_lr_scale=10.0)
    found = {lr for step in Counting.rates for lr in step.values()}
    assert sorted(found) == pytest.approx([0.001, 0.1, 0.2, 1.0])
