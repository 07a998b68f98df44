"""A cumulative counter polled evenly, for sources that tick faster than polling should."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_slmperf.energy.base import DeviceReading, EnergyMeter
from pytest_slmperf.energy.counter.tick_schedule import REAL, Clock
from pytest_slmperf.energy.counter.track import FELL, CounterTrack
from pytest_slmperf.energy.idle_power import mean_power
from pytest_slmperf.energy.watch import CounterWatch, Probe


@dataclass(frozen=True, slots=True)
class Counter:
    """A source: ``joules`` returns cumulative energy and may raise any exception; a falling value is a reset.

    ``fell``: reason given for a window in which it fell; ``notes``: warnings added to every reading.
    """

    name: str
    index: int
    uuid: str | None
    source: str
    scope: str
    unit_j: float
    joules: Callable[[], float]
    fell: str = FELL
    notes: tuple[str, ...] = ()


class PolledProbe(Probe):
    """A counter under watch, polled every ``gap_s`` seconds."""

    track: CounterTrack
    gap_s: float = 0.0

    def __init__(self, counter: Counter, clock: Clock, gap_s: float) -> None:
        self.name = counter.name
        self.track = CounterTrack(counter.unit_j, fell=counter.fell)
        self.failure: tuple[float, str] | None = None
        self.last_ok = float("-inf")
        self._counter = counter
        self._clock = clock
        self.gap_s = gap_s

    def poll(self) -> None:
        begun = self._clock.now()
        try:
            joules = self._counter.joules()
        except Exception as error:  # packages of vendors raise classes of their own for a lost device, a busy driver, …
            strerror = error.strerror if isinstance(error, OSError) else None
            self.failure = (begun, strerror or str(error) or type(error).__name__)
            return
        ended = self.last_ok = self._clock.now()
        self.track.add(begun, ended, joules)

    def next_after(self, now: float) -> float:
        return now + self.gap_s

    def settled(self, t: float) -> bool:
        return self.track.covers(t) or (self.failure is not None and self.failure[0] > max(self.last_ok, t))

    def watts(self) -> tuple[list[float], list[float]]:
        return self.track.watts()

    def ticks_inside(self, t_start: float, t_end: float, period_s: float | None = None) -> tuple[float, float] | None:
        return self.track.ticks_inside(t_start, t_end, period_s)

    def reading(self, windows: Sequence[tuple[float, float]]) -> DeviceReading:
        window = self.track.windows(windows)
        joules, bound_j, reason = window.joules, window.bound_j, window.reason
        if self.failure is not None and self.last_ok < windows[-1][1] < self._clock.now():
            joules, bound_j, reason = None, None, f"the device stopped answering: {self.failure[1]}"
        return DeviceReading(
            name=self.name,
            uuid=self._counter.uuid,
            source=self._counter.source,
            scope=self._counter.scope,
            joules=joules,
            bound_j=bound_j,
            window_s=sum(b - a for a, b in windows),
            tick_s=self.track.tick_s(),
            reason=reason,
            warnings=self._counter.notes,
        )


class PolledMeter(EnergyMeter):
    """A meter of such counters. A subclass sets ``available``, or ``reason`` where there are no counters."""

    name: str

    def __init__(self, clock: Clock = REAL, gap_s: float = 0.01, threaded: bool = True) -> None:
        self.available = False
        self.reason: str | None = None
        self._clock = clock
        self._gap_s = gap_s
        self._threaded = threaded

    @abstractmethod
    def counters(self) -> list[Counter]:
        """The counters to watch; none of them has been read before."""

    def devices(self) -> Sequence[dict[str, Any]]:
        facts = ("name", "uuid", "index", "source", "scope", "notes")
        return [{fact: getattr(counter, fact) for fact in facts} for counter in self.counters()]

    def watch(self) -> CounterWatch:
        probes = [PolledProbe(counter, self._clock, self._gap_s) for counter in self.counters()]
        return CounterWatch(probes, self._clock, threaded=self._threaded)

    def idle_power_w(self, seconds: float) -> float | None:
        return mean_power(self, seconds, self._clock)

    def close(self) -> None:
        """Make the meter unavailable; a subclass that holds resources releases them. Idempotent."""
        self.available, self.reason = False, self.reason or "the meter is closed"
