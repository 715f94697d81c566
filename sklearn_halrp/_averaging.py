"""The mean of the last weights of a training, kept where it does better than the last ones."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_halrp._best_epoch import trained_tensors
from sklearn_halrp._processes import agreed
from sklearn_halrp._training import mean_loss

# Rows on which the two are compared.
ROWS = 1024
_WIDE = torch.float32  # that means of narrower numbers are taken in, at least


class MeanOfLast(Callback):
    """Take the mean of the last weights of a training, after each batch.

    Parameters
    ----------
    share : float
        Of all batches, how many the mean is over. The first epoch is never in it: it shows how
        many batches there are.
    epochs : int
        Of the training.
    after : int
        Epochs before the mean begins at least, such as those before a pruning.

    Attributes
    ----------
    means : list of pairs of tensors
        What was trained, and its mean; empty where the training was too short.

    References
    ----------
    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI
    2018, arXiv:1803.05407.
    """

    def __init__(self, share: float, epochs: int, after: int = 0) -> None:
        self.share, self.epochs, self.after = share, epochs, after
        self.means: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin with nothing."""
        self.epoch = self.batches = self.first = self.count = 0
        self.means = []

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Find out where the mean begins."""
        if self.epoch == 1:
            self.first = round((1 - self.share) * self.epochs * self.batches)
        self.epoch += 1

    @torch.no_grad()
    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Take the weights in."""
        self.batches += training
        if (
            not self.share
            or not training
            or self.epoch <= max(self.after, 1)
            or self.batches <= self.first
        ):
            return
        if not self.means:
            self.means = [
                (tensor, torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, _WIDE)))
                for tensor in net.module_.parameters()
                if tensor.requires_grad
            ]
        self.count += 1
        for tensor, mean in self.means:
            mean += (tensor - mean) / self.count


@torch.no_grad()
def keep_better(
    net: NeuralNet,
    means: Iterable[tuple[torch.Tensor, torch.Tensor]],
    sets: tuple[Any, Any],
    renew: Callable[[NeuralNet], None],
) -> None:
    """Put means in the place of what was trained, unless the loss on some rows is then higher.

    Parameters
    ----------
    net : skorch.NeuralNet
        Trained, with running statistics that fit its weights.
    means : pairs of tensors
        What was trained, and its mean.
    sets : pair of Dataset
        Training and held-out rows. Where the latter is None, training rows serve.
    renew : callable
        Takes running statistics anew.
    """
    module: Any = net.module_
    train_set, held_out = sets
    rows = train_set if held_out is None else held_out
    before = {name: tensor.clone() for name, tensor in trained_tensors(module).items()}
    last = agreed(net, mean_loss(net, rows, ROWS))
    for tensor, mean in means:
        tensor.copy_(mean)
    renew(net)
    if agreed(net, mean_loss(net, rows, ROWS)) <= last:
        return
    for name, tensor in trained_tensors(module).items():
        tensor.copy_(before[name])
