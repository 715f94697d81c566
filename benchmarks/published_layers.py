"""The layers of the authors' code, written out literally, to time them beside ours.

A linear layer computes ``r * (W (s * x)) + U (V x) + b``; a convolution
``r * conv(s * x) + conv1x1_U(box(conv1x1_V(x))) + b``, where the box filter adds up the
positions of the kernel. The penalties are terms of the loss.
"""

import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from torch import nn


class PublishedLinear(nn.Module):
    def __init__(self, layer, rank):
        super().__init__()
        out, inputs = layer.weight.shape
        rank = min(rank, out, inputs)
        self.register_buffer("weight", layer.weight.detach().clone())
        self.r, self.s = nn.Parameter(torch.ones(out)), nn.Parameter(torch.ones(inputs))
        self.u = nn.Parameter(torch.randn(out, rank) / 100)
        self.v = nn.Parameter(torch.randn(rank, inputs) / 100)
        self.bias = layer.bias

    def forward(self, x):
        y = self.r * F.linear(self.s * x, self.weight) + F.linear(F.linear(x, self.v), self.u)
        return y if self.bias is None else y + self.bias


class PublishedConv2d(nn.Module):
    def __init__(self, layer, rank):
        super().__init__()
        out, inputs, *self.kernel = layer.weight.shape
        rank = min(rank, out, inputs)
        self.stride, self.padding = layer.stride, layer.padding
        self.register_buffer("weight", layer.weight.detach().clone())
        self.register_buffer("box", torch.ones(rank, 1, *self.kernel))
        self.r = nn.Parameter(torch.ones(out, 1, 1))
        self.s = nn.Parameter(torch.ones(inputs, 1, 1))
        self.u = nn.Parameter(torch.randn(out, rank, 1, 1) / 100)
        self.v = nn.Parameter(torch.randn(rank, inputs, 1, 1) / 100)
        self.bias = layer.bias

    def forward(self, x):
        y = self.r * F.conv2d(self.s * x, self.weight, None, self.stride, self.padding)
        low = F.conv2d(x, self.v)
        low = F.conv2d(low, self.box, None, self.stride, self.padding, groups=len(self.box))
        y = y + F.conv2d(low, self.u)
        return y if self.bias is None else y + self.bias.reshape(-1, 1, 1)


KINDS = {nn.Linear: PublishedLinear, nn.Conv2d: PublishedConv2d}


def with_published_layers(module, ranks):
    """Replace the layers of a module by published ones of these ranks, by weight name."""
    for name, rank in ranks.items():
        path, _, leaf = name.rpartition(".weight")[0].rpartition(".")
        owner = module.get_submodule(path)
        layer = getattr(owner, leaf)
        setattr(owner, leaf, KINDS[type(layer)](layer, rank))
    return module


class PublishedNet(NeuralNetClassifier):
    """Adds the penalties to the loss."""

    l1, l2 = 1e-6, 1e-4

    def get_loss(self, y_pred, y_true, *args, training=False, **kwargs):
        """Return the loss of the data and of the factors."""
        loss = super().get_loss(y_pred, y_true, *args, training=training, **kwargs)
        if not training:
            return loss
        for layer in self.module_.modules():
            if isinstance(layer, tuple(KINDS.values())):
                loss = loss + self.l1 * (layer.u.abs().sum() + layer.v.abs().sum())
                squares = [p.pow(2).sum() for p in (layer.r, layer.s, layer.u, layer.v)]
                loss = loss + self.l2 / 2 * sum(squares)
        return loss
