"""Early stopping at the best epoch of a phase, with the weights of that epoch."""

from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn


class BestEpoch(EarlyStopping):
    """Stop when the held-out loss falls no more, and go back to the epoch where it was least.

    It works in every phase. Where the phase is to prune to a budget, the pruning comes first: what
    would end the phase before only brings the pruning forward, and from then on epochs count
    anew. Where nothing is held out, all epochs are trained.

    Parameters
    ----------
    patience : int
        Epochs without a lower loss.
    """

    pruned_: bool
    best_loss_: float
    best_: dict[str, torch.Tensor]

    def __init__(self, patience: int = 10) -> None:
        self.patience = patience  # skorch's own has more, and clones what it has

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin without a best epoch."""
        self.pruned_ = False
        self._begin()

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin anew with the epoch that begins with a pruning."""
        if not self.pruned_ and any(getattr(each, "gone", ()) for each in _before(net)):
            self.pruned_ = True
            self._begin()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the weights, or count an epoch without a lower loss."""
        loss = net.history[-1].get("valid_loss")
        if loss is None:
            return
        if loss < self.best_loss_:
            self.misses_, self.best_loss_ = 0, loss
            self.best_ = {
                name: t.detach().clone() for name, t in trained_tensors(net.module_).items()
            }
            return
        self.misses_ += 1
        if self.misses_ < self.patience:
            return
        self._restore(net)
        if any([each.hasten() for each in _before(net)]):
            self.misses_ = 0
        else:
            raise KeyboardInterrupt

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Go back to the best epoch."""
        self._restore(net)
        self.best_ = {}

    def _begin(self) -> None:
        self.misses_, self.best_loss_, self.best_ = 0, float("inf"), {}

    @torch.no_grad()
    def _restore(self, net: NeuralNet) -> None:
        now = trained_tensors(net.module_)
        for name, tensor in self.best_.items():
            now[name].copy_(tensor)


def _before(net: NeuralNet) -> list[Any]:
    """Return the callbacks that prune in this phase, if the net is in one."""
    phase = getattr(net, "phase_", None)
    return [] if phase is None else [c for c in phase.first if hasattr(c, "hasten")]


def trained_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that a training changes, by name: trained parameters, and buffers."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return {**trained, **dict(module.named_buffers())}
