"""From a trained perturbation to what a task keeps of it, within its budget."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sklearn_halrp._coding import Coded
from sklearn_halrp._folding import Normed
from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor
from sklearn_halrp._network import Network, to_array
from sklearn_halrp._pruning import Compact, prune
from sklearn_halrp._task import StoredFactors, Task


@dataclass(frozen=True)
class Budget:
    """How many numbers one task may store.

    Scales, biases, normalisation and the head come first; low-rank terms get what they leave.

    Examples
    --------
    >>> budget = Budget(100)
    >>> budget.left(30), budget.left(130)
    (70, 0)
    """

    numbers: int

    @classmethod
    def of(cls, network: Network, growth_budget: float) -> Self:
        """Return the budget of a task: a share of what the base stores."""
        return cls(int(growth_budget * network.n_numbers))

    def left(self, taken: int) -> int:
        """Return how many numbers are left when some are taken."""
        return max(self.numbers - taken, 0)

    def left_for_terms(
        self,
        network: Network,
        module: nn.Module,
        scales: int,
        normed: Iterable[Normed] = (),
    ) -> int:
        """Return how many numbers are left for low-rank terms.

        That is before training has shown which of the task's own tensors differ from the
        base's: all of them are counted, but for what norms make redundant.

        Parameters
        ----------
        network : Network
        module : torch.nn.Module
            Of the task, for the sizes of its tensors.
        scales : int
            Numbers of all r and s.
        normed : iterable of Normed
        """
        redundant = {name for one in normed for name in one.redundant}
        names = (name for name in network.roles.own if name not in redundant)
        return self.left(scales + sum(get_tensor(module, name).numel() for name in names))

    def exceeded_by(self, task: Task) -> bool:
        """Whether a task stores more."""
        return task.n_numbers > self.numbers


def store(
    network: Network,
    module: nn.Module,
    factors: Mapping[str, Factors],
    budget: Budget,
    prune_threshold: float,
    precision: str,
) -> tuple[dict[str, NDArray[Any]], dict[str, StoredFactors], int]:
    """Prune to the growth budget and keep what is left as plain arrays.

    Parameters
    ----------
    network : Network
    module : torch.nn.Module
        The trained module, for the tensors that belong to the task.
    factors : dict of str to Factors
    budget : Budget
    prune_threshold : float
    precision : {"full", "half", "int8"}

    Returns
    -------
    own : dict of str to array
    stored : dict of str to StoredFactors
    before : int
        Numbers that the task would store without pruning.
    """
    own: dict[str, Any] = network.changed(module)
    arrays: dict[str, Any] = {
        name: Factors(*map(to_array, tensors))  # type: ignore[arg-type] # arrays, for now
        for name, tensors in factors.items()
    }
    fixed = sum(array.size for array in own.values())
    fixed += sum(f.r.size + f.s.size for f in arrays.values())
    pruned = prune(
        {name: (f.u, f.v) for name, f in arrays.items()},
        threshold=prune_threshold,
        max_numbers=budget.left(fixed),
    )
    before = fixed + sum(f.u.size + f.v.size for f in arrays.values())
    stored = {
        name: _ROUNDED[precision](arrays[name].r, arrays[name].s, u, v)
        for name, (u, v) in pruned.items()
    }
    if precision in BITS:  # one byte holds for all that a task keeps, half a byte for U and V
        buffers = dict(network.base.named_buffers())
        own = {name: in_bytes(array, buffer=name in buffers) for name, array in own.items()}
    return own, stored, before


def _in_full(r: Any, s: Any, u: Any, v: Any) -> StoredFactors:
    return StoredFactors(r, s, Compact.of(u), Compact.of(v))


def _in_half(r: Any, s: Any, u: Any, v: Any) -> StoredFactors:
    return _in_full(in_half(r), in_half(s), in_half(u), in_half(v))


def _in_bytes(r: Any, s: Any, u: Any, v: Any, bits: int = 8) -> StoredFactors:
    u, v = (replace(x, values=in_bytes(x.values, bits=bits)) for x in map(Compact.of, (u, v)))
    return StoredFactors(in_bytes(r, around=1), in_bytes(s, around=1), u, v)


BITS = {"int8": 8, "nf4": 4}
_ROUNDED = {"full": _in_full, "half": _in_half}
_ROUNDED |= {name: partial(_in_bytes, bits=bits) for name, bits in BITS.items()}
PRECISIONS = tuple(_ROUNDED)


def in_bytes(array: NDArray[Any], buffer: bool = False, bits: int = 8, around: float = 0) -> Any:
    """Return numbers of one byte, or of two where those would not be right, or the array itself.

    Parameters
    ----------
    array : array
    buffer : bool
        Whether it is none that was trained, such as a running variance, whose ratios matter.
    bits : {8, 4}
        With 4 it is half a byte, where that is right.
    around : float
        Coded is what they differ from this.
    """
    if array.dtype.kind != "f":
        return array  # such as a count, or complex numbers
    if buffer:
        return in_half(array)
    numbers = array - array.dtype.type(around)
    found = (Coded.of(numbers, each) for each in (4, 8) if each >= bits)
    coded = next((one for one in found if one is not None), None)
    return in_half(array) if coded is None else coded


def in_half(array: NDArray[Any]) -> NDArray[Any]:
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
