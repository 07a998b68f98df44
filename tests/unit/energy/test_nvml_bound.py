"""Every reading lies within its stated bound, and no smaller bound would do: over random power, ticks and windows."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import fake_nvml

from pytest_slmperf.energy.calibration import GAPS_S
from pytest_slmperf.energy.counter import CounterTrack
from pytest_slmperf.energy.nvml import NvmlMeter

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
    meter.close()
    return reading, fake.joules(t_start, t_end), between


levels = st.floats(
    0.5, 2 * LIMIT_W - 1
)  # at rest a board still draws something: a counter that never ticks is its own test
traces = st.lists(st.tuples(st.floats(0.003, 0.6), levels), min_size=1, max_size=14)


@settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    trace=traces,
    tick=st.sampled_from([0.02, 0.1, 0.1, 0.25, 0.5]),
    share=st.floats(0, 1),
    jitter=st.sampled_from([0.0, 0.0, 0.05, 0.3]),
    begin=st.floats(LEAD_S, 1.1),
    length=st.floats(0.01, 1.3),
)
def test_true_energy_lies_within_the_bound(gpus, trace, tick, share, jitter, begin, length):
    fake = _shared(gpus)
    steps, t = [], 0.0
    for seconds, watts in trace:
        steps.append((t, watts))
        t += seconds
    words = {"limit": LIMIT_W, "jitter": jitter * tick}
    card = fake_nvml.FakeGpu(steps, tick=tick, phase=share * tick, words=words)
    reading, true, between = measure(fake, card, begin, length, gap_s=0.004)
    assert reading.joules is not None, reading.reason
    assert abs(reading.joules - true) <= reading.bound_j + 1e-6
    if between is not None:
        ((a, b),) = between.devices[0].detail["edges"]
        assert begin - 1e-6 <= a - fake.zero < b - fake.zero <= begin + length + 1e-6
        assert abs(between.joules - fake.joules(a, b)) <= between.bound_j + 1e-6


_made: list[fake_nvml.FakeNvml] = []


def _shared(gpus) -> fake_nvml.FakeNvml:
    """One fake for all examples of a test: hypothesis runs them inside one call of the fixture."""
    if not _made:
        _made.append(gpus())
    return _made[-1]


def worst_placement(
    track: CounterTrack, t_start: float, t_end: float, tick: float, high: bool
) -> list[tuple[float, float]]:
    """Power with the same ticks whose energy lies, in the two ticks cut by the edges, all inside (or outside) the window."""
    epoch = track.current
    steps: list[tuple[float, float]] = []
    for k in range(1, len(epoch.value) - 1):
        a, b = epoch.tick_at(k), epoch.tick_at(k + 1)
        rise = epoch.value[k + 1] - epoch.value[k]
        edge = next((t for t in (t_start, t_end) if a < t < b), None)
        if edge is None:
            steps.append((a, rise / (b - a)))
            continue
        late = (edge == t_start) == high  # energy after the start, or before the end, is inside
        burst = max(rise / (2 * LIMIT_W - 1), (b - edge if late else edge - a) * 0.02)
        burst = min(burst, b - a)
        if late:
            begin = min(edge + 1e-4, b - burst)
            steps += [(a, 0.0), (begin, rise / burst), (begin + burst, 0.0)]
        else:
            end = max(edge - 1e-4, a + burst)
            steps += [(a, 0.0), (end - burst, rise / burst), (end, 0.0)]
    return steps


def test_no_smaller_bound_would_do(gpus):
    """For a steady load, other power that shows the very same ticks is off by (nearly) the bound: at least by half of it."""
    fake = gpus()
    bounds, errors = [], []
    for number in range(24):
        tick, length = 0.1, 0.31 + 0.117 * number
        watts = 200 + 20 * number
        worst = 0.0
        for phase in range(6):
            card = fake_nvml.FakeGpu(
                [(0.0, watts)], tick=tick, phase=tick * phase / 6 + 0.003, words={"limit": LIMIT_W}
            )
            fake.gpus, fake.zero_ns = [card], round(fake.now() * 1e9)
            fake.write()
            watch = NvmlMeter(fake.clock, visible=None, threaded=False, calibrated=False).watch()
            t_start = fake.zero + 1.0
            t_end = t_start + length
            watch.run_until(t_end + 0.3)
            reading = watch.reading(t_start, t_end)
            assert abs(reading.joules - watts * length) <= reading.bound_j
            bounds.append(reading.bound_j)
            track = watch._probes[0].track
            for high in (False, True):
                steps = worst_placement(track, t_start, t_end, tick, high)
                other = fake_nvml.FakeGpu(steps).joules(t_start, t_end)
                assert abs(reading.joules - other) <= reading.bound_j + 0.5
                worst = max(worst, abs(reading.joules - other))
        errors.append(worst)
    assert statistics.median(bounds) <= 2 * statistics.median(errors)


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
