"""What other packages may add: engines, energy meters, exporters. Each hook returns a list; all lists are joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.reports.base import Exporter


@pytest.hookspec
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:
    """Engine adapters, chosen by ``--slmperf-engine NAME``. A later plugin's adapter replaces one of the same name."""
    raise NotImplementedError


@pytest.hookspec
def pytest_slmperf_meters(config: pytest.Config) -> list[EnergyMeter]:
    """Energy meters, tried in order; the first that is available is used unless ``--slmperf-meter NAME`` says otherwise."""
    raise NotImplementedError


@pytest.hookspec
def pytest_slmperf_exporters(config: pytest.Config) -> list[Exporter]:
    """Exporters of results, chosen by ``--slmperf-export NAME=PATH`` and ``slmperf export --format NAME``."""
    raise NotImplementedError
