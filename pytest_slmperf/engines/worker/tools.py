"""Helpers for the worker files of adapters.  Standard library only and Python 3.10: runs inside engine processes.

A worker file imports it as ``slmperf_worker_tools``, which ``main.py`` makes importable in any interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import random
import resource
import stat
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class WorkerFault(Exception):
    """A fault whose cause the worker knows.

    kind: "missing" (engine package absent or unusable), "memory", "input" (a setting or model is wrong), "error".
    mend: the fix for the user, in a sentence.
    """

    def __init__(self, kind: str, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.mend = mend


def refuse_longer_than(longest: int, n_in: int, n_out: int) -> None:
    """WorkerFault if a request of ``n_in`` prompt and ``n_out`` output tokens exceeds the model's window ``longest``."""
    if n_in + n_out > longest:
        raise WorkerFault(
            "input",
            f"a request of {n_in}+{n_out} tokens is longer than the engine's max_model_len of {longest}",
            "Shorten it, or give the engine a larger max_model_len.",
        )


class Report:
    """Sends events of the running call to the parent; passed to a worker's ``create``."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send

    def progress(self, text: str) -> None:
        """Show the user a short phrase about the current step."""
        self._send({"progress": text})

    def event(self, **fields: Any) -> None:
        """Send ``fields``, which JSON must be able to hold, to the caller's ``on_event``."""
        self._send(fields)


class LogBound:
    """Keeps the head and the tail of what one launch writes into its log, an append-only file on descriptor ``log``."""

    MOST = 8 * 2**20  # bytes of one launch
    KEPT = 2**20  # bytes of the head, and of the tail, of a launch that wrote more

    def __init__(self, log: int) -> None:
        self._log = log
        status = os.fstat(log)
        self._begin = status.st_size if stat.S_ISREG(status.st_mode) else -1  # earlier launches' lines stay

    def keep(self) -> None:
        """Shorten the log if this launch has written more than ``MOST`` bytes. A log that cannot be shortened stays."""
        try:
            size = os.fstat(self._log).st_size
            if self._begin < 0 or size - self._begin <= self.MOST:
                return
            with open(f"/proc/self/fd/{self._log}", "r+b", buffering=0) as file:
                file.seek(size - self.KEPT)
                tail = file.read(self.KEPT).partition(b"\n")[2]
                file.truncate(self._begin + self.KEPT)
            left_out = size - self._begin - self.KEPT - len(tail)
            os.write(self._log, b"\n[%d bytes of this log were left out]\n" % left_out + tail)
        except OSError:
            return

    def close(self) -> None:
        """Shorten the log a last time, and close it here."""
        self.keep()
        os.close(self._log)


MARKER = "SLMPERF_ENGINE_ID"  # in the environment of an engine's process, which its children inherit


def marked(marker: str) -> list[int]:
    """Ids of the living processes that carry this marker in their environment (this user's, Linux)."""
    wanted = f"{MARKER}={marker}".encode()
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as environ:
                    if wanted in environ.read().split(b"\0"):
                        pids.append(int(entry))
            except OSError:
                continue  # the process has ended, or belongs to another user
    return pids


def kill_marked(marker: str, spare: tuple[int, ...] = ()) -> None:
    """SIGKILL to every process with this marker, including processes that left the process group."""
    import signal

    for pid in marked(marker):
        if pid not in spare:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def kill_group(leader: int) -> bool:
    """SIGKILL to a process group; whether it existed."""
    import signal

    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _children() -> dict[int, list[int]]:
    """Ids of the living processes by their parent's (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue  # gone
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(entry))
    return children


def children_of(pid: int) -> list[int]:
    """Ids of the living processes whose parent is ``pid``."""
    return _children().get(pid, [])


def descendants(pid: int) -> list[int]:
    """Ids of the living processes that descend from ``pid``, whatever their group, session or environment."""
    children = _children()
    below, todo = [], [pid]
    while todo:
        own = children.get(todo.pop(), [])
        below += own
        todo += own
    return below


def load_file(name: str, path: str) -> ModuleType:
    """Import one Python file by its path under the module name ``name``."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load_own(path: str) -> ModuleType:
    """Import a standard-library file of this package ("load/schedule") without importing the package itself."""
    return load_file("slmperf_" + path.replace("/", "_"), os.path.join(_PACKAGE, *path.split("/")) + ".py")


def draw_prompts(batch: int, input_len: int, vocabulary: int, seed: int) -> list[list[int]]:
    """``batch`` prompts of ``input_len`` token ids, the same for the same arguments.

    Ids come from the middle of the vocabulary, since special tokens stand at its ends.
    """
    low = min(256, vocabulary // 8)
    high = max(low + 1, int(vocabulary * 0.95))
    rng = random.Random(f"{seed}/{batch}/{input_len}/{vocabulary}")
    return [rng.choices(range(low, high), k=input_len) for _ in range(batch)]


def _cpu(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


class Usage:
    """Resources that this process used between two moments: evidence of a disturbed round."""

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[resource.struct_rusage, resource.struct_rusage]:
        return resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_THREAD)

    def delta(self) -> dict[str, float]:
        """The use since the start, by name.

        nvcsw, nivcsw:       voluntary and involuntary context switches of the process
        thread_nivcsw:       involuntary switches of the calling thread alone (helper threads may wake hundreds of times
                             a second)
        cpu_s, thread_cpu_s: user and system seconds of the process and of the calling thread
        majflt:              page faults that read a disk
        """
        (start, thread_start), (end, thread_end) = self._start, self._now()
        return {
            "nvcsw": end.ru_nvcsw - start.ru_nvcsw,
            "nivcsw": end.ru_nivcsw - start.ru_nivcsw,
            "thread_nivcsw": thread_end.ru_nivcsw - thread_start.ru_nivcsw,
            "thread_cpu_s": _cpu(thread_end) - _cpu(thread_start),
            "cpu_s": _cpu(end) - _cpu(start),
            "majflt": end.ru_majflt - start.ru_majflt,
        }


def near(name: str, known: list[str]) -> str:
    """The known names closest to ``name``, for an error message."""
    from difflib import get_close_matches

    return ", ".join(get_close_matches(name, known, n=3) or sorted(known)[:8])
