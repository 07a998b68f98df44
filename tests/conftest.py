"""Shared by all tests of the project."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

# One group a folder: what a group's tests share (an engine, a browser, an installed wheel) is made once, in one worker.
GROUPS = ("engine", "browser", "packaging")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the tests of many random cases only, with all of their cases")


def _place(nodeid: str) -> int:
    """Where a test's group stands among ``GROUPS``; tests of no group come after them."""
    folder = nodeid.removeprefix("tests/").partition("/")[0]
    return GROUPS.index(folder) if folder in GROUPS else len(GROUPS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under pytest-xdist the groups start first, side by side; light tests fill what is left."""
    if config.getoption("--long"):
        others = [item for item in items if "cases" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if "cases" in getattr(item, "fixturenames", ())]
    items.sort(key=lambda item: _place(item.nodeid))


@pytest.fixture
def cases(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """How many random cases to try: ``cases(FEW, MANY)`` is the first number, and the second under ``--long``."""
    return lambda few, many: many if pytestconfig.getoption("--long") else few


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: a third of a light test's time is waiting for processes that it started."""
    return min(4, len(os.sched_getaffinity(0)) + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A folder of ``GROUPS`` is one group, a file of unit tests another. (xdist's own marks go unseen by pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    if config.getvalue("dist") not in ("load", "loadgroup"):
        return None

    class Folders(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            place = _place(nodeid)
            if place < len(GROUPS):
                return GROUPS[place]
            return nodeid.partition("::")[0] if nodeid.startswith("tests/unit/") else nodeid

    return Folders(config, log)


@pytest.fixture(scope="session")
def keep_vega(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Call it with a HOME: reports written there take the Vega bundle from its cache, and do not make it again."""
    from pytest_slmperf.reports.html import static_figures

    here = tmp_path_factory.getbasetemp()
    made = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "vega"  # once for all workers
    made.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        static_figures.javascript.cache_clear()
        static_figures.javascript()

    def keep(home: Path) -> None:
        shutil.copytree(made, home / ".cache", dirs_exist_ok=True)

    return keep
