"""What is known of a new task before anything is trained: its head.

Where rows are few, a head on what the base makes of them may be all of the task.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from sklearn_halrp._default_net import blocks_of, takes_missing
from sklearn_halrp._head import grow_head
from sklearn_halrp._linear_head import (
    Head,
    Seen,
    best_head,
    clearly_less,
    is_known_loss,
    is_useful,
    losses_of,
    says_something,
    seen_by_head,
)
from sklearn_halrp._processes import agreed
from sklearn_halrp._random import seeded
from sklearn_halrp._task import Task
from sklearn_halrp._visit import Visit
from sklearn_halrp.exceptions import TrainingDivergedError

STARTS = ("auto", "warm-up", "head", "transfer")
# With so many rows a task is more than a head, and "auto" need not ask. Chosen, as the next one,
# on validation rows of letters, tabular, exercises and flights, with seeds from 100 on.
ENOUGH = 500
# With fewer rows a class a task of the default net is a head alone: it sees the columns too.
FEW = 25


@dataclass
class Beginning:
    """What the head of a task can learn from, as long as nothing else of the task is there."""

    training: Seen
    held_out: Seen | None
    known: Head | None
    best: Callable[[Seen], Head]
    _found: dict[int, Head] = field(default_factory=dict)

    def known_is_useful(self) -> bool:
        """Whether the head that is there does better than to say how frequent labels are."""
        return self.known is not None and is_useful(self.training, self.known)

    def head(self, every: bool = False) -> Head:
        """Return the best head for the training rows, or for the held-out ones too."""
        seen = self.training
        if every and self.held_out is not None:
            seen = seen.and_also(self.held_out)
        n_rows = len(seen.X)
        if n_rows not in self._found:
            self._found[n_rows] = self.best(seen)
        return self._found[n_rows]


def beginning(visit: Visit) -> Beginning | None:
    """Return what the head of a visit's task can learn from, or None where that cannot be said.

    It can where the loss is cross-entropy or the squared error, and the outputs are those of the
    head.
    """
    network, n_outputs = visit.network, visit.lesson.target.n_outputs
    if not is_known_loss(visit.recipe):
        return None
    with seeded(torch.initial_seed(), visit.recipe.device):  # nothing is drawn for a look
        module = network.module_with({**visit.weights(), **visit.own()}, trainable=False)
        net = visit.evaluating(module)
        training, held_out = (
            None if part is None else seen_by_head(net, network.roles.head, part)
            for part in visit.sets
        )
    if training is None or not says_something(training):
        return None
    known = _known(visit, numbers=training.y.is_floating_point())
    blocks = blocks_of(network.base)

    def best(seen: Seen) -> Head:
        return best_head(seen, n_outputs, known, blocks, anew=visit.known is None)

    return Beginning(training, held_out, known, best)


def _known(visit: Visit, numbers: bool) -> Head | None:
    """Return the head that is there: the task's own, or that of what it begins from.

    Numbers have units of their own in every task, so that another head says nothing of them. One
    of zeros was cleared.
    """
    network, target = visit.network, visit.lesson.target
    there = network.own(visit.before) if visit.before else network.own_of_base()
    weight, bias = (there[name].cpu().double() for name in network.in_head)
    if (numbers and not visit.known) or not weight.any():
        return None
    if visit.known and target.n_outputs > len(bias):  # new classes are as likely as known ones
        old, n_outputs = (weight, bias), target.n_outputs
        weight = weight.new_zeros(n_outputs, weight.shape[1])
        bias = bias.new_full((n_outputs,), float(bias.mean()))
        grow_head((weight, bias), old, target.places_of(visit.known.target))
    begun = "itself" if visit.known else "task" if visit.source else "base"
    return Head(weight, bias, math.nan, begun)


def begin(visit: Visit) -> Beginning | None:
    """Choose what a task begins from, and with which head; return what may be all of it.

    Parameters
    ----------
    visit : Visit
        Its `source` and `head` are set.

    Returns
    -------
    Beginning or None
        None where the task cannot, or need not, be a head alone.

    Raises
    ------
    ValueError
        If `start` asks for what the net does not allow.
    """
    start, n_rows = visit.settings.start, len(visit.lesson.y)
    if start == "warm-up" or visit.was_joint:
        return None
    if visit.known:
        visit.report["head"] = "itself"
    few = start == "head" or n_rows < max(ENOUGH, FEW * visit.lesson.target.n_outputs)
    found = None
    if start == "transfer" and not visit.known:
        visit.source, found = _most_alike(visit)
    elif few or (not visit.known and _has_head_to_begin_with(visit)):
        found = beginning(visit)
    if found is None and start == "head":
        raise ValueError(f"Task {visit.lesson.task_id!r} cannot have start='head': {_NEEDED}")
    if found is None:
        return None
    if few:
        head = agreed(visit.recipe, found.head(every=is_all(visit)))
        useful = head.begun != "nothing"
        if not visit.known:
            visit.report["head"] = head.begun
    else:
        useful = agreed(visit.recipe, found.known_is_useful())
    if useful and found.known and not visit.known:
        visit.head, visit.report["head"] = found.known, found.known.begun
    return found if few else None


def is_all(visit: Visit) -> bool:
    """Whether a task is a head alone before anything else is tried."""
    few = FEW * max(visit.lesson.target.n_outputs, 2)
    very_few = len(visit.lesson.y) < few and takes_missing(visit.recipe)
    return visit.settings.start == "head" or very_few


def head_alone(visit: Visit, found: Beginning, every: bool = True) -> Task:
    """Return the task that is a head alone, on what it begins from.

    Parameters
    ----------
    visit : Visit
    found : Beginning
    every : bool
        Whether it may learn from held-out rows too.
    """
    network = visit.network
    with visit.timed("head"), seeded(torch.initial_seed(), visit.recipe.device):
        visit.head = agreed(visit.recipe, found.head(every))
        module = network.module_with({**visit.weights(), **visit.own()}, trainable=False)
    visit.report["start"] = "head"
    return visit.stored(module, network.factors(visit.source) if visit.source else {}, "head")


def better(visit: Visit, found: Beginning, task: Task, before: dict[str, Any]) -> Task:
    """Return a task as it was trained, or as a head alone if that does no worse on held-out rows.

    One that begins from a head that is there has to be clearly worse: near it is the safe side.

    Parameters
    ----------
    visit : Visit
    found : Beginning
    task : Task
    before : dict
        The visit's report, as it was before the task was trained.
    """
    held_out = visit.sets[1]
    if held_out is None:
        return task
    visit.report = dict(before)
    try:
        alone = head_alone(visit, found, every=False)
    except TrainingDivergedError:  # it predicts NaN
        return task
    losses = _losses(visit, alone, held_out), _losses(visit, task, held_out)
    worse = bool(losses[1].mean() < losses[0].mean())
    if visit.head.begun != "nothing":
        worse = clearly_less(losses[1], losses[0])
    if agreed(visit.recipe, worse):
        return task
    visit.forget_epochs()
    return head_alone(visit, found)


def _losses(visit: Visit, task: Task, dataset: Any) -> torch.Tensor:
    """Return the losses of rows; there are none where all have the weight 0."""
    module: Any = visit.network.module_for(task)
    name = visit.network.roles.head
    seen, layer = seen_by_head(visit.evaluating(module), name, dataset), module.get_submodule(name)
    if seen is None:
        return torch.zeros(1)
    weight, bias = (tensor.detach().cpu().double() for tensor in (layer.weight, layer.bias))
    return losses_of(seen, Head(weight, bias, math.nan, "itself"))


def _has_head_to_begin_with(visit: Visit) -> bool:
    """Whether the base has a head of as many outputs that may say something of the task."""
    there = visit.network.own_of_base()[visit.network.roles.head_weight]
    return len(there) == visit.lesson.target.n_outputs and bool(there.any())


def _most_alike(visit: Visit) -> tuple[Task | None, Beginning]:
    """Return the learned task from which a head does best on this one's rows, and that head.

    None: the base.

    Raises
    ------
    ValueError
        If no head can be found.
    """
    best: tuple[Task | None, Beginning] | None = None
    least = math.inf
    for source in (None, *visit.network.tasks.values()):
        visit.source = source
        found = beginning(visit)
        if found is None:
            raise ValueError(
                f"Task {visit.lesson.task_id!r} cannot have start='transfer': {_NEEDED}"
            )
        loss = agreed(visit.recipe, found.head().loss)
        if best is None or loss < least:
            least, best = loss, (source, found)
    assert best is not None  # the base is always there
    # Which task it is would stay here when that is forgotten.
    visit.report["begun_from"] = "base" if best[0] is None else "task"
    return best


_NEEDED = (
    "the net's criterion has to be CrossEntropyLoss or MSELoss, without weights of classes or "
    "smooth labels, the module's outputs those of its last linear layer, with a bias, and some row "
    "has to have a weight. Use start='auto'."
)
