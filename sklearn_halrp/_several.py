"""Several tasks as one training has them: one module and one dataset, a batch of one at a time.

Batches of different tasks have different outputs, so no batch mixes them. Whoever takes a batch
finds the module at the task that the batch is of.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset

from sklearn_halrp._predictive import add_up, first_of
from sklearn_halrp._types import TaskId


class SeveralModules(nn.Module):
    """Modules of several tasks, of which one computes: that at place `current`.

    Tensors that several have in common are trained once. An attribute that this class lacks is
    that of the module that computes, so that a net's own methods and callbacks find their layers.

    Parameters
    ----------
    copies : list of torch.nn.Module
        One for each task.
    n_outputs : list of int
        Of each task.

    Examples
    --------
    >>> both = SeveralModules([nn.Linear(3, 2), nn.Linear(3, 5)], [2, 5])
    >>> both.current = 1
    >>> both(torch.zeros(4, 3)).shape, both.out_features
    (torch.Size([4, 5]), 5)
    """

    def __init__(self, copies: Iterable[nn.Module], n_outputs: Sequence[int]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.current = 0
        self.n_outputs = max(n_outputs)
        self.differ = len(set(n_outputs)) > 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the task at place `current`."""
        return self.copies[self.current](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Look in the module that computes for what is not here."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            copies = self.__dict__.get("_modules", {}).get("copies")
            if copies is None or name.startswith("__"):
                raise
            return getattr(copies[self.current], name)

    def padded(self, outputs: Any) -> Any:
        """Return outputs with as many columns as those of every other task, for scorers.

        They join the predictions of an epoch. What is added is never the largest of a row.
        """
        first = first_of(outputs)
        if not self.differ or not isinstance(first, torch.Tensor) or first.dim() != 2:
            return outputs
        lowest = 0.0 if add_up(first) else torch.finfo(first.dtype).min
        first = nn.functional.pad(first, (0, self.n_outputs - first.shape[1]), value=lowest)
        return (first, *outputs[1:]) if isinstance(outputs, tuple) else first


def names_in_copies(
    parameters: Iterable[tuple[str, torch.Tensor]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters by the names that they have in the user's module.

    >>> [name for name, _ in names_in_copies([("copies.12.last.weight", None), ("scale", None)])]
    ['last.weight', 'scale']
    """
    for name, parameter in parameters:
        head, _, rest = name.partition(".")
        yield (rest.partition(".")[2] if head == "copies" else name), parameter


class SeveralSets(Dataset[Any]):
    """Rows of several tasks, for a net in a phase: see `batches`.

    Parameters
    ----------
    parts : dict of task id to Dataset or None
        In the order of the copies of the module; of None no batch comes.
    joint_sampling : float in [0, 1]
        A task of n rows gives batches in proportion to n to this power.
    """

    def __init__(self, parts: dict[TaskId, Any], joint_sampling: float = 1.0) -> None:
        self.parts, self.joint_sampling = parts, joint_sampling
        self._rows: Any = ConcatDataset([part for part in parts.values() if part is not None])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Any:
        return self._rows[i]

    def changed(self, change: Callable[[Any], Any]) -> "SeveralSets":
        """Return the same of other rows: what ``change`` makes of those of each task."""
        parts = {name: None if x is None else change(x) for name, x in self.parts.items()}
        return SeveralSets(parts, self.joint_sampling)

    def batches(
        self, batches_of: Callable[[Any], Any], module: SeveralModules, training: bool
    ) -> "_Drawn | _InTurn":
        """Return batches, each of one task, for which it sets the module.

        Parameters
        ----------
        batches_of : callable
            Takes the dataset of one task, returns its batches.
        module : SeveralModules
        training : bool
            Whether tasks take turns at random, and large ones leave turns to small ones.
        """
        loaders = {
            place: batches_of(part)
            for place, part in enumerate(self.parts.values())
            if part is not None
        }
        if not training:
            return _InTurn(module, loaders)
        counts = {place: _n_batches(loader) for place, loader in loaders.items()}
        names = list(self.parts)
        for place, count in counts.items():
            if not count:
                raise ValueError(
                    f"Task {names[place]!r} gave no batch to train on: its "
                    f"{len(self.parts[names[place]])} rows are too few for this batch_size with "
                    "drop_last=True."
                )
        n_rows = [len(self.parts[names[place]]) for place in loaders]
        return _Drawn(module, loaders, turns(n_rows, sum(counts.values()), self.joint_sampling))


def turns(n_rows: Sequence[int], n_batches: int, power: float) -> list[int]:
    """Return how many batches each task gives in an epoch, at least one.

    Parameters
    ----------
    n_rows : list of int
        Of each task.
    n_batches : int
        About so many in all.
    power : float in [0, 1]
        1 is by rows, 0 all tasks alike.

    Examples
    --------
    >>> [turns([900, 100], 100, power) for power in (1, 0.5, 0)]
    [[90, 10], [75, 25], [50, 50]]
    """
    shares = [rows**power for rows in n_rows]
    return [max(round(n_batches * share / sum(shares)), 1) for share in shares]


def _n_batches(loader: Any) -> int:
    return len(loader) if isinstance(loader, Sized) else sum(1 for _ in loader)


class _InTurn:
    """The batches of one task after the other."""

    def __init__(self, module: SeveralModules, loaders: dict[int, Any]) -> None:
        self.module, self.loaders = module, loaders

    def __iter__(self) -> Iterator[Any]:
        for place, loader in self.loaders.items():
            for batch in loader:
                self.module.current = place
                yield batch


class _Drawn:
    """Batches of the tasks in random order, so many of each.

    Each task goes on where it stopped in the epoch before, so that all its rows have their turn.
    """

    def __init__(
        self, module: SeveralModules, loaders: dict[int, Any], counts: Sequence[int]
    ) -> None:
        self.module = module
        self.streams = {place: _endless(loader) for place, loader in loaders.items()}
        self.places = [
            place for place, count in zip(loaders, counts, strict=True) for _ in range(count)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Any]:
        for i in torch.randperm(len(self.places)).tolist():
            batch = next(self.streams[self.places[i]])
            self.module.current = self.places[i]
            yield batch


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    found = True
    while found:
        found = False
        for batch in loader:
            found = True
            yield batch
