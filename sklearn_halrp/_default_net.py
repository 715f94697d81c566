"""The small network that is built when the user brings none."""

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sklearn_halrp._best_epoch import BestEpoch
from sklearn_halrp._encoding import Encoding, encoding_of, moved

# Chosen on validation rows of tabular, breast cancer and flights, with seeds from 100 on.
HIDDEN = 128  # twice as many for more classes than these
MANY = 16
DROPOUT = 0.2
WEIGHT_DECAY = 0.1
# Where there are few rows, there are no bins; of two classes.
BINS, FEWEST_BINS, ROWS_OF_A_BIN = 16, 4, 250
MOST_BINNED = 50  # columns
EPOCHS, EPOCHS_OF_FEW, FEW = 100, 50, 500  # the second for fewer rows than the third
STEPS = 200  # at least
PATIENCE = 16  # epochs
# The smallest of fewer rows than 100, the smallest otherwise, the largest.
BATCH_SIZES = (8, 16, 256)
ENOUGH = 50  # rows held out
FEWEST_MOVED = 5  # rows that tell whether a column lies elsewhere
ENCODED_ROWS = 20_000


class MultilayerPerceptron(nn.Sequential):
    """Two hidden layers with ReLU, and a linear one: a logit per class, or a number per target.

    Parameters
    ----------
    n_features : int
        Values of one sample, however they are arranged.
    n_classes : int
        Outputs.
    hidden : int
        Width of each hidden layer.
    """

    def __init__(self, n_features: int, n_classes: int, hidden: int = 100) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(n_features, hidden, dtype=torch.float32),  # as its rows, by any default
            nn.ReLU(),
            nn.Linear(hidden, hidden, dtype=torch.float32),
            nn.ReLU(),
            nn.Linear(hidden, n_classes, dtype=torch.float32),
        )


class HoldOut:
    """Hold out a fifth of the rows, by class where there are classes that all allow it.

    Of fewer than ten rows nothing is held out.

    Parameters
    ----------
    enough : int, optional
        So many are enough where they are a tenth: then fewer than a fifth are held out.
    """

    enough: int | None = None  # of objects in earlier files

    def __init__(self, enough: int | None = None) -> None:
        self.enough = enough

    def __repr__(self) -> str:
        return f"HoldOut({'' if self.enough is None else self.enough})"

    def count(self, n_rows: int) -> int:
        """Return how many of so many rows are held out.

        >>> [HoldOut(50).count(n_rows) for n_rows in (9, 100, 400, 1000)]
        [0, 20, 50, 100]
        """
        if n_rows < 10:
            return 0
        fifth = -(-n_rows // 5)  # as scikit-learn rounds
        return fifth if self.enough is None else min(fifth, max(self.enough, -(-n_rows // 10)))

    def __call__(self, dataset: Any, y: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        """Return the training set and the held-out set, or None for the latter."""
        count = self.count(len(dataset))
        if not count:
            return dataset, None
        y = None if y is None else np.asarray(y)
        classes = y is not None and y.dtype.kind in "iu"
        counts = np.bincount(y)[np.unique(y)] if classes else np.array([0])
        stratify = y if counts.min() >= 2 and len(counts) <= count else None
        kept, held_out = train_test_split(
            np.arange(len(dataset)), test_size=count, stratify=stratify
        )
        return torch.utils.data.Subset(dataset, kept), torch.utils.data.Subset(dataset, held_out)


class EncodedPerceptron(nn.Sequential):
    """A `MultilayerPerceptron` with dropout, whose inputs are encoded: see `Encoding`.

    Its last layer sees the inputs too, standardised, beside the hidden units: what is linear in
    them needs no hidden unit, and a task of few rows is mostly that.

    Parameters
    ----------
    n_features : int
        Values of one sample, however they are arranged.
    n_classes : int
        Outputs.
    hidden : int
        Width of each hidden layer.
    bins : int
        Of each column of numbers.
    categories : sequence of int
        Of each column how many categories it has, and 0 for numbers.
    dropout : float
        Share of hidden units that a step of training leaves out.
    direct : bool
        Whether the last layer sees the inputs. In earlier files it does not.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        hidden: int = HIDDEN,
        bins: int = 0,
        categories: Sequence[int] = (),
        dropout: float = DROPOUT,
        direct: bool = True,
    ) -> None:
        encoding = Encoding(n_features, bins, categories)
        super().__init__(
            encoding,
            nn.Linear(encoding.n_outputs, hidden, dtype=torch.float32),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden, hidden, dtype=torch.float32),
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(hidden + direct * encoding.n_plain, n_classes, dtype=torch.float32),
        )
        self.direct = direct

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return outputs for rows of any shape."""
        first: Any
        first, *hidden, last = self
        encoded = first(x)
        inside = encoded
        for layer in hidden:
            inside = layer(inside)
        if self.direct:
            inside = torch.cat([inside, *first.plain(encoded)], dim=1)
        return last(inside)


class DefaultClassifier(NeuralNetClassifier):
    """The net of a classifier without one; its batches and epochs follow from the rows."""


class DefaultRegressor(NeuralNetRegressor):
    """The net of a regressor without one; its batches and epochs follow from the rows."""


def for_rows(recipe: NeuralNet, n_rows: int) -> NeuralNet:
    """Return the recipe for a task of so many rows: a default net in other words, else as it is.

    >>> net = for_rows(default_net(4, 2), 20)
    >>> net.batch_size, net.max_epochs
    (8, 100)
    """
    if not takes_missing(recipe):
        return recipe
    smallest = BATCH_SIZES[0 if n_rows < 100 else 1]
    batch_size = int(np.clip(2 ** round(math.log2(n_rows / 16)), smallest, BATCH_SIZES[-1]))
    steps = -(-(n_rows - recipe.train_split.count(n_rows)) // batch_size)
    epochs = max(EPOCHS_OF_FEW if n_rows < FEW else EPOCHS, -(-STEPS // steps))
    return clone(recipe).set_params(batch_size=batch_size, max_epochs=epochs)


def default_net(
    n_features: int,
    n_outputs: int,
    kind: Callable[..., NeuralNet] = DefaultClassifier,
    criterion: type[nn.Module] = nn.CrossEntropyLoss,
    **sizes: Any,
) -> NeuralNet:
    """Return an unfitted skorch net for samples of `n_features` values.

    Parameters
    ----------
    n_features, n_outputs : int
    kind : type of NeuralNet
    criterion : type of torch.nn.Module
    **sizes
        Of an `EncodedPerceptron`, as `sizes_for` or `sizes_in` gives them.
    """
    return kind(
        EncodedPerceptron,
        module__n_features=n_features,
        module__n_classes=n_outputs,
        **{f"module__{name}": value for name, value in sizes.items()},
        criterion=criterion,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=WEIGHT_DECAY,
        lr=1e-3,
        max_epochs=EPOCHS,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=HoldOut(ENOUGH),
        callbacks=[("best_epoch", BestEpoch(PATIENCE))],
        verbose=0,
    )


def earlier_net(
    n_features: int, n_outputs: int, kind: type[NeuralNet], criterion: type[nn.Module]
) -> NeuralNet:
    """Return the net that files were saved with before there was an encoding."""
    return kind(
        MultilayerPerceptron,
        module__n_features=n_features,
        module__n_classes=n_outputs,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=50,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=HoldOut(),
        verbose=0,
    )


def sizes_for(
    n_rows: int,
    sample_shape: Sequence[int],
    categories: Sequence[Sized | None] | None,
    n_classes: int = 2,
) -> dict[str, Any]:
    """Return the sizes of an `EncodedPerceptron` for so many rows of this shape.

    Where there are many columns, as in images and features of texts, each says little, and bins
    would only make the network large. Few rows of a class are learned by heart with them.

    >>> [sizes_for(n_rows, (16,), None)["bins"] for n_rows in (500, 1000, 2000, 10_000)]
    [0, 4, 8, 16]
    >>> sizes_for(2000, (16,), None, n_classes=26)["bins"]
    0
    """
    bins = min(BINS, 2 * n_rows // (ROWS_OF_A_BIN * max(n_classes, 2)))
    sizes = () if categories is None else tuple(0 if c is None else len(c) for c in categories)
    binned = len(sample_shape) == 1 and sample_shape[0] <= MOST_BINNED and bins >= FEWEST_BINS
    return {
        "hidden": HIDDEN if n_classes <= MANY else 2 * HIDDEN,
        "bins": bins if binned else 0,
        "categories": sizes,
        "direct": True,
    }


def takes_missing(net: NeuralNet) -> bool:
    """Whether a net is the default one, and not that of earlier files: a number may be NaN."""
    return isinstance(net, DefaultClassifier | DefaultRegressor)


def blocks_of(module: nn.Module) -> tuple[int, ...]:
    """Return how many inputs of a module's head are hidden units, and how many columns.

    Nothing where there are none of the latter, or that is not known.
    """
    if not isinstance(module, EncodedPerceptron) or not module.direct:
        return ()
    encoding: Any
    encoding, *_, head = module
    return head.in_features - encoding.n_plain, encoding.n_plain


def is_encoded(tensors: Mapping[str, Any]) -> bool:
    """Whether tensors of these names are those of an `EncodedPerceptron`."""
    return "0.center" in tensors


def sizes_in(
    shapes: Mapping[str, tuple[int, ...]], categories: Sequence[Sized | None] | None
) -> dict[str, Any]:
    """Return the sizes of the `EncodedPerceptron` that has tensors of these shapes, by name."""
    sizes = () if categories is None else tuple(0 if c is None else len(c) for c in categories)
    bins = shapes["0.lower"][1] if "0.lower" in shapes else 0
    hidden, into_head = shapes["1.weight"][0], shapes["5.weight"][1]
    direct = into_head > hidden
    return {"hidden": hidden, "bins": bins, "categories": sizes, "direct": direct}


def as_it_was(net: NeuralNet) -> NeuralNet:
    """Return the default net as a pickle had it before its head saw the columns, or any other."""
    if takes_missing(net) and not hasattr(net, "module__direct"):
        net = clone(net).set_params(module__direct=False)
    return net


def fit_encoding(module: Any, several: Sequence[Any]) -> None:
    """Put into a network that was just built the encoding of rows like these.

    Parameters
    ----------
    module : EncodedPerceptron
        It is changed in place.
    several : sequence of array or DatasetRows of shape (n_samples, *sample_shape)
        At most `ENCODED_ROWS` are read in all, evenly spread in each.
    """
    most = -(-ENCODED_ROWS // len(several))
    encoding, rows = module[0], np.concatenate([_some(X, most) for X in several])
    for name, array in encoding_of(rows, encoding.bins, encoding.categories).items():
        getattr(encoding, name).data.copy_(torch.from_numpy(array))


def encoding_for(module: nn.Module, X: Any) -> dict[str, torch.Tensor]:
    """Return what a new task with rows like these has of the encoding of its own, by name.

    Parameters
    ----------
    module : torch.nn.Module
        That of the base. Of another than the default one it is nothing.
    X : array or DatasetRows of shape (n_samples, *sample_shape)
    """
    if not isinstance(module, EncodedPerceptron) or len(X) < FEWEST_MOVED:
        return {}
    encoding: Any = module[0]
    return {f"0.{name}": tensor for name, tensor in moved(encoding, _some(X)).items()}


def names_moved(module: nn.Module) -> tuple[str, ...]:
    """Return the names of what `encoding_for` gives a task: it is right for no other."""
    return ("0.offset", "0.stretch") if isinstance(module, EncodedPerceptron) else ()


def _some(X: Any, most: int = ENCODED_ROWS) -> NDArray[Any]:
    """Return at most so many rows, evenly spread."""
    places = np.linspace(0, len(X) - 1, min(len(X), most)).round().astype(int)
    return np.asarray(X[places])
