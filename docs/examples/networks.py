"""The network of the demonstration, in a file of its own so that a saved model finds it."""

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
