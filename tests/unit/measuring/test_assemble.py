"""From launches to a record: what counts, what is missing and why."""

from __future__ import annotations

import pytest

from pytest_slmperf.energy.base import DeviceReading, EnergyReading
from pytest_slmperf.measuring.assemble import (
    assemble,
    energy_record,
    energy_values,
    relative_bound,
    samples_of,
    series,
    unlike_energy,
)
from pytest_slmperf.measuring.launch import Measured
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Launch, Round
from pytest_slmperf.model.verdict import Gate
from pytest_slmperf.scenarios.base import RoundOutcome
from pytest_slmperf.scenarios.offline import Offline

SPEC = EngineSpec("simulated", "opt-125m")
WORK = Offline(batch=2, input_len=8, output_len=8)
THROUGHPUT = Gate("output_throughput", "higher")
ENERGY = Gate("energy_per_output_token", "lower")


def outcome(seconds: float = 1.0, missing: dict[str, str] | None = None, preemptions: int = 0, **values: float):
    values = {"output_throughput": 16 / seconds} | values
    values = {name: value for name, value in values.items() if name not in (missing or {})}
    return RoundOutcome(0.0, seconds, 16, 2, values, missing or {}, preemptions)


def measured(*outcomes: RoundOutcome, index: int = 0, joules: float | None = None, **fields) -> Measured:
    rounds = [Round(t_start=one.t_start, t_end=one.t_end, values=dict(one.values), evidence={}) for one in outcomes]
    energy = None
    if joules is not None:
        device = DeviceReading("gpu", "u", "nvml-counter", "gpu", joules, 0.1 * joules, window_s=2.0)
        energy = EnergyReading((device,), 0.0, 2.0)
    known = {"energy_reason": None if energy else "no meter here"} | fields
    return Measured(Launch(index=index, session="today", rounds=rounds), list(outcomes), energy, **known)


def test_each_launch_keeps_its_own_rounds():
    values, missing = series([measured(outcome(1.0), outcome(2.0)), measured(outcome(4.0), index=1)])
    assert values["output_throughput"] == [[16.0, 8.0], [4.0]]
    assert missing["energy_per_output_token"] == "no meter here"


def test_a_metric_that_is_missing_in_one_round_is_missing():
    """A mean over the other rounds would be of other work."""
    lost = outcome(missing={"kv_cache_peak": "the engine does not tell"})
    values, missing = series([measured(outcome(kv_cache_peak=40.0), lost)])
    assert "kv_cache_peak" not in values
    assert missing["kv_cache_peak"] == "the engine does not tell"


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_no_number_is_missing_and_never_zero(odd):
    result = assemble("t", WORK, SPEC, [measured(outcome(), outcome(output_throughput=odd))], [THROUGHPUT])
    value = result.metrics["output_throughput"]
    assert value.value is None
    assert "which is no measurement" in value.reason


def test_counts_add_up_and_a_peak_is_the_highest():
    launches = [
        measured(outcome(preemptions=1, kv_cache_peak=40.0), outcome(preemptions=2, kv_cache_peak=55.0)),
        measured(outcome(preemptions=0, kv_cache_peak=50.0), index=1),
    ]
    result = assemble("t", WORK, SPEC, launches, [THROUGHPUT])
    assert result.preemptions == 3
    assert result.metrics["kv_cache_peak"].value == 55.0


def test_energy_is_one_value_for_a_launch():
    one = measured(outcome(), outcome(), joules=64.0)
    values, reason = energy_values(one)
    assert reason is None
    assert values["energy_per_output_token"] == pytest.approx(64.0 / 32)
    assert values["energy_per_request"] == pytest.approx(64.0 / 4)
    assert values["mean_power"] == pytest.approx(32.0)
    assert relative_bound(one) == pytest.approx(0.1)


def test_energy_that_lacks_its_work_is_missing_and_never_zero():
    idle = RoundOutcome(0.0, 1.0, 0, 0, {})  # no token, no request
    assert energy_values(measured(idle, joules=64.0)) == ({"mean_power": 32.0}, None)
    values, _ = energy_values(measured(outcome(), outcome(missing={"e2el_mean": "no stamps"}), joules=64.0))
    assert sorted(values) == ["energy_per_output_token", "energy_per_request", "mean_power"]


def test_without_joules_there_is_no_energy_but_a_reason():
    device = DeviceReading("gpu", "u", "nvml-counter", "gpu", None, None, window_s=2.0, reason="the counter fell")
    lost = Measured(Launch(index=0), [outcome()], EnergyReading((device,), 0.0, 2.0))
    assert energy_values(lost) == ({}, "the counter fell")


def test_gaps_between_rounds_are_not_charged_to_the_tokens():
    """Joules per token times throughput is the mean power, though the reading holds the gaps between the rounds."""
    one = measured(outcome(0.9), outcome(0.9), joules=64.0)  # read over 2 s
    values, _ = energy_values(one)
    assert values["energy_per_output_token"] * 16 / 0.9 == pytest.approx(values["mean_power"]) == pytest.approx(32.0)


def test_a_gated_metric_without_a_reading_says_why():
    result = assemble("t", WORK, SPEC, [measured(outcome())], [THROUGHPUT, ENERGY, Gate("ttft_p99", "lower")])
    assert result.metrics["energy_per_output_token"].reason == "no meter here"
    assert result.metrics["ttft_p99"].reason == "a scenario of kind offline does not measure it"


def test_samples_carry_pair_session_and_bound():
    launches = [measured(outcome(), index=3, joules=10.0), measured(index=4, joules=10.0)]
    samples = samples_of(launches, [THROUGHPUT, ENERGY], paired=True)
    (kept,) = samples["output_throughput"]  # the launch without a clean round is left out
    assert (kept.pair, kept.session, kept.bound, kept.rounds) == (3, "today", 0.0, (16.0,))
    assert samples["energy_per_output_token"][0].bound == pytest.approx(0.1)
    assert samples_of(launches, [THROUGHPUT], paired=False)["output_throughput"][0].pair is None


def on_devices(*names: str, own: bool = False) -> Measured:
    devices = tuple(DeviceReading(name, None, "nvml-counter", "gpu", 10.0, 0.1, 1.0) for name in names)
    return Measured(Launch(index=0), energy=EnergyReading(devices, 0.0, 1.0), energy_own=own)


def test_the_record_tells_what_its_joules_were_counted_on_even_without_their_sum():
    counted = energy_record([on_devices("H100 [0]", "H100 [1]", own=True)]).metered
    assert (counted.source, counted.scope, counted.devices, counted.own) == ("nvml-counter", "gpu", {"H100": 2}, True)
    unread = EnergyReading((), 0.0, 1.0, reason="no tick")
    cut = Measured(Launch(index=1), energy=unread)
    both = energy_record([on_devices("H100"), cut])
    assert both.joules is None
    assert both.metered.devices == {"H100": 1}
    assert energy_record([cut]).metered is None


def test_sides_of_a_duet_on_other_devices_are_not_compared_by_energy():
    metrics = {"output_throughput", "energy_per_output_token"}
    cpu, gpu = on_devices("H100 [0]", "H100 [1]"), on_devices("H100 [0]", own=True)
    unlike = unlike_energy([cpu], [gpu], metrics)
    assert set(unlike) == {"energy_per_output_token"}
    assert "2 × H100 → 1 × H100" in unlike["energy_per_output_token"]
    assert unlike_energy([cpu], [cpu], metrics) == {}
