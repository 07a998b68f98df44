"""A meter at work: probes that are polled during the run, and readings of any window inside."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pytest_slmperf.energy.base import DeviceReading, EnergyReading, Watch, Windows
from pytest_slmperf.energy.counter.power_samples import thinned
from pytest_slmperf.energy.counter.tick_schedule import REAL, Clock
from pytest_slmperf.energy.counter.track import COVERED, CounterTrack

FIRST_TICK_S = 0.7  # wait at the start for the first tick; the slowest known counters tick every 0.5 s
# A window may begin at a tick if the polls around it are at most this apart (s), or at most SHARP_GAPS × the planned gap:
# some boards allow no denser polling.
SHARP_S = 0.002
SHARP_GAPS = 1.5
TRACE_POINTS = 1500  # per device: more than a chart in a report can show


class Probe(ABC):
    """One watched device.

    track: the counter's readings so far; None for a device with power samples only, which have no ticks
    """

    name: str
    track: CounterTrack | None = None

    @property
    def gap_s(self) -> float:
        """Planned time between two polls, s; by default 0, for a time that varies."""
        return 0.0

    @abstractmethod
    def poll(self) -> None:
        """Poll once. A fault of the device does not raise; the readings have it as their reason."""

    @abstractmethod
    def next_after(self, now: float) -> float:
        """Time of the next poll, s."""

    @abstractmethod
    def settled(self, t: float) -> bool:
        """True once later polls cannot tighten the bound of a window that ends at t."""

    @abstractmethod
    def reading(self, windows: Windows) -> DeviceReading:
        """Joules of these windows together."""

    def details(self, t_start: float, t_end: float) -> dict[str, Any]:
        """Conditions of the device: throttling, clocks, other processes. By default empty."""
        return {}

    @abstractmethod
    def ticks_inside(self, t_start: float, t_end: float, period_s: float | None = None) -> tuple[float, float] | None:
        """First and last tick seen inside a window, a whole number of ``period_s`` apart if possible."""

    @abstractmethod
    def watts(self) -> tuple[list[float], list[float]]:
        """Power over time: ([t_s], [W])."""


class CounterWatch(Watch):
    """Polls probes in a thread of its own until closed; ``threaded`` False: only while a caller waits (simulation)."""

    def __init__(
        self,
        probes: Sequence[Probe],
        clock: Clock = REAL,
        *,
        threaded: bool = True,
        settle_s: float = 1.5,
        closed: Callable[[], None] | None = None,
    ) -> None:
        """``closed`` is called after the last poll."""
        self.probes = list(probes)
        self._clock = clock
        self._settle_s = settle_s
        self._told_closed = closed
        self._lock = threading.Lock()
        self._running = (
            threading.Lock()
        )  # held until the end: waiting for a lock is as cheap as a sleep, waiting for an event is not
        self._running.acquire()
        self._closed = False
        self._due = [clock.now()] * len(self.probes)
        self._thread: threading.Thread | None = None
        if threaded and self.probes:
            self._thread = threading.Thread(target=self._run, name="slmperf-energy", daemon=True)
            self._thread.start()
        self._wait(clock.now(), FIRST_TICK_S)

    def _step(self) -> float:
        """Poll every probe that is due; returns the time of the next poll."""
        due, now = self._due, self._clock.now()
        for k, probe in enumerate(self.probes):
            if due[k] <= now:
                with self._lock:
                    probe.poll()
                    now = self._clock.now()
                    due[k] = probe.next_after(now)
        return min(due)

    def _run(self) -> None:
        delay = 0.0
        while not self._running.acquire(timeout=delay):
            delay = max(0.0, self._step() - self._clock.now())

    def run_until(self, t: float) -> None:
        """Let time pass until t (simulation: polls in this thread)."""
        while (now := self._clock.now()) < t:
            if self._thread is None and self.probes and not self._closed:
                due = self._step()
                now = self._clock.now()
                self._clock.sleep(max(0.0, min(due, t) - now) or 1e-6)
            else:
                self._clock.sleep(min(t - now, 0.05))

    def _settled(self, t: float) -> bool:
        with self._lock:
            return all(probe.settled(t) for probe in self.probes)

    def _wait(self, t: float, most_s: float | None = None) -> None:
        """Wait until every probe is ``settled`` for windows that end at t, but no longer than t + ``settle_s``.

        The limit counts from t so that a tick that did not come in time is not waited for again.
        """
        polled = (
            t if self._thread is not None else max(self._clock.now(), t)
        )  # simulated time stands still between calls
        deadline = polled + (self._settle_s if most_s is None else most_s)
        while not self._closed and not self._settled(t) and self._clock.now() < deadline:
            self.run_until(min(self._clock.now() + 0.01, deadline))

    def reading(self, t_start: float, t_end: float) -> EnergyReading:
        """Joules from t_start to t_end (CLOCK_MONOTONIC s). Waits for the first tick after t_end if it is due."""
        return self.total([(t_start, t_end)])

    def total(self, windows: Windows) -> EnergyReading:
        """Joules of several windows together (in order of time), with a smaller bound than the sum of their readings."""
        t_start, t_end = windows[0][0], windows[-1][1]
        if t_end > self._clock.now():
            return EnergyReading((), t_start, t_end, reason="the window ends in the future")
        self._wait(t_end)
        with self._lock:
            devices = tuple(probe.reading(windows) for probe in self.probes)
        return EnergyReading(devices, t_start, t_end, reason=first_reason(devices))

    def details(self, t_start: float, t_end: float) -> list[tuple[str, dict[str, Any]]]:
        """Observations of each device in the window so far; does not wait."""
        with self._lock:
            return [(probe.name, probe.details(t_start, t_end)) for probe in self.probes]

    def matched(
        self,
        windows: Windows,
        period_s: float | None = None,
        *,
        covered: float = COVERED,
        wait: bool = True,
    ) -> EnergyReading | None:
        """Joules between observed ticks inside these windows: the bound falls with poll gap ÷ window.

        Per device, each window shrinks to ticks near its edges (``detail["edges"]``).  The ticks of several devices differ:
        all readings are scaled to the length of the shortest, by their mean power.  ``period_s``: time after which the
        load repeats itself.  None if less than ``covered`` of the windows lies between ticks.
        """
        if wait:
            self._wait(min(windows[-1][1], self._clock.now()))
        asked = sum(b - a for a, b in windows)
        devices = []
        with self._lock:
            for probe in self.probes:
                edges = [pair for a, b in windows if (pair := probe.ticks_inside(a, b, period_s)) is not None]
                if not edges or sum(b - a for a, b in edges) < covered * asked:
                    return None
                reading = probe.reading(edges)
                if reading.joules is None or reading.bound_j is None:
                    return None
                devices.append(replace(reading, detail={**reading.detail, "edges": edges}))
        if not devices:
            return None
        shortest = min(device.window_s for device in devices)
        return EnergyReading(
            tuple(_shortened(device, shortest) for device in devices),
            min(device.detail["edges"][0][0] for device in devices),
            max(device.detail["edges"][-1][1] for device in devices),
        )

    def next_tick(self, most_s: float = 1.5) -> float:
        """Wait for a tick and return the time at which it was seen (CLOCK_MONOTONIC s), where a window may begin sharply.

        Of several devices, the device with the slowest tick counts; after ``most_s`` without a tick, the current time.
        """
        begun = self._clock.now()
        tracked = [  # power samples alone have no ticks
            (probe, probe.track) for probe in self.probes if probe.track is not None and probe.track.current.value
        ]
        probe, slowest = max(
            tracked, key=lambda pair: pair[1].tick_s() or pair[1].period_s or 0.0, default=(None, None)
        )
        sharp_s = max(SHARP_S, SHARP_GAPS * (0.0 if probe is None else probe.gap_s))
        while slowest is not None and not self._closed and (now := self._clock.now()) < begun + most_s:
            with self._lock:
                epoch = slowest.current
                k = len(epoch.seen) - 1
                if k > 0 and epoch.seen[k] >= begun and epoch.blur(k) <= sharp_s:
                    return float(epoch.seen[k])
            self.run_until(now + 0.0005)
        return self._clock.now()

    def around(self, t_start: float, t_end: float) -> EnergyReading | None:
        """Joules between the last tick before a window and the first after it: a small bound for up to a tick more per end.

        Each device has its own ``window_s``. None if a device shows no such ticks.  Without a known ceiling of the power,
        the next tick bounds the tick that ends the window, and this method waits for it.
        """
        self._wait(t_end)
        reading = self._around(t_start, t_end)
        if reading is None or reading.joules is not None:
            return reading
        self._wait(max(device.detail["edges"][-1][1] for device in reading.devices))
        return self._around(t_start, t_end)

    def _around(self, t_start: float, t_end: float) -> EnergyReading | None:
        devices = []
        with self._lock:
            for probe in self.probes:
                edges = None if probe.track is None else probe.track.ticks_around(t_start, t_end)
                if edges is None:
                    return None
                reading = probe.reading([edges])
                devices.append(replace(reading, detail={**reading.detail, "edges": [edges]}))
        return EnergyReading(tuple(devices), t_start, t_end, reason=first_reason(devices)) if devices else None

    def trace(self) -> dict[str, Any]:
        """Power over time, thinned: {"t_s": [...], "watts": {device: [...]}} on the time axis of the first device."""
        with self._lock:
            series = {probe.name: thinned(*probe.watts(), TRACE_POINTS) for probe in self.probes}
        series = {name: (times, watts) for name, (times, watts) in series.items() if times}
        if not series:
            return {"t_s": [], "watts": {}}
        axis = next(iter(series.values()))[0]
        return {"t_s": axis, "watts": {name: _on_axis(axis, *pair) for name, pair in series.items()}}

    def close(self) -> None:
        """Stop polling, once windows that end now are ``settled``. Idempotent; windows can still be read afterwards."""
        if self._closed:
            return
        self._wait(self._clock.now())
        self._closed = True
        self._running.release()
        if self._thread is not None:
            self._thread.join()
        if self._told_closed is not None:
            self._told_closed()


def _shortened(device: DeviceReading, seconds: float) -> DeviceReading:
    """The reading of a window of ``seconds`` at the same mean power."""
    share = seconds / device.window_s
    if share == 1 or device.joules is None or device.bound_j is None:
        return device
    detail = dict(device.detail)
    if "witness" in detail:
        witness = detail["witness"]
        detail["witness"] = witness | {key: witness[key] * share for key in ("joules", "bound_j")}
    return replace(
        device, joules=device.joules * share, bound_j=device.bound_j * share, window_s=seconds, detail=detail
    )


def first_reason(devices: Sequence[DeviceReading]) -> str | None:
    """Why a sum over these devices is not a reading; None if it is."""
    for device in devices:
        if device.joules is None:
            return f"{device.name}: {device.reason}"
    return None if devices else "no device is watched"


def _on_axis(axis: list[float], times: list[float], watts: list[float]) -> list[float]:
    """At each time of the axis, the last earlier sample of a device, which is polled at times of its own."""
    if times is axis or times == axis:
        return watts
    from bisect import bisect_right

    return [watts[max(0, bisect_right(times, t) - 1)] for t in axis]
