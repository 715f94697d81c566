"""The curvature of the loss in the weight of a layer, in Kronecker form (K-FAC).

A layer y = W x is applied at T places of each row: the outputs of a convolution, the tokens
of a text, or once. With A the second moment of its inputs, summed over the places, and G
that of the gradients of a row's loss in its outputs, averaged over them, the Hessian is
about A (x) G, and the change D of the weight changes the loss near a minimum by about

    1/2 ||G^1/2 D A^1/2||^2

The best rank-k version of D in this norm needs no root of A. Let C = D A D^T, the second
moment of D x, and Q the leading eigenvectors of G^1/2 C G^1/2, whose eigenvalues are the
squares of the singular values. Then it is G^-1/2 Q Q^T G^1/2 D. The layer's own operation
gives D x, whatever its stride or padding, and no matrix is larger than (out, out). A
linear layer with more outputs than inputs goes the other way round, by A and D^T G D.

Sources: Martens & Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate
Curvature", ICML 2015, arXiv:1503.05671; Grosse & Martens, "A Kronecker-factored Approximate
Fisher Matrix for Convolution Layers", ICML 2016, arXiv:1602.01407.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_halrp import _low_rank
from sklearn_halrp._modules import locate

# Share of the mean eigenvalue that is added to each one before roots are taken.
DAMPING = 0.01
# A layer's inputs and outputs must give the gradient of its weight up to this share.
TOLERANCE = 1e-2

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Curvature(NamedTuple):
    """Second moments that weigh a change D of a weight from one side.

    On the left, ``near`` is G and ``far`` is D A D^T, both (out, out); on the right they
    are A and D^T G D, both (in, in).
    """

    near: torch.Tensor
    far: torch.Tensor
    side: str


class WhitenedSpectrum(NamedTuple):
    """Singular values of G^1/2 D A^1/2, descending, and what cuts D to the leading ones.

    On the left the best rank-k version of D is ``back[:, :k] @ there[:, :k].T @ D``, on the
    right ``D @ there[:, :k] @ back[:, :k].T``.
    """

    values: torch.Tensor
    there: torch.Tensor
    back: torch.Tensor
    side: str


def whitened_spectrum(curvature: Curvature, n_terms: int) -> WhitenedSpectrum:
    """Return the singular values of a change D of a weight in the norm of the curvature.

    Parameters
    ----------
    curvature : Curvature
    n_terms : int
        The most that D can have: the length of its shorter side.

    Returns
    -------
    WhitenedSpectrum

    Examples
    --------
    >>> D = torch.diag(torch.tensor([3., 2.], dtype=torch.float64))
    >>> A = torch.eye(2, dtype=torch.float64)
    >>> G = torch.diag(torch.tensor([1., 9.], dtype=torch.float64))
    >>> whitened_spectrum(Curvature(G, D @ A @ D.T, "left"), 2).values.round()
    tensor([6., 3.], dtype=torch.float64)
    """
    near, far, side = curvature
    squares, vectors = torch.linalg.eigh(near)
    roots = (squares.clamp_min(0) + DAMPING * near.diagonal().mean()).sqrt()
    root, inverse = (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
    squares, vectors = torch.linalg.eigh(root @ far @ root)
    values = squares.clamp_min(0).sqrt().flip(0)[:n_terms]
    vectors = vectors.flip(1)[:, :n_terms]
    return WhitenedSpectrum(values, root @ vectors, inverse @ vectors, side)


def weighed_spectrum(matrix: torch.Tensor, weights: torch.Tensor) -> WhitenedSpectrum:
    """Return the singular values of diag(w)^1/2 D: a norm that weighs each output by itself.

    Parameters
    ----------
    matrix : tensor of shape (out, in)
        D.
    weights : tensor of shape (out,)
        w, not negative and not all 0. A hundredth of their mean is added, so that an output
        that counts for nothing can be cut as well.

    Returns
    -------
    WhitenedSpectrum

    Examples
    --------
    >>> D = torch.diag(torch.tensor([3., 2.]))
    >>> weighed_spectrum(D, torch.tensor([1., 9.])).values.round()
    tensor([6., 3.], dtype=torch.float64)
    """
    weights = weights.to(matrix.device, torch.float64)
    root = (weights + DAMPING * weights.mean()).sqrt()[:, None]
    found = _low_rank.spectrum(root * matrix.double())
    vectors = found.vectors[:, : len(found.values)]
    if found.side == "left":
        return WhitenedSpectrum(found.values, root * vectors, vectors / root, "left")
    return WhitenedSpectrum(found.values, vectors, vectors, "right")


def whitened_split(
    matrix: torch.Tensor, spectrum: WhitenedSpectrum, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return balanced factors of the best rank-k version of D in the norm of the curvature.

    Parameters
    ----------
    matrix : tensor of shape (out, in)
        D.
    spectrum : WhitenedSpectrum
        Of D.
    rank : int

    Returns
    -------
    u : tensor of shape (out, rank)
    v : tensor of shape (rank, in)
        As from a plain singular value decomposition of their product: factors that carry
        G^-1/2 on one side train badly. A term of nothing is a zero column in ``u`` and a
        unit row in ``v``.
    """
    m = matrix.double()
    there, back = spectrum.there[:, :rank], spectrum.back[:, :rank]
    left, right = (back, there.T @ m) if spectrum.side == "left" else (m @ there, back.T)
    q, r = torch.linalg.qr(left)
    p, values, v = torch.linalg.svd(r @ right, full_matrices=False)
    live = values > 1e-12 * values[:1]
    u = q @ p * values.sqrt().where(live, 0)
    v = v * values.sqrt().where(live, 1)[:, None]
    return u.to(matrix.dtype).contiguous(), v.to(matrix.dtype).contiguous()


class Curvatures:
    """Measures the curvature of every layer while the losses of batches are formed.

    Parameters
    ----------
    module : torch.nn.Module
    changes : dict of str to tensor of shape (out, in, *kernel)
        The change D of each weight, by the weight's name.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> curvatures = Curvatures(layer, {"weight": torch.ones(2, 3)})
    >>> with curvatures.watching():
    ...     loss = layer(torch.ones(4, 3)).sum() / 4
    ...     curvatures.add(4, {"weight": torch.autograd.grad(loss, layer.weight)[0]})
    >>> curvatures.found()["weight"].near  # G: each row's gradient is (1, 1)
    tensor([[1., 1.],
            [1., 1.]], dtype=torch.float64)
    """

    def __init__(self, module: nn.Module, changes: Mapping[str, torch.Tensor]) -> None:
        self.layers = {
            name: _Layer(locate(module, name)[0], change)
            for name, change in changes.items()
            if _is_plain(*locate(module, name))
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See what passes through the layers."""
        hooks: list[Any] = []
        try:
            for layer in self.layers.values():
                hooks.append(layer.module.register_forward_hook(layer.see, with_kwargs=True))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def add(
        self,
        n_rows: int,
        gradients: Mapping[str, torch.Tensor | None],
        weights: torch.Tensor | None = None,
    ) -> None:
        """Take in a batch, once the gradients of its mean loss have been computed.

        Parameters
        ----------
        n_rows : int
        gradients : dict of str to tensor or None
            In the weights.
        weights : tensor of shape (n_rows,), optional
            By which the losses of the rows were multiplied.
        """
        for name, layer in list(self.layers.items()):
            if not layer.add(n_rows, gradients.get(name), weights):
                del self.layers[name]

    def found(self) -> dict[str, Curvature]:
        """Return the curvature of those weights that are used by their layers alone, once.

        Of weights that are reused, tied or read by other code nothing is said, nor of
        those whose loss has no gradient.
        """
        found = {name: layer.curvature() for name, layer in self.layers.items() if layer.n_rows}
        return {name: c for name, c in found.items() if c.near.diagonal().sum() > 0}


def _is_plain(layer: nn.Module, leaf: str) -> bool:
    plain = isinstance(layer, CONVOLUTIONS) and layer.groups == 1
    return leaf == "weight" and (plain or isinstance(layer, nn.Linear))


class _Layer:
    """What was seen of one layer: this batch, and the sums over all."""

    def __init__(self, module: Any, change: torch.Tensor) -> None:
        self.module = module
        self.change = change.to(torch.promote_types(change.dtype, torch.float32))
        self.is_linear = isinstance(module, nn.Linear)
        wide = self.is_linear and change.shape[0] > change.shape[1]
        self.side = "right" if wide else "left"
        self.near: Any
        self.far: Any
        self.near = self.far = self.n_rows = 0.0
        self.seen: list[torch.Tensor | None]
        self.gradient: torch.Tensor | None
        self.seen, self.gradient = [], None

    def see(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Remember a pass, and later the gradient in its output.

        A hook of the output itself gets that gradient even where the output is changed in
        place afterwards, as by ``ReLU(inplace=True)``.
        """
        self.seen.append(args[0].detach() if len(args) == 1 and not kwargs else None)
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(self._remember)

    def _remember(self, gradient: torch.Tensor) -> None:
        self.gradient = gradient.detach()

    def add(self, n_rows: int, gradient: torch.Tensor | None, weights: torch.Tensor | None) -> bool:
        """Take in a batch; return whether the weight is used as it should be."""
        # A batch is taken in once: what the hooks remembered of it is forgotten here.
        (seen, self.seen), (g, self.gradient) = (self.seen, []), (self.gradient, None)
        if len(seen) != 1 or seen[0] is None or g is None or gradient is None:
            return False
        x, g = seen[0].to(self.change), g.to(self.change)
        y = self._apply(x)
        if y.shape != g.shape or (weights is not None and len(y) != n_rows):
            return False
        if not self.is_linear and x.dim() != self.change.dim():  # a single row without its axis
            return False
        # The product of the weight's gradient with D has two forms. They differ where the
        # weight acts in another way, or in other places too.
        gradient = gradient.to(self.change)
        difference = (y * g).sum() - (self.change * gradient).sum()
        if not difference.abs() <= TOLERANCE * self.change.norm() * gradient.norm():
            return False
        # Channels come last from here on, and g is the gradient of each row's own loss, not
        # of the batch's mean.
        axis = -1 if self.is_linear else 1
        x, y, g = (t.movedim(axis, -1) for t in (x, y, n_rows * g))
        total: float = n_rows
        if weights is not None:
            # A weight is a repetition of its row. It came into g once, with the loss, and must
            # be in each product of two once: x and y take its root, and g gives one back.
            total = weights.sum().item()
            w = weights.to(self.change).reshape(-1, *(1,) * (x.dim() - 1)).sqrt()
            x, y, g = x * w, y * w, torch.where(w > 0, g / w, 0)
        x, y, g = (t.flatten(0, -2) for t in (x, y, g))
        # The inputs are summed over the places of a row, the gradients averaged over them: so
        # A (x) G stands for the whole row.
        places = len(g) / n_rows
        if self.side == "left":
            near, far = g.T @ g / places, y.T @ y
        else:
            near, far = x.T @ x, (g @ self.change).T @ (g @ self.change) / places
        self.near = self.near + near.double()
        self.far = self.far + far.double()
        self.n_rows += total
        return True

    def _apply(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layer's operation gives with D in place of the weight."""
        if self.is_linear:
            return F.linear(x, self.change)
        return self.module._conv_forward(x, self.change, None)

    def curvature(self) -> Curvature:
        """Return the means over all rows."""
        return Curvature(self.near / self.n_rows, self.far / self.n_rows, self.side)
