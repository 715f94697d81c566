"""Settings of a net that hold for the rows or the steps of one training, where there are many."""

import warnings
from functools import partial
from numbers import Number
from typing import Any

import numpy as np
from sklearn.model_selection import PredefinedSplit
from skorch import NeuralNet
from skorch.callbacks import LoadInitState, LRScheduler
from skorch.dataset import ValidSplit
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import Subset

from sklearn_halrp._training import callbacks_of
from sklearn_halrp._types import TaskId

_SPLIT = (
    "Give the net's train_split something that splits each task's own rows, such as "
    "skorch.dataset.ValidSplit(5), or a function of the dataset and its labels."
)

# A random split, such as ShuffleSplit, may leave rows out, but hardly ever this share at the end.
_MOST_LEFT_OUT = 0.2


def check_for_many(net: NeuralNet) -> None:
    """Refuse a net with a setting that makes sense for a single training only.

    Raises
    ------
    ValueError
    """
    for callback in callbacks_of(net):
        if callback is LoadInitState or isinstance(callback, LoadInitState):
            raise ValueError(
                "A task is trained in several phases, each with other parameters, so LoadInitState "
                "has nothing to load into. Leave it out; partial_fit goes on by itself."
            )
        if isinstance(callback, LRScheduler) and _is_one_cycle(callback.policy):
            raise ValueError(
                "OneCycleLR needs to know the steps of a training, and each phase of a task has "
                "another number of them. Take a schedule that does not, such as CyclicLR, "
                "CosineAnnealingWarmRestarts or StepLR; it begins anew in each phase."
            )
    _check_samplers(net)
    if not callable(net.dataset):
        raise ValueError(
            f"The net's dataset is a {type(net.dataset).__name__} with rows of its own, on which "
            "every task would be trained. Give the net the class, dataset="
            f"{type(net.dataset).__name__}, or pass the dataset to fit as X."
        )
    split = net.train_split
    if isinstance(split, partial) and "valid_ds" in split.keywords:
        raise ValueError(
            "predefined_split holds out the same rows for every task, with labels that are not "
            f"those of the task. {_SPLIT}"
        )
    if isinstance(split, ValidSplit) and _is_fixed(split.cv):
        raise ValueError(
            f"The net's train_split has a {type(split.cv).__name__} of fixed rows, and each task "
            f"has others. {_SPLIT}"
        )


def _is_one_cycle(policy: Any) -> bool:
    policy = policy.func if isinstance(policy, partial) else policy
    return policy == "OneCycleLR" or (isinstance(policy, type) and issubclass(policy, OneCycleLR))


def _is_fixed(cv: Any) -> bool:
    """Whether a cross-validation names the rows themselves."""
    splits = cv is None or isinstance(cv, Number) or hasattr(cv, "split")
    return isinstance(cv, PredefinedSplit) or not splits


def _check_samplers(net: NeuralNet) -> None:
    for iterator in ("iterator_train", "iterator_valid"):
        given = net.get_params_for(iterator)
        loader = getattr(net, iterator)
        if isinstance(loader, partial):
            given = {**loader.keywords, **given}
        for name in ("sampler", "batch_sampler"):
            part = given.get(name)
            if part is not None:
                kind = part if isinstance(part, type) else type(part)
                # With a batch_sampler torch takes no batch_size, which the net always passes.
                taken = "dataset, batch_size" if name == "batch_sampler" else "dataset"
                raise ValueError(
                    f"{iterator} has a {name}, a {kind.__name__}, made for the rows "
                    "of one training, and each task has others. Give the net a function that makes "
                    f"one for the rows that it gets, as {iterator}=batches with\n\n"
                    f"    def batches({taken}, **settings):\n"
                    f"        return DataLoader(dataset, {name}=..., **settings)\n\n"
                    f"and leave out {iterator}__shuffle: torch takes either a {name} or shuffle. "
                    "To weigh rows or classes, sample_weight is enough."
                )


def check_split(task_id: TaskId, sets: tuple[Any, Any]) -> None:
    """Refuse or question a split whose rows are not those of the task.

    Parameters
    ----------
    task_id : int or str
    sets : tuple of Dataset or None
        What the net's train_split gave.

    Raises
    ------
    ValueError
        If it names rows that the task does not have.

    Warns
    -----
    UserWarning
        If neither set has any of the last rows, and these are more than a fifth of the task.
    """
    found = [_places(part) for part in sets if part is not None]
    ends = [
        (int(places.max(initial=-1)), len(whole)) for places, whole in found if places is not None
    ]
    for last, n_rows in ends:
        if last >= n_rows:
            raise ValueError(
                f"The net's train_split takes row {last} of task {task_id!r}, which has {n_rows}. "
                f"Are its rows those of another task? {_SPLIT}"
            )
    left_out = [n_rows - last - 1 > _MOST_LEFT_OUT * n_rows for last, n_rows in ends]
    if ends and len(ends) == len(found) and all(left_out):
        last, n_rows = max(ends)
        warnings.warn(
            f"The net's train_split takes no row after row {last} of task {task_id!r}, which has "
            f"{n_rows}: the rest is neither trained on nor held out. Are its rows those of another "
            f"task? {_SPLIT}",
            stacklevel=2,
        )


def _places(part: Any) -> tuple[Any, Any]:
    """Return the places of its rows in the whole dataset, or None, and that dataset."""
    if type(part) is not Subset:
        return None, part
    places = np.asarray(part.indices)
    inner, whole = _places(part.dataset)
    fits = inner is not None and places.size and places.max() < len(inner)
    return (inner[places] if fits else places), whole
