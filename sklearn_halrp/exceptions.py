"""What can go wrong, as one small tree of errors and warnings."""

__all__ = [
    "GrowthBudgetWarning",
    "HalrpError",
    "InvalidNetworkError",
    "MissingTaskError",
    "TrainingDivergedError",
    "UnknownTaskError",
]


class HalrpError(Exception):
    """Base class of the errors this package raises."""


class InvalidNetworkError(HalrpError, ValueError):
    """The network cannot be used: no head fits, or nothing can be perturbed."""


class MissingTaskError(HalrpError, ValueError):
    """Several tasks are known and the call did not say which one is meant."""


class UnknownTaskError(HalrpError, ValueError):
    """A task id that was never learned; the message names a known one if it is alike."""


class TrainingDivergedError(HalrpError, RuntimeError):
    """A loss, a weight or a prediction became NaN or infinite; nothing was kept of the call."""


class GrowthBudgetWarning(UserWarning):
    """A task's indispensable numbers alone are more than its growth budget."""
