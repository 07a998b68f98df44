"""Writing files atomically, locks between sessions, and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import platformdirs

from pytest_slmperf import redaction
from pytest_slmperf.errors import BaselineError, InvalidInput, StoreUnavailable
from pytest_slmperf.util import read_file

LONGEST_WAIT_S = 120.0  # for another session's write, which takes milliseconds

# Atomic writing, and locks between sessions.


def replace(path: Path, data: bytes) -> None:
    """Replace a file as a whole: write a temporary file next to it, flush it to the disk, and rename it.

    After a crash at any moment, the file is the old or the new one. BaselineError if it cannot be written.
    A link stays a link, and its target is replaced. Anything other than a plain file (a pipe, /dev/stdout) is written to
    and never replaced: for root, renaming over /dev/null would remove it for the whole machine.
    """
    temporary: str | None = None
    try:
        path = path.resolve(strict=True) if path.exists() else path
        if path.is_symlink():
            raise OSError(errno.ELOOP, "a link that leads to no file; remove it")
        if path.exists() and not path.is_file():
            _write_through(path, data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=".tmp", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # files of mkstemp are accessible to the owner only
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def open_logs(folder: Path) -> Callable[[], None]:
    """Call it before engines write into the logs of a folder, and what it returns after they have ended.

    Both overwrite the secrets that other programs wrote there: at the end the known ones; at the begin, in the logs of
    sessions that were killed, also what a name or a form gives away, since their secrets need not be known any more.
    """
    mark, began = folder / f".open-{os.getpid()}", 1.0
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".open-*"):
            if not Path("/proc", left.name.partition("-")[2]).exists() or left == mark:
                hide_secrets(folder, left.stat().st_mtime, redaction.masked)
                left.unlink()
        mark.touch()
        began = mark.stat().st_mtime  # by the clock of the file system, as the logs' times are

    def close() -> None:
        hide_secrets(folder, began)
        with contextlib.suppress(OSError):
            mark.unlink()
            for emptied in (folder, folder.parent):  # where no engine has started and nothing was written
                emptied.rmdir()

    return close


def hide_secrets(folder: Path, since: float = 1.0, masked: Callable[[str], str] = str) -> None:
    """Overwrite the secrets in the logs of a folder that have changed ``since`` (or a second before), in place."""
    secrets = [secret.encode() for secret in redaction.secrets()]
    for path in folder.glob("*.log"):
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_mtime < since - 1:
                continue
            with path.open("r+b") as log, mmap.mmap(log.fileno(), 0) as data:
                hidden = before = bytes(data)
                for secret in secrets:
                    hidden = hidden.replace(secret, b"*" * len(secret))
                hidden = masked(hidden.decode("latin-1")).encode("latin-1", "replace")
                if hidden != before and len(hidden) == len(before):
                    data[:] = hidden


# Marks by which this package's own files are recognised.
REPORT = (
    (b'<meta name="generator" content="pytest-slmperf', b"slmperf performance report", b"</title>\n<style>"),
    "report",
)
RESULTS = ((b'"plugin_version"',), "results file")
SUMMARY = ((b"<!-- slmperf",), "summary")
_LOOKED_AT = 2**16  # bytes at the begin and at the end


def refuse_other(path: Path, marks: Sequence[bytes], what: str) -> None:
    """InvalidInput if the path is a file without any of the marks: it belongs to somebody, and would be lost."""
    if not read_file.exists(path) or not path.is_file() or not path.stat().st_size:
        return
    text = read_file.ends(path, _LOOKED_AT)
    if not any(mark in text for mark in marks):
        raise InvalidInput(f"{path}: is a file that is no {what}; give another name, or remove it")


def refuse_unlike(path: Path, data: bytes, suffix: str) -> None:
    """InvalidInput if the path is a file with another beginning than ``data``; a suffix other than JSON's suffices."""
    if not read_file.exists(path) or not path.is_file() or (path.suffix == suffix and suffix != ".json"):
        return
    there = read_file.ends(path, 4)[:4]
    if there and there != data[:4]:
        raise InvalidInput(f"{path}: is a file that is no export like this one; give another name, or remove it")


def _write_through(path: Path, data: bytes) -> None:
    """Write into a pipe or a device. A pipe without a reader is an error; a plain open would wait for ever."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def drop_leftovers(folder: Path) -> None:
    """Remove temporary files of killed writers. To be called under the lock, so that no other writer is active."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def append(path: Path, line: bytes) -> None:
    """Append one line and flush it to the disk, after ending a line that a crash has cut short."""
    try:
        make_folder(path.parent)
        if read_file.exists(path):
            read_file.refuse_odd(path, path.stat())  # opening a FIFO would block
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line.rstrip(b"\n") + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents; BaselineError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other sessions that write. The lock is on the folder itself, so that no file remains, and it
    ends with the process, so that a crash leaves no lock."""
    make_folder(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _take_lock(folder, descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOTSUP):
                raise
            # Some network file systems lock files only, not folders.
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            _take_lock(folder, descriptor)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _take_lock(folder: Path, descriptor: int) -> None:
    """Wait for the lock, but not for ever: a suspended session (SIGSTOP) may hold it."""
    until = time.monotonic() + LONGEST_WAIT_S
    pause = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(descriptor)
                raise StoreUnavailable(
                    f"{folder}: another session has held it for more than {LONGEST_WAIT_S:.0f} s; end it, and run again"
                ) from None
        time.sleep(pause)
        pause = min(0.05, 2 * pause)


def cannot_write(path: Path, error: OSError) -> BaselineError:
    mends = {
        errno.EROFS: "the file system is read-only; choose another folder",
        errno.EACCES: "no permission; change the folder's owner, or choose another folder",
        errno.EPERM: "no permission; change the folder's owner, or choose another folder",
        errno.ENOSPC: "the disk is full; free some space and save again",
        errno.EDQUOT: "the disk quota is used up; free some space and save again",
    }
    why = mends.get(error.errno or 0, error.strerror or str(error))
    for link in (path, *path.parents):
        if error.errno != errno.ELOOP and os.path.islink(link) and not os.path.exists(link):
            why = f"{link} is a link to {os.readlink(link)}, which is not there; mend the link, or remove it"
    return BaselineError(f"{path}: cannot be written: {why}. What was there before is untouched")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, on file systems that support it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# The cache folder.

NAME = "pytest-slmperf"


def cache_folder() -> Path:
    """The user's cache folder for this package, by the conventions of the platform; it may not exist yet.

    For a user without one (no home, or a relative path in the environment), a folder among the temporary files.
    """
    path = platformdirs.user_cache_path(NAME)
    return path if path.is_absolute() else temporary_folder()


def writable_cache() -> Path:
    """The cache folder, made if need be; where it cannot be written, the user's folder among the temporary files."""
    folder = cache_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK | os.X_OK) else temporary_folder()


@cache
def temporary_folder() -> Path:
    """The user's own folder among the temporary files, for a cache folder that cannot be written.

    Anybody may create a folder of this name. If it belongs to another user, is open to others or is a link, this process
    gets a new folder instead.
    """
    folder = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    try:
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"{NAME}-"))


def shorten(path: Path, most: int) -> None:
    """Keep the newer half of ``most`` bytes of a log that has more, from a line's start on. What fails changes nothing."""
    try:
        size = path.stat().st_size
        if size <= most:
            return
        with path.open("rb") as log:
            log.seek(size - most // 2)
            kept = log.read(most // 2).partition(b"\n")[2]
        replace(path, kept)
    except (OSError, BaselineError):
        return


def too_old(changed: Sequence[float], days: float) -> float:
    """The time before which a file is older than ``days``: counted from now, or from the newest of the files, whichever is
    earlier, so that a clock that is wrongly ahead makes no file old."""
    return min(time.time(), max(changed, default=math.inf)) - days * 86_400


def keep_newest(folder: Path, pattern: str, most_bytes: int, most_days: float) -> None:
    """Remove the oldest files that match, until they have no more bytes together and none is older. What fails is left."""
    try:
        dated = sorted(((path.stat().st_mtime, path) for path in folder.glob(pattern)), reverse=True)
    except OSError:
        return
    total, oldest = 0, too_old([changed for changed, _ in dated], most_days)
    for changed, path in dated:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
            if total > most_bytes or changed < oldest:
                path.unlink()
