"""Which numbers of replicas may fail without failing the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_slmperf.devices.selection import TooFewSlices
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, NotMeasured, OutOfMemory
from pytest_slmperf.measuring.studies.replication import measure_replication
from pytest_slmperf.scenarios.replication import Replication

SCENARIO = Replication.of(1, {"batch": 8, "input_len": 8, "output_len": 8, "total_kv_cache_tokens": 1000})


def result_of(scenario, label, facts=None):
    metrics = {"output_throughput": SimpleNamespace(value=100.0 * scenario.replicas)}
    return SimpleNamespace(
        metrics=metrics, preemptions=0, scenario=scenario.parameters(), label=label,
        engine=SimpleNamespace(facts=facts or {}),
    )  # fmt: skip


def measured(k, failing=None, at=2, facts=None, **more):
    """Replication whose replicas fail with ``failing`` from ``at`` of them on."""

    def measure(scenario, label):
        if failing is not None and scenario.replicas >= at:
            raise failing
        return result_of(scenario, label, facts)

    given: dict[str, Any] = {
        "least_gain": 0.02,
        "fair": False,
        "chunked_prefill_setting": None,
        "kv_budget": lambda one: None,
    } | more
    return measure_replication(SCENARIO, k, measure, **given)


@pytest.mark.parametrize("k", [[1, 2], "auto"])
def test_no_memory_for_so_many_is_an_answer(k):
    found = measured(k, OutOfMemory("out of memory"))
    assert found.useful.replicas == 1
    assert found.notes == ["2 replicas cannot run: out of memory"]


@pytest.mark.parametrize("k", [[1, 2], "auto"])
@pytest.mark.parametrize("error", [EngineMissing("no nvidia-cuda-mps-control"), EngineError("died"), InvalidInput("?")])
def test_replication_that_does_not_work_here_is_an_error(k, error):
    with pytest.raises(type(error)) as caught:
        measured(k, error)
    assert caught.value is error


@pytest.mark.parametrize("error", [EngineError("died"), TooFewSlices("2 slices")])
def test_auto_ends_where_more_do_not_run_and_a_list_fails(error):
    assert measured("auto", error, at=4).useful.replicas == 2
    with pytest.raises(type(error)):
        measured([1, 2, 4], error, at=4)


def test_auto_does_not_go_on_without_its_daemon():
    with pytest.raises(EngineMissing):
        measured("auto", EngineMissing("MPS died"), at=4)


@pytest.mark.parametrize(
    ("facts", "name", "setting"),
    [
        ({"chunked_prefill": True}, "no chunked prefill", False),
        ({"arguments": {"enable_chunked_prefill": True}}, "no chunked prefill", False),
        ({"chunked_prefill": False}, "chunked prefill", True),
        ({}, "chunked prefill", True),
    ],
)
def test_the_other_baseline_prefills_unlike_the_first(facts, name, setting):
    """With chunked prefill on by default, one with it turned on was the same engine once more under another name."""
    found = measured([1, 2], fair=True, chunked_prefill_setting="enable_chunked_prefill", facts=facts)
    assert list(found.baselines) == ["one engine", f"one engine, {name}", "one engine, same batch"]
    settings = found.baselines[f"one engine, {name}"].scenario["engine_settings"]
    assert settings == {"enable_chunked_prefill": setting}
    assert any("prefills in chunks" in note for note in found.notes) is not setting


def test_an_engine_that_cannot_do_without_chunked_prefill_has_a_note():
    def measure(scenario, label):
        if label == "no chunked prefill":
            raise EngineError("vLLM did not start")
        return result_of(scenario, label, {"chunked_prefill": True})

    given: dict[str, Any] = {
        "least_gain": 0.02,
        "fair": True,
        "chunked_prefill_setting": "enable_chunked_prefill",
        "kv_budget": lambda one: None,
    }
    found = measure_replication(SCENARIO, [1, 2], measure, **given)
    assert list(found.baselines) == ["one engine", "one engine, same batch"]
    assert found.notes == ["no baseline without chunked prefill: vLLM did not start"]


def test_a_baseline_without_a_reading_is_not_left_out_of_the_gains():
    """all(gain > 0 for gain in gains().values()) held where no baseline had been measured."""

    def disturbed(enough, name):
        raise NotMeasured(f"{name} was not measured: noise")

    found = measured([1, 2], fair=True)
    assert found.gains() == {"one engine": 1.0, "one engine, same batch": 1.0}
    without = SimpleNamespace(metrics={"output_throughput": SimpleNamespace(value=None)}, need=disturbed)
    found.baselines["one engine"] = without
    with pytest.raises(NotMeasured, match="output_throughput was not measured: noise"):
        found.gains()
    without.need = lambda enough, name: None
    with pytest.raises(LookupError, match="baseline 'one engine' of the replication has no output_throughput"):
        found.gains()
