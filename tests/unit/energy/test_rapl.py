"""RAPL against a powercap tree of our own: sockets, memory, wrap-around, permission."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_slmperf.energy.counter.tick_schedule import Clock
from pytest_slmperf.energy.meters.rapl import RaplMeter

RANGE_UJ = 100_000_000  # 100 J: wraps within the test


class Tree:
    """Zones whose counters advance with a virtual clock at a set power."""

    def __init__(self, root: Path, sockets: int = 2) -> None:
        self.root, self.t = root, 1000.0
        self.watts: dict[Path, float] = {}
        for number in range(sockets):
            self.zone(f"intel-rapl:{number}", f"package-{number}", 40.0 + 10 * number)
            self.zone(f"intel-rapl:{number}/intel-rapl:{number}:0", "core", 30.0)
            self.zone(f"intel-rapl:{number}/intel-rapl:{number}:1", "dram", 5.0)
        self.zone("intel-rapl:9", "psys", 200.0)
        self.zone("intel-rapl-mmio:0", "package-0", 40.0)
        self.write()
        self.clock = Clock(now=lambda: self.t, wall=lambda: self.t, sleep=self.sleep)

    def zone(self, place: str, name: str, watts: float) -> None:
        folder = self.root / place
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        self.watts[folder] = watts

    def sleep(self, seconds: float) -> None:
        self.t += max(seconds, 1e-6)
        self.write()

    def write(self) -> None:
        for folder, watts in self.watts.items():
            file = folder / "energy_uj"
            if not file.exists() or os.access(file, os.R_OK):
                file.write_text(f"{int(watts * (self.t - 1000) * 1e6 + 99e6) % RANGE_UJ}\n")


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path)


def test_packages_and_memory_are_summed_over_a_wrap_around(tree):
    meter = RaplMeter(tree.root, tree.clock, threaded=False)
    assert [(device["name"], device["scope"]) for device in meter.devices()] == [
        ("package-0", "package"),
        ("package-0 dram", "dram"),
        ("package-1", "package"),
        ("package-1 dram", "dram"),
    ]
    watch = meter.watch()
    watch.run_until(tree.t + 0.1)
    begun = tree.t
    watch.run_until(begun + 3.017)
    reading = watch.reading(begun, begun + 3.017)
    true = 3.017 * (40 + 5 + 50 + 5)  # more than one turn of every package's counter
    assert abs(reading.joules - true) <= reading.bound_j <= 0.03 * true
    assert reading.joules == pytest.approx(true, rel=0.002)
    assert {device.source for device in reading.devices} == {"rapl"}
    assert watch.trace()["watts"]["package-0"][-1] == pytest.approx(40, rel=0.1)


def test_idle_power(tree):
    assert RaplMeter(tree.root, tree.clock, threaded=False).idle_power_w(0.5) == pytest.approx(100, rel=0.02)


def test_no_tree_is_a_reason_not_an_error(tmp_path):
    meter = RaplMeter(tmp_path / "none")
    assert not meter.available
    assert "does not exist" in meter.reason
    (tmp_path / "empty").mkdir()
    assert "no RAPL package" in RaplMeter(tmp_path / "empty").reason


@pytest.mark.parametrize("name", ["energy_uj", "max_energy_range_uj"])
def test_without_permission_the_mend_is_said(tree, monkeypatch, name):
    real = Path.read_text

    def refuse(path: Path, *args, **kwargs):  # root, as in a container, may read whatever the mode says
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    meter = RaplMeter(tree.root, tree.clock)
    assert not meter.available
    assert "no permission to read" in meter.reason
    assert f"chmod a+r {tree.root}/intel-rapl:*/{name})" in meter.reason


def test_permission_lost_while_measuring_gives_no_joules(tree, monkeypatch):
    meter = RaplMeter(tree.root, tree.clock, threaded=False)
    watch = meter.watch()
    watch.run_until(tree.t + 0.2)
    begun = tree.t
    real = Path.read_text

    def refuse(path: Path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    watch.run_until(begun + 1)
    reading = watch.reading(begun, begun + 0.9)
    assert reading.joules is None
    assert "Permission denied" in reading.reason


def test_a_damaged_counter_is_a_reason(tmp_path):
    tree = Tree(tmp_path, sockets=1)
    for part in (tree.root / "intel-rapl:0", tree.root / "intel-rapl:0/intel-rapl:0:1"):
        (part / "energy_uj").write_text("what\n")
    meter = RaplMeter(tree.root, tree.clock)
    assert not meter.available
    assert "RAPL cannot be read" in meter.reason


@pytest.mark.parametrize("file", ["max_energy_range_uj", "name", "energy_uj"])
def test_one_bad_zone_is_left_out_and_said(tree, file):
    place = tree.root / "intel-rapl:0/intel-rapl:0:1"
    (place / file).unlink()
    tree.watts.pop(place)
    meter = RaplMeter(tree.root, tree.clock, threaded=False)
    assert [device["name"] for device in meter.devices()] == ["package-0", "package-1", "package-1 dram"]
    watch = meter.watch()
    begun = tree.t
    watch.run_until(begun + 1.0)
    reading = watch.reading(begun + 0.1, begun + 0.9)
    assert reading.joules == pytest.approx(0.8 * (40 + 50 + 5), rel=0.02)
    assert all("left out, package-0" in text and file in text for device in reading.devices for text in device.warnings)
    assert reading.devices[0].warnings


LARGE_UJ = 262_143_328_850  # of a current package


@pytest.mark.parametrize(
    ("range_uj", "told"), [(LARGE_UJ, "by more than a wrap-around explains"), (0, "cannot be told apart")]
)
def test_a_counter_that_falls_back_is_not_taken_for_a_wrap(tmp_path, range_uj, told):
    """50 W for a second would read 262 kJ."""
    tree = Tree(tmp_path, sockets=0)
    tree.zone("intel-rapl:0", "package-0", 50.0)
    place = tree.root / "intel-rapl:0"
    (place / "max_energy_range_uj").write_text(f"{range_uj}\n")
    lost = [0.0]
    tree.write = lambda: (place / "energy_uj").write_text(f"{int((50 * (tree.t - 1000) + 100 - lost[0]) * 1e6)}\n")  # type: ignore[method-assign, assignment]
    tree.write()
    watch = RaplMeter(tree.root, tree.clock, threaded=False).watch()
    begun = tree.t
    watch.run_until(begun + 0.5)
    lost[0] = 20.0
    watch.run_until(begun + 1.5)
    reading = watch.reading(begun + 0.1, begun + 1.0)
    assert reading.joules is None
    assert told in reading.reason
    assert watch.reading(begun + 0.6, begun + 1.4).joules == pytest.approx(40, rel=0.05)


def test_a_command_waits_for_the_next_look_and_no_longer(tree):
    """The counter moves at every look, 10 ms apart: one that is seen more closely never comes."""
    watch = RaplMeter(tree.root, tree.clock, threaded=False).watch()
    asked = tree.clock.now()
    assert 0 <= watch.next_tick() - asked <= 0.021


@pytest.mark.parametrize("watts", [300.0, 700.0])
def test_turns_that_nobody_looked_at_are_not_guessed(tmp_path, watts):
    """A process that was stopped for minutes: the counter turned once, or more often, and shows only where it stands."""
    tree = Tree(tmp_path, sockets=0)
    tree.zone("intel-rapl:0", "package-0", watts)
    place = tree.root / "intel-rapl:0"
    (place / "max_energy_range_uj").write_text(f"{LARGE_UJ}\n")
    tree.write = lambda: (place / "energy_uj").write_text(f"{int(watts * (tree.t - 1000) * 1e6) % LARGE_UJ}\n")  # type: ignore[method-assign, assignment]
    tree.write()
    watch = RaplMeter(tree.root, tree.clock, threaded=False).watch()
    begun = tree.t
    watch.run_until(begun + 0.5)
    tree.sleep(600.0)  # 180 kJ: less than a turn; 420 kJ: one and a half
    watch.run_until(begun + 602.0)
    reading = watch.reading(begun + 0.1, begun + 601.0)
    assert reading.joules is None
    assert "more than once" in reading.reason
    assert watch.reading(begun + 600.6, begun + 601.6).joules == pytest.approx(watts, rel=0.05)
