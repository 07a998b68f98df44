"""RAPL through Linux's powercap: CPU packages and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_slmperf.energy.clock import REAL, Clock
from pytest_slmperf.energy.meters.polled_counter import Counter, PolledMeter

POWERCAP = Path("/sys/class/powercap")
UNIT_J = 61e-6  # the coarsest energy unit of current processors (2^-14 J)
MOST_W = 5000.0  # no package draws so much: a fall that would mean more was no wrap-around
LEAST_GAP_S = 0.001  # the counter is updated every millisecond, whenever it is looked at
RESET = (
    "the energy counter fell back in this window by more than a wrap-around explains (driver reload or sleep), or was not "
    "looked at for so long that it may have wrapped around more than once"
)
UNKNOWN_WRAP = (
    "the energy counter fell back in this window: it wrapped around or was reset, and max_energy_range_uj is 0, so that "
    "the two cannot be told apart"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter: a package, or the memory of one."""

    name: str
    scope: str
    path: Path
    range_uj: int


@dataclass(slots=True)
class Found:
    """Zones that can be read, and why others cannot: PermissionError is told apart, its mend is another."""

    zones: list[Zone] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    refused: str | None = None


def zones(root: Path) -> Found:
    """Packages and their DRAM, without what counts twice (cores, uncore, psys, mmio). One bad zone spoils no other."""
    found = Found()
    for package in sorted(root.glob("intel-rapl:*")):
        if ":" in package.name.removeprefix("intel-rapl:"):
            continue
        name = _name(package, package.name, found)
        if name is None or not name.startswith("package"):
            continue
        _keep(package, name, "package", found)
        for part in sorted(package.glob(f"{package.name}:*")) or sorted(root.glob(f"{package.name}:*")):
            if _name(part, f"{name}, {part.name}", found) == "dram":
                _keep(part, f"{name} dram", "dram", found)
    return found


def _name(path: Path, what: str, found: Found) -> str | None:
    """What a zone calls itself; None, and said, where it does not."""
    try:
        return (path / "name").read_text().strip()
    except OSError as error:
        found.left_out.append(f"{what}: {path / 'name'}: {error.strerror}")
        return None


def _keep(path: Path, name: str, scope: str, found: Found) -> None:
    """Keep a zone whose files can be read now."""
    file = path / "max_energy_range_uj"
    try:
        zone = Zone(name, scope, path, int(file.read_text()))
        file = path / "energy_uj"
        int(file.read_text())
    except PermissionError:
        found.refused = str(file)
        found.left_out.append(f"{name}: no permission to read {file}")
    except OSError as error:
        found.left_out.append(f"{name}: {file}: {error.strerror}")
    except ValueError as error:
        found.left_out.append(f"{name}: {file}: {error}")
    else:
        found.zones.append(zone)


class Unwrapped:
    """A zone's joules since its first look; its counter wraps at ``max_energy_range_uj``, which is put right here.

    Not every fall is a wrap-around.  One that would mean more power than any package draws since the look before was a
    reset: the joules then fall too, and whoever watches them knows that no window over it can be read.  They are made to
    fall where looks were so far apart (a stopped process) that a turn more than is seen may have gone by.
    """

    def __init__(self, zone: Zone, now: Callable[[], float] = REAL.now) -> None:
        self._zone = zone
        self._now = now
        self._last: tuple[float, int] | None = None  # (when the look began, µJ)
        self._turns = 0

    def __call__(self) -> float:
        file = self._zone.path / "energy_uj"
        begun = self._now()
        try:
            value = int(file.read_text())
        except OSError as error:
            raise OSError(error.errno, f"{file}: {error.strerror}") from None
        if self._last is not None:
            self._turns += self._passed(value, *self._last)
        self._last = (begun, value)
        return (value + self._turns * self._zone.range_uj) * 1e-6

    def _passed(self, value: int, since: float, before: int) -> int:
        """Turns since the look before, which began then and showed that value; −1 where their number cannot be told."""
        range_j = self._zone.range_uj * 1e-6
        most_j = MOST_W * max(self._now() - since, LEAST_GAP_S)
        turns = int(value < before)
        rise_j = (value - before) * 1e-6 + turns * range_j
        if range_j and rise_j + range_j <= most_j:
            return -1
        return turns if 0 <= rise_j <= most_j else 0


class RaplMeter(PolledMeter):
    """Energy of the CPU packages and their memory; ``root`` is the powercap tree."""

    name = "rapl"

    def __init__(
        self, root: Path = POWERCAP, clock: Clock = REAL, *, gap_s: float = 0.01, threaded: bool = True
    ) -> None:
        super().__init__(clock, gap_s, threaded)
        self._zones: list[Zone] = []
        self._left_out: list[str] = []
        if not root.is_dir():
            self.reason = f"no RAPL: {root} does not exist (not a bare-metal x86 machine, or no powercap driver)"
            return
        found = zones(root)
        self._zones, self._left_out = found.zones, found.left_out
        self.available = bool(found.zones)
        if found.zones:
            return
        if found.refused is not None:
            self.reason = f"no permission to read {found.refused} (as root: chmod a+r {root}/intel-rapl:*/energy_uj)"
        elif found.left_out:
            self.reason = f"RAPL cannot be read: {'; '.join(found.left_out)}"
        else:
            self.reason = f"no RAPL package under {root}"

    def counters(self) -> list[Counter]:
        notes = tuple(f"left out, {why}" for why in self._left_out)
        return [
            Counter(
                zone.name, k, None, "rapl", zone.scope, UNIT_J, Unwrapped(zone, self._clock.now),
                RESET if zone.range_uj else UNKNOWN_WRAP, notes,
            )
            for k, zone in enumerate(self._zones)
        ]  # fmt: skip
