"""What this package adds to a skorch training run, as callbacks of its own."""

from collections.abc import Iterable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch.optim import Optimizer

from sklearn_halrp._low_rank import Factors
from sklearn_halrp._network import to_array
from sklearn_halrp._predictive import broken_rows, first_of
from sklearn_halrp._pruning import cut_to_fit
from sklearn_halrp._steps import AtSteps
from sklearn_halrp._types import TaskId
from sklearn_halrp.exceptions import TrainingDivergedError


class FactorPenalty(AtSteps):
    """Add the gradient of the penalties on a perturbation, once for each step.

    The loss gains ``l1 (|U| + |V|) + l2 / 2 (|r|^2 + |s|^2 + |U|^2 + |V|^2)``, where
    ``|.|`` is the sum of magnitudes and ``|.|^2`` the sum of squares; the gradient is
    added directly, so the loss that is shown stays the loss of the data. Where the optimizer
    computes the loss, as in skorch, it is added before callbacks that clip gradients see them;
    otherwise right before the step, when the net has summed, unscaled and clipped as it likes.
    An optimizer that computes the loss several times in a step gets it in each gradient, and
    LBFGS, which compares losses, gets their sum.

    Parameters
    ----------
    factors : iterable of Factors
    l1, l2 : float

    References
    ----------
    arXiv:2311.15161, section 4.4.
    """

    def __init__(self, factors: Iterable[Factors], l1: float, l2: float) -> None:
        self.weights = [(t, 0.0, l2) for r, s, _, _ in factors for t in (r, s)]
        self.weights += [(t, l1, l2) for _, _, u, v in factors for t in (u, v)]
        self.due: Optimizer | None = None

    def before_loss(self, optimizer: Optimizer) -> None:
        """Note that a step needs gradients."""
        self.due = optimizer

    def on_grad_computed(self, net: NeuralNet, named_parameters: Any, **kwargs: Any) -> None:
        """Change the gradients before other callbacks see them."""
        self._add()

    def before_step(self, optimizer: Optimizer) -> None:
        """Change the gradients, if that is not done yet."""
        self._add()

    @torch.no_grad()
    def value(self) -> float:
        """Return the penalties."""
        return sum(
            l1 * float(tensor.abs().sum()) + l2 / 2 * float(tensor.square().sum())
            for tensor, l1, l2 in self.weights
        )

    @torch.no_grad()
    def _add(self) -> None:
        optimizer, self.due = self.due, None
        if optimizer is None:
            return
        moved = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        scale = getattr(optimizer, "grad_scale", None)  # of gradients that it unscales itself
        scale = 1.0 if scale is None else float(scale)
        for tensor, l1, l2 in self.weights:
            if tensor.grad is None or id(tensor) not in moved:
                continue
            if l2:
                tensor.grad.add_(tensor, alpha=scale * l2)
            if l1:
                tensor.grad.add_(tensor.sign(), alpha=scale * l1)


class FactorRate(AtSteps):
    """Give U and V a learning rate of their own, at every step.

    The groups of the optimizer are divided for the step alone: what sets rates, such as a
    schedule, finds the groups of the net, and its rate is the one that is scaled.

    Parameters
    ----------
    factors : iterable of Factors
    scale : float
        Their learning rate over that of the group they were in.
    """

    def __init__(self, factors: Iterable[Factors], scale: float) -> None:
        self.parameters = {id(tensor) for _, _, u, v in factors for tensor in (u, v)}
        self.scale = scale

        self.whole: list[Any] = []

    def before_loss(self, optimizer: Optimizer) -> None:
        """Join the groups, for the callbacks that a net calls when it has computed a loss."""
        self.after_step(optimizer)

    def before_step(self, optimizer: Optimizer) -> None:
        """Divide the groups."""
        if self.scale == 1:
            return
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError(
                f"factor_lr_scale is {self.scale}, and LBFGS has one learning rate for all "
                "parameters. Leave factor_lr_scale at 1, or give the net another optimizer."
            )
        for group in list(optimizer.param_groups):
            factors = [p for p in group["params"] if id(p) in self.parameters]
            if not factors:
                continue
            others = [p for p in group["params"] if id(p) not in self.parameters]
            self.whole.append((group, group["params"], group["lr"] if not others else None))
            faster = {"params": factors, "lr": self.scale * group["lr"]}
            if others:
                group["params"] = others
                optimizer.param_groups.append({**group, **faster})
            else:
                group.update(faster)

    def after_step(self, optimizer: Optimizer) -> None:
        """Join the groups."""
        for group, params, rate in self.whole:
            if rate is None:
                optimizer.param_groups.pop()
            else:
                group["lr"] = rate
            group["params"] = params
        self.whole = []


class PruneAndHold(AtSteps):
    """Prune U and V to the growth budget in mid-training, and hold at zero what went.

    The epochs that follow mend what the pruning did.

    Parameters
    ----------
    factors : iterable of Factors
    max_numbers : int
        Most entries of all U and V together that may be left.
    after : int
        How many epochs come before it.
    """

    def __init__(self, factors: Iterable[Factors], max_numbers: int, after: int) -> None:
        self.tensors = [tensor for _, _, u, v in factors for tensor in (u, v)]
        self.max_numbers = max_numbers
        self.after = after
        self.epoch = 0
        self.gone: list[torch.Tensor] = []

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin with all entries."""
        self.epoch, self.gone = 0, []

    @torch.no_grad()
    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Prune when it is time."""
        if self.epoch == self.after:
            cut = self._cut()
            if cut:
                self.gone = [tensor.abs() <= cut for tensor in self.tensors]
                self._hold()
        self.epoch += 1

    def hasten(self) -> bool:
        """Prune before the next epoch, if there is anything to prune; return whether there is."""
        if self.epoch > self.after or not self._cut():
            return False
        self.after = self.epoch
        return True

    def _cut(self) -> float:
        return cut_to_fit([to_array(tensor) for tensor in self.tensors], self.max_numbers)

    def after_step(self, optimizer: Optimizer) -> None:
        """Undo what the optimizer did to pruned entries."""
        self._hold()

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Undo what was done to them apart from steps, such as by a mean of weights."""
        if training:
            self._hold()

    @torch.no_grad()
    def _hold(self) -> None:
        for tensor, gone in zip(self.tensors, self.gone, strict=False):  # none before pruning
            tensor.masked_fill_(gone, 0)


class StopIfDiverged(Callback):
    """Raise as soon as a training loss is NaN or infinite.

    Parameters
    ----------
    task_id : int or str
    phase : str
    """

    def __init__(self, task_id: TaskId, phase: str) -> None:
        self.task_id = task_id
        self.phase = phase
        self.stepped = False

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin with weights that are finite."""
        self.stepped = False

    def on_batch_end(
        self,
        net: NeuralNet,
        training: bool = False,
        loss: Any = None,
        y_pred: Any = None,
        **kwargs: Any,
    ) -> None:
        """Look at the loss of every training batch."""
        if not training:
            return
        if not torch.isfinite(loss).all():
            what, cure = f"the loss became {loss.item()}", ""
            broken = self._broken(net, first_of(y_pred))
            if broken:
                what += f", since {broken} are NaN or infinite"
                cure = (
                    "Look in the module for a division by 0, such as by the norm of an empty row, "
                    "or a logarithm of 0. "
                )
            raise diverged(self.task_id, self.phase, what, cure)
        self.stepped = True

    def _broken(self, net: NeuralNet, outputs: Any) -> str:
        """Return which outputs are not finite, if it may be for the rows and not for the weights.

        Weights that are not finite break all rows. After the step they are no witness: a loss
        that is NaN has made them so, and they were finite only before the first step.
        """
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            return ""
        rows = broken_rows(outputs.detach())
        count = int(rows.sum())
        finite = not self.stepped or all(torch.isfinite(p).all() for p in net.module_.parameters())
        if not count or (count == len(rows) and not finite):
            return ""
        return f"the module's outputs for {count} of the {len(rows)} rows in a batch"


def diverged(task_id: TaskId, phase: str, what: str, cure: str = "") -> TrainingDivergedError:
    """Return the error for a training that went wrong, with the usual cures after those given."""
    return TrainingDivergedError(
        f"Training task {task_id!r} diverged in the {phase} phase: {what}. Nothing of "
        f"this call was kept. {cure}Lower the learning rate (net__lr), scale the features, or "
        "clip gradients with skorch.callbacks.GradientNormClipping."
    )


class ShowProgress(Callback):
    """Move a progress bar by one step per epoch.

    Parameters
    ----------
    bar : tqdm.tqdm
    phase : str
    """

    def __init__(self, bar: Any, phase: str) -> None:
        self.bar = bar
        self.phase = phase

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Show the epoch's losses and accuracy."""
        row = net.history[-1]
        shown = {k: f"{row[k]:.3f}" for k in ("train_loss", "valid_loss", "valid_acc") if k in row}
        self.bar.set_postfix({"phase": self.phase, **shown}, refresh=False)
        self.bar.update(1)
