"""Each format is read back by the tool or the published shape it is for."""

import csv
import io
import json

import jsonschema
import pytest

from pytest_slmperf.contrib.exporters import COLUMNS, BencherExporter, CsvExporter, ParquetExporter, exporters
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.result import MetricValue
from pytest_slmperf.model.verdict import Verdict, VerdictRecord
from pytest_slmperf.reports.exporters import GithubActionExporter, OpenMetricsExporter, builtin_exporters

EVERY = [*builtin_exporters(), *exporters()]
WILD = '=cmd|"/c calc"!A1 <script>\n\\"x"\\ 🎉'

# github-action-benchmark's own requirement for custom tools: name, unit and value; range and extra optional strings.
GITHUB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "properties": {
            "name": {"type": "string"},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
        "additionalProperties": False,
    },
}
# Bencher Metric Format as its reference states it.
BENCHER = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9-]+$"},
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "properties": {key: {"type": "number"} for key in ("value", "lower_value", "upper_value")},
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def results(make_result, make_results):
    """Two tests: throughput with an interval and latency, a metric that was not measured, verdicts, a wild id."""
    one = make_result(output_throughput=[[346.2, 347.9], [345.8]], ttft_p99=[[10.5, 11.0]])
    one.metrics["output_throughput"].ci = (343.0, 351.0)
    one.metrics["energy_per_output_token"] = MetricValue(unit="J/tok", better="lower", value=None, reason="no meter")
    one.verdicts = [
        VerdictRecord(metric="output_throughput", verdict=Verdict.REGRESSED, change=-0.1, ci=(-0.12, -0.08))
    ]
    return make_results(one, make_result(WILD, output_throughput=[[5.0]]))


def test_github_action_benchmark_has_one_direction_per_file(results):
    bigger = json.loads(GithubActionExporter("x", "higher").export(results))
    smaller = json.loads(GithubActionExporter("y", "lower").export(results))
    for document in (bigger, smaller):
        jsonschema.validate(document, GITHUB)
    assert [entry["value"] for entry in bigger] == pytest.approx([(346.2 + 347.9 + 345.8) / 3, 5.0])
    assert bigger[0]["range"] == "± 4"
    assert [entry["name"] for entry in smaller] == ["perf_tests/test_offline.py::test_batch[16] ttft_p99"]


def test_bencher_metric_format(results):
    document = json.loads(BencherExporter().export(results))
    jsonschema.validate(document, BENCHER)
    first = document["perf_tests/test_offline.py::test_batch[16]"]
    assert first["output-throughput"]["lower_value"] == 343.0
    assert set(first) == {"output-throughput", "ttft-p99"}  # what was not measured is absent, not 0
    assert document[WILD]["output-throughput"] == {"value": 5.0}


def test_csv_reads_back_and_an_absent_value_is_empty(results):
    rows = list(csv.DictReader(io.StringIO(CsvExporter().export(results).decode(), newline="")))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 4
    assert float(rows[0]["value"]) == pytest.approx(346.6333)
    assert rows[0]["verdict"] == "regressed"
    assert (rows[0]["launches"], rows[0]["rounds"]) == ("2", "3")
    absent = next(row for row in rows if row["metric"] == "energy_per_output_token")
    assert (absent["value"], absent["reason"]) == ("", "no meter")
    assert rows[3]["test"] == "'" + WILD  # a spreadsheet must not run it
    assert json.loads(rows[0]["parameters"])["batch"] == 16


def test_parquet_reads_back(results):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra 'parquet')")
    table = parquet.read_table(io.BytesIO(ParquetExporter().export(results)))
    assert table.column_names == list(COLUMNS)
    rows = table.to_pylist()
    assert rows[0]["rounds"] == 3
    assert rows[2]["value"] is None
    assert rows[3]["test"] == WILD


def test_parquet_without_pyarrow_says_which_extra(results, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidInput, match=r"pytest-slmperf\[parquet\]"):
        ParquetExporter().export(results)


def test_prometheus_reads_it(results):
    from prometheus_client.openmetrics import parser

    text = OpenMetricsExporter().export(results).decode()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert set(families) == {"slmperf_output_throughput", "slmperf_ttft_p99", "slmperf_verdict", "slmperf_change_ratio"}
    samples = families["slmperf_output_throughput"].samples
    assert [sample.labels["test"] for sample in samples][1] == WILD  # escaped and read back unchanged
    assert samples[1].value == 5.0
    assert samples[0].labels["weights"] == "dummy"
    reached = [one.labels["verdict"] for one in families["slmperf_verdict"].samples if one.value == 1]
    assert reached == ["regressed"]


def test_old_prometheus_text_format_reads_it_too(results):
    from prometheus_client import parser

    families = list(parser.text_string_to_metric_families(OpenMetricsExporter().export(results).decode()))
    assert families[0].samples[0].value == pytest.approx(346.6333)


def test_mlflow_reads_back_what_was_logged(results, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (extra 'mlflow')")
    from pytest_slmperf.contrib.exporters import MlflowExporter

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    made = json.loads(MlflowExporter().export(results))
    client = mlflow.MlflowClient()
    run = client.get_run(made["runs"][0]["run_id"])
    assert run.data.metrics["output_throughput"] == pytest.approx(346.6333)
    assert run.data.metrics["change.output_throughput"] == pytest.approx(-0.1)
    assert "energy_per_output_token" not in run.data.metrics
    assert run.data.params["scenario.batch"] == "16"
    assert run.data.tags["slmperf.verdict.output_throughput"] == "regressed"
    assert run.data.tags["mlflow.parentRunId"] == made["run_id"]


def test_mlflow_absent_says_which_extra(results, monkeypatch):
    import sys

    from pytest_slmperf.contrib.exporters import MlflowExporter

    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InvalidInput, match=r"pytest-slmperf\[mlflow\]"):
        MlflowExporter().export(results)


def test_names_are_unique_and_cover_the_fixed_ones():
    names = [exporter.name for exporter in EVERY]
    assert len(set(names)) == len(names)
    assert {"pytest-benchmark", "github-action-benchmark", "bencher", "csv"} <= set(names)
    assert all(exporter.suffix.startswith(".") for exporter in EVERY)


@pytest.mark.parametrize("name", ["github-action-benchmark", "bencher"])
def test_not_a_number_is_refused_not_written(results, name):
    exporter = next(one for one in EVERY if one.name == name)
    results.results[0].metrics["output_throughput"].value = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        exporter.export(results)
