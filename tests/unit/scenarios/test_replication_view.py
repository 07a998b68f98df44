"""Which numbers of replicas may fail without failing the test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_slmperf.engines.mig import TooFewSlices
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, OutOfMemory
from pytest_slmperf.scenarios.replication import Replication
from pytest_slmperf.scenarios.replication_view import measure_replication

SCENARIO = Replication.of(1, {"batch": 8, "input_len": 8, "output_len": 8, "total_kv_cache_tokens": 1000})


def result_of(scenario, label, facts=None):
    metrics = {"output_throughput": SimpleNamespace(value=100.0 * scenario.replicas)}
    return SimpleNamespace(
        metrics=metrics, preemptions=0, scenario=scenario.parameters(), label=label,
        engine=SimpleNamespace(facts=facts or {}),
    )  # fmt: skip


def measured(k, failing=None, at=2, **more):
    """Replication whose replicas fail with ``failing`` from ``at`` of them on."""

    def measure(scenario, label):
        if failing is not None and scenario.replicas >= at:
            raise failing
        return result_of(scenario, label)

    given = {"least_gain": 0.02, "fair": False, "vllm": False, "kv_budget": lambda one: None} | more
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
