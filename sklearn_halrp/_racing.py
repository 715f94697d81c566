"""The learning rate of low-rank terms, chosen by a race of a few steps."""

import math
from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from skorch import NeuralNet
from torch import nn

from sklearn_halrp._callbacks import FactorPenalty, FactorRate, StopIfDiverged
from sklearn_halrp._faults import let_through
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._perturbed import perturbed_module
from sklearn_halrp._processes import agreed, together
from sklearn_halrp._random import seeded
from sklearn_halrp._statistics import renew_statistics
from sklearn_halrp._training import around, mean_loss
from sklearn_halrp._visit import Visit

# Scales of the rate of U and V, from the least. They are products: both begin small, and a step
# of each moves their product by as little.
SCALES = (1.0, 3.0, 10.0)
# A runner takes so many steps at most: more would cost time and hardly change who wins.
STEPS = 32
# Rows on which the runners are compared.
ROWS = 512


def factor_scale(
    visit: Visit, own: Mapping[str, torch.Tensor], factors: Mapping[str, Factors], epochs: int
) -> float:
    """Return the scale of the learning rate of U and V with which a few steps do best.

    Each scale trains a copy of the task from the same place, on the same batches. The one with
    the least loss on held-out rows wins, or on training rows where none are held out. The first
    that is no better than the one before it is the last that is tried, and no more than two
    epochs are spent on all, or a tenth of those to come.

    Parameters
    ----------
    visit : Visit
    own : dict of str to tensor
    factors : dict of str to Factors
        With which the training begins. They are left as they are.
    epochs : int
        To come.

    Returns
    -------
    float
    """
    if not epochs or not any(u.numel() for _, _, u, _ in factors.values()):
        return SCALES[0]
    seed = torch.initial_seed()  # of this visit; nothing is drawn for a race
    best, least = SCALES[0], math.inf
    for scale in SCALES:
        try:
            with seeded(seed, visit.recipe.device):
                net, loss = _run(visit, own, factors, scale, epochs)
        except Exception as error:
            let_through(error)
            if scale == SCALES[0]:  # the training itself would come to the same end
                raise
            break
        loss = agreed(net, loss)
        if not loss < least:
            break
        best, least = scale, loss
    return best


def _run(
    visit: Visit,
    own: Mapping[str, torch.Tensor],
    factors: Mapping[str, Factors],
    scale: float,
    epochs: int,
) -> tuple[NeuralNet, float]:
    own = {name: tensor.clone() for name, tensor in own.items()}
    module, factors = trainable(visit, own, factors)
    train_set, held_out = visit.sets
    net = around(
        visit.recipe,
        module,
        [*at_steps(visit, factors, scale), StopIfDiverged(visit.lesson.task_id, "low-rank")],
        weighted=visit.lesson.weights is not None,
        callbacks="disable",
        compile=False,
    )
    with together(net):
        net.notify("on_train_begin", X=None, y=None)
        net.history.new_epoch()
        with closing(_batches(net, train_set)) as endless:
            batches = islice(endless, _steps(net, train_set, epochs))
            net.run_single_epoch(batches, training=True, prefix="train", step_fn=net.train_step)
    renew_statistics(net, train_set)
    return net, mean_loss(net, train_set if held_out is None else held_out, ROWS)


def _batches(net: NeuralNet, train_set: Any) -> Generator[Any]:
    """Yield the batches of one epoch after the other."""
    while True:
        before = None
        for before in net.get_iterator(train_set, training=True):
            yield before
        if before is None:
            return


def _steps(net: NeuralNet, train_set: Any, epochs: int) -> int:
    """Return how many steps a runner takes."""
    try:
        in_epoch = len(net.get_iterator(train_set, training=True))
    except TypeError:  # an iterator that does not know
        return STEPS
    return min(math.ceil(in_epoch * max(2 / len(SCALES), 0.1 * epochs / len(SCALES))), STEPS)


def trainable(
    visit: Visit, own: Mapping[str, torch.Tensor], factors: Mapping[str, Factors]
) -> tuple[nn.Module, dict[str, Factors]]:
    """Return a module that is trained through factors, and those factors, as parameters."""
    parameters = {
        name: Factors(*(nn.Parameter(t.clone(), requires_grad=t.numel() > 0) for t in tensors))
        for name, tensors in factors.items()
    }
    fixed = {
        one.bias: nn.Parameter(own[one.bias], requires_grad=False)
        for one in visit.normed
        if one.bias and not factors[one.weight].r.numel()
    }
    return perturbed_module(visit.network, {**own, **fixed}, parameters), parameters


def at_steps(visit: Visit, factors: Mapping[str, Factors], scale: float) -> list[Any]:
    """Return what the method does at every step of a low-rank training."""
    settings = visit.settings
    return [
        FactorRate(factors.values(), scale=scale),
        FactorPenalty(factors.values(), l1=settings.l1_penalty, l2=settings.l2_penalty),
    ]
