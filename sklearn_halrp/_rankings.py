"""Ask an importance, and check its answer before anything is made of it."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch

from sklearn_halrp._importance import IMPORTANCES, check_importance
from sklearn_halrp._layer import Layer, Ranking

# Scores may rise by so much of the largest one, as rounding makes them.
ROUNDING = 1e-9


def rankings(importance: Any, layers: Mapping[str, Layer], held_out: Any) -> dict[str, Ranking]:
    """Rank the terms of all layers.

    Parameters
    ----------
    importance : str or callable
    layers : dict of str to Layer
    held_out : HeldOut

    Returns
    -------
    dict of str to Ranking
        Where the held-out loss is not finite, so are importances.

    Raises
    ------
    ValueError
        If a callable does not give a finite number of at least 0, or a `Ranking` that fits, for
        each layer.
    TypeError
        If it is a class.
    """
    check_importance(importance)
    named = isinstance(importance, str)
    function = IMPORTANCES[importance] if named else importance
    who = f"importance={importance!r}" if named else f"importance={_name(importance)}"
    try:
        found = function(layers, held_out)
    except Exception as error:
        error.add_note(f"It was raised by {who}.")
        raise
    if not isinstance(found, Mapping):
        raise ValueError(
            f"{who} must return a dictionary, from the name of each layer to a number or a "
            f"Ranking; got a {type(found).__name__}."
        )
    for name in layers:
        if name not in found:
            raise ValueError(
                f"{who} returns nothing for the layer {name}. It must have an entry for each of "
                f"{', '.join(layers)}."
            )
    for name in found:
        if name not in layers:
            raise ValueError(
                f"{who} returns an entry for {name!r}, which is none of the layers: "
                f"{', '.join(layers)}."
            )
    ranked = {}
    for name, layer in layers.items():
        number, problem = _read(found[name], layer)
        if problem and (named or _diverged(held_out)):
            ranked[name] = layer.ranking(np.nan)  # the visit says what went wrong
        elif problem:
            raise ValueError(f"{who}, layer {name}: {problem}")
        else:
            ranked[name] = found[name] if number is None else layer.ranking(number)
    return ranked


def _name(importance: Any) -> str:
    """Return what a function or the class of an object is called."""
    return getattr(importance, "__qualname__", type(importance).__qualname__)


def _diverged(held_out: Any) -> bool:
    return any(not torch.isfinite(loss).all() for loss, *_ in held_out.losses())


def _read(value: Any, layer: Layer) -> tuple[float | None, str | None]:
    """Return the number that an importance gave a layer, or None, and what is wrong with it."""
    if isinstance(value, Ranking):
        return None, _misfit(value, layer)
    number = _number(value)
    if number is None:
        kind = type(value).__name__
        return None, f"it must be a number or a Ranking; got a {kind}, {value!r}."
    if not 0 <= number < np.inf:
        return None, f"it must be finite and at least 0; got {number}."
    return number, None


def _number(value: Any) -> float | None:
    """Return a number of Python, numpy or torch as a float, and None of anything else.

    >>> _number(np.float32(2)), _number(torch.ones(())), _number("2"), _number([2])
    (2.0, 1.0, None, None)
    """
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    return float(value) if isinstance(value, Real) else None


def _misfit(ranking: Ranking, layer: Layer) -> str | None:
    """Return why a ranking is none of this layer, or None."""
    n_terms = len(layer.energies)
    scores = np.asarray(ranking.scores)
    if scores.shape != (n_terms,) or scores.dtype.kind not in "iuf":
        return (
            f"its Ranking must have {n_terms} numbers as scores, one a term; got an array of "
            f"{scores.dtype} of shape {scores.shape}."
        )
    if not np.isfinite(scores).all() or (scores < 0).any():
        return "the scores of its Ranking must be finite and at least 0."
    (risen,) = np.nonzero(np.diff(scores) > ROUNDING * scores.max(initial=0))
    if len(risen):
        i = risen[0]
        return (
            f"the scores of its Ranking rise: that of term {i} is {scores[i]:g}, and the next "
            f"{scores[i + 1]:g}. Put the terms in descending order."
        )
    for what in ("importance", "beyond"):
        number = _number(getattr(ranking, what))
        if number is None or not 0 <= number < np.inf:
            return (
                f"{what} of its Ranking must be a finite number of at least 0; got "
                f"{getattr(ranking, what)!r}."
            )
    if not isinstance(ranking.values, torch.Tensor) or ranking.values.shape != (n_terms,):
        return f"the values of its Ranking must be a tensor of {n_terms} singular values."
    rows, columns = layer.matrix.shape
    shapes = [tuple(factor.shape) for factor in ranking.split(1)]
    if shapes != [(rows, 1), (1, columns)]:
        return (
            f"split(1) of its Ranking must give factors of shapes {(rows, 1)} and "
            f"{(1, columns)}; got {' and '.join(map(str, shapes))}."
        )
    return None
