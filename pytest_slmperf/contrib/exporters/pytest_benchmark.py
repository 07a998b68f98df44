"""pytest-benchmark's JSON: ``pytest-benchmark compare FILE`` reads it. Its one quantity is seconds, here of a round."""

from __future__ import annotations

import json
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.result import Result, Results


class PytestBenchmarkExporter:
    """Clean rounds' seconds as benchmark data; every other metric in ``extra_info``.

    A test whose rounds have no times (imported results) is left out; InvalidInput when none is left.
    """

    name = "pytest-benchmark"
    suffix = ".json"

    def export(self, results: Results) -> bytes:
        benchmarks = [entry for entry in map(_benchmark, results.results) if entry is not None]
        if not benchmarks:
            raise InvalidInput(
                "pytest-benchmark export: no result holds the times of its rounds, so there is nothing to write"
            )
        session, machine = results.session, results.machine
        document = {
            "machine_info": {
                "node": machine.fingerprint,
                "machine": machine.os.get("machine", ""),
                "system": machine.os.get("system", ""),
                "release": machine.os.get("release", ""),
                "python_version": (machine.python or "").rpartition(" ")[2],
                "cpu": machine.cpu | {"brand_raw": machine.cpu.get("model", ""), "count": machine.cpu.get("cores")},
                "gpus": machine.gpus,
                "driver": machine.driver,
            },
            "commit_info": {
                "id": session.commit.id or "unversioned",
                "time": session.started_at,
                "author_time": session.started_at,
                "dirty": session.commit.dirty,
                "project": "pytest-slmperf",
                "branch": session.commit.branch or "(unknown)",
            },
            "benchmarks": benchmarks,
            "datetime": session.started_at,
            "version": _version(),
        }
        return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def _benchmark(result: Result) -> dict[str, Any] | None:
    seconds = [
        measured.t_end - measured.t_start
        for launch in result.launches
        if launch.side == "candidate"
        for measured in launch.rounds
        if measured.contaminated is None
    ]
    if not seconds:
        return None
    name = result.id.rpartition("::")[2]
    return {
        "group": result.scenario.get("kind"),
        "name": name,
        "fullname": result.id,
        "params": None,
        "param": name[name.index("[") + 1 : -1] if "[" in name and name.endswith("]") else None,
        "extra_info": {
            "scenario": result.scenario,
            "engine": {"name": result.engine.name, "version": result.engine.version, "model": result.engine.model},
            "metrics": {name: metric.value for name, metric in result.metrics.items() if metric.value is not None},
            "verdicts": {verdict.metric: verdict.verdict for verdict in result.verdicts},
        },
        "options": {
            "disable_gc": False,
            "timer": "engine",
            "min_rounds": len(seconds),
            "max_time": None,
            "min_time": None,
            "warmup": bool(result.launches[0].warmup_rounds),
        },
        "stats": _stats(seconds),
    }


def _stats(seconds: list[float]) -> dict[str, Any]:
    """The statistics of pytest-benchmark, by its own code."""
    import pytest_benchmark.stats as pytest_benchmark

    build: Any = pytest_benchmark.Stats
    stats = build()
    for value in seconds:
        stats.update(value)
    return dict(stats.as_dict()) | {"data": seconds, "iterations": 1}


def _version() -> str:
    import pytest_benchmark

    return str(pytest_benchmark.__version__)
