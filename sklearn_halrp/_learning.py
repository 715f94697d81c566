"""How one task is learned, phase by phase, with the user's skorch net."""

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from tqdm.auto import tqdm

from sklearn_halrp import _low_rank
from sklearn_halrp._callbacks import FactorPenalty, ShowProgress, StopIfDiverged, diverged
from sklearn_halrp._head import grow_head, head_tensors, with_head
from sklearn_halrp._importance import ESTIMATORS
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._network import to_array
from sklearn_halrp._pruning import MOST_PRUNED, Compact, prune
from sklearn_halrp._random import seed_for, seeded
from sklearn_halrp._ranks import choose_ranks
from sklearn_halrp._task import StoredFactors, Task
from sklearn_halrp._training import around, epochs_of, losses, mean_loss, train
from sklearn_halrp._weight import PerturbedWeight
from sklearn_halrp.exceptions import GrowthBudgetWarning

# Rows of held-out data on which the loss is measured with each layer truncated alone.
MEASURED_ROWS = 256


@dataclass(frozen=True)
class Settings:
    """The method's parameters; see ContinualClassifier for their meaning."""

    warmup_epochs: int
    approximation_rate: float
    max_rank: int
    l1_penalty: float
    l2_penalty: float
    prune_threshold: float
    growth_budget: float
    importance: str
    verbose: int


@dataclass(frozen=True)
class Lesson:
    """The data of one task in one call, labels as places in its classes."""

    task_id: object
    X: np.ndarray
    y: np.ndarray
    classes: np.ndarray


def learn(recipe, network, lesson, settings, root_seed):
    """Return a network in which the lesson's task is learned; the given one is kept.

    Parameters
    ----------
    recipe : skorch.NeuralNetClassifier
        Unfitted.
    network : Network
    lesson : Lesson
    settings : Settings
    root_seed : int

    Returns
    -------
    Network
    """
    known = network.tasks.get(lesson.task_id)
    visit = known.visits if known else 0
    with seeded(seed_for(root_seed, lesson.task_id, visit), recipe.device):
        with _progress(lesson.task_id, recipe.max_epochs, settings.verbose) as bar:
            run = _Run(recipe, network, lesson, settings, known, bar)
            if not network.tasks or list(network.tasks) == [lesson.task_id]:
                return run.learn_base()
            return network.with_task(lesson.task_id, run.learn_task())


@contextmanager
def _progress(task_id, epochs, verbose):
    if not verbose:
        yield None
        return
    with tqdm(total=epochs, desc=f"task {task_id}", unit="epoch") as bar:
        yield bar


class _Run:
    """One visit to one task: its data, and what is written down on the way."""

    def __init__(self, recipe, network, lesson, settings, known, bar):
        self.recipe, self.network, self.settings = recipe, network, settings
        self.lesson, self.known, self.bar = lesson, known, bar
        splitter = clone(recipe)
        self.train_set, self.valid_set = splitter.get_split_datasets(lesson.X, lesson.y)
        self.seconds, self.history, self.report = {}, [], {}

    # --- the two ways to learn -------------------------------------------------------

    def learn_base(self):
        """Train all weights; the result is the base, and its first task."""
        network, roles = self.network, self.network.roles
        names = (*roles.perturbed, *roles.shared)
        module = network.module_with(
            {n: t for name in names for n, t in self._base_weight(name)} | self._own()
        )
        self._train(module, "base", self.recipe.max_epochs)
        self._check_finite(dict(module.named_parameters()), "base")
        base = replace(network, base=module.requires_grad_(False).eval(), tasks={})
        return base.with_task(self.lesson.task_id, self._task())

    def learn_task(self):
        """Learn a perturbation of the base: a new one, or go on with a known one."""
        if self.known and self.known.factors:
            own, factors = self._own(), self.network.factors(self.known)
            epochs = self.recipe.max_epochs
        else:
            warmup = min(self.settings.warmup_epochs, self.recipe.max_epochs)
            free = self._warm_up(warmup)
            factors = self._choose_factors(free)
            own = {name: get_tensor(free, name).detach().clone() for name in self.network.roles.own}
            epochs = self.recipe.max_epochs - warmup
        return self._tune_and_prune(own, factors, epochs)

    # --- the phases ------------------------------------------------------------------

    def _warm_up(self, epochs):
        """Train a copy of the base freely, with the task's own head."""
        module = self.network.module_with(
            {n: t for name in self.network.roles.perturbed for n, t in self._base_weight(name)}
            | self._own()
        )
        self.net = self._train(module, "warm-up", epochs)
        self._check_finite(dict(module.named_parameters()), "warm-up")
        return module

    def _choose_factors(self, free):
        """Fit scales, rank the residual's terms over all layers, and cut."""
        with self._timed("ranks"):
            names, form = self.network.roles.perturbed, self.network.form
            weights = {name: get_tensor(free, name) for name in names}
            held_out = self.train_set if self.valid_set is None else self.valid_set
            estimate = ESTIMATORS[self.settings.importance]
            importance = estimate(losses(self.net, held_out), weights)
            layers = {n: _Layer(self._base(n), w.detach(), form) for n, w in weights.items()}
            ranks = choose_ranks(
                {n: importance[n] * layer.energies for n, layer in layers.items()},
                self.settings.approximation_rate,
                self.settings.max_rank,
                costs={n: sum(layer.matrix.shape) for n, layer in layers.items()},
                max_cost=self._factor_allowance(layers) / (1 - MOST_PRUNED),
            )
            factors = {n: layer.factors(ranks[n]) for n, layer in layers.items()}
        with self._timed("report"):
            self._report_layers(weights, layers, importance, ranks, factors, held_out)
        return factors

    def _tune_and_prune(self, own, factors, epochs):
        """Train the perturbation with its penalties, prune it, and store what is left."""
        network, settings = self.network, self.settings
        factors = {
            name: Factors(*(nn.Parameter(t.detach().clone()) for t in tensors))
            for name, tensors in factors.items()
        }
        weights = {
            n: PerturbedWeight(self._base(name), tensors, network.form)
            for name, tensors in factors.items()
            for n in network.roles.every_name(name)
        }
        module = network.module_with({**own, **weights})
        for name, tensors in factors.items():
            owner, leaf = module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            for part, parameter in tensors._asdict().items():
                owner.register_parameter(f"{leaf}_{part}", parameter)
        penalty = FactorPenalty(factors.values(), settings.l1_penalty, settings.l2_penalty)
        self._train(module, "low-rank", epochs, [penalty], compile=False)
        self._check_finite(dict(module.named_parameters()), "low-rank")
        with self._timed("pruning"):
            return self._store(module, factors)

    def _store(self, module, factors):
        """Prune to the growth budget and keep what is left as plain arrays."""
        own = self.network.changed(module)
        arrays = {n: Factors(*map(to_array, tensors)) for n, tensors in factors.items()}
        scales = sum(f.r.size + f.s.size for f in arrays.values())
        fixed = scales + sum(array.size for array in own.values())
        allowed = int(self.settings.growth_budget * self.network.n_numbers) - fixed
        pruned = prune(
            {n: (f.u, f.v) for n, f in arrays.items()},
            self.settings.prune_threshold,
            max(allowed, 0),
        )
        stored = {
            n: StoredFactors(arrays[n].r, arrays[n].s, Compact.of(u), Compact.of(v))
            for n, (u, v) in pruned.items()
        }
        self.report["parameters_before_pruning"] = fixed + sum(
            f.u.size + f.v.size for f in arrays.values()
        )
        task = self._task(factors=stored, own=own)
        task.report["parameters_after_pruning"] = task.n_numbers
        if allowed < 0:
            warnings.warn(
                f"Task {self.lesson.task_id!r} stores {task.n_numbers} numbers, "
                f"{task.n_numbers / self.network.n_numbers:.0%} of the base, over the "
                f"growth_budget of {self.settings.growth_budget:.0%}: its scales, biases, "
                "normalisation and head alone need them. It has no low-rank terms. "
                "Raise growth_budget, or use a network with wider hidden layers.",
                GrowthBudgetWarning,
                stacklevel=2,
            )
        return task

    # --- pieces ----------------------------------------------------------------------

    def _base(self, name):
        return get_tensor(self.network.base, name).detach()

    def _base_weight(self, name):
        """Yield one copy of a base weight under every name that it goes by."""
        weight = self._base(name).clone()
        return [(n, weight) for n in self.network.roles.every_name(name)]

    def _own(self):
        """Return the task's own tensors to start from, with a head of its classes."""
        network, roles, n_classes = self.network, self.network.roles, len(self.lesson.classes)
        known = self.known.classes if self.known else None
        tensors = network.own(self.known or Task(classes=None))
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        first_ever = not network.tasks
        if first_ever or (known is not None and len(known) == n_classes):
            return tensors
        fresh = with_head(network.base, roles.head, n_classes).get_submodule(roles.head)
        names = head_tensors(roles.head, fresh)
        head = [parameter.detach() for parameter in fresh.parameters()]
        if known is not None:
            places = np.searchsorted(self.lesson.classes, known)
            grow_head(head, [tensors[name] for name in names], places)
        return tensors | dict(zip(names, head, strict=True))

    def _factor_allowance(self, layers):
        """Return how many numbers the growth budget leaves for low-rank terms."""
        network = self.network
        scales = sum(sum(layer.weight.shape[:2]) for layer in layers.values())
        own = sum(tensor.numel() for tensor in self._own_sizes())
        return max(self.settings.growth_budget * network.n_numbers - scales - own, 0)

    def _own_sizes(self):
        return [get_tensor(self.net.module_, name) for name in self.network.roles.own]

    def _train(self, module, phase, epochs, callbacks=(), **settings):
        first = [*callbacks, StopIfDiverged(self.lesson.task_id, phase)]
        last = [] if self.bar is None else [ShowProgress(self.bar, phase)]
        net = around(self.recipe, module, first, last, self.valid_set, **settings)
        with self._timed(phase):
            train(net, self.train_set, epochs)
        self.history += epochs_of(net, phase)
        return net

    def _check_finite(self, tensors, phase):
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise diverged(self.lesson.task_id, phase, f"{name} is not finite")

    @contextmanager
    def _timed(self, phase):
        begin = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begin

    def _task(self, **stored):
        visits, history = (self.known.visits, self.known.history) if self.known else (0, [])
        history = history + [{"visit": visits, **row} for row in self.history]
        self.report["n_samples"] = len(self.lesson.y)
        return Task(
            classes=self.lesson.classes,
            visits=visits + 1,
            history=history,
            report={**self.report, "seconds": self.seconds},
            **stored,
        )

    def _report_layers(self, weights, layers, importance, ranks, factors, held_out):
        """Write down, layer by layer, what the theorem predicts and what is measured."""
        form, rows = self.network.form, {}
        before = mean_loss(self.net, held_out, MEASURED_ROWS)
        cut = {
            n: _low_rank.effective_weight(layer.weight, factors[n], form)
            for n, layer in layers.items()
        }
        for name, layer in layers.items():
            dropped = layer.dropped(ranks[name])
            total = float(layer.energies.sum())
            rows[name] = {
                "rank": ranks[name],
                "importance": importance[name],
                "spectrum": layer.spectrum.values.cpu().tolist(),
                "kept": float(layer.energies[: ranks[name]].sum()) / total if total else 1.0,
                "predicted_increase": 0.5 * importance[name] * dropped,
                "measured_increase": self._loss_with({name: cut[name]}, weights, held_out) - before,
            }
        self.report["layers"] = rows
        self.report["predicted_increase"] = sum(r["predicted_increase"] for r in rows.values())
        self.report["measured_increase"] = self._loss_with(cut, weights, held_out) - before

    @torch.no_grad()
    def _loss_with(self, replaced, weights, held_out):
        kept = {name: weights[name].detach().clone() for name in replaced}
        for name, weight in replaced.items():
            weights[name].copy_(weight)
        loss = mean_loss(self.net, held_out, MEASURED_ROWS)
        for name, weight in kept.items():
            weights[name].copy_(weight)
        return loss


class _Layer:
    """One weight after the warm-up: its scales and what they leave over."""

    def __init__(self, weight, free, form):
        self.weight, self.form = weight, form
        self.r, self.s = _low_rank.fit_scales(free, weight)
        residual = free - _low_rank.scale(weight, self.r, self.s)
        self.matrix = _low_rank.gather(residual, form)
        self.spectrum = _low_rank.spectrum(self.matrix)
        copies = _low_rank.copies(weight.shape, form)
        self.energies = copies * self.spectrum.values.pow(2).cpu().numpy()
        self.residual_energy = float(residual.double().pow(2).sum())

    def factors(self, rank):
        """Return the perturbation of this rank, balanced."""
        return Factors(self.r, self.s, *_low_rank.split(self.matrix, self.spectrum, rank))

    def dropped(self, rank):
        """Return the squared norm of what this rank leaves out of the free weight."""
        return max(self.residual_energy - float(self.energies[:rank].sum()), 0.0)
