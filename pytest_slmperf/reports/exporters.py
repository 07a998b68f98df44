"""Exporters of the core, a file for each tool; exporters for further tools are add-ons (``contrib/exporters``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol

from pytest_slmperf.metrics.registry import known
from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.text_out import json_text, printable

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily


# The interface of an exporter.


class Exporter(Protocol):
    """Writes results in another tool's format."""

    name: str
    suffix: str  # the usual file ending, with its dot

    def export(self, results: Results) -> bytes: ...


def builtin_exporters() -> list[Exporter]:
    """The exporters of the core."""

    return [
        GithubActionExporter("github-action-benchmark", "higher"),
        GithubActionExporter("github-action-benchmark-smaller", "lower"),
        OpenMetricsExporter(),
    ]


# JSON for github-action-benchmark: ``tool: customBiggerIsBetter`` or ``customSmallerIsBetter``. A file of that tool
# has one direction, so there are two formats: the plain format holds the metrics of which more is better (throughput,
# goodput), the format ending in ``-smaller`` the metrics of which less is better (latency, energy).

_TOOLS = {"higher": "customBiggerIsBetter", "lower": "customSmallerIsBetter"}


class GithubActionExporter:
    suffix = ".json"

    def __init__(self, name: str, better: Literal["higher", "lower"]) -> None:
        self.name = name
        self.better = better
        self.tool = _TOOLS[better]

    def export(self, results: Results) -> bytes:
        entries = []
        for result in results.results:
            for name, metric in result.metrics.items():
                if metric.value is None or metric.better != self.better:
                    continue
                entry = {"name": f"{result.id} {name}", "unit": metric.unit, "value": metric.value}
                if metric.ci is not None:
                    entry["range"] = f"± {(metric.ci[1] - metric.ci[0]) / 2:.4g}"
                engine = result.engine
                entry["extra"] = f"{engine.name} {engine.version}, {engine.model} ({engine.weights}), {engine.device}"
                entries.append(entry)
        return (json_text(entries) + "\n").encode()


# OpenMetrics text, which Prometheus reads (node_exporter's textfile collector, a push gateway).

RESULT_LABELS = ("test", "scenario", "engine", "engine_version", "model", "weights", "device")


class OpenMetricsExporter:
    """One gauge per metric (``slmperf_output_throughput``), and one per verdict that is 1 for the verdict reached."""

    name = "openmetrics"
    suffix = ".prom"

    def export(self, results: Results) -> bytes:
        from prometheus_client import CollectorRegistry
        from prometheus_client.openmetrics.exposition import generate_latest

        registry = CollectorRegistry()
        registry.register(_Collector(results.results))
        return bytes(generate_latest(registry))


class _Collector:
    """The object that prometheus_client asks for metric families."""

    def __init__(self, results: list[Result]) -> None:
        self._results = results

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families that have a sample; a missing reading gives none."""
        families = [*self._metrics(), *self._verdicts()]
        return [family for family in families if family.samples]

    def _metrics(self) -> Iterator[GaugeMetricFamily]:
        for name in dict.fromkeys(name for result in self._results for name in result.metrics):
            readings = [(result, result.metrics[name]) for result in self._results if name in result.metrics]
            metric = known(name)
            text = f"{name.replace('_', ' ')} in {readings[0][1].unit}" + (f": {metric.formula}" if metric else "")
            family = _gauge(f"slmperf_{name}", text, RESULT_LABELS)
            for result, reading in readings:
                if reading.value is not None:
                    family.add_metric(_labels(result), reading.value)
            yield family

    def _verdicts(self) -> Iterator[GaugeMetricFamily]:
        reached = _gauge("slmperf_verdict", "1 for the verdict that was reached", ("test", "metric", "verdict"))
        change = _gauge("slmperf_change_ratio", "candidate divided by baseline, less 1", ("test", "metric"))
        for result in self._results:
            for record in result.verdicts:
                labels = [_text(result.id), _text(record.metric)]
                for verdict in Verdict:
                    reached.add_metric([*labels, verdict.value], float(verdict == record.verdict))
                if record.change is not None:
                    change.add_metric(labels, record.change)
        yield reached
        yield change


def _gauge(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    plain = "".join(character if character.isascii() and character.isalnum() else "_" for character in name)
    return GaugeMetricFamily(plain, _text(text), labels=labels)


def _labels(result: Result) -> list[str]:
    engine = result.engine
    kind = str(result.scenario.get("kind", ""))
    values = (result.id, kind, engine.name, engine.version, engine.model, engine.weights, engine.device)
    return [_text(value) for value in values]


def _text(value: str) -> str:
    """Text without control characters, except line breaks, which the format escapes."""
    return "\n".join(map(printable, value.split("\n")))
