import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from tests.conftest import make_net
from tests.inside import Classes, add_up, around, chances, losses, mean_square_gradient, self_loss

ROWS, INPUTS, LABELS = 6, 5, 3


class TwoParts(nn.Module):
    """Gives logits and what they come from, as modules with a loss of their own do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(INPUTS, LABELS)

    def forward(self, x):
        y = self.linear(x)
        return y, y.tanh().unsqueeze(-1)


class WithScalar(nn.Linear):
    """Gives logits and a loss of its own."""

    def forward(self, x):
        y = super().forward(x)
        return y, y.square().mean()


class PlusScalar(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return nn.functional.cross_entropy(y_pred[0], y_true) + y_pred[1]


class OnBothParts(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        logits, other = y_pred
        rows = torch.arange(len(y_true))
        pull = (other[rows, y_true, 0] - 1).square().mean()
        penalty = 10 * self.module_.linear.weight.square().sum()  # not of the labels
        return nn.functional.cross_entropy(logits, y_true) + pull + penalty


def smoothed():
    return nn.CrossEntropyLoss(label_smoothing=0.2)


def linear():
    return nn.Linear(INPUTS, LABELS)


def softmax():
    return nn.Sequential(linear(), nn.Softmax(dim=-1))


ENDS = {
    "logits": (make_net(linear), linear),
    "probabilities": (make_net(softmax, criterion=nn.NLLLoss), softmax),
    "smooth labels": (make_net(linear, criterion=smoothed), linear),
    "two parts": (OnBothParts(TwoParts, criterion=nn.CrossEntropyLoss), TwoParts),
}


@pytest.fixture
def rows():
    return np.random.RandomState(0).randn(ROWS, INPUTS).astype(np.float32)


def expected_square(net, rows):
    """Return the mean over rows of what each label's squared gradient is, times its probability."""
    (weight,) = (p for p in net.module_.parameters() if p.dim() == 2)
    total = 0.0
    for row in torch.from_numpy(rows):
        outputs = net.infer(row[None])
        p = chances(net, outputs)[0]
        for label in range(LABELS):
            loss = net.get_loss(net.infer(row[None]), torch.tensor([label]), X=row[None])
            loss = loss - _penalty(net)
            (gradient,) = torch.autograd.grad(loss, weight)
            total += p[label] * gradient.square().sum()
    return (total / len(rows)).item()


def _penalty(net):
    return 10 * net.module_.linear.weight.square().sum() if hasattr(net.module_, "linear") else 0


@pytest.mark.parametrize("name", ENDS)
def test_its_squared_gradient_is_that_of_every_label_by_its_probability(name, rows):
    recipe, make = ENDS[name]
    module = make()
    net = around(recipe, module, verbose=0)
    (weight,) = (p for p in module.parameters() if p.dim() == 2)
    x, squares = torch.from_numpy(rows), []
    for _ in range(1200):
        outputs = net.infer(x)
        loss = self_loss(net, outputs, chances(net, outputs), x)
        squares.append(torch.autograd.grad(loss, weight)[0].square().sum().item())
    spread = np.std(squares) / np.sqrt(len(squares))
    expected = expected_square(net, rows)
    assert ROWS * np.mean(squares) == pytest.approx(expected, abs=4 * ROWS * spread)
    assert 4 * ROWS * spread < 0.2 * expected


MANY = 300


class OfDifference(nn.CrossEntropyLoss):
    """A loss that the package does not know: the same, by another class."""


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, OfDifference])
@pytest.mark.parametrize("sure", [1.0, 20.0])
def test_of_many_labels_it_is_the_same_on_average_and_few_are_looked_at(criterion, sure):
    """Of a linear layer and cross-entropy the square is known: the sum of p_y |x|^2 |e_y - p|^2."""
    torch.manual_seed(0)
    module = nn.Linear(INPUTS, MANY)
    module.weight.data *= sure
    net = around(make_net(criterion=criterion), module, verbose=0)
    asked, get_loss = [], net.get_loss
    net.get_loss = lambda *args, **kwargs: asked.append(1) or get_loss(*args, **kwargs)
    x = torch.randn(40, INPUTS)
    p = module(x).softmax(dim=1).detach().double()
    miss = torch.eye(MANY) - p[:, None]  # rows, labels, outputs
    square = (p * miss.square().sum(dim=2)).sum(dim=1) * x.square().sum(dim=1)
    expected, squares = square.mean().item(), []
    for _ in range(100):
        outputs = net.infer(x)
        loss = self_loss(net, outputs, chances(net, outputs), x)
        gradient = torch.autograd.grad(loss, module.weight)[0]
        squares.append(len(x) * gradient.double().square().sum().item())
    assert len(asked) <= 16 * len(squares)
    error = np.std(squares) / np.sqrt(len(squares))
    assert np.mean(squares) == pytest.approx(expected, abs=4 * error)
    assert error < 0.05 * expected


def test_of_many_labels_it_is_right_where_the_network_is_sure():
    """With smooth labels the loss has a slope where one label has the probability 1."""
    module = nn.Linear(INPUTS, 20)
    net = around(make_net(criterion=smoothed), module, verbose=0)
    module.weight.data[:] = 0
    module.bias.data[:] = torch.tensor([200.0] + 19 * [0.0])
    x = torch.randn(40, INPUTS)
    y = torch.zeros(40, dtype=torch.long)  # what it predicts
    (gradient,) = torch.autograd.grad(net.get_loss(module(x), y, X=x), module.bias)
    expected, squares = 40 * (gradient / 40**0.5).square().sum().item() * 40, []
    for _ in range(200):
        outputs = net.infer(x)
        loss = self_loss(net, outputs, chances(net, outputs), x)
        squares.append(40 * torch.autograd.grad(loss, module.bias)[0].square().sum().item())
    error = np.std(squares) / np.sqrt(len(squares))
    assert 40 * np.mean(squares) == pytest.approx(expected, abs=4 * 40 * error)
    assert error < 0.2 * np.mean(squares)


def test_weights_of_classes_count(rows):
    # One of three classes weighs nothing: neither does what only it would move.
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 0.0]))
    net = around(make_net(criterion=lambda: criterion), linear(), verbose=0)
    net.module_.weight.data[2] = net.module_.bias.data[2] = -20  # and it is never predicted
    x = torch.from_numpy(rows)
    outputs = net.infer(x)
    loss = self_loss(net, outputs, chances(net, outputs), x)
    (gradient,) = torch.autograd.grad(loss, net.module_.weight)
    assert gradient[:2].abs().min() > 1e-4 > 1e-7 > gradient[2].abs().max()


def test_an_output_that_is_no_row_is_left_as_it_is(rows):
    net = around(PlusScalar(WithScalar, criterion=nn.CrossEntropyLoss), WithScalar(INPUTS, LABELS))
    x = torch.from_numpy(rows)
    outputs, plain = net.infer(x), around(make_net(linear), net.module_)
    torch.manual_seed(1)
    found = self_loss(net, outputs, chances(net, outputs), x)
    torch.manual_seed(1)
    expected = self_loss(plain, outputs[0], chances(plain, outputs), x)
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_of_a_network_that_is_sure_it_is_less_noisy_than_labels_that_are_drawn(digits):
    X, y = digits
    fitted = LogisticRegression(C=100, max_iter=2000).fit(X, y)
    linear = nn.Linear(64, 10)
    linear.weight.data[:] = torch.from_numpy(fitted.coef_)
    linear.bias.data[:] = torch.from_numpy(fitted.intercept_)
    net = around(make_net(batch_size=20), linear, verbose=0)
    dataset = net.get_dataset(X[:200], y[:200])

    def drawn():
        for batch, _ in net.get_iterator(dataset, training=False):
            outputs = net.infer(batch)
            y = torch.multinomial(chances(net, outputs), 1)[:, 0]
            yield net.get_loss(outputs, y, X=batch), len(batch), None

    def noise(measure):
        found = [mean_square_gradient(measure(), {"w": linear.weight})["w"] for _ in range(100)]
        return np.std(found) / np.mean(found)

    assert noise(lambda: losses(net, dataset, curvature_loss=Classes.curvature_loss)) < 0.7 * noise(
        drawn
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n_labels", [2, 10, 1000])
def test_a_softmax_of_any_precision_adds_up(dtype, n_labels):
    torch.manual_seed(0)
    logits = 3 * torch.randn(200, n_labels)
    assert add_up(logits.to(dtype).softmax(dim=-1))
    assert not add_up(logits.to(dtype).sigmoid())
    assert not add_up(logits.to(dtype).log_softmax(dim=-1))


@pytest.mark.parametrize(
    "numbers",
    [None, "probabilities", torch.ones(3), torch.ones(2, 2, 1), torch.tensor([[0, 1]])],
    ids=["none", "word", "one axis", "three axes", "whole numbers"],
)
def test_what_is_no_table_of_numbers_does_not(numbers):
    assert not add_up(numbers)
