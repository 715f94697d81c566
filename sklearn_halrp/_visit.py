"""One visit to one task: its settings and data, and what is written down on the way."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from tqdm.auto import tqdm

from sklearn_halrp._averaging import MeanOfLast, keep_better
from sklearn_halrp._callbacks import ShowProgress, StopIfDiverged, diverged
from sklearn_halrp._datasets import DatasetRows, given
from sklearn_halrp._default_net import encoding_for, for_rows
from sklearn_halrp._fixed import check_split
from sklearn_halrp._folding import Normed, measure, normed_layers
from sklearn_halrp._head import grow_head, with_head
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor, named_tensors, same
from sklearn_halrp._network import Network
from sklearn_halrp._phase import Phase, has_own, in_phase
from sklearn_halrp._probing import ROWS, forward_on
from sklearn_halrp._random import seed_for, seeded
from sklearn_halrp._statistics import renew_statistics
from sklearn_halrp._storing import Budget, store
from sklearn_halrp._task import Task
from sklearn_halrp._training import around, epochs_of, recipe_of, spread, train, unpredicted
from sklearn_halrp._types import TaskId
from sklearn_halrp.exceptions import InvalidNetworkError

# Rows whose predictions are looked at before a task is kept.
LOOKED_AT = 256

# Where `least_gain` is left open, and several tasks trained the base.
LEAST_GAIN = 0.005


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The method's parameters; see ContinualClassifier for their meaning."""

    start: str
    warmup_epochs: int | float
    approximation_rate: float
    max_rank: int
    l1_penalty: float
    l2_penalty: float
    factor_lr_scale: float | str
    average_last: float
    prune_threshold: float
    retrain_epochs: int | float
    growth_budget: float
    precision: str
    importance: Any
    measured_losses: str
    base: str
    joint_sampling: float
    least_gain: Any
    verbose: int

    @classmethod
    def of(cls, estimator: Any) -> Self:
        """Return the parameters of an estimator that have the same names."""
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})

    @property
    def share_to_gain(self) -> float:
        """Least share of a loss that low-rank terms must gain; 0 where they may gain nothing."""
        if self.least_gain == "auto":
            return LEAST_GAIN if self.base == "joint" else 0.0
        return float(self.least_gain)

    def warmup(self, epochs: int) -> int:
        """Return how many of all epochs are warm-up."""
        return _epochs(self.warmup_epochs, epochs)

    def retrain(self, epochs: int) -> int:
        """Return how many of the low-rank epochs come after pruning."""
        return _epochs(self.retrain_epochs, epochs)


def _epochs(wanted: int | float, there: int) -> int:
    """Return a number of epochs, or a share of those that there are."""
    if not isinstance(wanted, Integral):
        wanted = max(1, round(wanted * there))
    return min(wanted, there)


@dataclass(frozen=True)
class Lesson:
    """The data of one task in one call.

    Attributes
    ----------
    task_id : int or str
    X : array or DatasetRows
    y : array
        As the loss takes it.
    target : Classes or Numbers
        What the outputs mean, from this call on.
    weights : array of shape (n_samples,), optional
        With the mean 1.
    """

    task_id: TaskId
    X: NDArray[Any] | DatasetRows
    y: NDArray[Any]
    target: Any  # a Target, which has places_of too if its outputs can grow
    weights: NDArray[Any] | None = None


@contextmanager
def visiting(
    recipe: NeuralNet, network: Network, lesson: Lesson, settings: Settings, root_seed: int
) -> Iterator["Visit"]:
    """Seed everything for this visit to this task, and show its progress."""
    known = network.tasks.get(lesson.task_id)
    recipe = for_rows(recipe, len(lesson.y))
    seed = seed_for(root_seed, lesson.task_id, known.visits if known else 0)
    with (
        torch.inference_mode(False),  # where gradients are off, they are on inside
        seeded(seed, recipe.device),
        progress_bar(f"task {lesson.task_id}", recipe.max_epochs, verbose=settings.verbose) as bar,
    ):
        try:
            yield Visit(recipe, network, lesson, settings, known, bar)
        except Exception as error:
            error.add_note(f"It came while task {lesson.task_id!r} was learned.")
            raise


@contextmanager
def progress_bar(what: str, epochs: int, verbose: int) -> Iterator[Any]:
    """Show the epochs of what is trained, if it shall be shown; yields the bar, or None."""
    if not verbose:
        yield None
        return
    with tqdm(total=epochs, desc=what, unit="epoch") as bar:
        yield bar


class Visit:
    """One visit to one task.

    Parameters
    ----------
    recipe : skorch.NeuralNet
        Never fitted; it is left as it is.
    network : Network
    lesson : Lesson
    settings : Settings
    known : Task or None
        What was learned of the task before.
    bar : tqdm.tqdm or None
    sets : pair of Dataset, optional
        Training and held-out rows, where the net is not asked for them.

    Attributes
    ----------
    sets : pair of Dataset
        Training and held-out rows; the latter may be None.
    budget : Budget
    source : Task or None
        The learned task that a new one begins from; None: the base.
    head : Head or None
        What its head begins with, if not with random numbers; it has a weight and a bias.
    report : dict
        What a phase finds out is written down here, for the task's report.
    """

    source: Task | None = None
    head: Any = None

    def __init__(
        self,
        recipe: NeuralNet,
        network: Network,
        lesson: Lesson,
        settings: Settings,
        known: Task | None,
        bar: Any,
        sets: tuple[Any, Any] | None = None,
    ) -> None:
        self.recipe, self.network, self.settings = recipe, network, settings
        self.lesson, self.known, self.bar = lesson, known, bar
        self.budget = Budget.of(network, growth_budget=settings.growth_budget)
        self.sets = _split(recipe, lesson) if sets is None else sets
        self._normed: tuple[Normed, ...] | None = None
        self.report: dict[str, Any] = {"n_samples": len(lesson.y)}
        self._seconds: dict[str, float] = {}
        self._epochs: list[dict[str, Any]] = []

    def forward(self, module: nn.Module) -> torch.Tensor:
        """Apply a module to a few of the rows, and return its outputs."""
        return forward_on(self.recipe, np.asarray(self.lesson.X[:ROWS]))(module)

    @property
    def normed(self) -> tuple[Normed, ...]:
        """Layers before norms, of whose numbers some are redundant once the base is there."""
        if self._normed is None:
            trains_base = self.network.trains_base(self.lesson.task_id)
            self._normed = () if trains_base else normed_layers(self.network, self.forward)
        return self._normed

    # --- what a phase begins with

    def free_module(self, *roles: str) -> nn.Module:
        """Return a module all of whose perturbed weights, and others, can be trained.

        Parameters
        ----------
        *roles : str
            Names of tensors that are trained too, besides the task's own ones.
        """
        network = self.network
        weights = {name: tensor.clone() for name, tensor in self.weights(*roles).items()}
        module = network.module_with({**network.fixed(), **weights, **self.own()})
        for one in self.normed:
            if one.bias:  # its gradient is rounding alone, which some optimizers make large
                get_tensor(module, one.bias).requires_grad_(False)
        return module

    @property
    def before(self) -> Task | None:
        """The task whose own tensors this one begins with; None: those of the base."""
        return self.known or self.source

    @property
    def was_joint(self) -> bool:
        """Whether the task has trained the base with others, and is now visited first."""
        return self.known is not None and not self.known.visits

    def weights(self, *roles: str) -> dict[str, torch.Tensor]:
        """Return the perturbed weights to start from, and other tensors of the base, by name."""
        network = self.network
        begun = network.module_for(self.source) if self.source else network.base
        found = {name: get_tensor(begun, name) for name in network.roles.perturbed}
        found |= {name: get_tensor(network.base, name) for name in roles}
        return {name: tensor.detach() for name, tensor in found.items()}

    def own(self) -> dict[str, torch.Tensor]:
        """Return the task's own tensors to start from, with a head for its outputs."""
        own = self._own()
        if self.head is not None:
            begins = (self.head.weight, self.head.bias)
            for name, begun in zip(self.network.in_head, begins, strict=True):
                own[name] = begun.to(own[name], copy=True)  # it may be that of the base
        return own

    def _own(self) -> dict[str, torch.Tensor]:
        network, target = self.network, self.lesson.target
        own = network.own(self.before) if self.before else network.own_of_base()
        own = {name: tensor.clone() for name, tensor in own.items()}
        if self.known is None and network.trains_base(self.lesson.task_id):
            return own  # the network was built with a head of this size
        if self.known is None:
            own |= encoding_for(network.base, self.lesson.X)
        if self.known and self.known.target.n_outputs == target.n_outputs:
            return own
        fresh = with_head(network.base, network.roles.head, target.n_outputs)
        fresh = fresh.get_submodule(network.roles.head)
        names = network.in_head
        head = [parameter.detach() for parameter in fresh.parameters()]
        if self.known:
            grow_head(head, [own[name] for name in names], target.places_of(self.known.target))
        return {**own, **dict(zip(names, head, strict=True))}

    def own_anew(self) -> dict[str, torch.Tensor]:
        """Return the same for a task that goes on: with the statistics of these rows."""
        if not self.known or not self.normed:
            return self.own()
        net = self.evaluating(self.network.module_for(self.known))
        return measure(self.normed, self.own(), net, self.sets[0])

    # --- one phase

    def trained(
        self,
        module: nn.Module,
        phase: str,
        epochs: int,
        callbacks: Iterable[Callback] = (),
        average_after: int | None = None,
        **settings: Any,
    ) -> NeuralNet:
        """Train a module on the visit's rows, and return the net around it.

        Parameters
        ----------
        module : torch.nn.Module
            Trained in place.
        phase : str
            Its name in reports and errors.
        epochs : int
        callbacks : sequence of skorch callbacks
            That go before those of the recipe.
        average_after : int, optional
            Epochs after which the last weights may be averaged; None: they are not.
        **settings
            Parameters of the recipe to override.

        Raises
        ------
        TrainingDivergedError
            If the loss or a tensor becomes NaN or infinite.
        InvalidNetworkError
            If a tensor that belongs to the base was changed.
        """
        task_id, n_rows = self.lesson.task_id, len(self.lesson.y)
        share = 0.0 if average_after is None else self.settings.average_last
        averaging = MeanOfLast(share, epochs, after=average_after or 0)
        first = [*callbacks, averaging, self.watch(phase)]
        last = [] if self.bar is None else [ShowProgress(self.bar, phase)]
        settings["weighted"] = self.lesson.weights is not None
        net = around(self.recipe, module, first, last, self.sets, **settings)
        self.lesson.target.check_loss(net.criterion_, task_id)
        with self.timed(phase):
            train(net, given(self.lesson.X), self.lesson.y, epochs)
            if epochs:
                self.renew(net)
            if averaging.means:
                keep_better(net, averaging.means, self.sets, self.renew)
        if any(row.get("train_batch_count") == 0 for row in net.history):
            raise ValueError(
                f"Task {task_id!r} gave no batch to train on: its {n_rows} "
                "rows are too few for this batch_size with drop_last=True."
            )
        self.check_finite(module, phase)
        if phase != "base":
            self.check_fixed(module)
        self._epochs += epochs_of(net, phase)
        return net

    def renew(self, net: NeuralNet) -> None:
        """Take running statistics anew, from the training rows."""
        renew_statistics(net, self.sets[0])

    def watch(self, phase: str) -> StopIfDiverged:
        """Return what stops a training that diverges."""
        return StopIfDiverged(self.lesson.task_id, phase)

    def check_finite(self, module: nn.Module, phase: str) -> None:
        """Refuse tensors that are NaN or infinite."""
        self._check_finite(module, phase, self.lesson.task_id)

    def _check_finite(self, module: nn.Module, phase: str, task_id: TaskId) -> None:
        constant = named_tensors(self.network.base)  # such as a mask of minus infinity
        for name, tensor in named_tensors(module).items():
            if torch.isfinite(tensor).all():
                continue
            if name not in constant or not same(tensor, constant[name]):
                raise diverged(task_id, phase, f"{name} is not finite")

    def check_fixed(self, module: nn.Module) -> None:
        """Refuse what a callback did to a tensor that belongs to the base."""
        for name, tensor in self.network.fixed().items():
            if not same(get_tensor(module, name), tensor):
                raise InvalidNetworkError(
                    f"A callback or the module itself changed {name}, which belongs to the base "
                    "and may not change once a second task is learned. Let it do so on the "
                    "first task alone."
                )

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Write down the seconds that a phase takes, beside those that it took before."""
        begin = time.perf_counter()
        yield
        taken = time.perf_counter() - begin
        self._seconds[phase] = self._seconds.get(phase, 0.0) + taken

    def forget_epochs(self) -> None:
        """Leave out of the history what was trained and is not kept; its seconds stay."""
        self._epochs = []

    # --- what it ends with

    def stored(self, module: nn.Module, factors: Mapping[str, Factors], phase: str) -> Task:
        """Return the task, pruned to its budget, once it has been seen to predict.

        Parameters
        ----------
        module : torch.nn.Module
            As it was trained.
        factors : dict of str to Factors
        phase : str
            The one that made it.

        Raises
        ------
        TrainingDivergedError
            If the task predicts NaN or infinity.
        """
        with self.timed("pruning"):
            own, stored, before = store(
                self.network,
                module,
                factors,
                self.budget,
                prune_threshold=self.settings.prune_threshold,
                precision=self.settings.precision,
            )
        self.report["n_numbers_before_pruning"] = before
        task = self.task(factors=stored, own=own)
        self.check_predicts(self.network.module_for(task), phase)
        return task

    def check_predicts(self, module: nn.Module, phase: str) -> None:
        """Refuse what would be kept if it predicts NaN or infinity for some of the rows.

        A module may divide 0 by 0 in a row, whatever its weights. Such a row counts only if there
        are no others.

        Parameters
        ----------
        module : torch.nn.Module
            As it will be served.
        phase : str
            The one that made it.

        Raises
        ------
        TrainingDivergedError
        """
        train_set, held_out = self.sets
        rows = spread(train_set if held_out is None else held_out, LOOKED_AT)
        broken = self._unpredicted(module, rows)
        if broken.any() and not broken.all():
            broken &= ~self._unpredicted(self.network.base_alone(), rows)
        if broken.any():
            raise diverged(
                self.lesson.task_id,
                phase,
                f"all weights are finite, but the predictions for {broken.sum()} of {len(rows)} "
                f"{'training' if held_out is None else 'held-out'} rows are NaN or infinite",
            )

    def _unpredicted(self, module: nn.Module, rows: Any) -> NDArray[Any]:
        return unpredicted(self.evaluating(module), rows, self.lesson.target)

    def evaluating(self, module: nn.Module) -> NeuralNet:
        """Return a net that applies a module, and trains nothing."""
        return around(
            self.recipe,
            module,
            weighted=self.lesson.weights is not None,
            own=has_own(self.recipe, "infer"),
            callbacks="disable",
            compile=False,
        )

    def task(self, **stored: Any) -> Task:
        """Return what was learned, after this visit and all before.

        Parameters
        ----------
        **stored
            ``own`` and ``factors``, as for `Task.of`.
        """
        visits, report = 0, {**self.report, "seconds": self._seconds}
        if self.known:
            visits, report = self.known.visits, _added(self.known.report, report)
        return Task.of(
            target=self.lesson.target,
            visits=visits + 1,
            history=[{"visit": visits, **row} for row in self._epochs],
            report=report,
            before=self.known,
            **stored,
        )


def dataset_of(recipe: NeuralNet, lesson: Lesson) -> Any:
    """Return all rows of a lesson, as the net takes them."""
    net, X = _taking(recipe, lesson)
    return net.get_dataset(X, lesson.y)


def _taking(recipe: NeuralNet, lesson: Lesson) -> tuple[NeuralNet, Any]:
    """Return a net that takes the rows of a lesson, with their weights, and these rows."""
    net = in_phase(recipe_of(recipe), Phase(row_weights=lesson.weights))
    return net, lesson.X.labelled(lesson.y) if isinstance(lesson.X, DatasetRows) else lesson.X


def _split(recipe: NeuralNet, lesson: Lesson) -> tuple[Any, Any]:
    """Return the training set and the held-out set, or None for the latter."""
    try:
        net, X = _taking(recipe, lesson)
        train_set, valid_set = net.get_split_datasets(X, lesson.y)
    except ValueError as error:
        raise ValueError(
            f"The net's train_split cannot split the {len(lesson.y)} rows of task "
            f"{lesson.task_id!r}: {error} Hold nothing out for this task, with "
            "train_split=None for the net, or give the net a split that suits small tasks."
        ) from error
    check_split(lesson.task_id, (train_set, valid_set))
    return train_set, valid_set


def _added(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of several visits: rows and seconds add up, the rest is the last."""
    seconds = dict(before["seconds"])
    for phase, value in now["seconds"].items():
        seconds[phase] = seconds.get(phase, 0.0) + value
    n_samples = before["n_samples"] + now["n_samples"]
    return {**before, **now, "n_samples": n_samples, "seconds": seconds}
