"""The counter's tick on this device, and the fastest polling that does not disturb it.

Data sheets do not give the tick, and drivers change it, so it is measured: stretches of dense and sparse polling in ABBA
order, so that power drifting while a GPU cools does not look like a disturbance.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.energy.counter.tick_schedule import Clock
from pytest_slmperf.energy.counter.track import period
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.util import files, read_file

if TYPE_CHECKING:
    from pytest_slmperf.energy.counter.track import CounterTrack


GAPS_S = (
    0.0003,
    0.001,
    0.003,
    0.01,
)  # tried in this order; the last is used even if it seems to disturb, with a note
HARDLY = "the counter hardly ticks at rest: its tick is learnt from the first run"
TOO_SLOW = "the tick is too slow to see in a short time whether looking closely disturbs it"
TOLERANCE = 0.03  # relative change of mean power or tick from which dense polling counts as disturbing
MOST_S = 5.0  # upper limit for the whole calibration: a longer check costs more than it gains
SLOWEST_S = 4.2  # seconds in which a counter that ticks once a second is recognised
TICKS = 4  # observed ticks that suffice for the usual time between them


@dataclass(frozen=True, slots=True)
class Calibration:
    """tick_s: median time between ticks; gap_s: fastest polling that does not disturb the counter; note: anything
    unusual.
    """

    tick_s: float | None
    gap_s: float
    note: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The observations of one stretch of even polling."""

    tick_s: float | None
    watts: float | None
    seconds: float = 0.0


def calibrate(look: Callable[[float, float, int | None], Stretch]) -> Calibration:
    """Measure tick and gap in about ``MOST_S`` seconds.

    ``look(seconds, gap_s)`` polls evenly for that time, or until it knows the tick, and returns what it observed.
    """
    first = look(SLOWEST_S, 0.01, TICKS)
    if first.tick_s is None:
        return Calibration(None, GAPS_S[0], HARDLY)
    left_s = MOST_S - first.seconds
    if 4 * 3.2 * first.tick_s > left_s:
        return _slow(look, first, first.tick_s, left_s)
    loose_s = max(0.01, first.tick_s / 8)
    seconds = max(0.25, 3.2 * first.tick_s)
    tried_s = 0.0
    for gap_s in GAPS_S:
        if 4 * seconds > left_s:
            break
        left_s -= 4 * seconds
        tried_s = gap_s
        if gap_s >= loose_s:
            return Calibration(_tick(look(seconds, gap_s, None), first), gap_s)
        runs = [look(seconds, gap, None) for gap in (gap_s, loose_s, loose_s, gap_s)]
        if not _differ(runs[0], runs[1], runs[2], runs[3], loose_s, seconds):
            return Calibration(_tick(runs[0], runs[3], first), gap_s)
    return Calibration(first.tick_s, GAPS_S[-1], _disturbs(tried_s))


def _slow(
    look: Callable[[float, float, int | None], Stretch], loose: Stretch, tick_s: float, left_s: float
) -> Calibration:
    """For a tick too slow for four stretches: try one gap between two sparse stretches, the first of which is ``loose``."""
    seconds, gap_s = 2.2 * tick_s, GAPS_S[2]  # long enough for two ticks, so that the energy between them is known
    if 2 * seconds > left_s:
        return Calibration(tick_s, gap_s, TOO_SLOW)
    close, again = look(seconds, gap_s, None), look(seconds, GAPS_S[-1], None)
    if None in (close.watts, again.watts):
        return Calibration(tick_s, gap_s, TOO_SLOW)
    if _differ(close, loose, again, close, GAPS_S[-1], seconds):
        return Calibration(tick_s, GAPS_S[-1], _disturbs(gap_s))
    return Calibration(tick_s, gap_s)


def _disturbs(gap_s: float) -> str:
    return f"polling every {gap_s * 1e3:.0f} ms still changes what the counter counts"


def _tick(*stretches: Stretch) -> float | None:
    """The tick of the first stretch that was long enough to see it."""
    return next((stretch.tick_s for stretch in stretches if stretch.tick_s is not None), None)


def _differ(a: Stretch, b: Stretch, c: Stretch, d: Stretch, loose_s: float, seconds: float) -> bool:
    """True if dense polling (a, d) and sparse polling (b, c) differ in mean power by more than their resolution."""
    watts = [stretch.watts for stretch in (a, b, c, d)]
    if any(value is None for value in watts):
        return False
    close = ((watts[0] or 0.0) + (watts[3] or 0.0)) / 2
    loose = ((watts[1] or 0.0) + (watts[2] or 0.0)) / 2
    blur = loose_s / seconds  # a tick's time is known to within one poll gap
    drift = abs((watts[1] or 0.0) - (watts[2] or 0.0)) / max(loose, 1e-9)
    return abs(close - loose) > (TOLERANCE + blur + drift) * max(loose, 1e-9)


def stretch_of(
    poll: Callable[[], None], track: CounterTrack, clock: Clock, seconds: float, gap_s: float, ticks: int | None = None
) -> Stretch:
    """Poll evenly for ``seconds``, or until ``ticks`` ticks were seen; ``track`` must be fresh."""
    begun = clock.now()
    while (now := clock.now()) < begun + seconds and (ticks is None or len(track.current.value) <= ticks):
        poll()
        clock.sleep(gap_s)
    edges = track.ticks_inside(float("-inf"), now)
    if edges is None:
        return Stretch(None, None, now - begun)
    epoch = track.current
    times = [epoch.tick_at(k) for k in range(1, len(epoch.value))]
    watts = (epoch.value[-1] - epoch.value[1]) / (times[-1] - times[0])
    return Stretch(period(times), watts, now - begun)


# Calibrations stored on this machine, so that only the first session pays for them.

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
            files.replace(self._path, (json.dumps(entries, indent=1) + "\n").encode())

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            entries = json.loads(read_file.read(self._path, read_file.MOST_CONFIG))
        except (BaselineError, ValueError, RecursionError):
            return {}
        return entries if isinstance(entries, dict) else {}
