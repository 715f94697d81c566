"""A zoo of small networks that every test of a promise runs through.

Each animal takes the 64 values of a digit, arranged in its own way, and gives logits.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint


class Animal(NamedTuple):
    module: type
    shape: tuple


class MLP(nn.Module):
    def __init__(self, n_classes=10, hidden=24):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.Tanh()
        )
        self.last = nn.Linear(hidden, n_classes)

    def forward(self, x):
        return self.last(self.body(x))


class Probabilities(MLP):
    """Ends in probabilities, as skorch's default loss expects."""

    def forward(self, x):
        return super().forward(x).softmax(dim=-1)


class Conv1d(nn.Sequential):
    def __init__(self, n_classes=10):
        super().__init__(
            nn.Conv1d(1, 6, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(6, 8, 3, dilation=2, padding=2, bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(8),
            nn.Flatten(),
            nn.Linear(64, n_classes),
        )


class Conv2d(nn.Sequential):
    def __init__(self, n_classes=10):
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding="same", padding_mode="reflect"),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(192, 20),
            nn.Dropout(0.1),
            nn.ReLU(),
            nn.Linear(20, n_classes),
        )


class Conv3d(nn.Sequential):
    def __init__(self, n_classes=10):
        super().__init__(
            nn.Conv3d(1, 6, (3, 3, 1), padding=(1, 1, 0)),
            nn.ReLU(),
            nn.Conv3d(6, 6, 2, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, n_classes),
        )


class Depthwise(nn.Sequential):
    """Depthwise and grouped convolutions with group normalisation."""

    def __init__(self, n_classes=10):
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 12, 1),
            nn.ReLU(),
            nn.Conv2d(12, 8, 3, stride=2, groups=4),
            nn.Flatten(),
            nn.Linear(72, n_classes, bias=False),
        )


class Transposed(nn.Sequential):
    def __init__(self, n_classes=10):
        super().__init__(
            nn.Conv2d(1, 6, 3, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, n_classes),
        )


class Tied(nn.Module):
    """One weight under two names, and one layer used twice."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.last = nn.Linear(64, n_classes)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x))
        return self.last(torch.relu(self.first(x)))


class Frozen(MLP):
    """A first layer that its author froze."""

    def __init__(self, n_classes=10):
        super().__init__(n_classes)
        self.body[0].requires_grad_(False)


class Einsum(nn.Module):
    """A layer of the user's own that uses its weight in an einsum."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 64) / 8)
        self.scale = nn.Parameter(torch.ones(16))
        self.last = nn.Linear(16, n_classes)

    def forward(self, x):
        return self.last(torch.relu(torch.einsum("oi,ni->no", self.weight, x)) * self.scale)


class Words(nn.Module):
    """An embedding, which stays shared, and a head that has two names."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.words, self.mix = nn.Embedding(17, 4), nn.Linear(256, 16)
        self.head = nn.Linear(16, n_classes)
        self.top = nn.Sequential(nn.ReLU(), self.head)

    def forward(self, x):
        return self.top(self.mix(self.words((16 * x).long()).flatten(1)))


class Recurrent(nn.Module):
    def __init__(self, n_classes=10, kind=nn.GRU):
        super().__init__()
        self.rnn = kind(8, 12, bidirectional=True, batch_first=True)
        self.last = nn.Linear(24, n_classes)

    def forward(self, x):
        return self.last(self.rnn(x)[0][:, -1])


class LongShort(Recurrent):
    def __init__(self, n_classes=10):
        super().__init__(n_classes, kind=nn.LSTM)


class Block(nn.Module):
    """Two convolutions with a skip past them, which a 1x1 convolution brings to size."""

    def __init__(self, channels, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.again = nn.BatchNorm2d(outputs)
        self.skip = nn.Sequential()
        if stride > 1 or channels != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.again(self.second(torch.relu(self.norm(self.first(x)))))
        return torch.relu(y + self.skip(x))


class Residual(nn.Module):
    def __init__(self, n_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.blocks = nn.Sequential(Block(6, 6, 1), Block(6, 10, 2))
        self.last = nn.Linear(10, n_classes)

    def forward(self, x):
        return self.last(self.blocks(self.stem(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, n_classes=10):
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.place = nn.Parameter(torch.randn(1, 8, 12) / 10)
        layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.last = nn.Linear(12, n_classes)

    def forward(self, x):
        return self.last(self.encoder(self.embed(x) + self.place).mean(1))


class Stateful(MLP):
    """Keeps activations, counts its calls, and has a buffer that is not saved."""

    def __init__(self, n_classes=10):
        super().__init__(n_classes)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mask", torch.ones(64), persistent=False)

    def forward(self, x):
        self.calls += 1
        self.hidden = self.body(x * self.mask)
        self.kept = {"hidden": [self.hidden]}
        if self.training:
            self.hidden = self.hidden + 0.01 * torch.randn_like(self.hidden)
        return self.last(self.hidden)


class Shared(nn.Module):
    """Two normalisations with the same statistics, a constant mask, a list of its own."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 16)
        self.norm, self.again = nn.BatchNorm1d(16), nn.BatchNorm1d(16)
        self.again.running_mean = self.norm.running_mean
        self.again.running_var = self.norm.running_var
        self.register_buffer("mask", torch.full((16,), -torch.inf))
        self.weights = [self.a.weight]
        self.last = nn.Linear(16, n_classes)

    def forward(self, x):
        x = self.norm(torch.relu(nn.functional.linear(x, self.weights[0], self.a.bias)))
        x = torch.maximum(self.again(self.b(x)), self.mask)
        return self.last(x)


class Sign(torch.autograd.Function):
    """The sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, g):
        return g


class Binary(nn.Module):
    """A layer of signs: its weight goes through an autograd function of the user's own."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 64) / 8)
        self.mix = nn.Linear(24, 24)
        self.last = nn.Linear(24, n_classes)

    def forward(self, x):
        x = torch.relu(nn.functional.linear(x, Sign.apply(self.weight)) / 8)
        return self.last(torch.relu(self.mix(x)))


class Checkpointed(nn.Module):
    """Computes its blocks again in the backward pass, and changes activations in place."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.third = nn.Conv2d(8, 8, 3, bias=False)
        self.last = nn.Linear(8, n_classes)

    def block(self, x):
        x = nn.functional.relu(self.second(x), inplace=True)
        return nn.functional.relu(self.third(x), inplace=True)

    def forward(self, x):
        x = checkpoint(self.block, torch.relu(self.first(x)), use_reentrant=False)
        return self.last(x.mean((2, 3)))


class Experts(nn.Module):
    """Sends each row to one of two convolutions, so that one may get none."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.experts = nn.ModuleList(nn.Conv2d(4, 6, 3, padding=1) for _ in range(2))
        self.last = nn.Linear(6, n_classes)

    def forward(self, x):
        mine = x.flatten(1).mean(1) > 9  # no row, ever
        x = torch.relu(self.stem(x))
        y = x.new_zeros(len(x), 6, 8, 8)
        for rows, expert in zip((mine, ~mine), self.experts, strict=True):
            y = y.index_put((rows,), expert(x[rows]))
        return self.last(torch.relu(y).mean((2, 3)))


class Waves(nn.Module):
    """Complex weights, which a task keeps in full."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.waves = nn.Parameter(torch.randn(5, 5, dtype=torch.cfloat) / 5)
        self.mix = nn.Linear(64, 16)
        self.last = nn.Linear(16, n_classes)

    def forward(self, x):
        spectrum = torch.einsum("nrf,fg->nrg", torch.fft.rfft(x), self.waves)
        return self.last(torch.relu(self.mix(torch.fft.irfft(spectrum).flatten(1))))


class Reparametrised(nn.Module):
    """Hidden weights that are computed from other tensors before each pass."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.first = nn.utils.spectral_norm(nn.Linear(64, 24))
        self.second = prune.random_unstructured(nn.Linear(24, 24), "weight", 0.5)
        self.last = nn.Linear(24, n_classes)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


ZOO = {
    "mlp": Animal(MLP, (64,)),
    "conv1d": Animal(Conv1d, (1, 64)),
    "conv2d": Animal(Conv2d, (1, 8, 8)),
    "conv3d": Animal(Conv3d, (1, 4, 4, 4)),
    "depthwise": Animal(Depthwise, (1, 8, 8)),
    "transposed": Animal(Transposed, (1, 8, 8)),
    "tied": Animal(Tied, (64,)),
    "frozen": Animal(Frozen, (64,)),
    "einsum": Animal(Einsum, (64,)),
    "words": Animal(Words, (64,)),
    "recurrent": Animal(Recurrent, (8, 8)),
    "lstm": Animal(LongShort, (8, 8)),
    "residual": Animal(Residual, (1, 8, 8)),
    "attention": Animal(Attention, (8, 8)),
    "stateful": Animal(Stateful, (64,)),
    "shared": Animal(Shared, (64,)),
    "binary": Animal(Binary, (64,)),
    "checkpointed": Animal(Checkpointed, (1, 8, 8)),
    "experts": Animal(Experts, (1, 8, 8)),
    "waves": Animal(Waves, (8, 8)),
    "reparametrised": Animal(Reparametrised, (64,)),
}
