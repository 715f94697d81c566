"""What one task keeps: one block of numbers, and notes on what they are.

A thousand tasks of a few thousand numbers each are common, and thirty small arrays to a
task would take more memory than what they hold.
"""

import json
import lzma
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sklearn_halrp._coding import Coded
from sklearn_halrp._pruning import Compact
from sklearn_halrp._types import Target

DIGITS = 5  # of numbers in notes, which are there to be read by people
PAGE = 64  # epochs that share a page of a history: few more are ever written again


@dataclass(frozen=True)
class StoredFactors:
    """The perturbation of one weight: r (out,), s (in,), u (out, k), v (k, m).

    Any of the arrays may be `Coded`; of r and s it is what they differ from 1. Empty ones stand
    for ones.
    """

    r: Any
    s: Any
    u: Compact
    v: Compact

    @property
    def n_numbers(self) -> int:
        """Numbers stored."""
        return self.r.size + self.s.size + self.u.n_numbers + self.v.n_numbers


@dataclass(frozen=True, slots=True)
class Task:
    """One learned task; made by `Task.of`.

    Attributes
    ----------
    target : Classes or Numbers
        What its outputs mean; see `_targets.py`.
    visits : int
        How often the task was learned.
    n_numbers : int
        Numbers this task stores besides the base.
    data : array of shape (n_bytes,), uint8
        All its arrays, one after the other.
    notes : bytes
        Their names, types and shapes, and history and report, with floats rounded to
        5 significant digits: JSON, compressed.
    pages : tuple of bytes
        The history in pieces, where the task was learned several times: a visit adds to the
        last piece, and costs the same however many came before.
    """

    target: Target
    visits: int
    n_numbers: int
    data: NDArray[np.uint8]
    notes: bytes
    pages: tuple[bytes, ...] = ()

    @classmethod
    def of(
        cls,
        target: Target,
        factors: Mapping[str, StoredFactors] | None = None,
        own: Mapping[str, NDArray[Any] | Coded] | None = None,
        visits: int = 1,
        history: Sequence[Mapping[str, Any]] = (),
        report: Mapping[str, Any] | None = None,
        before: "Task | None" = None,
    ) -> Self:
        """Return a task.

        Parameters
        ----------
        target : Classes or Numbers
        factors : dict of str to StoredFactors, optional
            Perturbations by weight. Empty for the task that the base was trained on.
        own : dict of str to array, optional
            Tensors kept in full. Those equal to the base's are left out.
        visits : int
        history : sequence of dict
            One entry per epoch, since the task that was there before.
        report : dict, optional
            What was measured while learning it; rows and seconds of all visits together.
        before : Task, optional
            What the task was before this visit.
        """
        factors, own = factors or {}, own or {}
        kept: list[tuple[str, str, Any]] = [("own", name, array) for name, array in own.items()]
        for name, stored in factors.items():
            kept += [("r", name, stored.r), ("s", name, stored.s)]
            for part in ("u", "v"):
                compact = getattr(stored, part)
                kept.append((part, name, compact.values))
                if compact.mask is not None:
                    kept.append((f"{part} mask", name, compact.mask))
        arrays: list[tuple[str, str, NDArray[Any]]] = []
        halves = []  # codes of four bits do not show the shape of what they stand for
        for part, name, array in kept:
            if isinstance(array, Coded):
                arrays += [(part, name, array.codes), (f"{part} scales", name, array.scales)]
                if array.codes.shape != array.shape:
                    halves.append((part, name, array.shape))
            else:
                arrays.append((part, name, array))
        arrays.sort(key=lambda entry: -entry[2].itemsize)  # so that each is aligned
        history = _rounded(history)
        notes = {
            "arrays": [(part, name, a.dtype.str, a.shape) for part, name, a in arrays],
            "shapes": {name: (f.u.shape, f.v.shape) for name, f in factors.items()},
            "history": _columns([] if before else history),
            "report": _rounded(report or {}),
        }
        if halves:
            notes["halves"] = halves
        parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for *_, array in arrays]
        return cls(
            target,
            visits,
            sum(array.size for array in own.values())
            + sum(stored.n_numbers for stored in factors.values()),
            np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8),
            _written(notes),
            _with_rows(before._all_pages(), history) if before else (),
        )

    @property
    def n_bytes(self) -> int:
        """Bytes this task stores besides the base."""
        return self.data.nbytes

    @property
    def format(self) -> int:
        """The first format of files that can hold the task."""
        return 6 if self._notes().get("halves") else 5

    @property
    def own(self) -> dict[str, NDArray[Any]]:
        """Tensors kept in full, by name."""
        return self.parts()[0]

    @property
    def factors(self) -> dict[str, StoredFactors]:
        """Perturbations, by weight; no array is coded."""
        return self.parts()[1]

    def parts(self) -> tuple[dict[str, NDArray[Any]], dict[str, StoredFactors]]:
        """Return `own` and `factors`, for less than both take one after the other."""
        notes = self._notes()
        arrays = self._decoded(notes)
        own = {name: array for (part, name), array in arrays.items() if part == "own"}
        return own, {
            name: StoredFactors(
                arrays["r", name],
                arrays["s", name],
                Compact(tuple(u), arrays["u", name], arrays.get(("u mask", name))),
                Compact(tuple(v), arrays["v", name], arrays.get(("v mask", name))),
            )
            for name, (u, v) in notes["shapes"].items()
        }

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks after pruning, by weight."""
        return {name: u[1] for name, (u, _) in self._notes()["shapes"].items()}

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dictionary per epoch, over all visits."""
        return [row for page in self._all_pages() for row in _rows(_read(page))]

    @property
    def report(self) -> dict[str, Any]:
        """What was measured while learning it."""
        return self._notes()["report"]

    def check(self) -> None:
        """Refuse a task whose notes do not fit its numbers; nothing large is made of them.

        Raises
        ------
        ValueError, KeyError, TypeError, zlib.error
        """
        notes = self._notes()
        coded = [(part, name, "u1", shape) for part, name, shape in notes.get("halves", ())]
        for _, _, kind, shape in [*notes["arrays"], *coded]:
            sizes = all(type(size) is int and size >= 0 for size in shape)
            if np.dtype(kind).kind not in "biufc" or not sizes:
                raise ValueError(f"a task has an array of type {kind} and shape {shape}")
        own, factors = self.parts()
        counted = sum(array.size for array in own.values())
        counted += sum(stored.n_numbers for stored in factors.values())
        for stored in factors.values():
            stored.u.check()
            stored.v.check()
            if stored.u.shape[1] != stored.v.shape[0]:
                raise ValueError("a task has factors of different ranks")
        if (counted, sum(a.nbytes for a in self._arrays(notes).values())) != (
            self.n_numbers,
            self.n_bytes,
        ):
            raise ValueError("a task does not hold the numbers that it names")
        if not all(isinstance(part, dict) for part in (self.report, *self.history)):
            raise ValueError("a task has a report or a history of another kind")

    def to_state(self) -> dict[str, Any]:
        """Return the task as plain arrays and settings."""
        return {
            **self.target.to_state(),
            "visits": self.visits,
            "n_numbers": self.n_numbers,
            "data": self.data,
            "notes": self._whole_notes(),
        }

    def _notes(self) -> dict[str, Any]:
        return _read(self.notes)

    def _all_pages(self) -> tuple[bytes, ...]:
        history = self._notes()["history"]
        history = _columns(history) if isinstance(history, list) else history  # up to format 2
        return (_written(history), *self.pages) if history else self.pages

    def _whole_notes(self) -> bytes:
        """Return the notes with all of the history, as files have them."""
        if not self.pages:
            return self.notes
        return _written({**self._notes(), "history": _columns(self.history)})

    def _arrays(self, notes: Mapping[str, Any]) -> dict[tuple[str, str], NDArray[Any]]:
        """Return views of the arrays, by part and name."""
        arrays, begin = {}, 0
        for part, name, kind, shape in notes["arrays"]:
            end = begin + math.prod(shape) * np.dtype(kind).itemsize
            arrays[part, name] = self.data[begin:end].view(kind).reshape(shape)
            begin = end
        return arrays

    def _decoded(self, notes: Mapping[str, Any]) -> dict[tuple[str, str], NDArray[Any]]:
        """Return the arrays, those that are coded as the numbers that they stand for."""
        arrays = self._arrays(notes)
        shapes = {(part, name): tuple(shape) for part, name, shape in notes.get("halves", ())}
        for part, name in [key for key in arrays if (f"{key[0]} scales", key[1]) in arrays]:
            codes = arrays[part, name]
            shape = shapes.get((part, name), codes.shape)
            numbers = Coded(codes, arrays[f"{part} scales", name], shape).dense()
            arrays[part, name] = numbers + np.float32(part in ("r", "s"))
        return arrays


def pack_notes(several: Iterable[bytes]) -> bytes:
    """Return the notes of several tasks as one block, where what they share takes no room.

    >>> several = [zlib.compress(b"[1]"), zlib.compress(b"[2]")]
    >>> unpack_notes(pack_notes(several), 2) == several
    True
    """
    whole = [zlib.decompress(notes) for notes in several]
    block = lzma.compress(b"\n".join(whole))
    of_one, of_all = _limits(len(block), len(whole))
    if max(map(len, whole), default=0) > of_one or sum(map(len, whole)) > of_all:
        raise ValueError("A history is too long to be kept in a file. Forget tasks, or learn anew.")
    return block


def unpack_notes(block: bytes, n_tasks: int) -> list[bytes]:
    """Return the notes of each task; JSON has no line break that is not escaped.

    Parameters
    ----------
    block : bytes
        As `pack_notes` returned it, or of unknown origin: it is expanded piece by piece.
    n_tasks : int

    Raises
    ------
    ValueError
        If it is damaged, larger than notes are, or holds another number of them.
    """
    reader = lzma.LZMADecompressor(memlimit=2**27)
    of_one, rest = _limits(len(block), n_tasks)
    found, begun = [], bytearray()
    try:
        while not reader.eof:
            piece = reader.decompress(block, max_length=2**20)
            if not piece and reader.needs_input:
                raise ValueError("notes that end too early")
            block, rest = b"", rest - len(piece)
            first, *others = piece.split(b"\n")
            begun += first
            for other in others:
                found.append(zlib.compress(begun))
                begun = bytearray(other)
                if len(found) >= n_tasks:
                    raise ValueError("notes of more tasks than there are")
            if len(begun) > of_one or rest < 0:
                raise ValueError("notes larger than any task has")
    except lzma.LZMAError as error:
        raise ValueError(f"notes that cannot be expanded: {error}") from error
    if n_tasks:
        found.append(zlib.compress(begun))
    if len(found) != n_tasks or (begun and not n_tasks):
        raise ValueError("notes of another number of tasks")
    return found


def checked_notes(notes: bytes) -> bytes:
    """Return the notes of one task as they are in files of format 1 and 2, unless too large."""
    rest, _ = _limits(len(notes), 1)
    reader, ahead = zlib.decompressobj(), notes
    try:
        while ahead and rest >= 0:
            rest -= len(reader.decompress(ahead, 2**20))
            ahead = reader.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"notes that cannot be expanded: {error}") from error
    if rest < 0:
        raise ValueError("notes larger than any task has")
    return notes


def _limits(n_bytes: int, n_tasks: int) -> tuple[int, int]:
    """Return how many bytes notes may have, expanded: those of one task, and all.

    Notes shrink to a tenth, and to less where tasks are alike. A block made to be expanded
    shrinks to a thousandth.
    """
    return 2**22 + 100 * n_bytes, 2**26 + 1000 * n_bytes + 2**14 * n_tasks


def _written(notes: Any) -> bytes:
    return zlib.compress(json.dumps(notes, separators=(",", ":")).encode())


def _read(notes: bytes) -> Any:
    return json.loads(zlib.decompress(notes))


def _with_rows(pages: tuple[bytes, ...], rows: Sequence[Mapping[str, Any]]) -> tuple[bytes, ...]:
    """Return the pages of a history with more rows; those that are full stay as they are.

    >>> pages = ()
    >>> for epoch in range(PAGE + 1):
    ...     pages = _with_rows(pages, [{"epoch": epoch}])
    >>> [len(_rows(_read(page))) for page in pages]
    [64, 1]
    """
    last = _rows(_read(pages[-1])) if pages else []
    if len(last) >= PAGE:
        last = []
    elif pages:
        pages = pages[:-1]
    rows = [*last, *rows]
    return (*pages, _written(_columns(rows))) if rows else pages


def _rounded(value: Any) -> Any:
    """Return plain data with its floats rounded.

    >>> _rounded({"loss": [0.123456789, 2], "seconds": 1e-9 / 3})
    {'loss': [0.12346, 2], 'seconds': 3.3333e-10}
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return dictionaries as one of columns, so that each key is written once; None is missing.

    >>> _rows(_columns([{"a": 1, "b": 2}, {"a": 3}]))
    [{'a': 1, 'b': 2}, {'a': 3}]
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in keys}


def _rows(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {key: entry for key, entry in zip(columns, row, strict=True) if entry is not None}
        for row in zip(*columns.values(), strict=True)
    ]
