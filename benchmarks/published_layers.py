"""The layers of the authors' code, written out literally, to time them beside ours.

A linear layer computes ``r * (W (s * x)) + U (V x) + b``; a convolution
``r * conv(s * x) + conv1x1_U(box(conv1x1_V(x))) + b``, where the box filter adds up the
positions of the kernel. The penalties are terms of the loss.
"""

import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from torch import nn


class Published(nn.Module):
    def __init__(self, layer, rank):
        super().__init__()
        out, inputs, *kernel = layer.weight.shape
        rank, ones = min(rank, out, inputs), [1] * len(kernel)
        self.register_buffer("weight", layer.weight.detach().clone())
        self.register_buffer("box", torch.ones(rank, 1, *kernel))
        self.r, self.s = (nn.Parameter(torch.ones(size, *ones)) for size in (out, inputs))
        self.u = nn.Parameter(torch.randn(out, rank, *ones) / 100)
        self.v = nn.Parameter(torch.randn(rank, inputs, *ones) / 100)
        self.bias = layer.bias
        self.place = [layer.stride, layer.padding] if kernel else []

    def forward(self, x):
        if self.place:
            y = self.r * F.conv2d(self.s * x, self.weight, None, *self.place)
            low = F.conv2d(F.conv2d(x, self.v), self.box, None, *self.place, groups=len(self.box))
            y = y + F.conv2d(low, self.u)
        else:
            y = self.r * F.linear(self.s * x, self.weight) + F.linear(F.linear(x, self.v), self.u)
        return y if self.bias is None else y + self.bias.reshape(self.r.shape)


def with_published_layers(module, ranks):
    """Replace the layers of a module by published ones of these ranks, by weight name."""
    for name, rank in ranks.items():
        path, _, leaf = name.removesuffix(".weight").rpartition(".")
        owner = module.get_submodule(path)
        setattr(owner, leaf, Published(getattr(owner, leaf), rank))
    return module


class PublishedNet(NeuralNetClassifier):
    """Adds the penalties to the loss."""

    l1, l2 = 1e-6, 1e-4

    def get_loss(self, y_pred, y_true, *args, training=False, **kwargs):
        """Return the loss of the data and of the factors."""
        loss = super().get_loss(y_pred, y_true, *args, training=training, **kwargs)
        for layer in self.module_.modules() if training else ():
            if isinstance(layer, Published):
                loss = loss + self.l1 * (layer.u.abs().sum() + layer.v.abs().sum())
                squares = [p.pow(2).sum() for p in (layer.r, layer.s, layer.u, layer.v)]
                loss = loss + self.l2 / 2 * sum(squares)
        return loss
