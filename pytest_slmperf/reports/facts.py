"""Facts as rows of (name, text): session, machine, engine, energy, and what differs between baseline and candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.reports.wording import rows as energy_rows
from pytest_slmperf.reports.wording import show
from pytest_slmperf.util.formatting import duration


@dataclass(frozen=True, slots=True)
class Difference:
    """A change between baseline and candidate in ``tests`` tests. ``everywhere``: in all compared tests."""

    what: str
    baseline: str
    candidate: str
    tests: int = 1
    everywhere: bool = True


@dataclass(frozen=True, slots=True)
class EnergyFacts:
    """The energy reading as rows of (name, text), or the reason why there is none."""

    reason: str | None
    rows: list[tuple[str, str]]
    warnings: list[str]


def energy_facts(result: Result) -> EnergyFacts:
    """The energy reading with its bound and source, or why there is none."""
    energy = result.energy
    if energy.source is None:
        return EnergyFacts(energy.reason or "no energy meter was active", [], energy.warnings)
    rows = energy_rows(energy)
    if energy.witness:
        rows += [(f"second witness: {key}", value) for key, value in pairs(msgspec.structs.asdict(energy.witness))]
    return EnergyFacts(None, rows, energy.warnings)


def engine_facts(result: Result) -> list[tuple[str, str]]:
    engine = result.engine
    rows = [
        ("engine", engine_name(result)),
        ("model", f"{engine.model}, {engine.weights} weights"),
        ("device", f"{engine.device}, {engine.dtype or 'default dtype'}"),
        ("replicas", str(engine.replicas)),
    ]
    # A sweep's record holds the engine of one point; what it varies is shown with the scenario.
    varied = result.scenario.get("varied")
    hidden = {"pid", *(varied if isinstance(varied, dict) else ())}
    settings = {key: value for key, value in engine.settings.items() if key not in hidden}
    reported = {key: value for key, value in engine.facts.items() if key not in hidden and settings.get(key) != value}
    variables = [(f"variable {name}", show(value)) for name, value in (engine.environment or {}).items()]
    return rows + pairs(settings) + pairs(reported) + variables


def engine_name(result: Result) -> str:
    """Engine and version; the simulated engine has no version."""
    name, version = result.engine.name, result.engine.version
    return name if version in ("", name) else f"{name} {version}"


def own_differences(result: Result) -> list[Difference]:
    """What changed between the baseline and one test."""
    return [Difference(show(row.what), show(row.baseline), show(row.candidate)) for row in result.differences]


def differences(results: Sequence[Result]) -> list[Difference]:
    """The changes between baseline and candidate; a change in several tests is listed once."""
    compared = [result for result in results if result.baseline is not None or result.differences]
    counts: Counter[Difference] = Counter()
    for result in compared:
        counts.update(dict.fromkeys(own_differences(result)).keys())  # each change once per test, in recorded order
    return [
        replace(difference, tests=count, everywhere=count == len(compared))
        for difference, count in sorted(counts.items(), key=lambda entry: -entry[1])
    ]


def session_facts(results: Results) -> list[tuple[str, str]]:
    session = results.session
    commit = session.commit
    rows = [("measured", session.started_at.replace("T", " ").replace("Z", " UTC"))]
    if commit.id:
        rows.append(("commit", f"{commit.id[:10]}{' with uncommitted changes' if commit.dirty else ''}"))
    if commit.branch:
        rows.append(("branch", commit.branch))
    engines = sorted({engine_name(result) for result in results.results})
    if engines:
        rows.append(("engine", ", ".join(engines[:3])))
    models = sorted({result.engine.model for result in results.results})
    if models:
        rows.append(("model", ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")))
    machine = results.machine
    rows.append(("machine", ", ".join(machine.cards) or str(machine.cpu.get("model") or machine.fingerprint)))
    rows.append(("compared", "in one session (duet)" if session.mode == "duet" else "with a stored baseline"))
    if session.against:
        rows.append(("against", session.against))
    took = elapsed(session.started_at, session.finished_at)
    if took:
        rows.append(("took", took))
    return rows


def elapsed(start: str, end: str | None) -> str:
    try:
        return duration((datetime.fromisoformat(end or "") - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return ""


def machine_facts(results: Results) -> list[tuple[str, str]]:
    machine, session = results.machine, results.session
    rows = [("fingerprint", machine.fingerprint), *pairs(machine.cpu, "CPU ")]
    for place, gpu in enumerate(machine.gpus):
        rows += pairs(gpu, f"GPU {place} ")
    if machine.memory_bytes:
        rows.append(("memory", f"{machine.memory_bytes / 2**30:.1f} GiB"))
    rows += [("GPU driver", machine.driver or "none"), *pairs(machine.os, "OS ")]
    if machine.python:
        rows.append(("Python", machine.python))
    rows += [
        ("pytest-slmperf", session.plugin_version),
        ("session", session.id),
        ("profile", session.profile or "default"),
    ]
    if session.alpha is not None:
        rows.append(("false-alarm rate per session", f"{session.alpha:g}"))
    return rows + [(name, value) for name, value in pairs(session.options, "--slmperf-") if value not in ("none", "")]


def pairs(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as flat rows of text."""
    rows: list[tuple[str, str]] = []
    for key, value in facts.items():
        label = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            rows += pairs(value, f"{label} › ")
        elif label.endswith((" size", " bytes")) and isinstance(value, int) and value >= 1024:
            rows.append((label.removesuffix(" bytes"), binary(value)))
        else:
            rows.append((label, show(value)))
    return rows


def binary(count: int) -> str:
    """Bytes as KiB, MiB or GiB."""
    power = min(3, (count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
