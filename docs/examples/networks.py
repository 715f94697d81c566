"""Networks of the examples, in a file of their own so that a saved model finds them."""

from skorch import NeuralNetClassifier
from skorch.hf import AccelerateMixin
from torch import nn


class SmallConvNet(nn.Module):
    """Two convolutions and a hidden layer with batch normalisation, for 28x28 images.

    Parameters
    ----------
    n_classes : int
        Outputs of the head; `ContinualClassifier` gives every task a head of its own.
    """

    def __init__(self, n_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, n_classes)

    def forward(self, x):
        """Return logits of shape (n_samples, n_classes)."""
        return self.head(self.features(x))


class DigitNet(nn.Sequential):
    """Two convolutions and a hidden layer, for rows of 64 pixels.

    Parameters
    ----------
    n_classes : int
    """

    def __init__(self, n_classes=10):
        super().__init__(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 128),
            nn.ReLU(),
            nn.Linear(128, n_classes),
        )


class SharedNet(AccelerateMixin, NeuralNetClassifier):
    """A skorch net that several processes train together."""
