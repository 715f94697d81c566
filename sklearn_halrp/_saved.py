"""What was learned as plain arrays and settings, and back: the one room that knows the format.

Format 4 keeps the tasks as a list of states with their ids, 1 to 3 as a dictionary by id.
Since format 3 the notes of all tasks lie together.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn

from sklearn_halrp._building import build_module, with_outputs
from sklearn_halrp._learned import Columns, Learned
from sklearn_halrp._modules import get_tensor, named_tensors
from sklearn_halrp._network import Network, to_array
from sklearn_halrp._partition import Partition
from sklearn_halrp._probing import forward_on
from sklearn_halrp._random import seeded
from sklearn_halrp._targets import target_from_state
from sklearn_halrp._task import Task, pack_notes, unpack_notes
from sklearn_halrp._types import TaskId
from sklearn_halrp._version import __version__
from sklearn_halrp.exceptions import InvalidNetworkError

FORMAT = 4


def learned_to_state(learned: Learned, with_net: bool = True) -> dict[str, Any]:
    """Return what an estimator has learned as a dictionary of arrays and settings.

    Parameters
    ----------
    learned : Learned
    with_net : bool, default=True
        Whether the net is kept beside: without it the weights of the base are all there.

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
    }
    if learned.columns.names is not None:
        state["feature_names_in_"] = learned.columns.names
    return {**state, "net_": net} if with_net else state


def learned_from_state(state: dict[str, Any]) -> Learned | None:
    """Take what was learned out of a state that may hold other things too.

    Returns
    -------
    Learned or None
        None if nothing was learned.
    """
    found = {name: state.pop(name) for name in _LEARNED if name in state}
    if "_network" not in found:
        return None
    return Learned(
        net=found["net_"],
        network=network_from_state(found["net_"], found["_network"], found["_seed"]),
        seed=found["_seed"],
        columns=Columns(
            found["n_features_in_"],
            tuple(found["sample_shape_"]),
            found.get("feature_names_in_"),
        ),
    )


# The names have been the same since format 1; classes_ follows from the tasks since format 4.
_LEARNED = (
    "_network",
    "_seed",
    "net_",
    "sample_shape_",
    "n_features_in_",
    "feature_names_in_",
    "classes_",
)


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
    if recipe is not None and isinstance(recipe.module, torch.nn.Module):
        built = _arrays(build_module(recipe, seed))
        base = {name: None if _same(a, built.get(name)) else a for name, a in base.items()}
    tasks = [{"id": name, **task.to_state()} for name, task in network.tasks.items()]
    return {
        "format": FORMAT,
        "base": base,
        "roles": asdict(network.roles),
        "form": network.form,
        "frozen": network.frozen,
        "dense": network.dense,
        "notes": pack_notes([task.pop("notes") for task in tasks]),
        "bfloat16": [name for name, t in named_tensors(network.base).items() if _is_bfloat16(t)],
        "tasks": tasks,
    }


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
    head = state["base"][roles.head_weight]
    module = build_module(recipe, seed)
    if head is not None and roles.head in dict(module.named_modules()):
        module = with_outputs(module, roles.head, len(head), seed)
    tasks = tasks_from_state(state)
    network = Network(module, roles, state["form"], tasks, state["frozen"], state["dense"])
    tensors = {}
    for name, array in state["base"].items():
        try:
            like = get_tensor(module, name)
        except AttributeError:
            raise ValueError(
                f"{name} was saved, and the net's module has no such tensor. Load it with the same "
                "module and arguments."
            ) from None
        if array is None:
            tensors[name] = like.detach()
            continue
        if like.shape != array.shape and isinstance(like, torch.nn.Parameter):
            raise ValueError(
                f"{name} was saved with shape {array.shape}, and the net's module now has "
                f"{tuple(like.shape)}. Load it with the same module and arguments."
            )
        # Earlier files do not say which tensors these were.
        bfloat16 = name in state["bfloat16"] if "bfloat16" in state else _is_bfloat16(like)
        tensors[name] = _as(array, like, bfloat16)
    base = network.module_with(tensors, trainable=False)
    return replace(network, base=base.eval())


def check_format(number: int) -> None:
    """Refuse what a later version wrote."""
    if number > FORMAT:
        raise ValueError(
            f"The file was written by a newer version of sklearn_halrp: it has format "
            f"{number}, and this version, {__version__}, reads up to {FORMAT}. Install "
            "the version that wrote it, or a later one."
        )


def tasks_from_state(state: dict[str, Any]) -> dict[TaskId, Task]:
    """Return the tasks of a network's state, by id."""
    tasks = state["tasks"]
    if isinstance(tasks, dict):
        tasks = [{"id": name, **task} for name, task in tasks.items()]
    if "notes" in state:
        several = zip(tasks, unpack_notes(state["notes"]), strict=True)
        tasks = [{**task, "notes": notes} for task, notes in several]
    found = {}
    for task in tasks:
        task = dict(task)
        name, target = task.pop("id"), target_from_state(task)
        found[name] = Task(target=target, **task)
    return found


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
        task["classes"] = np.array(task["classes"]["labels"], dtype=task["classes"]["type"])
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
        loaded = network_from_state(recipe, state, seed)
        if not torch.equal(outputs, forward(loaded.base)):
            raise InvalidNetworkError(
                "Training changed something in the module that is neither a parameter nor a "
                "buffer, so that it would be lost with every copy. Register such tensors with "
                "self.register_buffer(name, tensor), and leave weights their shapes."
            )
