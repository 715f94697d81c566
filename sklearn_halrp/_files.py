"""Files that are replaced whole, or stay as they are."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows, where a file that is open cannot be removed anyway
    fcntl = None

_ENDING = ".partial"
_DAY = 24 * 3600.0


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a new file for writing, which takes the place of another when all is written.

    Whoever reads meanwhile has the old one; of several writers the last one remains. The new
    one has the permissions of the old one, and where `path` is a link, that stays one. What is
    written is on the disk when this ends.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    OSError
        If the file cannot be written: the old one stays, and nothing is left beside it.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_of(target)
    _remove_abandoned(target)
    file, partial = _opened_beside(target)
    try:
        with file:
            yield file
            file.flush()
            if mode is not None:
                os.chmod(partial, mode)
            os.fsync(file.fileno())
            if fcntl:  # before it is closed, and with that unlocked
                os.replace(partial, target)
        if not fcntl:
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _mode_of(target: Path) -> int | None:
    """Return the permissions of a file, or None if there is none; refuse all but plain files."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "A file cannot take the place of a folder", target)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Only a plain file can be replaced", str(target))
    return stat.S_IMODE(mode)


def _opened_beside(target: Path) -> tuple[IO[bytes], Path]:
    """Open a new file with a name of its own, locked for as long as it is open."""
    while True:
        partial = target.with_name(f"{_beginning(target)}{os.urandom(8).hex()}{_ENDING}")
        try:
            file = open(partial, "xb")  # noqa: SIM115 (with the usual permissions)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "No such folder", str(target.parent)) from None
        try:
            if (
                _locked(file) is not False and partial.exists()
            ):  # else it was taken for an abandoned one
                return file, partial
            file.close()
        except BaseException:
            file.close()
            partial.unlink(missing_ok=True)
            raise


def _beginning(target: Path) -> str:
    return f".{target.name[:40]}."  # the rest of a long name would make one that is too long


def _locked(file: IO[bytes]) -> bool | None:
    """Lock a file; False if another process or thread has, None where there are no locks."""
    if not fcntl:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without them
        return None
    return True


def _remove_abandoned(target: Path) -> None:
    """Remove what writers that were killed have left."""
    beginning = _beginning(target)
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(beginning) and entry.name.endswith(_ENDING):
                with suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(partial: Path) -> None:
    """Remove a file whose writer is gone, or has been silent for a day."""
    with open(partial, "rb") as file:
        locked = _locked(file)
        silent = time.time() - os.fstat(file.fileno()).st_mtime > _DAY
        if locked is None:
            file.close()
        if locked or (locked is None and silent):
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """See to it that the new name is on the disk too, where a system can do that."""
    with suppress(OSError):  # the file is in its place, whatever this says
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
