import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp import importance as public
from sklearn_halrp.exceptions import InvalidNetworkError
from sklearn_halrp.importance import Activation, Fisher, Gradient, Hessian, Kfac
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import (
    DAMPING,
    FORMS,
    IMPORTANCES,
    Classes,
    HeldOut,
    Layer,
    Uniform,
    around,
    get_tensor,
    hessian_norm,
    losses,
    mean_square_gradient,
    network_of,
    squared_mean_gradient,
)
from tests.modules import MLP, Recurrent, Tied
from tests.test_low_rank import random
from tests.test_promises import assert_untouched, snapshot


def slow_fisher(module, X, y, names, batch_size):
    """The formula with one backward pass per batch, in evaluation mode."""
    module = copy.deepcopy(module).eval()
    expected = dict.fromkeys(names, 0.0)
    starts = range(0, len(X), batch_size)
    for start in starts:
        module.zero_grad()
        rows = torch.from_numpy(X[start : start + batch_size])
        labels = torch.from_numpy(y[start : start + batch_size])
        nn.functional.cross_entropy(module(rows), labels).backward()
        for name in names:
            grad = module.get_parameter(name).grad
            expected[name] += len(rows) ** 2 * float(grad.double().square().mean()) / len(X)
    return expected


def test_fisher_equals_autograd_on_single_batches(digits):
    X, y = digits
    module = MLP()
    net = around(make_net(batch_size=50), module, verbose=0)
    dataset = net.get_dataset(X[:120], y[:120])
    weights = {n: p for n, p in module.named_parameters() if n.endswith("weight")}
    ours = mean_square_gradient(losses(net, dataset), weights)
    for name, value in slow_fisher(module, X[:120], y[:120], weights, batch_size=50).items():
        assert ours[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, nn.NLLLoss])
def test_with_predicted_labels_it_is_the_mean_diagonal_of_the_hessian(digits, criterion):
    # In a softmax regression the two are equal, whatever the labels are: here all are wrong.
    X, _ = digits
    rows, wrong = torch.from_numpy(X[:1500, :12]), np.zeros(1500, int)
    torch.manual_seed(0)
    linear = nn.Linear(12, 3)

    def loss(weight):
        outputs = rows @ weight.T + linear.bias
        return nn.functional.cross_entropy(outputs, torch.from_numpy(wrong))

    hessian = torch.autograd.functional.hessian(loss, linear.weight.detach())
    expected = hessian.reshape(36, 36).diagonal().mean().item()
    layers = [linear] if criterion is nn.CrossEntropyLoss else [linear, nn.Softmax(dim=-1)]
    net = around(make_net(batch_size=10, criterion=criterion), nn.Sequential(*layers))
    dataset, weights = net.get_dataset(X[:1500, :12], wrong), {"w": linear.weight}
    found = mean_square_gradient(
        losses(net, dataset, curvature_loss=Classes.curvature_loss), weights
    )["w"]
    assert found == pytest.approx(expected, rel=0.15)
    # With the labels of the rows the gradients do not cancel in a batch.
    assert mean_square_gradient(losses(net, dataset), weights)["w"] > 3 * expected


def test_where_nothing_is_predicted_with_a_probability_labels_are_those_of_the_rows(digits):
    X, y = digits
    net = around(make_net(criterion=nn.MultiMarginLoss), MLP(), verbose=0)
    dataset = net.get_dataset(X[:100], y[:100])
    given, predicted = (
        [loss.item() for loss, *_ in losses(net, dataset, curvature_loss=function)]
        for function in (None, Classes.curvature_loss)
    )
    assert given == predicted


def test_fisher_is_the_same_in_single_rows_whatever_the_batch_size():
    # At a minimum the gradients of single rows cancel, and the expected square of a
    # batch mean is theirs over the number of rows.
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(20_000, 3, generator=g)
    rows -= rows.mean(0)
    w = torch.zeros(3, requires_grad=True)
    for n in (10, 100):
        batches = (((part @ w).mean(), n, None) for part in rows.split(n))
        assert mean_square_gradient(batches, {"w": w})["w"] == pytest.approx(1.0, rel=0.1)


@given(sizes=st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_every_row_counts_alike_in_whatever_batch_it_is(sizes):
    # Rows without a common input: the square of their mean gradient has no mixed terms.
    rows = torch.diag(torch.arange(1.0, sum(sizes) + 1))
    w = torch.zeros(len(rows), requires_grad=True)
    batches = [((part @ w).mean(), len(part), None) for part in rows.split(sizes)]
    assert mean_square_gradient(batches, {"w": w})["w"] == pytest.approx(
        rows.square().mean().item()
    )


def test_an_unused_weight_has_no_importance():
    used, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    assert mean_square_gradient([(used.sum(), 1, None)], {"a": used, "b": unused}) == {
        "a": 1.0,
        "b": 0.0,
    }


def test_uniform_is_one_everywhere():
    assert Uniform()({"a": None, "b": None}, None) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("name", IMPORTANCES)
def test_every_name_is_told_to_users(name):
    guide = Path(__file__).parent.parent / "docs" / "guide" / "importance.md"
    assert f'`"{name}"`' in guide.read_text(encoding="utf-8")
    for face in (ContinualClassifier, ContinualRegressor):
        assert f'``"{name}"``: ' in face.__doc__


def test_every_importance_with_a_name_is_a_public_class_with_source_and_example():
    for found in IMPORTANCES.values():
        kind = type(found)
        assert kind.__name__ in public.__all__
        assert getattr(public, kind.__name__) is kind
        assert "References\n" in kind.__doc__
        assert ">>>" in kind.__doc__


NEW = ("gradient", "activation", "hessian")


@pytest.mark.parametrize("importance", NEW)
def test_every_network_is_learned(animal, digits, importance):
    X = digits[0][:120].reshape(-1, *animal.shape)
    clf = make_classifier(animal.module, importance=importance, growth_budget=2.0)
    clf.fit(X, digits[1][:120], task_id=np.repeat([0, 1], 60))
    layers = clf.report_[1]["layers"]
    assert set(layers) == set(network_of(clf).roles.perturbed)
    assert all(np.isfinite(row["predicted_increase"]) for row in layers.values())
    assert any(row["importance"] > 0 for row in layers.values())


@pytest.mark.parametrize("importance", NEW)
def test_it_is_the_same_whoever_learns_it_and_when(digits, importance):
    X, y = digits
    clf = make_classifier(importance=importance)
    clf.partial_fit(X[:100], y[:100], task_id=0)
    alone = copy.deepcopy(clf).partial_fit(permuted(X[:100], 2), y[:100], task_id=2)
    rows = np.concatenate([permuted(X[:100], seed) for seed in (1, 2)])
    clf.set_params(n_jobs=2).partial_fit(rows, np.tile(y[:100], 2), np.repeat([1, 2], 100))
    assert clf.report_[2]["layers"] == alone.report_[2]["layers"]
    assert np.array_equal(clf.predict_proba(X, 2), alone.predict_proba(X, 2))


# --- what an importance is given


def looked_at(module, names, X, y, form="unfolded", batch_size=32, weights=None, moved=0.1):
    """The layers and the held-out rows of a module, whose base was near it."""
    module.eval()
    net = around(make_net(batch_size=batch_size), module, weighted=weights is not None)
    dataset = net.get_dataset(X, y)
    if weights is not None:
        dataset = [
            ({"rows": x, "sample_weight": w}, c) for x, w, c in zip(X, weights, y, strict=True)
        ]
    layers = {}
    for seed, name in enumerate(names):
        free = get_tensor(module, name)
        layers[name] = Layer(
            (free + moved * random(free.shape, seed)).detach(),
            free,
            form,
            *split_name(module, name),
        )
    return layers, HeldOut(net, (None, dataset), Classes(np.unique(y)))


def split_name(module, name):
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


# --- gradient


def test_gradient_is_the_mean_square_of_the_gradient_over_all_rows(digits):
    X, y = digits
    module, weights = MLP(), np.random.RandomState(0).rand(100).astype(np.float32)
    names = ["body.0.weight", "body.2.weight"]
    for w in (None, weights):
        layers, held_out = looked_at(module, names, X[:100], y[:100], weights=w)
        found = Gradient()(layers, held_out)
        each = nn.functional.cross_entropy(
            module(torch.from_numpy(X[:100])), torch.from_numpy(y[:100]), reduction="none"
        )
        loss = (each if w is None else each * torch.from_numpy(w)).mean()
        for name in names:
            (gradient,) = torch.autograd.grad(loss, layers[name].free, retain_graph=True)
            assert found[name] == pytest.approx(gradient.square().mean().item(), rel=1e-4)


@pytest.mark.parametrize("function", [squared_mean_gradient, mean_square_gradient])
def test_frozen_and_unused_weights_have_none(function):
    used, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    frozen = torch.ones(2)
    weights = {"frozen": frozen, "used": used, "unused": unused}
    assert function([((used * frozen).sum(), 1, None)], weights) == {
        "frozen": 0.0,
        "used": 1.0,
        "unused": 0.0,
    }


# --- Hessian


class Twice(nn.Sequential):
    """One weight that is used two times."""

    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x):
        return self[2](self[1](self[0](self[1](self[0](x)))))


class Fused(nn.Module):
    """Attention by torch's fused kernels, which have first derivatives alone."""

    def __init__(self, size=4):
        super().__init__()
        self.keys, self.last = nn.Linear(size, size), nn.Linear(size, 3)

    def forward(self, x):
        k = self.keys(x)
        return self.last(
            nn.functional.scaled_dot_product_attention(k[:, None], k[:, None], x[:, None])
        ).mean((1, 2))


TINY = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,), "0.weight"),
    "convolution": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, 3)),
        (2, 6),
        "0.weight",
    ),
    "twice": (Twice, (4,), "0.weight"),
    "attention": (Fused, (5, 4), "keys.weight"),
    "recurrent": (lambda: Recurrent(3, nn.LSTM), (3, 8), "rnn.weight_hh_l0"),
}


SLOW = ("convolution", "attention", "recurrent")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TINY]
)
def test_hessian_is_its_frobenius_norm(name):
    make, shape, weight = TINY[name]
    torch.manual_seed(1)
    module = make()
    X, y = random((30, *shape), 0).numpy(), np.arange(30) % 3
    layers, held_out = looked_at(module, [weight], X, y, batch_size=8)
    exact = copy.deepcopy(module).double()

    def loss(w):
        outputs = torch.func.functional_call(exact, {weight: w}, (torch.from_numpy(X).double(),))
        return nn.functional.cross_entropy(outputs, torch.from_numpy(y))

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        free = layers[weight].free.detach().double()
        expected = torch.autograd.functional.hessian(loss, free).norm().item()
    found = Hessian(n_products=400)(layers, held_out)[weight]
    assert found == pytest.approx(expected, rel=0.1)
    few = [Hessian(n_products=2)(layers, held_out)[weight] ** 2 for _ in range(200)]
    assert np.mean(few) == pytest.approx(expected**2, rel=0.2)


def test_one_product_is_exact_where_the_hessian_is_diagonal():
    # The mean over six rows of a_i w^4 / 12, in batches of different size.
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    a = torch.arange(1.0, 7.0)

    def batches():
        return [((part[:, None] * w**4).sum(1).mean() / 12, len(part), None) for part in a.split(4)]

    expected = (a.mean() * w.detach() ** 2).norm().item()
    assert hessian_norm(batches, {"w": w}, 1)["w"] == pytest.approx(expected, rel=1e-6)


def test_what_has_no_curvature_has_a_norm_of_0():
    linear, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    weights = {"linear": linear, "unused": unused, "frozen": torch.ones(2)}
    for other in (0.0, linear.prod() ** 2 * 0.0):
        found = hessian_norm(lambda o=other: [(linear.sum() + o, 1, None)], weights, 3)
        assert found == {"linear": 0.0, "unused": 0.0, "frozen": 0.0}


def test_the_hessian_goes_through_so_many_rows_so_many_times(digits):
    X, y = digits
    module, seen = MLP(), []
    layers, held_out = looked_at(module, ["body.0.weight"], X[:500], y[:500])
    module.register_forward_hook(lambda module, args, outputs: seen.append(len(outputs)))
    Hessian(n_products=3, n_rows=70)(layers, held_out)
    assert sum(seen) == 3 * 70
    seen.clear()
    Hessian(n_products=1, n_rows=10**9)(layers, held_out)
    assert sum(seen) == 500
    # More than the other importances take.
    layers, held_out = looked_at(
        module, ["body.0.weight"], np.tile(X[:500], (4, 1)), np.tile(y[:500], 4)
    )
    for n_rows in (1500, 2000):
        seen.clear()
        Hessian(n_products=1, n_rows=n_rows)(layers, held_out)
        assert sum(seen) == n_rows
    seen.clear()
    Gradient()(layers, held_out)
    assert sum(seen) == 1024


class Once(torch.autograd.Function):
    """The square, whose gradient says that it cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class OnceDifferentiable(MLP):
    def forward(self, x):
        return self.last(Once.apply(self.body(x)))


def test_a_network_without_second_derivatives_is_refused_and_nothing_is_kept(digits):
    X, y = digits
    clf = make_classifier(OnceDifferentiable, importance="hessian")
    clf.partial_fit(X[:100], y[:100], task_id=0)
    before = snapshot(clf)
    with pytest.raises(InvalidNetworkError, match=r"once_differentiable.* 'fisher'"):
        clf.partial_fit(X[:100], y[:100], task_id=1)
    assert_untouched(before, snapshot(clf))
    clf.set_params(importance="kfac").partial_fit(X[:100], y[:100], task_id=1)


def test_kernels_without_second_derivatives_are_refused_too():
    q = torch.randn(2, 2, 5, 8, requires_grad=True)

    def batches():
        return [(nn.functional.scaled_dot_product_attention(q, q, q).square().sum(), 1, None)]

    with pytest.raises(InvalidNetworkError, match=r"attention.* 'fisher'"):
        hessian_norm(batches, {"q": q}, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_products": 0},
        {"n_rows": 1.5},
        {"n_products": None},
        {"n_products": True},
        {"n_rows": True},
    ],
)
def test_settings_of_the_hessian_are_whole_numbers(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is a whole number from 1"):
        Hessian(**settings)


# --- activation


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (5, 7, 3), (6, 4, 3, 3), (3, 8, 2, 2, 2)])
def test_weighed_terms_are_those_of_the_definition(shape, form):
    layer = Layer(random(shape, 0), random(shape, 1), form)
    weights = torch.arange(shape[0], dtype=torch.float64) ** 2  # one of them 0
    damped = weights + DAMPING * weights.mean()
    change = layer.change.double().flatten(1)
    ranking = layer.weighed(weights)
    root = damped.sqrt()[:, None].numpy()
    matrix = layer.matrix.double().numpy()
    copies = change.shape[1] // matrix.shape[1]
    left, values, right = np.linalg.svd(root * matrix, full_matrices=False)
    np.testing.assert_allclose(ranking.scores, copies * values**2, rtol=1e-6, atol=1e-9)
    assert ranking.importance == pytest.approx(weights.mean().item())
    for rank in range(len(values) + 1):
        u, v = ranking.split(rank)
        best = (left[:, :rank] * values[:rank]) @ right[:rank] / root
        np.testing.assert_allclose((u @ v).numpy(), best, atol=1e-5)
        torch.testing.assert_close(u.T @ u, v @ v.T, atol=1e-4, rtol=1e-4)


class Seen(nn.Module):
    """Layers whose outputs can be written down by hand."""

    def __init__(self):
        super().__init__()
        self.conv, self.group = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, groups=2)
        self.tokens, self.again, self.read = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.again.weight = self.tokens.weight
        self.up = nn.ConvTranspose1d(6, 4, 1)
        self.last = nn.Linear(4, 10)

    def forward(self, x):
        self.given = {"conv": [self.conv(x.reshape(-1, 1, 8, 8))], "group": [], "tokens": []}
        y = nn.functional.relu(self.given["conv"][0].clone())
        self.given["group"] = [self.group(y)]
        y = self.given["group"][0].flatten(2).mT
        y = torch.tanh(self.tokens(y))
        self.given["tokens"] = [self.tokens(self.given["group"][0].flatten(2).mT)]
        self.given["tokens"] += [self.given["tokens"][0]]
        self.given["tokens"] += [self.again(y)]
        y = self.given["tokens"][-1] @ self.read.weight
        return self.last(self.up(y.mT).mean(2))


NAMES = ["conv.weight", "group.weight", "tokens.weight", "read.weight", "up.weight"]


@pytest.mark.parametrize("weighted", [False, True])
def test_activation_weighs_outputs_by_their_mean_squares_over_rows_places_and_uses(
    digits, weighted
):
    X, y = digits
    module = Seen()
    w = np.random.RandomState(0).randint(0, 3, 60).astype(np.float32)
    layers, held_out = looked_at(module, NAMES, X[:60], y[:60], weights=w if weighted else None)
    found = Activation()(layers, held_out)
    assert not any(part._forward_hooks for part in module.modules())
    # A weight is a number of repetitions.
    rows = torch.from_numpy(X[:60])
    module(rows.repeat_interleave(torch.from_numpy(w).long(), 0) if weighted else rows)
    means = []
    for name, outputs in module.given.items():
        axes = (0, 1) if name == "tokens" else (0, 2, 3)
        energies = torch.stack([o.detach().double().square().mean(axes) for o in outputs]).mean(0)
        expected = layers[f"{name}.weight"].weighed(energies)
        ours = found[f"{name}.weight"]
        np.testing.assert_allclose(ours.scores, expected.scores, rtol=1e-4)
        assert ours.importance == pytest.approx(expected.importance, rel=1e-4)
        means.append(expected.importance)
    # Nothing is seen of what other code reads, nor of layers whose rows are no outputs.
    assert found["read.weight"] == found["up.weight"] == pytest.approx(np.mean(means), rel=1e-4)


def test_a_change_in_place_afterwards_is_none_of_the_layers_business(digits):
    X, y = digits
    plain = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    inplace = nn.Sequential(plain[0], nn.ReLU(inplace=True), plain[2])
    one, other = (
        Activation()(*looked_at(module, ["0.weight"], X[:60], y[:60]))["0.weight"]
        for module in (plain, inplace)
    )
    np.testing.assert_array_equal(one.scores, other.scores)


def test_where_nothing_is_seen_all_layers_are_alike_and_silent_ones_count_nothing(digits):
    X, y = digits
    layers, held_out = looked_at(
        Recurrent(), ["rnn.weight_ih_l0"], X[:60].reshape(-1, 8, 8), y[:60]
    )
    assert Activation()(layers, held_out) == {"rnn.weight_ih_l0": 1.0}
    silent = nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 10))
    nn.init.zeros_(silent[0].weight), nn.init.zeros_(silent[0].bias)
    layers, held_out = looked_at(silent, ["0.weight"], X[:60], y[:60])
    assert Activation()(layers, held_out) == {"0.weight": 0.0}


@pytest.mark.parametrize("kind", [Activation, Fisher, Gradient, Hessian, Kfac])
def test_layers_and_module_are_left_as_they_are(kind, digits):
    X, y = digits
    module = Tied()
    layers, held_out = looked_at(module, ["first.weight"], X[:60], y[:60])
    before = copy.deepcopy(module.state_dict())
    kind()(layers, held_out)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
