"""Locks that are free in a process that was forked while another thread held them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet


class Turn:
    """What one thread has at a time, as often as it asks for it.

    A forked process has one thread alone: what others of its parent held, nobody there would
    give back, so it is free.

    Examples
    --------
    >>> turn = Turn()
    >>> with turn.taken():
    ...     turn.is_mine
    True
    >>> turn.is_mine
    False
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holder: int | None = None
        _turns.add(self)

    @property
    def is_mine(self) -> bool:
        """Whether this thread has it."""
        return self._holder == threading.get_ident()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for it, and have it inside."""
        with self._lock:
            before = self._holder
            try:
                self._holder = threading.get_ident()
                yield
            finally:
                self._holder = before

    @contextmanager
    def taken_if_free(self) -> Iterator[bool]:
        """Say whether it can be had without a wait, and have it inside if so."""
        if self.is_mine:
            yield True
            return
        try:
            if self._lock.acquire(blocking=False):
                with self.taken():
                    yield True
            else:
                yield False
        finally:
            # An interruption may come as it is had, and before anything says so.
            try:  # noqa: SIM105, since contextlib.suppress is another place for one
                self._lock.release()
            except RuntimeError:  # it was not had
                pass

    def free_what_others_hold(self) -> None:
        """Begin anew in a process where those who held it are no more."""
        if not self.is_mine:
            self._lock, self._holder = threading.RLock(), None


_turns: WeakSet[Turn] = WeakSet()
_of: WeakKeyDictionary[Any, Turn] = WeakKeyDictionary()


def turn_of(thing: Any) -> Turn:
    """Return the turn of those who change a thing; it is no part of the thing and its copies."""
    return _of.setdefault(thing, Turn())


def _free_all() -> None:
    for turn in _turns:
        turn.free_what_others_hold()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
