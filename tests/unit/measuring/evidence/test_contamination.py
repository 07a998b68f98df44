"""Which rounds are discarded, by the evidence alone."""

from __future__ import annotations

import pytest

from pytest_slmperf.measuring.evidence_checks import DUET_LIMITS, Limits, contaminated, judge_rounds, may_measure_again

CLEAN = {
    "window_s": 1.3,
    "nivcsw": 60,
    "cpu_wait_share": 0.006,
    "steal_share": 0.0,
    "psi_cpu_some": 0.02,
    "others_cpus": 0.3,
    "cpus": 2,
    "preemptions": 0,
}


def test_clean_and_unknown_accuse_nobody():
    assert contaminated(CLEAN) is None
    assert contaminated({}) is None
    assert contaminated({"window_s": 0, "nivcsw": 5, "steal_share": None, "gpus": None}) is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cpu_wait_share", 0.5, "waited for a CPU in 50 %"),
        ("nivcsw", 40_000, "involuntary context switches"),
        ("steal_share", 0.1, "hypervisor took 10 %"),
        ("others_cpus", 1.7, "other processes kept 85 %"),
        ("preemptions", 3, "3 requests were preempted"),
    ],
)
def test_each_evidence_contaminates_and_can_be_switched_off(key, value, said):
    evidence = CLEAN | {key: value}
    assert said in contaminated(evidence)
    off = {"nivcsw": "nivcsw_per_s", "others_cpus": "others_share"}.get(key, key)
    assert contaminated(evidence, Limits(**{off: None})) is None


def test_pressure_on_the_whole_machine_counts_only_where_the_engines_own_waiting_is_unknown():
    """Neighbours that fight for the other core do no harm to an engine whose threads never waited."""
    pressed = CLEAN | {"psi_cpu_some": 0.6}
    assert contaminated(pressed) is None
    unknown = {key: value for key, value in pressed.items() if key != "cpu_wait_share"}
    assert "60 % of the round (PSI)" in contaminated(unknown)
    assert contaminated(unknown, Limits(psi_cpu_some=None)) is None


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({"other_gpu_processes": [41]}, "1 other process on the GPU"),
        ({"throttle_reasons": {"hw_thermal": 300_000_000}}, "throttled"),
        ({"sm_clock_mhz_min": 1200, "sm_clock_mhz_max": 1980}, "SM clock 1200 MHz, usually 1980"),
    ],
)
def test_devices(device, said):
    clean = {"sm_clock_mhz_min": 1980, "sm_clock_mhz_max": 1980, "other_gpu_processes": [], "throttle_reasons": {}}
    rounds = [CLEAN | {"gpus": {"GPU 0": clean}}] * 4 + [CLEAN | {"gpus": {"GPU 0": clean | device}}]
    reasons = judge_rounds(rounds)
    assert reasons[:4] == [None] * 4
    assert said in reasons[4]
    assert reasons[4].startswith("GPU 0")


def test_power_cap_is_the_nature_of_a_saturated_gpu():
    evidence = CLEAN | {"gpus": {"GPU 0": {"throttle_reasons": {"sw_power_cap": 1_300_000_000}}}}
    assert contaminated(evidence) is None
    assert "power cap" in contaminated(evidence, Limits(power_cap_share=0.5))


def test_preemptions_in_most_rounds_belong_to_the_scenario():
    preempting = CLEAN | {"preemptions": 5}
    assert judge_rounds([preempting] * 3 + [CLEAN]) == [None] * 4
    assert [bool(reason) for reason in judge_rounds([CLEAN] * 3 + [preempting])] == [False, False, False, True]


def test_measuring_again_is_bounded():
    assert may_measure_again(10, 10)
    assert not may_measure_again(11, 10)


def test_a_duet_bears_a_neighbour_that_a_comparison_with_another_day_does_not():
    busy = CLEAN | {"cpu_wait_share": 0.05, "psi_cpu_some": 0.6, "others_cpus": 1.5}
    assert contaminated(busy)
    assert contaminated(busy, DUET_LIMITS) is None
    assert "waited for a CPU" in contaminated(busy | {"cpu_wait_share": 0.3}, DUET_LIMITS)


def test_waiting_that_is_always_there_is_no_disturbance_and_what_comes_and_goes_is() -> None:
    rounds = [CLEAN | {"cpu_wait_share": share} for share in (0.05, 0.06, 0.055, 0.095, 0.05)]
    assert [reason is not None for reason in judge_rounds(rounds)] == [False, False, False, True, False]
    assert "usually in 5.5 %" in judge_rounds(rounds)[3]
