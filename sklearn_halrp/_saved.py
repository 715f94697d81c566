"""A network as plain arrays and settings, and back."""

from dataclasses import asdict, replace

import torch

from sklearn_halrp._building import build_module, with_outputs
from sklearn_halrp._modules import get_tensor, named_tensors
from sklearn_halrp._network import Network, to_array
from sklearn_halrp._partition import Partition
from sklearn_halrp._probing import forward_on
from sklearn_halrp._random import seeded
from sklearn_halrp._task import Task, pack_notes, unpack_notes
from sklearn_halrp._version import __version__
from sklearn_halrp.exceptions import InvalidNetworkError

FORMAT = 3


def network_to_state(network, recipe=None, seed=None):
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
    base = _arrays(network.base)
    if recipe is not None and isinstance(recipe.module, torch.nn.Module):
        built = _arrays(build_module(recipe, seed))
        base = {name: None if _same(a, built.get(name)) else a for name, a in base.items()}
    tasks = {name: task.to_state() for name, task in network.tasks.items()}
    return {
        "format": FORMAT,
        "base": base,
        "roles": asdict(network.roles),
        "form": network.form,
        "frozen": network.frozen,
        "dense": network.dense,
        "notes": pack_notes([task.pop("notes") for task in tasks.values()]),
        "tasks": tasks,
    }


def network_from_state(recipe, state, seed):
    """Return the network that was saved, on the net's own device.

    Raises
    ------
    ValueError
        If the file is of a later format, or the net's module is no longer the same.
    """
    if state["format"] > FORMAT:
        raise ValueError(
            f"The file was written by a newer version of sklearn_halrp: it has format "
            f"{state['format']}, and this version, {__version__}, reads up to {FORMAT}. Install "
            "the version that wrote it, or a later one."
        )
    roles = Partition.of(**state["roles"])
    head = state["base"][roles.head_weight]
    module = build_module(recipe, seed)
    if head is not None and roles.head in dict(module.named_modules()):
        module = with_outputs(module, roles.head, len(head), seed)
    tasks = {name: Task(**task) for name, task in with_notes(state).items()}
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
        tensors[name] = _as(array, like)
    base = network.module_with(tensors, trainable=False)
    return replace(network, base=base.eval())


def with_notes(state):
    """Return the states of the tasks with the notes of each, which all lie together since format 3.

    >>> with_notes({"tasks": {"a": {"visits": 1, "notes": b"as in format 2"}}})
    {'a': {'visits': 1, 'notes': b'as in format 2'}}
    """
    tasks = state["tasks"]
    if "notes" not in state:
        return tasks
    several = zip(tasks.items(), unpack_notes(state["notes"]), strict=True)
    return {name: {**task, "notes": notes} for (name, task), notes in several}


def _arrays(module):
    return {name: to_array(tensor) for name, tensor in named_tensors(module).items()}


def _same(array, other):
    """Whether two arrays are the same to the last bit; the second may be None."""
    if other is None or (array.dtype, array.shape) != (other.dtype, other.shape):
        return False
    return array.tobytes() == other.tobytes()


def _as(array, like):
    """Return an array as a tensor like another, also in its layout, such as channels_last.

    Sums over another layout round differently.
    """
    tensor = torch.from_numpy(array.copy()).to(like)
    return torch.empty_like(like).copy_(tensor) if like.shape == tensor.shape else tensor


def check_complete(recipe, network, X, seed):
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
        loaded = network_from_state(recipe, network_to_state(network), seed)
        if not torch.equal(outputs, forward(loaded.base)):
            raise InvalidNetworkError(
                "Training changed something in the module that is neither a parameter nor a "
                "buffer, so that it would be lost with every copy. Register such tensors with "
                "self.register_buffer(name, tensor), and leave weights their shapes."
            )
