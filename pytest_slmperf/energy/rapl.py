"""RAPL through Linux's powercap: CPU packages and memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_slmperf.energy.clock import REAL, Clock
from pytest_slmperf.energy.polled import Counter, PolledMeter

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


class Unwrapped:
    """A zone's joules since its first look; its counter wraps at ``max_energy_range_uj``, which is put right here."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._last_uj: int | None = None
        self._turns = 0

    def __call__(self) -> float:
        file = self._zone.path / "energy_uj"
        try:
            value = int(file.read_text())
        except OSError as error:
            raise OSError(error.errno, f"{file}: {error.strerror}") from None
        if self._last_uj is not None and value < self._last_uj:
            self._turns += 1
        self._last_uj = value
        return (value + self._turns * self._zone.range_uj) * 1e-6


class RaplMeter(PolledMeter):
    """Energy of the CPU packages and their memory; ``root`` is the powercap tree."""

    name = "rapl"

    def __init__(
        self, root: Path = POWERCAP, clock: Clock = REAL, *, gap_s: float = 0.01, threaded: bool = True
    ) -> None:
        super().__init__(clock, gap_s, threaded)
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

    def counters(self) -> list[Counter]:
        return [Counter(z.name, k, None, "rapl", z.scope, UNIT_J, Unwrapped(z)) for k, z in enumerate(self._zones)]
