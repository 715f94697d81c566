"""What is done around the steps of an optimizer, whoever asks for them.

A net may take its steps in its own way: after several batches, with scaled gradients, twice
for one batch, by several optimizers. What has to be done at every step hangs on the
optimizers themselves.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from skorch.callbacks import Callback
from torch.optim import LBFGS, Optimizer


class AtSteps(Callback):
    """A callback that also acts at every step."""

    def before_loss(self, optimizer: Optimizer) -> None:
        """Act before the loss of a step is computed, if the optimizer computes it.

        It may do so several times in a step. Otherwise this comes right before `before_step`.
        """

    def before_step(self, optimizer: Optimizer) -> None:
        """Act when the gradients are those that the optimizer will use."""

    def after_step(self, optimizer: Optimizer) -> None:
        """Act when the parameters have been moved."""

    def value(self) -> float:
        """Return what it adds to the loss, where it changes gradients."""
        return 0.0


def attend(
    optimizer: Optimizer, callbacks: Iterable[Any], attended: dict[int, tuple[Optimizer, Any]]
) -> None:
    """Let those of the callbacks that act at steps take part in every step of an optimizer.

    Where one has others inside, as with an accelerator or where steps are sharpness-aware,
    the steps are theirs.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    callbacks : sequence of skorch callbacks
    attended : dict of int to tuple
        By id, the optimizers for which this is done, each with its hooks; is added to.
    """
    if id(optimizer) in attended:
        return
    inside = [value for value in vars(optimizer).values() if isinstance(value, Optimizer)]
    for each in inside:
        attend(each, callbacks, attended)
    actions = [callback for callback in callbacks if isinstance(callback, AtSteps)]
    hooks = Attending(optimizer, actions) if actions and not inside else None
    attended[id(optimizer)] = optimizer, hooks


class Attending:
    """The hooks by which actions take part in every step of an optimizer.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    actions : sequence of AtSteps
    """

    def __init__(self, optimizer: Optimizer, actions: Sequence[AtSteps]) -> None:
        self.actions = actions
        self.forget()
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def forget(self) -> None:
        """Forget a step that came to no end."""
        self.depth = 0  # torch calls hooks again where a step calls that of the class above

    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self.depth += 1
        if self.depth > 1:
            return None
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is not None:
            return args[:1], {**kwargs, "closure": partial(self._computed, optimizer, closure)}
        self._computed(optimizer)
        return None

    def _computed(self, optimizer: Optimizer, closure: Callable[[], Any] = lambda: None) -> Any:
        for action in self.actions:
            action.before_loss(optimizer)
        loss = closure()
        for action in self.actions:
            action.before_step(optimizer)
        if isinstance(optimizer, LBFGS):  # it compares losses
            loss = loss + sum(action.value() for action in self.actions)
        return loss

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.depth -= 1
        if self.depth == 0:
            for action in self.actions:
                action.after_step(optimizer)
