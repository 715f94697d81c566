"""Training and evaluating any module with the user's skorch net as the recipe."""

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from skorch.dataset import unpack_data
from skorch.utils import to_device, to_numpy
from torch import nn
from torch.utils.data import Subset

from sklearn_halrp._faults import let_through
from sklearn_halrp._phase import Phase, in_phase
from sklearn_halrp._predictive import broken_rows, first_of
from sklearn_halrp._processes import alone, is_shared, together
from sklearn_halrp._sample_weight import check_criterion, weights_in
from sklearn_halrp._several import SeveralSets
from sklearn_halrp._types import Target


def recipe_of(net: NeuralNet) -> NeuralNet:
    """Return an unfitted copy of a skorch net that shares its module with the original.

    A module given as an instance may be large, and cloning would copy it. Callbacks begin anew
    with what the user gave to them. An accelerator acts in `train` alone.
    """
    light = object.__new__(type(net))  # skorch's own copying goes through a file
    vars(light).update(vars(net))
    names = [name for name in vars(net) if name == "callbacks" or name.startswith("callbacks__")]
    own = {name: _anew(getattr(net, name)) for name in names}
    vars(light).update(dict.fromkeys(own), module=torch.nn.Identity)
    if is_shared(net):
        light.accelerator = alone(net.accelerator)
    recipe = clone(light)
    vars(recipe).update(own, module=net.module)  # skorch's setter is for what it initialises
    if getattr(recipe, "iterator_valid__drop_last", False):
        recipe.iterator_valid__drop_last = False  # no row may go unpredicted
    return recipe


_GENERATORS = (np.random.RandomState, np.random.Generator, torch.Generator, random.Random)


def _anew(part: Any) -> Any:
    """Return a callback as it is before any training, or a list with such callbacks.

    skorch trains with the very callback. Here each phase has one of its own, made of the same
    arguments: a writer, a trial or a list that is filled stays the user's. A generator of random
    numbers is copied, since no phase may depend on those before.
    """
    if isinstance(part, list | tuple):
        return type(part)(map(_anew, part))
    if not isinstance(part, Callback):  # a name, or a class that skorch will call
        return part
    given = {
        name: copy.deepcopy(value) if isinstance(value, _GENERATORS) else value
        for name, value in part.get_params(deep=False).items()
    }
    try:
        callback = type(part)(**given)
        found = callback.get_params(deep=False)
    except Exception as error:
        let_through(error)
        found = {}
    if found.keys() == given.keys() and all(found[name] is given[name] for name in given):
        return callback
    # Its __init__ does more than keep its arguments, so they do not make the same callback again.
    try:
        return copy.copy(part)
    except Exception as error:
        let_through(error)
        return part  # as in skorch


def around(
    recipe: NeuralNet,
    module: nn.Module,
    first: Iterable[Callback] = (),
    last: Iterable[Callback] = (),
    sets: tuple[Any, Any] | None = None,
    draws: bool = True,
    weighted: bool = False,
    own: bool = True,
    **settings: Any,
) -> NeuralNet:
    """Return an initialised copy of a skorch net that computes with this module.

    Parameters
    ----------
    recipe : skorch.NeuralNetClassifier
        Never fitted; it is left as it is.
    module : torch.nn.Module
        Used as it is, not copied; the net's own ``initialize`` does not change it.
    first, last, sets, draws, weighted, own
        See `Phase`.
    **settings
        Parameters of the recipe to override.

    Raises
    ------
    ValueError
        If rows have weights, and the net's criterion cannot heed them.
    """
    phase = Phase(
        module=module,
        sets=sets,
        weighted=weighted,
        own=own,
        draws=draws,
        first=tuple(first),
        last=tuple(last),
    )
    net = in_phase(recipe_of(recipe), phase)
    for name, value in settings.items():
        setattr(net, name, value)
    net.initialize()
    if weighted:
        check_criterion(net.criterion_)
    return net


def writes_files(recipe: NeuralNet) -> bool:
    """Whether a callback of the recipe writes files, which processes would share."""
    return any(isinstance(c, Checkpoint) or c is Checkpoint for c in callbacks_of(recipe))


def callbacks_of(net: NeuralNet) -> list[Any]:
    """Return the callbacks that a net was given, or their classes, without names."""
    callbacks = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    return [c[1] if isinstance(c, tuple | list) else c for c in callbacks]


def train(net: NeuralNet, X: Any, y: Any, epochs: int) -> None:
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
    net.phase_.sets = None  # the data would outlive their use


def _fit(net: NeuralNet, X: Any, y: Any, epochs: int) -> None:
    net.notify("on_train_begin", X=X, y=y)
    try:
        net.fit_loop(X, y, epochs=epochs)
    except KeyboardInterrupt:
        if not _stopped_early(net):
            raise
    net.notify("on_train_end", X=X, y=y)


def _stopped_early(net: NeuralNet) -> bool:
    stops = [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]
    return any(stop.misses_ == stop.patience for stop in stops)


def spread(dataset: Any, n_rows: int) -> Any:
    """Return at most this many rows, evenly spread: they may be sorted by class."""
    if n_rows >= len(dataset):
        return dataset
    if isinstance(dataset, SeveralSets):  # whose batches are of one task each
        return dataset.changed(lambda part: spread(part, -(-n_rows * len(part) // len(dataset))))
    places: Any = np.linspace(0, len(dataset) - 1, n_rows).round().astype(int)
    return Subset(dataset, places)


class Measured(NamedTuple):
    """The mean loss of a batch, its number of rows, and their weights if they have any.

    Of a loss that is drawn only the gradient counts.
    """

    loss: torch.Tensor
    n_rows: int
    weights: torch.Tensor | None = None
    drawn: bool = False


def losses(
    net: NeuralNet,
    dataset: Any,
    n_rows: int | None = None,
    curvature_loss: Callable[..., Any] | None = None,
) -> Iterator[Measured]:
    """Yield what `Measured` says of each batch, in evaluation mode.

    Whoever takes gradients of them does it inside `without_cudnn`.

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
    for batch in net.get_iterator(dataset, training=False):
        x, y = unpack_data(batch)
        outputs = net.infer(x)
        loss: Any = curvature_loss(net, outputs, y, x) if curvature_loss else None
        drawn = loss is not None
        if not drawn:
            loss = net.get_loss(outputs, y, X=x, training=False)
        yield Measured(loss, len(y), weights_in(x), drawn)


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Leave cuDNN out: it refuses the gradient of a recurrent layer in evaluation mode.

    The flag is the process's, so that this stands around the loop over `losses`, not in it: an
    error there would leave a generator, and the flag with it, until it is collected.
    """
    enabled = torch.backends.cudnn.enabled
    try:
        torch.backends.cudnn.enabled = False
        yield
    finally:
        try:
            torch.backends.cudnn.enabled = enabled
        except BaseException:  # an interruption may come just now
            torch.backends.cudnn.enabled = enabled
            raise


def mean_loss(net: NeuralNet, dataset: Any, n_rows: int | None = None) -> float:
    """Return the mean loss over the rows, without gradients."""
    with torch.no_grad(), without_cudnn():
        pairs = [(loss.item(), n) for loss, n, *_ in losses(net, dataset, n_rows)]
    return sum(loss * n for loss, n in pairs) / max(sum(n for _, n in pairs), 1)


def unpredicted(net: NeuralNet, dataset: Any, target: Target) -> NDArray[np.bool_]:
    """Return for which rows a net predicts NaN or infinity; see `broken_rows`.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, and weighted if the rows bring weights.
    dataset : Dataset
    target : Classes or Numbers
    """
    net.module_.eval()
    nonlinearity, broken = net._get_predict_nonlinearity(), []
    with torch.no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for batch in net.get_iterator(dataset, training=False):
            outputs = first_of(net.infer(unpack_data(batch)[0]))
            values = target.decoded(to_numpy(nonlinearity(to_device(outputs, "cpu"))), net)
            broken.append(broken_rows(torch.from_numpy(values.reshape(len(values), -1))).numpy())
    return np.concatenate(broken)


def epochs_of(net: NeuralNet, phase: str) -> list[dict[str, Any]]:
    """Return the net's history as plain dictionaries, one per epoch."""
    return [
        {"phase": phase}
        | {k: v for k, v in map(_plain, row.items()) if isinstance(v, int | float | str)}
        for row in net.history
    ]


def _plain(entry: tuple[str, Any]) -> tuple[str, Any]:
    key, value = entry
    return key, value.item() if isinstance(value, np.generic) else value
