"""Calibrations stored on this machine, so that only the first session pays for them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from pytest_slmperf.energy.counter.calibration import Calibration
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.util import atomic_write

FILE = "energy-meters.json"
TICKLESS_S = 24 * 3600.0  # validity of the finding that a counter hardly ticks at rest


def user_folder() -> Path | None:
    """Where a command outside a session stores calibrations: a state folder in the current folder, or else the user's own.

    None where there is neither, for instance for a user without a home.
    """
    here = Path(".slmperf")
    if here.is_dir() and os.access(here, os.W_OK):
        return here
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local" / "state") / "slmperf"
    except RuntimeError:
        return None


class Profile:
    """Calibration per device and driver in ``folder``; None: nothing is stored. A damaged file counts as absent."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / FILE

    def get(self, uuid: str | None, driver: str | None) -> Calibration | None:
        entry = self._read().get(uuid or "")
        if not isinstance(entry, dict) or entry.get("driver") != driver:
            return None
        tick, gap, note = entry.get("tick_s"), entry.get("gap_s"), entry.get("note")
        if not isinstance(gap, float) or not 0 < gap < 1:
            return None
        if tick is None:
            since = entry.get("found_at")
            if not isinstance(since, float) or not 0 <= time.time() - since < TICKLESS_S:
                return None
        elif not isinstance(tick, float) or not 0 < tick < 10:
            return None
        return Calibration(tick, gap, note if isinstance(note, str) else None)

    def put(self, uuid: str | None, driver: str | None, calibration: Calibration) -> None:
        """Store a calibration. A folder that cannot be written only means that the next session calibrates again."""
        if self._path is None or not uuid:
            return
        entries = self._read() | {uuid: {"driver": driver, **calibration.as_dict(), "found_at": time.time()}}
        with contextlib.suppress(BaselineError):
            atomic_write.replace(self._path, (json.dumps(entries, indent=1) + "\n").encode())

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
