"""From a trained perturbation to what a task keeps of it."""

import numpy as np

from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._network import to_array
from sklearn_halrp._pruning import Compact, prune
from sklearn_halrp._task import StoredFactors

PRECISIONS = ("full", "half")


def allowance(network, module, settings):
    """Return how many numbers the growth budget leaves for low-rank terms."""
    roles = network.roles
    scales = sum(sum(get_tensor(module, name).shape[:2]) for name in roles.perturbed)
    own = sum(get_tensor(module, name).numel() for name in roles.own)
    return max(int(settings.growth_budget * network.n_numbers) - scales - own, 0)


def store(network, module, factors, settings):
    """Prune to the growth budget and keep what is left as plain arrays.

    Parameters
    ----------
    network : Network
    module : torch.nn.Module
        The trained module, for the tensors that belong to the task.
    factors : dict of str to Factors
    settings : Settings

    Returns
    -------
    own : dict of str to array
    stored : dict of str to StoredFactors
    before : int
        Numbers that the task would store without pruning.
    """
    own = network.changed(module)
    arrays = {name: Factors(*map(to_array, tensors)) for name, tensors in factors.items()}
    fixed = sum(array.size for array in own.values())
    fixed += sum(f.r.size + f.s.size for f in arrays.values())
    allowed = int(settings.growth_budget * network.n_numbers) - fixed
    pruned = prune(
        {name: (f.u, f.v) for name, f in arrays.items()},
        settings.prune_threshold,
        max(allowed, 0),
    )
    keep = in_half if settings.precision == "half" else np.asarray
    stored = {
        name: StoredFactors(
            keep(arrays[name].r), keep(arrays[name].s), Compact.of(keep(u)), Compact.of(keep(v))
        )
        for name, (u, v) in pruned.items()
    }
    before = fixed + sum(f.u.size + f.v.size for f in arrays.values())
    return own, stored, before


def in_half(array):
    """Return numbers of two bytes, or the array itself where they would not be right.

    They are where some number is too large for two bytes, or so many too small that rounding
    moves the array, as a vector, by more than a thousandth of its length.

    >>> [in_half(np.array([x, 1.0])).dtype.name for x in (0.5, 1e-9, 1e6)]
    ['float16', 'float16', 'float64']
    >>> in_half(np.array([1e-9, 2e-9])).dtype.name
    'float64'
    """
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    exact = array.astype(np.float64)
    right = np.linalg.norm(exact - half) <= 2.0**-10 * np.linalg.norm(exact)
    return half if right else array
