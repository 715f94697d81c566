"""Networks that the benchmarks share."""

from torch import nn


class LeNet(nn.Module):
    """The LeNet of the HALRP paper: two 5x5 convolutions and two hidden layers.

    Batch normalisation follows every layer but the head.

    Parameters
    ----------
    n_classes : int
    channels : int
    size : int
        Height and width of the images, a multiple of 4.
    """

    def __init__(self, n_classes=10, channels=3, size=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 20, 5, padding=2),
            nn.BatchNorm2d(20),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5, padding=2),
            nn.BatchNorm2d(50),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(50 * (size // 4) ** 2, 800),
            nn.BatchNorm1d(800),
            nn.ReLU(),
            nn.Linear(800, 500),
            nn.BatchNorm1d(500),
            nn.ReLU(),
        )
        self.last = nn.Linear(500, n_classes)

    def forward(self, x):
        """Return logits of shape (n_samples, n_classes)."""
        return self.last(self.features(x))
