"""RAPL through Linux's powercap: CPU packages and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_slmperf.energy.counter.tick_schedule import REAL, Clock
from pytest_slmperf.energy.meters.polled_counter import Counter, PolledMeter

POWERCAP = Path("/sys/class/powercap")
UNIT_J = 61e-6  # the coarsest energy unit of current processors (2^-14 J)
MOST_W = 5000.0  # no package draws this much: a fall that implies more power was not a wrap-around
LEAST_GAP_S = 0.001  # the counter is updated every millisecond
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
    """One counter: a CPU package, or its memory."""

    name: str
    scope: str
    path: Path
    range_uj: int


@dataclass(slots=True)
class Zones:
    """Readable zones, and why others are not readable; PermissionError is kept apart, since its fix differs."""

    zones: list[Zone] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    refused: str | None = None


def zones(root: Path) -> Zones:
    """Packages and their DRAM, without zones that would count twice (cores, uncore, psys, mmio). A bad zone spoils no
    other.
    """
    result = Zones()
    for package in sorted(root.glob("intel-rapl:*")):
        if ":" in package.name.removeprefix("intel-rapl:"):
            continue
        name = _name(package, package.name, result)
        if name is None or not name.startswith("package"):
            continue
        _keep(package, name, "package", result)
        for part in sorted(package.glob(f"{package.name}:*")) or sorted(root.glob(f"{package.name}:*")):
            if _name(part, f"{name}, {part.name}", result) == "dram":
                _keep(part, f"{name} dram", "dram", result)
    return result


def _name(path: Path, what: str, result: Zones) -> str | None:
    """The zone's own name; None, with a problem recorded, where it has none."""
    try:
        return (path / "name").read_text().strip()
    except OSError as error:
        result.left_out.append(f"{what}: {path / 'name'}: {error.strerror}")
        return None


def _keep(path: Path, name: str, scope: str, result: Zones) -> None:
    """Keep a zone whose files are readable now."""
    file = path / "max_energy_range_uj"
    try:
        zone = Zone(name, scope, path, int(file.read_text()))
        file = path / "energy_uj"
        int(file.read_text())
    except PermissionError:
        result.refused = str(file)
        result.left_out.append(f"{name}: no permission to read {file}")
    except OSError as error:
        result.left_out.append(f"{name}: {file}: {error.strerror}")
    except ValueError as error:
        result.left_out.append(f"{name}: {file}: {error}")
    else:
        result.zones.append(zone)


class Unwrapped:
    """Joules of a zone since its first read, corrected for wrap-around at ``max_energy_range_uj``.

    Not every fall is a wrap-around.  A fall that implies more power than any package draws was a reset: the joules then fall
    too, and the watcher rejects windows across it.  They are also made to fall where reads were far enough apart (a stopped
    process) that an additional wrap-around may have gone unseen.
    """

    def __init__(self, zone: Zone, now: Callable[[], float] = REAL.now) -> None:
        self._zone = zone
        self._now = now
        self._last: tuple[float, int] | None = None  # (start of the last read, µJ)
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
        """Wrap-arounds since the previous read, which began at that time with that value; −1 where their number is
        ambiguous.
        """
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
        result = zones(root)
        self._zones, self._left_out = result.zones, result.left_out
        self.available = bool(result.zones)
        if result.zones:
            return
        if result.refused is not None:
            file = Path(result.refused).name
            self.reason = f"no permission to read {result.refused} (as root: chmod a+r {root}/intel-rapl:*/{file})"
        elif result.left_out:
            self.reason = f"RAPL cannot be read: {'; '.join(result.left_out)}"
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
