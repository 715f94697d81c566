"""Whether the copies of a module compute with weights of their own.

Every task is a copy of the user's module in which other weights stand. A copy has its own
layers, but the functions in it are those of the original: one that was made in ``__init__``,
such as a closure or a lambda, still holds the layer that it was made with.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from sklearn_halrp._faults import let_through
from sklearn_halrp._modules import ValuesOfActivations, named_tensors, same
from sklearn_halrp._turns import Turn
from sklearn_halrp.exceptions import InvalidNetworkError

_CURE = (
    " Each task is a copy of the module with other weights, and a function made in __init__ (a "
    "closure, a lambda) keeps the layer that it was made with. Write it as a method (self.keep), "
    "as a layer with a forward of its own, or as a hook that uses the layer it is handed."
)


# While other values are tried in a user's module, no other thread may copy it.
_ORIGINALS = Turn()


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a module that shares nothing with it.

    Raises
    ------
    InvalidNetworkError
        If something in the module cannot be copied, or says that it is its own copy.
    """
    try:
        with _ORIGINALS.taken(), ValuesOfActivations():
            clone = copy.deepcopy(module)
    except Exception as error:  # such as those of a user's own __deepcopy__
        let_through(error)
        raise InvalidNetworkError(
            f"{_what_cannot_be_copied(module)} cannot be copied ({type(error).__name__}: {error}), "
            "and each task is a copy of the module. Make locks, open files, generators and the "
            "like where they are used, or keep them outside of the module."
        ) from error
    known = set(map(id, module.modules()))
    for name, part in clone.named_modules():
        if id(part) in known:
            raise InvalidNetworkError(
                f"{name or 'The module'} is not copied with the module: its __deepcopy__ gives the "
                "layer itself, so that every task would change it. Leave __deepcopy__ out."
            )
    return clone


def _what_cannot_be_copied(module: nn.Module) -> str:
    """Return the name of the first attribute that is to blame."""
    parts = {id(part): part for part in module.modules()}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                with ValuesOfActivations():
                    copy.deepcopy(value, dict(parts))
            except Exception as error:
                let_through(error)
                return f"The module's attribute {f'{name}.{key}' if name else key}"
    return "The module"


def check_copies(
    module: nn.Module, forward: Callable[..., Any], users: nn.Module | None = None
) -> set[str]:
    """Refuse a module whose copies compute with other weights than their own.

    The module is applied in evaluation mode alone, so that its statistics stay.

    Parameters
    ----------
    module : torch.nn.Module
    forward : callable
        Takes a module, whether it is in training, and whether gradients are wanted (by default);
        returns its outputs, with the same random numbers each time.
    users : torch.nn.Module, optional
        The instance that the module is a copy of.

    Returns
    -------
    set of str
        The parameters that the outputs depend on, in training or else.

    Raises
    ------
    InvalidNetworkError
        If something in the module cannot be copied, or a copy does not use its own tensors.
    """
    used = _used(module, forward(module, False), users)
    clone = copied(module)
    every = set(used)
    with unchanged_by_copies(module):
        for training in (False, True):
            module.train(training)  # it is not applied, but a layer of it would show
            try:
                outputs = forward(clone, training)
            except Exception as error:
                let_through(error)
                if training:  # such as a batch normalisation of one row: training will say it
                    break
                raise InvalidNetworkError(
                    "A copy of the module cannot be applied, as the module itself can: "
                    f"{type(error).__name__}: {error}.{_CURE}"
                ) from error
            found = _used(clone, outputs, module)
            if not training and used - found:
                raise InvalidNetworkError(
                    f"The module uses its {min(used - found)}, and a copy of it does not.{_CURE}"
                )
            every |= found
            # Without gradients, but in training: a module may ask for one there.
            _check_values(partial(forward, clone, training, training), module, users)
    module.eval()
    return every


def _used(module: nn.Module, outputs: Any, original: nn.Module | None = None) -> set[str]:
    """Return the names of the parameters in the graph of the outputs.

    Those of the original of a copy may not be among them.
    """
    leaves = _leaves(outputs)
    if original is not None:
        for name, parameter in original.named_parameters():
            if id(parameter) in leaves:
                raise InvalidNetworkError(
                    f"A copy of the module computes with {name} of the original, not with its "
                    f"own.{_CURE}"
                )
    return {name for name, parameter in module.named_parameters() if id(parameter) in leaves}


def _check_values(forward: Callable[[], Any], *originals: nn.Module | None) -> None:
    """Refuse a copy whose outputs, as given by ``forward()``, move with an original's values.

    A weight that is read without gradients (``.detach()``, ``.data``) is in no graph.
    """
    tensors = [
        (name, tensor)
        for original in originals
        if original is not None
        for name, tensor in named_tensors(original).items()
    ]

    def moved(chosen: list[tuple[str, torch.Tensor]]) -> bool:
        before = _values(forward())
        try:
            with _ORIGINALS.taken(), _other_values([tensor for _, tensor in chosen]):
                after = _values(forward())
        except Exception as error:  # such as of a distribution with a negative scale
            let_through(error)
            return True
        # What computes something else each time, as in training, says nothing.
        return not _equal(after, before) and _equal(_values(forward()), before)

    if moved(tensors):
        to_blame = (name for name, tensor in tensors if moved([(name, tensor)]))
        raise InvalidNetworkError(
            f"A copy of the module computes with {next(to_blame, 'weights')} of the original, not "
            f"with its own.{_CURE}"
        )


def _values(outputs: Any) -> list[torch.Tensor]:
    return [x.detach().clone() for x in tree_leaves(outputs) if isinstance(x, torch.Tensor)]


def _equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(map(same, some, others))


@contextmanager
def _other_values(tensors: list[torch.Tensor]) -> Iterator[None]:
    """Change tensors in place, all that share their memory too, and restore their bits after.

    Integers stay, since they may be indices. By ``.data``, so that no graph of the user's that
    waits for its backward pass takes notice; in inference mode, since tensors may be of one.
    """
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.inference_mode():
            for tensor in tensors:
                if tensor.layout is not torch.strided:
                    continue
                # One entry of those that an expanded tensor shows many times.
                once = tensor.data[tuple(slice(None if s else 1) for s in tensor.stride())]
                if once.is_floating_point() or once.is_complex() or once.dtype is torch.bool:
                    before.append((once, once.clone()))
            for once, value in before:  # after all are kept: some may share memory
                once.copy_(~value if value.dtype is torch.bool else _another(value))
        yield
    finally:
        try:
            _put_back(before)
        except BaseException:  # an interruption may come just now, and the module is the user's
            _put_back(before)
            raise


@torch.inference_mode()
def _put_back(values: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for tensor, value in values:
        tensor.copy_(value)


def _another(value: torch.Tensor) -> torch.Tensor:
    """Return other numbers, with another sign, order and norm."""
    return 0.37 - 2 * (value if value.is_complex() else value.float())


def _leaves(outputs: Any) -> dict[int, torch.Tensor]:
    """Return the tensors, by id, at the ends of the graph of some outputs."""
    tensors = [x for x in tree_leaves(outputs) if isinstance(x, torch.Tensor)]
    leaves = {id(x): x for x in tensors if x.requires_grad and x.is_leaf}
    seen: set[Any] = set()
    nodes: list[Any] = [x.grad_fn for x in tensors]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        if type(node).__name__ == "AccumulateGrad":
            leaves[id(node.variable)] = node.variable
    return leaves


@contextmanager
def unchanged_by_copies(original: nn.Module | None) -> Iterator[None]:
    """Refuse, and undo, what a copy of a module does to the buffers of the original.

    Parameters
    ----------
    original : torch.nn.Module or None

    Raises
    ------
    InvalidNetworkError
        After the ``with`` block, if a buffer has changed.
    """
    buffers = {} if original is None else dict(original.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    changed: list[str] = []

    def put_back() -> None:
        for name, buffer in buffers.items():
            if not same(buffer, before[name]):
                with torch.no_grad():
                    buffer.copy_(before[name])
                changed.append(name)

    try:
        yield
    finally:
        try:
            put_back()
        except BaseException:  # as in _other_values
            put_back()
            raise
    if changed:
        raise InvalidNetworkError(
            f"Applying a copy of the module changes {changed[0]} of the original.{_CURE}"
        )
