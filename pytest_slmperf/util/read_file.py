"""Reading of files and folders that others made: regular files within limits, everything else refused by its name.

Opening a FIFO waits for a writer, a device may be endless, a link may lead nowhere or in a circle; a folder that may not be
read looks empty. Whatever is read comes through here. "-" and the descriptors that a shell hands over (``/dev/stdin``,
``/dev/fd/N``) may be pipes: the user meant them.
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
# Limits of readers; writers keep them (see ``room``), so that what is written can be read again.
MOST_RESULTS = 512 * MIB  # some 50 kB a test
MOST_JOURNAL = MOST_RESULTS
MOST_BASELINE = 8 * MIB  # 8 sessions of a test take some 100 kB
MOST_HISTORY = 32 * MIB  # of one test: what is read of a longer file is its newest end
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

    BaselineError names the path and what is wrong: no such file, no right to it, no regular file, too large. ``fix``: what
    to do about one that is too large.
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
    """The first line of a file that is only appended to, and those of the others that its last ``limit`` bytes hold whole.

    Of a longer file the oldest lines are passed over, so that it can still be read and shortened. BaselineError as ``read``,
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
    """The last lines of a log, of at most 16 KiB behind the byte ``since``; empty where it cannot be read."""
    try:
        with open(_opened(path), "rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - 16 * 1024))
            text = log.read(16 * 1024).decode(errors="replace")
    except (OSError, BaselineError):
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-lines:])


def ends(path: Path, size: int) -> bytes:
    """The first and the last ``size`` bytes of a regular file. BaselineError as ``read``."""
    try:
        with open(_opened(path), "rb") as file:
            begin = file.read(size)
            file.seek(max(len(begin), file.seek(0, os.SEEK_END) - size))
            return begin + file.read(size)
    except OSError as error:
        raise cannot_read(path, error) from error


def _opened(path: Path) -> int:
    """A descriptor of a file that may be read; opening it waits for nobody."""
    handed_over = _HANDED_OVER.fullmatch(os.path.abspath(path)) is not None
    if not handed_over:
        refuse_odd(path, os.stat(path))  # before it is opened: some devices act when they are
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if handed_over else os.O_NONBLOCK))
    try:
        if not handed_over:
            refuse_odd(path, os.fstat(descriptor))  # it may be another one by now
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_odd(path: Path, status: os.stat_result) -> None:
    """BaselineError where the path is no regular file, naming what it is."""
    for is_kind, words in _KINDS:
        if is_kind(status.st_mode):
            raise BaselineError(f"{path}: {words}, and must be a file; give another, or remove it")


def check(path: Path) -> None:
    """BaselineError where the path is no regular file, or may not be read: for files that a library opens by their name."""
    try:
        refuse_odd(path, os.stat(path))
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_read(path, error) from error


def exists(path: Path) -> bool:
    """Whether there is anything of that name, a link to nothing included. BaselineError where that may not be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot_read(path, error) from error
    return True


def is_folder(path: Path) -> bool:
    """Whether the path leads to a folder. BaselineError where that may not be known, and for a link that leads nowhere."""
    if not exists(path):
        return False
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise cannot_read(path, error) from error


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, hidden names left out; empty where there is none. BaselineError as ``read``."""
    if not exists(folder):
        return []
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise cannot_read(folder, error) from error


def files_below(folder: Path, suffix: str, depth: int) -> Iterator[Path]:
    """The entries with that suffix, ``depth`` folders below, sorted; their reader refuses what is no file among them."""
    for entry in entries(folder):
        if depth and is_folder(entry):
            yield from files_below(entry, suffix, depth - 1)
        elif not depth and entry.suffix == suffix:
            yield entry


def cannot_read(path: Path, error: OSError) -> BaselineError:
    """The error that names what keeps a path from being read, and the mend."""
    if error.errno == errno.ENOENT and path.is_symlink():
        return BaselineError(
            f"{path}: cannot be read (a link to {os.readlink(path)}, which is not there); mend the link, or remove it"
        )
    why = _MENDS.get(error.errno or 0, error.strerror or str(error))
    return BaselineError(f"{path}: cannot be read ({why})")


def room(path: object, size: int, limit: int, fix: str) -> None:
    """BaselineError where ``size`` bytes are more than their reader takes: those are not written."""
    if size > limit:
        raise BaselineError(
            f"{path}: would have {size / MIB:.1f} MiB, and no more than {limit / MIB:.0f} MiB can be read again; {fix}. "
            "Nothing was written"
        )
