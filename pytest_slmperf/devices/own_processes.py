"""Which processes belong to this run: its descendants, and daemons that it started and that left its process tree."""

from __future__ import annotations

import os

_daemons: dict[str, int | None] = {}  # "NAME=value", an environment variable unique to the daemon → process id


def adopt(variable: str, pid: int | None) -> None:
    """Count a daemon of this run, and the processes that it starts, as this run's own.

    The parent of a daemon is init, so parents in /proc do not lead to this process.  ``variable``: "NAME=value", unique to
    the environment of the daemon's processes; ``pid`` is the fallback where /proc/PID/environ is unreadable (None: unknown).
    """
    _daemons[variable] = pid


def release(variable: str) -> None:
    """The daemon has ended. Idempotent."""
    _daemons.pop(variable, None)


def is_own(pid: int) -> bool:
    """True for this process, its descendants, and adopted daemons with their descendants."""
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
