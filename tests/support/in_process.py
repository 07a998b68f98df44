"""Run the plugin's pytest inside the test's own process: a run costs what it measures, and no interpreter's start.

Each run imports a copy of ``pytest_slmperf`` of its own, so that nothing that a run's conftest patches, and no state that
a module keeps, reaches another run. Environment variables, warning filters and the working directory are put back.
What reads the process itself (its streams' encoding, its signals, libraries that it loads, pytest-xdist's workers) needs
a process: ``perf(..., process=True)``.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest

# Compiled modules cannot be imported twice into a process; pytester forgets what was first imported during a run.
KEPT = (
    "numpy",
    "scipy.optimize",
    "scipy.special",
    "scipy.stats",
    "msgspec",
    "jinja2",
    "markupsafe",
    "moocore",
    "kneed",
    "ddsketch",
    "tabulate",
    "pytest_benchmark.plugin",
    "sqlite3",
    "psycopg",
)


def _imported_anew(name: str) -> bool:
    """Modules of the package, and those of tests: a run's own may bear the names of ours."""
    return name.partition(".")[0] in ("pytest_slmperf", "conftest") or name.startswith("test_")


@contextmanager
def _as_a_new_process_has_it() -> Iterator[None]:
    """Modules of the package not imported yet, pytest's own ways with warnings; afterwards everything as it was."""
    mine = {name: module for name, module in sys.modules.items() if _imported_anew(name)}
    environment, folder, path, finders = dict(os.environ), os.getcwd(), list(sys.path), list(sys.meta_path)
    for name in mine:
        del sys.modules[name]
    # Rewriting the assertions of what a run imports, this package among it, takes longer than importing it.
    sys.meta_path[:] = [finder for finder in finders if type(finder).__name__ != "AssertionRewritingHook"]
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            yield
    finally:
        for name in [name for name in sys.modules if _imported_anew(name)]:
            del sys.modules[name]
        sys.modules.update(mine)
        sys.path[:], sys.meta_path[:] = path, finders
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)


def import_what_runs_share() -> None:
    """Call it once, before any ``pytester`` exists: that fixture forgets at its end what a test imported first."""
    for name in KEPT:
        import_module(name)
    _compile_templates_once()


def _compile_templates_once() -> None:
    """Compiling the report's templates is a quarter of a run; what comes of it depends on their text alone."""
    from jinja2 import Environment

    compiled: dict[tuple[Any, ...], Any] = {}
    original = Environment.compile

    def once(self: Environment, *what: Any, **more: Any) -> Any:
        key = (*what, *sorted(more.items()))
        if key not in compiled:
            compiled[key] = original(self, *what, **more)
        return compiled[key]

    pytest.MonkeyPatch().setattr(Environment, "compile", once)


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Like ``pytester.runpytest_subprocess``, without the process."""
    with _as_a_new_process_has_it():
        sys.path.insert(0, str(pytester.path))
        basetemp = f"--basetemp={pytester.path / 'basetemp'}"
        return pytester.runpytest_inprocess(basetemp, "--assert=plain", *args, syspathinsert=False)
