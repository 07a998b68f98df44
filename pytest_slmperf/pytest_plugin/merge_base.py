"""``--slmperf-against merge-base``: the other side of a duet is what the branch's merge base defines for the same test."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.environment import merge_base as commits
from pytest_slmperf.environment import requirements, virtual
from pytest_slmperf.environment.merge_base import OPTION, MergeBase
from pytest_slmperf.environment.requirements import SETTING, Definition
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.measuring.sides import Against
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Result
from pytest_slmperf.pytest_plugin import added_by_plugins, base_tests, setting_table, settings
from pytest_slmperf.pytest_plugin.base_tests import BaseSide, Counterpart, Described, DescribedTest, Environments
from pytest_slmperf.pytest_plugin.context import SessionContext

_BASE: pytest.StashKey[MergeBase] = pytest.StashKey()


def other_side(context: SessionContext, test: str, spec: EngineSpec) -> Against | None:
    """The other side of a test's duet; None for a comparison with a stored baseline, or with nothing."""
    against = setting_table.value(context.config, "against")
    if not against:
        return None
    if not settings.is_merge_base(against):
        return Against(settings.against_spec(spec, against))
    if context.base is None:  # --collect-only
        return None
    base = context.base.engine(test)
    return None if base is None else Against(base, f"duet, {context.base.base.label}", context.base.base.commit)


def add_notes(context: SessionContext, test: str, result: Result) -> None:
    """Add to a compared result what the reader must know of the merge base's side."""
    if context.base is not None and result.baseline is not None:
        result.notes += context.base.notes(test)


# Preparing the other side, before anything is measured.


def find(config: pytest.Config) -> MergeBase | None:
    """The merge base of this session; None if it compares with something else. InvalidInput if there is none."""
    against = setting_table.value(config, "against")
    if not settings.is_merge_base(against):
        return None
    if _BASE not in config.stash:
        config.stash[_BASE] = commits.find(config.rootpath, against.partition("=")[2] or None)
    return config.stash[_BASE]


def prepare(context: SessionContext, tests: list[pytest.Item], collected: Sequence[str]) -> list[pytest.Item]:
    """Collect the merge base's tests, build its environment, and skip the tests that are unchanged; returns the others.

    collected: the ids of all tests, before ``-k`` and the like.  The session's time starts afterwards.

    Raises InvalidInput, CannotCollect or CannotBuild.
    """
    base = find(context.config) if tests else None
    if base is None:
        return tests
    started = time.monotonic()
    try:
        context.base = _side(context, base, tests, context.closing)
    finally:
        context.budget.started += (spent := time.monotonic() - started)
        if context.budget.deadline is not None:
            context.budget.deadline += spent
    for item in tests:
        if context.base.is_unchanged(item.nodeid):
            context.base.unchanged.append(item.nodeid)
            item.add_marker(pytest.mark.skip(reason=f"nothing to compare: unchanged since the {base.label}"))
    note_on_session(context, base.label, context.base.summary(collected))
    return [item for item in tests if item.nodeid not in context.base.unchanged]


def note_on_session(context: SessionContext, label: str, lines: Sequence[str]) -> None:
    """Add to the session's record what it was compared with. Under pytest-xdist each worker tells the controller."""
    context.record.against = label
    context.notes += [line for line in lines if line not in context.notes]


def _side(context: SessionContext, base: MergeBase, tests: Sequence[pytest.Item], closing: ExitStack) -> BaseSide:
    """closing: removes the worktree at the session's end, and lets others remove the environment.

    Raises InvalidInput, CannotCollect or CannotBuild.
    """
    tree = closing.enter_context(commits.checked_out(base))
    where = Counterpart(base.top, tree)
    log = context.state_dir / "logs" / "merge-base-tests.log"
    described = base_tests.collect(context.config, where, base.label, log)
    head = {test.id: test for test in base_tests.describe(context.config, tests)}
    old = {test.id: replaced(test, context.config, where, base) for test in described.tests}
    return BaseSide(base, old, head, _environments(context, where, base, described, closing))


def replaced(test: DescribedTest, config: pytest.Config, where: Counterpart, base: MergeBase) -> DescribedTest:
    """The test with its model's folder in the worktree, unless it is the same here, or no part of the commit."""
    model = test.spec.model
    folder = where.folder(config.invocation_params.dir) / model
    if "/" not in model or not folder.resolve().is_relative_to(where.tree.resolve()):
        return test
    place = folder.resolve().relative_to(where.tree.resolve())
    if not folder.is_dir() or base.unchanged(str(place)):
        own = where.top / place
        written = Path(model).is_absolute() and str(own)
        return DescribedTest(test.id, replace(test.spec, model=written or model), test.work)
    return DescribedTest(test.id, replace(test.spec, model=str(folder)), test.work)


def _environments(
    context: SessionContext, where: Counterpart, base: MergeBase, described: Described, closing: ExitStack
) -> Environments:
    """Whether both sides have the same environment, and else the base's, built if need be."""
    config = context.config
    folder = setting_table.folder(config, "install")
    install = setting_table.value(config, "install")
    head = requirements.definition(folder, install)
    tree = where.folder(folder)
    old = None if install == requirements.NONE else requirements.definition(tree, described.install)
    if old is None:
        why = (
            "nothing names what the merge base's is installed from"
            if install != requirements.NONE
            else f"{SETTING} none"
        )
        return Environments(None, f"both sides run in this environment ({why}){_own_code(base)}")
    if head is not None and old.same(head) and (not old.local or base.unchanged()):
        own = "" if old.local else _own_code(base)
        return Environments(None, f"both sides run in this environment ({old.source} is the same){own}")
    python = settings.base_spec(config).python
    if head is not None:
        _check_head(head, old, python)
    registry = Registry(added_by_plugins.engine_adapters(config))
    left_out = dict(pair for name in registry.names() for pair in registry.get(name).traits.left_out)
    wanted = virtual.Wanted(old, tree, base.commit, left_out, python)
    log = context.state_dir / "logs" / "merge-base-install.log"
    built = closing.enter_context(virtual.environment(wanted, log, lambda text: _say(config, text)))
    return Environments(built, f"its environment is installed from {old.source} of that commit")


def _own_code(base: MergeBase) -> str:
    """What the reader must know of a project that is installed here from the checkout, and whose code both sides run."""
    names = virtual.installed_from(base.top)
    if not names or base.unchanged():
        return ""
    return (
        f", this checkout's {', '.join(names)} included: a change of its code is not compared unless {SETTING} names it"
    )


def _check_head(head: Definition, base: Definition, python: str | None) -> None:
    """Refuse a candidate whose interpreter is not what this checkout defines: both sides might be the same."""
    problem = requirements.unmet(head, base, virtual.versions(python))
    if problem is not None:
        command = f"{python or sys.executable} -m pip install {' '.join(head.words)}"
        raise InvalidInput(
            f"{OPTION}: {head.source} of this checkout {problem}: run {command}, or name in {SETTING} what the engine is "
            f"installed from ({requirements.NONE}: both sides run in this environment)"
        )


def _say(config: pytest.Config, text: str) -> None:
    """A line at once, since a build takes minutes."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        from pytest_slmperf import redaction

        terminal.ensure_newline()
        terminal.write_line(f"slmperf: {redaction.message(text)}")
