"""Ranks from what training freely changed, against a slow reference."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from tests.conftest import make_classifier, make_net, permuted
from tests.inside import (
    FORMS,
    PASSES,
    Budget,
    Classes,
    HeldOut,
    Layer,
    Settings,
    around,
    build_network,
    choose_factors,
    fit_scales,
    get_tensor,
)
from tests.modules import MLP, Conv2d
from tests.test_importance import slow_fisher
from tests.test_low_rank import random
from tests.test_ranks import slow_ranks

SETTINGS = {
    "warmup_epochs": 1,
    "approximation_rate": 0.9,
    "max_rank": 100,
    "l1_penalty": 0.0,
    "start": "warm-up",
    "factor_lr_scale": 1.0,
    "average_last": 0.0,
    "l2_penalty": 0.0,
    "prune_threshold": 0.0,
    "retrain_epochs": 0,
    "precision": "full",
    "growth_budget": 1e9,
    "importance": "fisher",
    "measured_losses": "none",
    "base": "first",
    "joint_sampling": 0.5,
    "least_gain": 0.0,
    "verbose": 0,
}


def slow_energies(weight, free, form):
    """What each term takes off the squared norm of the residual, by building every rank."""
    shape = weight.shape
    r, s = (t.double().numpy() for t in fit_scales(free, weight))
    weight, free = (t.detach().double().numpy().reshape(*shape[:2], -1) for t in (weight, free))
    residual = free - r[:, None, None] * weight * s[:, None]
    matrix = residual.mean(2) if form == "channel" else residual.reshape(shape[0], -1)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    norms = []
    for rank in range(len(values) + 1):
        part = (left[:, :rank] * values[:rank]) @ right[:rank]
        part = part[:, :, None] if form == "channel" else part.reshape(residual.shape)
        norms.append(((residual - part) ** 2).sum())
    return -np.diff(norms), norms


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(7, 5), (5, 7, 3), (6, 4, 3, 3), (3, 4, 2, 2, 2)])
def test_energies_are_what_terms_take_off_the_squared_norm(shape, form):
    weight, free = random(shape, 0), random(shape, 1)
    layer = Layer(weight, free, form)
    ranking = layer.ranking(3.0)
    energies, norms = slow_energies(weight, free, form)
    np.testing.assert_allclose(layer.energies, energies, rtol=1e-4, atol=1e-4)
    assert layer.residual_energy == pytest.approx(norms[0], rel=1e-5)
    for rank, norm in enumerate(norms):
        assert 2 * ranking.predicted_increase(rank) == pytest.approx(3 * norm, rel=1e-4, abs=1e-3)
        assert float((free - layer.cut(ranking, rank)).square().sum()) == pytest.approx(
            norm, abs=1e-4
        )
        assert ranking.kept(rank) == pytest.approx(sum(energies[:rank]) / sum(energies), abs=1e-5)


@pytest.mark.parametrize("importance", ["empirical", "uniform"])
@pytest.mark.parametrize("form", FORMS)
def test_ranks_are_those_of_importance_times_energy(digits, form, importance):
    X, y = digits
    X = X.reshape(-1, 1, 8, 8)
    recipe = make_net(Conv2d, batch_size=50)
    network = build_network(recipe, X, Classes(np.arange(10)), head=None, form=form, seed=0)
    free = {}
    for seed, name in enumerate(network.roles.perturbed):
        weight = get_tensor(network.base, name).detach()
        free[name] = weight + 0.1 * random(weight.shape, seed)
    module = network.module_with(free)
    net = around(recipe, module)
    for rate in (0.3, 0.6, 0.9):
        settings = Settings(**SETTINGS | {"approximation_rate": rate, "importance": importance})
        held_out = HeldOut(net, (None, net.get_dataset(X[:120], y[:120])), Classes(np.arange(10)))
        factors, _, found = choose_factors(network, net, held_out, settings, Budget(10**12))
        matters = dict.fromkeys(free, 1.0)
        if importance == "empirical":
            matters = slow_fisher(module, X[:120], y[:120], free, batch_size=50)
        scores = {}
        for name, weight in free.items():
            energies, _ = slow_energies(get_tensor(network.base, name).detach(), weight, form)
            scores[name] = matters[name] * energies
        expected = slow_ranks(scores, rate, 100)
        assert {name: row["rank"] for name, row in found.items()} == expected
        assert {name: f.u.shape[1] for name, f in factors.items()} == expected


def hold_out_the_last(dataset, y=None, **kwargs):
    """Split off the rows from 120 on."""
    return Subset(dataset, range(120)), Subset(dataset, range(120, len(dataset)))


@pytest.mark.filterwarnings("ignore:The warm-up of task 1 changed none")  # as it is meant to here
@pytest.mark.parametrize("held_out", [True, False])
def test_importance_is_measured_on_held_out_rows_where_there_are_any(digits, held_out):
    X, y = digits
    X = X.reshape(-1, 1, 8, 8)
    net = {
        "train_split": hold_out_the_last if held_out else None,
        "max_epochs": 1,
        "batch_size": 50,
    }
    clf = make_classifier(Conv2d, net=net, growth_budget=2.0, importance="empirical")
    clf.partial_fit(X[:200], y[:200], task_id=0)
    # With a learning rate of 0 the warm-up moves no weight, and the task keeps the network
    # on which the importance was taken: the base with a new head and new statistics.
    rows = permuted(X[:200], 1)
    clf.set_params(net__lr=0.0).partial_fit(rows, y[:200], task_id=1)
    used = slice(120 if held_out else 0, 200)
    found = {name: row["importance"] for name, row in clf.report_[1]["layers"].items()}
    expected = slow_fisher(clf.to_module(1), rows[used], y[used], found, batch_size=50)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4)


def test_rows_are_gone_through_again_where_signs_are_drawn_and_only_there(digits):
    X, y = digits
    module = MLP()

    def passes(importance, criterion):
        recipe = make_net(criterion=criterion, batch_size=50)
        network = build_network(
            recipe, X, Classes(np.arange(10)), head=None, form="unfolded", seed=0
        )
        net = around(recipe, module)
        seen = []
        hook = module.register_forward_hook(lambda module, args, outputs: seen.append(len(outputs)))
        settings = Settings(**SETTINGS | {"importance": importance})
        held_out = HeldOut(net, (None, net.get_dataset(X[:120], y[:120])), Classes(np.arange(10)))
        _, _, found = choose_factors(network, net, held_out, settings, Budget(10**12))
        hook.remove()
        return sum(seen) / 120, {name: row["importance"] for name, row in found.items()}

    assert 1 < passes("fisher", nn.CrossEntropyLoss)[0] <= PASSES
    assert passes("empirical", nn.CrossEntropyLoss)[0] == 1
    # A margin knows no probabilities, so that both importances are of the labels of the rows.
    assert passes("fisher", nn.MultiMarginLoss) == passes("empirical", nn.MultiMarginLoss)


@pytest.mark.parametrize(("n_rows", "expected"), [(20, PASSES), (500, 2), (1700, 1)])
def test_many_rows_are_gone_through_once(digits, n_rows, expected):
    X, y = digits
    net = around(make_net(batch_size=50), MLP())
    held_out = HeldOut(net, (None, net.get_dataset(X[:n_rows], y[:n_rows])), Classes(np.arange(10)))
    seen = [sum(n for _, n, *_ in losses) for losses in held_out.passes()]
    assert seen == [min(n_rows, 1024)] * expected


def test_an_importance_ends_where_ranks_no_longer_change(digits):
    X, y = digits

    class Noted(HeldOut):
        def is_settled(self, before, now):
            noted.append((self.ranks_for(before), self.ranks_for(now)))
            return super().is_settled(before, now)

    counts = set()
    for seed in range(20):
        recipe, noted, rate = make_net(batch_size=50), [], 0.5 + seed / 50
        network = build_network(
            recipe, X, Classes(np.arange(10)), head=None, form="unfolded", seed=seed
        )
        torch.manual_seed(100 + seed)
        net = around(recipe, MLP())
        settings = Settings(**SETTINGS | {"approximation_rate": rate, "importance": "fisher"})
        held_out = Noted(net, (None, net.get_dataset(X[:3], y[:3])), Classes(np.arange(10)))
        _, _, found = choose_factors(network, net, held_out, settings, Budget(10**12))
        for before, now in noted[:-1]:
            assert before != now
        before, now = noted[-1]
        assert before == now or len(noted) == PASSES - 1
        assert {name: row["rank"] for name, row in found.items()} == now
        counts.add(len(noted))
    assert len(counts) > 1  # some need more draws than others
