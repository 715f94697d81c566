"""Errors and interruptions raised where the package's code runs, at places that are counted.

Python looks for a Ctrl-C as a function begins or goes on, and after a call of a function written
in C; memory may run out anywhere. So there are three kinds of places, all in frames of the
package:

- "function": as a function begins, or a generator goes on;
- "call": after a function written in C has returned;
- "line": before a line that does something. Not in an ``except`` or ``finally`` clause, and not
  where a ``with`` block is left, which Python shows as its first line again: nothing comes
  between the end of a block and the call that cleans up, so an error there breaks code that is
  right. What can come in such clauses comes by the other two kinds.
"""

import ast
import inspect
import sys
from functools import cache
from pathlib import Path

import sklearn_halrp

PACKAGE = str(Path(sklearn_halrp.__file__).parent)
KINDS = ("function", "call", "line")


_BEGUN = 8  # bytes of code: what comes first only makes the generator


class Injected(Exception):
    """An error of no special kind."""


ERRORS = (Injected, MemoryError, KeyboardInterrupt, SystemExit)


class Injection:
    """Counts the places of one kind that a call passes, and raises at those that are asked for.

    Parameters
    ----------
    kind : {"function", "call", "line"}
    error : type of error
    at : int, optional
        The place of the first error; without it the places are only counted.
    then : int, optional
        How many functions begin, or calls return, from the first error, which is none of the
        kind "call", to a second one.

    Attributes
    ----------
    passed : int
        Places until now.
    raised : list of errors
    where : list of str
        The file, line and function of each.
    """

    def __init__(self, kind, error=Injected, at=None, then=None):
        self.kind, self.error, self.at, self.then = kind, error, at, then
        self.passed, self.raised, self.where = 0, [], []
        self.since = 0

    def during(self, call):
        """Return what a call returns."""
        assert self.kind != "call" or self.then is None  # Python stops watching where one raises
        trace, profile = sys.gettrace(), sys.getprofile()
        watched = self.kind == "call" or self.then is not None
        sys.setprofile(self._profile if watched else None)
        sys.settrace(None if self.kind == "call" else self._trace)
        try:
            return call()
        finally:
            sys.settrace(trace)
            sys.setprofile(profile)

    def _trace(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE) or self.raised:
            return None
        if self.kind == "function":
            # Python shows one more beginning of a generator expression when it is thrown away,
            # where nobody would see an error.
            if frame.f_code.co_name != "<genexpr>" or frame.f_lasti < _BEGUN:
                self._pass(frame)
            return None
        return _Lines(self._pass, frame.f_code.co_filename, frame.f_lineno)

    def _profile(self, frame, event, arg):
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        # Python takes an error as a generator goes on for one of before it began, so that what it
        # would do in the end is left out; a signal comes a moment later, and it is done.
        goes_on = frame.f_code.co_flags & inspect.CO_GENERATOR and frame.f_lasti >= _BEGUN
        if event == "call" and goes_on:
            return
        if self.raised:
            self.since += 1
            if self.since == self.then and len(self.raised) == 1:
                self._raise(frame)
        elif self.kind == "call" and event == "c_return":
            self._pass(frame)

    def _pass(self, frame):
        self.passed += 1
        if self.passed == self.at:
            self._raise(frame)

    def _raise(self, frame):
        code = frame.f_code
        self.where.append(f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}")
        self.raised.append(self.error("injected"))
        raise self.raised[-1]


class _Lines:
    """What one frame tells of its lines; a generator goes on where it was."""

    def __init__(self, tell, filename, before):
        self.tell, self.before = tell, before
        self.cleaning, self.heads = _lines_of(filename)

    def __call__(self, frame, event, arg):
        if event != "line":
            return self
        line = frame.f_lineno
        left = any(line in head and self.before in body for head, body in self.heads.get(line, ()))
        if not left:
            self.before = line
            if line not in self.cleaning:
                self.tell(frame)
        return self


@cache
def _lines_of(filename):
    """Return the lines of clauses that clean up, and by line the heads and bodies of `with`."""
    cleaning, heads = set(), {}
    for node in ast.walk(ast.parse(Path(filename).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            cleaning |= set(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.Try):
            cleaning.add(node.lineno)  # it does nothing, and may stand outside of what it is in
            for last in node.finalbody[-1:]:
                cleaning |= set(range(node.finalbody[0].lineno, last.end_lineno + 1))
        elif isinstance(node, ast.With):
            head = range(node.lineno, node.body[0].lineno)
            body = range(node.body[0].lineno, node.end_lineno + 1)
            for line in head:
                heads.setdefault(line, []).append((head, body))
    return cleaning, heads
