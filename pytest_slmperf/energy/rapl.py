"""RAPL through Linux's powercap: CPU packages and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_slmperf.energy.base import DeviceReading, Watch
from pytest_slmperf.energy.clock import REAL, Clock
from pytest_slmperf.energy.counter import CounterTrack
from pytest_slmperf.energy.rest import mean_power
from pytest_slmperf.energy.schedule import EvenSchedule
from pytest_slmperf.energy.watch import CounterWatch

POWERCAP = Path("/sys/class/powercap")
UNIT_J = 61e-6  # the coarsest energy unit of current processors (2^-14 J)


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter: a package, or the memory of one."""

    name: str
    scope: str
    path: Path
    range_uj: int


def zones(root: Path) -> list[Zone]:
    """Packages and their DRAM, without what counts twice (cores, uncore, psys, mmio). OSError if unreadable."""
    found = []
    for package in sorted(root.glob("intel-rapl:*")):
        if ":" in package.name.removeprefix("intel-rapl:"):
            continue
        name = (package / "name").read_text().strip()
        if not name.startswith("package"):
            continue
        found.append(_zone(package, name, "package"))
        for part in sorted(package.glob(f"{package.name}:*")) or sorted(root.glob(f"{package.name}:*")):
            if (part / "name").read_text().strip() == "dram":
                found.append(_zone(part, f"{name} dram", "dram"))
    return found


def _zone(path: Path, name: str, scope: str) -> Zone:
    return Zone(name, scope, path, int((path / "max_energy_range_uj").read_text()))


class RaplProbe:
    """One zone while it is watched; its counter wraps at ``max_energy_range_uj``, which is put right here."""

    def __init__(self, zone: Zone, clock: Clock, gap_s: float) -> None:
        self.name = zone.name
        self.zone = zone
        self.track = CounterTrack(UNIT_J)
        self.failure: tuple[float, str] | None = None
        self.last_ok = float("-inf")
        self._clock = clock
        self._schedule = EvenSchedule(gap_s)
        self._file = zone.path / "energy_uj"
        self._last_uj: int | None = None
        self._turns = 0

    def poll(self) -> None:
        begun = self._clock.now()
        try:
            value = int(self._file.read_text())
        except (OSError, ValueError) as error:
            self.failure = (begun, getattr(error, "strerror", None) or str(error))
            return
        ended = self._clock.now()
        if self._last_uj is not None and value < self._last_uj:
            self._turns += 1
        self._last_uj = value
        self.last_ok = ended
        self.track.add(begun, ended, (value + self._turns * self.zone.range_uj) * 1e-6)

    def next_after(self, now: float) -> float:
        return self._schedule.next_after(now)

    def settled(self, t: float) -> bool:
        return self.track.covers(t) or (self.failure is not None and self.failure[0] > max(self.last_ok, t))

    def watts(self) -> tuple[list[float], list[float]]:
        return self.track.watts()

    def details(self, t_start: float, t_end: float) -> dict[str, Any]:
        return {}

    def ticks_inside(self, t_start: float, t_end: float, period_s: float | None = None) -> tuple[float, float] | None:
        return self.track.ticks_inside(t_start, t_end, period_s)

    def reading(self, windows: Sequence[tuple[float, float]]) -> DeviceReading:
        window = self.track.windows(windows)
        t_end = windows[-1][1]
        joules, bound_j, reason = window.joules, window.bound_j, window.reason
        if self.failure is not None and self.last_ok < t_end < self._clock.now():
            joules, bound_j, reason = None, None, f"{self._file}: {self.failure[1]}"
        return DeviceReading(
            name=self.name,
            uuid=None,
            source="rapl",
            scope=self.zone.scope,
            joules=joules,
            bound_j=bound_j,
            window_s=sum(b - a for a, b in windows),
            tick_s=self.track.tick_s(),
            reason=reason,
        )


class RaplMeter:
    """Energy of the CPU packages and their memory; ``root`` is the powercap tree."""

    name = "rapl"

    def __init__(
        self, root: Path = POWERCAP, clock: Clock = REAL, *, gap_s: float = 0.01, threaded: bool = True
    ) -> None:
        self.available = False
        self.reason: str | None = None
        self._clock = clock
        self._gap_s = gap_s
        self._threaded = threaded
        self._zones: list[Zone] = []
        if not root.is_dir():
            self.reason = f"no RAPL: {root} does not exist (not a bare-metal x86 machine, or no powercap driver)"
            return
        try:
            self._zones = zones(root)
            for zone in self._zones:
                int((zone.path / "energy_uj").read_text())
        except PermissionError as error:
            self.reason = f"no permission to read {error.filename} (as root: chmod a+r {root}/intel-rapl:*/energy_uj)"
            return
        except (OSError, ValueError) as error:
            self.reason = f"RAPL cannot be read: {error}"
            return
        if not self._zones:
            self.reason = f"no RAPL package under {root}"
            return
        self.available = True

    def devices(self) -> Sequence[dict[str, Any]]:
        return [
            {"name": zone.name, "uuid": None, "index": k, "source": "rapl", "scope": zone.scope, "tick_s": None}
            for k, zone in enumerate(self._zones)
        ]

    def watch(self) -> Watch:
        probes = [RaplProbe(zone, self._clock, self._gap_s) for zone in self._zones]
        return CounterWatch(probes, self._clock, threaded=self._threaded)

    def idle_power_w(self, seconds: float) -> float | None:
        return mean_power(self, seconds, self._clock)

    def close(self) -> None:
        """Nothing is held open."""
