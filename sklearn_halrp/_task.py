"""What one task keeps, as plain arrays in main memory."""

from dataclasses import dataclass, field

import numpy as np

from sklearn_halrp._pruning import Compact


@dataclass(frozen=True)
class StoredFactors:
    """The perturbation of one weight: r (out,), s (in,), u (out, k), v (k, m)."""

    r: np.ndarray
    s: np.ndarray
    u: Compact
    v: Compact

    @property
    def rank(self):
        """Number of rank-1 terms left."""
        return self.u.shape[1]

    @property
    def n_numbers(self):
        """Numbers stored."""
        return self.r.size + self.s.size + self.u.n_numbers + self.v.n_numbers

    @property
    def n_bytes(self):
        """Bytes stored."""
        return self.r.nbytes + self.s.nbytes + self.u.n_bytes + self.v.n_bytes


@dataclass(frozen=True)
class Task:
    """One learned task.

    Attributes
    ----------
    classes : array of shape (n_classes,)
        Its labels, sorted: the order of the head's outputs.
    factors : dict of str to StoredFactors
        Perturbations by weight. Empty for the task that the base was trained on.
    own : dict of str to array
        Tensors kept in full. Those equal to the base's are left out.
    visits : int
        How often the task was learned.
    history : dict of str to array
        By column, one entry per epoch, over all visits.
    report : dict
        What was measured while learning it; rows and seconds of all visits together.
    """

    classes: np.ndarray
    factors: dict = field(default_factory=dict)
    own: dict = field(default_factory=dict)
    visits: int = 1
    history: dict = field(default_factory=dict)
    report: dict = field(default_factory=dict)

    @property
    def n_numbers(self):
        """Numbers this task stores besides the base."""
        return sum(array.size for array in self.own.values()) + sum(
            stored.n_numbers for stored in self.factors.values()
        )

    @property
    def n_bytes(self):
        """Bytes this task stores besides the base."""
        return sum(array.nbytes for array in self.own.values()) + sum(
            stored.n_bytes for stored in self.factors.values()
        )
