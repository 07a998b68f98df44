"""pytest's hooks and nothing else. Loading this module imports the standard library and pytest only."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_slmperf.errors import InvalidInput, NotMeasured, SlmperfError
from pytest_slmperf.pytest_plugin import collection, hookspec, options
from pytest_slmperf.pytest_plugin.fixtures import energy_meter, slm_engine, slmperf
from pytest_slmperf.pytest_plugin.setting_table import MARKER_KEYS
from pytest_slmperf.pytest_plugin.stash import SESSION, SKIPPED, TEST

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import EngineAdapter
    from pytest_slmperf.reports.base import Exporter

__all__ = ["energy_meter", "slm_engine", "slmperf"]


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspec)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if any(str(argument).startswith("--slmperf-") for argument in early_config.invocation_params.args):
        from pytest_slmperf.pytest_plugin.rootdir_fix import correct

        correct(early_config)


def pytest_configure(config: pytest.Config) -> None:
    keys = ", ".join(MARKER_KEYS)
    config.addinivalue_line("markers", f"slmperf(*, {keys}): a performance test of a small language model")
    if not config.getoption("--slmperf"):
        return
    options.validate(config)
    from pytest_slmperf.measuring import profiles
    from pytest_slmperf.pytest_plugin.place_checks import check_places
    from pytest_slmperf.pytest_plugin.session import PerfSession
    from pytest_slmperf.pytest_plugin.settings import base_spec, check_session, on_gpu

    try:
        check_session(config)
        check_places(config)
    except InvalidInput as error:
        raise pytest.UsageError(str(error)) from None
    config.add_cleanup(profiles.activate(options.value(config, "profile"), gpu=on_gpu(config, base_spec(config))))
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
    from pytest_slmperf.energy.profile import user_folder
    from pytest_slmperf.energy.registry import builtin_meters

    return builtin_meters(config.stash[SESSION].state_dir if SESSION in config.stash else user_folder())


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
    collection.select(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    if SESSION in session.config.stash:
        perf = session.config.stash[SESSION]
        collection.check_ids(perf, list(filter(collection.will_measure, session.items)))
        collection.check(perf, filter(collection.will_measure, session.items))
        measured = list(filter(collection.will_measure, session.items))
        perf.tests = [item.nodeid for item in measured]
        if perf.tests and not _rehearses(session.config):
            collection.check_baselines(perf, measured)


def _rehearses(config: pytest.Config) -> bool:
    """Whether no test body will run: what an earlier session measured must not be replaced by nothing."""
    return bool(config.option.collectonly or getattr(config.option, "setuponly", False))


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        # Here and not in sessionfinish: a report that cannot be written must still be able to fail the session.
        if SESSION in session.config.stash and not _rehearses(session.config):
            from pytest_slmperf.pytest_plugin.finish import finish

            session.testsfailed += finish(session.config.stash[SESSION])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if TEST in item.stash:
        state = item.stash[TEST]
        state.begin()
        if state.refused is not None:
            pytest.fail(state.refused, pytrace=False)
        if SESSION in item.config.stash:
            from pytest_slmperf.pytest_plugin.outcome import refuse_fork

            refuse_fork(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    def measures() -> bool:  # asked when the test has run: it may have asked for the fixture itself
        return TEST in item.stash and SESSION in item.config.stash

    if measures():
        from pytest_slmperf.pytest_plugin.outcome import refuse_again

        refuse_again(item)
    result = None
    try:
        result = yield
    except NotMeasured:  # nothing can be asserted of what was not measured; its verdict says inconclusive, and why
        if not measures():
            raise
    except SlmperfError as error:
        if measures():
            from pytest_slmperf.pytest_plugin.outcome import without_own_frames

            raise without_own_frames(error)  # noqa: B904
        raise
    finally:
        if TEST in item.stash:
            item.stash[TEST].ended = True
        if measures():
            from pytest_slmperf.pytest_plugin.outcome import keep_regression

            keep_regression(item)
    if measures():
        from pytest_slmperf.pytest_plugin.outcome import judge

        judge(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if SESSION in item.config.stash:
        from pytest_slmperf.pytest_plugin.outcome import attach

        attach(item, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> Generator[None, Any, Any]:
    status = yield  # asked first: pytest fails a test here for its subtests
    if SESSION not in config.stash or not isinstance(report, pytest.TestReport):
        return status
    from pytest_slmperf.pytest_plugin.outcome import category

    name = category(report)
    return status if name is None else (name, name[0].upper(), (name.upper(), {"yellow": True}))


# --- the end ----------------------------------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    from pytest_slmperf.pytest_plugin.closing_lines import say_skipped, summary

    if SESSION in config.stash:
        summary(terminalreporter, config.stash[SESSION])
    else:
        say_skipped(terminalreporter, SKIPPED)
