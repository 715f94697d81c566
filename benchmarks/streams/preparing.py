"""From bytes to what a network takes: sizes, channels, scales and rows."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.streams.tasks import some_rows


@dataclass(frozen=True)
class Rows:
    """How many rows a task has at most.

    Rows to learn and to validate come from the training half, each class in its share. None
    takes what there is: all test rows, and all training rows with a fifth kept to validate.
    """

    train: int | None = None
    valid: int | None = None
    test: int | None = None

    def choose(self, y, y_test, number=0):
        """Return the numbers of the rows to learn, validate and test of a task.

        They are drawn by the labels of the two halves, others for each number of a task.
        """
        total, n_test = len(y), len(y_test)
        n_valid = round(total / 5)
        if self.train is not None:
            total, n_test = min(total, self.train + self.valid), self.test
            n_valid = round(total * self.valid / (self.train + self.valid))
        rows = some_rows(y, total, number)
        valid = some_rows(y[rows], n_valid, number)
        test = some_rows(y_test, n_test, number)
        return np.delete(rows, valid), rows[valid], np.sort(test)


def moments(images):
    """Return the mean and standard deviation of each channel of bytes, in units of 255."""
    levels = np.arange(256) / 255
    found = []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        mean = counts @ levels / counts.sum()
        found.append((mean, np.sqrt(counts @ (levels - mean) ** 2 / counts.sum())))
    return np.array(found).T


def prepare(images, size, channels, scale):
    """Return bytes as standardised floats of one size and number of channels.

    The scale is what `moments` gave for the channels that there are, 1 or as many as asked for.
    """
    X = torch.from_numpy((images / np.float32(255)).astype(np.float32))
    if X.shape[2:] != (size, size):
        X = F.interpolate(X, (size, size), mode="bilinear", align_corners=False, antialias=True)
    mean, deviation = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in scale)
    X = (X - mean) / deviation
    return X.expand(-1, channels, -1, -1).contiguous().numpy()
