"""Networks that the benchmarks share, and the skorch net that trains them."""

import torch
from skorch import NeuralNetClassifier
from torch import nn


def recipe(module, epochs=1, lr=1e-3, batch_size=128, train_split=None, **settings):
    """Return a skorch net, with all rows to learn from unless the split says otherwise."""
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=lr,
        batch_size=batch_size,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=train_split,
        verbose=0,
        **settings,
    )


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

    Batch normalisation follows every layer but the head. The size of the images is a multiple of 4;
    other widths than the paper's make it small.
    """

    def __init__(self, n_classes=10, channels=3, size=32, widths=(20, 50, 800, 500)):
        super().__init__()
        layers = []
        for outputs in widths[:2]:
            layers += [nn.Conv2d(channels, outputs, 5, padding=2), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = outputs
        layers.append(nn.Flatten())
        inputs = channels * (size // 4) ** 2
        for outputs in widths[2:]:
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(inputs, n_classes)

    def forward(self, x):
        """Return logits of shape (n_samples, n_classes)."""
        return self.last(self.features(x))
