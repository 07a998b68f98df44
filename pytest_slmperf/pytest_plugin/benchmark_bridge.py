"""Adds each measured scenario to pytest-benchmark's results, when that plugin is active."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.model.result import Result


def extra_info(result: Result) -> dict[str, Any]:
    """Plain facts beside the round seconds: every measured metric with its unit, engine, scenario and verdicts."""
    import msgspec

    engine = msgspec.to_builtins(result.engine)
    return {
        "scenario": result.scenario,
        "engine": {key: engine[key] for key in ("name", "version", "model", "weights", "device")},
        "metrics": {
            name: {"value": item.value, "unit": item.unit}
            for name, item in result.metrics.items()
            if item.value is not None
        },
        "energy": {"source": result.energy.source, "joules": result.energy.joules, "reason": result.energy.reason},
        "verdicts": {verdict.metric: verdict.verdict for verdict in result.verdicts},
    }


def wanted(session: Any) -> bool:
    """True when pytest-benchmark was asked to write or compare; its table alone would repeat our verdict table."""
    return any(getattr(session, name, None) for name in ("json", "save", "autosave", "compare", "histogram"))


def add(item: pytest.Item, result: Result) -> None:
    """Add the clean rounds' seconds as one benchmark. Does nothing without pytest-benchmark, or where it is disabled
    (under pytest-xdist it disables itself)."""
    session = getattr(item.config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip or not wanted(session):
        return
    rounds = [
        round_
        for launch in result.launches
        if launch.side == "candidate"
        for round_ in launch.rounds[launch.warmup_rounds :]
        if round_.contaminated is None
    ]
    if not rounds:
        return
    from pytest_benchmark.stats import Metadata

    callspec = getattr(item, "callspec", None)
    kind = result.scenario.get("kind")
    # The test's own `benchmark` has its id, and pytest-benchmark compares results of the same name.
    both = f"::{kind}" if "benchmark" in getattr(item, "fixturenames", ()) else ""
    fixture = SimpleNamespace(
        name=item.name + result.id.removeprefix(item.nodeid) + both,
        fullname=result.id + both,
        group=kind,
        param=callspec.id if callspec else None,
        params=callspec.params if callspec else None,
        extra_info=extra_info(result),
        cprofile_stats=None,
        has_error=False,
    )
    metadata: Any = Metadata(  # type: ignore[no-untyped-call]
        fixture, iterations=1, options={"timer": "engine", "min_rounds": len(rounds)}
    )
    for round_ in rounds:
        metadata.update(round_.t_end - round_.t_start)
    session.benchmarks.append(metadata)
