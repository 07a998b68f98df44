"""Bencher Metric Format: benchmark name → measure → value with lower and upper bound (``--adapter json``)."""

from __future__ import annotations

import json

from pytest_slmperf.model.result import Results


class BencherExporter:
    name = "bencher"
    suffix = ".json"

    def export(self, results: Results) -> bytes:
        document: dict[str, dict[str, dict[str, float]]] = {}
        for result in results.results:
            measures: dict[str, dict[str, float]] = {}
            for name, metric in result.metrics.items():
                if metric.value is None:
                    continue
                # Bencher's measures are slugs: letters, digits and dashes.
                measure = measures.setdefault(name.replace("_", "-"), {"value": metric.value})
                if metric.ci is not None:
                    measure |= {"lower_value": metric.ci[0], "upper_value": metric.ci[1]}
            if measures:
                document[result.id] = measures
        return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
