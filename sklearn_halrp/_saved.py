"""What was learned as plain arrays and settings, and back: the one room that knows the format.

Since format 6 a number may have four bits. Since format 5 the numbers of all tasks are one array, a
digest tells whether a bit has changed, and a fingerprint whether the network still computes the
same. Format 4 keeps the tasks as a list of
states with their ids, 1 to 3 as a dictionary by id. Since format 3 the notes of all tasks lie
together.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from skorch import NeuralNet
from torch import nn

from sklearn_halrp._building import build_module, with_outputs
from sklearn_halrp._default_net import as_it_was, takes_missing
from sklearn_halrp._faults import let_through
from sklearn_halrp._fingerprint import AnotherNetworkError, check_fingerprint, fingerprint
from sklearn_halrp._learned import Columns, Learned
from sklearn_halrp._modules import every_tensor, get_tensor, named_tensors
from sklearn_halrp._network import Network, to_array
from sklearn_halrp._partition import Partition
from sklearn_halrp._plain import digest, flat, listed, nested, unlisted
from sklearn_halrp._probing import forward_on
from sklearn_halrp._random import seeded
from sklearn_halrp._tables import Categories
from sklearn_halrp._targets import target_from_state
from sklearn_halrp._task import Task, checked_notes, pack_notes, unpack_notes
from sklearn_halrp._types import TaskId
from sklearn_halrp._version import __version__
from sklearn_halrp.exceptions import InvalidNetworkError

FORMAT = 6


def learned_to_state(
    learned: Learned, with_net: bool = True, dtype: DTypeLike = "float32"
) -> dict[str, Any]:
    """Return what an estimator has learned as a dictionary of arrays and settings.

    Parameters
    ----------
    learned : Learned
    with_net : bool, default=True
        Whether the net is kept beside: without it the weights of the base are all there.
    dtype : str or numpy dtype
        That of rows of X, for the fingerprint.

    Returns
    -------
    dict
        Nested, of arrays, bytes, numbers and text, and of the net.
    """
    net = learned.net if with_net else None
    state = {
        "_network": network_to_state(learned.network, net, learned.seed),
        "_seed": learned.seed,
        "sample_shape_": learned.columns.sample_shape,
        "n_features_in_": learned.columns.n_features,
        "fingerprint": fingerprint(learned, dtype),
    }
    if learned.columns.names is not None:
        state["feature_names_in_"] = learned.columns.names
    if learned.columns.categories is not None:
        state["categories_"] = learned.columns.categories
    return {**state, "net_": net} if with_net else state


def sealed(state: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return a state with the digest of what was learned, and of the settings that are plain."""
    plain = str | int | float | None
    names = [name for name in settings if isinstance(state.get(name, ()), plain)]
    return {**state, "digest": {"settings": names, "sha256": _digest_of(state, names)}}


def unsealed(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without its digest.

    Raises
    ------
    ValueError
        If it lacks something, a bit of it has changed, or a later version wrote it.
    """
    if not isinstance(state, dict):
        raise ValueError(f"What was learned is damaged: it is a {type(state).__name__}.")
    if not any(name in state for name in _LEARNED):
        return state
    network = state.get("_network")
    number = network.get("format") if isinstance(network, dict) else None
    if not isinstance(number, int) or any(name not in state for name in _NEEDED):
        raise ValueError("What was learned is damaged: parts of it are missing.")
    check_format(number)
    rest = {name: value for name, value in state.items() if name != "digest"}
    if "digest" not in state and number < 5:
        return rest
    try:
        seal = state["digest"]
        same = seal["sha256"] == _digest_of(rest, seal["settings"])
    except Exception as error:  # whatever can be wrong with data of which bits have changed
        let_through(error, answer=RecursionError)
        raise ValueError(f"What was learned is damaged: {error!r}.") from error
    if not same:
        raise ValueError(
            "What was learned is damaged: it is not what was saved. Take another copy of the file."
        )
    return rest


def learned_from_state(
    state: dict[str, Any], check: Callable[[Network], None] | None = None
) -> Learned | None:
    """Take what was learned out of a state that may hold other things too.

    Parameters
    ----------
    state : dict
        Its entries are taken out.
    check : callable, optional
        Looks at the network before it is used.

    Returns
    -------
    Learned or None
        None if nothing was learned.

    Raises
    ------
    ValueError
        If it was written by a later version, or the module is another one.
    """
    found = {name: state.pop(name) for name in _LEARNED if name in state}
    if "_network" not in found:
        return None
    found["net_"] = as_it_was(found["net_"])
    learned = Learned(
        net=found["net_"],
        network=network_from_state(found["net_"], found["_network"], found["_seed"]),
        seed=found["_seed"],
        columns=Columns(
            found["n_features_in_"],
            tuple(found["sample_shape_"]),
            found.get("feature_names_in_"),
            _as_tuples(found.get("categories_")),
            missing=takes_missing(found["net_"]),
        ),
    )
    if check is not None:
        check(learned.network)
    check_fingerprint(found.get("fingerprint"), learned)
    return learned


# The names have been the same since format 1; classes_ follows from the tasks since format 4.
_LEARNED = (
    "_network",
    "_seed",
    "net_",
    "sample_shape_",
    "n_features_in_",
    "feature_names_in_",
    "categories_",
    "classes_",
    "fingerprint",
    "digest",
)
_NEEDED = ("_network", "_seed", "net_", "sample_shape_", "n_features_in_")


def _as_tuples(categories: Any) -> Categories | None:
    if categories is None:
        return None
    return tuple(None if known is None else tuple(known) for known in categories)


def _digest_of(state: dict[str, Any], settings: Iterable[str]) -> str:
    """Return the digest of what was learned, and of these settings.

    Where the module is an instance, its tensors stand for those of the base that are not there.
    """
    what = {name: state[name] for name in (*_LEARNED, *settings) if name in state}
    net = what.pop("net_", None)
    if net is not None and isinstance(net.module, nn.Module):
        what["module"] = _arrays(net.module)
    arrays: dict[str, NDArray[Any]] = {}
    return digest(flat(what, "", arrays), arrays)


def network_to_state(
    network: Network, recipe: NeuralNet | None = None, seed: Any = None
) -> dict[str, Any]:
    """Return a network as a dictionary of arrays and settings.

    Parameters
    ----------
    network : Network
    recipe : skorch.NeuralNetClassifier, optional
        The net, if it is kept beside the state. Where it has its module as an instance, such
        as a pretrained one, what the base has in common with that is None here.
    seed : int, optional
        With which the recipe builds its module.
    """
    base: dict[str, Any] = _arrays(network.base)
    for name in network.roles.every_role():  # a tensor that is tied to the head's goes by two
        if name not in base:
            base[name] = to_array(get_tensor(network.base, name))
    if recipe is not None and isinstance(recipe.module, torch.nn.Module):
        built = _arrays(build_module(recipe, seed))
        base = {name: None if _same(a, built.get(name)) else a for name, a in base.items()}
    states = [task.to_state() for task in network.tasks.values()]
    return {
        "format": FORMAT,
        "base": base,
        "roles": asdict(network.roles),
        "form": network.form,
        "frozen": network.frozen,
        "dense": network.dense,
        "notes": pack_notes([state.pop("notes") for state in states]),
        "bfloat16": [name for name, t in named_tensors(network.base).items() if _is_bfloat16(t)],
        "data": _one_block([state["data"] for state in states]),
        "tasks": [
            {"id": name, **{key: _without_array(value) for key, value in state.items()}}
            for name, state in zip(network.tasks, states, strict=True)
        ],
    }


ALIGNED = 16  # bytes: so that a part of a block can be seen as numbers


def _one_block(several: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the numbers of all tasks as one array, which a file then maps only once."""
    parts = [part for data in several for part in (data, np.zeros(-data.size % ALIGNED, np.uint8))]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _without_array(value: Any) -> Any:
    """Return the size of an array of numbers, and labels as plain data."""
    if not isinstance(value, np.ndarray):
        return value
    return len(value) if value.dtype == np.uint8 else listed(value)


@torch.inference_mode(False)  # its tensors may be trained later
def network_from_state(recipe: NeuralNet, state: dict[str, Any], seed: int) -> Network:
    """Return the network that was saved, on the net's own device.

    Raises
    ------
    ValueError
        If the file is of a later format, or the net's module is no longer the same.
    """
    check_format(state["format"])
    roles = Partition.of(**state["roles"])
    tasks = tasks_from_state(state)
    module = build_module(recipe, seed)
    module = _with_head_of(module, state["base"].get(roles.head_weight), roles.head, seed)
    check_same_tensors(module, state)
    network = Network(module, roles, state["form"], tasks, state["frozen"], state["dense"])
    tensors = {}
    for name, array in state["base"].items():
        like = get_tensor(module, name)
        if array is None:
            tensors[name] = like.detach()
            continue
        # Earlier files do not say which tensors these were.
        bfloat16 = name in state["bfloat16"] if "bfloat16" in state else _is_bfloat16(like)
        tensors[name] = _as(array, like, bfloat16)
    base = network.module_with(tensors, trainable=False)
    return replace(network, base=base.eval())


def _with_head_of(
    module: nn.Module, weight: NDArray[Any] | None, head: str, seed: int
) -> nn.Module:
    """Return a module with as many outputs as there were, if it has that head at all."""
    layer = dict(module.named_modules()).get(head)
    if weight is None or not isinstance(layer, nn.Linear):
        return module
    if weight.ndim != 2 or weight.shape[1] != layer.in_features:
        return module  # which is refused for it
    return with_outputs(module, head, len(weight), seed)


def check_same_tensors(module: nn.Module, state: dict[str, Any]) -> None:
    """Refuse a module whose tensors are not those that were saved.

    Buffers may have other shapes, since some grow with use; earlier files may lack some that a
    later version of torch added.

    Raises
    ------
    AnotherNetworkError
    """
    base, every = state["base"], every_tensor(module)
    names = [name for several in state["roles"]["aliases"].values() for name in several]
    known = {id(every[name]) for name in (*base, *names) if name in every}
    faults = [
        f"{name} was saved, and the net's module has no such tensor"
        for name in (*base, *names)
        if name not in every
    ]
    for name, tensor in named_tensors(module).items():
        parameter = isinstance(tensor, nn.Parameter)
        if id(tensor) not in known and (parameter or state["format"] >= 5):
            faults.append(f"the net's module has {name}, which was not saved")
    for name, array in base.items():
        now = every.get(name)
        if array is None or not isinstance(now, nn.Parameter):
            continue
        if now.shape != array.shape:
            faults.append(
                f"{name} was saved with shape {array.shape}, and the net's module now has "
                f"{tuple(now.shape)}"
            )
        if array.dtype.kind != ("c" if now.is_complex() else "f"):
            faults.append(
                f"{name} was saved with type {array.dtype}, and the module has {now.dtype}"
            )
    if faults:
        more = f"; {len(faults) - 3} more such differences" if len(faults) > 3 else ""
        raise AnotherNetworkError(
            f"{'; '.join(faults[:3])}{more}. Load it with the same module and arguments."
        )


def check_format(number: int, what: object = "The file") -> None:
    """Refuse what a later version wrote."""
    if number > FORMAT:
        raise ValueError(
            f"{what} was written by a newer version of sklearn_halrp: it has format "
            f"{number}, and this version, {__version__}, reads up to {FORMAT}. Install "
            "the version that wrote it, or a later one."
        )


def tasks_from_state(state: dict[str, Any]) -> dict[TaskId, Task]:
    """Return the tasks of a network's state, by id.

    Raises
    ------
    ValueError, KeyError, TypeError
        If they do not fit together.
    """
    tasks = state["tasks"]
    if isinstance(tasks, dict) and all(isinstance(task, Task) for task in tasks.values()):
        return tasks  # this was called before
    if isinstance(tasks, dict):
        tasks = [{"id": name, **task} for name, task in tasks.items()]
    if "notes" in state:
        several: Any = unpack_notes(state["notes"], len(tasks))
    else:
        several = [checked_notes(task["notes"]) for task in tasks]
    begin, found = 0, {}
    for task, notes in zip(tasks, several, strict=True):
        task = {**nested(task, {}), "notes": notes}
        if "data" in state:
            size = task["data"]
            task["data"] = _part(state["data"], begin, size)
            begin += size + -size % ALIGNED
        name, target = task.pop("id"), target_from_state(task)
        found[name] = Task(target=target, **task)
    if len(found) != len(tasks):
        raise ValueError("two tasks have the same id")
    if "data" in state and begin != len(state["data"]):
        raise ValueError("the numbers of the tasks are too many or too few")
    return found


def _part(block: NDArray[Any], begin: int, size: int) -> NDArray[Any]:
    """Return the numbers of one task: of a file that is mapped a view, else a copy.

    A view would keep the numbers of all tasks in memory, also of those forgotten since.
    """
    part = block[begin : begin + size]
    if size < 0 or len(part) != size or block.dtype != np.uint8 or block.ndim != 1:
        raise ValueError("the numbers of the tasks are too few")
    return part if isinstance(block, np.memmap) else part.copy()


def state_of_earlier_file(
    about: dict[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return settings and arrays of a safe file of format 1 to 3 as one nested state.

    Parameters
    ----------
    about : dict
        The settings of the file.
    arrays : dict of str to array

    Returns
    -------
    dict
        As in a file of format 4; see `persistence`.
    """
    tasks = []
    for number, task in enumerate(about["tasks"]):
        task = {**task, "data": arrays[f"task/{number}/data"]}
        task["classes"] = unlisted(task["classes"])
        if about["format"] < 3:
            task["notes"] = arrays[f"task/{number}/notes"].tobytes()
        tasks.append(task)
    base = {k.removeprefix("base/"): v for k, v in arrays.items() if k.startswith("base/")}
    network = {key: about[key] for key in ("format", "roles", "form", "frozen", "dense")}
    network |= {"base": base, "tasks": tasks}
    if about["format"] >= 3:
        network["notes"] = arrays["notes"].tobytes()
    learned = {**about["learned"], "_network": network}
    if about["columns"]:
        learned["feature_names_in_"] = np.array(about["columns"], dtype=object)
    return {
        "estimator": "ContinualClassifier",
        "own_net": about["own_net"],
        "parameters": about["parameters"],
        "learned": learned,
    }


def _arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    return {name: to_array(tensor) for name, tensor in named_tensors(module).items()}


def _same(array: NDArray[Any], other: NDArray[Any] | None) -> bool:
    """Whether two arrays are the same to the last bit; the second may be None."""
    if other is None or (array.dtype, array.shape) != (other.dtype, other.shape):
        return False
    return array.tobytes() == other.tobytes()


def _is_bfloat16(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.bfloat16


def _as(array: NDArray[Any], like: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Return an array as a tensor of its own type, as the module may now be built with another.

    It is like another in its layout, such as channels_last: sums over another layout round
    differently.
    """
    tensor = torch.from_numpy(array.copy()).to(like.device)
    if bfloat16 and tensor.dtype is torch.float32:  # see to_array
        tensor = tensor.bfloat16()
    if like.shape != tensor.shape:
        return tensor
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def check_complete(recipe: NeuralNet, network: Network, X: NDArray[Any], seed: int) -> None:
    """Refuse a base that training changed in more than its parameters and buffers.

    Raises
    ------
    InvalidNetworkError
        If the network, saved and loaded, would compute something else for the first rows.
    """
    with seeded(seed, recipe.device):
        forward = forward_on(recipe, X)
        outputs, again = forward(network.base), forward(network.base)
        if not torch.equal(outputs, again):
            return  # random by intention, or counting its calls
        state = network_to_state(network.without_tasks())
        try:
            loaded = network_from_state(recipe, state, seed)
        except AnotherNetworkError as error:
            raise InvalidNetworkError(
                f"Training gave the module other tensors than it was built with: {error} Let it "
                "make all of them in __init__."
            ) from error
        if not torch.equal(outputs, forward(loaded.base)):
            raise InvalidNetworkError(
                "Training changed something in the module that is neither a parameter nor a "
                "buffer, so that it would be lost with every copy. Register such tensors with "
                "self.register_buffer(name, tensor), and leave weights their shapes."
            )
