"""Reading of external files and folders: regular files within limits; everything else is refused with its kind.

Opening a FIFO waits for a writer, a device may be endless, a link may be broken or circular, and an unreadable folder looks
empty. All reading therefore goes through this module. "-" and a shell's descriptors (``/dev/stdin``, ``/dev/fd/N``) may be
pipes, since the user has chosen them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_slmperf.errors import BaselineError

MIB = 2**20
# Limits of readers, which writers keep too (see ``room``), so that they can read their files again.
MOST_RESULTS = 512 * MIB  # some 50 kB a test
MOST_JOURNAL = MOST_RESULTS
MOST_BASELINE = 8 * MIB  # 8 sessions of a test take some 100 kB
MOST_HISTORY = 32 * MIB  # of one test; of a longer file, the newest end is read
MOST_TABLE = 64 * MIB  # points of a frontier
MOST_TRACE = 512 * MIB
MOST_CONFIG = 16 * MIB  # a model's config.json, a profile, a template

_HANDED_OVER = re.compile(r"/dev/(?:stdin|fd/\d+)|/proc/(?:self|\d+)/fd/\d+")
_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a FIFO (a named pipe)"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
_MENDS = {
    errno.EACCES: "no permission; change the owner or the mode of it, or of a folder above it",
    errno.EPERM: "no permission; change the owner or the mode of it, or of a folder above it",
    errno.ELOOP: "a link that leads in a circle; remove it",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the network file system has lost it; try again",
}


def read(path: Path, limit: int, *, fix: str = "it was left untouched. Is it the right file?") -> bytes:
    """The bytes of a regular file, or of standard input for ``-``, at most ``limit`` of them.

    BaselineError with path and fault: no such file, no permission, not a regular file, too large. ``fix``: what to do about
    a file that is too large.
    """
    size = 0
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with open(_opened(path), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read(limit + 1) if size <= limit else b""
    except OSError as error:
        raise cannot_read(path, error) from error
    except MemoryError as error:
        raise BaselineError(f"{path}: too large for this machine's memory; {fix}") from error
    if size > limit:
        raise BaselineError(
            f"{path}: {size / MIB:.0f} MiB is more than the {limit / MIB:.0f} MiB that such a file may have; {fix}"
        )
    if len(data) > limit:
        raise BaselineError(f"{path}: more than the {limit / MIB:.0f} MiB that such a file may have; {fix}")
    return data


def newest_lines(path: Path, limit: int, longest: int) -> tuple[bytes, list[bytes]]:
    """The first line of an append-only file, and all further lines that are complete in its last ``limit`` bytes.

    The oldest lines of a longer file are left out, so that it can still be read and shortened. BaselineError as in ``read``,
    and for a first line longer than ``longest`` bytes.
    """
    try:
        with open(_opened(path), "rb") as file:
            head = file.readline(longest + 1)
            if len(head) > longest:
                raise BaselineError(
                    f"{path}: its first line is longer than {longest / MIB:.0f} MiB; is it the right file?"
                )
            begin = file.tell()
            end = file.seek(0, os.SEEK_END)
            cut = end - begin > limit
            file.seek(max(begin, end - limit))
            rest = file.read(limit)
    except OSError as error:
        raise cannot_read(path, error) from error
    lines = rest.split(b"\n")
    return head.rstrip(b"\n"), [line for line in (lines[1:] if cut else lines) if line.strip()]


def tail(path: Path, lines: int = 20, since: int = 0) -> str:
    """The last lines of a log, within 16 KiB after byte ``since``; empty if it cannot be read."""
    try:
        with open(_opened(path), "rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - 16 * 1024))
            text = log.read(16 * 1024).decode(errors="replace")
    except (OSError, BaselineError):
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])


def ends(path: Path, size: int) -> bytes:
    """The first and the last ``size`` bytes of a regular file. BaselineError as in ``read``."""
    try:
        with open(_opened(path), "rb") as file:
            begin = file.read(size)
            file.seek(max(len(begin), file.seek(0, os.SEEK_END) - size))
            return begin + file.read(size)
    except OSError as error:
        raise cannot_read(path, error) from error


def _opened(path: Path) -> int:
    """A descriptor of a readable file; opening it never blocks."""
    handed_over = _HANDED_OVER.fullmatch(os.path.abspath(path)) is not None
    if not handed_over:
        refuse_odd(path, os.stat(path))  # before opening, which triggers an action of some devices
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if handed_over else os.O_NONBLOCK))
    try:
        if not handed_over:
            refuse_odd(path, os.fstat(descriptor))  # the path may lead to another file by now
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_odd(path: Path, status: os.stat_result) -> None:
    """BaselineError, with the kind of file, unless the path is a regular file."""
    for is_kind, words in _KINDS:
        if is_kind(status.st_mode):
            raise BaselineError(f"{path}: {words}, and must be a file; give another, or remove it")


def check(path: Path) -> None:
    """BaselineError unless the path is a readable regular file: for files that a library opens by their name."""
    try:
        refuse_odd(path, os.stat(path))
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_read(path, error) from error


def exists(path: Path) -> bool:
    """Whether there is anything of this name, including broken links. BaselineError if that cannot be determined."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot_read(path, error) from error
    return True


def is_folder(path: Path) -> bool:
    """Whether the path leads to a folder. BaselineError if that cannot be determined, and for a broken link."""
    if not exists(path):
        return False
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise cannot_read(path, error) from error


def entries(folder: Path) -> list[Path]:
    """The sorted entries of a folder, without hidden names; empty if there is no folder. BaselineError as in ``read``."""
    if not exists(folder):
        return []
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise cannot_read(folder, error) from error


def files_below(folder: Path, suffix: str, depth: int) -> Iterator[Path]:
    """The sorted entries with this suffix, ``depth`` folders below; the reader refuses entries that are not files."""
    for entry in entries(folder):
        if depth and is_folder(entry):
            yield from files_below(entry, suffix, depth - 1)
        elif not depth and entry.suffix == suffix:
            yield entry


def cannot_read(path: Path, error: OSError) -> BaselineError:
    """The error with the reason why a path cannot be read, and the fix."""
    if error.errno == errno.ENOENT and os.path.islink(path):
        return BaselineError(
            f"{path}: cannot be read (a link to {os.readlink(path)}, which is not there); mend the link, or remove it"
        )
    why = _MENDS.get(error.errno or 0, error.strerror or str(error))
    return BaselineError(f"{path}: cannot be read ({why})")


def room(path: object, size: int, limit: int, fix: str) -> None:
    """BaselineError if ``size`` bytes exceed the reader's limit, so that they must not be written."""
    if size > limit:
        raise BaselineError(
            f"{path}: would have {size / MIB:.1f} MiB, and no more than {limit / MIB:.0f} MiB can be read again; {fix}. "
            "Nothing was written"
        )
