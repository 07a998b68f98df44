"""The performance tests of another commit, with their engines: collected by a pytest of its own, in that commit's files.

``collect`` starts that pytest with this module as a plugin (``-p``), whose hooks stand at the end.  It runs no test.
"""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.environment.merge_base import MergeBase
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.pytest_plugin import performance_tests, setting_table, settings
from pytest_slmperf.util import files, read_file
from pytest_slmperf.util.formatting import counted

PLACE = "SLMPERF_DESCRIBE"  # variable with the file that the tests are written to
LONGEST_S = 600.0
TAIL = 12  # lines of pytest's output in a message
MOST_BYTES = 64 * 2**20  # of a test file, and of the description of all tests
MOST_NAMES = 5  # tests named in a line
DECIDES = ("engine", "model", "weights", "dtype", "device", "set", "endpoint", "profile", "install")  # options
DROPPED = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT")


class DescribedTest(msgspec.Struct):
    """One performance test. ``work``: hash of the code that decides what it asks of its engine."""

    id: str
    spec: EngineSpec
    work: str


class Described(msgspec.Struct):
    """The performance tests of a commit, and ``install`` as its ini file has it."""

    tests: list[DescribedTest]
    install: str | None = None


class CannotCollect(SlmperfError):
    """The commit's tests cannot be collected; the message has pytest's last lines, the log and the fix."""


@dataclass(frozen=True, slots=True)
class Counterpart:
    """Folders of the checkout ``top`` and of a worktree ``tree`` of another commit."""

    top: Path
    tree: Path

    def of(self, path: Path | str) -> Path | None:
        """The same place in the worktree; None for a place outside the checkout."""
        place = Path(path).resolve()
        return self.tree / place.relative_to(self.top) if place.is_relative_to(self.top) else None

    def folder(self, path: Path) -> Path:
        """The same folder in the worktree, or its top where the commit has none there."""
        place = self.of(path)
        return place if place is not None and place.is_dir() else self.tree


def collect(config: pytest.Config, where: Counterpart, label: str, log: Path) -> Described:
    """The performance tests of the worktree below the places that this session collects.

    label: names the commit in messages; log: takes pytest's output.  Raises CannotCollect.
    """
    places = _places(config, where)
    if not places:
        return Described([])
    target = where.tree.parent / "tests.json"
    command = [sys.executable, "-P", "-m", "pytest", "--slmperf", "--collect-only", "-q", "-p", __name__]
    command += [*_options(config, where), *places]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            code: object = subprocess.run(
                command,
                cwd=where.folder(config.invocation_params.dir),
                env=_environment(where, target),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LONGEST_S,
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"none, it did not end within {LONGEST_S:.0f} s"
    if code == 0 and read_file.exists(target):
        return msgspec.json.decode(read_file.read(target, MOST_BYTES), type=Described)
    last = "".join(f"\n    {line}" for line in read_file.tail(log, TAIL).splitlines())
    raise CannotCollect(
        f"the performance tests of the {label} cannot be collected here (pytest's exit code: {code}): install what they "
        f"import, or compare with a baseline, without --slmperf-against (log: {log}){last}"
    )


def _places(config: pytest.Config, where: Counterpart) -> list[str]:
    """What this session collects, as files and folders of the worktree; those that the commit lacks are left out."""
    folder = config.invocation_params.dir
    places = [where.of(folder / argument.partition("::")[0]) for argument in config.args]
    return [*dict.fromkeys(str(place) for place in places if place is not None and place.exists())]


def _options(config: pytest.Config, where: Counterpart) -> Iterator[str]:
    """What decides, on this session's command line, which tests there are and which engines they have."""
    yield from ("-o", f"{setting_table.OPTIONS['against'].ini}=", f"--rootdir={where.folder(config.rootpath)}")
    for name in DECIDES:
        option = setting_table.OPTIONS[name]
        given = config.getoption(option.ini, None)
        for text in [] if given is None else given if option.many else [given]:
            yield f"{option.flag}={text}"
    python = setting_table.value(config, "python")
    if python:
        yield f"--slmperf-python={Path(setting_table.folder(config, 'python'), python) if '/' in python else python}"
    for flag, values in (("-p", config.getoption("plugins", [])), ("-o", config.getoption("override_ini", None))):
        for text in values or []:
            yield from (flag, text)
    ini = config.getoption("inifilename", None)
    if ini and (place := where.of(config.invocation_params.dir / ini)) is not None and place.exists():
        yield from ("-c", str(place))
    yield f"--import-mode={config.getoption('importmode')}"


def _environment(where: Counterpart, target: Path) -> dict[str, str]:
    """This process's environment, in which Python finds modules of the checkout in the worktree, and this package here."""
    own = Path(__file__).resolve().parents[2]
    paths = [str(own)]
    for entry in sys.path:
        place = where.of(entry or ".")
        if place is not None and place.is_dir() and Path(entry or ".").resolve() != own:
            paths.append(str(place))
    kept = {name: text for name, text in os.environ.items() if name not in DROPPED}
    paths += [path for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path and where.of(path) is None]
    return kept | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        PLACE: str(target),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


# What a test does, apart from its engine.


def describe(config: pytest.Config, items: Sequence[pytest.Item]) -> list[DescribedTest]:
    """Each of these performance tests with its engine. InvalidInput if its marks or parameters contradict each other."""
    return [DescribedTest(item.nodeid, settings.spec_of(config, item), work_of(item)) for item in items]


def work_of(item: pytest.Item) -> str:
    """Hash of the code that decides what the test asks of its engine: its file, the modules beside it, conftest.py files.

    Marks are left out, since what they say of the engine is compared by itself; comments and docstrings are, too.
    """
    values = getattr(getattr(item, "callspec", None), "params", {})
    parts = [f"{name}={value!r}" for name, value in sorted(values.items()) if name != "slm_engine"]
    beside = [path for path in sorted(item.path.parent.glob("*.py")) if not _is_test_file(path) or path == item.path]
    folder = item.path.parent
    while folder != item.config.rootpath and folder != folder.parent:
        folder = folder.parent
        beside.append(folder / "conftest.py")
    parts += [f"{path.name}: {_code_of(path)}" for path in beside if path.is_file()]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _is_test_file(path: Path) -> bool:
    return path.stem.startswith("test_") or path.stem.endswith("_test")


@cache
def _code_of(path: Path) -> str:
    data = read_file.read(path, MOST_BYTES)
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return hashlib.sha256(data).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name.lower().startswith("test"):
                node.decorator_list = []
            node.body = _without_docstring(node.body)
        elif isinstance(node, ast.Module):
            node.body = [line for line in _without_docstring(node.body) if not _is_for_marks(line)]
    return ast.dump(tree)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if documented else body


def _is_for_marks(line: ast.stmt) -> bool:
    """Whether a line of a module is ``pytestmark = …`` or ``import pytest``."""
    if isinstance(line, ast.Import):
        return [name.name for name in line.names] == ["pytest"]
    return isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == ["pytestmark"]


# The other side of a session's duets.


@dataclass(frozen=True, slots=True)
class Environments:
    """python: the base's interpreter; None: both sides run in the same. ``text``: for the reader."""

    python: str | None
    text: str


@dataclass
class BaseSide:
    """The merge base's side of every test. ``head``: the tests of this checkout, by id."""

    base: MergeBase
    tests: dict[str, DescribedTest]
    head: dict[str, DescribedTest]
    environments: Environments
    unchanged: list[str] = field(default_factory=list)

    def engine(self, test: str) -> EngineSpec | None:
        """The engine that the merge base defines for the test; None if nothing of it can be compared."""
        if test not in self.tests or self._only_work_differs(test):
            return None
        return self._spec(test)

    def is_unchanged(self, test: str) -> bool:
        """Whether environment, engine and work are the merge base's."""
        own, old = self.head.get(test), self.tests.get(test)
        return own is not None and old is not None and own.work == old.work and self._same_engine(test)

    def nothing_to_compare(self, test: str) -> BaselineMatch:
        """Why the test has no other side."""
        if test in self.tests:
            reason = (
                f"the test's code changed since the {self.base.label}, its engine and environment did not: there is nothing "
                "to compare"
            )
        else:
            reason = f"the {self.base.label} has no such test"
        return BaselineMatch(None, Verdict.NEW, reason)

    def notes(self, test: str) -> list[str]:
        """What a reader of the comparison must know."""
        own, old = self.head.get(test), self.tests.get(test)
        if own is None or old is None:
            return []
        notes = []
        if own.work != old.work:
            notes.append(
                f"the test's code changed since the {self.base.label}: both sides do the work of this checkout"
            )
        if own.spec.model != old.spec.model and Path(own.spec.model).name == Path(old.spec.model).name:
            notes.append(f"the files in the model's folder {own.spec.model} are not those of the {self.base.label}")
        return notes

    def summary(self, collected: Sequence[str]) -> list[str]:
        """Lines on the whole session. ``collected``: the ids of all tests here, before ``-k`` and the like."""
        lines = [f"compared with the {self.base.label}; {self.environments.text}"]
        if self.unchanged:
            lines.append(
                f"nothing to compare in {_names(self.unchanged)}: environment, engine, settings and code are those of the "
                f"{self.base.label}; without --slmperf-against they are measured"
            )
        if not self.tests:
            lines.append(f"the {self.base.label} has no performance test here, so every test is new")
        removed = sorted(set(self.tests) - set(collected))
        if removed:
            lines.append(f"removed since the {self.base.label}: {_names(removed)}")
        return lines

    def _only_work_differs(self, test: str) -> bool:
        own, old = self.head.get(test), self.tests[test]
        return own is not None and own.work != old.work and self._same_engine(test)

    def _same_engine(self, test: str) -> bool:
        return self._spec(test) == self.head[test].spec

    def _spec(self, test: str) -> EngineSpec:
        spec = self.tests[test].spec
        return spec if self.environments.python is None else replace(spec, python=self.environments.python)


def _names(tests: Sequence[str]) -> str:
    rest = f" and {len(tests) - MOST_NAMES} more" if len(tests) > MOST_NAMES else ""
    return f"{counted(len(tests), 'performance test')} ({', '.join(tests[:MOST_NAMES])}{rest})"


# The hooks in the other commit's pytest.


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """That session compares nothing, whatever its ini file says."""
    given: Mapping[str, Any] = vars(config.option)
    for name in ("against", "json", "html", "save"):
        if setting_table.OPTIONS[name].ini in given:
            setattr(config.option, setting_table.OPTIONS[name].ini, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if session.testsfailed or PLACE not in os.environ:
        return  # pytest shows what could not be imported
    tests = describe(session.config, [item for item in session.items if performance_tests.will_measure(item)])
    described = Described(tests, setting_table.value(session.config, "install"))
    files.replace(Path(os.environ[PLACE]), msgspec.json.encode(described))
    pytest.exit("described", returncode=0)
