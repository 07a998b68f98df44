"""JSON for github-action-benchmark: ``tool: customBiggerIsBetter`` or ``customSmallerIsBetter``.

A file of that tool has one direction, so there are two formats: the plain format holds the metrics of which more is better
(throughput, goodput), the format ending in ``-smaller`` the metrics of which less is better (latency, energy).
"""

from __future__ import annotations

import json
from typing import Literal

from pytest_slmperf.model.result import Results

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
        return (json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
