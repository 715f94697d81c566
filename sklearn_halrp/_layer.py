"""One weight after the warm-up, and how its rank-1 terms are ranked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_halrp import _low_rank
from sklearn_halrp._curvature import Curvature, weighed_spectrum, whitened_spectrum, whitened_split
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor, locate


@dataclass(frozen=True, eq=False)
class Ranking:
    """What each rank-1 term of one layer is worth, in descending order.

    Attributes
    ----------
    scores : array of shape (n_terms,)
        Twice what each term takes off the predicted increase of the loss.
    values : tensor of shape (n_terms,)
        Singular values, in the norm in which the terms were ranked.
    split : callable
        Takes a rank, returns the balanced factors ``u`` and ``v`` of the leading terms.
    importance : float
        How much the loss depends on the layer as a whole.
    beyond : float
        Twice the predicted increase that no rank can undo.
    """

    scores: NDArray[Any]
    values: torch.Tensor
    split: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    importance: float
    beyond: float = 0.0

    def predicted_increase(self, rank: int) -> float:
        """Return the predicted increase of the loss with all other weights free."""
        return 0.5 * (float(self.scores[rank:].sum()) + self.beyond)

    def leading(self, count: int) -> list[float]:
        """Return the largest singular values to six digits."""
        return [float(f"{value:.6g}") for value in self.values[:count].tolist()]

    def kept(self, rank: int) -> float:
        """Return the share of the spectrum's energy that this rank keeps."""
        squares = self.values.pow(2)
        total = float(squares.sum())
        return float(squares[:rank].sum()) / total if total else 1.0


class Layer:
    """One weight after the warm-up: its scales, and what they leave.

    Parameters
    ----------
    weight : tensor of shape (out, in, *kernel)
        The base's weight.
    free : tensor of shape (out, in, *kernel)
        The weight trained freely from it; a parameter, where it is in a module.
    form : {"channel", "unfolded"}
    module : torch.nn.Module, optional
        The layer that the weight belongs to, in the freely trained network.
    leaf : str, optional
        The weight's name in that module.
    scaled : bool, default=True
        Whether scales are fitted; without them, r and s hold no numbers.

    Attributes
    ----------
    spectrum : Spectrum
        Of the residual ``free - diag(r) weight diag(s)``, as the form can hold it.
    energies : array of shape (n_terms,)
        What each term, in descending order, takes off the squared norm of the residual.
    residual_energy : float
        The squared norm of the residual.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        free: torch.Tensor,
        form: str,
        module: nn.Module | None = None,
        leaf: str = "weight",
        scaled: bool = True,
    ) -> None:
        self.weight, self.free, self.form = weight, free, form
        self.module, self.leaf = module, leaf
        found = free.detach()
        none = weight.new_empty(0)
        self.r, self.s = _low_rank.fit_scales(found, weight) if scaled else (none, none)
        residual = found - _low_rank.scale(weight, self.r, self.s)
        self.matrix = _low_rank.gather(residual, form)
        self.spectrum = _low_rank.spectrum(self.matrix)
        copies = _low_rank.copies(weight.shape, form)
        self.energies = copies * self.spectrum.values.pow(2).cpu().numpy()
        self.residual_energy = float(residual.double().pow(2).sum())

    @property
    def term_cost(self) -> int:
        """Numbers that one rank-1 term has to store."""
        return sum(self.matrix.shape)

    def without_scales(self) -> "Layer":
        """Return the same layer with all of its change left to the terms."""
        return Layer(self.weight, self.free, self.form, self.module, self.leaf, scaled=False)

    @property
    def change(self) -> torch.Tensor:
        """What all ranks together can change, as a tensor of the weight's shape."""
        spread = _low_rank.spread(self.matrix, self.weight.shape, self.form)
        return spread.expand(self.weight.shape).contiguous()

    def ranking(self, importance: float) -> Ranking:
        """Rank the terms by singular values, all weighed by one number.

        Parameters
        ----------
        importance : float
            What stands for the norm of the Hessian in the layer's weight.

        Returns
        -------
        Ranking
        """
        return Ranking(
            scores=importance * self.energies,
            values=self.spectrum.values,
            split=lambda rank: _low_rank.split(self.matrix, self.spectrum, rank),
            importance=importance,
            # The channel form cannot give back what differs between positions of the kernel.
            beyond=importance * max(self.residual_energy - float(self.energies.sum()), 0.0),
        )

    def whitened(self, curvature: Curvature, importance: float) -> Ranking:
        """Rank the terms in the norm of a curvature, direction by direction.

        Parameters
        ----------
        curvature : Curvature
        importance : float
            For the report, and for what no rank can undo.

        Returns
        -------
        Ranking
        """
        spectrum = whitened_spectrum(curvature, len(self.energies))
        return Ranking(
            scores=spectrum.values.pow(2).cpu().numpy(),
            values=spectrum.values,
            split=lambda rank: whitened_split(self.matrix, spectrum, rank),
            importance=importance,
            beyond=self.ranking(importance).beyond,
        )

    def weighed(self, outputs: torch.Tensor) -> Ranking:
        """Rank the terms in a norm that weighs each output, a row of the weight, by itself.

        Parameters
        ----------
        outputs : tensor of shape (out,)
            Not negative, and not all 0. Their mean stands for the layer as a whole.

        Returns
        -------
        Ranking
            Of ``diag(outputs)^1/2 D``, with D what is left of the change beside the scales.
        """
        found = weighed_spectrum(self.matrix, outputs)
        importance = float(outputs.double().mean())
        copies = _low_rank.copies(self.weight.shape, self.form)
        return Ranking(
            scores=copies * found.values.pow(2).cpu().numpy(),
            values=found.values,
            split=lambda rank: whitened_split(self.matrix, found, rank),
            importance=importance,
            beyond=self.ranking(importance).beyond,
        )

    def factors(self, ranking: Ranking, rank: int) -> Factors:
        """Return the perturbation of this rank, with balanced factors."""
        return Factors(self.r, self.s, *ranking.split(rank))

    def cut(self, ranking: Ranking, rank: int) -> torch.Tensor:
        """Return the weight that this rank makes of the free one."""
        return _low_rank.effective_weight(self.weight, self.factors(ranking, rank), self.form)


def layers_of(network: Any, module: nn.Module) -> dict[str, Layer]:
    """Return the perturbed layers of a network, by name of the weight.

    Parameters
    ----------
    network : Network
    module : torch.nn.Module
        Trained freely from the base.

    Returns
    -------
    dict of str to Layer
    """
    layers = {}
    for name in network.roles.perturbed:
        weight, free = get_tensor(network.base, name).detach(), get_tensor(module, name)
        layers[name] = Layer(weight, free, network.form, *locate(module, name))
    return layers
