"""Every reading lies within its stated bound, and no smaller bound would do: over random power, ticks and windows."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import fake_nvml

from pytest_slmperf.energy.counter.calibration import GAPS_S
from pytest_slmperf.energy.meters.nvml import NvmlMeter

LIMIT_W = 700.0
LEAD_S = 0.75  # the meter waits so long for a first tick, where no power is drawn


def measure(fake: fake_nvml.FakeNvml, card: fake_nvml.FakeGpu, begin: float, length: float, gap_s: float = 0.001):
    """One reading of a card from ``begin`` (s after zero), and the truth."""
    fake.gpus = [card]
    fake.zero_ns = round(fake.now() * 1e9)
    fake.write()
    meter = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False)
    meter.gap_s = gap_s
    watch = meter.watch()
    t_start = fake.zero + begin
    t_end = t_start + length
    watch.run_until(t_end + 1e-9)
    reading = watch.reading(t_start, t_end)
    between = watch.matched([(t_start, t_end)], covered=0.0)
    around = watch.around(t_start, t_end)
    if around is not None:
        ((a, b),) = around.devices[0].detail["edges"]
        assert a <= t_start < t_end <= b
        assert abs(around.joules - fake.joules(a, b)) <= around.bound_j + 1e-6
    meter.close()
    return reading, fake.joules(t_start, t_end), between


levels = st.floats(
    0.5, 2 * LIMIT_W - 1
)  # at rest a board still draws something: a counter that never ticks is its own test
traces = st.lists(st.tuples(st.floats(0.003, 0.6), levels), min_size=1, max_size=14)


def extremes(card: fake_nvml.FakeGpu, begin: float, end: float) -> tuple[float, float]:
    """Least and most joules between two moments of any power that shows this card's very ticks and keeps its limit.

    Whatever lies between two ticks may have flowed at any time between them, but no faster than twice the limit.
    """
    ceiling = 2 * LIMIT_W

    def after(t: float) -> tuple[float, float]:
        """Least and most of the energy of the tick around t that can come after t."""
        a, b = card.ticks_around(t)
        rise = card.joules(a, b)
        return max(0.0, rise - ceiling * (t - a)), min(rise, ceiling * (b - t))

    (a, b), (a2, b2) = card.ticks_around(begin), card.ticks_around(end)
    if a == a2:
        rise, inside = card.joules(a, b), end - begin
        return max(0.0, rise - ceiling * (b - a - inside)), min(rise, ceiling * inside)
    (least, most), (late_least, late_most), rise = after(begin), after(end), card.joules(a2, b2)
    between = card.joules(b, a2)
    return least + between + rise - late_most, most + between + rise - late_least


def test_true_energy_lies_within_a_bound_that_could_not_be_smaller(gpus, cases):
    """Random traces, ticks and windows: no reading is further off than its bound, and in the median other power that
    shows the very same ticks is off by more than half of it. No meter that reads ticks can state less than that."""
    fake, count = gpus(), cases(200, 1000)
    found: list[tuple[float, float]] = []  # bound, and the error of the worst power with the same ticks

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        trace=traces,
        tick=st.sampled_from([0.02, 0.1, 0.1, 0.25, 0.5]),
        share=st.floats(0, 1),
        jitter=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
        begin=st.floats(LEAD_S, 1.1),
        length=st.floats(0.01, 1.3),
    )
    def check(trace, tick, share, jitter, begin, length):
        steps, t = [], 0.0
        for seconds, watts in trace:
            steps.append((t, watts))
            t += seconds
        words = {"limit": LIMIT_W, "jitter": jitter * tick}
        card = fake_nvml.FakeGpu(steps, tick=tick, phase=share * tick, words=words)
        reading, true, between = measure(fake, card, begin, length, gap_s=0.004)
        assert reading.joules is not None, reading.reason
        assert abs(reading.joules - true) <= reading.bound_j + 1e-6
        low, high = extremes(card, begin, begin + length)
        assert low - 1e-6 <= true <= high + 1e-6
        found.append((reading.bound_j, max(high - reading.joules, reading.joules - low)))
        if between is not None:
            ((a, b),) = between.devices[0].detail["edges"]
            assert begin - 1e-6 <= a - fake.zero < b - fake.zero <= begin + length + 1e-6
            assert abs(between.joules - fake.joules(a, b)) <= between.bound_j + 1e-6

    check()
    assert len(found) >= count
    assert all(worst <= bound + 1e-6 for bound, worst in found)
    assert statistics.median(bound for bound, _ in found) <= 2 * statistics.median(worst for _, worst in found)


def test_other_power_with_the_same_ticks_reads_the_same_and_is_off_by_the_bound(gpus):
    """The worst case is not only computed: power all inside the window in the ticks that its edges cut gives the very
    reading of a steady load, and its energy is higher by nearly the bound."""
    fake = gpus()
    steady = fake_nvml.FakeGpu([(0.0, 300.0)], phase=0.043)
    begin, length = 1.0, 0.5  # both edges 57 ms into a tick
    reading, _, _ = measure(fake, steady, begin, length)
    burst = 0.1 * 300 / 1000  # a tick's energy at 1 kW
    steps = [(0.0, 300.0), (0.943, 0.0), (1.001, 1000.0), (1.001 + burst, 0.0), (1.043, 300.0)]
    steps += [(1.443, 0.0), (1.469, 1000.0), (1.469 + burst, 0.0), (1.543, 300.0)]
    again, true, _ = measure(fake, fake_nvml.FakeGpu(steps, phase=0.043), begin, length)
    assert again.joules == pytest.approx(reading.joules, abs=1.0)
    assert true == pytest.approx(extremes(steady, begin, begin + length)[1], abs=1.0)
    assert again.bound_j / 2 <= abs(true - again.joules) <= again.bound_j


@pytest.mark.parametrize("tick", [0.02, 0.1, 0.25])
def test_steady_power_reads_its_joules(gpus, tick):
    """A constant 100 W over 3 s is 300 J: not 200 and not 100, as when samples at the edges are dropped."""
    fake = gpus()
    reading, true, _ = measure(fake, fake_nvml.FakeGpu(tick=tick, phase=0.3 * tick), 1.0, 3.0)
    assert true == pytest.approx(300)
    assert abs(reading.joules - 300) <= reading.bound_j <= 100 * 2 * tick + 1
    assert reading.joules == pytest.approx(300, rel=0.002)


@pytest.mark.parametrize(("tick", "begin"), [(0.1, 1.0), (0.1, 1.037), (0.1, 1.08), (0.02, 1.013)])
def test_a_window_matched_to_ticks_is_as_sharp_as_the_polls_are_close(gpus, tick, begin):
    """A second at 100 W and a tick of 100 ms: error and bound of the matched window at most 1 %, where the bound of the
    second itself is tick ÷ window."""
    fake = gpus()
    reading, _, between = measure(fake, fake_nvml.FakeGpu(tick=tick, phase=0.04), begin, 1.0, gap_s=GAPS_S[0])
    assert between.window_s > 0.79
    assert abs(between.joules - 100 * between.window_s) <= between.bound_j <= 0.01 * between.joules
    assert tick == 0.02 or reading.bound_j > 4 * between.bound_j


@pytest.mark.parametrize("number", range(20))
def test_a_window_that_begins_at_a_tick_has_half_the_bound(gpus, number):
    """As ``slmperf energy`` measures: the meter chooses the start, the command the end; random power, tick and length."""
    draw = random.Random(number)
    tick = draw.choice([0.02, 0.1, 0.25])
    steps = [(0.15 * k, draw.uniform(50, 600)) for k in range(30)]
    fake = gpus(fake_nvml.FakeGpu(steps, tick=tick, phase=tick * draw.random(), words={"limit": LIMIT_W}))
    watch = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False).watch()
    begin = watch.next_tick()
    end = begin + draw.uniform(0.5, 2.0)
    watch.run_until(end)
    reading, around = watch.reading(begin, end), watch.around(begin, end)
    assert abs(reading.joules - fake.joules(begin, end)) <= reading.bound_j
    assert (
        reading.bound_j <= 600 * tick + 2 * LIMIT_W * 0.002
    )  # what is drawn in one tick; an unaligned start adds as much
    ((a, b),) = around.devices[0].detail["edges"]
    assert a <= begin < end <= b <= end + tick + 0.002
    assert abs(around.joules - fake.joules(a, b)) <= around.bound_j <= 2 * 2 * LIMIT_W * 0.0015


def test_a_counter_in_coarse_steps_is_within_the_bound(gpus):
    """Whole joules, though the driver gives millijoules: a sharply matched window is off by up to one at either edge."""
    fake = gpus()
    outside = 0
    for number in range(12):
        card = fake_nvml.FakeGpu([(0.0, 103.7)], phase=0.007 * number, words={"unit": 1.0, "limit": LIMIT_W})
        reading, true, between = measure(fake, card, 1.0 + 0.13 * number, 0.9 + 0.05 * number, gap_s=GAPS_S[0])
        assert abs(reading.joules - true) <= reading.bound_j
        ((a, b),) = between.devices[0].detail["edges"]
        outside += abs(between.joules - fake.joules(a, b)) > between.bound_j - 1.0
        assert abs(between.joules - fake.joules(a, b)) <= between.bound_j
    assert outside  # the millijoule's bound would not have held


def test_the_ticks_around_a_window_are_read_without_a_power_limit_too(gpus):
    hidden = [
        f"fail nvmlDeviceGet{name} 3 after 0" for name in ("EnforcedPowerLimit", "PowerManagementLimitConstraints")
    ]
    fake = gpus(fake_nvml.FakeGpu(phase=0.04, lines=hidden))
    watch = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False).watch()
    begin = watch.next_tick()
    watch.run_until(begin + 0.73)
    watch.reading(begin, begin + 0.73)
    around = watch.around(begin, begin + 0.73)
    ((a, b),) = around.devices[0].detail["edges"]
    assert around.devices[0].reason is None
    assert abs(around.joules - fake.joules(a, b)) <= around.bound_j


def test_a_tick_is_not_waited_for_for_ever(gpus):
    fake = gpus(fake_nvml.FakeGpu([(0.0, 0.0)]))
    watch = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False).watch()
    begun = fake.now()
    assert watch.next_tick(0.3) == pytest.approx(begun + 0.3, abs=0.01)
    assert watch.around(begun, fake.now()) is None


def test_a_matched_window_that_leaves_out_too_much_is_none(gpus):
    fake = gpus()
    card = fake_nvml.FakeGpu(phase=0.04)
    fake.gpus, fake.zero_ns = [card], round(fake.now() * 1e9)
    fake.write()
    watch = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False).watch()
    begin = fake.zero + 1.0
    watch.run_until(begin + 1.0)
    assert watch.matched([(begin, begin + 0.3)]) is None
    assert watch.matched([(begin, begin + 1.0)]) is not None


def test_a_counter_that_never_ticks_is_no_reading(gpus):
    fake = gpus()
    reading, _, _ = measure(fake, fake_nvml.FakeGpu([(0.0, 0.0)]), 1.0, 1.0)
    assert reading.joules is None
    assert "did not tick" in reading.reason
