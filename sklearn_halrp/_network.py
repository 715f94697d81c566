"""The frozen base and its tasks, and a plain torch module for any of them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from sklearn_halrp._low_rank import Factors, effective_weight
from sklearn_halrp._modules import copy_with, get_tensor, locate, named_tensors
from sklearn_halrp._partition import Partition
from sklearn_halrp._task import StoredFactors, Task
from sklearn_halrp._types import TaskId


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor as an array in main memory, a copy of its own."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:  # numpy has none; float32 holds it exactly
        tensor = tensor.float()
    return tensor.numpy().copy()


@dataclass(frozen=True)
class Network:
    """A base network and what every task changes in it.

    Nothing in it is ever changed in place: learning gives a new `Network` that shares
    the base and the other tasks with the old one.

    Attributes
    ----------
    base : torch.nn.Module
        The user's module with the weights of the base.
    roles : Partition
    form : {"channel", "unfolded"}
        How low-rank terms are spread over convolution kernels.
    tasks : dict of task id to Task
        In order of learning.
    frozen : bool
        Whether the base is final. It is not while it has one task alone, the one that
        it was trained on.
    dense : bool
        Whether perturbed weights must be formed for training.
    """

    base: nn.Module
    roles: Partition
    form: str
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    frozen: bool = False
    dense: bool = False

    def with_task(self, task_id: TaskId, task: Task) -> "Network":
        """Return a network in which this task is learned and all else is as here.

        From then on the base is frozen.
        """
        return replace(self, tasks={**self.tasks, task_id: task}, frozen=True)

    def without_task(self, task_id: TaskId) -> "Network":
        """Return a network in which this task was never learned, on the same base.

        The base's own head is cleared, unless another task uses it.
        """
        tasks = {name: task for name, task in self.tasks.items() if name != task_id}
        network = replace(self, tasks=tasks, frozen=True)
        if self.has_cleared_head or any(network.uses_base_head(task) for task in tasks.values()):
            return network
        return network.with_cleared_head()

    def uses_base_head(self, task: Task) -> bool:
        """Whether a task's head is, in part or whole, that of the base, or has part in it.

        The tasks of a joint base have: theirs is the mean.
        """
        return not set(self.in_head) <= set(task.own) or "joint" in task.report.get("seconds", {})

    @property
    def in_head(self) -> tuple[str, ...]:
        """Names of the tensors of the head: its weight, and its bias if it has one."""
        head = self.base.get_submodule(self.roles.head)
        return tuple(name for name in self.roles.own if locate(self.base, name)[0] is head)

    @property
    def has_cleared_head(self) -> bool:
        """Whether the base has zeros for a head."""
        return not any(get_tensor(self.base, name).any() for name in self.in_head)

    @torch.inference_mode(False)
    def with_cleared_head(self) -> "Network":
        """Return a network whose base has zeros for a head."""
        cleared = {name: torch.zeros_like(get_tensor(self.base, name)) for name in self.in_head}
        return replace(self, base=self.module_with(cleared, trainable=False).eval())

    def without_tasks(self) -> "Network":
        """Return a network that knows no task, on the same frozen base."""
        return replace(self, tasks={}, frozen=True)

    def trains_base(self, task_id: TaskId) -> bool:
        """Whether learning this task means to train the base."""
        return not self.frozen and set(self.tasks) <= {task_id}

    @property
    def n_numbers(self) -> int:
        """Numbers that the base stores."""
        return sum(tensor.numel() for tensor in named_tensors(self.base).values())

    @property
    def n_bytes(self) -> int:
        """Bytes that the base stores."""
        return sum(t.numel() * t.element_size() for t in named_tensors(self.base).values())

    def own_of_base(self) -> dict[str, torch.Tensor]:
        """Return the tensors that belong to a task, as the base has them, by name."""
        return {name: get_tensor(self.base, name).detach() for name in self.roles.own}

    def own(self, task: Task) -> dict[str, torch.Tensor]:
        """Return the tensors that belong to a task, by name, on the base's device."""
        return self._own_from(task.own)

    def _own_from(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
        changed = {name: self._stored(array, name) for name, array in arrays.items()}
        return {**self.own_of_base(), **changed}

    def factors(self, task: Task) -> dict[str, Factors]:
        """Return the dense factors of a task, by weight, on the base's device."""
        return self._factors_from(task.factors)

    def _factors_from(self, several: Mapping[str, StoredFactors]) -> dict[str, Factors]:
        return {
            name: Factors(
                r=self._stored(stored.r, name),
                s=self._stored(stored.s, name),
                u=self._stored(stored.u.dense(), name),
                v=self._stored(stored.v.dense(), name),
            )
            for name, stored in several.items()
        }

    def _stored(self, array: NDArray[Any], name: str) -> torch.Tensor:
        like = get_tensor(self.base, name)
        writable = array if array.flags.writeable else array.copy()  # of a file, torch warns
        return torch.from_numpy(writable).to(like)

    def fixed(self) -> dict[str, torch.Tensor]:
        """Return copies of the tensors that no task may change, as frozen parameters.

        Callbacks can reach the parameters of a module in training, whatever they ask for.
        """
        return {
            name: nn.Parameter(get_tensor(self.base, name).detach().clone(), requires_grad=False)
            for name in (*self.roles.shared, *self.roles.frozen)
        }

    @torch.inference_mode(False)
    def module_for(self, task: Task) -> nn.Module:
        """Return a plain module of the user's class that computes this task.

        Its effective weights are merged; what the task does not change is shared with
        the base. Its parameters ask for no gradient.
        """
        parameters = dict(self.base.named_parameters())
        # A module may change its buffers even in evaluation mode: give it its own.
        arrays, stored = task.parts()
        own = self._own_from(arrays)
        tensors = {n: t if n in parameters else t.clone() for n, t in own.items()}
        for name, factors in self._factors_from(stored).items():
            weight = get_tensor(self.base, name).detach()
            tensors[name] = effective_weight(weight, factors, self.form)
        return self.module_with(tensors, trainable=False).eval()

    def base_alone(self) -> nn.Module:
        """Return a plain module that computes the base, with buffers of its own."""
        own = {name: tensor.clone() for name, tensor in self.own_of_base().items()}
        return self.module_with(own, trainable=False).eval()

    @torch.inference_mode(False)  # its tensors may be trained later
    def standalone(self, task: Task) -> nn.Module:
        """Return a module for this task that shares no tensor with the base."""
        module = copy.deepcopy(self.module_for(task))
        frozen = set(self.roles.frozen)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in frozen)
        return module

    def module_with(self, tensors: Mapping[str, torch.Tensor], trainable: bool = True) -> nn.Module:
        """Return a copy of the base with some tensors replaced.

        Parameters
        ----------
        tensors : dict of str to tensor
            By one of its names each. Plain tensors become parameters or buffers, as the
            base has it; parameters and perturbed weights are put in as they are.
        trainable : bool
            Whether the parameters put in ask for a gradient.
        """
        parameters = dict(self.base.named_parameters(remove_duplicate=False))
        every: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            if name in parameters and type(tensor) is torch.Tensor:
                tensor = nn.Parameter(tensor, requires_grad=trainable)
            every |= dict.fromkeys(self.roles.every_name(name), tensor)
        module = copy_with(self.base, every)
        head: Any = module.get_submodule(self.roles.head)
        head.out_features = head.weight.shape[0]
        return module

    def changed(self, module: nn.Module) -> dict[str, NDArray[Any]]:
        """Return the own tensors of a trained module that differ from the base's."""
        different = {}
        for name in self.roles.own:
            tensor, base = get_tensor(module, name), get_tensor(self.base, name)
            if tensor.shape != base.shape or not torch.equal(tensor, base):
                different[name] = to_array(tensor)
        return different
