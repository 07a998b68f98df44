"""A lock between processes (pytest-xdist workers, two sessions): one measurement at a time on a device."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_slmperf.devices.gpus import visible_variable
from pytest_slmperf.engines.base import Progress
from pytest_slmperf.errors import EngineError

DEFAULT_TIMEOUT_S = 3600.0
POLL_S = 0.2


class DeviceLock:
    """An advisory lock (flock) on one device, of this user, on this machine.

    Re-entrant: the first ``hold`` takes the file lock, and the end of the last ``hold`` releases it.
    """

    def __init__(self, device: str, folder: Path | None = None) -> None:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", device)
        self.device = device
        self.path = (folder or Path(tempfile.gettempdir())) / f"slmperf-{os.getuid()}-{name}.lock"
        self._guard = threading.RLock()
        self._depth = 0
        self._fd = -1

    @contextmanager
    def hold(
        self, progress: Progress = lambda text: None, timeout_s: float = DEFAULT_TIMEOUT_S, purpose: str = "measures"
    ) -> Iterator[None]:
        """Hold the device. ``progress`` receives the name of another process that holds it; EngineError after
        ``timeout_s``."""
        with self._guard:
            if self._depth == 0:
                self._take(progress, timeout_s, purpose)
            self._depth += 1
        try:
            yield
        finally:
            with self._guard:
                self._depth -= 1
                if self._depth == 0:
                    os.close(self._fd)  # releases the lock
                    self._fd = -1

    def holder(self) -> str:
        """The holder's text in the file: "process 123 measures"; may be empty."""
        try:
            return self.path.read_text(errors="replace").strip()
        except OSError:
            return ""

    def _take(self, progress: Progress, timeout_s: float, purpose: str) -> None:
        try:
            # O_NOFOLLOW and 0600: the temporary folder is shared with other users.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(
                f"cannot open the lock of device {self.device}, {self.path}: {error.strerror or error}; "
                "set TMPDIR to a folder that you may write to"
            ) from error
        began = time.monotonic()
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waited = time.monotonic() - began
                    who = self.holder() or "another process"
                    if waited >= timeout_s:
                        raise EngineError(
                            f"device {self.device} stayed taken for {timeout_s:.0f} s: {who} ({self.path}); "
                            "end that run, or measure on another device"
                        ) from None
                    progress(f"waiting for device {self.device}: {who} ({waited:.0f} s)")
                    time.sleep(min(POLL_S, timeout_s))
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()} {purpose}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd


class DeviceLocks:
    """The locks of a session: one object per device, so that a session may hold a device twice."""

    def __init__(self) -> None:
        self._locks: dict[str, DeviceLock] = {}
        self._guard = threading.Lock()

    def of(self, device: str) -> DeviceLock:
        """The lock of a device ("cpu", "cuda:0", …)."""
        key = physical(device)
        with self._guard:
            return self._locks.setdefault(key, DeviceLock(key))


def physical(device: str, visible: str | None = None) -> str:
    """The same name for a device in processes with different visible devices: "cuda:0" → "cuda-<entry>"."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return kind
    if visible is None:
        visible = os.environ.get(visible_variable(), "")
    entries = [entry.strip() for entry in visible.split(",") if entry.strip()]
    number = int(index) if index.isdecimal() else 0
    return f"cuda-{entries[number] if number < len(entries) else number}"
