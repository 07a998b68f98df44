"""pytest's hooks and nothing else. Loading this module imports the standard library and pytest only."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_slmperf import hookspec, marker, options
from pytest_slmperf.fixtures import energy_meter, slm_engine, slmperf
from pytest_slmperf.stash import SESSION, TEST, TestState

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.reports.base import Exporter

__all__ = ["energy_meter", "slm_engine", "slmperf"]

SKIPPED = "performance test: run it with --slmperf"


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspec)


def pytest_configure(config: pytest.Config) -> None:
    keys = ", ".join(marker.KEYS)
    config.addinivalue_line("markers", f"slmperf(*, {keys}): a performance test of a small language model")
    if not config.getoption("--slmperf"):
        return
    options.validate(config)
    from pytest_slmperf import profiles
    from pytest_slmperf.environment.devices import default_device
    from pytest_slmperf.session import PerfSession
    from pytest_slmperf.settings import check_session

    check_session(config)
    device = options.value(config, "device") or default_device()
    profiles.activate(options.value(config, "profile"), gpu=not device.startswith("cpu"))
    session = config.stash[SESSION] = PerfSession(config)
    config.pluginmanager.register(session, "slmperf-session")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: all workers write into one session."""
    if SESSION in node.config.stash:
        node.workerinput["slmperf_session_id"] = node.config.stash[SESSION].id


def pytest_unconfigure(config: pytest.Config) -> None:
    if SESSION in config.stash:
        config.stash[SESSION].close()


# --- what other plugins may add to ------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_slmperf_engines(config: pytest.Config) -> list[EngineAdapter]:
    from pytest_slmperf.engines.registry import builtin_adapters

    return builtin_adapters()


@pytest.hookimpl(trylast=True)
def pytest_slmperf_meters(config: pytest.Config) -> list[EnergyMeter]:
    from pytest_slmperf.energy.registry import builtin_meters

    return builtin_meters(config.stash[SESSION].state_dir if SESSION in config.stash else None)


@pytest.hookimpl(trylast=True)
def pytest_slmperf_exporters(config: pytest.Config) -> list[Exporter]:
    from pytest_slmperf.reports.exporters import builtin_exporters

    return builtin_exporters()


# --- collection -------------------------------------------------------------------------------------------------------


def pytest_report_header(config: pytest.Config) -> str | None:
    if SESSION not in config.stash:
        return None
    return config.stash[SESSION].header()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    fixtures = {"slmperf", "slm_engine", "energy_meter"}
    for item in items:
        marked = item.get_closest_marker(marker.NAME) is not None
        if not marked and not fixtures & set(getattr(item, "fixturenames", ())):
            continue
        marker.merged(item)
        item.stash[TEST] = TestState()
        if SESSION not in config.stash:
            item.add_marker(pytest.mark.skip(reason=SKIPPED))


def pytest_collection_finish(session: pytest.Session) -> None:
    if SESSION in session.config.stash:
        measured = [item for item in session.items if TEST in item.stash and not will_skip(item)]
        session.config.stash[SESSION].tests = [item.nodeid for item in measured]


def will_skip(item: pytest.Item) -> bool:
    """Whether a test is known to be skipped before it runs: it must not be counted among those that share the time."""
    if item.get_closest_marker("skip") is not None:
        return True
    return any(condition is True for mark in item.iter_markers("skipif") for condition in mark.args)


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        # Here and not in sessionfinish: a report that cannot be written must still be able to fail the session.
        if SESSION in session.config.stash and not session.config.option.collectonly:
            from pytest_slmperf.finish import finish

            session.testsfailed += finish(session.config.stash[SESSION])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    if TEST in item.stash and SESSION in item.config.stash:
        from pytest_slmperf.outcome import judge

        judge(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if SESSION in item.config.stash:
        from pytest_slmperf.outcome import attach

        attach(item, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> Any:
    if SESSION not in config.stash or not isinstance(report, pytest.TestReport):
        return None
    from pytest_slmperf.outcome import category

    name = category(report)
    return None if name is None else (name, name[0].upper(), (name.upper(), {"yellow": True}))


# --- the end ----------------------------------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    from pytest_slmperf.summary import say_skipped, summary

    if SESSION in config.stash:
        summary(terminalreporter, config.stash[SESSION])
    else:
        say_skipped(terminalreporter, SKIPPED)
