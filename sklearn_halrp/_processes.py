"""One net that several processes train together, by skorch's AccelerateMixin.

Training is shared: each process computes its part of every step, and the gradients are
averaged. All the rest, such as validation, importance and predictions, each process does
by itself on all rows, so that all of them find, decide and keep the same.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from skorch import NeuralNet
from skorch.hf import AccelerateMixin
from torch.nn.parallel import DistributedDataParallel

from sklearn_halrp._modules import named_tensors


class Alone:
    """Stands in a net for its accelerator, and leaves things as they are.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    training : bool
        Whether it still prepares what is trained. Data it never prepares.
    """

    device_placement = False

    def __init__(self, accelerator: Any, training: bool = False) -> None:
        self.accelerator = accelerator
        self.training = training

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by pickle, before there is an accelerator
            raise AttributeError(name)
        return getattr(self.accelerator, name)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # copies of an accelerator lose track of each other

    @property
    def print(self) -> Callable[..., None]:
        """Python's own in the first process, where skorch heeds ``verbose``."""
        return print if self.accelerator.is_main_process else _print_nothing

    def prepare(self, thing: Any) -> Any:
        """Return what is trained ready for this training, all else as it is."""
        return self.accelerator.prepare(thing) if self.training and _trainable(thing) else thing

    def gather_for_metrics(self, output: Any) -> Any:
        """Return it as it is, since this process computed all of it."""
        return output


def _print_nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _trainable(thing: Any) -> bool:
    if isinstance(thing, torch.nn.Module):  # a loss has mostly no parameters to share
        return any(parameter.requires_grad for parameter in thing.parameters())
    return not isinstance(thing, torch.utils.data.DataLoader)


def is_shared(net: NeuralNet) -> bool:
    """Whether a net has an accelerator."""
    return isinstance(net, AccelerateMixin)


def alone(accelerator: Any) -> Alone:
    """Return what stands for this accelerator while a process works by itself."""
    return accelerator if isinstance(accelerator, Alone) else Alone(accelerator)


@contextmanager
def together(net: NeuralNet) -> Iterator[None]:
    """Let all processes of the accelerator of a net in a phase train it, if it has one.

    Inside, ``net.module_`` is what the accelerator makes of it; after, it is the same
    module as before, with the same values in every process.
    """
    if not is_shared(net):
        yield
        return
    module, accelerator = net.module_, net.accelerator.accelerator
    try:
        net.accelerator = Alone(accelerator, training=True)
        net.unwrap_after_train = False  # callbacks bring back the best weights after training
        net.phase_.accelerator = accelerator
        net._initialize_accelerator()
        yield
    finally:
        try:
            net._unwrap_accelerator()
            net.phase_.accelerator = None
            vars(module).pop("_is_accelerate_prepared", None)  # copies of it will be trained
            net.accelerator = Alone(accelerator)
        finally:
            accelerator.free_memory()  # the user's, and it holds on to all it has prepared
    for tensor in named_tensors(module).values():
        _copy_from_first(accelerator, tensor.detach())


def agreed_step(accelerator: Any, step: dict[str, Any]) -> dict[str, Any]:
    """Return a step with the loss of all processes, for callbacks to agree on."""
    return {**step, "loss": accelerator.reduce(step["loss"].detach(), "mean")}


def named_as_in_module(
    net: NeuralNet, parameters: Iterable[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and parameters for callbacks, by the names in the user's module."""
    for name, parameter in parameters:
        if isinstance(net.module_, DistributedDataParallel):
            name = name.removeprefix("module.")
        yield name, parameter


def agreed(net: NeuralNet, value: Any) -> Any:
    """Return the first process's value in every process that trains the net."""
    if is_shared(net) and net.accelerator.num_processes > 1:
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        value = values[0]
    return value


def from_first(net: NeuralNet, tensors: Iterable[torch.Tensor]) -> None:
    """Give tensors the values of the first process, in every process that trains the net."""
    if is_shared(net):
        for tensor in tensors:
            _copy_from_first(net.accelerator, tensor.detach())


def _copy_from_first(accelerator: Any, tensor: torch.Tensor) -> None:
    if accelerator.num_processes > 1:
        same = tensor.contiguous()
        torch.distributed.broadcast(same, src=0)
        tensor.copy_(same)
