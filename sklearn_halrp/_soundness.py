"""Whether what a file says fits together: nobody knows who wrote it, and nothing is built yet."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_halrp._ids import check_task_id
from sklearn_halrp._low_rank import FORMS, matrix_shape
from sklearn_halrp._modules import every_tensor, get_tensor
from sklearn_halrp._network import Network
from sklearn_halrp._partition import Partition
from sklearn_halrp._tables import MOST_CATEGORIES
from sklearn_halrp._task import Task

# Of one row of X: a film of a minute has fewer, and no file says how much memory it takes.
MOST_NUMBERS = 2**28


def check_learned(learned: dict[str, Any]) -> None:
    """Refuse settings of a network from which none can be built.

    Parameters
    ----------
    learned : dict
        A state, as `learned_to_state` gives it.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
    """
    shape, n_features = learned["sample_shape_"], learned["n_features_in_"]
    _require(_are_sizes(shape) and len(shape) > 0, f"rows of shape {shape}")
    _require(math.prod(shape) <= MOST_NUMBERS, f"rows of shape {shape}, which no memory holds")
    _require(n_features == shape[0], f"{n_features} features in rows of shape {shape}")
    seed = learned["_seed"]
    _require(_are_sizes([seed]) and seed < 2**32, f"the seed {seed}")
    names = learned.get("feature_names_in_")
    if names is not None:
        text = all(isinstance(name, str) for name in names)
        _require(names.shape == (n_features,) and text, "names that are not those of the columns")
    _check_categories(learned.get("categories_"), n_features)
    _check_network_state(learned["_network"])


def _check_categories(categories: Any, n_features: int) -> None:
    if categories is None:
        return
    _require(isinstance(categories, list | tuple), "categories that are no list")
    _require(len(categories) == n_features, "categories of other columns")
    for known in categories:
        if known is not None:
            plain = all(isinstance(value, str | int | float | None) for value in known)
            _require(isinstance(known, list | tuple) and plain, "categories of no kind")
            _require(len(set(known)) == len(known) <= MOST_CATEGORIES, "too many categories")


def _check_network_state(state: dict[str, Any]) -> None:
    base, roles = state["base"], state["roles"]
    _require(state["form"] in FORMS, f"the form {state['form']}")
    _require({type(state["frozen"]), type(state["dense"])} == {bool}, "no bool")
    _require(set(state.get("bfloat16", ())) <= set(base), "types of tensors that are not there")
    _require(all(isinstance(array, np.ndarray) for array in base.values()), "a base of no arrays")
    partition = Partition.of(**roles)
    names = set(partition.every_role())
    _require(len(names) == len(partition.every_role()), "two roles of one tensor")
    # Earlier files name a tensor that is tied to the head's only once.
    same = names == set(base) if state["format"] >= 5 else names >= set(base)
    _require(same and partition.head_weight in partition.own, "roles that are not of the tensors")
    matrices = all(base[name].ndim >= 2 for name in roles["perturbed"] if name in base)
    _require(matrices, "factors of no matrix")
    aliases = roles["aliases"]
    _require(set(aliases) <= set(base), "other names of tensors that are not there")
    text = all(isinstance(name, str) for group in aliases.values() for name in group)
    _require(text and all(isinstance(group, list | tuple) for group in aliases.values()), "no name")


def check_network(network: Network) -> None:
    """Refuse tasks that do not fit the network, so that nothing fails only at a prediction.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
    """
    roles, every = network.roles, every_tensor(network.base)
    head = network.base.get_submodule(roles.head)
    _require(isinstance(head, nn.Linear) and roles.head_weight in roles.own, "no head")
    for name, others in roles.aliases.items():
        same = all(every[other] is every[name] for other in others)
        _require(same, f"other names of {name} that are not")
    for task_id, task in network.tasks.items():
        _require(check_task_id(task_id) == task_id, f"the id {task_id!r}")
        check_task(network, task)


def check_task(network: Network, task: Task) -> None:
    """Refuse a task that does not fit the network.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
    """
    task.check()
    task.target.check()
    _require(_are_sizes([task.visits]) and task.visits > 0, f"{task.visits} visits")
    roles, own, factors = network.roles, task.own, task.factors
    _require(set(own) <= set(roles.own), "tensors that do not belong to a task")
    _require(set(factors) <= set(roles.perturbed), "factors of what no task changes")
    of_head = {f"{roles.head}.{leaf}" if roles.head else leaf for leaf in ("weight", "bias")}
    for name in roles.own:
        like, array = get_tensor(network.base, name), own.get(name)
        shape = list(like.shape if array is None else array.shape)
        if name in of_head:
            _require(shape == [task.target.n_outputs, *like.shape[1:]], f"{name} of shape {shape}")
        elif isinstance(like, nn.Parameter):  # a buffer may have grown
            _require(shape == list(like.shape), f"{name} of shape {shape}")
        _require(array is None or _kind(array) == _kind_of(like), f"numbers of a kind in {name}")
    for name, stored in factors.items():
        weight = get_tensor(network.base, name).shape
        rows, columns = matrix_shape(weight, network.form)
        scales = [list(stored.r.shape), list(stored.s.shape)]
        fit = all(shape in ([0], [size]) for shape, size in zip(scales, weight[:2], strict=True))
        terms = [*stored.u.shape[:1], *stored.v.shape[1:]]
        _require(fit and terms == [rows, columns], f"factors of {name} of other shapes")
        kinds = {_kind(a) for a in (stored.r, stored.s, stored.u.values, stored.v.values)}
        _require(kinds == {"f"}, f"factors of {name} that are no real numbers")


def _kind(array: np.ndarray[Any, Any]) -> str:
    return array.dtype.kind if array.dtype.kind in "fc" else "i"


def _kind_of(tensor: torch.Tensor) -> str:
    return "f" if tensor.is_floating_point() else "c" if tensor.is_complex() else "i"


def _are_sizes(values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _require(true: bool, what: str) -> None:
    if not true:
        raise ValueError(f"it has {what}")
