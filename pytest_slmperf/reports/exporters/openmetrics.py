"""OpenMetrics text, which Prometheus reads (node_exporter's textfile collector, a push gateway)."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_slmperf.metrics.registry import REGISTRY
from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.model.verdict import Verdict


class OpenMetricsExporter:
    """One gauge per metric (``slmperf_output_throughput``), and one per verdict that is 1 for the verdict reached."""

    name = "openmetrics"
    suffix = ".prom"

    def export(self, results: Results) -> bytes:
        lines: list[str] = []
        names = list(dict.fromkeys(name for result in results.results for name in result.metrics))
        for name in names:
            family = _name(f"slmperf_{name}")
            samples = [
                _sample(family, _labels(result), metric.value)
                for result in results.results
                for metric in [result.metrics.get(name)]
                if metric is not None and metric.value is not None
            ]
            if samples:
                unit = next(result.metrics[name].unit for result in results.results if name in result.metrics)
                formula = f": {REGISTRY[name].formula}" if name in REGISTRY else ""
                lines += _head(family, f"{name.replace('_', ' ')} in {unit}{formula}") + samples
        lines += self._verdicts(results.results)
        return ("\n".join([*lines, "# EOF"]) + "\n").encode("utf-8", "replace")

    def _verdicts(self, results: Iterable[Result]) -> list[str]:
        samples, changes = [], []
        for result in results:
            for verdict in result.verdicts:
                labels = {"test": result.id, "metric": verdict.metric}
                for name in Verdict:
                    samples.append(
                        _sample("slmperf_verdict", labels | {"verdict": name.value}, float(name == verdict.verdict))
                    )
                if verdict.change is not None:
                    changes.append(_sample("slmperf_change_ratio", labels, verdict.change))
        lines = _head("slmperf_verdict", "1 for the verdict that was reached") + samples if samples else []
        if changes:
            lines += _head("slmperf_change_ratio", "candidate divided by baseline, less 1") + changes
        return lines


def _labels(result: Result) -> dict[str, str]:
    engine = result.engine
    return {
        "test": result.id,
        "scenario": str(result.scenario.get("kind", "")),
        "engine": engine.name,
        "engine_version": engine.version,
        "model": engine.model,
        "weights": engine.weights,
        "device": engine.device,
    }


def _head(family: str, text: str) -> list[str]:
    return [f"# TYPE {family} gauge", f"# HELP {family} {_escape(text)}"]


def _sample(family: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    shown = (
        repr(float(value))
        if math.isfinite(value)
        else "NaN"
        if math.isnan(value)
        else f"{'+' if value > 0 else '-'}Inf"
    )
    return f"{family}{{{inside}}} {shown}"


def _name(text: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "_" for character in text)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"").replace("\r", " ")
