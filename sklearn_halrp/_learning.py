"""How one task is learned, phase by phase, with the user's skorch net."""

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from torch import nn
from tqdm.auto import tqdm

try:
    from joblib.externals import cloudpickle
except ImportError:  # since joblib 1.6 it is a package of its own
    import cloudpickle

from sklearn_halrp._callbacks import (
    FactorPenalty,
    FactorRate,
    PruneAndHold,
    ShowProgress,
    StopIfDiverged,
    diverged,
)
from sklearn_halrp._choosing import FEWEST_ROWS, choose_factors, loss_increases
from sklearn_halrp._datasets import DatasetRows, given
from sklearn_halrp._head import grow_head, head_tensors, with_head
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor, named_tensors
from sklearn_halrp._perturbed import perturbed_module
from sklearn_halrp._probing import ROWS
from sklearn_halrp._processes import is_shared
from sklearn_halrp._random import seed_for, seeded
from sklearn_halrp._sample_weight import give_weights
from sklearn_halrp._saved import check_complete, network_from_state, network_to_state
from sklearn_halrp._storing import allowance, store
from sklearn_halrp._task import Task
from sklearn_halrp._training import around, epochs_of, recipe_of, spread, train, writes_files
from sklearn_halrp.exceptions import InvalidNetworkError


@dataclass(frozen=True)
class Settings:
    """The method's parameters; see ContinualClassifier for their meaning."""

    warmup_epochs: int | float
    approximation_rate: float
    max_rank: int
    l1_penalty: float
    l2_penalty: float
    factor_lr_scale: float
    prune_threshold: float
    retrain_epochs: int | float
    growth_budget: float
    precision: str
    importance: str
    verbose: int

    def warmup(self, epochs):
        """Return how many of all epochs are warm-up."""
        return _epochs(self.warmup_epochs, epochs)

    def retrain(self, epochs):
        """Return how many of the low-rank epochs come after pruning."""
        return _epochs(self.retrain_epochs, epochs)


def _epochs(wanted, there):
    """Return a number of epochs, or a share of those that there are."""
    if not isinstance(wanted, Integral):
        wanted = max(1, round(wanted * there))
    return min(wanted, there)


@dataclass(frozen=True)
class Lesson:
    """The data of one task in one call, with labels as places in its classes.

    Weights, if there are any, have the mean 1.
    """

    task_id: int | str
    X: np.ndarray | DatasetRows
    y: np.ndarray
    classes: np.ndarray
    weights: np.ndarray | None = None


def learn_base(recipe, network, lesson, settings, root_seed):
    """Return a network whose base is trained on the lesson, its first and only task.

    Parameters
    ----------
    recipe : skorch.NeuralNetClassifier
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
    with _visit(recipe, network, lesson, settings, root_seed) as visit:
        network = visit.train_base()
    check_complete(recipe, network, np.asarray(lesson.X[:ROWS]), root_seed)
    return network


def learn_task(recipe, network, lesson, settings, root_seed):
    """Return the lesson's task, learned as a perturbation of the base.

    Parameters
    ----------
    recipe, network, lesson, settings, root_seed
        As for `learn_base`.

    Returns
    -------
    Task
    """
    with _visit(recipe, network, lesson, settings, root_seed) as visit:
        return visit.learn_perturbation()


def learn_all(recipe, network, lessons, settings, root_seed, n_jobs=None, builder=None):
    """Return a network in which all lessons are learned; the given one is kept.

    The base is trained first, if the first lesson is to train it. Given the base, tasks
    do not depend on each other, so they may be learned in parallel processes: the result
    is the same. Each process uses as many threads as the caller. They are learned one by
    one where processes would share files, or share every step with yet others.

    Parameters
    ----------
    lessons : list of Lesson
    n_jobs : int, optional
        Processes, as joblib understands it.
    builder : skorch.NeuralNetClassifier, optional
        The net that built the base, if that is another than `recipe`.
    recipe, network, settings, root_seed
        As for `learn_base`.

    Returns
    -------
    Network
    """
    lessons = list(lessons)
    if network.trains_base(lessons[0].task_id):
        network = learn_base(recipe, network, lessons.pop(0), settings, root_seed)
    if not lessons:
        return network
    if _one_by_one(recipe) or effective_n_jobs(n_jobs) == 1:
        tasks = [learn_task(recipe, network, x, settings, root_seed) for x in lessons]
    else:
        base = _Parcel(_packed(network.without_tasks()), network.n_bytes)
        tasks = Parallel(n_jobs=n_jobs, mmap_mode="c")(
            delayed(_learn_elsewhere)(
                torch.get_num_threads(),
                recipe,
                builder or recipe,
                base,
                _Parcel((lesson, network.tasks.get(lesson.task_id)), lesson.X.nbytes),
                settings,
                root_seed,
            )
            for lesson in lessons
        )
    for lesson, task in zip(lessons, tasks, strict=True):
        network = network.with_task(lesson.task_id, task)
    return network


def _one_by_one(recipe):
    """Whether tasks must not be learned at the same time, whatever n_jobs says.

    Not every backend listens to ``n_jobs=1``.
    """
    backend, _ = get_active_backend()
    # Threads share one state of random numbers, checkpoints their files, and the processes of
    # an accelerator every step.
    shares = writes_files(recipe) or is_shared(recipe)
    return shares or getattr(backend, "uses_threads", False)


class _Parcel:
    """Names its size, by which dask decides to send it once and apart from the call."""

    def __init__(self, contents, n_bytes):
        self.contents = contents
        self.n_bytes = n_bytes

    def __sizeof__(self):
        return self.n_bytes


def _packed(network):
    """Return a network for other processes: pickled, or where it cannot be, as plain arrays."""
    try:
        return np.frombuffer(cloudpickle.dumps(network), dtype=np.uint8)
    except Exception:  # such as those of parametrised modules
        return network_to_state(network)


def _learn_elsewhere(n_threads, recipe, builder, base, task, settings, root_seed):
    """Learn a task in another process."""
    if torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)
    if isinstance(base.contents, dict):
        network = network_from_state(builder, base.contents, root_seed)
    else:
        network = cloudpickle.loads(base.contents.tobytes())
    lesson, known = task.contents
    if known:
        network = network.with_task(lesson.task_id, known)
    return learn_task(recipe, network, lesson, settings, root_seed)


@contextmanager
def _visit(recipe, network, lesson, settings, root_seed):
    """Seed everything for this visit to this task, and show its progress."""
    known = network.tasks.get(lesson.task_id)
    seed = seed_for(root_seed, lesson.task_id, known.visits if known else 0)
    with (
        seeded(seed, recipe.device),
        _progress_bar(lesson.task_id, recipe.max_epochs, settings.verbose) as bar,
    ):
        yield _Visit(recipe, network, lesson, settings, known, bar)


def _split(recipe, lesson):
    """Return the training set and the held-out set, or None for the latter."""
    try:
        net = recipe_of(recipe)
        if lesson.weights is not None:
            give_weights(net, lesson.weights)
        X = lesson.X.labelled(lesson.y) if isinstance(lesson.X, DatasetRows) else lesson.X
        train_set, valid_set = net.get_split_datasets(X, lesson.y)
        return train_set, valid_set
    except ValueError as error:
        raise ValueError(
            f"The net's train_split cannot split the {len(lesson.y)} rows of task "
            f"{lesson.task_id!r}: {error} Hold nothing out for this task with "
            "set_params(net__train_split=None), or give the net a split that suits small tasks."
        ) from error


@contextmanager
def _progress_bar(task_id, epochs, verbose):
    if not verbose:
        yield None
        return
    with tqdm(total=epochs, desc=f"task {task_id}", unit="epoch") as bar:
        yield bar


def _added(before, now):
    """Return the report of several visits: rows and seconds add up, the rest is the last."""
    seconds = dict(before["seconds"])
    for phase, value in now["seconds"].items():
        seconds[phase] = seconds.get(phase, 0.0) + value
    n_samples = before["n_samples"] + now["n_samples"]
    return {**before, **now, "n_samples": n_samples, "seconds": seconds}


class _Visit:
    """One visit to one task: its data, and what is written down on the way."""

    def __init__(self, recipe, network, lesson, settings, known, bar):
        self.recipe, self.network, self.settings = recipe, network, settings
        self.lesson, self.known, self.bar = lesson, known, bar
        self.sets = _split(recipe, lesson)
        self.seconds, self.epochs = {}, []
        self.report = {"n_samples": len(lesson.y)}

    def train_base(self):
        """Train all weights: the result is a base, and its first task."""
        weights = self._copies(*self.network.roles.perturbed, *self.network.roles.shared)
        module = self.network.module_with({**self.network.fixed(), **weights, **self._own()})
        self._train(module, "base", self.recipe.max_epochs)
        base = module.requires_grad_(False).eval()
        return replace(self.network, base=base, tasks={self.lesson.task_id: self._task()})

    def learn_perturbation(self):
        """Learn a perturbation of the base: a new one, or go on with a known one."""
        epochs = self.recipe.max_epochs
        if self.known and self.known.factors:
            own, factors = self._own(), self.network.factors(self.known)
        else:
            warmup = self.settings.warmup(epochs)
            own, factors = self._warm_up(warmup)
            epochs -= warmup
        module, factors = self._tune(own, factors, epochs)
        with self._timed("pruning"):
            own, stored, before = store(self.network, module, factors, self.settings)
        self.report["n_numbers_before_pruning"] = before
        return self._task(factors=stored, own=own)

    def _warm_up(self, epochs):
        """Train a copy of the base freely, and cut what changed to low rank."""
        roles = self.network.roles
        weights = self._copies(*roles.perturbed)
        module = self.network.module_with({**self.network.fixed(), **weights, **self._own()})
        net = self._train(module, "warm-up", epochs)
        self._check_fixed(module)
        train_set, valid_set = self.sets
        held_out = valid_set
        if held_out is None:
            held_out = spread(train_set, max(FEWEST_ROWS, len(train_set) // 5))
        with self._timed("ranks"):
            factors, layers, found = choose_factors(self.network, net, held_out, self.settings)
        if not np.isfinite([row["importance"] for row in found.values()]).all():
            raise diverged(self.lesson.task_id, "warm-up", "its held-out loss is not finite")
        with self._timed("report"):
            self.report |= loss_increases(net, layers, found, held_out)
        return {name: get_tensor(module, name).detach().clone() for name in roles.own}, factors

    def _tune(self, own, factors, epochs):
        """Train the perturbation, the task's own tensors and its head."""
        factors = {
            name: Factors(*(nn.Parameter(t.clone(), requires_grad=t.numel() > 0) for t in tensors))
            for name, tensors in factors.items()
        }
        module = perturbed_module(self.network, own, factors)
        penalty = FactorPenalty(
            factors.values(), self.settings.l1_penalty, self.settings.l2_penalty
        )
        rate = FactorRate(factors.values(), self.settings.factor_lr_scale)
        prune = PruneAndHold(
            factors.values(),
            allowance(self.network, module, self.settings),
            after=epochs - self.settings.retrain(epochs),
        )
        self._train(module, "low-rank", epochs, [rate, penalty, prune], compile=False)
        self._check_fixed(module)
        return module, factors

    def _train(self, module, phase, epochs, callbacks=(), **settings):
        first = [*callbacks, StopIfDiverged(self.lesson.task_id, phase)]
        last = [] if self.bar is None else [ShowProgress(self.bar, phase)]
        settings["weighted"] = self.lesson.weights is not None
        net = around(self.recipe, module, first, last, self.sets, **settings)
        self._check_class_weights(net)
        with self._timed(phase):
            train(net, given(self.lesson.X), self.lesson.y, epochs)
        if any(row.get("train_batch_count") == 0 for row in net.history):
            raise ValueError(
                f"Task {self.lesson.task_id!r} gave no batch to train on: its {len(self.lesson.y)} "
                "rows are too few for this batch_size with drop_last=True."
            )
        constant = named_tensors(self.network.base)  # such as a mask of minus infinity
        for name, tensor in named_tensors(module).items():
            if torch.isfinite(tensor).all():
                continue
            if name not in constant or not torch.equal(tensor, constant[name]):
                raise diverged(self.lesson.task_id, phase, f"{name} is not finite")
        self.epochs += epochs_of(net, phase)
        return net

    def _check_class_weights(self, net):
        """Refuse a criterion with weights for another number of classes."""
        if not isinstance(net.criterion_, nn.modules.loss._WeightedLoss):
            return
        weight, n_classes = net.criterion_.weight, len(self.lesson.classes)
        if weight is not None and weight.shape != (n_classes,):
            raise ValueError(
                f"The criterion has weights of shape {tuple(weight.shape)}, and task "
                f"{self.lesson.task_id!r} has {n_classes} classes. Set criterion__weight for "
                "each task, or leave it out."
            )

    def _check_fixed(self, module):
        """Refuse what a callback did to a tensor that belongs to the base."""
        for name, tensor in self.network.fixed().items():
            if not torch.equal(get_tensor(module, name), tensor):
                raise InvalidNetworkError(
                    f"A callback or the module itself changed {name}, which belongs to the base "
                    "and may not change once a second task is learned. Let it do so on the "
                    "first task alone."
                )

    def _copies(self, *names):
        """Return a copy of each of these tensors of the base."""
        return {name: get_tensor(self.network.base, name).detach().clone() for name in names}

    def _own(self):
        """Return the task's own tensors to start from, with a head for its classes."""
        network, n_classes = self.network, len(self.lesson.classes)
        own = network.own(self.known) if self.known else network.own_of_base()
        own = {name: tensor.clone() for name, tensor in own.items()}
        if self.known is None and network.trains_base(self.lesson.task_id):
            return own  # the network was built with a head of this size
        if self.known and len(self.known.classes) == n_classes:
            return own
        fresh = with_head(network.base, network.roles.head, n_classes)
        fresh = fresh.get_submodule(network.roles.head)
        names = head_tensors(network.roles.head, fresh)
        head = [parameter.detach() for parameter in fresh.parameters()]
        if self.known:
            places = np.searchsorted(self.lesson.classes, self.known.classes)
            grow_head(head, [own[name] for name in names], places)
        return {**own, **dict(zip(names, head, strict=True))}

    def _task(self, **stored):
        visits, before, report = 0, [], {**self.report, "seconds": self.seconds}
        if self.known:
            visits, before = self.known.visits, self.known.history
            report = _added(self.known.report, report)
        return Task.of(
            classes=self.lesson.classes,
            visits=visits + 1,
            history=[*before, *({"visit": visits, **row} for row in self.epochs)],
            report=report,
            **stored,
        )

    @contextmanager
    def _timed(self, phase):
        begin = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - begin
