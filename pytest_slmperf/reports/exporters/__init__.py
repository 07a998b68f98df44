"""Exporters of the core, a file for each tool; exporters for further tools are add-ons (``contrib/exporters``)."""

from __future__ import annotations

from pytest_slmperf.reports.base import Exporter


def builtin_exporters() -> list[Exporter]:
    """The exporters that the core brings along."""
    from pytest_slmperf.reports.exporters.github_action import GithubActionExporter
    from pytest_slmperf.reports.exporters.openmetrics import OpenMetricsExporter

    return [
        GithubActionExporter("github-action-benchmark", "higher"),
        GithubActionExporter("github-action-benchmark-smaller", "lower"),
        OpenMetricsExporter(),
    ]
