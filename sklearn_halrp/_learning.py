"""How one task is learned: the base, a new perturbation of it, or going on with one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sklearn_halrp._callbacks import PruneAndHold
from sklearn_halrp._folding import begin as without_redundant
from sklearn_halrp._folding import fold
from sklearn_halrp._heads import begin, better, head_alone, is_all
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._network import Network
from sklearn_halrp._probing import ROWS
from sklearn_halrp._racing import at_steps, factor_scale, trainable
from sklearn_halrp._saved import check_complete
from sklearn_halrp._starting import begun
from sklearn_halrp._task import Task
from sklearn_halrp._visit import Lesson, Settings, Visit, visiting


def learn_base(
    recipe: NeuralNet, network: Network, lesson: Lesson, settings: Settings, root_seed: int
) -> Network:
    """Return a network whose base is trained on the lesson, its first and only task.

    Parameters
    ----------
    recipe : skorch.NeuralNet
        Never fitted; it is left as it is.
    network : Network
    lesson : Lesson
    settings : Settings
    root_seed : int
        Drawn from the estimator's ``random_state``.

    Returns
    -------
    Network
    """
    with visiting(recipe, network, lesson, settings, root_seed) as visit:
        module = visit.free_module(*network.roles.shared)
        visit.trained(module, "base", visit.recipe.max_epochs, average_after=0)
        base = module.requires_grad_(False).eval()
        task = visit.task()
        network = replace(network, base=base, tasks={lesson.task_id: task})
        visit.check_predicts(network.module_for(task), "base")
    check_complete(recipe, network, np.asarray(lesson.X[:ROWS]), root_seed)
    return network


def learn_task(
    recipe: NeuralNet, network: Network, lesson: Lesson, settings: Settings, root_seed: int
) -> Task:
    """Return the lesson's task, learned as a perturbation of the base.

    Parameters
    ----------
    recipe, network, lesson, settings, root_seed
        As for `learn_base`.

    Returns
    -------
    Task
    """
    with visiting(recipe, network, lesson, settings, root_seed) as visit:
        epochs = visit.recipe.max_epochs
        if visit.known and visit.known.factors:
            return _perturbation(visit, visit.own_anew(), network.factors(visit.known), epochs)
        found = begin(visit)
        if found is not None and is_all(visit):
            return head_alone(visit, found)
        before = dict(visit.report)
        task = _perturbation(visit, *begun(visit, epochs))
        return task if found is None else better(visit, found, task, before)


def _perturbation(
    visit: Visit, own: dict[str, Any], factors: Mapping[str, Factors], epochs: int
) -> Task:
    """Return the visit's task, trained as a perturbation of the base that begins so."""
    network = visit.network
    own, factors = without_redundant(visit.normed, network.own_of_base(), own, factors)
    module, factors = _tune(visit, own, factors, epochs)
    with visit.timed("pruning"):
        fold(network, visit.normed, module, factors, visit.forward)
    return visit.stored(module, factors, "low-rank")


def _tune(
    visit: Visit, own: Mapping[str, torch.Tensor], factors: Mapping[str, Factors], epochs: int
) -> tuple[nn.Module, dict[str, Factors]]:
    """Train the perturbation, the task's own tensors and its head."""
    settings = visit.settings
    rate: Any = settings.factor_lr_scale
    if rate == "auto":
        with visit.timed("race"):
            rate = factor_scale(visit, own, factors, epochs)
        visit.report["factor_lr_scale"] = rate
    module, factors = trainable(visit, own, factors)
    scales = sum(r.numel() + s.numel() for r, s, _, _ in factors.values())
    until_pruned = epochs - settings.retrain(epochs)
    callbacks = [
        *at_steps(visit, factors, rate),
        PruneAndHold(
            factors.values(),
            visit.budget.left_for_terms(visit.network, module, scales, visit.normed),
            after=until_pruned,
        ),
    ]
    visit.trained(module, "low-rank", epochs, callbacks, average_after=until_pruned, compile=False)
    return module, factors
