"""A head alone: a linear map of what the base makes of a task's rows.

Of labels it is a logistic regression, of numbers a ridge regression. It begins from nothing, or
from a head that is there, of which it then is a correction; which, decide rows that are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import unpack_data
from torch import nn

from sklearn_halrp._modules import same
from sklearn_halrp._predictive import first_of, is_plain, kind_of_loss
from sklearn_halrp._ridge import ridge
from sklearn_halrp._sample_weight import weights_in
from sklearn_halrp._training import spread, without_cudnn

# Rows at most, evenly spread: more would cost time and hardly change the head.
ROWS = 1000
# How much the weights of labels may be, as the variance of a normal prior, where all features
# together vary by 1. Chosen on validation rows of letters, tabular and exercises, with seeds from
# 100 on, and on few rows of tables of scikit-learn.
PRIOR = 10.0
# Share of the variance that columns make up beside hidden units, where a head sees both.
COLUMNS = 0.8
FOLDS = 5


class Seen(NamedTuple):
    """What goes into a head, and what should come out.

    Attributes
    ----------
    X : tensor of shape (n_samples, n_features), float64
    y : tensor of shape (n_samples,), int64, or (n_samples, n_outputs), float64
    weights : tensor of shape (n_samples,), optional
    """

    X: torch.Tensor
    y: torch.Tensor
    weights: torch.Tensor | None

    def and_also(self, other: "Seen") -> "Seen":
        """Return both, one after the other."""
        weights = None
        if self.weights is not None and other.weights is not None:
            weights = torch.cat([self.weights, other.weights])
        return Seen(torch.cat([self.X, other.X]), torch.cat([self.y, other.y]), weights)


@dataclass(frozen=True)
class Head:
    """A head, and how well it does.

    Attributes
    ----------
    weight : tensor of shape (n_outputs, n_features), float64
    bias : tensor of shape (n_outputs,), float64
    loss : float
        Its mean loss on rows that it has not seen.
    begun : str
        From what: "nothing", or the name of a head that was there.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    loss: float
    begun: str

    @property
    def is_finite(self) -> bool:
        """Whether all its numbers are finite."""
        return bool(torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all())

    def with_step(self, weight: torch.Tensor, bias: torch.Tensor, losses: torch.Tensor) -> "Head":
        """Return the head with a correction, whose losses on rows left out are known."""
        return Head(self.weight + weight, self.bias + bias, float(losses.mean()), self.begun)

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Return what it says of rows."""
        return X @ self.weight.T + self.bias


def is_known_loss(recipe: NeuralNet) -> bool:
    """Whether a net's loss is one that heads can be found for: cross-entropy, or squares.

    Parameters
    ----------
    recipe : skorch.NeuralNet
        One with a loss of its own has another, and so have weights of classes and smooth labels.
    """
    own = type(recipe).get_loss
    usual = {kind.get_loss for kind in (NeuralNet, NeuralNetClassifier, NeuralNetRegressor)}
    if own not in usual or kind_of_loss(recipe) not in (nn.CrossEntropyLoss, nn.MSELoss):
        return False
    loss: Any = recipe.criterion
    if isinstance(loss, type):
        loss = loss(**recipe.get_params_for("criterion"))
    return is_plain(loss)


def seen_by_head(net: NeuralNet, head: str, dataset: Any) -> Seen | None:
    """Return what goes into the head of a net's module, for at most `ROWS` rows.

    None where the outputs are not what the head makes of one vector a row: there may be a
    softmax after it, or it may be applied several times.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, and weighted if the rows bring weights.
    head : str
        The name of the layer.
    dataset : Dataset
    """
    module: Any = net.module_
    layer = module.get_submodule(head)
    if layer.bias is None:
        return None
    calls: list[tuple[Any, ...]] = []

    def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        calls.append((*given, *named.values(), made.clone()))  # it may be changed in place

    hook = layer.register_forward_hook(note, with_kwargs=True)
    parts = []
    try:
        module.eval()
        with torch.no_grad(), without_cudnn():
            for batch in net.get_iterator(spread(dataset, ROWS), training=False):
                x, y = unpack_data(batch)
                outputs = first_of(net.infer(x))
                seen = calls[:]
                calls.clear()
                if len(seen) != 1 or len(seen[0]) != 2 or not _is_linear(layer, *seen[0], outputs):
                    return None
                parts.append((seen[0][0], y, weights_in(x)))
    finally:
        hook.remove()
    inputs, answers, weights = zip(*parts, strict=True)
    X, y = torch.cat(inputs).cpu().double(), _as_targets(torch.cat(answers).cpu())
    if weights[0] is None:
        return Seen(X, y, None)
    counts = torch.cat(weights).cpu().double()
    some = counts > 0
    return Seen(X[some], y[some], counts[some]) if some.any() else None


def _is_linear(layer: Any, x: Any, made: Any, outputs: Any) -> bool:
    """Whether outputs are what a plain linear layer makes of rows."""
    if x.ndim != 2 or not same(outputs, made):
        return False
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    error = 10 * torch.finfo(made.dtype).eps * len(layer.weight[0]) ** 0.5
    scale = (x.double().abs() @ layer.weight.double().abs().T).max() + layer.bias.abs().max()
    return bool((made.double() - expected).abs().max() <= error * scale)


def says_something(seen: Seen) -> bool:
    """Whether a head can be found: features are finite."""
    return bool(torch.isfinite(seen.X).all())


def is_useful(seen: Seen, head: Head) -> bool:
    """Whether a head does better on rows than to say how frequent labels are, or the mean."""
    before = losses_of(seen, _nothing(seen, len(head.weight)))
    return bool(losses_of(seen, head).mean() < before.mean())


def best_head(
    seen: Seen,
    n_outputs: int,
    known: Head | None = None,
    blocks: Sequence[int] = (),
    anew: bool = True,
) -> Head:
    """Return the head that does best on rows that are left out.

    Parameters
    ----------
    seen : Seen
        It says something.
    n_outputs : int
    known : Head, optional
        One that was there, from which it may begin, if it has as many outputs.
    blocks : pair of int, optional
        How many features are hidden units, and how many columns.
    anew : bool
        Whether it may begin from nothing. It does where it cannot from the known head.

    Returns
    -------
    Head
    """
    scale = _scale(seen, blocks)
    corrected = _of_numbers if seen.y.is_floating_point() else _of_labels
    found = None
    if known is not None and len(known.weight) == n_outputs and known.is_finite:
        losses = losses_of(seen, known)
        found = replace(known, loss=float(losses.mean())), losses
    others = [known] if found and known else []
    others += [_nothing(seen, n_outputs)] if anew or not found else []
    for other in others:
        one = corrected(seen, scale, other)
        if found is None or clearly_less(one[1], found[1]):
            found = one
    assert found is not None  # one of them is there
    return found[0]


def losses_of(seen: Seen, head: Head) -> torch.Tensor:
    """Return the loss of each row, by its weight over the mean weight."""
    return _losses(seen, head(seen.X))


def clearly_less(losses: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether losses are less than others of the same rows, by more than two standard errors."""
    gains = others - losses
    return len(gains) > 1 and bool(gains.mean() > 2 * gains.std() / len(gains) ** 0.5)


def _nothing(seen: Seen, n_outputs: int) -> Head:
    """Return a head that says the mean, or how frequent labels are, each as if there once more."""
    share = _shares(seen)
    if seen.y.is_floating_point():
        bias = share @ seen.y
    else:
        counts = len(seen.y) * (share @ _one_hot(seen.y, n_outputs)) + 1
        bias = (counts / counts.sum()).log()
    return Head(seen.X.new_zeros(n_outputs, seen.X.shape[1]), bias, math.nan, "nothing")


def _of_numbers(seen: Seen, scale: torch.Tensor, head: Head) -> tuple[Head, torch.Tensor]:
    """Return a head with a correction by ridge regression, and its losses on rows left out."""
    said = head(seen.X)
    found = ridge(seen.X * scale, seen.y - said, seen.weights)
    losses = _losses(seen, said + found.left_out)
    return head.with_step(found.weight * scale, found.bias, losses), losses


def _of_labels(seen: Seen, scale: torch.Tensor, head: Head) -> tuple[Head, torch.Tensor]:
    """Return a head with a correction by logistic regression, and its losses on rows left out."""
    said = head(seen.X)
    # Penalised weights lie in the space of the rows: that is small where rows are few.
    u, values, rows = torch.linalg.svd(seen.X * scale, full_matrices=False)
    scaled = seen._replace(X=u * values)
    folds = _folds(seen.y)
    out = torch.stack([folds == fold for fold in range(FOLDS)])  # those of the last fit are none
    steps, shifts = _logistic(scaled, said, torch.cat([~out, torch.ones_like(out[:1])]))
    outputs = said.clone()
    for left_out, step, shift in zip(out, steps, shifts, strict=False):
        outputs[left_out] += scaled.X[left_out] @ step.T + shift
    losses = _losses(seen, outputs)
    return head.with_step(steps[-1] @ rows * scale, shifts[-1], losses), losses


def _folds(y: torch.Tensor) -> torch.Tensor:
    """Return when each row is left out, with few of its class; the only one of a class never is."""
    folds = torch.full_like(y, FOLDS)
    for label in y.unique().tolist():
        rows = (y == label).nonzero().flatten()
        if len(rows) > 1:
            folds[rows] = (torch.arange(len(rows)) + label) % FOLDS
    return folds


def _logistic(
    seen: Seen, said: torch.Tensor, used: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what logistic regressions add to outputs: weights and biases of several fits.

    Parameters
    ----------
    seen : Seen
    said : tensor of shape (n_samples, n_outputs)
    used : tensor of shape (n_fits, n_samples)
        Which rows each fit is of. All are found at once, since one by one most of the time would go
        into calls.

    Returns
    -------
    weights : tensor of shape (n_fits, n_outputs, n_features)
    biases : tensor of shape (n_fits, n_outputs)
    """
    share = used * _shares(seen) * len(seen.y)
    weights = said.new_zeros(len(used), said.shape[1], seen.X.shape[1], requires_grad=True)
    biases = said.new_zeros(len(used), said.shape[1], requires_grad=True)
    aim = _one_hot(seen.y, said.shape[1])
    solver = torch.optim.LBFGS(
        [weights, biases], max_iter=60, tolerance_grad=1e-3, line_search_fn="strong_wolfe"
    )

    @torch.no_grad()
    def objective() -> torch.Tensor:
        outputs = said + seen.X @ weights.transpose(1, 2) + biases[:, None]
        chances = outputs.log_softmax(dim=2)
        miss = share[:, :, None] * (chances.exp() - aim)
        weights.grad = miss.transpose(1, 2) @ seen.X + weights / PRIOR
        biases.grad = miss.sum(dim=1)
        return weights.square().sum() / (2 * PRIOR) - (share[:, :, None] * aim * chances).sum()

    solver.step(objective)
    return weights.detach(), biases.detach()


def _scale(seen: Seen, blocks: Sequence[int]) -> torch.Tensor:
    """Return factors of the features, after which each block's vary alike, and all by 1 together.

    Of two blocks the second one's share of it is `COLUMNS`.
    """
    share = _shares(seen)
    deviation = (share @ (seen.X - share @ seen.X).square()).sqrt()
    varied = deviation > 1e-6 * seen.X.abs().amax(dim=0)
    scale = torch.where(varied, 1 / deviation.clamp(min=torch.finfo(deviation.dtype).tiny), 0.0)
    parts = varied.double().split(list(blocks) or [seen.X.shape[1]])
    shares = (1 - COLUMNS, COLUMNS) if len(parts) == 2 else (1.0,)
    each = [
        (x / part.sum().clamp(min=1)).expand(len(part))
        for x, part in zip(shares, parts, strict=True)
    ]
    return scale * torch.cat(each).sqrt()


def _losses(seen: Seen, outputs: torch.Tensor) -> torch.Tensor:
    """Return the loss of each row, by its weight over the mean weight."""
    if seen.y.is_floating_point():
        losses = (outputs - seen.y).square().mean(dim=1)
    else:
        losses = nn.functional.cross_entropy(outputs, seen.y, reduction="none")
    return (len(losses) * _shares(seen) * losses).nan_to_num(nan=torch.inf)


def _shares(seen: Seen) -> torch.Tensor:
    """Return what share of all each row counts."""
    if seen.weights is None:
        return torch.full((len(seen.X),), 1 / len(seen.X), dtype=seen.X.dtype)
    return seen.weights / seen.weights.sum()


def _one_hot(y: torch.Tensor, n_outputs: int) -> torch.Tensor:
    return nn.functional.one_hot(y, n_outputs).double()


def _as_targets(y: torch.Tensor) -> torch.Tensor:
    """Return labels as int64, or numbers as a matrix of float64."""
    return y.double().reshape(len(y), -1) if y.is_floating_point() else y.long()
