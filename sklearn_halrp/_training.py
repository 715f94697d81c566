"""Training and evaluating any module with the user's skorch net as the recipe."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import unpack_data
from torch.utils.data import Subset

from sklearn_halrp._batches import speed_up
from sklearn_halrp._processes import alone, is_shared, together
from sklearn_halrp._sample_weight import heed_weights, weights_in


def recipe_of(net):
    """Return an unfitted copy of a skorch net that shares its module with the original.

    A module given as an instance may be large, and cloning would copy it. An accelerator
    acts in `train` alone.
    """
    light = object.__new__(type(net))  # skorch's own copying goes through a file
    vars(light).update(vars(net))
    light.module = torch.nn.Identity
    if is_shared(net):
        light.accelerator = alone(net.accelerator)
    recipe = clone(light)
    vars(recipe)["module"] = net.module  # skorch's setter is for modules it initialises
    if getattr(recipe, "iterator_valid__drop_last", False):
        recipe.iterator_valid__drop_last = False  # no row may go unpredicted
    return recipe


def around(recipe, module, first=(), last=(), sets=None, draws=True, weighted=False, **settings):
    """Return an initialised copy of a skorch net that computes with this module.

    Parameters
    ----------
    recipe : skorch.NeuralNetClassifier
        Never fitted; it is left as it is.
    module : torch.nn.Module
        Used as it is: neither copied, nor given to the net's own ``initialize_module``,
        which is for modules that are built anew.
    first, last : sequences of skorch callbacks
        Run before and after those of the recipe.
    sets : pair of Dataset, optional
        Training and held-out data that the caller has split; the latter may be None.
    draws : bool
        Whether reading data may draw random numbers, as torch's own loading does.
    weighted : bool
        Whether the rows of the sets bring weights along.
    **settings
        Parameters of the recipe to override.
    """
    net = recipe_of(recipe)
    net.initialize_module = partial(setattr, net, "module_", module)
    net.get_split_datasets = partial(_given, sets)
    for name, value in settings.items():
        setattr(net, name, value)
    speed_up(net, draws)
    # Not the net's own initialize, which may go on to change the module it has made.
    NeuralNetClassifier.initialize(net)
    if weighted:
        heed_weights(net)
    net.callbacks_ = [*_named(first), *net.callbacks_, *_named(last)]
    return net


def _given(sets, *args, **kwargs):
    return sets


def writes_files(recipe):
    """Whether a callback of the recipe writes files, which processes would share."""
    return has_callback(recipe, Checkpoint)


def has_callback(net, kind):
    """Whether a skorch net was given a callback of this class, or the class itself."""
    callbacks = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    callbacks = [c[1] if isinstance(c, tuple) else c for c in callbacks]
    return any(isinstance(c, kind) or c is kind for c in callbacks)


def _named(callbacks):
    return [(type(callback).__name__, callback) for callback in callbacks]


def train(net, X, y, epochs):
    """Train an initialised net; unlike skorch, let an interruption through.

    The net trains on the sets it was given; `X` and `y` are what callbacks see.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, or when a callback raises it; only skorch's EarlyStopping, which
        ends a training in this way, is understood.
    """
    with together(net):
        if epochs:  # else a callback that restores the best one would find none, or an older one
            _fit(net, X, y, epochs)
    del net.get_split_datasets  # a net refers to itself, and the data would outlive their use


def _fit(net, X, y, epochs):
    net.notify("on_train_begin", X=X, y=y)
    try:
        net.fit_loop(X, y, epochs=epochs)
    except KeyboardInterrupt:
        if not _stopped_early(net):
            raise
    net.notify("on_train_end", X=X, y=y)


def _stopped_early(net):
    stops = [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]
    return any(stop.misses_ == stop.patience for stop in stops)


def spread(dataset, n_rows):
    """Return at most this many rows, evenly spread: they may be sorted by class."""
    if n_rows >= len(dataset):
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, n_rows).round().astype(int))


class Measured(NamedTuple):
    """The mean loss of a batch, its number of rows, and their weights if they have any.

    Of a loss that is drawn only the gradient counts.
    """

    loss: torch.Tensor
    n_rows: int
    weights: torch.Tensor | None = None
    drawn: bool = False


def losses(net, dataset, n_rows=None, curvature_loss=None):
    """Yield what `Measured` says of each batch, in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
        Initialised.
    dataset : Dataset
    n_rows : int, optional
        Take at most this many of the rows.
    curvature_loss : callable, optional
        Takes the net, its outputs, the labels and the batch; gives the loss that is measured
        in place of the net's, or None where it has none.
    """
    net.module_.eval()
    dataset = dataset if n_rows is None else spread(dataset, n_rows)
    # cuDNN refuses the gradient of a recurrent layer in evaluation mode.
    with torch.backends.cudnn.flags(enabled=False):
        for batch in net.get_iterator(dataset, training=False):
            x, y = unpack_data(batch)
            outputs = net.infer(x)
            loss = curvature_loss(net, outputs, y, x) if curvature_loss else None
            drawn = loss is not None
            if not drawn:
                loss = net.get_loss(outputs, y, X=x, training=False)
            yield Measured(loss, len(y), weights_in(net, x), drawn)


def mean_loss(net, dataset, n_rows=None):
    """Return the mean loss over the rows, without gradients."""
    with torch.no_grad():
        pairs = [(loss.item(), n) for loss, n, *_ in losses(net, dataset, n_rows)]
    return sum(loss * n for loss, n in pairs) / max(sum(n for _, n in pairs), 1)


def epochs_of(net, phase):
    """Return the net's history as plain dictionaries, one per epoch."""
    return [
        {"phase": phase}
        | {k: v for k, v in map(_plain, row.items()) if isinstance(v, int | float | str)}
        for row in net.history
    ]


def _plain(entry):
    key, value = entry
    return key, value.item() if isinstance(value, np.generic) else value
