"""Random numbers that depend on the task alone, and leave the caller's untouched."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_halrp._turns import Turn
from sklearn_halrp._types import TaskId

Device = str | torch.device | None


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


def seed_of_all(root: int) -> int:
    """Return the seed of what several tasks do together, whichever they are.

    >>> seed_of_all(0) == seed_of_all(0), seed_of_all(0) == seed_for(0, "all", 0)
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(f"{root}/together".encode()).digest()[:4], "big")


# The generators belong to the process, so only one thread at a time may seed them.
_GENERATORS = Turn()


@contextmanager
def seeded(seed: int, device: Device = "cpu") -> Iterator[None]:
    """Seed torch, numpy and Python inside, and restore their states after.

    Other threads that want to do the same wait.
    """
    with _GENERATORS.taken(), _restored(device):
        _seed_torch(seed, device)
        np.random.seed(seed)
        random.seed(seed)
        yield


@contextmanager
def seeded_beside(seed: int, device: Device = "cpu") -> Iterator[None]:
    """Do the same without a wait, whoever has seeded the generators.

    Where another thread has, torch draws from generators of this thread's own, which give the
    same numbers. Those of numpy and Python are left alone, and draw what they would.
    """
    with _GENERATORS.taken_if_free() as free, seeded(seed, device) if free else OwnDraws(seed):
        yield


@contextmanager
def no_draws(device: Device = "cpu") -> Iterator[None]:
    """Restore the states of torch, numpy and Python after, whatever is drawn inside.

    Where another thread has seeded them, only torch's are spared, and there is no wait.
    """
    with _GENERATORS.taken_if_free() as free, _restored(device) if free else OwnDraws(0):
        yield


@contextmanager
def _restored(device: Device) -> Iterator[None]:
    device = torch.device(device or "cpu")  # skorch: None leaves modules where they are
    put_back = [
        partial(torch.set_rng_state, torch.get_rng_state()),
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, np.random.get_state()),
    ]
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device)
        put_back.append(partial(torch.cuda.set_rng_state, state, device))
    try:
        yield
    finally:
        try:
            for each in put_back:
                each()
        except BaseException:  # an interruption may come just now, so all are put back again
            for each in put_back:
                each()
            raise


def _seed_torch(seed: int, device: Device) -> None:
    """Seed the generators that a net on this device draws from, and no others.

    `torch.manual_seed` asks every kind of device that there may be, and takes their locks, which
    nobody gives back in a process that was forked meanwhile.
    """
    torch.default_generator.manual_seed(seed)
    kind = torch.device(device or "cpu").type
    if kind == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif kind != "cpu":
        getattr(torch, kind).manual_seed(seed)


class OwnDraws(TorchDispatchMode):
    """Let torch draw, in this thread, from generators that nobody else has.

    They are seeded as `torch.manual_seed` seeds the process's, and give the same numbers.

    >>> with OwnDraws(0):
    ...     own = torch.rand(2), torch.nn.Linear(2, 2).weight
    >>> with seeded(0):
    ...     process = torch.rand(2), torch.nn.Linear(2, 2).weight
    >>> all(map(torch.equal, own, process))
    True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Add a generator to what draws and has none."""
        kwargs = dict(kwargs or {})
        drawing = _drawing(func)
        if drawing is not None and kwargs.get("generator") is None:
            of_tensors = (a.device for a in args if isinstance(a, torch.Tensor))
            device = torch.device(kwargs.get("device") or next(of_tensors, "cpu"))
            kwargs["generator"] = self._generator(device)
            func = drawing
        return func(*args, **kwargs)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]


@cache
def _drawing(func: Any) -> Any:
    """Return the form of an operation that takes a generator, or None if it draws nothing."""
    if _takes_generator(func):
        return func
    packet, name = func.overloadpacket, func._overloadname
    name = "generator" if name == "default" else f"{name}_generator"
    return getattr(packet, name) if name in packet.overloads() else None


def _takes_generator(func: Any) -> bool:
    return any(argument.name == "generator" for argument in func._schema.arguments)
