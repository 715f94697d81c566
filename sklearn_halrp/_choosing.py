"""From freely trained weights to a low-rank perturbation of the base."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from sklearn_halrp._folding import Normed
from sklearn_halrp._layer import Layer, Ranking, layers_of
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._network import Network
from sklearn_halrp._processes import agreed, is_shared
from sklearn_halrp._pruning import MOST_PRUNED
from sklearn_halrp._rankings import rankings
from sklearn_halrp._ranks import choose_ranks, worthwhile_scales
from sklearn_halrp._storing import Budget
from sklearn_halrp._training import Measured, losses, mean_loss, spread, without_cudnn
from sklearn_halrp._types import Target
from sklearn_halrp._visit import Settings

# Rows from which the importance is estimated: more would cost time and hardly change the
# ranks. Where nothing is held out, a fifth of the training rows is enough, or this many.
IMPORTANCE_ROWS = 1024
FEWEST_ROWS = 256
# Times at most that these rows are gone through where signs are drawn for them: more draws, less
# noise. Where there are many rows, that is enough draws.
PASSES = 4
# Rows on which the loss is measured with layers truncated, one after the other: for each, and
# for all together.
MEASURED_ROWS = 256
MEASURED_IN_ALL = 2048
MEASURED = ("none", "network", "layers")
# Where scales take less than this part of what a task may store, none have to be given up.
SCARCE = 4
# Singular values of a layer that are written down at least.
LEADING = 32


class HeldOut:
    """Rows that were held out, and the freely trained network: what an importance looks at.

    Parameters
    ----------
    net : skorch.NeuralNet
        Around the freely trained module.
    sets : pair of Dataset
        Training and held-out rows. Where the latter is None, some training rows serve.
    target : Classes or Numbers
        Of the task.

    Attributes
    ----------
    module : torch.nn.Module
        The freely trained network.
    """

    def __init__(self, net: NeuralNet, sets: tuple[Any, Any], target: Target) -> None:
        train_set, held_out = sets
        if held_out is None:
            held_out = spread(train_set, max(FEWEST_ROWS, len(train_set) // 5))
        self._net, self._rows, self._target = net, held_out, target
        self.module = net.module_
        self.ranks_for: Callable[[Mapping[str, float]], dict[str, int]] | None = None

    def passes(self, n_rows: int = IMPORTANCE_ROWS) -> Iterator[Iterator[Measured]]:
        """Yield, for each time that the rows are gone through, what `losses` says of them.

        Of labels that the network predicts. Each is to be used up before the next is asked for.
        """
        n_passes = min(max(round(IMPORTANCE_ROWS / min(n_rows, len(self._rows))), 1), PASSES)
        drawn = True
        for _ in range(n_passes):
            if not drawn:
                return

            def one() -> Iterator[Measured]:
                nonlocal drawn
                drawn = False
                for measured in losses(self._net, self._rows, n_rows, self._target.curvature_loss):
                    drawn |= measured.drawn
                    yield measured

            yield one()

    def is_settled(self, before: Mapping[str, float], now: Mapping[str, float]) -> bool:
        """Whether two estimates of the importance, one number a layer, give the same ranks."""
        if self.ranks_for is None or is_shared(self._net):  # each process would stop where it likes
            return False
        return self.ranks_for(before) == self.ranks_for(now)

    def losses(self, predicted: bool = False, n_rows: int = IMPORTANCE_ROWS) -> Iterator[Measured]:
        """Yield the mean loss of each batch, in evaluation mode.

        Parameters
        ----------
        predicted : bool, default=False
            Whether the loss is of labels that the network predicts, in place of those of the
            rows. Only its squared gradient means something then: on average it is that of
            single rows. Signs are drawn for it, so the rows are gone through several times.
        n_rows : int, default=1024
            Rows at most, evenly spread.

        Yields
        ------
        (loss, n_rows, weights, drawn)
            A scalar tensor; the rows of the batch; their weights, or None; whether signs
            were drawn.
        """
        if not predicted:
            yield from losses(self._net, self._rows, n_rows)
            return
        for one_pass in self.passes(n_rows):
            yield from one_pass

    def mean_loss(
        self,
        n_rows: int,
        weights: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]] = (),
    ) -> float:
        """Return the loss over some rows, with some weights replaced for the time being.

        Parameters
        ----------
        n_rows : int
            Most rows to take.
        weights : dict of str to tensor, optional
        """
        weights = dict(weights)
        places = {name: get_tensor(self.module, name) for name in weights}
        free = {name: place.detach().clone() for name, place in places.items()}
        with torch.no_grad():
            try:
                for name, place in places.items():
                    place.copy_(weights[name])
                return mean_loss(self._net, self._rows, n_rows)
            finally:
                for name, place in places.items():
                    place.copy_(free[name])


def choose_factors(
    network: Network,
    net: NeuralNet,
    held_out: HeldOut,
    settings: Settings,
    budget: Budget,
    normed: Iterable[Normed] = (),
) -> tuple[dict[str, Factors], dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Choose the rank of every layer and return the factors to begin with.

    Parameters
    ----------
    network : Network
    net : skorch.NeuralNet
        Around the freely trained module.
    held_out : HeldOut
    settings : Settings
    budget : Budget
    normed : iterable of Normed
        Layers before norms, some of whose numbers are not stored.

    Returns
    -------
    factors : dict of str to Factors
    cut : dict of str to tensor
        The weights that these factors make of the freely trained ones.
    found : dict of str to dict
        Per weight: rank, importance, spectrum, share kept, predicted increase of the loss.
    """
    layers = layers_of(network, net.module_)
    without_rows = {one.weight for one in normed}
    scale_costs = {
        name: (name not in without_rows) * layer.weight.shape[0] + layer.weight.shape[1]
        for name, layer in layers.items()
    }
    left = budget.left_for_terms(network, net.module_, 0, normed)

    def ranks_of(
        layers: Mapping[str, Layer],
        ranked: Mapping[str, Ranking],
        worth: float = 1.0,
        fewest: int = 1,
    ) -> dict[str, int]:
        rate = settings.approximation_rate
        scales = sum(scale_costs[name] for name, layer in layers.items() if layer.s.numel())
        return choose_ranks(
            {name: ranking.scores for name, ranking in ranked.items()},
            max_rank=settings.max_rank,
            costs={name: layer.term_cost for name, layer in layers.items()},
            max_cost=max(left - scales, 0) / (1 - MOST_PRUNED),
            approximation_rate=min(rate, worth),
            fewest=fewest,
        )

    if not _is_scarce(scale_costs, left):
        held_out.ranks_for = lambda found: ranks_of(
            layers, {name: layer.ranking(found[name]) for name, layer in layers.items()}
        )
    with without_cudnn():
        ranked = rankings(importance=settings.importance, layers=layers, held_out=held_out)
    layers, ranked = _earned(layers, ranked, scale_costs, left)
    worth, fewest = 1.0, 1
    if settings.share_to_gain:
        worth = _share_worth_it(network, held_out, layers, ranked, settings.share_to_gain)
        fewest = 0
    ranks = agreed(net, ranks_of(layers, ranked, worth, fewest))  # others may round differently
    found = {
        name: {
            "rank": ranks[name],
            "importance": ranking.importance,
            "spectrum": ranking.leading(max(2 * ranks[name], LEADING)),
            "kept": ranking.kept(ranks[name]),
            "predicted_increase": ranking.predicted_increase(ranks[name]),
        }
        for name, ranking in ranked.items()
    }
    factors = {name: x.factors(ranked[name], ranks[name]) for name, x in layers.items()}
    cut = {name: x.cut(ranked[name], ranks[name]) for name, x in layers.items()}
    return factors, cut, found


def _is_scarce(scale_costs: Mapping[str, int], left: int) -> bool:
    """Whether numbers are short, so that scales have to be worth theirs."""
    return sum(scale_costs.values()) * SCARCE > left


def _earned(
    layers: dict[str, Layer],
    ranked: dict[str, Ranking],
    scale_costs: Mapping[str, int],
    left: int,
) -> tuple[dict[str, Layer], dict[str, Ranking]]:
    """Return the layers and their rankings, some without scales if numbers are short.

    Where directions of a layer do not count alike, it keeps its scales.
    """
    if not _is_scarce(scale_costs, left):
        return layers, ranked
    plain = {
        name: layer.without_scales()
        for name, layer in layers.items()
        if np.array_equal(ranked[name].scores, ranked[name].importance * layer.energies)
    }
    unscaled = {name: layer.ranking(ranked[name].importance) for name, layer in plain.items()}
    gains = {
        name: ranked[name].importance * (layer.residual_energy - layers[name].residual_energy)
        for name, layer in plain.items()
    }
    if not np.isfinite(list(gains.values())).all():
        return layers, ranked
    kept = set(layers) - set(plain)
    kept |= worthwhile_scales(
        {name: ranked[name].scores for name in plain},
        {name: ranking.scores for name, ranking in unscaled.items()},
        gains,
        {name: layer.term_cost * (1 - MOST_PRUNED) for name, layer in plain.items()},
        {name: scale_costs[name] for name in plain},
        max_cost=left,
    )
    return (
        {name: layers[name] if name in kept else plain[name] for name in layers},
        {name: ranked[name] if name in kept else unscaled[name] for name in layers},
    )


def _share_worth_it(
    network: Network,
    held_out: HeldOut,
    layers: Mapping[str, Layer],
    ranked: Mapping[str, Ranking],
    share: float,
) -> float:
    """Return the share of all scores to keep, so that the rest would gain next to nothing.

    What all terms together take off the held-out loss is measured; the scores say how much of
    it each does. The measure is the loss of a network that says nothing: all its outputs are 0.
    """
    scaled = {name: layer.cut(ranked[name], 0) for name, layer in layers.items()}
    silent = {name: torch.zeros_like(get_tensor(held_out.module, name)) for name in network.in_head}
    free, without, nothing = (
        held_out.mean_loss(IMPORTANCE_ROWS, weights) for weights in ({}, scaled, silent)
    )
    gain, least = without - free, share * abs(nothing)
    if not np.isfinite([gain, least]).all():
        return 1.0
    return 1 - least / gain if gain > least else 0.0


def loss_increases(
    held_out: HeldOut,
    cut: Mapping[str, torch.Tensor],
    found: Mapping[str, Mapping[str, Any]],
    measured_losses: str,
) -> dict[str, Any]:
    """Say what truncation is predicted to cost, and what it really costs if that is asked for.

    Predicted for each layer is half the sum of the scores that its rank leaves out; with
    one importance for the whole layer this is ``importance / 2`` times a squared norm.
    Measured is the loss on some held-out rows with this layer alone truncated, less the
    loss of the freely trained network. The theorem's bound has the norm of the Hessian where
    this has its mean over the weights, and holds at a minimum, so the two do not agree in size.

    Parameters
    ----------
    held_out : HeldOut
    cut, found
        As `choose_factors` returns them.
    measured_losses : {"none", "network", "layers"}
        With the last one layer by layer too, which takes time for each.

    Returns
    -------
    dict
        ``layers`` (per weight) and the totals of the whole network, under the keys
        ``predicted_increase`` and, if measured, ``measured_increase``.
    """
    rows = {name: dict(row) for name, row in found.items()}
    predicted = float(np.sum([row["predicted_increase"] for row in rows.values()]))
    report = {"layers": rows, "predicted_increase": predicted}
    if measured_losses == "none":
        return report
    n_rows = min(MEASURED_ROWS, max(MEASURED_IN_ALL // len(cut), 1))
    before = held_out.mean_loss(n_rows)
    if measured_losses == "layers":
        for name, weight in cut.items():
            increase = held_out.mean_loss(n_rows, {name: weight}) - before
            rows[name]["measured_increase"] = increase
    return {**report, "measured_increase": held_out.mean_loss(n_rows, cut) - before}
