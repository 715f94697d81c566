"""What the rooms hand each other, as types: ids of tasks, and kinds of target."""

from typing import Any, ClassVar, Protocol, Self

from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn

TaskId = int | str


class Target(Protocol):
    """What the outputs of a network mean for one task; see `_targets.py`."""

    noun: ClassVar[str]
    shown: ClassVar[tuple[str, str, str]]

    @classmethod
    def made_up(cls, n_outputs: int) -> Self:
        """Return the target of a task that nobody has."""

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the target that `to_state` was asked for; take its entries out."""

    @property
    def n_outputs(self) -> int:
        """Outputs that the head needs."""

    def check_outputs(self, recipe: NeuralNet, outputs: Any) -> None:
        """Refuse or question outputs that are not what is asked for."""

    def check_loss(self, criterion: nn.Module, task_id: TaskId) -> None:
        """Refuse a loss that does not fit this task."""

    def curvature_loss(self, net: NeuralNet, outputs: Any, y: Any, x: Any) -> Any:
        """Return a scalar whose squared gradient stands for the Hessian, or None."""

    def decoded(self, outputs: NDArray[Any], net: NeuralNet) -> NDArray[Any]:
        """Return what a net's outputs say."""

    def finished(self, module: nn.Module, head: str, trial: Any) -> nn.Module:
        """Return a task's module as it is given away."""

    def summary(self) -> dict[str, int]:
        """Return what a report says of the target."""

    def names(self) -> list[Any]:
        """Return what each output means."""

    def to_state(self) -> dict[str, Any]:
        """Return arrays and settings to save."""

    def check(self) -> None:
        """Refuse what no task has; it may have come from a file."""

    def shown_beside_others(self) -> dict[str, Any] | None:
        """Return what a prediction for other tasks shows of this one, to save; None if nothing."""

    @staticmethod
    def joined(several: Any) -> Any:
        """Return what the targets of several tasks are together."""
