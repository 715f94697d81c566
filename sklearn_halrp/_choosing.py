"""From freely trained weights to a low-rank perturbation of the base."""

from contextlib import nullcontext

import numpy as np
import torch

from sklearn_halrp import _low_rank
from sklearn_halrp._curvature import Curvatures, whitened_spectrum, whitened_split
from sklearn_halrp._importance import ESTIMATORS
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._processes import agreed
from sklearn_halrp._pruning import MOST_PRUNED
from sklearn_halrp._ranks import choose_ranks
from sklearn_halrp._storing import allowance
from sklearn_halrp._training import losses, mean_loss

# Rows from which the importance is estimated: more would cost time and hardly change the
# ranks. Where nothing is held out, a fifth of the training rows is enough, or this many.
IMPORTANCE_ROWS = 1024
FEWEST_ROWS = 256
# Times that these rows are gone through where signs are drawn for them: more draws, less noise.
PASSES = 4
# Rows on which the loss is measured with layers truncated, one after the other: for each, and
# for all together.
MEASURED_ROWS = 256
MEASURED_IN_ALL = 2048
# Singular values of a layer that are written down at least.
LEADING = 32


class Layer:
    """One weight after the warm-up: its scales, and the spectrum of what they leave.

    Parameters
    ----------
    weight, free : tensors of shape (out, in, *kernel)
        The base's weight, and the one trained freely from it.
    form : {"channel", "unfolded"}

    Attributes
    ----------
    spectrum : Spectrum or WhitenedSpectrum
        Plain, until `weigh` is given a curvature.
    energies : array of shape (n_terms,)
        What each term, in descending order, takes off the squared norm of the residual.
    residual_energy : float
        The squared norm of the residual ``free - diag(r) weight diag(s)``.
    scores : array of shape (n_terms,)
        Since `weigh`: twice what each term takes off the predicted increase of the loss.
    """

    def __init__(self, weight, free, form):
        self.weight, self.form = weight, form
        self.r, self.s = _low_rank.fit_scales(free, weight)
        residual = free - _low_rank.scale(weight, self.r, self.s)
        self.matrix = _low_rank.gather(residual, form)
        self.spectrum, self.split = _low_rank.spectrum(self.matrix), _low_rank.split
        copies = _low_rank.copies(weight.shape, form)
        self.energies = copies * self.spectrum.values.pow(2).cpu().numpy()
        self.residual_energy = float(residual.double().pow(2).sum())

    @property
    def term_cost(self):
        """Numbers that one rank-1 term has to store."""
        return sum(self.matrix.shape)

    @property
    def change(self):
        """What all ranks together can change, as a tensor of the weight's shape."""
        spread = _low_rank.spread(self.matrix, self.weight.shape, self.form)
        return spread.expand(self.weight.shape).contiguous()

    def weigh(self, importance, curvature=None):
        """Say how much the loss depends on the weight, or on each direction in it."""
        self.scores = importance * self.energies
        # What no rank can give back, in the channel form.
        self.beyond = importance * max(self.residual_energy - float(self.energies.sum()), 0.0)
        if curvature is not None:
            self.spectrum = whitened_spectrum(curvature, len(self.energies))
            self.split = whitened_split
            self.scores = self.spectrum.values.pow(2).cpu().numpy()

    def leading(self, count):
        """Return the largest singular values to six digits."""
        return [float(f"{value:.6g}") for value in self.spectrum.values[:count].tolist()]

    def factors(self, rank):
        """Return the perturbation of this rank, with balanced factors."""
        return Factors(self.r, self.s, *self.split(self.matrix, self.spectrum, rank))

    def cut(self, rank):
        """Return the weight that this rank makes of the free one."""
        return _low_rank.effective_weight(self.weight, self.factors(rank), self.form)

    def predicted_increase(self, rank):
        """Return the predicted increase of the loss with all other weights free."""
        return 0.5 * (float(self.scores[rank:].sum()) + self.beyond)

    def kept(self, rank):
        """Return the share of the spectrum's energy that this rank keeps."""
        squares = self.spectrum.values.pow(2)
        total = float(squares.sum())
        return float(squares[:rank].sum()) / total if total else 1.0


def choose_factors(network, net, held_out, settings):
    """Choose the rank of every layer and return the factors to begin with.

    Parameters
    ----------
    network : Network
    net : skorch.NeuralNetClassifier
        Around the freely trained module.
    held_out : Dataset
        On which gradients and losses are taken.
    settings : Settings

    Returns
    -------
    factors : dict of str to Factors
    layers : dict of str to Layer
    found : dict of str to dict
        Per weight: rank, importance, spectrum, share kept.
    """
    free = {name: get_tensor(net.module_, name) for name in network.roles.perturbed}
    layers = {
        name: Layer(get_tensor(network.base, name).detach(), weight.detach(), network.form)
        for name, weight in free.items()
    }
    importance = _weigh(layers, free, net, held_out, settings)
    ranks = choose_ranks(
        {name: layer.scores for name, layer in layers.items()},
        settings.approximation_rate,
        settings.max_rank,
        costs={name: layer.term_cost for name, layer in layers.items()},
        max_cost=allowance(network, net.module_, settings) / (1 - MOST_PRUNED),
    )
    ranks = agreed(net, ranks)  # other machines may round differently
    found = {
        name: {
            "rank": ranks[name],
            "importance": importance[name],
            "spectrum": layer.leading(max(2 * ranks[name], LEADING)),
            "kept": layer.kept(ranks[name]),
        }
        for name, layer in layers.items()
    }
    return {name: layer.factors(ranks[name]) for name, layer in layers.items()}, layers, found


def _weigh(layers, free, net, held_out, settings):
    """Weigh all layers, and return the importance of each."""
    curvatures = None
    if settings.importance == "kfac":
        curvatures = Curvatures(net.module_, {name: x.change for name, x in layers.items()})
    estimator = ESTIMATORS[settings.importance]
    with curvatures.watching() if curvatures else nullcontext():
        measured = _measured(net, held_out, estimator.predicted)
        importance = estimator.function(measured, free, curvatures)
    found = curvatures.found() if curvatures else {}
    for name, layer in layers.items():
        layer.weigh(importance[name], found.get(name))
    return importance


def _measured(net, held_out, predicted):
    """Yield the losses of some rows, several times over if they are drawn."""
    for _ in range(PASSES):
        drawn = False
        for measured in losses(net, held_out, IMPORTANCE_ROWS, predicted):
            drawn |= measured.drawn
            yield measured
        if not drawn:
            return


def loss_increases(net, layers, found, held_out):
    """Compare what truncation is predicted to cost with what it really costs.

    Predicted for each layer is half the sum of the scores that its rank leaves out; with
    one importance for the whole layer this is ``importance / 2`` times a squared norm.
    Measured is the loss on some held-out rows with this layer alone truncated, less the
    loss of the freely trained network. The theorem's bound has the norm of the Hessian where
    this has its mean over the weights, and holds at a minimum, so the two do not agree in size.

    Returns
    -------
    dict
        ``layers`` (per weight) and the totals of the whole network, under the keys
        ``predicted_increase`` and ``measured_increase``.
    """
    cut = {name: layer.cut(found[name]["rank"]) for name, layer in layers.items()}
    n_rows = min(MEASURED_ROWS, max(MEASURED_IN_ALL // len(layers), 1))
    before = mean_loss(net, held_out, n_rows)
    rows = {}
    for name, layer in layers.items():
        predicted = layer.predicted_increase(found[name]["rank"])
        measured = _loss_with(net, {name: cut[name]}, held_out, n_rows) - before
        rows[name] = {
            **found[name],
            "predicted_increase": predicted,
            "measured_increase": measured,
        }
    return {
        "layers": rows,
        "predicted_increase": float(np.sum([r["predicted_increase"] for r in rows.values()])),
        "measured_increase": _loss_with(net, cut, held_out, n_rows) - before,
    }


@torch.no_grad()
def _loss_with(net, weights, held_out, n_rows):
    """Return the loss with some weights replaced for the time being."""
    places = {name: get_tensor(net.module_, name) for name in weights}
    free = {name: place.clone() for name, place in places.items()}
    for name, place in places.items():
        place.copy_(weights[name])
    loss = mean_loss(net, held_out, n_rows)
    for name, place in places.items():
        place.copy_(free[name])
    return loss
