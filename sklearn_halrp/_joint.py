"""A base from several tasks: they train it together, each with a head and norms of its own.

What comes out is a network whose tasks have tensors of their own and no perturbation yet. Each is
learned after that as any task, and begins from those tensors.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sklearn_halrp._callbacks import StopIfDiverged
from sklearn_halrp._datasets import DatasetRows
from sklearn_halrp._default_net import for_rows, names_moved
from sklearn_halrp._modules import get_tensor, same
from sklearn_halrp._network import Network
from sklearn_halrp._probing import ROWS
from sklearn_halrp._processes import is_shared
from sklearn_halrp._random import seed_of_all, seeded
from sklearn_halrp._saved import check_complete
from sklearn_halrp._several import SeveralModules, SeveralSets
from sklearn_halrp._statistics import renew_statistics
from sklearn_halrp._task import Task
from sklearn_halrp._types import TaskId
from sklearn_halrp._visit import Lesson, Settings, Visit, dataset_of, progress_bar, visiting


def in_fixed_order(lessons: Iterable[Lesson]) -> list[Lesson]:
    """Return lessons in an order that follows from their ids alone: ints, then strings."""
    return sorted(lessons, key=lambda lesson: (isinstance(lesson.task_id, str), lesson.task_id))


def check_alone(net: NeuralNet) -> None:
    """Refuse a net that several processes train together, each with batches of its own.

    Raises
    ------
    ValueError
    """
    if is_shared(net):
        raise ValueError(
            "base='joint' trains on batches of one task at a time, and the processes of an "
            "accelerator would take those of different tasks. Give a net without AccelerateMixin, "
            "or leave base='first'."
        )


@torch.inference_mode(False)  # where gradients are off, they are on inside
def learn_joint(
    recipe: NeuralNet,
    network: Network,
    lessons: Sequence[Lesson],
    settings: Settings,
    root_seed: int,
) -> Network:
    """Return a network whose base is trained on all lessons together.

    Nothing in it depends on the order of the lessons, but for the order of the tasks.

    Parameters
    ----------
    recipe : skorch.NeuralNet
        Never fitted; it is left as it is.
    network : Network
        Without tasks.
    lessons : list of Lesson
    settings : Settings
    root_seed : int
        Drawn from the estimator's ``random_state``.

    Returns
    -------
    Network
        Its tasks were not visited yet: they have tensors of their own alone, and the next visit
        to each holds out the same rows.
    """
    network = replace(network, frozen=True)  # so that each task gets a head of its own
    ordered, common = in_fixed_order(lessons), _common_to_all(network)
    copies, sets = [], []
    for lesson in ordered:
        with visiting(recipe, network, lesson, replace(settings, verbose=0), root_seed) as visit:
            copies.append(network.module_with({**common, **visit.own()}))
            sets.append(visit.sets)
    module = SeveralModules(copies, [lesson.target.n_outputs for lesson in ordered])
    with _together(recipe, network, ordered, settings, root_seed, module, sets) as visit:
        epochs = visit.recipe.max_epochs
        visit.trained(module, "joint", epochs, average_after=0, compile=False, use_caching=True)
    weights = {name: get_tensor(copies[0], name).detach() for name in common}
    own = _own_of_base(network, copies, alike=_mean_the_same(ordered))
    base = network.module_with({**weights, **own}, trainable=False)
    network = replace(network, base=base.requires_grad_(False).eval())
    places = {lesson.task_id: place for place, lesson in enumerate(ordered)}
    tasks = {x.task_id: visit.begun(network, x, copies[places[x.task_id]]) for x in lessons}
    trained = replace(network, base=copies[0].requires_grad_(False).eval())
    check_complete(recipe, trained, np.asarray(ordered[0].X[:ROWS]), root_seed)
    return replace(network, tasks=tasks)


def _common_to_all(network: Network) -> dict[str, nn.Parameter]:
    """Return the tensors that no task has of its own, to be trained once for all."""
    roles = network.roles
    trained = {
        name: nn.Parameter(get_tensor(network.base, name).detach().clone())
        for name in (*roles.perturbed, *roles.shared)
    }
    fixed: Any = network.fixed()
    return trained | {name: fixed[name] for name in roles.frozen}


def _mean_the_same(lessons: Sequence[Lesson]) -> bool:
    """Whether the outputs of all tasks mean the same."""
    first, *others = (lesson.target.names() for lesson in lessons)
    return all(other == first for other in others)


@torch.no_grad()
def _own_of_base(
    network: Network, copies: Sequence[nn.Module], alike: bool
) -> dict[str, torch.Tensor]:
    """Return what a later task begins with: the mean of the tasks.

    Where their outputs do not mean the same there is no such head; then the base's says nothing.
    """
    found, moved = {}, names_moved(network.base)
    for name in network.roles.own:
        several = [get_tensor(module, name).detach() for module in copies]
        if name in moved:
            found[name] = get_tensor(network.base, name).detach()
        elif name in network.in_head and not alike:
            found[name] = torch.zeros_like(get_tensor(network.base, name))
        elif _have_mean(several):
            found[name] = torch.stack(several).mean(0)
        else:
            found[name] = several[0].clone()
    return found


def _have_mean(several: Sequence[torch.Tensor]) -> bool:
    """Whether tensors are numbers that differ, and have one shape: not counts, nor constants."""
    first, *others = several
    numbers = first.is_floating_point() or first.is_complex()
    alike = all(other.shape == first.shape for other in others)
    return numbers and alike and not all(same(first, other) for other in others)


@contextmanager
def _together(
    recipe: NeuralNet,
    network: Network,
    lessons: Sequence[Lesson],
    settings: Settings,
    root_seed: int,
    module: SeveralModules,
    sets: Sequence[tuple[Any, Any]],
) -> Iterator["_JointVisit"]:
    """Seed everything for the joint phase, and show its progress."""
    recipe = for_rows(recipe, sum(len(lesson.y) for lesson in lessons))
    ids = [lesson.task_id for lesson in lessons]
    trained, held_out = (dict(zip(ids, parts, strict=True)) for parts in zip(*sets, strict=True))
    train_set = SeveralSets(trained, joint_sampling=settings.joint_sampling)
    some = any(part is not None for part in held_out.values())
    both = (train_set, SeveralSets(held_out) if some else None)
    with (
        torch.inference_mode(False),  # where gradients are off, they are on inside
        seeded(seed_of_all(root_seed), recipe.device),
        progress_bar(f"{len(ids)} tasks", recipe.max_epochs, verbose=settings.verbose) as bar,
    ):
        lesson = _as_one(recipe, lessons)
        visit = _JointVisit(recipe, network, lesson, settings, None, bar, sets=both)
        visit.module, visit.ids, visit.turns = module, ids, Counter()
        try:
            yield visit
        except Exception as error:
            error.add_note(f"It came while {len(ids)} tasks trained the base together.")
            raise


def _as_one(recipe: NeuralNet, lessons: Sequence[Lesson]) -> Lesson:
    """Return what callbacks see of all lessons: their rows and labels, one after the other."""
    rows = SeveralSets({lesson.task_id: dataset_of(recipe, lesson) for lesson in lessons})
    parts = [lesson.y for lesson in lessons]
    alike = len({y.shape[1:] for y in parts}) == 1
    return Lesson(
        task_id="(several)",
        X=DatasetRows(rows),
        y=np.concatenate([y if alike else np.zeros(len(y), y.dtype) for y in parts]),
        target=_Targets(lessons),
        weights=lessons[0].weights,
    )


class _Targets:
    """The targets of several tasks, as far as a training asks for them."""

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        self.lessons = lessons

    def check_loss(self, criterion: nn.Module, task_id: TaskId) -> None:
        """Refuse a loss that does not fit one of the tasks."""
        for lesson in self.lessons:
            lesson.target.check_loss(criterion, lesson.task_id)


class _JointVisit(Visit):
    """A visit to several tasks at once."""

    module: SeveralModules
    ids: list[TaskId]
    turns: Counter[TaskId]  # batches of each

    def begun(self, network: Network, lesson: Lesson, module: nn.Module) -> Task:
        """Return a task as it is before it is visited, with its share of the seconds."""
        share = self.turns[lesson.task_id] / max(self.turns.total(), 1)
        return Task.of(
            target=lesson.target,
            own=network.changed(module),
            visits=0,
            history=[{"visit": 0, **row} for row in self._epochs],
            report={"n_samples": 0, "seconds": {"joint": share * self._seconds["joint"]}},
        )

    def watch(self, phase: str) -> StopIfDiverged:
        """Return what stops a training that diverges, and says with which task."""
        return _StopAtTask(self, phase)

    def renew(self, net: NeuralNet) -> None:
        """Take the running statistics of each task anew, from its own rows."""
        try:
            for copy, part in zip(self.module.copies, self.sets[0].parts.values(), strict=True):
                vars(net)["module_"] = copy
                renew_statistics(net, part)
        finally:
            vars(net)["module_"] = self.module

    def check_finite(self, module: Any, phase: str) -> None:
        """Refuse tensors that are NaN or infinite, task by task."""
        for task_id, copy in zip(self.ids, module.copies, strict=True):
            self._check_finite(copy, phase, task_id)

    def check_fixed(self, module: nn.Module) -> None:
        """Accept what was trained: the base is not there yet."""


class _StopAtTask(StopIfDiverged):
    """The same for the task of which the batch is."""

    def __init__(self, visit: _JointVisit, phase: str) -> None:
        super().__init__(visit.ids[0], phase)
        self.visit = visit

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Count the batches of each task."""
        self.task_id = self.visit.ids[self.visit.module.current]
        self.visit.turns[self.task_id] += training
