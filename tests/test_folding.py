"""What a norm makes redundant is neither trained nor stored, and outputs stay as they were."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import make_classifier, permuted
from tests.inside import (
    Factors,
    begin,
    effective_weight,
    fold,
    get_tensor,
    measure,
    net_around,
    network_of,
    normed_layers,
    task_of,
)
from tests.modules import ZOO


class Body(nn.Module):
    """Layers and norms in all the ways that matter."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.plain, self.after_plain = nn.Linear(64, 8), nn.BatchNorm1d(8)
        self.unbiased, self.after_unbiased = nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8)
        self.used_again, self.after_used = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.twice, self.after_twice = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.bent, self.after_bent = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.lone, self.no_numbers = nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False)
        self.of_rows, self.layer_norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.last = nn.Linear(8, n_classes)

    def forward(self, x):
        x = self.after_plain(self.plain(x)).relu()
        x = self.after_unbiased(self.unbiased(x)).relu()
        z = self.used_again(x)
        x = self.after_used(z).relu() + 0.1 * z
        x = self.after_twice(self.twice(self.after_twice(self.twice(x)).relu()))
        x = self.after_bent(self.bent(x).tanh())
        x = self.no_numbers(self.lone(x)).relu()
        return self.last(self.layer_norm(self.of_rows(x)))


FOUND = {
    Body: {"plain.weight", "unbiased.weight"},
    "conv1d": {"2.weight"},
    "conv2d": {"0.weight"},
    "mlp": set(),
    "depthwise": set(),
}


def fitted(module, digits, **settings):
    animal = ZOO.get(module)
    shape = animal.shape if animal else (64,)
    X, y = digits[0][:200].reshape(-1, *shape), digits[1][:200]
    clf = make_classifier(animal.module if animal else module, growth_budget=2.0, **settings)
    return clf.partial_fit(X, y, "a"), X, y


def moved(tensor, generator, scale=0.3):
    return tensor + scale * torch.randn(tensor.shape, generator=generator)


def random_task(network, seed=0):
    """Own tensors and factors as a training might have made them."""
    g = torch.Generator().manual_seed(seed)
    own = {
        name: moved(t, g).abs() + 0.1 if name.endswith("running_var") else moved(t, g)
        for name, t in network.own_of_base().items()
        if t.is_floating_point()
    }
    factors = {}
    for name in network.roles.perturbed:
        weight = get_tensor(network.base, name)
        rows, columns = weight.flatten(1).shape
        sign = torch.where(torch.arange(rows) % 2 == 0, 1.0, -1.0)
        factors[name] = Factors(
            sign * (0.5 + torch.rand(rows, generator=g)),
            1 + 0.3 * torch.randn(weight.shape[1], generator=g),
            0.3 * torch.randn(rows, 2, generator=g),
            0.3 * torch.randn(2, columns, generator=g),
        )
    return own, factors


def module_of(network, own, factors):
    """A plain module for own tensors and factors."""
    weights = {
        name: effective_weight(get_tensor(network.base, name), f, network.form)
        for name, f in factors.items()
    }
    return network.module_with({**network.own_of_base(), **own, **weights}, trainable=False).eval()


def outputs(X):
    rows = torch.from_numpy(X[:50])

    def forward(module):
        with torch.no_grad():
            return module(rows)

    return forward


@pytest.mark.parametrize("module", FOUND, ids=str)
def test_layers_before_norms_are_found(module, digits):
    clf, X, _ = fitted(module, digits)
    found = normed_layers(network_of(clf), outputs(X))
    assert {one.weight for one in found} == FOUND[module]


@pytest.mark.parametrize("module", [Body, "conv1d", "conv2d", "residual"], ids=str)
def test_a_training_begins_with_the_same_outputs(module, digits):
    clf, X, _ = fitted(module, digits)
    network, forward = network_of(clf), outputs(X)
    own, factors = random_task(network)
    normed = normed_layers(network, forward)
    before = forward(module_of(network, own, factors))
    begun, fewer = begin(normed, network.own_of_base(), own, factors)
    for one in normed:
        assert fewer[one.weight].r.numel() == 0
        assert factors[one.weight].r.numel() > 0
        assert one.bias is None or torch.equal(begun[one.bias], get_tensor(network.base, one.bias))
    after = forward(module_of(network, begun, fewer))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_a_row_that_is_scaled_to_nothing_keeps_its_scale(digits):
    clf, X, _ = fitted("conv2d", digits)
    network = network_of(clf)
    own, factors = random_task(network)
    factors["0.weight"].r[3] = 0
    normed = normed_layers(network, outputs(X))
    begun, fewer = begin(normed, network.own_of_base(), own, factors)
    assert torch.equal(fewer["0.weight"].r, factors["0.weight"].r)
    assert all(torch.equal(begun[name], own[name]) for name in own)


@pytest.mark.parametrize("module", [Body, "conv1d", "conv2d", "residual"], ids=str)
def test_what_is_stored_gives_the_same_outputs(module, digits):
    clf, X, _ = fitted(module, digits)
    network, forward = network_of(clf), outputs(X)
    own, factors = random_task(network, seed=1)
    normed = normed_layers(network, forward)
    trained = module_of(network, own, factors)
    before = forward(trained)
    fold(network, normed, trained, factors, forward)
    torch.testing.assert_close(forward(trained), before, rtol=1e-3, atol=1e-3)
    changed = set(network.changed(trained))
    for one in normed:
        assert not changed & set(one.redundant)


def test_statistics_are_measured_where_rows_go(digits):
    clf, X, y = fitted("residual", digits)
    network, forward = network_of(clf), outputs(X)
    own, factors = random_task(network, seed=2)
    normed = normed_layers(network, forward)
    module = module_of(network, own, factors)
    before = forward(module)
    net = net_around(clf, module, batch_size=-1)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    measured = measure(normed, own, net, dataset)
    for one in normed:
        seen = []
        norm = module.get_submodule(one.norm)
        hook = norm.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            module(torch.from_numpy(X))
        hook.remove()
        flat = seen[0].transpose(0, 1).flatten(1)
        torch.testing.assert_close(measured[f"{one.norm}.running_mean"], flat.mean(1))
        torch.testing.assert_close(measured[f"{one.norm}.running_var"], flat.var(1))
    after = forward(module_of(network, measured, factors))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_a_task_keeps_two_numbers_for_each_output_before_a_norm(digits):
    clf, X, y = fitted("conv2d", digits)
    clf.partial_fit(permuted(X, 1), y, "b")
    task = task_of(clf, "b")
    assert {name for name in task.own if name[0] in "01"} <= {
        "1.weight",
        "1.bias",
        "10.bias",
        "10.weight",
    }
    assert task.factors["0.weight"].r.size == 0
    assert task.factors["4.weight"].r.size == 12


@pytest.mark.parametrize("base", ["first", "pretrained"])
def test_going_on_begins_where_the_task_was(base, digits):
    net = {"train_split": None, "batch_size": -1, "optimizer": torch.optim.SGD}
    animal = ZOO["residual"]
    module = animal.module if base == "first" else animal.module()
    clf = make_classifier(module, net, base=base, growth_budget=2.0, average_last=0)
    X, y = digits[0][:200].reshape(-1, *animal.shape), digits[1][:200]
    clf.partial_fit(X, y, "a").partial_fit(permuted(X, 1), y, "b")
    before = clf.predict_proba(permuted(X, 1), "b")
    clf.set_params(net__lr=0.0, l1_penalty=0.0, l2_penalty=0.0).partial_fit(permuted(X, 1), y, "b")
    np.testing.assert_allclose(clf.predict_proba(permuted(X, 1), "b"), before, atol=2e-4)


def test_where_numbers_are_short_scales_have_to_earn_them(digits):
    X, y = digits[0][:200], digits[1][:200]
    few = make_classifier(growth_budget=0.16).partial_fit(X, y, "a")
    few.partial_fit(permuted(X, 1), y, "b")
    task, base = task_of(few, "b"), network_of(few).base
    scales = {name: f.r.size + f.s.size for name, f in task.factors.items()}
    assert 0 in scales.values()  # of 88 + 48 numbers not all
    assert task.n_numbers <= 0.16 * sum(p.numel() for p in base.parameters())
    with torch.no_grad():
        outputs = network_of(few).module_for(task)(torch.from_numpy(permuted(X, 1)))
    np.testing.assert_allclose(
        few.predict_proba(permuted(X, 1), "b"), outputs.softmax(-1), rtol=1e-5
    )
    rich = make_classifier(growth_budget=2.0).fit(X, y, "a").partial_fit(permuted(X, 1), y, "b")
    assert {f.r.size for f in task_of(rich, "b").factors.values()} == {24}
