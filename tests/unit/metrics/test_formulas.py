"""The text and the code of each metric's formula, held against each other and against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

import pytest_slmperf.metrics
from pytest_slmperf.engines.base import RequestTiming, RoundReading
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.token_counter import Tally
from pytest_slmperf.metrics import REGISTRY, Metric, known, metric, register, registry
from pytest_slmperf.metrics.base import STATISTICS, Formula, RequestLatency
from pytest_slmperf.scenarios.base import outcome

# What the text of a formula calls an input of its code, where it does not name it as the code does.
WORDS = {
    "window_s": "measured window",
    "completed": "completed requests",
    "good": "requests that meet every SLO",
    "due": "requests due",
    "running_s": "sum of their seconds",
    "joules": "gross joules",
    "rounds_s": "their seconds",
    "e2el_mean_ms": "mean end-to-end seconds",
    "energy_per_request": "gross joules of the rounds (mean_power × their seconds) per request",
    "ordered": "percentile of|mean of",
    "t_begin": "t_due|t_sent",
    "t_spawn": "process spawn",
    "t_served": "first request served",
    "frontier": "frontier of output throughput against 1 ÷ mean latency per token",
    "reference": "reference point",
    "throughputs": "output throughput",
    "keys": "key of a sweep",
    "knee_key": "knee",
}
# "energy_per_output_token" divides by output tokens; the throughputs sum n_out themselves.
OWN_WORDS = {("energy_per_output_token", "n_out"): "output tokens"}

# Inputs by hand → value by hand.
BY_HAND: list[tuple[Metric, tuple, float]] = [
    (registry.output_throughput, (16, 2.0), 8.0),
    (registry.total_token_throughput, (24, 16, 2.0), 20.0),
    (registry.request_throughput, (3, 2.0), 1.5),
    (registry.goodput, (2, 4.0), 0.5),
    (registry.slo_attainment, (3, 4), 0.75),
    (registry.mean_running_requests, (6.0, 4.0), 1.5),
    (registry.mean_power, (300.0, 3.0), 100.0),
    (registry.energy_per_output_token, (100.0, 3.0, 1000), 0.3),
    (registry.energy_per_request, (100.0, 3.0, 10), 30.0),
    (registry.energy_delay_product, (30.0, 500.0), 15.0),
    (registry.engine_start_time, (100.0, 117.0), 17.0),
    # two steps: 2 × 30 below the first point, (5 − 2) × 10 beyond it
    (registry.hypervolume, ([(30.0, 2.0), (10.0, 5.0)], (0.0, 0.0)), 90.0),
    (registry.peak_output_throughput, ([10.0, 40.0, 30.0],), 40.0),
    (registry.knee_key, ([1, 8, 32, 64], [10.0, 95.0, 100.0, 99.0]), 8),
    (registry.knee_kv_share, ({8: 40.0, 32: 90.0}, 8), 40.0),
    (registry.fairness, ([3.0, 1.0],), 0.8),
]
ORDERED = [float(value) for value in range(101)]
STATISTICS_BY_HAND = {"mean": 50.0, "p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
LATENCIES_BY_HAND: list[Any] = [
    (registry.ttft, (7.0, 4.0), 3.0),
    (registry.tpot, (9.0, 3.0, 4), 2.0),
    (registry.e2el, (9.0, 4.0), 5.0),
]
READ_FROM_THE_ENGINE = {"kv_cache_peak", "preemptions"}


def formulas() -> list[Formula]:
    return [each for each in REGISTRY.values() if isinstance(each, Formula)]


def name_of(each) -> str:
    return each.name if isinstance(each, Formula) else each.base


@pytest.mark.parametrize("each", [*formulas(), registry.ttft, registry.tpot, registry.e2el], ids=name_of)
def test_the_text_names_every_input_of_the_code(each):
    name = name_of(each)
    for taken in each.inputs:
        words = OWN_WORDS.get((name, taken), WORDS.get(taken, taken))
        assert any(word in each.formula for word in words.split("|")), f"{name}: {each.formula!r} does not name {taken}"


@pytest.mark.parametrize(("each", "taken", "value"), BY_HAND, ids=[each.name for each, *_ in BY_HAND])
def test_the_code_gives_what_the_text_says(each, taken, value):
    assert each(*taken) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "taken", "value"), LATENCIES_BY_HAND, ids=[kind.base for kind, *_ in LATENCIES_BY_HAND]
)
def test_the_latency_of_one_request(kind, taken, value):
    assert kind(*taken) == value


@pytest.mark.parametrize("kind", registry.LATENCIES.values(), ids=registry.LATENCIES)
def test_statistics_of_a_latency(kind):
    assert kind.statistics(ORDERED) == {
        f"{kind.base}_{statistic}": pytest.approx(value) for statistic, value in STATISTICS_BY_HAND.items()
    }
    for statistic in STATISTICS:
        words = "mean of" if statistic == "mean" else f"{statistic[1:]}th percentile of"
        assert REGISTRY[f"{kind.base}_{statistic}"].formula == f"{words} {kind.formula}"


def test_a_chunk_of_k_tokens_gives_k_gaps_of_gap_divided_by_k():
    tally = Tally(0, 10**9, 1)
    tally.add([0, 3_000_000], [1, 3], True)
    assert sum(times for _, times in tally.gaps) == 3
    assert [gap for gap, _ in tally.gaps] == pytest.approx([1e6], rel=1e-3)


def test_every_metric_is_computed_by_hand_above_or_read_from_the_engine():
    by_hand = {each.name for each, *_ in BY_HAND} | {
        name for kind in registry.LATENCIES.values() for name in kind.names
    }
    assert by_hand | READ_FROM_THE_ENGINE == set(REGISTRY)
    assert {name for name, each in REGISTRY.items() if not isinstance(each, Formula)} == READ_FROM_THE_ENGINE
    assert all(isinstance(kind, RequestLatency) or kind is registry.itl for kind in registry.LATENCIES.values())


def test_every_metric_defined_is_registered():
    defined = [value for value in vars(registry).values() if isinstance(value, Metric)]
    assert defined
    assert all(REGISTRY.get(each.name) is each for each in defined)


def test_a_round_worked_out_by_hand():
    requests = (
        RequestTiming(n_in=4, n_out=3, t_sent=10.0, t_first=10.5, t_last=11.5),
        RequestTiming(n_in=6, n_out=1, t_sent=10.0, t_first=11.0, t_last=11.0),
    )
    found = outcome(
        RoundReading(10.0, 12.0, n_in=10, n_out=4, completed=2, requests=requests, itl_s=(0.25, 0.75), preemptions=1)
    )
    assert {name: found.values[name] for name in ("output_throughput", "total_token_throughput")} == {
        "output_throughput": 2.0,
        "total_token_throughput": 7.0,
    }
    assert found.values["request_throughput"] == 1.0
    assert found.values["ttft_mean"] == pytest.approx(750.0)
    assert found.values["tpot_p99"] == pytest.approx(500.0)  # the request of one token has none
    assert found.values["itl_mean"] == pytest.approx(500.0)
    assert found.values["e2el_p50"] == pytest.approx(1250.0)
    assert found.values["preemptions"] == 1.0
    assert found.missing["kv_cache_peak"] == "the engine gave no statistics"


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(InvalidInput, match="did you mean output_throughput"):
        metric("output_troughput")
    assert known("output_troughput") is None
    assert known("output_throughput@") is None


def test_a_metric_at_a_point_is_the_metric():
    at = metric("ttft_p99@64")
    assert (at.unit, at.better, at.label) == ("ms", "lower", "TTFT p99 at 64")
    assert at.formula.endswith("; at 64")


def test_another_package_registers_a_metric(monkeypatch):
    monkeypatch.setattr("pytest_slmperf.metrics.registry.REGISTRY", dict(REGISTRY))
    mine = Metric("words_per_second", "1/s", "higher", "words ÷ seconds")
    assert register(mine) is mine
    assert register(Metric("words_per_second", "1/s", "higher", "words ÷ seconds")) is mine
    assert metric("words_per_second").label == "words per second"
    with pytest.raises(InvalidInput, match="another meaning"):
        register(Metric("words_per_second", "1/s", "lower", "words ÷ seconds"))


def test_the_package_gives_what_its_users_import():
    assert {"REGISTRY", "Metric", "metric", "register", "known"} <= set(pytest_slmperf.metrics.__all__)


def test_a_metric_without_direction_cannot_gate():
    with pytest.raises(ValueError, match="no direction"):
        Metric("x", "1", "none", "nothing", gate=True)
