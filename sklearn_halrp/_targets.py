"""What the outputs of a network mean for one task.

A target knows how many outputs a task needs, turns labels into what the loss takes and
outputs into what is predicted, and says what a task keeps of this. No other room asks
which kind of target it is. A new kind is one class beside `Classes` and `Numbers`, one line
in the table below, and a face.
"""

from typing import Any

from sklearn_halrp._classes import Classes
from sklearn_halrp._numbers import Numbers
from sklearn_halrp._types import Target

# By an entry of a saved state that only this kind has.
_KINDS: dict[str, type[Target]] = {"classes": Classes, "center": Numbers}


def target_from_state(state: dict[str, Any]) -> Target:
    """Return the target that was saved with a task; its entries are taken out of the state.

    >>> import numpy as np
    >>> target_from_state({"classes": np.array([0, 1]), "visits": 1}).n_outputs
    2
    >>> target_from_state({"center": np.zeros(3), "scale": np.ones(3)}).n_outputs
    3
    """
    return next(kind for key, kind in _KINDS.items() if key in state).from_state(state)
