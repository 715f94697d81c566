"""Which tensors of a network are perturbed, which belong to a task, which are shared."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from sklearn_halrp._head import head_tensors
from sklearn_halrp._modules import locate
from sklearn_halrp.exceptions import InvalidNetworkError

_PERTURBED = (nn.Linear, nn.modules.conv._ConvNd)
_SHARED = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class Partition:
    """The role of every tensor of a network, by name.

    Attributes
    ----------
    head : str
        Name of the head, a linear layer.
    perturbed : tuple of str
        Weights that a task replaces by a scaled and low-rank perturbed version.
    own : tuple of str
        Tensors that a task keeps in full: the head, biases, normalisation parameters,
        and buffers such as running statistics.
    shared : tuple of str
        Tensors trained with the base and then left as they are: embeddings.
    frozen : tuple of str
        Parameters that the user's module does not train.
    aliases : dict of str to tuple of str
        Other names of a tensor, where weights are tied.
    """

    head: str
    perturbed: tuple[str, ...]
    own: tuple[str, ...]
    shared: tuple[str, ...]
    frozen: tuple[str, ...]
    aliases: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, head: str, aliases: dict[str, Any], **roles: Iterable[str]) -> Self:
        """Return a partition from any sequences of names."""
        aliases = {name: tuple(others) for name, others in aliases.items()}
        return cls(head, aliases=aliases, **{role: tuple(names) for role, names in roles.items()})

    @property
    def head_weight(self) -> str:
        """Name of the head's weight."""
        return f"{self.head}.weight" if self.head else "weight"

    def every_role(self) -> tuple[str, ...]:
        """Return the names of all tensors, each with one role."""
        return (*self.perturbed, *self.own, *self.shared, *self.frozen)

    def every_name(self, name: str) -> tuple[str, ...]:
        """Return all the names that a tensor goes by."""
        return (name, *self.aliases.get(name, ()))


def partition(module: nn.Module, head: str) -> Partition:
    """Give every tensor of a module its role.

    Parameters
    ----------
    module : torch.nn.Module
    head : str
        Name of the head within the module.

    Returns
    -------
    Partition

    Raises
    ------
    InvalidNetworkError
        If nothing is left to perturb.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    >>> roles = partition(net, head="2")
    >>> roles.perturbed
    ('0.weight',)
    >>> roles.own[:3]
    ('0.bias', '1.weight', '1.bias')
    """
    head_layer = module.get_submodule(head)
    in_head = set(head_tensors(head, head_layer))
    roles: dict[str, list[str]] = {"perturbed": [], "own": [], "shared": [], "frozen": []}
    first_name: dict[int, str] = {}
    aliases: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if locate(module, name)[0] is head_layer:
            if name in in_head:  # by its other names it is replaced with the layer
                roles["own"].append(name)
        elif id(parameter) in first_name:
            aliases.setdefault(first_name[id(parameter)], []).append(name)
        else:
            first_name[id(parameter)] = name
            roles[_role(module, name, parameter)].append(name)
    for name, buffer in module.named_buffers(remove_duplicate=False):
        if id(buffer) in first_name:
            aliases.setdefault(first_name[id(buffer)], []).append(name)
        else:
            first_name[id(buffer)] = name
            roles["own"].append(name)
    if not roles["perturbed"]:
        empty = [name for name, p in module.named_parameters() if not p.numel()]
        raise InvalidNetworkError(
            "The network has nothing to perturb: besides its head "
            f"({head!r}) it needs at least one trainable linear or convolution weight. "
            "Add a hidden layer, or unfreeze one (requires_grad=True)."
            + (f" {empty[0]} is empty: give its layer a width above 0." if empty else "")
        )
    return Partition.of(head, aliases, **roles)


def _role(module: nn.Module, name: str, parameter: torch.Tensor) -> str:
    owner, _ = locate(module, name)
    if not parameter.requires_grad:
        return "frozen"
    if isinstance(owner, _SHARED):
        if owner.max_norm is not None:
            raise InvalidNetworkError(
                f"{name} has max_norm={owner.max_norm}, with which an embedding changes whenever "
                "it is read, so no task could keep its predictions. Use it without max_norm."
            )
        return "shared"
    if (
        parameter.dim() < 2
        or not parameter.numel()
        or parameter.is_complex()
        or isinstance(owner, _NORMS)
    ):
        return "own"
    if isinstance(owner, _PERTURBED):
        return "perturbed"
    # Any other matrix, such as a recurrent weight: perturbed where one rank-1 term and the
    # scales cost less than a copy of it would. A class token or a table of positions with a
    # leading axis of 1 is no matrix.
    rows, columns = parameter.shape[:2]
    worthwhile = min(rows, columns) > 1 and 2 * (rows + columns) < parameter.numel()
    return "perturbed" if worthwhile else "own"
