"""What other packages may add: engines, energy meters, exporters. Each hook returns a list; all lists are joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.reports.base import Exporter


@pytest.hookspec
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:  # type: ignore[empty-body]
    """Engine adapters, chosen by ``--slmperf-engine NAME``. A later plugin's adapter replaces one of the same name."""


@pytest.hookspec
def pytest_slmperf_meters(config: pytest.Config) -> list[EnergyMeter]:  # type: ignore[empty-body]
    """Energy meters, tried in order; the first that is available is used unless ``--slmperf-meter NAME`` says otherwise."""


@pytest.hookspec
def pytest_slmperf_exporters(config: pytest.Config) -> list[Exporter]:  # type: ignore[empty-body]
    """Exporters of results, chosen by ``--slmperf-export NAME=PATH`` and ``slmperf export --format NAME``."""
