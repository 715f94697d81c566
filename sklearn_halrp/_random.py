"""Random numbers that depend on the task alone, and leave the caller's untouched."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from sklearn_halrp._types import TaskId


def seed_for(root: int, task_id: TaskId, visit: int) -> int:
    """Return the seed of one visit to one task.

    It depends on nothing else, so a task becomes the same whichever other tasks exist.

    Parameters
    ----------
    root : int
        Drawn from the estimator's ``random_state``.
    task_id : int or str
    visit : int
        How often the task was learned before.

    Returns
    -------
    int in [0, 2**32)

    Examples
    --------
    >>> seed_for(0, "a", 0) == seed_for(0, "a", 0)
    True
    >>> seed_for(0, 1, 0) == seed_for(0, "1", 0)
    False
    """
    text = f"{root}/{type(task_id).__name__}/{task_id}/{visit}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


# The generators belong to the process, so only one thread at a time may seed them.
_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int, device: str | torch.device | None = "cpu") -> Iterator[None]:
    """Seed torch, numpy and Python inside, and restore their states after.

    Other threads that want to do the same wait.
    """
    with no_draws(device):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield


@contextmanager
def no_draws(device: str | torch.device | None = "cpu") -> Iterator[None]:
    """Restore the states of torch, numpy and Python after, whatever is drawn inside."""
    device = torch.device(device or "cpu")  # skorch: None leaves modules where they are
    devices = [device] if device.type == "cuda" else []
    with _GENERATORS, torch.random.fork_rng(devices=devices):
        python, legacy = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
