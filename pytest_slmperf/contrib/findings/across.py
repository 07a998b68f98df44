"""Findings over several models: S3 (model size) and S13 (CUDA graphs)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from pytest_slmperf.contrib.findings.finding import Finding, Outcome, Reading, above, all_of, of_point
from pytest_slmperf.contrib.findings.sweeps import THROUGHPUT, View
from pytest_slmperf.model.result import Result

SLOWER = "at one batch, the larger model is slower"
KNEE_RISES = "the knee's share of the KV cache rises with the model's size"
GRAPHS = "CUDA graphs speed decoding up"
GRAPHS_SMALLER = "and the more, the smaller the model"


def across_findings(results: Sequence[Result]) -> Iterator[Finding]:
    sweeps = [result for result in results if result.scenario.get("kind") == "sweep" and "::confirm " not in result.id]
    for result in sweeps:
        if result.scenario.get("key") == "model":
            yield from _models(result)
    yield from _knees([result for result in sweeps if View(result).saturated])
    yield from _graphs([result for result in sweeps if result.scenario.get("key") == "enforce_eager"])


def weight_bytes(model: str) -> int | None:
    """Size of a preset; None for other models, which a page does not look up."""
    from pytest_slmperf.engines.presets import presets

    known = presets().get(model)
    return known.weight_bytes("bfloat16") if known else None


def _models(result: Result) -> Iterator[Finding]:
    sizes = [
        (size, str(row["key"]), reading)
        for row in result.points
        if (size := weight_bytes(str(row["key"]))) and (reading := of_point(row, THROUGHPUT)) and not row.get("failure")
    ]
    sizes.sort(key=lambda entry: entry[0])
    models = ", ".join(name for _, name, _ in sizes)
    if len(sizes) < 2:
        yield Finding("S3", SLOWER, "not measured", "fewer than two presets have a reading", result.id, models)
        return
    pairs = list(itertools.pairwise(sizes))
    words = ", ".join(f"{name} {reading} tok/s" for _, name, reading in sizes)
    yield Finding("S3", SLOWER, all_of(above(a[2] / b[2], 1) for a, b in pairs), words, result.id, models)


def _knees(results: Sequence[Result]) -> Iterator[Finding]:
    known: dict[str, tuple[int, Reading, str]] = {}
    for result in results:
        view, size = View(result), weight_bytes(result.engine.model)
        if view.knee is None or size is None:
            continue
        if share := view.kv_at_knee():
            known[result.engine.model] = (size, share, result.id)
    if len(known) < 2:
        if results:
            models = ", ".join(sorted({result.engine.model for result in results}))
            why = "knees of two models or more are needed: give the results of several models"
            yield Finding("S3", KNEE_RISES, "not measured", why, results[0].id, models)
        return
    ordered = sorted(known.items(), key=lambda item: item[1][0])
    words = ", ".join(f"{name} {share} %" for name, (_, share, _) in ordered)
    steps: list[Outcome] = [
        "holds" if b[1][1].low > a[1][1].high else "does not hold" if b[1][1].high < a[1][1].low else "cannot be told"
        for a, b in itertools.pairwise(ordered)
    ]
    yield Finding("S3", KNEE_RISES, all_of(steps), words, ordered[0][1][2], ", ".join(known))


def _graphs(results: Sequence[Result]) -> Iterator[Finding]:
    gains: dict[str, tuple[int | None, Reading]] = {}
    for result in results:
        by_key = {str(row["key"]): of_point(row, THROUGHPUT) for row in result.points}
        graphs, eager = by_key.get("False"), by_key.get("True")
        if graphs is None or eager is None:
            continue
        gain = graphs / eager
        gains[result.engine.model] = (weight_bytes(result.engine.model), gain)
        words = f"{graphs} against {eager} tok/s, × {gain}"
        yield Finding("S13", GRAPHS, above(gain, 1), words, result.id, result.engine.model)
    ordered = sorted((size, name, gain) for name, (size, gain) in gains.items() if size is not None)
    if len(ordered) > 1:
        steps = [above(a[2] / b[2], 1) for a, b in itertools.pairwise(ordered)]
        words = ", ".join(f"{name} × {gain}" for _, name, gain in ordered)
        yield Finding("S13", GRAPHS_SMALLER, all_of(steps), words, results[0].id, ", ".join(gains))
