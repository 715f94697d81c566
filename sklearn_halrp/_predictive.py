"""Scalars whose squared gradients, on average, stand for the Hessian of the loss.

For a classifier it is the loss of labels that a network itself would give, for its Fisher
information.

The Fisher information is the mean square of the gradient of the loss, over the rows and over
the labels y that the network gives them, with probabilities p_y. Drawing such labels is
noisy: in a network that is sure of its predictions nearly all of the square comes from the
few rows that happen to draw an unlikely label. With z the outputs of a row, and signs e_y drawn
in place of labels,

    v = sum_y e_y sqrt(p_y) d loss(z, y) / d z

has the same mean square, also after it is led back to the weights, and every row counts.

For numbers it is the Gauss-Newton matrix, which is the Fisher information too where the loss is
that of a distribution, as the squared one is. Let h_k be the second derivative of a row's loss in
its output z_k. Then

    v = sum_k e_k sqrt(h_k) d z_k

has the mean square sum_k h_k (d z_k)^2.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from skorch import NeuralNet
from torch import nn

# Labels of a row that are looked at, where there are more.
DRAWN = 16


def add_up(numbers: Any) -> bool:
    """Whether the numbers of each row can be probabilities.

    Parameters
    ----------
    numbers : tensor of shape (n_rows, n_labels)
        Anything else cannot.

    Examples
    --------
    >>> add_up(torch.tensor([[0.25, 0.75]])), add_up(torch.tensor([[-1.0, 2.0]]))
    (True, False)
    """
    if not isinstance(numbers, torch.Tensor) or not numbers.is_floating_point():
        return False
    if numbers.dim() != 2 or not (numbers >= 0).all():
        return False
    sums = numbers.float().sum(dim=-1)
    rounding = 4 * torch.finfo(numbers.dtype).eps  # a number of two bytes has three digits
    return torch.allclose(sums, torch.ones_like(sums), atol=max(1e-3, rounding))


def kind_of_loss(recipe: NeuralNet) -> Any:
    """Return the class of a net's criterion, which may be given as an instance."""
    return recipe.criterion if isinstance(recipe.criterion, type) else type(recipe.criterion)


def is_plain(loss: Any) -> bool:
    """Whether a loss of torch is the mean over rows and outputs, and no more.

    >>> is_plain(nn.CrossEntropyLoss()), is_plain(nn.CrossEntropyLoss(label_smoothing=0.1))
    (True, False)
    """
    more = getattr(loss, "weight", None) is not None or getattr(loss, "label_smoothing", False)
    return loss.reduction == "mean" and not more and getattr(loss, "ignore_index", -1) < 0


def first_of(outputs: Any) -> Any:
    """Return what a module predicts by: the first of several outputs, as skorch has it."""
    return outputs[0] if isinstance(outputs, tuple) and outputs else outputs


def broken_rows(outputs: torch.Tensor) -> torch.Tensor:
    """Return which rows of a matrix have NaN or infinity.

    Minus infinity may stand for a class that is ruled out, but not for all of them.

    >>> broken_rows(torch.tensor([[0.0, -torch.inf], [0.0, torch.nan], [-torch.inf, -torch.inf]]))
    tensor([False,  True,  True])
    """
    broken = (outputs.isnan() | (outputs == torch.inf)).any(dim=1)
    return broken | (outputs == -torch.inf).all(dim=1)


def in_four_bytes(outputs: Any) -> Any:
    """Return outputs of two bytes a number in four.

    numpy has no bfloat16, and a softmax in two bytes adds up to 1 in two or three digits alone.

    >>> in_four_bytes(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    if isinstance(outputs, torch.Tensor) and outputs.dtype in (torch.bfloat16, torch.float16):
        return outputs.float()
    return outputs


def chances(net: NeuralNet, outputs: Any) -> torch.Tensor | None:
    """Return the probabilities that an initialised net gives the labels, or None.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
    outputs : tensor of shape (n_rows, n_labels), or tuple that begins with it

    Returns
    -------
    tensor of shape (n_rows, n_labels) or None
        None if there are none, as with a hinge loss.
    """
    with torch.no_grad():
        found = net._get_predict_nonlinearity()(first_of(outputs))
    return found.detach() if add_up(found) else None


def self_loss(net: NeuralNet, outputs: Any, p: torch.Tensor, x: Any) -> torch.Tensor:
    """Return a scalar whose squared gradient, times the rows, is on average the Fisher information.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
        Initialised, with a loss that is a mean over the rows.
    outputs : tensor of shape (n_rows, n_labels), or tuple that begins with it
    p : tensor of shape (n_rows, n_labels)
        The probabilities that the net gives the labels.
    x : batch
        That the outputs belong to.

    Returns
    -------
    tensor of shape ()
        Its value says nothing.
    """
    parts, ends, given = _cut_off(outputs, len(p))

    def gradients(y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = net.get_loss(given, y, X=x, training=False)
        return torch.autograd.grad(loss, list(ends.values()), materialize_grads=True)

    slopes = _of_cross_entropy(net, p, gradients)
    if slopes is None:
        slopes = [torch.zeros_like(end) for end in ends.values()]
        for y, factor in _labels_in_turn(p):
            for slope, gradient in zip(slopes, gradients(y), strict=True):
                slope += gradient * factor.to(gradient).reshape(-1, *(1,) * (gradient.dim() - 1))
    return sum((parts[i] * slope).sum() for i, slope in zip(ends, slopes, strict=True))


def _labels_in_turn(p: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield labels for all rows, and by what their gradients count, with a random sign.

    They are all labels, or `DRAWN` for each row if there are more. These are drawn with chances q,
    and count by ``sqrt(p / (q DRAWN))``: on average the squares add up to those of all labels,
    whatever q is. It is, half of it, in proportion to the square that cross-entropy gives a label.
    """
    n_rows, n_labels = p.shape
    rows = torch.arange(n_rows, device=p.device)
    if n_labels <= DRAWN:
        signs = _signs(p)
        for turn in range(n_labels):  # the rows have all labels at once: a loss may weigh labels
            y = (rows + turn) % n_labels
            yield y, signs[rows, y] * p[rows, y].sqrt()
        return
    p = p.double()
    square = p * (1 - 2 * p + p.square().sum(dim=1, keepdim=True)).clamp_min(0)
    q = p + square / square.sum(dim=1, keepdim=True).clamp_min(1e-300)
    q = q / q.sum(dim=1, keepdim=True)
    drawn = torch.multinomial(q, DRAWN, replacement=True)
    for y, signs in zip(drawn.T, _signs(drawn).T, strict=True):
        yield y, signs * (p[rows, y] / (DRAWN * q[rows, y])).sqrt()


def _of_cross_entropy(
    net: NeuralNet, p: torch.Tensor, gradients: Callable[[torch.Tensor], Sequence[torch.Tensor]]
) -> list[torch.Tensor] | None:
    """Return the sum over all labels in one step, if the loss is the mean cross-entropy.

    Its gradient in the logits, for a label y, is p less 1 at y. That it is so is seen by labels
    that are tried.
    """
    if type(net.criterion_) is not nn.CrossEntropyLoss or not is_plain(net.criterion_):
        return None
    y = torch.arange(len(p), device=p.device) % p.shape[1]
    tried = gradients(y)
    miss = p - nn.functional.one_hot(y, p.shape[1])
    if len(tried) != 1 or tried[0].shape != p.shape:
        return None
    rounding = max(1e-3, 8 * torch.finfo(tried[0].dtype).eps)
    if not torch.allclose(tried[0].to(p), miss / len(p), rtol=rounding, atol=rounding / len(p)):
        return None  # a loss of the net's own, or weights of rows
    drawn = _signs(p) * p.sqrt()
    return [((p * drawn.sum(dim=1, keepdim=True) - drawn) / len(p)).to(tried[0])]


def _signs(like: torch.Tensor) -> torch.Tensor:
    return 2 * torch.randint(0, 2, like.shape, device=like.device) - 1


def gauss_newton_loss(
    net: NeuralNet, outputs: Any, y: Any, x: Any, weights: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return a scalar whose squared gradient, times the rows, is on average that of Gauss-Newton.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, with a loss that is a mean over rows and outputs.
    outputs : tensor of shape (n_rows, n_outputs), or tuple that begins with it
    y : tensor of shape (n_rows, n_outputs)
    x : batch
        That the outputs belong to.
    weights : tensor of shape (n_rows,), optional
        By which the loss multiplies those of the rows; the scalar is multiplied in the same way.

    Returns
    -------
    tensor of shape () or None
        Its value says nothing. None where the loss has no second derivative in the outputs, as
        the absolute error.
    """
    parts, ends, given = _cut_off(outputs, len(y))
    loss = net.get_loss(given, y, X=x, training=False)
    slopes = torch.autograd.grad(
        loss, list(ends.values()), create_graph=True, materialize_grads=True
    )
    total: Any
    total, flat = 0, True
    for (i, end), slope in zip(ends.items(), slopes, strict=True):
        if not slope.requires_grad:
            continue
        (bend,) = torch.autograd.grad(slope.sum(), end, retain_graph=True, materialize_grads=True)
        root = (len(y) * bend).clamp_min(0).sqrt()
        if weights is not None:  # the loss, and so its second derivative, has them once already
            root = root * weights.to(root).sqrt().reshape(-1, *(1,) * (root.dim() - 1))
        signs = 2 * torch.randint(0, 2, root.shape, device=root.device) - 1
        total = total + (parts[i] * signs * root).sum() / len(y)
        flat &= not root.any()
    return None if flat else total


def _cut_off(outputs: Any, n_rows: int) -> tuple[Any, dict[int, torch.Tensor], Any]:
    """Return the parts of outputs; those that belong to rows, cut off from the module; all again.

    The second is by place, the third as the loss takes it.
    """
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    ends = {
        i: part.detach().requires_grad_()
        for i, part in enumerate(parts)
        if isinstance(part, torch.Tensor) and part.requires_grad and part.shape[:1] == (n_rows,)
    }
    given = tuple(ends.get(i, part) for i, part in enumerate(parts))
    return parts, ends, given if isinstance(outputs, tuple) else given[0]
