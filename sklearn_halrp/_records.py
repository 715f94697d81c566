"""Records in a SQLite file, one for each task: the SQL of a store, and what it keeps to.

A record is never changed: what is learned anew gets a new record with a new number. Half of a
number is drawn at random, so that it stands for the same bytes for ever, also where a backup takes
the place of the file and has a history of its own. One transaction writes all that belongs
together.

A rollback journal lies beside the file for the moment of a write, and for no longer. With a
write-ahead log readers would not have to wait for that moment, but it would lie there whenever the
file is open or its writer was killed, and SQLite would apply it to any file that takes its place.

What is removed is to be gone. SQLite overwrites it with zeros (``secure_delete``), but for copies
that it leaves behind where it moves short rows between the pages of a tree. So a record begins
with zeros, and has a length, by which all the rest of it lies outside of the trees, on pages of
its own; https://www.sqlite.org/fileformat.html (section 1.6) has the formulas. What a tree holds of
a task are numbers: its place in the order of learning, and hashes of its id.

A record has a digest of its own, and so has each row of the other tables. What a tree lacks has
none: so a task is looked up in two trees, by two hashes, and the state says how many rows there
are. A bit that flips is an error thereby, and never another answer.
"""

import errno
import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sklearn_halrp._other_files import looks_like
from sklearn_halrp._types import TaskId

FORMAT = 1
APPLICATION = 0x48414C52  # "HALR", by which `file` may tell such a database from others
CHUNK = 2**28  # bytes of the base in one record; SQLite takes at most 10**9

_SCHEMA = (
    "CREATE TABLE records (number INTEGER PRIMARY KEY, record BLOB NOT NULL)",
    "CREATE TABLE tasks (place INTEGER PRIMARY KEY, hash INTEGER NOT NULL,"
    " other_hash INTEGER NOT NULL, number INTEGER NOT NULL, labels INTEGER,"
    " on_base_head INTEGER NOT NULL, digest INTEGER NOT NULL)",
    "CREATE INDEX by_hash ON tasks (hash)",
    "CREATE INDEX by_other_hash ON tasks (other_hash)",
    "CREATE TABLE labels (number INTEGER PRIMARY KEY, hash INTEGER NOT NULL,"
    " tasks INTEGER NOT NULL, digest INTEGER NOT NULL)",
    "CREATE INDEX labels_by_hash ON labels (hash)",
    "CREATE TABLE base (place INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
    "CREATE TABLE state (salt BLOB NOT NULL, next INTEGER NOT NULL, frozen INTEGER NOT NULL,"
    " cleared INTEGER NOT NULL, forgotten INTEGER NOT NULL, tasks INTEGER NOT NULL,"
    " on_base_head INTEGER NOT NULL, label_sets INTEGER NOT NULL, digest INTEGER NOT NULL)",
)

_PLACES = (
    "SELECT place FROM tasks INDEXED BY by_hash WHERE hash = ?",
    "SELECT place FROM tasks INDEXED BY by_other_hash WHERE other_hash = ?",
)

PAGE = 1024
_MOMENT = 10.0  # seconds that readers wait, at least, while something is written
_LEAST_IN_TREE = (PAGE - 12) * 32 // 255 - 23
_ON_OTHER_PAGE = PAGE - 4


def padded(record: bytes) -> bytes:
    """Return a record with zeros around it, by which SQLite keeps the zeros alone in its tree.

    A row of P bytes leaves ``K = M + (P - M) % (U - 4)`` of them in the tree, or M where K were too
    much, with U for the size of a page and M for the least: P is chosen so that it is M.
    """
    before = _LEAST_IN_TREE
    length = before + _PREFIX + len(record)
    for _ in range(2):  # more bytes may make the row's header longer, once
        row = _bytes_of_header(length) + length
        length += -(row - _LEAST_IN_TREE) % _ON_OTHER_PAGE
    after = length - before - _PREFIX - len(record)
    return bytes(before) + len(record).to_bytes(_PREFIX, "little") + record + bytes(after)


def without_padding(blob: bytes) -> bytes:
    """Return the record that was padded.

    >>> all(without_padding(padded(bytes(n))) == bytes(n) for n in range(0, 20_000, 37))
    True
    """
    begin = _LEAST_IN_TREE + _PREFIX
    return blob[begin : begin + int.from_bytes(blob[_LEAST_IN_TREE:begin], "little")]


_PREFIX = 8
_RANDOM_BITS = 31  # of a number; the rest counts


def _bytes_of_header(length: int) -> int:
    """Return the bytes that a row of a key and a blob has before the blob."""
    kind = 2 * length + 12
    return 2 + max(1, -(-kind.bit_length() // 7))


class State(NamedTuple):
    """What holds for the whole store.

    Attributes
    ----------
    base : tuple of int
        Numbers of the records that are the base.
    frozen : bool
        Whether the base is final.
    cleared : bool
        Whether its head was cleared.
    forgotten : int
        How often a task was forgotten.
    """

    base: tuple[int, ...]
    frozen: bool
    cleared: bool
    forgotten: int


@dataclass(frozen=True)
class Row:
    """A task as it is to be written.

    Attributes
    ----------
    task_id : int or str
    record : bytes
    labels : bytes, optional
        What predictions for other tasks show of it; equal bytes are kept once.
    on_base_head : bool
        Whether its head is that of the base.
    """

    task_id: TaskId
    record: bytes
    labels: bytes | None
    on_base_head: bool


class _Found(NamedTuple):
    """A row of the table of tasks, whose digest was looked at."""

    place: int
    hash: int
    other_hash: int
    number: int
    labels: int | None
    on_base_head: int


class Reading(Collection[TaskId]):
    """What is in the file, as of one moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        base, row, digest = self._sealed()
        if digest != _digest(base, row):
            raise sqlite3.DatabaseError("its state does not have the digest written with it")
        self._salt, _, frozen, cleared, forgotten = row[:5]
        self._tasks, self._on_base_head, self._label_sets = row[5:]
        self.state = State(base, bool(frozen), bool(cleared), forgotten)

    def _sealed(self) -> tuple[tuple[Any, ...], tuple[Any, ...], Any]:
        """Return the numbers of the base, and the row of the state with its digest."""
        base = tuple(number for (number,) in self._all("SELECT number FROM base ORDER BY place"))
        rows = self._all("SELECT * FROM state")
        if len(rows) != 1:
            raise sqlite3.DatabaseError(f"it has {len(rows)} states")
        *row, digest = rows[0]
        return base, tuple(row), digest

    def __len__(self) -> int:
        """Return the number of tasks, which is that of rows."""
        (count,) = self._one("SELECT count(*) FROM tasks NOT INDEXED")
        if count != self._tasks:
            raise sqlite3.DatabaseError(f"it has rows of {count} tasks in place of {self._tasks}")
        return count

    @property
    def has_one(self) -> bool:
        """Whether there is one task alone; it does not count them all."""
        return bool(self._tasks == 1)

    def __iter__(self) -> Iterator[TaskId]:
        yield from self._ids("")

    def __reversed__(self) -> Iterator[TaskId]:
        yield from self._ids(" DESC")

    def _ids(self, order: str) -> Iterator[TaskId]:
        len(self)  # that none is missing
        for row in self._all(f"SELECT * FROM tasks NOT INDEXED ORDER BY place{order}"):
            yield self._id_of(self._checked(row))

    def __contains__(self, task_id: object) -> bool:
        return isinstance(task_id, int | str) and self.number_of(task_id) is not None

    def after(self, place: int, limit: int) -> list[tuple[int, TaskId]]:
        """Return places and ids of the tasks that come next in order of learning."""
        len(self)  # that none is missing
        query = "SELECT * FROM tasks NOT INDEXED WHERE place > ? ORDER BY place LIMIT ?"
        rows = map(self._checked, self._all(query, place, limit))
        return [(row.place, self._id_of(row)) for row in rows]

    def number_of(self, task_id: TaskId) -> int | None:
        """Return the number of a task's record, or None."""
        with _about_task(task_id):
            row = self._row_of(task_id)
        return None if row is None else row.number

    def _id_of(self, row: _Found) -> TaskId:
        """Return the id of a task from its record."""
        text = self._id_bytes(row.number)
        if self.hashes(text) != (row.hash, row.other_hash):
            raise sqlite3.DatabaseError(
                f"the id in record {row.number} cannot be read; other tasks still serve by theirs"
            )
        return json.loads(text)

    def record(self, number: int) -> bytes:
        """Return a record of this number."""
        found = self._one("SELECT record FROM records WHERE number = ?", number)
        if found is None or not isinstance(found[0], bytes):
            raise sqlite3.DatabaseError(f"record {number} is missing")
        return without_padding(found[0])

    def task(self, number: int, task_id: TaskId) -> bytes:
        """Return the record of a task."""
        with _about_task(task_id):
            record = self.record(number)
        return record[2 + int.from_bytes(record[:2], "little") :]

    def base(self) -> bytes:
        """Return the record of the base."""
        if not self.state.base:
            raise sqlite3.DatabaseError("the base is missing")
        return b"".join(map(self.record, self.state.base))

    def label_sets(self) -> list[int]:
        """Return the numbers of the records of all sets of labels, the oldest first."""
        rows = self._all("SELECT * FROM labels NOT INDEXED ORDER BY number")
        if len(rows) != self._label_sets:
            raise sqlite3.DatabaseError(
                f"it has rows of {len(rows)} sets of labels in place of {self._label_sets}"
            )
        return [self._checked_labels(row)[0] for row in rows]

    def others_on_base_head(self, task_id: TaskId) -> bool:
        """Whether another task has the base's head."""
        row = self._row_of(task_id)
        return bool(self._on_base_head > (0 if row is None else row.on_base_head))

    def _row_of(self, task_id: TaskId) -> _Found | None:
        """Return the row of a task, or None if neither of the trees has one."""
        wanted = _written(task_id)
        hashes = self.hashes(wanted)
        both = [
            {place for (place,) in self._all(query, value)}
            for query, value in zip(_PLACES, hashes, strict=True)
        ]
        for place in sorted(both[0] | both[1]):
            row = self._checked(self._one("SELECT * FROM tasks NOT INDEXED WHERE place = ?", place))
            same = [known == value for known, value in zip(row[1:3], hashes, strict=True)]
            if same != [place in places for places in both]:
                raise sqlite3.DatabaseError(f"the index does not fit row {place} of the tasks")
            if all(same):
                if self._id_bytes(row.number) != wanted:
                    raise sqlite3.DatabaseError(f"the id in record {row.number} is another one")
                return row
        return None

    def _checked(self, row: Any) -> _Found:
        """Return a row of the table of tasks, or refuse it."""
        if row is None or row[-1] != self.hash(repr(row[:-1]).encode()):
            raise sqlite3.DatabaseError(
                "a row of its tasks is missing, or does not have the digest written with it"
            )
        return _Found(*row[:-1])

    def _checked_labels(self, row: Any) -> Any:
        """Return number, hash and tasks of a set of labels, or refuse them."""
        if row is None or row[-1] != self.hash(repr(row[:-1]).encode()):
            raise sqlite3.DatabaseError(
                "a row of its labels is missing, or does not have the digest written with it"
            )
        return row[:-1]

    def _id_bytes(self, number: int) -> bytes:
        """Return a task's id as it is written, without reading the whole record."""
        open_blob = self._connection.blobopen
        try:  # in one line with its `with`: one that stays open is a reader, for whom others wait
            with open_blob("records", "record", number, readonly=True) as blob:
                blob.seek(_LEAST_IN_TREE + _PREFIX)
                return blob.read(int.from_bytes(blob.read(2), "little"))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # that of one that is not there
                raise
            raise sqlite3.DatabaseError(f"record {number} is missing") from error

    def hash(self, text: bytes) -> int:
        return self.hashes(text)[0]

    def hashes(self, text: bytes) -> tuple[int, int]:
        """Return two numbers that stand for a text, and say nothing of it to others."""
        digest = hashlib.blake2b(text, digest_size=16, key=self._salt).digest()
        return _signed(digest[:8]), _signed(digest[8:])

    def _one(self, query: str, *values: Any) -> Any:
        return self._connection.execute(query, values).fetchone()

    def _all(self, query: str, *values: Any) -> list[Any]:
        return self._connection.execute(query, values).fetchall()


class Writing(Reading):
    """What is in the file, to be changed: all of it at the end, or nothing."""

    def put(self, row: Row) -> None:
        """Write a task, or another record of a task that is there."""
        text = _written(row.task_id)
        number = self._add(len(text).to_bytes(2, "little") + text + row.record)
        labels = None if row.labels is None else self._labels(row.labels)
        before = self._row_of(row.task_id)
        if before is None:
            (place,) = self._one("SELECT ifnull(max(place), 0) + 1 FROM tasks NOT INDEXED")
            self._count("tasks", 1)
        else:
            place = before.place
            self._clear(before)
        found = _Found(place, *self.hashes(text), number, labels, int(row.on_base_head))
        values = (*found, self.hash(repr(tuple(found)).encode()))
        self._do("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
        self._count("on_base_head", found.on_base_head)

    def remove(self, task_id: TaskId) -> None:
        """Remove a task."""
        row = self._row_of(task_id)
        assert row is not None  # since it is known
        self._clear(row)
        self._count("tasks", -1)
        self._count("forgotten", 1)

    def _clear(self, row: _Found) -> None:
        """Remove a row of the tasks, and what it alone refers to."""
        self._do("DELETE FROM tasks WHERE place = ?", row.place)
        self._count("on_base_head", -row.on_base_head)
        self._drop(row.number)
        self._leave(row.labels)

    def seal(self) -> None:
        """Write the digest of the state, when all is written."""
        base, row, _ = self._sealed()
        self._do("UPDATE state SET digest = ?", _digest(base, row))

    def _count(self, column: str, more: int) -> None:
        self._do(f"UPDATE state SET {column} = {column} + ?", more)

    def put_base(self, record: bytes) -> None:
        """Write the base in place of the one that is there."""
        self._do("DELETE FROM base")
        for number in self.state.base:
            self._drop(number)
        for begin in range(0, len(record), CHUNK):
            number = self._add(record[begin : begin + CHUNK])
            self._do("INSERT INTO base (number) VALUES (?)", number)

    def say(self, frozen: bool, cleared: bool) -> None:
        """Write down what the base is."""
        self._do("UPDATE state SET frozen = ?, cleared = ?", frozen, cleared)

    def _labels(self, record: bytes) -> int:
        """Count one more task with these labels; return the number of their record."""
        hash_ = self.hash(record)
        for (number,) in self._all("SELECT number FROM labels WHERE hash = ?", hash_):
            if self.record(number) == record:
                self._share(number, hash_, self._tasks_with(number) + 1)
                return number
        number = self._add(record)
        self._share(number, hash_, 1)
        self._count("label_sets", 1)
        return number

    def _leave(self, labels: int | None) -> None:
        """Count one task less with these labels."""
        if labels is None:
            return
        left = self._tasks_with(labels) - 1
        if left:
            (hash_,) = self._one("SELECT hash FROM labels NOT INDEXED WHERE number = ?", labels)
            self._share(labels, hash_, left)
        else:
            self._do("DELETE FROM labels WHERE number = ?", labels)
            self._drop(labels)
            self._count("label_sets", -1)

    def _tasks_with(self, labels: int) -> int:
        row = self._one("SELECT * FROM labels NOT INDEXED WHERE number = ?", labels)
        tasks: int = self._checked_labels(row)[2]
        return tasks

    def _share(self, number: int, hash_: int, tasks: int) -> None:
        """Write how many tasks have these labels."""
        row = (number, hash_, tasks)
        digest = self.hash(repr(row).encode())
        self._do("REPLACE INTO labels VALUES (?, ?, ?, ?)", *row, digest)

    def _add(self, record: bytes) -> int:
        self._do("UPDATE state SET next = next + 1")
        (place,) = self._one("SELECT next FROM state")
        number = place << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        self._do("INSERT INTO records VALUES (?, ?)", number, padded(record))
        return number

    def _drop(self, number: int) -> None:
        self._do("DELETE FROM records WHERE number = ?", number)

    def _do(self, query: str, *values: Any) -> None:
        self._connection.execute(query, values)


class Records:
    """A file of records, which threads and processes may use at the same time.

    Parameters
    ----------
    path : Path
    timeout : float
        Seconds to wait for other writers.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._readers = _Line(path, max(timeout, _MOMENT))
        self._writers = _Line(path, 0.05)  # it waits here, where it can be interrupted

    @classmethod
    def create(cls, path: Path, write: Callable[[Writing], None]) -> None:
        """Make a file in one step, and never in the place of another one."""
        if path.exists():
            raise FileExistsError(f"{path} exists, and a store never takes the place of a file.")
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
        half = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        try:
            half.touch(exist_ok=False)
            with closing(sqlite3.connect(half, isolation_level=None)) as connection:
                _begin_file(connection)
                writing = Writing(connection)
                write(writing)
                writing.seal()
                connection.execute("COMMIT")
            try:
                path.touch(exist_ok=False)  # of two at the same moment one gets the place
            except FileExistsError:
                raise FileExistsError(f"{path} was made by another meanwhile.") from None
            os.replace(half, path)
        finally:
            half.unlink(missing_ok=True)

    def read(self, look: Callable[[Reading], Any]) -> Any:
        """Look at the file as of one moment. Make it short: threads and writers wait for it.

        It is no context manager, here and below: what a frame began ends with that frame, while one
        that an interruption left suspended would hold its lock until somebody throws it away.
        """

        def looked(connection: sqlite3.Connection) -> Any:
            connection.execute("BEGIN")
            return look(Reading(connection))

        with _named(self.path):
            return self._readers.use(looked)

    def write(self, change: Callable[[Writing], Any]) -> Any:
        """Change the file as the only one; all is written at the end, or nothing."""
        end = time.monotonic() + self.timeout

        def changed(connection: sqlite3.Connection) -> list[Any]:
            if not self._done(connection, "BEGIN IMMEDIATE", "writing to", end):
                return []
            before = connection.total_changes
            writing = Writing(connection)
            found = change(writing)
            if connection.total_changes > before:
                writing.seal()
                self._commit(connection)
            return [found]

        while True:
            with _named(self.path):
                found = self._writers.use(changed)
            if found:
                return found[0]
            time.sleep(0.01)  # with the line free for others, and open to an interruption

    def _commit(self, connection: sqlite3.Connection) -> None:
        end = time.monotonic() + self.timeout
        while not self._done(connection, "COMMIT", "reading", end):
            time.sleep(0.01)
        if self._writers.file != _file_at(self.path):
            raise OSError(
                f"Another file took the place of {self.path} as it was written to, and what was "
                "written is not in that one. Do it again."
            )

    def _done(self, connection: sqlite3.Connection, query: str, what: str, end: float) -> bool:
        """Try to begin or end a change; whether nobody else was in the way."""
        try:
            connection.execute(query)
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            if time.monotonic() < end:
                return False
            raise TimeoutError(
                f"Another process has been {what} {self.path} for {self.timeout:g} seconds. "
                "Nothing was written; try again, or open the store with a larger timeout."
            ) from error
        return True

    def check_writable(self) -> None:
        """Refuse a change that could not be written, before anything is learned."""
        self._writers.check_open()
        real = Path(os.path.realpath(self.path))
        if real.exists() and not os.access(real, os.W_OK):
            raise PermissionError(
                f"{self.path} is a store that you may read, and not write: learning and forgetting "
                "need the permission to write to the file and to its folder."
            )
        if not os.access(real.parent, os.W_OK | os.X_OK):
            raise PermissionError(
                f"You may not write in the folder {real.parent}: to learn and to forget a store "
                "needs that, since a journal lies beside the file while it is written to."
            )

    def copy(self, path: str | os.PathLike[str]) -> None:
        """Copy the file as of one moment to an empty one.

        It takes the turn of a writer: one that waits for a reader lets no other reader begin.
        """
        self.check_open()

        def copied(_: object) -> None:
            with (
                _named(self.path),
                closing(_opened(self.path, self.timeout)) as source,
                closing(sqlite3.connect(path, isolation_level=None)) as target,
            ):
                target.execute("PRAGMA journal_mode = MEMORY")
                source.backup(target)

        if os.access(self.path, os.W_OK):
            self.write(copied)
        else:
            copied(None)

    def check_open(self) -> None:
        """Refuse what is closed."""
        self._readers.check_open()

    def close(self) -> None:
        """Close the file for good."""
        self._readers.close()
        self._writers.close()


class _Line:
    """A connection that one thread uses at a time. None is open while a process forks.

    SQLite must not carry a connection into a child: what it keeps of locks would be wrong there.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self.lock = threading.RLock()  # by which only who has it can give it back
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self.closed = False
        with _REGISTER:
            _LINES.add(self)

    def use(self, call: Callable[[sqlite3.Connection], Any]) -> Any:
        """Call something with the connection; no transaction is left open, nor the lock held."""
        # An interruption may come as the lock is had, and before anything says so.
        try:
            self.lock.acquire()
            try:
                return call(self._ready())
            finally:
                if self.connection is not None and self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
        finally:
            try:  # noqa: SIM105, since contextlib.suppress is another place for one
                self.lock.release()
            except RuntimeError:  # it was not had
                pass

    def _ready(self) -> sqlite3.Connection:
        self.check_open()
        if self.connection is not None and (
            self.connection.in_transaction  # what two interruptions left
            or self.file != _file_at(self.path)  # another file took its place
        ):
            self.hang_up()
        while self.connection is None:
            self.file = _file_at(self.path)
            self.connection = _opened(self.path, self.timeout)
            if self.file != _file_at(self.path):
                self.hang_up()
        return self.connection

    def check_open(self) -> None:
        """Refuse to go on when it was closed."""
        if self.closed:
            raise ValueError(
                f"This store is closed: {self.path}. Open the file again with a new Store."
            )

    def close(self) -> None:
        """Wait until nobody uses the connection, and close it for good."""
        with self.lock:
            self.closed = True
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, while holding the lock; who comes next opens another."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.hang_up()


_LINES: "weakref.WeakSet[_Line]" = weakref.WeakSet()
_REGISTER = threading.RLock()
_HELD: list[Any] = []  # locks


def _hold_all() -> None:
    _hold(_REGISTER)
    for line in list(_LINES):
        _hold(line.lock)
        line.hang_up()


def _hold(lock: Any) -> None:
    _HELD.append(lock)  # first, so that it is given back whatever interrupts this
    lock.acquire()


def _free_all() -> None:
    while _HELD:
        try:  # noqa: SIM105, as in `use`
            _HELD[-1].release()
        except RuntimeError:  # it was not had, or is given back already
            pass
        _HELD.pop()


def _before_fork() -> None:
    """Hold all; Python forks all the same if it is interrupted here, so it is done again then."""
    try:
        _hold_all()
    except BaseException:
        _hold_all()
        raise


def _after_fork() -> None:
    """Go on, in parent and child: the thread that forked holds all locks in both."""
    try:
        _free_all()
    except BaseException:
        _free_all()
        raise


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def _file_at(path: Path) -> tuple[int, int] | None:
    """Tell one file from another that takes its place."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _opened(path: Path, timeout: float) -> sqlite3.Connection:
    """Open a file that is there, and is a store."""
    if not path.exists():
        raise FileNotFoundError(f"There is no store at {path}. Make one with Store.create.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and a store is a file.")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=timeout,
    )
    try:
        _set_up(connection)
        _check(connection, path)
    except BaseException as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise ValueError(f"{path} is no store{looks_like(path)}") from error
        raise
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA synchronous = EXTRA")  # also that the journal is gone
    connection.execute("PRAGMA cache_spill = OFF")  # else readers wait before all is ready
    connection.execute("PRAGMA temp_store = MEMORY")


def _begin_file(connection: sqlite3.Connection) -> None:
    """Begin a new file, in a transaction that the caller ends."""
    connection.execute(f"PRAGMA page_size = {PAGE}")
    connection.execute("PRAGMA journal_mode = MEMORY")  # whoever is interrupted has no file
    _set_up(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    salt = secrets.token_bytes(16)
    row = (salt, *[0] * 7)
    values = (*row, _digest((), row))
    connection.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is no store, or one of a later version.

    A foreign database could have views and triggers in the place of the tables.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise ValueError(f"{path} is no store: it was not made by Store.create.")
    if number > FORMAT:
        raise ValueError(
            f"{path} was written by a newer version of sklearn_halrp: it has format {number}, and "
            f"this version reads up to {FORMAT}. Install the version that wrote it, or a later one."
        )
    found = connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid").fetchall()
    if [sql for (sql,) in found] != list(_SCHEMA):
        raise ValueError(f"{path} is damaged: its tables are not those of a store.")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in what SQLite says of it."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _is_busy(error):
            raise TimeoutError(f"Another process writes to {path} all the time.") from error
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(f"{path} could not be read or written: {error}.") from error
        raise ValueError(f"{path} is damaged: {error}.") from error
    except UnicodeDecodeError as error:  # of a message of SQLite's that quotes what is damaged
        raise ValueError(f"{path} is damaged: it holds text that is none.") from error


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)  # none has what was raised here
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)  # of any kind


@contextmanager
def _about_task(task_id: TaskId) -> Iterator[None]:
    """Name the task whose record is damaged."""
    try:
        yield
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise sqlite3.DatabaseError(f"task {task_id!r} cannot be read, {error}") from error


def _signed(eight: bytes) -> int:
    return int.from_bytes(eight, "little", signed=True)


def _digest(base: tuple[Any, ...], row: tuple[Any, ...]) -> int:
    """Return the digest of the state; that of wrong types is another one, too."""
    return _signed(hashlib.blake2b(repr((base, row)).encode(), digest_size=8).digest())


def _written(task_id: TaskId) -> bytes:
    text = json.dumps(task_id).encode()
    if len(text) >= 2**16:
        raise ValueError(f"A store takes ids of up to 65,000 characters; got {len(text)}.")
    return text
