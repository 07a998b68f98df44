"""Exporters for other tools, one file a tool."""

from __future__ import annotations

from pytest_slmperf.reports.base import Exporter


def exporters() -> list[Exporter]:
    """The exporters of the add-ons. Packages that one of them needs are imported when it exports, not before."""
    from pytest_slmperf.contrib.exporters.bencher import BencherExporter
    from pytest_slmperf.contrib.exporters.mlflow import MlflowExporter
    from pytest_slmperf.contrib.exporters.pytest_benchmark import PytestBenchmarkExporter
    from pytest_slmperf.contrib.exporters.table import CsvExporter, ParquetExporter

    return [PytestBenchmarkExporter(), BencherExporter(), CsvExporter(), ParquetExporter(), MlflowExporter()]
