"""The bound from polls alone, and sums over several windows."""

from __future__ import annotations

import random

import pytest

from pytest_slmperf.energy.counter.power_samples import PowerTrack, thinned
from pytest_slmperf.energy.counter.tick_schedule import Resolution
from pytest_slmperf.energy.counter.track import CounterTrack, period


def polled(
    watts: float = 100.0, tick: float = 0.1, gap: float = 0.004, until: float = 4.0, ceiling: float | None = None
):
    track, t = CounterTrack(0.001, ceiling), 0.0
    while t < until:
        ticks = int((t + 1e-9) / tick)
        track.add(t, t, round(ticks * tick * watts, 3))
        t += gap
    return track


def test_a_window_needs_no_ceiling():
    window = polled().window(1.013, 2.091)
    assert abs(window.joules - 107.8) <= window.bound_j
    assert window.joules == pytest.approx(107.8, rel=0.005)


def test_a_known_ceiling_sharpens_the_bound():
    loose, sharp = polled().window(1.003, 2.003), polled(ceiling=150).window(1.003, 2.003)
    assert sharp.bound_j < loose.bound_j / 3


@pytest.mark.parametrize(
    ("edges", "reason"),
    [((-1, 2), "begins before"), ((2, 2), "no length"), ((3, 2), "no length"), ((1, 9), "after the window's end")],
)
def test_a_window_that_cannot_be_read_says_why(edges, reason):
    window = polled().window(*edges)
    assert window.joules is None
    assert reason in window.reason


def test_windows_that_follow_closely_do_not_add_their_bounds():
    track = polled(ceiling=200)
    rounds = [(0.5 + 0.3 * k, 0.5 + 0.3 * k + 0.297) for k in range(10)]
    together = track.windows(rounds)
    apart = [track.window(*edges) for edges in rounds]
    assert together.joules == pytest.approx(297, rel=0.01)
    assert abs(together.joules - 297) <= together.bound_j
    assert together.bound_j < sum(part.bound_j for part in apart) / 2
    assert track.windows([]).joules is None
    assert track.windows([(0.5, 0.8), (3.9, 99)]).joules is None


def test_the_period_stands_though_ticks_were_missed():
    track = CounterTrack(0.001)
    shown = 0.0
    for k in [0, 1, 2, 3, 5, 6, 9, 10, 11]:
        track.add(k * 0.1 - 0.001, k * 0.1 - 0.001, shown)
        shown = k * 10.0 + 10
        track.add(k * 0.1 + 0.001, k * 0.1 + 0.001, shown)
    assert track.tick_s() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(
    ("start", "rises", "unit"),
    [
        (
            7.123,
            [10.0, 11.0, 10.0, 10.0],
            1.0,
        ),  # its values have a start of their own: the rises tell, once they differ
        (7.123, [10.0, 10.0, 10.0, 10.0], 0.001),
        (7.123, [10.0, 11.0], 0.001),
        (7.0, [10.0, 10.0, 10.0, 10.0], 1.0),  # steady power: every rise is the same, but the values are whole joules
        (7.0, [10.0], 1.0),
        (70.0, [10.0, 10.0], 10.0),  # no counter known is so coarse, but nothing seen says that this one is not
        (7.0, [10.1, 10.4, 9.9, 10.0], 0.1),
        (7.0, [10.123, 10.411, 9.998, 10.002], 0.001),
        (7.5, [10.0, 11.0, 10.0, 10.0, 9.5], 0.5),
    ],
)
def test_the_step_of_a_counter_is_taken_from_its_values(start, rises, unit):
    step, value = Resolution(0.001, seen=True), start
    step.saw(value, None)
    for rise in rises:
        step.saw(value + rise, value)
        value += rise
    assert step.unit_j == pytest.approx(unit)


def test_power_is_integrated_to_the_edges():
    power = PowerTrack()
    for k in range(50):
        power.add(k * 0.1, 100.0)
        power.add(k * 0.1, 999.0)  # the same stamp again is the same sample
    assert power.window(0.55, 3.55).joules == pytest.approx(300)
    assert power.window(-1, 2).joules is None
    assert power.window(2, 9).joules is None
    assert power.windows([(0.5, 1.0), (2.0, 2.5)]).joules == pytest.approx(100)


def test_a_sensor_that_lags_says_so_in_its_bound():
    power = PowerTrack(averaging_s=1.0)
    for k in range(60):
        power.add(k * 0.1, 100.0 if k < 30 else 400.0)
    assert power.window(3.0, 5.0).bound_j >= 300


def test_a_thinned_trace_keeps_its_area():
    times = [k * 0.01 for k in range(1000)]
    watts = [100.0 + (k % 10) for k in range(1000)]
    t, w = thinned(times, watts, 100)
    assert len(t) == len(w) == 100
    assert sum(w) / len(w) == pytest.approx(sum(watts) / len(watts))
    assert thinned(times, watts, 1000) == (times, watts)


def test_a_period_of_late_and_missed_ticks():
    """Ticks of 10 ms of which a busy host sees a third up to 4 ms late and misses some: the median gap is not the period."""
    draw = random.Random(3)
    times = [
        0.01 * k + (0.004 * draw.random() if draw.random() < 0.3 else 0.0) for k in range(200) if draw.random() < 0.8
    ]
    assert period(times) == pytest.approx(0.01, rel=0.01)
    assert period(times[:2]) is None
