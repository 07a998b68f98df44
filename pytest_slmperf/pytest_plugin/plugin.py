"""pytest's entry point: options, hooks, fixtures. Loading this module imports the standard library and pytest only.

Every other hook is a method of ``session_plugin.SessionPlugin``, registered with ``--slmperf``, or of
``skipping.SkippingPlugin``, registered without it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.pytest_plugin import hookspec, setting_table
from pytest_slmperf.pytest_plugin.fixtures import energy_meter, slm_engine, slmperf
from pytest_slmperf.pytest_plugin.setting_table import MARKER_KEYS

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.reports.exporters import Exporter

__all__ = ["energy_meter", "slm_engine", "slmperf"]


def pytest_addoption(parser: pytest.Parser) -> None:
    setting_table.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspec)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    given = [*early_config.invocation_params.args, *os.environ.get("PYTEST_ADDOPTS", "").split()]
    if any(str(argument).startswith("--slmperf-") for argument in given):
        from pytest_slmperf.pytest_plugin.rootdir_fix import correct

        correct(early_config)


def pytest_configure(config: pytest.Config) -> None:
    keys = ", ".join(MARKER_KEYS)
    config.addinivalue_line("markers", f"slmperf(*, {keys}): a performance test of a small language model")
    if not config.getoption("--slmperf"):
        from pytest_slmperf.pytest_plugin.performance_tests import SkippingPlugin

        config.pluginmanager.register(SkippingPlugin(), "slmperf-skipping")
        return
    setting_table.validate(config)
    from pytest_slmperf.measuring import context
    from pytest_slmperf.pytest_plugin import merge_base
    from pytest_slmperf.pytest_plugin.collection import check_places
    from pytest_slmperf.pytest_plugin.session_plugin import SessionPlugin
    from pytest_slmperf.pytest_plugin.settings import base_spec, check_session, on_gpu

    try:
        check_session(config)
        check_places(config)
        merge_base.find(config)
    except SlmperfError as error:
        raise pytest.UsageError(str(error)) from None
    config.add_cleanup(context.activate(setting_table.value(config, "profile"), gpu=on_gpu(config, base_spec(config))))
    config.pluginmanager.register(SessionPlugin(config), "slmperf-session")


# --- this package's own implementations of its hooks; commands such as `slmperf doctor` call them without a session -----


@pytest.hookimpl(trylast=True)
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:
    from pytest_slmperf.engines.registry import builtin_adapters

    return builtin_adapters()


@pytest.hookimpl(trylast=True)
def pytest_slmperf_meters(config: pytest.Config) -> list[EnergyMeter]:
    from pytest_slmperf.energy.counter.calibration import user_folder
    from pytest_slmperf.energy.registry import builtin_meters
    from pytest_slmperf.pytest_plugin.context import state_dir

    return builtin_meters(state_dir(config) if config.getoption("--slmperf", False) else user_folder())


@pytest.hookimpl(trylast=True)
def pytest_slmperf_exporters(config: pytest.Config) -> list[Exporter]:
    from pytest_slmperf.reports.exporters import builtin_exporters

    return builtin_exporters()
