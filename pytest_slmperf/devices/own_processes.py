"""Which processes of this machine belong to this run: what it started, and the daemons of it that left its tree."""

from __future__ import annotations

import os

_daemons: dict[str, int | None] = {}  # "NAME=value", an environment variable of theirs alone → process id


def adopt(variable: str, pid: int | None) -> None:
    """Count a daemon of this run, and what it starts, as this run's own.

    A daemon's parent is init, so /proc's parents do not lead here.  ``variable``: "NAME=value" that stands in the
    environment of the daemon's processes and of no others; ``pid`` (None: not known) serves where that may not be read.
    """
    _daemons[variable] = pid


def release(variable: str) -> None:
    """The daemon has ended. Idempotent."""
    _daemons.pop(variable, None)


def is_own(pid: int) -> bool:
    """True for this process, what it started, and the daemons that it adopted with what they started."""
    own = {os.getpid(), *(known for known in _daemons.values() if known is not None)}
    return _descends(pid, own) or _has_variable(pid)


def _has_variable(pid: int) -> bool:
    if not _daemons:
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = set(file.read().split(b"\0"))
    except OSError:
        return False
    return any(variable.encode() in entries for variable in _daemons)


def _descends(pid: int, ancestors: set[int]) -> bool:
    while pid > 1:
        if pid in ancestors:
            return True
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False
