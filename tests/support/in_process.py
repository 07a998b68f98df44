"""Run the plugin's pytest inside the test's own process: a run costs what it measures, and no interpreter's start.

Runs have a copy of ``pytest_slmperf`` that is put back before each, so that nothing that a run's conftest patches, and no
state that a module keeps, reaches another run. Environment variables, warning filters and working directory are put back.
What reads the process itself (its streams' encoding, its signals, libraries that it loads, pytest-xdist's workers) needs
a process: ``perf(..., process=True)``.
"""

from __future__ import annotations

import copy
import functools
import io
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
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

# Not imported ahead: programs, by the last parts of their names, and a former path, which warns.
PROGRAMS = ("__main__", "cpu_probe", "worker", "async_worker", "offline_worker", "serving", "faults", "player", "host")
FORMER = "pytest_slmperf.plugin"


def _is_own(name: str) -> bool:
    """Modules of tests: a run's own may have the names of ours."""
    return name == "conftest" or name.startswith("test_")


def _is_package(name: str) -> bool:
    return name.partition(".")[0] == "pytest_slmperf"


class PackageCopy:
    """A second copy of ``pytest_slmperf`` in this process, for runs, as freshly imported at the start of each.

    Importing it again for each run takes longer than a run on the simulated engine does. So all modules are imported once,
    and before a run their attributes, those of their classes, what their lists, dictionaries and sets contain, and their
    caches are put back.
    """

    def __init__(self) -> None:
        mine = _taken_out(_is_package)
        for module in pkgutil.walk_packages(import_module("pytest_slmperf").__path__, "pytest_slmperf."):
            if module.ispkg or (module.name.rpartition(".")[2] not in PROGRAMS and module.name != FORMER):
                import_module(module.name)
        self.modules = _taken_out(_is_package)
        sys.modules.update(mine)
        self._attributes = {id(owner): dict(vars(owner)) for owner in self._owners()}
        self._contents = {
            id(value): copy.copy(value)
            for attributes in self._attributes.values()
            for value in attributes.values()
            if type(value) in (dict, list, set)
        }

    def _owners(self) -> list[Any]:
        """The modules, and the classes that they define."""
        classes = {
            id(value): value
            for name, module in self.modules.items()
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == name
        }
        return [*self.modules.values(), *classes.values()]

    def put_back(self) -> None:
        """Everything as it was when it had just been imported."""
        for owner in self._owners():
            before = self._attributes.get(id(owner))
            if before is None:  # a class of a later run
                continue
            for name in [name for name in vars(owner) if name not in before]:
                delattr(owner, name)
            for name, value in before.items():
                if vars(owner).get(name) is not value:
                    setattr(owner, name, value)
                if (content := self._contents.get(id(value))) is not None and value != content:
                    _fill(value, content)
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _fill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)


def _taken_out(wanted: Callable[[str], bool]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if wanted(name)}


@functools.cache
def _package_copy() -> PackageCopy:
    return PackageCopy()


@contextmanager
def _as_a_new_process_has_it(fresh: bool) -> Iterator[None]:
    """The package as just imported (``fresh``: not imported), pytest's own ways with warnings; afterwards all as it was."""
    finders = list(sys.meta_path)
    # Rewriting the assertions of what a run imports, this package among it, takes longer than importing it.
    sys.meta_path[:] = [finder for finder in finders if type(finder).__name__ != "AssertionRewritingHook"]
    mine = _taken_out(lambda name: _is_own(name) or _is_package(name))
    if not fresh:
        copied = _package_copy()
        copied.put_back()
        sys.modules.update(copied.modules)
    environment, folder, path = dict(os.environ), os.getcwd(), list(sys.path)
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            yield
    finally:
        _taken_out(lambda name: _is_own(name) or _is_package(name))
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
    _describe_the_processor_once()


def _describe_the_processor_once() -> None:
    """pytest-benchmark describes the processor in every session, with several programs that it starts for that."""
    import cpuinfo

    pytest.MonkeyPatch().setattr(cpuinfo, "get_cpu_info", functools.cache(cpuinfo.get_cpu_info))


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


def command(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of the command ``slmperf`` in a folder."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape") for _ in range(2)]
    with _as_a_new_process_has_it(fresh=False), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        os.chdir(folder)
        try:
            code = import_module("pytest_slmperf.cli.main").main(list(words))
        except SystemExit as end:  # argparse
            code = end.code if isinstance(end.code, int) else 1
    for stream in streams:
        stream.flush()
    output = b"".join(stream.detach().getvalue() for stream in streams)
    return code, output.decode(errors="surrogateescape")


def run(pytester: pytest.Pytester, *args: str, fresh: bool = False) -> pytest.RunResult:
    """Like ``pytester.runpytest_subprocess``, without the process. ``fresh``: the run imports the package itself."""
    with _as_a_new_process_has_it(fresh):
        sys.path.insert(0, str(pytester.path))
        basetemp = f"--basetemp={pytester.path / 'basetemp'}"
        return pytester.runpytest_inprocess(basetemp, "--assert=plain", *args, syspathinsert=False)
