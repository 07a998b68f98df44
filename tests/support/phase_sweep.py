"""Readings of one window at every phase of the counter's ticks: how far off is the worst one, and how wide its bound?

One fake GPU a phase, all with the same power, so that a single watch reads them all.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from support.fake_nvml import FakeGpu, FakeNvml

from pytest_slmperf.energy.meters.nvml import NvmlMeter

LIMIT_W = 700.0
PHASES = 8
UNTIL_S = 2.6
TICKS_S = (0.02, 0.1, 0.1, 0.25, 0.5)
Steps = list[tuple[float, float]]


def steady(draw: random.Random, tick: float) -> Steps:
    return [(0.0, draw.uniform(0.5, 2 * LIMIT_W - 1))]


def steps(draw: random.Random, tick: float) -> Steps:
    """Any level for 3 ms to 0.6 s, then another."""
    found: list = []
    t = 0.0
    while t < UNTIL_S:
        found.append((t, draw.uniform(0.5, 2 * LIMIT_W - 1)))
        t += draw.uniform(0.003, 0.6)
    return found


def on_and_off(draw: random.Random, tick: float) -> Steps:
    """A load that comes and goes after about three tenths of a tick, within the board's limit."""
    rest, load = draw.uniform(20, 200), draw.uniform(200, LIMIT_W)
    found: list = []
    t = 0.0
    while t < UNTIL_S:
        found.append((t, (rest, load)[len(found) % 2]))
        t += max(0.001, draw.expovariate(1 / (0.3 * tick)))
    return found


def bursts(draw: random.Random, tick: float) -> Steps:
    """Rest, and about once a tick a burst that takes up to two fifths of one."""
    rest = draw.uniform(0.5, 60)
    found, t = [(0.0, rest)], 0.0
    while t < UNTIL_S:
        t += draw.uniform(0.2, 1.8) * tick
        found.append((t, draw.uniform(300, 2 * LIMIT_W - 1)))
        t += draw.uniform(0.08, 0.4) * tick
        found.append((t, rest))
    return found


FAMILIES: tuple[Callable[[random.Random, float], Steps], ...] = (bursts, on_and_off, steps, steady)


@dataclass(frozen=True, slots=True)
class Swept:
    """One trace and window, |joules − true| and bound in J per phase: of the window, of the ticks around it, and the
    error of the plain difference of two looks at the counter."""

    plain: list[tuple[float, float]]
    around: list[tuple[float, float]]
    counter: list[float]


def sweep(fake: FakeNvml, family: Callable[[random.Random, float], Steps], seed: int) -> Swept:
    """A random trace of this family and a random window of 0.01 to 1.3 s, read at ``PHASES`` phases of the tick."""
    draw = random.Random(seed)
    tick = draw.choice(TICKS_S)
    power = family(draw, tick)
    begin, length = draw.uniform(0.75, 1.1), draw.uniform(0.01, 1.3)
    words: dict[str, object] = {"limit": LIMIT_W}
    fake.gpus = [
        FakeGpu(power, tick=tick, phase=tick * (k + draw.random()) / PHASES, words=words, uuid=f"GPU-{k}")
        for k in range(PHASES)
    ]
    fake.zero_ns = round(fake.now() * 1e9)
    fake.write()
    meter = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False)
    meter.gap_s = 0.004
    watch = meter.watch()
    a, b = fake.zero + begin, fake.zero + begin + length
    watch.run_until(b + 1e-9)
    reading, around = watch.reading(a, b), watch.around(a, b)
    true = fake.joules(a, b)
    plain = [(abs(_known(one.joules) - true), _known(one.bound_j)) for one in reading.devices]
    ticks = []
    for one in around.devices if around is not None else ():
        ((c, d),) = one.detail["edges"]
        assert c <= a < b <= d
        ticks.append((abs(_known(one.joules) - fake.joules(c, d)), _known(one.bound_j)))
    differences = []
    for probe in watch.probes:
        epoch = probe.track.current  # type: ignore[attr-defined]
        shown = [epoch.value[bisect_right(epoch.seen, t) - 1] for t in (a, b)]
        differences.append(abs(shown[1] - shown[0] - true))
    meter.close()
    return Swept(plain, ticks, differences)


def _known(value: float | None) -> float:
    assert value is not None
    return value


def medians(found: list[Swept]) -> dict[str, float]:
    """Median bound, and the median over traces of the error in the worst phase: of each way of reading."""
    sharp = [one.around for one in found if one.around]
    return {
        "bound": median(bound for one in found for _, bound in one.plain),
        "worst": median(max(error for error, _ in one.plain) for one in found),
        "worst difference": median(max(one.counter) for one in found),
        "bound between ticks": median(bound for one in sharp for _, bound in one),
        "worst between ticks": median(max(error for error, _ in one) for one in sharp),
    }
