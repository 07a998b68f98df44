"""Small, complete records for unit tests, built through the product's own types, nothing measured; and fake GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import fake_nvml

from pytest_slmperf.environment import fingerprint
from pytest_slmperf.metrics import registry
from pytest_slmperf.model.result import Commit, Engine, Machine, MetricValue, Result, Results, Session


@pytest.fixture
def make_machine() -> Callable[..., Machine]:
    def make(**changes: Any) -> Machine:
        known: dict[str, Any] = {
            "fingerprint": "",
            "cpu": {"model": "AMD EPYC", "family": "26/2", "cores": 2},
            "memory_bytes": 24 * 2**30,
            "os": {"system": "Linux", "release": "6.1"},
        }
        machine = Machine(**known | changes)
        machine.fingerprint = machine.fingerprint or fingerprint.of_machine(machine)
        return machine

    return make


@pytest.fixture
def make_engine() -> Callable[..., Engine]:
    def make(**changes: Any) -> Engine:
        known: dict[str, Any] = {"name": "vllm", "version": "0.32.0", "model": "opt-125m", "weights": "dummy"}
        return Engine(**known | {"device": "cpu", "dtype": "bfloat16", "settings": {"enforce_eager": True}} | changes)

    return make


@pytest.fixture
def make_session() -> Callable[..., Session]:
    def make(number: int = 1, **changes: Any) -> Session:
        known: dict[str, Any] = {
            "id": f"session-{number}",
            "started_at": f"2026-11-{number:02d}T10:00:00Z",
            "plugin_version": "0.1.0",
            "commit": Commit(id=f"{number % 16:x}" * 40, branch="main"),
        }
        return Session(**known | changes)

    return make


@pytest.fixture
def make_result(make_engine: Callable[..., Engine]) -> Callable[..., Result]:
    """A result with launches of one or more metrics: ``make_result(output_throughput=[[100, 101], [99, 100]])``."""

    def make(
        test_id: str = "perf_tests/test_offline.py::test_batch[16]",
        *,
        engine: dict[str, Any] | None = None,
        scenario: dict[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
        **launches: list[list[float]],
    ) -> Result:
        values = {}
        for name, rounds in (launches or {"output_throughput": [[346.2, 347.9], [345.8, 348.1]]}).items():
            known = registry.metric(name)
            flat = [value for launch in rounds for value in launch]
            values[name] = MetricValue(
                unit=known.unit,
                better=known.better,
                value=sum(flat) / len(flat) if flat else None,
                launches=rounds,
                gate=known.gate,
            )
        work = {"kind": "offline", "batch": 16, "input_len": 32, "output_len": 32}
        return Result(
            id=test_id,
            scenario=scenario or work,
            engine=make_engine(**engine or {}),
            metrics=values,
            **fields or {},
        )

    return make


@pytest.fixture
def make_results(make_machine: Callable[..., Machine], make_session: Callable[..., Session]) -> Callable[..., Results]:
    def make(*results: Result, number: int = 1, machine: Machine | None = None) -> Results:
        return Results(session=make_session(number), machine=machine or make_machine(), results=list(results))

    return make


@pytest.fixture
def gpus(tmp_path, monkeypatch) -> Iterator[Callable[..., fake_nvml.FakeNvml]]:
    """Call it with FakeGpu objects: nvidia-ml-py in this process sees them until the test ends. Time is virtual."""
    made: list[fake_nvml.FakeNvml] = []

    def lend(*cards: fake_nvml.FakeGpu, virtual: bool = True, lines: tuple[str, ...] = ()) -> fake_nvml.FakeNvml:
        folder = tmp_path / f"gpus{len(made)}"
        folder.mkdir()
        fake = fake_nvml.FakeNvml(folder, list(cards) or [fake_nvml.FakeGpu()], virtual=virtual, lines=lines)
        fake_nvml.lend(monkeypatch, fake)
        made.append(fake)
        return fake

    yield lend
    for fake in made:
        fake.close()
