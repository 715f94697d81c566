"""What this package adds to a skorch training run, as callbacks of its own."""

import torch
from skorch.callbacks import Callback

from sklearn_halrp._network import to_array
from sklearn_halrp._pruning import cut_to_fit
from sklearn_halrp.exceptions import TrainingDivergedError


class FactorPenalty(Callback):
    """Add the gradient of the penalties on a perturbation.

    The loss gains ``l1 (|U| + |V|) + l2 / 2 (|r|^2 + |s|^2 + |U|^2 + |V|^2)``, where
    ``|.|`` is the sum of magnitudes and ``|.|^2`` the sum of squares; the gradient is
    added directly, so the loss that is shown stays the loss of the data.

    Parameters
    ----------
    factors : iterable of Factors
    l1, l2 : float

    References
    ----------
    arXiv:2311.15161, section 4.4.
    """

    def __init__(self, factors, l1, l2):
        self.factors = tuple(factors)
        self.l1 = l1
        self.l2 = l2

    @torch.no_grad()
    def on_grad_computed(self, net, named_parameters, **kwargs):
        """Change the gradients before the optimizer sees them."""
        for r, s, u, v in self.factors:
            for tensor in (r, s, u, v):
                if tensor.grad is not None and self.l2:
                    tensor.grad.add_(tensor, alpha=self.l2)
            for tensor in (u, v):
                if tensor.grad is not None and self.l1:
                    tensor.grad.add_(tensor.sign(), alpha=self.l1)


class FactorRate(Callback):
    """Give U and V a learning rate of their own.

    They become groups of the optimizer beside those of the net, with the same settings, so
    that schedules act on them as on all others.

    Parameters
    ----------
    factors : iterable of Factors
    scale : float
        Their learning rate over that of the group they were in.
    """

    def __init__(self, factors, scale):
        self.parameters = {id(tensor) for _, _, u, v in factors for tensor in (u, v)}
        self.scale = scale

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Divide the groups, before schedules look at them."""
        if self.scale == 1:
            return
        optimizer = net.optimizer_
        for group in list(optimizer.param_groups):
            factors = [p for p in group["params"] if id(p) in self.parameters]
            if not factors:
                continue
            group["params"] = [p for p in group["params"] if id(p) not in self.parameters]
            optimizer.add_param_group({**group, "params": factors, "lr": self.scale * group["lr"]})


class PruneAndHold(Callback):
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

    def __init__(self, factors, max_numbers, after):
        self.tensors = [tensor for _, _, u, v in factors for tensor in (u, v)]
        self.max_numbers = max_numbers
        self.after = after

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin with all entries."""
        self.epoch, self.gone = 0, []

    @torch.no_grad()
    def on_epoch_begin(self, net, **kwargs):
        """Prune when it is time."""
        if self.epoch == self.after:
            cut = cut_to_fit([to_array(tensor) for tensor in self.tensors], self.max_numbers)
            if cut:
                self.gone = [tensor.abs() <= cut for tensor in self.tensors]
                self._hold()
        self.epoch += 1

    def on_batch_end(self, net, training=False, **kwargs):
        """Undo what the optimizer did to pruned entries."""
        if training and self.gone:
            self._hold()

    @torch.no_grad()
    def _hold(self):
        for tensor, gone in zip(self.tensors, self.gone, strict=True):
            tensor.masked_fill_(gone, 0)


class StopIfDiverged(Callback):
    """Raise as soon as a training loss is NaN or infinite.

    Parameters
    ----------
    task_id : int or str
    phase : str
    """

    def __init__(self, task_id, phase):
        self.task_id = task_id
        self.phase = phase

    def on_batch_end(self, net, training=False, loss=None, **kwargs):
        """Look at the loss of every training batch."""
        if training and not torch.isfinite(loss).all():
            raise diverged(self.task_id, self.phase, f"the loss became {loss.item()}")


def diverged(task_id, phase, what):
    """Return the error for a training that went wrong, with the usual cures."""
    return TrainingDivergedError(
        f"Training task {task_id!r} diverged in the {phase} phase: {what}. Nothing of "
        "this call was kept. Lower the learning rate (net__lr), scale the features, or "
        "clip gradients with skorch.callbacks.GradientNormClipping."
    )


class ShowProgress(Callback):
    """Move a progress bar by one step per epoch.

    Parameters
    ----------
    bar : tqdm.tqdm
    phase : str
    """

    def __init__(self, bar, phase):
        self.bar = bar
        self.phase = phase

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch's losses and accuracy."""
        row = net.history[-1]
        shown = {k: f"{row[k]:.3f}" for k in ("train_loss", "valid_loss", "valid_acc") if k in row}
        self.bar.set_postfix({"phase": self.phase, **shown}, refresh=False)
        self.bar.update(1)
