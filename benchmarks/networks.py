"""Networks that the benchmarks share, and the skorch net that trains them."""

import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.functional import avg_pool2d


def recipe(module, epochs=1, kind=NeuralNetClassifier, **settings):
    """Return a skorch net, with all rows to learn from unless the settings say otherwise."""
    given = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 1e-3,
        "batch_size": 128,
        "max_epochs": epochs,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return kind(module, **given | settings)


class MLP(nn.Sequential):
    """784-256-256-10 by default."""

    def __init__(self, n_classes=10, n_features=784, hidden=256):
        super().__init__(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_classes),
        )


class LeNet(nn.Module):
    """The LeNet of the HALRP paper: two 5x5 convolutions and two hidden layers.

    Batch normalisation follows every layer but the head. The size of the images is a multiple of 4.
    """

    def __init__(self, n_classes=10, channels=3, size=32):
        super().__init__()
        layers = []
        for outputs in (20, 50):
            layers += [nn.Conv2d(channels, outputs, 5, padding=2), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = outputs
        layers.append(nn.Flatten())
        inputs = channels * (size // 4) ** 2
        for outputs in (800, 500):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(inputs, n_classes)

    def forward(self, x):
        """Return logits of shape (n_samples, n_classes)."""
        return self.last(self.features(x))


class Block(nn.Module):
    """The basic block of a ResNet: two 3x3 convolutions and a skip past them."""

    def __init__(self, channels, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(channels, outputs, 3, stride, padding=1)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Sequential()
        if stride != 1 or channels != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        """Return maps of half the size if the stride is 2."""
        y = torch.relu(self.norm1(self.first(x)))
        return torch.relu(self.norm2(self.second(y)) + self.skip(x))


class ResNet18(nn.Module):
    """The ResNet-18 of the HALRP paper, for small images.

    Its convolutions have biases, and its head sees means over squares of 2x2, not over the whole
    image, whose size is a multiple of 16. The first stage has `width` channels, 64 in the original.
    The paper's code normalises by the batch when it predicts too; here, running statistics are
    kept.
    """

    def __init__(self, n_classes=10, channels=3, size=32, width=32):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        sizes = [width * 2**stage for stage in range(4)]
        blocks = []
        for before, after in zip([width, *sizes], sizes, strict=False):
            blocks += [Block(before, after, 1 if before == after else 2), Block(after, after, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(sizes[-1] * (size // 16) ** 2, n_classes)

    def forward(self, x):
        """Return logits of shape (n_samples, n_classes)."""
        return self.last(avg_pool2d(self.blocks(self.stem(x)), 2).flatten(1))
