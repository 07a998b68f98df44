from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_slmperf.contrib.findings.finding import Source
from pytest_slmperf.frontier.points import point_record
from pytest_slmperf.model.result import Engine, Machine, MetricValue, Result, Results, Session

Rows = Mapping[Any, Mapping[str, Any]]


@pytest.fixture
def engine() -> Callable[[str], Engine]:
    return lambda model: Engine(name="vllm", version="0.26", model=model, weights="dummy", device="cuda")


@pytest.fixture
def sweep(engine: Callable[[str], Engine]) -> Callable[..., Result]:
    """A sweep's record: key → metric → value; each is read in three launches that lie 0.1 % apart."""

    def make(key: str, rows: Rows, test: str = "t.py::test_x", model: str = "opt-1.3b", **scenario: Any) -> Result:
        points = []
        for at, values in rows.items():
            launches = {name: [[0.999 * v], [v], [1.001 * v]] for name, v in values.items() if name != "standing"}
            points.append(point_record(at, launches, standing=values.get("standing", "frontier")))
        about = {"kind": "sweep", "key": key, "objectives": ["output_throughput", "itl_mean"], **scenario}
        return Result(id=test, scenario=about, engine=engine(model), points=points)

    return make


@pytest.fixture
def replicas(engine: Callable[[str], Engine]) -> Callable[..., list[Result]]:
    """Records of one replication test: label → output tok/s, and ``full``: KV-cache peak by label."""

    def make(
        speeds: Mapping[str, float], full: Mapping[str, float] | None = None, sharing: str = "time-slice"
    ) -> list[Result]:
        found = []
        for label, speed in speeds.items():
            metrics = {
                "output_throughput": MetricValue(
                    unit="tok/s", better="higher", value=speed, ci=(0.99 * speed, 1.01 * speed)
                ),
                "kv_cache_peak": MetricValue(unit="%", better="lower", value=(full or {}).get(label, 40.0)),
            }
            about = {"kind": "replication", "sharing": sharing, "replicas": int(label[2:]) if label[:2] == "k=" else 1}
            found.append(
                Result(
                    id=f"t.py::test_r[{sharing}]::{label}", scenario=about, engine=engine("opt-1.3b"), metrics=metrics
                )
            )
        return found

    return make


@pytest.fixture
def source() -> Callable[..., Source]:
    def make(*results: Result, machine: str = "gpu-a", name: str = "results.json") -> Source:
        session = Session(id="s", started_at="2026-11-24T00:00:00Z", plugin_version="0", profile="full")
        return Source(name, Results(session=session, machine=Machine(fingerprint=machine), results=list(results)))

    return make
