"""The counter's tick on the device at hand, and how closely it may be watched without disturbing it.

Data sheets do not give the tick and drivers change it, so it is measured: stretches of close and of loose polling in
ABBA order, so that a power that drifts while a GPU cools does not look like a disturbance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pytest_slmperf.energy.clock import Clock
from pytest_slmperf.energy.counter import period

if TYPE_CHECKING:
    from pytest_slmperf.energy.counter import CounterTrack

GAPS_S = (
    0.0003,
    0.001,
    0.003,
    0.01,
)  # tried in this order; the last is used even if it seems to disturb, and that is said
TOLERANCE = 0.03  # closer polling changed the mean power or the tick by more than this: it disturbs
MOST_S = 2.0  # per stretch: a check that takes longer is worth less than the time
SLOWEST_S = 4.2  # a counter that ticks once a second is found in so long


@dataclass(frozen=True, slots=True)
class Calibration:
    """tick_s: median time between ticks; gap_s: closest polling that leaves the counter alone; note: what was odd."""

    tick_s: float | None
    gap_s: float
    note: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one stretch of even polling saw."""

    tick_s: float | None
    watts: float | None


def calibrate(look: Callable[[float, float], Stretch]) -> Calibration:
    """Find tick and gap. ``look(seconds, gap_s)`` polls evenly for so long and says what it saw."""
    first = look(0.35, 0.01)
    if first.tick_s is None:
        first = look(SLOWEST_S, 0.01)
    if first.tick_s is None:
        return Calibration(None, GAPS_S[0], "the counter hardly ticks at rest: its tick is learnt from the first run")
    if 3 * first.tick_s > MOST_S:
        return Calibration(
            first.tick_s, GAPS_S[2], "the tick is too slow to see in a short time whether looking closely disturbs it"
        )
    loose_s = max(0.01, first.tick_s / 8)
    seconds = min(max(0.25, 3.2 * first.tick_s), MOST_S)
    for gap_s in GAPS_S:
        if gap_s >= loose_s:
            return Calibration(_tick(look(seconds, gap_s), first), gap_s)
        runs = [look(seconds, gap) for gap in (gap_s, loose_s, loose_s, gap_s)]
        if not _differ(runs[0], runs[1], runs[2], runs[3], loose_s, seconds):
            return Calibration(_tick(runs[0], runs[3], first), gap_s)
    return Calibration(
        first.tick_s, GAPS_S[-1], f"polling every {GAPS_S[-1] * 1e3:.0f} ms still changes what the counter counts"
    )


def _tick(*stretches: Stretch) -> float | None:
    """Of the first stretch that was long enough to see it."""
    return next((stretch.tick_s for stretch in stretches if stretch.tick_s is not None), None)


def _differ(a: Stretch, b: Stretch, c: Stretch, d: Stretch, loose_s: float, seconds: float) -> bool:
    """True if close polling (a, d) and loose polling (b, c) saw another mean power, beyond what both can tell apart."""
    watts = [stretch.watts for stretch in (a, b, c, d)]
    if any(value is None for value in watts):
        return False
    close = ((watts[0] or 0.0) + (watts[3] or 0.0)) / 2
    loose = ((watts[1] or 0.0) + (watts[2] or 0.0)) / 2
    blur = loose_s / seconds  # a tick is known only to the poll gap
    drift = abs((watts[1] or 0.0) - (watts[2] or 0.0)) / max(loose, 1e-9)
    return abs(close - loose) > (TOLERANCE + blur + drift) * max(loose, 1e-9)


def stretch_of(poll: Callable[[], None], track: CounterTrack, clock: Clock, seconds: float, gap_s: float) -> Stretch:
    """Poll evenly for so long; a fresh track must be handed in."""
    end = clock.now() + seconds
    while clock.now() < end:
        poll()
        clock.sleep(gap_s)
    edges = track.ticks_inside(float("-inf"), end)
    if edges is None:
        return Stretch(None, None)
    epoch = track.current
    ticks = [epoch.tick_at(k) for k in range(1, len(epoch.value))]
    watts = (epoch.value[-1] - epoch.value[1]) / (ticks[-1] - ticks[0])
    return Stretch(period(ticks), watts)
