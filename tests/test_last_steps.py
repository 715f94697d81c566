"""What is done with the last steps of a training, and which rate low-rank terms have in it."""

import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_classifier, permuted
from tests.inside import SCALES, network_of, task_of
from tests.modules import MLP, Conv2d
from tests.test_promises import assert_untouched, snapshot


class Normed(nn.Sequential):
    def __init__(self, n_classes=10, momentum=0.1, frozen=False):
        self.frozen = frozen
        super().__init__(
            nn.Linear(64, 12),
            nn.BatchNorm1d(12, momentum=momentum),
            nn.ReLU(),
            nn.Linear(12, 12),
            nn.BatchNorm1d(12, affine=False, momentum=momentum),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(12, n_classes),
        )

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:
            self[1].eval()
        return self


def statistics_of(module, batches):
    """Take them layer by layer, with those before in training mode, as a slow reference."""
    module = copy.deepcopy(module).eval()
    found = {}
    for name, norm in module.named_modules():
        if isinstance(norm, nn.BatchNorm1d):
            seen = []
            hook = norm.register_forward_pre_hook(
                lambda _, inputs, seen=seen: seen.append(inputs[0])
            )
            with torch.no_grad():
                for each in module.modules():
                    each.training = isinstance(each, nn.BatchNorm1d)
                kept = copy.deepcopy(module.state_dict())
                for x in batches:
                    module(x)
                module.load_state_dict(kept)
            hook.remove()
            found[name] = (
                torch.stack([x.mean(0) for x in seen]).mean(0),
                torch.stack([x.var(0) for x in seen]).mean(0),
            )
    return found


@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
def test_running_statistics_are_those_of_the_weights_that_are_kept(digits, momentum):
    X, y = (part[:320] for part in digits)
    net = {
        "module__momentum": momentum,
        "batch_size": 64,
        "iterator_train__shuffle": False,
        "train_split": None,
    }
    clf = make_classifier(Normed, net).fit(X, y, "base")
    module = network_of(clf).base
    for layer, (mean, var) in statistics_of(module, torch.from_numpy(X).split(64)).items():
        norm = module.get_submodule(layer)
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, var, rtol=1e-4, atol=1e-5)
        assert norm.momentum == momentum


def test_those_of_a_task_are_of_its_rows(digits):
    X, y = (part[:320] for part in digits)
    net = {"batch_size": -1, "train_split": None, "max_epochs": 6}
    clf = make_classifier(Normed, net).fit(X, y, "base").partial_fit(permuted(X, 1), y, "other")
    module = network_of(clf).module_for(task_of(clf, "other"))
    with torch.no_grad():  # of one batch alone they are those that it meets in predictions too
        seen = nn.Sequential(*list(module)[:4])(torch.from_numpy(permuted(X, 1)))
    torch.testing.assert_close(module[4].running_mean, seen.mean(0), rtol=1e-2, atol=2e-3)
    torch.testing.assert_close(module[4].running_var, seen.var(0), rtol=1e-2, atol=2e-3)


def test_a_norm_that_the_module_keeps_out_of_training_keeps_its_statistics(digits):
    X, y = (part[:120] for part in digits)
    clf = make_classifier(Normed, {"module__frozen": True})
    clf.fit(X, y, "a")
    module = network_of(clf).base
    assert not module[1].running_mean.any()
    assert module[4].running_mean.any()


class Watch(Callback):
    """Keeps the weights after each batch of the last training, by name."""

    seen = None

    def on_train_begin(self, net, **kwargs):
        type(self).seen = []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.seen.append({n: p.detach().clone() for n, p in net.module_.named_parameters()})


@pytest.mark.parametrize(
    ("share", "budget", "of_base", "of_task"),
    [
        (0.0, 5, 1, 1),
        (0.3, 5, 15, 12),
        (0.6, 5, 30, 20),  # after two of four epochs nothing is pruned any more
        (0.95, 0.2, 40, 20),  # the first epoch shows how many batches there are
    ],
)
def test_the_last_weights_are_averaged(digits, share, budget, of_base, of_task):
    X, y = (part[:320] for part in digits)
    net = {"batch_size": 32, "max_epochs": 5, "train_split": None, "callbacks": [Watch]}
    clf = make_classifier(net=net, average_last=share, growth_budget=budget, retrain_epochs=2)
    clf.fit(X, y, "a")
    mean, last = mean_of_last(of_base), Watch.seen[-1]
    better = mean if loss_of(mean, X, y) <= loss_of(last, X, y) else last
    for name, tensor in network_of(clf).base.named_parameters():
        torch.testing.assert_close(tensor.detach(), better[name], rtol=1e-5, atol=1e-6)
    clf.set_params(warmup_epochs=1)
    clf.partial_fit(permuted(X, 1), y, "b")
    kept = {(n, *p): t for (task_id, n, *p), t in snapshot(clf).items() if task_id == "b"}
    fits = [all_fit(kept, weights) for weights in (mean_of_last(of_task), Watch.seen[-1])]
    assert fits in ([True, of_task == 1], [False, True])


def mean_of_last(count):
    return {n: torch.stack([w[n] for w in Watch.seen[-count:]]).mean(0) for n in Watch.seen[0]}


def loss_of(weights, X, y):
    module = MLP()
    module.load_state_dict(weights)
    with torch.no_grad():
        return nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y))


def all_fit(kept, weights):
    """Whether what a task keeps is what these weights become by pruning."""
    for (name, *part), tensor in kept.items():
        trained = weights["_".join([name, *part])]
        if part and part[0] in "uv":  # terms that were pruned away are not kept
            trained = trained[trained.abs() > 1e-5].sort().values
            tensor = tensor[tensor != 0].sort().values
            trained = trained if len(trained) == len(tensor) else tensor
        if not torch.allclose(tensor, trained, rtol=1e-5, atol=1e-6):
            return False
    return True


@pytest.mark.parametrize("lr", [0.05, 1e-5])
def test_the_mean_is_kept_where_it_does_better(digits, lr):
    X, y = (part[:400] for part in digits)
    net = {"lr": lr, "max_epochs": 10, "callbacks": [Watch]}
    found = {}
    for share in (0.0, 0.5):
        clf = make_classifier(net=net, average_last=share).fit(X, y, "a")
        found[share] = dict(network_of(clf).base.named_parameters())
    moved = any(not torch.equal(found[0.0][name], found[0.5][name]) for name in found[0.0])
    assert moved == (lr > 0.01)  # steps so small have not come far, and the mean is behind


def test_the_best_weights_are_what_the_mean_has_to_be_better_than(digits):
    X, y = (part[:200] for part in digits)
    best = [("stop", EarlyStopping(patience=50, load_best=True)), ("watch", Watch)]
    net = {"batch_size": 16, "max_epochs": 6, "lr": 0.5, "callbacks": best}
    clf = make_classifier(net=net, average_last=0.4).fit(X, y, "a")
    losses = [row["valid_loss"] for row in clf.history_["a"]]
    per_epoch = len(Watch.seen) // 6
    best = Watch.seen[(int(np.argmin(losses)) + 1) * per_epoch - 1]
    plain = make_classifier(net=net, average_last=0.0).fit(X, y, "a")
    kept = dict(network_of(plain).base.named_parameters())
    assert all(torch.equal(kept[name], best[name]) for name in kept)
    averaged = dict(network_of(clf).base.named_parameters())
    mean = mean_of_last(round(0.4 * len(Watch.seen)))
    same_as_best = all(torch.equal(averaged[name], best[name]) for name in kept)
    assert same_as_best != all(torch.allclose(averaged[name], mean[name]) for name in kept)


def learned(digits, scale, module=Conv2d, **settings):
    X, y = (part[:150] for part in digits)
    clf = make_classifier(module, settings, factor_lr_scale=scale)
    X = X.reshape(-1, 1, 8, 8) if module is Conv2d else X
    return clf.partial_fit(X, y, "a").partial_fit(X[:, ..., ::-1].copy(), y, "b")


@pytest.mark.parametrize("held_out", [True, False])
def test_a_race_leaves_nothing_but_its_result(digits, held_out):
    settings = {} if held_out else {"train_split": None}
    raced = learned(digits, "auto", **settings)
    scale = raced.report_["b"]["factor_lr_scale"]
    assert scale in SCALES
    plain = learned(digits, scale, **settings)
    assert_untouched(snapshot(plain), snapshot(raced))
    assert_untouched(snapshot(raced), snapshot(plain))
    assert "factor_lr_scale" not in plain.report_["b"]


@pytest.mark.parametrize(("lr", "wins"), [(0.02, 10), (3.0, 1)])
def test_the_rate_that_does_best_wins(digits, lr, wins):
    # Of a rate far too small the largest multiple is best; one far too large bears none.
    clf = learned(digits, "auto", MLP, lr=lr, optimizer=torch.optim.SGD, max_epochs=4)
    assert clf.report_["b"]["factor_lr_scale"] == wins


def test_where_no_rate_can_be_chosen_there_is_no_race(digits):
    X, y = (part[:100] for part in digits)
    net = {"optimizer": torch.optim.LBFGS, "lr": 0.1}
    clf = make_classifier(net=net, factor_lr_scale="auto")
    clf.partial_fit(X, y, "a").partial_fit(X, y, "b")
    assert clf.report_["b"]["factor_lr_scale"] == 1
    clf.set_params(warmup_epochs=0).partial_fit(X, y, "c")
    assert clf.report_["c"]["factor_lr_scale"] == 1


def test_a_share_of_all_batches_is_refused():
    with pytest.raises(ValueError, match="average_last"):
        ContinualClassifier(average_last=1.0).fit(np.eye(20), [0, 1] * 10)
    with pytest.raises(ValueError, match="'auto'"):
        ContinualClassifier(factor_lr_scale="car").fit(np.eye(20), [0, 1] * 10)
