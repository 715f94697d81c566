import pytest
import torch
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn

from tests.conftest import make_classifier, permuted
from tests.inside import FactorPenalty, Factors, network_of, task_of
from tests.test_promises import snapshot


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
    FactorPenalty(layers, l1, l2).on_grad_computed(None, named_parameters=())
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
    FactorPenalty([factors], l1=1.0, l2=1.0).on_grad_computed(None, named_parameters=())
    assert factors.u.grad.flatten().tolist() == [2.0, 2.0, 2.0]
    assert [t.grad is None for t in (factors.r, factors.s, factors.v)] == [True] * 3


def test_clipping_bounds_the_penalty_too(digits):
    # One plain step with a rate of 1 moves everything that is trained by the gradient, so
    # its length is the bound, however large the penalty is.
    X, y = digits
    net = {"optimizer": torch.optim.SGD, "lr": 0.05, "batch_size": 200, "train_split": None}
    clf = make_classifier(net=net, prune_threshold=0.0, growth_budget=10.0)
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
