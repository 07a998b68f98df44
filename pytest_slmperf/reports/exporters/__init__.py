"""Results in other tools' formats, one file per tool."""

from __future__ import annotations

from pytest_slmperf.reports.base import Exporter


def builtin_exporters() -> list[Exporter]:
    """Every exporter of this package. Optional packages are imported when one is used, not before."""
    from pytest_slmperf.reports.exporters.bencher import BencherExporter
    from pytest_slmperf.reports.exporters.github_action import GithubActionExporter
    from pytest_slmperf.reports.exporters.mlflow import MlflowExporter
    from pytest_slmperf.reports.exporters.openmetrics import OpenMetricsExporter
    from pytest_slmperf.reports.exporters.pytest_benchmark import PytestBenchmarkExporter
    from pytest_slmperf.reports.exporters.table import CsvExporter, ParquetExporter

    return [
        PytestBenchmarkExporter(),
        GithubActionExporter("github-action-benchmark", "higher"),
        GithubActionExporter("github-action-benchmark-smaller", "lower"),
        BencherExporter(),
        CsvExporter(),
        ParquetExporter(),
        OpenMetricsExporter(),
        MlflowExporter(),
    ]
