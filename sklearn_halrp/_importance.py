"""How much a layer matters: one small class per estimate of its Hessian.

An importance stands for the Hessian norm in the bound

    loss(rank k) - loss(free) <= 1/2 ||H_l||_F sum_{i>k} sigma_{l,i}^2 + o(.)

of arXiv:2311.15161, theorem 1. It is any callable

    importance(layers, held_out) -> {name of the weight: a number, or a Ranking}

where ``layers`` has a `Layer` for every perturbed weight, and ``held_out.losses()`` yields
the losses of held-out batches, with gradients to the freely trained weights
``layer.free``. A number weighs all terms of its layer alike; a `Ranking` ranks the
terms itself. Scores of all layers are sorted together, so numbers must be comparable from
layer to layer; their common size does not matter to the ranks.

It is called once for each new task, after the warm-up, with all random numbers seeded for
this task. It must leave layers and module as they are. What it remembers from task to task is
lost where tasks are learned in other processes. A new importance is one class here, and
one line in `IMPORTANCES`; what it returns is checked in `_rankings.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sklearn_halrp._curvature import CONVOLUTIONS, Curvatures
from sklearn_halrp._gradients import hessian_norm, mean_square_gradient, squared_mean_gradient
from sklearn_halrp._layer import Layer, Ranking


def _free(layers: Mapping[str, Layer]) -> dict[str, torch.Tensor]:
    return {name: layer.free for name, layer in layers.items()}


class Fisher:
    """The mean squared gradient, with the labels that the network itself predicts.

    With p the probabilities that the network gives for a row x, and w_j the entries of the
    layer's weight, the number of the layer is

        mean_j F_jj,  F_jj = E_x E_{y ~ p} (d log p(y | x) / dw_j)^2

    the mean of the diagonal of the Fisher information F. For cross-entropy F is the Gauss-Newton
    matrix, and so near the Hessian. The mean over y is estimated with random signs. For other
    losses the second derivatives in the outputs take the place of p; where the loss has none, or
    the outputs are no probabilities, it is `Empirical`.

    References
    ----------
    Kunstner, Balles & Hennig, "Limitations of the Empirical Fisher Approximation for Natural
    Gradient Descent", NeurIPS 2019, arXiv:1905.12558. Martens, "New Insights and Perspectives on
    the Natural Gradient Method", JMLR 21(146), 2020, arXiv:1412.1193, for Gauss-Newton.

    Examples
    --------
    Of two classes with the logits w and 0 the Fisher information is p (1 - p), and so is the
    second derivative of the loss:

    >>> w = torch.tensor([0.5], requires_grad=True)
    >>> log_p = torch.log_softmax(torch.cat([w, torch.zeros(1)]), 0)
    >>> slopes = torch.stack([torch.autograd.grad(q, w, retain_graph=True)[0] for q in log_p])
    >>> p = log_p.exp()
    >>> bool(torch.isclose(p @ slopes[:, 0] ** 2, p[0] * p[1]))
    True
    """

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float]:
        """Return one number for each layer, of as many draws as the ranks need."""
        mean: dict[str, float] = {}
        with closing(held_out.passes()) as passes:
            for count, losses in enumerate(passes, 1):
                found = mean_square_gradient(losses, _free(layers))
                now = {k: (mean.get(k, 0) * (count - 1) + x) / count for k, x in found.items()}
                if mean and held_out.is_settled(mean, now):
                    return now
                mean = now
        return mean


class Empirical:
    """The mean squared gradient, with the labels of the rows, as published.

    With g_b the gradient of the mean loss of batch b, which has n_b rows of N, the number of the
    layer is

        sum_b n_b / N * n_b mean_j g_bj^2

    For single rows, n_b = 1, it is the mean over rows and weights of the squared gradient. A few
    rows that are badly predicted outweigh all others, and where the mean gradient is not 0, its
    square counts as often as a batch has rows.

    References
    ----------
    arXiv:2311.15161, section 4.2.

    Examples
    --------
    Two batches of one row, with the gradients (1, 1) and (3, -1):

    >>> w = torch.zeros(2, requires_grad=True)
    >>> losses = [(torch.tensor(g) @ w, 1, None) for g in ([1., 1.], [3., -1.])]
    >>> mean_square_gradient(losses, {"weight": w})  # (1 + 1 + 9 + 1) / 4
    {'weight': 3.0}
    """

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float]:
        """Return one number for each layer."""
        return mean_square_gradient(held_out.losses(), _free(layers))


class Kfac:
    """The Hessian in Kronecker form, which weighs single directions.

    With A the second moment of a layer's inputs and G that of the gradients in its outputs, the
    Hessian in its weight is about the Kronecker product of A and G, and a change D of the weight
    changes the loss near a minimum by about ``1/2 ||G^1/2 D A^1/2||^2``. Terms are ranked by the
    squared singular values of ``G^1/2 D A^1/2``. The labels are those that the network predicts,
    as for `Fisher`, and layers of which the form says nothing are ranked as by `Fisher`.

    References
    ----------
    Martens & Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature",
    ICML 2015, arXiv:1503.05671. Grosse & Martens, "A Kronecker-factored Approximate Fisher Matrix
    for Convolution Layers", ICML 2016, arXiv:1602.01407.

    Examples
    --------
    For one row x and the loss ``1/2 y^T G y`` of y = W x the form is exact:

    >>> x, change = torch.tensor([1., 2., 0.]), torch.randn(2, 3)
    >>> G, A = torch.diag(torch.tensor([4., 1.])), torch.outer(x, x)
    >>> increase = 0.5 * (change @ x) @ G @ (change @ x)  # from the minimum, W = 0
    >>> root = A / A.trace().sqrt()  # of a matrix of rank 1
    >>> bool(torch.isclose(increase, 0.5 * (G.sqrt() @ change @ root).square().sum()))
    True
    """

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float | Ranking]:
        """Return a ranking for each layer."""
        curvatures = Curvatures(
            held_out.module, {name: layer.change for name, layer in layers.items()}
        )
        with curvatures.watching():
            importance = mean_square_gradient(
                held_out.losses(predicted=True), _free(layers), curvatures.add
            )
        found = curvatures.found()
        return {
            name: layer.whitened(found[name], importance[name])
            if name in found
            else importance[name]
            for name, layer in layers.items()
        }


class Uniform:
    """The same for all layers: ranks by singular values alone.

    Every layer has the number 1, so a term is worth ``sigma^2``. In each layer that gives the
    nearest matrix of its rank, and over all layers the smallest sum of squares that is left out.

    References
    ----------
    Eckart & Young, "The approximation of one matrix by another of lower rank", Psychometrika
    1(3), 1936.

    Examples
    --------
    >>> Uniform()({"0.weight": None, "2.weight": None}, None)  # it looks at nothing
    {'0.weight': 1.0, '2.weight': 1.0}
    """

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float]:
        """Return 1 for each layer."""
        return dict.fromkeys(layers, 1.0)


class Gradient:
    """The square of the mean gradient of the held-out loss: how much it changes to first order.

    Taking a term ``sigma u v^T`` away changes the loss by about ``-sigma <g, u v^T>``, with g
    its gradient. The mean of the square of this over all directions u and v is sigma^2 times
    ``mean_j g_j^2``, which is the number of the layer. Unlike `Empirical` it squares the mean
    over all held-out rows, not that of each row: near a minimum little is left of it, and it
    tells where the rows that were held out still ask for a change.

    References
    ----------
    Molchanov, Tyree, Karras, Aila & Kautz, "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", ICLR 2017, arXiv:1611.06440, for the first-order change of the loss.
    Molchanov, Mallya, Tyree, Frosio & Kautz, "Importance Estimation for Neural Network
    Pruning", CVPR 2019, arXiv:1906.10771, section 3.1, for its square.

    Examples
    --------
    The mean square of g, times sigma^2, is what the terms of a whole basis change on average:

    >>> g, u, v = torch.randn(3, 4), torch.eye(3), torch.eye(4)
    >>> changes = [2.0 * a @ g @ b for a in u for b in v]  # sigma is 2
    >>> bool(torch.isclose(torch.stack(changes).square().mean(), 4 * g.square().mean()))
    True
    """

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float]:
        """Return one number for each layer."""
        return squared_mean_gradient(held_out.losses(), _free(layers))


class Activation:
    """The mean square of a layer's outputs, output by output: large outputs count more.

    With e_c the mean square of output c (of a convolution: of feature map c) over the held-out
    rows and all places, before any function that follows, a change D of the weight counts by
    ``||diag(e)^1/2 D||^2``. Feature maps are what such criteria rank in the literature, so
    each weighs its own row of D, and a number for the whole layer would be less than they say.
    They ask nothing of the loss.

    Linear layers and convolutions are seen whenever they are called; what is called several
    times, or has its weight tied to another such layer, gets the mean over all calls. Of other
    weights no outputs are seen: those that are read by other code, and those of transposed
    convolutions, recurrent layers, attention and modules of your own. They get one number, the
    mean of all that were seen.

    References
    ----------
    Molchanov, Tyree, Karras, Aila & Kautz, "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", ICLR 2017, arXiv:1611.06440, section 2.2, "Activation". Polyak & Wolf,
    "Channel-Level Acceleration of Deep Face Representations", IEEE Access 3, 2015, for energies.

    Examples
    --------
    >>> layer, rows = nn.Linear(1, 2, bias=False), torch.tensor([[1.], [3.]])
    >>> layer.weight.data = torch.tensor([[1.], [2.]])
    >>> energies = OutputEnergies(layer, {"weight": layer.weight})
    >>> with energies.watching():
    ...     _ = layer(rows)
    ...     energies.add(2)
    >>> energies.found()["weight"]  # the outputs are 1 and 3, and twice that
    tensor([ 5., 20.], dtype=torch.float64)
    """

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float | Ranking]:
        """Return a ranking for each layer that is seen, and a number for the others."""
        energies = OutputEnergies(held_out.module, _free(layers))
        with energies.watching():
            # With gradients, though none is taken: without them torch's transformer layers
            # go another way, on which nothing is seen.
            for _, n_rows, row_weights, *_ in held_out.losses():
                energies.add(n_rows, row_weights)
        found = energies.found()
        means = {name: energy.mean().item() for name, energy in found.items()}
        typical = sum(means.values()) / len(means) if means else 1.0
        return {
            name: layer.weighed(found[name])
            if means.get(name, 0.0) > 0
            else means.get(name, typical)
            for name, layer in layers.items()
        }


class OutputEnergies:
    """Sums the squares of what linear layers and convolutions give.

    Parameters
    ----------
    module : torch.nn.Module
    weights : dict of str to tensor
        Of the module, by name.
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
        self._users = {
            name: [
                layer
                for layer in module.modules()
                if isinstance(layer, (nn.Linear, *CONVOLUTIONS))
                and layer._parameters.get("weight") is weight
            ]
            for name, weight in weights.items()
        }
        self._seen: list[Any] = []  # what was given since the last batch
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See what the layers give."""
        hooks: list[Any] = []
        try:
            for name, layers in self._users.items():
                for layer in layers:
                    hooks.append(layer.register_forward_hook(partial(self._see, name)))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _see(self, name: str, layer: Any, args: Any, output: Any) -> None:
        n_outputs, axis = len(layer.weight), 1 - layer.weight.dim()
        if isinstance(output, torch.Tensor) and output.shape[axis:][:1] == (n_outputs,):
            # At once: what follows may change the output in place.
            y = output.detach().movedim(axis, -1)
            y = (y if y.dim() > 1 else y[None]).unsqueeze(1).flatten(1, -2)
            self._seen.append((name, y.double().square().sum(1), y.shape[1]))

    def add(self, n_rows: int, weights: torch.Tensor | None = None) -> None:
        """Take in a batch.

        Parameters
        ----------
        n_rows : int
        weights : tensor of shape (n_rows,), optional
            How much its rows count.
        """
        for name, squares, n_places in self._seen:
            each = squares.new_ones(len(squares))
            if weights is not None and len(squares) == n_rows:
                each = weights.to(squares)
            self._sums[name] = self._sums.get(name, 0) + each @ squares
            self._counts[name] = self._counts.get(name, 0) + n_places * each.sum().item()
        self._seen = []

    def found(self) -> dict[str, torch.Tensor]:
        """Return the mean squares of all outputs, a tensor for each weight that was seen."""
        return {name: self._sums[name] / n for name, n in self._counts.items() if n}


@dataclass(frozen=True)
class Hessian:
    """The Frobenius norm of the Hessian in a layer's weight: the theorem at its word.

    ``||H||_F^2`` is the mean of ``||H v||^2`` over vectors v of random signs, taken over a few of
    them, on the loss of held-out rows with their labels. With 8 the standard error is a quarter
    at most. Half the number times the squared norm of a cut is the bound of the theorem.

    It is the most expensive importance: it goes through its rows ``n_products`` times, each time
    with one forward pass, one backward pass, and a second derivative for each layer, which
    differentiates the backward pass. The network must be twice
    differentiable; where a part of it says that it is not, there is an error. (An autograd function
    of your own that does not say so counts as if its gradient were constant.) Recurrent layers
    do without cuDNN meanwhile, and attention without its fused kernels, which have no second
    derivatives.

    Parameters
    ----------
    n_products : int, default=8
        For each layer.
    n_rows : int, default=256
        Held-out rows at most, evenly spread. Where nothing is held out, a fifth of the training
        rows serves, or 256 if that is more.

    References
    ----------
    arXiv:2311.15161, theorem 1. Hutchinson, "A stochastic estimator of the trace of the influence
    matrix for Laplacian smoothing splines", Communications in Statistics 19(2), 1990.

    Examples
    --------
    >>> from sklearn_halrp import ContinualClassifier
    >>> clf = ContinualClassifier(importance=Hessian(n_products=32, n_rows=1024))
    """

    n_products: int = 8
    n_rows: int = 256

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} is a whole number from 1 on; got {value!r}.")

    def __call__(self, layers: Mapping[str, Layer], held_out: Any) -> dict[str, float]:
        """Return one number for each layer."""
        with sdpa_kernel(SDPBackend.MATH):  # its other kernels have no second derivatives
            return hessian_norm(
                lambda: held_out.losses(n_rows=self.n_rows), _free(layers), self.n_products
            )


IMPORTANCES: dict[str, Callable[..., Any]] = {
    "fisher": Fisher(),
    "empirical": Empirical(),
    "kfac": Kfac(),
    "uniform": Uniform(),
    "gradient": Gradient(),
    "activation": Activation(),
    "hessian": Hessian(),
}


def check_importance(importance: Any) -> None:
    """Refuse what no task could be learned with.

    Raises
    ------
    ValueError
        If there is no importance of this name.
    TypeError
        If it is neither a name nor a callable, or a class in the place of its object.
    """
    names = ", ".join(map(repr, IMPORTANCES))
    if isinstance(importance, type):
        name = importance.__name__
        raise TypeError(f"importance={name} is a class. Give an object of it: {name}().")
    if isinstance(importance, str) and importance not in IMPORTANCES:
        raise ValueError(f"There is no importance {importance!r}; choose from {names}.")
    if not isinstance(importance, str) and not callable(importance):
        raise TypeError(f"importance is a callable or one of {names}; got {importance!r}.")
