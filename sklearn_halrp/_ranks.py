"""The global choice of ranks: which terms of which layers are worth keeping."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def choose_ranks(
    scores: Mapping[str, NDArray[Any]],
    approximation_rate: float,
    max_rank: int,
    costs: Mapping[str, int] | None = None,
    max_cost: float = np.inf,
    fewest: int = 1,
) -> dict[str, int]:
    """Choose one rank per layer from the scores of all layers together.

    Term ``i`` of layer ``l`` scores ``importance_l * sigma_{l,i}^2``. All scores are
    sorted together and the largest are kept until they reach a share of the total;
    a layer's rank is the number of its own terms among them, at least `fewest` and at most
    `max_rank`. If the terms then cost more than `max_cost`, those of the lowest score
    are given up until they fit, which can bring a rank to 0.

    Parameters
    ----------
    scores : dict of str to array of shape (n_terms,)
        Each in descending order.
    approximation_rate : float in [0, 1]
        The share alpha of the total score that is kept; of 0, nothing is.
    max_rank : int
    costs : dict of str to int, optional
        Numbers that one term of the layer has to store.
    max_cost : float
        Most numbers that all terms together may store.
    fewest : int
        Lowest rank of a layer, as long as it fits.

    Returns
    -------
    dict of str to int

    References
    ----------
    arXiv:2311.15161, section 4.3.

    Examples
    --------
    >>> choose_ranks({"a": np.array([8., 1.]), "b": np.array([1., 0.])}, 0.85, 10)
    {'a': 2, 'b': 1}
    >>> choose_ranks({"a": np.array([8., 1.]), "b": np.array([1., 0.])}, 0.85, 10,
    ...              costs={"a": 5, "b": 5}, max_cost=7)
    {'a': 1, 'b': 0}
    """
    names = list(scores)
    layer = np.concatenate([np.full(len(scores[name]), i) for i, name in enumerate(names)])
    values = np.concatenate([np.asarray(scores[name], dtype=float) for name in names])
    order = np.argsort(-values, kind="stable")
    reached = np.cumsum(values[order])
    # The first place where the share is reached is kept too; round-off in the sum
    # must not keep one term more.
    target = approximation_rate * reached[-1] * (1 - 1e-12)
    n_kept = np.searchsorted(reached, target) + 1 if approximation_rate else 0
    kept = order[:n_kept]
    counts = np.bincount(layer[kept], minlength=len(names))
    ranks = {
        name: int(min(max(count, fewest), max_rank, len(scores[name])))
        for name, count in zip(names, counts, strict=True)
    }
    if costs is None or sum(ranks[name] * costs[name] for name in names) <= max_cost:
        return ranks
    return _afford(ranks, scores, costs, max_cost)


def worthwhile_scales(
    with_scales: Mapping[str, NDArray[Any]],
    without: Mapping[str, NDArray[Any]],
    gains: Mapping[str, float],
    costs: Mapping[str, float],
    scale_costs: Mapping[str, int],
    max_cost: float,
) -> set[str]:
    """Choose which layers have scales, where there is no room for all that is worth something.

    A number has a price, the same everywhere. At a price each layer has scales or not, and the
    terms that are worth more than they cost, whichever is the best bargain. The price is the
    lowest at which all of it fits.

    Parameters
    ----------
    with_scales, without : dict of str to array of shape (n_terms,)
        What the terms score beside the scales, and by themselves.
    gains : dict of str to float
        What the scales score, in the same unit.
    costs, scale_costs : dict of str to int
        Numbers that a term, and the scales, have to store.
    max_cost : float
        Most numbers for scales and terms together.

    Returns
    -------
    set of str
        Layers with scales.

    Examples
    --------
    >>> scores = {"a": np.array([4.]), "b": np.array([4.])}
    >>> worthwhile_scales(scores, scores, {"a": 9., "b": 1.}, {"a": 2, "b": 2},
    ...                   {"a": 2, "b": 2}, max_cost=6)
    {'a'}
    """

    def bargain(price: float) -> tuple[set[str], float]:
        scaled, cost = set(), 0.0
        for name, gain in gains.items():
            one, other = (
                np.maximum(np.asarray(scores[name], dtype=float) - price * costs[name], 0)
                for scores in (with_scales, without)
            )
            worth = one.sum() + gain - price * scale_costs[name]
            has = bool(worth >= (1 - 1e-9) * other.sum())  # for nothing they are taken
            cost += costs[name] * np.count_nonzero(one if has else other)
            cost += has * scale_costs[name]
            scaled |= {name} if has else set()
        return scaled, cost

    scaled, cost = bargain(0.0)
    if cost <= max_cost:
        return scaled
    every = [*gains.values(), *(float(x) for s in with_scales.values() for x in s)]
    low, high = 0.0, max(every) + sum(gains.values())
    for _ in range(100):  # halves: at `high` it always fits
        price = (low + high) / 2
        low, high = (low, price) if bargain(price)[1] <= max_cost else (price, high)
    return bargain(high)[0]


def _afford(
    ranks: Mapping[str, int],
    scores: Mapping[str, NDArray[Any]],
    costs: Mapping[str, int],
    max_cost: float,
) -> dict[str, int]:
    """Give up the terms of the lowest score until the rest fits."""
    terms = [
        (-float(scores[name][i]), i, position, name)
        for position, name in enumerate(ranks)
        for i in range(ranks[name])
    ]
    affordable, spent = dict.fromkeys(ranks, 0), 0
    for *_, name in sorted(terms):
        spent += costs[name]
        if spent > max_cost:
            break
        affordable[name] += 1
    return affordable
