"""Exporters for other tools: Bencher, MLflow, pytest-benchmark, and tables as CSV or Parquet."""

from __future__ import annotations

import json
import re
from typing import Any

from pytest_slmperf import redaction
from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.reports.exporters import Exporter
from pytest_slmperf.text_out import csv_table, json_text


def exporters() -> list[Exporter]:
    """The exporters of the add-ons. Packages that one of them needs are imported when it exports, not before."""

    return [PytestBenchmarkExporter(), BencherExporter(), CsvExporter(), ParquetExporter(), MlflowExporter()]


# Bencher Metric Format: benchmark name → measure → value with lower and upper bound (``--adapter json``).


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
        return (json_text(document) + "\n").encode()


# MLflow: one run for the session and a nested run per test, logged to the tracking server that MLflow is set to.
# ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` select it; the export is a JSON list of the created runs.

_PARAM_LENGTH = 500
_DEFAULT_EXPERIMENT = "pytest-slmperf"


class MlflowExporter:
    name = "mlflow"
    suffix = ".json"

    def export(self, results: Results) -> bytes:
        """Log to the tracking server. InvalidInput without MLflow, SlmperfError if the server refuses."""
        try:
            import mlflow
        except ImportError as error:
            raise InvalidInput(f"mlflow export needs MLflow: pip install 'pytest-slmperf[mlflow]' ({error})") from error
        try:
            return self._log(mlflow, results)
        except mlflow.exceptions.MlflowException as error:
            first = str(error).split("\n")[0]
            raise SlmperfError(f"mlflow export: the tracking server says: {first}") from error

    def _log(self, mlflow: Any, results: Results) -> bytes:
        import os

        session = results.session
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            mlflow.set_experiment(_DEFAULT_EXPERIMENT)
        made = []
        with mlflow.start_run(run_name=session.id) as parent:
            mlflow.set_tags(
                {
                    "slmperf.session": session.id,
                    "slmperf.machine": results.machine.fingerprint,
                    "slmperf.plugin_version": session.plugin_version,
                    "mlflow.source.git.commit": session.commit.id or "",
                }
            )
            for result in results.results:
                with mlflow.start_run(run_name=result.id[:250], nested=True) as run:
                    _log_result(mlflow, result)
                made.append({"test": result.id, "run_id": run.info.run_id})
        document = {
            "tracking_uri": redaction.address(mlflow.get_tracking_uri()),
            "run_id": parent.info.run_id,
            "runs": made,
        }
        return (json_text(document) + "\n").encode()


def _log_result(mlflow: Any, result: Result) -> None:
    engine = result.engine
    params = {f"scenario.{key}": value for key, value in result.scenario.items()}
    params |= {
        f"engine.{key}": getattr(engine, key) for key in ("name", "version", "model", "weights", "device", "dtype")
    }
    mlflow.log_params({_key(key): str(value)[:_PARAM_LENGTH] for key, value in params.items()})
    mlflow.log_metrics({_key(name): value.value for name, value in result.metrics.items() if value.value is not None})
    mlflow.log_metrics(
        {_key(f"change.{verdict.metric}"): verdict.change for verdict in result.verdicts if verdict.change is not None}
    )
    tags = {"slmperf.test": result.id}
    tags |= {f"slmperf.verdict.{verdict.metric}": verdict.verdict for verdict in result.verdicts}
    mlflow.set_tags(tags)


def _key(text: str) -> str:
    """A name of characters that MLflow accepts: letters, digits, '_', '-', '.', ' ' and '/'."""
    return re.sub(r"[^\w\-. /]", "_", text)[:250]


# pytest-benchmark's JSON, for ``pytest-benchmark compare FILE``. Its only quantity is seconds, here of a round.


class PytestBenchmarkExporter:
    """Clean rounds' seconds as benchmark data; every other metric in ``extra_info``.

    Tests whose rounds have no times (imported results) are left out; InvalidInput if none is left.
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
        return (json_text(document) + "\n").encode()


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


# One row per test and metric, as CSV or Parquet.

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
    """One mapping per test and metric, with every column of ``COLUMNS``, whose value may be None."""
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
            "scenario": None if (kind := result.scenario.get("kind")) is None else str(kind),
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
        return csv_table([COLUMNS, *([row[name] for name in COLUMNS] for row in rows(results))]).encode()


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
        try:
            pq.write_table(pa.Table.from_pylist(rows(results), schema=schema), sink)
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            raise InvalidInput(f"parquet export: a value of the results fits into no column ({error})") from error
        return bytes(sink.getvalue().to_pybytes())
