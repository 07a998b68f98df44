"""Checks before anything is measured: the tests' engines and settings, stored baselines, and files and folders.

A fault ends the session with a UsageError.  In a pytest-xdist worker, where the controller would treat that as a crash,
each affected test fails with the same message instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf import redaction
from pytest_slmperf.baselines.store import Store
from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.metrics.registry import known, metric
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.pytest_plugin import added_by_plugins, plan, setting_table, settings
from pytest_slmperf.pytest_plugin.context import SessionContext
from pytest_slmperf.pytest_plugin.merge_base import other_side
from pytest_slmperf.pytest_plugin.test_state import TEST
from pytest_slmperf.util import files, read_file

if TYPE_CHECKING:
    from pytest_slmperf.measuring.sides import Against
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.pytest_plugin.context import SessionContext


def unknown_quarantine(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """A note for each quarantine pattern without a matching test although its file was collected, or without a file.

    ``items``: all collected tests, before ``-k`` and similar options remove some.
    """
    from pytest_slmperf.pytest_plugin.settings import quarantined_as

    files = {item.nodeid.partition("::")[0] for item in items}
    selected = any("::" in argument for argument in config.args)
    notes = []
    for pattern in setting_table.value(config, "quarantine"):
        file = pattern.partition("::")[0]
        if any(quarantined_as(item.nodeid, [pattern]) for item in items) or set(file) & set("*?"):
            continue
        if not config.rootpath.joinpath(file).exists() or (file in files and not selected):
            notes.append(
                f"slmperf_quarantine: {pattern!r} names no test; give a test id, or a pattern such as {file}::*"
            )
    return notes


def check_ids(context: SessionContext, tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Refuse tests with equal ids, and note ids that depend on the command line: an id is the key of a baseline.

    pytest gives such ids to files outside its rootdir (``-c`` with an ini file elsewhere, ``--pyargs``). Returns the other
    tests.
    """
    rootdir = context.config.rootpath
    first: dict[str, pytest.Item] = {}
    for item in tests:
        other = first.setdefault(item.nodeid, item)
        if other is item:
            continue
        if other.path == item.path:
            problem = (
                f"{item.nodeid} was collected twice, and of two results of one id one is lost: leave out --keep-duplicates, "
                "and measure more often with --slmperf-launches"
            )
        else:
            problem = (
                f"{other.path} and {item.path} both hold the test {item.nodeid!r}, and an id is the key of a baseline: "
                f"they lie outside the rootdir {rootdir}; give --rootdir, a folder above them all"
            )
        refuse(context, (other, item), problem)
    outside = [item for item in tests if not item.path.is_relative_to(rootdir)]
    if outside:
        context.notes.append(
            f"{len(outside)} performance test{'s lie' if len(outside) > 1 else ' lies'} outside the rootdir "
            f"{rootdir}, so that the id by which a baseline is found depends on how pytest is called; "
            "give --rootdir, a folder above"
        )
    return _not_refused(tests)


def check(context: SessionContext, tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Refuse unknown engines, models, engine settings, meters, metrics and export formats. Starts no engine.

    Returns the other tests.
    """
    from pytest_slmperf.pytest_plugin import settings

    base = settings.base_spec(context.config)
    checked: dict[tuple[EngineSpec, Against | None], str | None] = {}
    for item in tests:
        try:
            spec = settings.spec_of(context.config, item)
            against = other_side(context, item.nodeid, spec)
        except InvalidInput as error:
            problem: str | None = f"{item.nodeid}: {error}"
        else:
            if (spec, against) not in checked:
                checked[spec, against] = _problem(context, spec, against)
            problem = checked[spec, against]
            if problem is not None and spec != base:
                problem = f"{item.nodeid}: {problem}"
        if problem is not None:
            refuse(context, (item,), problem)
    return _not_refused(tests)


def refuse(context: SessionContext, tests: Iterable[pytest.Item], problem: str) -> list[pytest.Item]:
    """End the session, or in a worker fail these tests, with the problem. Returns an empty list."""
    if not context.is_worker:
        raise setting_table.usage_error(problem)
    for item in tests:
        item.stash[TEST].refused = problem
    return []


def refuse_secret_ids(context: SessionContext, tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Refuse tests whose ids have a secret in them: pytest shows ids everywhere, and baselines are found by them."""
    for item in tests:
        shown = redaction.hide_known(item.nodeid)
        if shown != item.nodeid:
            problem = (
                f"{shown}: the id of this test has a key or a password in it, which pytest would show; give the parameter "
                "an id of its own: pytest.param(…, id='…')"
            )
            return refuse(context, tests, problem)
    return list(tests)


def _not_refused(tests: Iterable[pytest.Item]) -> list[pytest.Item]:
    return [item for item in tests if item.stash[TEST].refused is None]


def _problem(context: SessionContext, spec: EngineSpec, against: Against | None) -> str | None:
    """The fault of an engine's description, or of the session's options for it; else None."""
    try:
        context.measuring.resolve(spec)
        if against is not None:
            _check_other_side(context, against.spec)
        for name, _ in setting_table.value(context.config, "export"):
            added_by_plugins.exporter(context.config, name)
    except InvalidInput as error:
        return str(error)
    return None


def _check_other_side(context: SessionContext, spec: EngineSpec) -> None:
    """Refuse the baseline side of a duet if it cannot be measured. Starts no engine, but runs its interpreter once."""
    from pytest_slmperf.engines.interpreter import interpreter

    try:
        if spec.python is not None:
            problem = interpreter(spec.python, (), ()).error
            problem = problem or context.measuring.registry.get(spec.engine).missing(spec.python)
            if problem is not None:
                raise InvalidInput(problem)
        context.measuring.resolve(spec)
    except InvalidInput as error:
        against, base = setting_table.value(context.config, "against"), context.base
        other = "" if base is None else f"the {base.base.label}; {base.environments.text}: "
        fix = "" if base is None else "; if the engine is installed from something else, name it in slmperf_install"
        raise InvalidInput(f"--slmperf-against {against}: {other}{error}{fix}") from None


# Checks of the stored baselines, before the first engine starts.


def check_baselines(context: SessionContext, items: Sequence[pytest.Item]) -> None:
    """Read the stored baselines; if one cannot be read, each test fails with the reason.

    All baselines are read with a name that this session uses, of any test: they show how noisy the machine is, which every
    verdict depends on.
    """
    compared, saved = setting_table.value(context.config, "baseline"), setting_table.value(context.config, "save")
    try:
        for name in dict.fromkeys(filter(None, (compared, saved))):
            baselines = context.store.all(name)
            if not baselines and name == compared:
                context.notes += _other_names(context.store, name)
            for baseline in baselines:
                context.notes += _unknown_metrics(baseline)
        if context.budget.deadline is not None:
            for baseline in plan.baselines_of_here(context):
                _expect(context, items, baseline)
    except (SlmperfError, OSError) as error:
        for item in items:
            item.stash[TEST].refused = f"the baselines cannot be read, so nothing was measured: {error}"


def _other_names(store: Store, name: str) -> list[str]:
    """A note if baselines exist, but none has this name, which may be a typing error."""
    try:
        names = sorted({baseline.name for baseline in store.all()})
    except SlmperfError:  # irrelevant to a session that does not compare with it
        return []
    return [f"no baseline has the name {name!r}; stored are {', '.join(map(repr, names))}"] if names else []


def _unknown_metrics(baseline: Baseline) -> list[str]:
    """A note for each stored metric that is unknown here: of another version, or a typing error."""
    notes = []
    for name in sorted({name for session in baseline.sessions for name in session.metrics if known(name) is None}):
        try:
            metric(name)
        except InvalidInput as error:
            notes.append(f"baseline {baseline.name!r} of {baseline.id} holds what is not compared: {error}")
    return notes


def _expect(context: SessionContext, items: Sequence[pytest.Item], baseline: Baseline) -> None:
    """Record the minimum time of the baseline's test."""
    if baseline.newest.launch_s is None:
        return
    config = context.config
    for item in items:
        if not plan.is_of(baseline, item):
            continue
        chosen = settings.resolve(config, item.nodeid, setting_table.merged(item), settings.base_spec(config))
        sides = 2 if setting_table.value(config, "against") else 1
        if chosen.spec.engine == baseline.engine.name:
            context.budget.expect(item.nodeid, sides * chosen.launches * baseline.newest.launch_s)


# Checks of the files, folders and stores in the options, without creating or writing anything.


def check_places(config: pytest.Config) -> None:
    """InvalidInput, with option and fix, for a place that cannot be used."""
    _check_baselines(config)
    _check_writable(config, "state-dir", setting_table.value(config, "state-dir"), "choose another folder")
    _check_outputs(config)


def _check_baselines(config: pytest.Config) -> None:
    """Check the store's address, the names of baselines, and that the session can save into its folder."""
    from pytest_slmperf.baselines.lookup import check_across
    from pytest_slmperf.baselines.open import open_store
    from pytest_slmperf.baselines.store import check_name

    place, saved_as = setting_table.value(config, "baselines"), setting_table.value(config, "save")
    open_store(place, setting_table.folder(config, "baselines"))
    for name in (setting_table.value(config, "baseline"), saved_as):
        if name is not None:
            check_name(name)
    check_across(setting_table.value(config, "across"))
    if (saved_as or config.getoption("--slmperf-approve")) and "://" not in place:
        fix = "choose another folder, or leave --slmperf-save and -approve away"
        _check_writable(config, "baselines", place, fix)


_SOURCES = (".py", ".pyi", ".ini", ".toml", ".cfg", ".yml", ".yaml", ".sh")
_OURS = {"html": files.REPORT, "json": files.RESULTS}


def _check_outputs(config: pytest.Config) -> None:
    """Check that report, results and exports are different files in writable folders."""
    outputs = [(name, path) for name in ("html", "json") if (path := setting_table.value(config, name)) is not None]
    outputs += [("export", path) for _, path in setting_table.value(config, "export")]
    taken: dict[Path, str] = {}
    for name, path in outputs:
        file = Path(setting_table.folder(config, name), path).absolute()
        if read_file.exists(file) and read_file.is_folder(file):
            raise InvalidInput(f"--slmperf-{name}: {path} is a folder; give a file in it")
        if file.suffix in _SOURCES or ".git" in file.parts:
            kind = "a Python file" if file.suffix == ".py" else "the name of code or of a configuration"
            raise InvalidInput(f"--slmperf-{name}: {path} is {kind}; give another name")
        if name in _OURS:
            files.refuse_other(file, *_OURS[name])
        if file in taken:
            raise InvalidInput(
                f"--slmperf-{name}: {path} is the file of --slmperf-{taken[file]} too; give each a file of its own"
            )
        taken[file] = name
        _check_writable(config, name, str(Path(path).parent), "choose another place")


def _check_writable(config: pytest.Config, name: str, place: str, fix: str) -> None:
    """Refuse a folder that cannot be created or written."""
    folder = Path(setting_table.folder(config, name), place)
    existing = next(parent for parent in (folder, *folder.parents) if read_file.exists(parent))
    is_folder = read_file.is_folder(existing)
    if not is_folder or not os.access(existing, os.W_OK | os.X_OK):
        why = "no permission, or a read-only file system" if is_folder else "a file, where a folder is needed"
        raise InvalidInput(f"--slmperf-{name}: {folder} cannot be written ({existing}: {why}); {fix}")
