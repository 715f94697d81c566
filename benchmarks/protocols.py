"""The experiments of the HALRP paper: streams, networks, settings and orders of tasks.

Settings are those of the authors' scripts (github.com/lijiaqi/HALRP). What differs here:

- The published growth bound holds for all tasks together. Ours is one for each task, so each of
  the tasks after the first gets an equal share of it.
- The scripts shuffle the tasks of all streams but CIFAR-100's by the seed of the run. Only
  CIFAR-100 has published orders, `SPLITS` and `SUPERCLASSES`; for the others A is the natural
  order and B to E are ours, drawn from seeds 1 to 4.
- TinyImageNet is left out: nothing that is installed here reads its files.
- notMNIST is the small one, every tenth image of which is for testing; the scripts have halves of
  their own.
- Images of 28x28 are scaled to 32x32 in all streams; the scripts pad some of them instead.
- No settings for Omniglot-Rotation are published. It has those of P-MNIST with 20 epochs, and a
  constant learning rate.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmarks.methods import Training
from benchmarks.networks import AlexNet, LeNet, ResNet18
from benchmarks.streams import load
from benchmarks.streams.preparing import Rows
from sklearn_halrp import published_settings

# Orders A to E of Yoon et al. (ICLR 2020), as in the authors' run_cifar100.py.
SPLITS = {
    "A": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    "B": [1, 7, 4, 5, 2, 0, 8, 6, 9, 3],
    "C": [7, 0, 5, 1, 8, 4, 3, 6, 2, 9],
    "D": [5, 8, 2, 9, 0, 4, 3, 7, 6, 1],
    "E": [2, 9, 5, 4, 8, 0, 6, 1, 3, 7],
}
SUPERCLASSES = {
    "A": list(range(20)),
    "B": [15, 12, 5, 9, 7, 16, 18, 17, 1, 0, 3, 8, 11, 14, 10, 6, 2, 4, 13, 19],
    "C": [17, 1, 19, 18, 12, 7, 6, 0, 11, 15, 10, 5, 13, 3, 9, 16, 4, 14, 2, 8],
    "D": [11, 9, 6, 5, 12, 4, 0, 10, 13, 7, 14, 3, 15, 16, 8, 1, 2, 19, 18, 17],
    "E": [6, 14, 0, 11, 12, 17, 13, 4, 9, 1, 7, 19, 8, 10, 3, 15, 18, 5, 2, 16],
}


def own_orders(n_tasks):
    """Return the natural order and four that are drawn from seeds 1 to 4."""
    drawn = {
        name: np.random.RandomState(seed).permutation(n_tasks).tolist()
        for seed, name in enumerate("BCDE", 1)
    }
    return {"A": list(range(n_tasks)), **drawn}


@dataclass(frozen=True)
class Protocol:
    """One experiment, with batches of 128, a rate of 1e-3, and a fifth of the rows to validate."""

    stream: str
    n_tasks: int
    network: Callable
    epochs: int  # those of warm-up included
    growth: float  # the published bound, for all tasks together
    changes: dict = field(default_factory=dict)  # arguments of the stream
    settings: dict = field(default_factory=dict)  # of `ContinualClassifier`
    fixed_orders: dict | None = None  # where there are published ones
    # Whether the learning rate decays as in the published code, by a factor of 0.95 for every
    # 50,000 / n_tasks rows, less those held out.
    decays: bool = True

    @property
    def orders(self):
        """Orders A to E."""
        return self.fixed_orders or own_orders(self.n_tasks)

    def load(self, data_dir, download=False, n_rows=None):
        """Return the stream, whose tasks are made when they are asked for.

        At most `n_rows` rows are for learning and validating a task, and as many for testing it.
        """
        rows = Rows()
        if n_rows is not None:
            train = max(1, round(n_rows * (1 - rows.valid_share)))
            rows = Rows(train, max(1, n_rows - train), n_rows)
        stream = load(self.stream, data_dir, download, lazily=True, rows=rows, **self.changes)
        return replace(stream, network=self.network)

    def published(self, n_tasks):
        """Return the published settings of `ContinualClassifier` for so many tasks."""
        return published_settings(n_tasks, self.growth) | self.settings

    def training(self, epochs=None, device="cpu"):
        """Return how every method trains; epochs may be others than the published ones."""
        rows = 50_000 / self.n_tasks * (1 - Rows().valid_share)
        decay = 0.95 ** (128 / rows) if self.decays else 1.0
        return Training(epochs or self.epochs, decay=decay, device=device)


FIVE = {"sets": ("cifar10", "mnist", "svhn", "fashion", "notmnist"), "size": 32}


CIFAR = {"settings": {"l1_penalty": 1e-4}}
PROTOCOLS = {
    "cifar100-splits": Protocol("split-cifar100", 10, LeNet, 20, 0.2, fixed_orders=SPLITS, **CIFAR),
    "cifar100-superclass": Protocol(
        "superclass-cifar100", 20, LeNet, 20, 0.2, fixed_orders=SUPERCLASSES, **CIFAR
    ),
    "permuted-mnist": Protocol(
        "permuted-mnist",
        10,
        LeNet,
        12,
        0.6,
        changes={"size": 32, "channels": 3},
        settings={"l2_penalty": 1e-3},
    ),
    "five-datasets-alexnet": Protocol("five-datasets", 5, AlexNet, 12, 0.6, changes=FIVE),
    "five-datasets-resnet18": Protocol(
        "five-datasets",
        5,
        ResNet18,
        12,
        0.6,
        changes=FIVE,
        settings={"approximation_rate": 0.95, "max_rank": 120, "warmup_epochs": 3},
    ),
    "omniglot-rotation": Protocol(
        "omniglot-rotation",
        100,
        partial(LeNet, channels=1, size=32, widths=(64, 128, 2500, 1500)),
        20,
        0.6,
        changes={"size": 32, "n_tasks": 100},
        settings={"l2_penalty": 1e-3},
        decays=False,
    ),
}
