"""One row per test and metric, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.result import Results

# Column → type in Parquet. In CSV an absent value is an empty cell, never 0.
COLUMNS: dict[str, str] = {
    "session": "string", "started_at": "string", "commit": "string", "machine": "string", "test": "string",
    "scenario": "string", "parameters": "string", "engine": "string", "engine_version": "string", "model": "string",
    "weights": "string", "device": "string", "replicas": "int64", "metric": "string", "unit": "string", "better": "string",
    "value": "float64", "ci_low": "float64", "ci_high": "float64", "launches": "int64", "rounds": "int64",
    "reason": "string", "verdict": "string", "change": "float64", "change_low": "float64", "change_high": "float64",
    "discarded_rounds": "int64",
}  # fmt: skip


def rows(results: Results) -> list[dict[str, Any]]:
    """One mapping per test and metric, with every column of ``COLUMNS``; None where there is no value."""
    table = []
    for result in results.results:
        verdicts = {verdict.metric: verdict for verdict in result.verdicts}
        engine = result.engine
        shared = {
            "session": results.session.id,
            "started_at": results.session.started_at,
            "commit": results.session.commit.id,
            "machine": results.machine.fingerprint,
            "test": result.id,
            "scenario": result.scenario.get("kind"),
            "parameters": json.dumps(result.scenario, ensure_ascii=False, sort_keys=True),
            "engine": engine.name,
            "engine_version": engine.version,
            "model": engine.model,
            "weights": engine.weights,
            "device": engine.device,
            "replicas": engine.replicas,
            "discarded_rounds": result.discarded_rounds,
        }
        for name, metric in result.metrics.items():
            low, high = metric.ci or (None, None)
            verdict = verdicts.get(name)
            change = (verdict.ci if verdict else None) or (None, None)
            table.append(
                shared
                | {"metric": name, "unit": metric.unit, "better": metric.better, "value": metric.value}
                | {"ci_low": low, "ci_high": high, "reason": metric.reason}
                | {"launches": len(metric.launches), "rounds": sum(map(len, metric.launches))}
                | {"verdict": verdict.verdict if verdict else None, "change": verdict.change if verdict else None}
                | {"change_low": change[0], "change_high": change[1]}
            )
    return table


class CsvExporter:
    name = "csv"
    suffix = ".csv"

    def export(self, results: Results) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows(results))
        return text.getvalue().encode("utf-8", "replace")


class ParquetExporter:
    """The same rows as a Parquet file; needs pyarrow."""

    name = "parquet"
    suffix = ".parquet"

    def export(self, results: Results) -> bytes:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise InvalidInput(
                f"parquet export needs pyarrow: pip install 'pytest-slmperf[parquet]' ({error})"
            ) from error
        types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
        schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows(results), schema=schema), sink)
        return bytes(sink.getvalue().to_pybytes())


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is quoted: names come from outside."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
