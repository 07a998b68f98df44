"""Whether what the performance tests ask for exists, checked before anything is measured.

What is wrong ends the session with a UsageError.  A pytest-xdist worker cannot do that (the controller would take it for
a crash), so there each test concerned fails with the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.pytest_plugin import added_by_plugins, marker, options
from pytest_slmperf.pytest_plugin.test_state import TEST

if TYPE_CHECKING:
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.pytest_plugin.context import SessionContext


def unknown_quarantine(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """A note for each quarantine pattern that names no test although its file was collected, or whose file does not exist.

    ``items``: everything collected, before ``-k`` and the like took some away.
    """
    from pytest_slmperf.pytest_plugin.settings import quarantined_as

    files = {item.nodeid.partition("::")[0] for item in items}
    selected = any("::" in argument for argument in config.args)
    notes = []
    for pattern in options.value(config, "quarantine"):
        file = pattern.partition("::")[0]
        if any(quarantined_as(item.nodeid, [pattern]) for item in items) or set(file) & set("*?"):
            continue
        if not config.rootpath.joinpath(file).exists() or (file in files and not selected):
            notes.append(
                f"slmperf_quarantine: {pattern!r} names no test; give a test id, or a pattern such as {file}::*"
            )
    return notes


def check_ids(context: SessionContext, tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Refuse two tests of one id, and note where ids depend on the command line: an id is the key of a baseline.

    pytest gives such ids to files outside its rootdir (``-c`` with an ini file elsewhere, ``--pyargs``). Returns the tests
    that were not refused.
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
        _refuse(context, (other, item), problem)
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

    Returns the tests that were not refused.
    """
    from pytest_slmperf.pytest_plugin import settings

    base = settings.base_spec(context.config)
    checked: dict[EngineSpec, str | None] = {}
    for item in tests:
        try:
            spec = _spec_of(context.config, item)
        except InvalidInput as error:
            problem: str | None = f"{item.nodeid}: {error}"
        else:
            if spec not in checked:
                checked[spec] = _problem(context, spec)
            problem = checked[spec]
            if problem is not None and spec != base:
                problem = f"{item.nodeid}: {problem}"
        if problem is not None:
            _refuse(context, (item,), problem)
    return _not_refused(tests)


def _refuse(context: SessionContext, tests: Iterable[pytest.Item], problem: str) -> None:
    if not context.is_worker:
        raise pytest.UsageError(problem)
    for item in tests:
        item.stash[TEST].refused = problem


def _not_refused(tests: Iterable[pytest.Item]) -> list[pytest.Item]:
    return [item for item in tests if item.stash[TEST].refused is None]


def _spec_of(config: pytest.Config, item: pytest.Item) -> EngineSpec:
    """The engine that a test asks for; InvalidInput where its marks or parameters contradict."""
    from pytest_slmperf.pytest_plugin import settings

    mark = marker.merged(item)
    changes = getattr(getattr(item, "callspec", None), "params", {}).get("slm_engine")
    spec = settings.base_spec(config, mark)
    if isinstance(changes, Mapping):
        spec = spec.with_settings(**changes)
    chosen = settings.resolve(config, item.nodeid, mark, spec)
    chosen.gates(("output_throughput", *(name for name in chosen.limit if name)))
    return spec


def _problem(context: SessionContext, spec: EngineSpec) -> str | None:
    """What is wrong with an engine's description, or with what the session asks for beside it."""
    from pytest_slmperf.pytest_plugin import settings

    try:
        context.lab.resolve(spec)
        if against := options.value(context.config, "against"):
            _check_other_side(context, settings.against_spec(spec, against), against)
        for name, _ in options.value(context.config, "export"):
            added_by_plugins.exporter(context.config, name)
    except InvalidInput as error:
        return str(error)
    return None


def _check_other_side(context: SessionContext, spec: EngineSpec, against: str) -> None:
    """Refuse the baseline side of a duet that could not be measured. Starts no engine, but runs its interpreter once."""
    from pytest_slmperf.engines.interpreter import interpreter

    try:
        if spec.python is not None:
            problem = interpreter(spec.python, (), ()).error
            problem = problem or context.lab.registry.get(spec.engine).missing(spec.python)
            if problem is not None:
                raise InvalidInput(problem)
        context.lab.resolve(spec)
    except InvalidInput as error:
        raise InvalidInput(f"--slmperf-against {against}: {error}") from None
