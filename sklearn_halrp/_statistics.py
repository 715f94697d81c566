"""Running statistics of normalisation, taken anew from the rows of a task."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from skorch import NeuralNet
from skorch.dataset import unpack_data
from torch import nn

from sklearn_halrp._processes import from_first

# Batches that the statistics are taken from: more would cost time and hardly move them.
BATCHES = 100


def renew_statistics(net: NeuralNet, dataset: Any) -> None:
    """Take running means and variances anew, with the weights as they are now.

    While a module is trained they trail behind: with torch's momentum of 0.1 and few steps they
    are those of weights that are no more. Here they are plain means over batches of training
    rows, in the order in which the net draws them, and nothing but normalisation trains. Layers
    that the module itself leaves in evaluation mode keep theirs.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, around the trained module.
    dataset : Dataset
        Training rows.

    References
    ----------
    Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv:2105.07576, section 3.
    """
    module: Any = net.module_
    with _only_norms_train(module) as norms:
        if not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        with torch.no_grad():
            for batch in islice(net.get_iterator(dataset, training=True), BATCHES):
                net.infer(unpack_data(batch)[0])
    for norm in norms:
        from_first(net, norm.buffers(recurse=False))


@contextmanager
def _only_norms_train(module: nn.Module) -> Iterator[list[Any]]:
    """Give the layers whose statistics are renewed; modes and momenta are as before after it."""
    modes = {each: each.training for each in module.modules()}
    try:
        module.train()
        norms: list[Any] = [each for each in module.modules() if each.training and _tracks(each)]
        momenta = [norm.momentum for norm in norms]
        try:
            module.eval()
            for norm in norms:
                norm.training = True
            yield norms
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    finally:
        for each, training in modes.items():
            each.training = training


def _tracks(module: nn.Module) -> bool:
    """Whether a layer keeps running statistics as torch's do."""
    return (
        getattr(module, "running_mean", None) is not None
        and hasattr(module, "momentum")
        and callable(getattr(module, "reset_running_stats", None))
    )
