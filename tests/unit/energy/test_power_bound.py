"""Power sensors whose true energy is known: whatever the load does, the integral lies within its bound."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from itertools import accumulate, pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_slmperf.energy.counter.power_samples import LATE, SLOWEST_S, PowerTrack

LOOK_S = 0.02


class Load:
    """Power in steps (s from the start on, W); its energy at any moment."""

    def __init__(self, steps: list[tuple[float, float]]) -> None:
        self.t, self.w = [t for t, _ in steps], [w for _, w in steps]
        parts = [w * (b - a) for (a, b), w in zip(pairwise(self.t), self.w, strict=False)]
        self.e = [0.0, *accumulate(parts)]

    def energy(self, t: float) -> float:
        k = max(0, bisect_right(self.t, t) - 1)
        return self.e[k] + self.w[k] * (t - self.t[k])


def sensed(load: Load, until: float, averaging: float, update: float, draw: random.Random, stamped: bool) -> PowerTrack:
    """The track of a sensor that averages so long and updates so often, looked at about every 20 ms."""
    power, t = PowerTrack(1.0 if averaging == 1.0 else 0.0), 0.0
    phase = draw.random() * update
    while t < until:
        at = math.floor((t - phase) / update) * update + phase
        watts = (load.energy(at) - load.energy(at - averaging)) / averaging
        power.add(at if stamped else t, round(watts, 3))
        t += LOOK_S + (draw.random() * 0.03 if draw.random() < 0.1 else draw.random() * 0.001)
    return power


def repeated(period: float, share: float, low: float, high: float) -> Load:
    count = int(12 / period) + 2
    return Load([(-3 + period * (k + part), w) for k in range(count) for part, w in ((0, high), (share, low))])


def random_load(draw: random.Random) -> Load:
    steps, t = [], -3.0
    while t < 9:
        steps.append((t, draw.choice([60.0, draw.uniform(0, 700)])))
        t += draw.choice([draw.uniform(0.01, 0.1), draw.uniform(0.1, 1.5)])
    return Load(steps)


def check(
    load: Load, averaging: float, update: float, seed: int, windows: int = 8, stamped: bool = False
) -> list[float]:
    """Bounds of random windows, each of which holds."""
    draw = random.Random(seed)
    power = sensed(load, 6.5, averaging, update, draw, stamped)
    bounds = []
    for _ in range(windows):
        begin = draw.uniform(1.0, 3.0)
        end = begin + draw.uniform(0.05, 2.4)
        found = power.window(begin, end)
        true = load.energy(end) - load.energy(begin)
        assert found.joules is not None, found.reason
        assert abs(found.joules - true) <= found.bound_j + 1e-6, (begin, end, found, true)
        bounds.append(found.bound_j)
    return bounds


many = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


@many
@given(
    period=st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 0.3, 0.7, 2.3]),
    share=st.sampled_from([0.1, 0.3, 0.5, 0.8]),
    update=st.sampled_from([0.02, 0.1, 0.1, 0.5]),
    seed=st.integers(0, 2**32 - 1),
    stamped=st.booleans(),
)
def test_a_load_that_repeats_itself_in_the_averaging_window_is_within_the_bound(period, share, update, seed, stamped):
    """The sensor shows such a load as steady: the range of its samples is 0 and says nothing of its edges."""
    check(repeated(period, share, 60, 400), 1.0, update, seed, stamped=stamped)


@many
@given(update=st.sampled_from([0.02, 0.1, 0.1, 0.3, 0.5]), seed=st.integers(0, 2**32 - 1), stamped=st.booleans())
def test_any_load_on_an_averaging_sensor_is_within_the_bound(update, seed, stamped):
    check(random_load(random.Random(seed)), 1.0, update, seed, stamped=stamped)


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_of_an_averaging_sensor_is_what_it_hides_at_the_edges_and_no_more(seed):
    """A square wave of the averaging window's length: half the mean power × (averaging + update) at each edge. Its updates
    show nothing, so they are taken to be those of the slowest sensor."""
    bounds = check(repeated(1.0, 0.5, 60, 400), 1.0, 0.1, seed)
    assert 200 <= max(bounds) <= 1.1 * 230 * (1.0 + SLOWEST_S * LATE)


@pytest.mark.parametrize(("averaging", "update"), [(0.1, 0.1), (0.02, 0.02), (0.5, 0.5)])
@pytest.mark.parametrize("period", [0.5, 0.7, 2.3])
@pytest.mark.parametrize("seed", range(5))
def test_a_sensor_that_looks_all_the_time_is_within_the_bound(averaging, update, period, seed):
    check(repeated(period, 0.5, 60, 400), averaging, update, seed)


def test_a_value_that_never_moves_is_bounded_no_wider_than_a_load_that_looks_like_it_is_off():
    """Steady 100 W on a sensor of 20 ms, and bursts in step with one of 0.5 s: the very same samples, other joules.

    While the value stands still nothing tells the two sensors apart, so the bound must hold for the slower one.
    """
    bursts = repeated(SLOWEST_S, 0.1, 0, 1000)
    quick, slow = PowerTrack(), PowerTrack()
    for k in range(round(6.5 / LOOK_S)):
        t = k * LOOK_S
        at = math.floor(t / SLOWEST_S) * SLOWEST_S
        quick.add(t, 100.0)
        slow.add(t, round((bursts.energy(at) - bursts.energy(at - SLOWEST_S)) / SLOWEST_S, 3))
    assert (list(slow.t), list(slow.w)) == (list(quick.t), list(quick.w))
    worst = 0.0
    for begin, end in ((1.0 + k / 40, 4.0 + m / 40) for k in range(20) for m in range(20)):
        found = slow.window(begin, end)
        error = abs(found.joules - (bursts.energy(end) - bursts.energy(begin)))
        assert error <= found.bound_j
        worst = max(worst, error / found.bound_j)
    assert worst > 0.85


def steady_until(end: float, watts: float = 100.0, ceiling_w: float | None = None) -> PowerTrack:
    power, draw = PowerTrack(ceiling_w=ceiling_w), random.Random(1)
    for k in range(round(end / LOOK_S) + 1):
        power.add(k * LOOK_S, watts + (draw.random() if k % 25 == 0 else power.w[-1] - watts))
    return power


def test_a_sensor_that_updates_seldom_is_waited_for():
    """Updates every 0.5 s: a sample that was read after the window's end may still show what was before it."""
    assert steady_until(5.98).update_s() == pytest.approx(0.5)
    power = steady_until(5.2)
    assert not power.updated_after(5.1)
    assert power.updated_after(4.9)  # at 5.0


def test_what_a_sensor_has_not_shown_yet_may_be_anything_up_to_the_ceiling():
    assert steady_until(5.2).window(3.1, 5.1).reason.startswith("the power sensor did not update after the window")
    found = steady_until(5.2, ceiling_w=1400.0).window(3.1, 5.1)
    assert found.bound_j >= 0.5 * 1300
    assert steady_until(6.5).window(3.1, 5.1).bound_j < 100


def test_one_change_before_the_windows_end_is_no_update_after_it():
    power = PowerTrack()
    for k in range(100):
        power.add(k * LOOK_S, 100.0 + k // 5)
    at = 1.79  # between the looks at 1.78 and 1.80, of which the latter shows a new value
    assert power.w[90] != power.w[89]
    later = PowerTrack()
    for k in range(92):
        later.add(power.t[k], power.w[k])
    assert not later.updated_after(at)
    assert power.updated_after(at)
