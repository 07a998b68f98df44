"""Hooks through which other packages add engines, energy meters, exporters, charts and notes.

Each hook that returns a list is called once; the lists of all plugins are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result
    from pytest_slmperf.reports.exporters import Exporter
    from pytest_slmperf.scenarios.sweep import Sweep


@pytest.hookspec
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:  # type: ignore[empty-body]
    """Engine adapters, chosen by ``--slmperf-engine NAME``. A later plugin's adapter replaces one of the same name."""


@pytest.hookspec
def pytest_slmperf_meters(config: pytest.Config) -> list[EnergyMeter]:  # type: ignore[empty-body]
    """Energy meters, tried in order: the first available meter is used unless ``--slmperf-meter NAME`` selects another."""


@pytest.hookspec
def pytest_slmperf_exporters(config: pytest.Config) -> list[Exporter]:  # type: ignore[empty-body]
    """Exporters of results, chosen by ``--slmperf-export NAME=PATH`` and ``slmperf export --format NAME``."""


@pytest.hookspec
def pytest_slmperf_annotate(config: pytest.Config, result: Result, scenario: Sweep, spec: EngineSpec) -> None:
    """Add charts and notes to ``result``, a finished sweep with its verdict, before it is written to the journal.

    ``scenario`` is the sweep and ``spec`` the engine of its first point. The measured values and verdicts stay as they are.
    """
