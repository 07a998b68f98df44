"""Shared by all tests of the project."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

# One group a folder: what a group's tests share (an engine, a browser, an installed wheel) is made once, in one worker.
GROUPS = ("engine", "browser", "packaging")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under ``pytest -n 2 --dist loadgroup`` the groups start first, side by side; light tests fill what is left."""
    here = Path(__file__).parent

    def order(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        if folder not in GROUPS:
            return len(GROUPS)
        item.add_marker(pytest.mark.xdist_group(folder))
        return GROUPS.index(folder)

    items.sort(key=order)


@pytest.fixture(scope="session")
def keep_vega(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Call it with a HOME: reports written there take the Vega bundle from its cache, and do not make it again."""
    from pytest_slmperf.reports.html import vega_bundle

    made = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        vega_bundle.javascript.cache_clear()
        vega_bundle.javascript()

    def keep(home: Path) -> None:
        shutil.copytree(made, home / ".cache", dirs_exist_ok=True)

    return keep
