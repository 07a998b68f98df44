"""Which of the collected tests are performance tests, and whether what they ask for exists, before anything is measured.

What is wrong ends the session with a UsageError.  A pytest-xdist worker cannot do that (the controller would take it for
a crash), so there each test concerned fails with the same words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.pytest_plugin import marker, options
from pytest_slmperf.pytest_plugin.stash import SESSION, SKIPPED, TEST, TestState

if TYPE_CHECKING:
    from pytest_slmperf.model.baseline import Baseline
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.pytest_plugin.session import PerfSession

FIXTURES = frozenset({"slmperf", "slm_engine", "energy_meter"})


def select(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Give every performance test its state, check its marks, and skip it where performance tests were not asked for."""
    for item in items:
        marked = item.get_closest_marker(marker.NAME) is not None
        in_vain = _wanted_in_vain(item)
        if not marked and not FIXTURES & set(getattr(item, "fixturenames", ())) and in_vain is None:
            continue
        state = item.stash[TEST] = TestState()
        if in_vain is not None and SESSION in config.stash:
            state.refused = (
                f"unittest.TestCase hands no fixtures to its methods: take {in_vain} in a fixture of the class "
                f"(@pytest.fixture(autouse=True) def take(self, {in_vain}): self.{in_vain} = {in_vain}), or write a "
                "plain function"
            )
        try:
            marker.merged(item)
        except pytest.UsageError as error:
            if not hasattr(config, "workerinput"):
                raise
            state.refused = str(error)
            continue
        if SESSION not in config.stash:
            item.add_marker(pytest.mark.skip(reason=SKIPPED))
    if SESSION in config.stash:
        config.stash[SESSION].notes += unknown_quarantine(config, items)


def _wanted_in_vain(item: pytest.Item) -> str | None:
    """The fixture of this plugin that a method of a unittest.TestCase names as an argument, which unittest never gives."""
    unittest = sys.modules.get("unittest")  # where it was not imported there is no TestCase
    cls, code = getattr(item, "cls", None), getattr(getattr(item, "function", None), "__code__", None)
    if unittest is None or code is None or not (isinstance(cls, type) and issubclass(cls, unittest.TestCase)):
        return None
    return next((name for name in code.co_varnames[: code.co_argcount] if name in FIXTURES), None)


def unknown_quarantine(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    """A note for each quarantine pattern that names no test although its file was collected, or whose file is not there.

    ``items``: all that were collected, before ``-k`` and the like took some away.
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


def will_measure(item: pytest.Item) -> bool:
    """Whether a test will share the time: not one that is known to be skipped or refused before it runs."""
    if TEST not in item.stash or item.stash[TEST].refused or item.get_closest_marker("skip") is not None:
        return False
    return not any(condition is True for mark in item.iter_markers("skipif") for condition in mark.args)


def check_ids(session: PerfSession, items: Sequence[pytest.Item]) -> None:
    """Refuse two tests of one id, and note where ids depend on the command line: an id is the key of a baseline.

    pytest gives such ids to files that lie outside its rootdir (``-c`` with an ini file elsewhere, ``--pyargs``).
    """
    first: dict[str, pytest.Item] = {}
    for item in items:
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
                f"they lie outside the rootdir {session.config.rootpath}; give --rootdir, a folder above them all"
            )
        if not session.is_worker:
            raise pytest.UsageError(problem)
        for one in (other, item):
            one.stash[TEST].refused = problem
    outside = [item for item in items if not item.path.is_relative_to(session.config.rootpath)]
    if outside:
        session.notes.append(
            f"{len(outside)} performance test{'s lie' if len(outside) > 1 else ' lies'} outside the rootdir "
            f"{session.config.rootpath}, so that the id by which a baseline is found depends on how pytest is called; "
            "give --rootdir, a folder above"
        )


def check(session: PerfSession, items: Iterable[pytest.Item]) -> None:
    """Refuse unknown engines, models, engine settings, meters, metrics and export formats. Starts no engine."""
    from pytest_slmperf.pytest_plugin import settings

    base = settings.base_spec(session.config)
    known: dict[EngineSpec, str | None] = {}
    for item in items:
        try:
            mark = marker.merged(item)
            changes = getattr(getattr(item, "callspec", None), "params", {}).get("slm_engine")
            spec = settings.base_spec(session.config, mark)
            if isinstance(changes, Mapping):
                spec = spec.with_settings(**changes)
            chosen = settings.resolve(session.config, item.nodeid, mark, spec)
            chosen.gates(("output_throughput", *(name for name in chosen.limit if name)))
        except InvalidInput as error:
            problem: str | None = f"{item.nodeid}: {error}"
        else:
            if spec not in known:
                known[spec] = _problem(session, spec)
            problem = known[spec]
            if problem is not None and spec != base:
                problem = f"{item.nodeid}: {problem}"
        if problem is None:
            continue
        if not session.is_worker:
            raise pytest.UsageError(problem)
        item.stash[TEST].refused = problem


def _problem(session: PerfSession, spec: EngineSpec) -> str | None:
    """What is wrong with an engine's description, or with what the session asks for beside it."""
    from pytest_slmperf.pytest_plugin import settings

    try:
        session.lab.resolve(spec)
        if against := options.value(session.config, "against"):
            _check_other_side(session, settings.against_spec(spec, against), against)
        for name, _ in options.value(session.config, "export"):
            session.exporter(name)
    except InvalidInput as error:
        return str(error)
    return None


def check_baselines(session: PerfSession, items: Sequence[pytest.Item]) -> None:
    """Read the stored baselines before the first engine starts: one that cannot be read fails each test with its reason.

    All of the names that this session compares with or saves under, whatever the test: their launches tell how noisy the
    machine is, and every verdict rests on that.
    """

    def value(name: str) -> str | None:
        chosen: str | None = options.value(session.config, name)
        return chosen

    try:
        for name in dict.fromkeys(filter(None, (value("baseline"), value("save")))):
            found = session.store.all(name)
            if not found and name == value("baseline"):
                session.notes += other_names(session, name)
            for baseline in found:
                session.notes += unknown_metrics(baseline)
                if name == value("baseline") and session.deadline is not None:
                    expect(session, items, baseline)
    except (SlmperfError, OSError) as error:
        for item in items:
            item.stash[TEST].refused = f"the baselines cannot be read, so nothing was measured: {error}"


def other_names(session: PerfSession, name: str) -> list[str]:
    """A note where no baseline has the name and some have others: it may be a slip."""
    try:
        names = sorted({one.name for one in session.store.all()})
    except SlmperfError:  # of no concern to a session that does not compare with it
        return []
    return [f"no baseline has the name {name!r}; stored are {', '.join(map(repr, names))}"] if names else []


def expect(session: PerfSession, items: Iterable[pytest.Item], baseline: Baseline) -> None:
    """Take down how long a test will take at the least, where its baseline was measured on this machine."""
    from pytest_slmperf.pytest_plugin import settings

    if baseline.newest.launch_s is None or baseline.machine.fingerprint != session.machine.fingerprint:
        return
    for item in items:
        # a test that measures several scenarios adds a part to its id for each further one
        if item.nodeid in (baseline.id, baseline.id.rpartition("::")[0]):
            chosen = settings.resolve(
                session.config, item.nodeid, marker.merged(item), settings.base_spec(session.config)
            )
            sides = 2 if options.value(session.config, "against") else 1
            if chosen.spec.engine == baseline.engine.name:
                seconds = sides * chosen.launches * baseline.newest.launch_s
                session.expected[item.nodeid] = session.expected.get(item.nodeid, 0.0) + seconds


def unknown_metrics(baseline: Baseline) -> list[str]:
    """A note for each metric of a stored baseline that nothing here measures: another version's, or a slip of a hand."""
    from pytest_slmperf.metrics.registry import known, metric

    notes = []
    for name in sorted({name for one in baseline.sessions for name in one.metrics if known(name) is None}):
        try:
            metric(name)
        except InvalidInput as error:
            notes.append(f"baseline {baseline.name!r} of {baseline.id} holds what is not compared: {error}")
    return notes


def _check_other_side(session: PerfSession, spec: EngineSpec, against: str) -> None:
    """Refuse the baseline side of a duet that could not be measured. Starts no engine, but runs its interpreter once."""
    from pytest_slmperf.engines.interpreter import interpreter

    try:
        if spec.python is not None:
            problem = interpreter(spec.python, (), ()).error
            problem = problem or session.lab.registry.get(spec.engine).missing(spec.python)
            if problem is not None:
                raise InvalidInput(problem)
        session.lab.resolve(spec)
    except InvalidInput as error:
        raise InvalidInput(f"--slmperf-against {against}: {error}") from None
