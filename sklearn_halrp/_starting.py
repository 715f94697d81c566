"""Ways to begin a new task: from the base to factors that can be trained.

A start is a function

    start(visit, epochs) -> (own tensors by name, Factors by weight)

that gets the visit to the task and the number of epochs that it may take. It may train
modules of its own by ``visit.trained``, look at the visit's rows, and write down what it
found in ``visit.report``. It must not change the base: whatever it trains is a copy.

`begun` says which start a task takes. A new one is one function here, and one line there.
"""

import numpy as np
import torch

from sklearn_halrp._callbacks import diverged
from sklearn_halrp._choosing import HeldOut, choose_factors, loss_increases
from sklearn_halrp._low_rank import Factors, matrix_shape
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._probing import warn_if_unmoved
from sklearn_halrp._random import seeded
from sklearn_halrp._visit import Visit


def warm_up(visit: Visit, epochs: int) -> tuple[dict[str, torch.Tensor], dict[str, Factors]]:
    """Train a copy of the base freely, and cut what changed to low rank.

    Parameters
    ----------
    visit : Visit
    epochs : int

    Returns
    -------
    own : dict of str to tensor
    factors : dict of str to Factors
    """
    network = visit.network
    net = visit.trained(visit.free_module(), "warm-up", epochs)
    if epochs:
        warn_if_unmoved(visit.lesson.task_id, network, net.module_)
    held_out = HeldOut(net, visit.sets, visit.lesson.target)
    with visit.timed("ranks"):
        factors, cut, found = choose_factors(
            network, net, held_out, visit.settings, visit.budget, visit.normed
        )
    if not np.isfinite([row["importance"] for row in found.values()]).all():
        raise diverged(visit.lesson.task_id, "warm-up", "its held-out loss is not finite")
    device, measured_losses = visit.recipe.device, visit.settings.measured_losses
    with visit.timed("report"), seeded(torch.initial_seed(), device):  # nothing is drawn for a look
        visit.report |= loss_increases(held_out, cut, found, measured_losses=measured_losses)
    own = {name: get_tensor(net.module_, name).detach().clone() for name in network.roles.own}
    return own, factors


def scales_alone(visit: Visit, epochs: int) -> tuple[dict[str, torch.Tensor], dict[str, Factors]]:
    """Begin with the base's weights and no low-rank term: without a warm-up nothing asks for one.

    The task still trains its scales, biases, normalisation and head.

    Parameters
    ----------
    visit : Visit
    epochs : int
        None are taken.

    Returns
    -------
    own : dict of str to tensor
    factors : dict of str to Factors
        Of rank 0, with scales of 1; or those of the task that it begins from.
    """
    network = visit.network
    factors = network.factors(visit.source) if visit.source else {}
    for name in network.roles.perturbed:  # in their order, which a set has not
        if name in factors:
            continue
        weight = get_tensor(network.base, name).detach()
        rows, columns = matrix_shape(weight.shape, network.form)
        factors[name] = Factors(
            r=weight.new_ones(weight.shape[0]),
            s=weight.new_ones(weight.shape[1]),
            u=weight.new_zeros(rows, 0),
            v=weight.new_zeros(0, columns),
        )
    return visit.own(), factors


def begun(visit: Visit, epochs: int) -> tuple[dict[str, torch.Tensor], dict[str, Factors], int]:
    """Begin a task as its settings ask for.

    Parameters
    ----------
    visit : Visit
    epochs : int
        That there are in all.

    Returns
    -------
    own : dict of str to tensor
    factors : dict of str to Factors
    left : int
        Epochs that the start has not taken.
    """
    beginning = visit.settings.warmup(epochs)
    start = warm_up if beginning else scales_alone
    visit.report["start"] = "warm-up" if beginning else "scales"
    own, factors = start(visit, beginning)
    return own, factors, epochs - beginning
