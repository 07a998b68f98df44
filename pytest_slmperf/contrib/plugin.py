"""The pytest plugin of the add-ons. Loading this module imports the standard library and pytest only.

Its hooks are optional, so that pytest starts without the plugin that declares them (``-p no:slmperf``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result
    from pytest_slmperf.reports.exporters import Exporter
    from pytest_slmperf.scenarios.sweep import Sweep


@pytest.hookimpl(trylast=True, optionalhook=True)
def pytest_slmperf_exporters(config: pytest.Config) -> list[Exporter]:
    from pytest_slmperf.contrib.exporters import exporters

    return exporters()


@pytest.hookimpl(optionalhook=True)
def pytest_slmperf_annotate(result: Result, scenario: Sweep, spec: EngineSpec) -> None:
    from pytest_slmperf.contrib.roofline.sweep import annotate

    annotate(result, scenario, spec)
