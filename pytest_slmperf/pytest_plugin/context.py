"""The context that all tests of a pytest process share. Each part is built at its first use and closed with the session."""

from __future__ import annotations

import math
import os
import re
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_slmperf import redaction
from pytest_slmperf.energy.base import EnergyMeter
from pytest_slmperf.energy.registry import choose
from pytest_slmperf.engines.launch_host import LaunchHosts
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry
from pytest_slmperf.environment.commit import look_up
from pytest_slmperf.judging.launch_planning import seconds_for, seconds_for_the_fewest
from pytest_slmperf.measuring.context import BareIdle, MeasuringContext, Reporter, Silent, active_profile
from pytest_slmperf.model.result import FailedTest, Result, Session
from pytest_slmperf.pytest_plugin import added_by_plugins, setting_table, settings
from pytest_slmperf.pytest_plugin.interrupts import Interrupts
from pytest_slmperf.pytest_plugin.setting_table import OPTIONS
from pytest_slmperf.util import files
from pytest_slmperf.util.version import __version__

if TYPE_CHECKING:
    from pytest_slmperf.baselines.journal import Journal
    from pytest_slmperf.baselines.provisional import ProvisionalBaselines
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.measuring.judge import History, Noise
    from pytest_slmperf.model.result import Machine
    from pytest_slmperf.pytest_plugin.base_tests import BaseSide


METER_CLOSE_S = 10.0
MOST_LOGS, MOST_DAYS = 64 * 2**20, 90.0  # bytes of engines' logs, and of journals, that earlier sessions have left
SESSION_ID = "SLMPERF_SESSION_ID"  # environment variable


def build_measuring_context(
    config: pytest.Config,
    *,
    session_id: str,
    state_dir: Path,
    deadline: float | None,
    notes: list[str],
    closing: ExitStack,
) -> MeasuringContext:
    """The measuring context of the session; nothing is started yet.

    ``closing`` closes its parts. A failure to close the meter becomes one of ``notes``.
    """
    registry = Registry(added_by_plugins.engine_adapters(config))
    meter = choose(added_by_plugins.energy_meters(config), setting_table.value(config, "meter"))
    asked_for = setting_table.value(config, "meter")
    if asked_for not in (None, "none") and not meter.available:
        notes.append(f"--slmperf-meter {asked_for} measures nothing: {meter.reason}")
    bare_idle = BareIdle(meter)
    progress = progress_display(config)
    for kind in ("logs/*.log", "journal/*.jsonl"):
        files.keep_newest(state_dir, kind, MOST_LOGS, MOST_DAYS)
    pool = EnginePool(
        registry,
        state_dir / "logs",
        lambda phrase: progress.update("", phrase),
        start_timeout_s=setting_table.value(config, "start-timeout"),
        before_start=bare_idle.before_start,
    )
    if setting_table.value(config, "fork") == "auto":
        pool.hosts = LaunchHosts(state_dir / "logs", lambda phrase: progress.update("", phrase), notes.append)
    closing.callback(files.open_logs(state_dir / "logs"))  # the last: engines write until they end
    closing.callback(pool.close)
    closing.callback(_close_meter, meter, notes)
    closing.callback(progress.clear)
    return MeasuringContext(
        registry=registry,
        pool=pool,
        meter=meter,
        bare_idle=bare_idle,
        state_dir=state_dir,
        session_id=session_id,
        deadline=deadline,
        progress=progress,
        annotate=partial(added_by_plugins.annotate, config),
    )


def _close_meter(meter: EnergyMeter, notes: list[str]) -> None:
    """Close the meter. Since it may be another package's, its failures must not prevent the writing of results."""

    def close() -> None:
        try:
            meter.close()
        except Exception as error:
            notes.append(f"the meter {meter.name} failed when it was closed: {type(error).__name__}: {error}")

    thread = threading.Thread(target=close, name="slmperf-meter-close", daemon=True)
    thread.start()
    thread.join(METER_CLOSE_S)
    if thread.is_alive():
        notes.append(f"the meter {meter.name} was not closed within {METER_CLOSE_S:.0f} s, and was left open")


def progress_display(config: pytest.Config) -> Reporter:
    """Live progress on the terminal; silent under -q, in xdist workers and without a terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(config, "workerinput") or config.get_verbosity() < 0:
        return Silent()
    from pytest_slmperf.reports.terminal.progress import Progress

    writer = terminal._tw
    capture = config.pluginmanager.get_plugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled if capture else nullcontext
    with uncaptured():  # captured output does not look like a terminal
        live = writer.hasmarkup and writer._file.isatty()
    return Progress(
        writer._file,
        live,
        config.get_verbosity(),
        width=writer.fullwidth,
        column=lambda: int(writer.width_of_current_line),
        uncaptured=uncaptured,
    )


# The time budget of the session.

MARGIN = 1.25  # factor for launches that take longer than before: rounds until it is steady, an engine's start


@dataclass
class TimeBudget:
    """The session's tests, their expected and measured times, and the time that is left for each.

    ``started`` and ``deadline`` are seconds on the monotonic clock; ``deadline`` None: the session has no time budget.
    """

    started: float
    deadline: float | None
    tests: list[str] = field(default_factory=list)  # performance tests of this run, in order
    finished: set[str] = field(default_factory=set)
    expected: dict[str, float] = field(default_factory=dict)  # minimum seconds per test, by its baseline
    least: dict[str, float] = field(default_factory=dict)  # minimum seconds per test, as measured: its fewest launches
    measured_until: float | None = None  # None in a controller of pytest-xdist

    @property
    def total_s(self) -> float | None:
        """Seconds of the whole session; None without a time budget."""
        return None if self.deadline is None else self.deadline - self.started

    def expect(self, test: str, seconds: float) -> None:
        """Add to the minimum time of a test that its baseline predicts."""
        self.expected[test] = self.expected.get(test, 0.0) + seconds

    def add_measured(self, test: str, launch_seconds: Sequence[float], until: float) -> None:
        """Add the seconds of a test's fewest launches, measured until ``until``."""
        self.least[test] = self.least.get(test, 0.0) + sum(launch_seconds)
        self.measured_until = until

    def ends(self, test: str, max_time: float | None, now: float) -> tuple[float | None, float | None]:
        """(deadline of this test, deadline of its requested launches); None: no deadline.

        A test gets its share of the remaining time, from which later tests profit if it ends early. ``max_time``: the
        test's own limit in seconds.
        """
        own_end = [] if max_time is None else [now + max_time]
        if self.deadline is None:
            return min(own_end, default=None), None
        # An unknown test is budgeted like the slowest measured test, or else like the mean prediction of the baselines.
        average = sum(self.expected.values()) / max(1, len(self.expected))
        unknown = max(self.least.values(), default=average)
        others = [other for other in self.tests if other not in self.finished and other != test]
        own = max(0.0, MARGIN * self.expected.get(test, unknown) - self.least.get(test, 0.0))
        needs = [self.expected.get(other, unknown) for other in others]
        left, total = self.deadline - now, self.deadline - self.started
        share = seconds_for(left, total, max(1 + len(others), len(self.tests)), own, [MARGIN * need for need in needs])
        fewest = seconds_for_the_fewest(left, own, needs)
        return min([now + share, *own_end]), min([now + fewest, *own_end])

    def unfinished_note(self) -> list[str]:
        """A note if the session's time ended before all of its tests."""
        left = [test for test in self.tests if test not in self.finished]
        if not left:
            return []
        return [f"stopped early: {len(left)} of {len(self.tests)} performance tests were not run to their end"]

    def too_short_note(self, results: Sequence[Result], now: float) -> list[str]:
        """A note with the time that every test's requested launches need, if the session's time did not suffice."""
        short = [result for result in results if result.launches_short]
        if not short or self.deadline is None:
            return []
        usual = max((result.launch_s for result in results if result.launch_s is not None), default=0.0)
        missing = sum(result.launches_short * (result.launch_s or usual) for result in short)
        used = (self.measured_until or now) - self.started
        enough = 10 * math.ceil(1.05 * (used + missing) / 10)
        names = ", ".join(result.id for result in short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
        return [
            f"the time ended before every test had its fewest launches ({names}); --slmperf-max-time {enough} would "
            "have done, or fewer tests"
        ]


# The places where a session writes: the state folder, the results file, the report.


def state_dir(config: pytest.Config) -> Path:
    """The folder of reports, logs and the journal."""
    return Path(setting_table.folder(config, "state-dir"), setting_table.value(config, "state-dir"))


def results_file(config: pytest.Config) -> Path:
    return _file(config, "json", "results.json")


def report_file(config: pytest.Config) -> Path:
    return _file(config, "html", "report.html")


def _file(config: pytest.Config, option: str, usual: str) -> Path:
    """The file of a path option, or else its default in the state folder."""
    given = setting_table.value(config, option)
    return state_dir(config) / usual if given is None else Path(setting_table.folder(config, option), given)


def now() -> str:
    """UTC in ISO 8601 with a Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _own_id() -> str:
    """A new id, or that which a CI job has handed in to know the results by; sessions started from here have their own."""
    given = os.environ.pop(SESSION_ID, "")
    return given if re.fullmatch(r"[\w.-]{8,80}", given) else f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}"


class SessionContext:
    """The measuring context, the stores and the records of one pytest process with ``--slmperf``.

    In a worker of pytest-xdist, ``id`` is the controller's.
    """

    def __init__(self, config: pytest.Config) -> None:
        worker_input = getattr(config, "workerinput", {})  # pytest-xdist sets it in its workers only
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.pid = os.getpid()
        self.id: str = worker_input.get("slmperf_session_id") or _own_id()
        self.started_at = now()
        started = time.monotonic()
        seconds = settings.time_budget(config, active_profile().gpu)
        self.budget = TimeBudget(started, None if seconds is None else started + seconds)
        self.notes: list[str] = []
        self.failed_tests: list[FailedTest] = []
        self._measuring: MeasuringContext | None = None
        self.closing = ExitStack()
        self.base: BaseSide | None = None  # of --slmperf-against merge-base
        self.interrupts = Interrupts(self.hurry)

    @cached_property
    def state_dir(self) -> Path:
        return state_dir(self.config)

    @cached_property
    def record(self) -> Session:
        return session_record(
            self.config,
            session_id=self.id,
            started_at=self.started_at,
            notes=self.notes,
            failed_tests=self.failed_tests,
        )

    @cached_property
    def machine(self) -> Machine:
        from pytest_slmperf.environment.fingerprint import describe_machine

        return describe_machine()

    @cached_property
    def store(self) -> Store:
        from pytest_slmperf.baselines.open import open_store

        return open_store(setting_table.value(self.config, "baselines"), setting_table.folder(self.config, "baselines"))

    @cached_property
    def provisional(self) -> ProvisionalBaselines | None:
        """This machine's own baselines; None where none are compared with or kept."""
        from pytest_slmperf.baselines.provisional import ProvisionalBaselines

        when = setting_table.value(self.config, "provisional")
        refused = self.config.getoption("--slmperf-no-local") or setting_table.value(self.config, "against")
        if refused or when == "never" or (when == "auto" and os.environ.get("CI")):
            return None
        return ProvisionalBaselines(self.config.rootpath, self.notes.append)

    @cached_property
    def journal(self) -> Journal:
        from pytest_slmperf.baselines.journal import Journal

        return Journal(self.state_dir, self.record, self.machine)

    @property
    def measuring(self) -> MeasuringContext:
        """Engines, meter and clock; the first use builds the pool and starts nothing."""
        if self._measuring is None:
            _ = self.machine  # described now, since a GPU that is lost later cannot be described
            self._measuring = build_measuring_context(
                self.config,
                session_id=self.id,
                state_dir=self.state_dir,
                deadline=self.budget.deadline,
                notes=self.notes,
                closing=self.closing,
            )
        return self._measuring

    @cached_property
    def noise(self) -> Noise:
        from pytest_slmperf.measuring.judge import Noise

        return Noise(self._stored_launches)

    def _stored_launches(self, fingerprint: str) -> History:
        """All launches of the baselines of this machine and engine, by test and metric."""
        from pytest_slmperf.baselines.lookup import samples

        stored = self.store.all(setting_table.value(self.config, "baseline"))
        known = {baseline.id for baseline in stored if baseline.fingerprint == fingerprint}
        own = [] if self.provisional is None else self.provisional.readable()
        return {
            (baseline.id, name): samples(baseline, name)
            for baseline in [*stored, *(baseline for baseline in own if baseline.id not in known)]
            if baseline.fingerprint == fingerprint
            for name in baseline.newest.metrics
        }

    def hurry(self) -> None:
        """Kill the engines of an interrupted session, before ``close``."""
        if self._measuring is not None:
            self._measuring.pool.hurry()

    def close(self) -> None:
        """Stop engines and meter. Idempotent; called on every way out, Ctrl-C included."""
        self._measuring = None
        self.closing.close()


CONTEXT: pytest.StashKey[SessionContext] = pytest.StashKey()


# The record of the session itself.

SECRET = ("endpoint", "set")  # may hold a key


def session_record(
    config: pytest.Config, *, session_id: str, started_at: str, notes: list[str], failed_tests: list[FailedTest]
) -> Session:
    """The session's record. It contains the lists ``notes`` and ``failed_tests`` themselves, including later additions."""
    against = setting_table.value(config, "against")
    commit, note = look_up(config.rootpath)
    if note is not None:
        notes.append(note)
    return Session(
        id=session_id,
        started_at=started_at,
        plugin_version=__version__,
        commit=commit,
        profile=setting_table.value(config, "profile"),
        mode="duet" if against else "stored",
        against=None if against is None else redaction.hide(against),
        alpha=setting_table.value(config, "alpha"),
        options=_given_options(config),
        notes=notes,
        failed_tests=failed_tests,
    )


def _given_options(config: pytest.Config) -> dict[str, Any]:
    values = {name: setting_table.value(config, name) for name in OPTIONS}
    return {
        name: [list(item) if isinstance(item, tuple) else item for item in value]
        if isinstance(value, list)
        else redaction.hide(value)
        if isinstance(value, str)
        else value
        for name, value in values.items()
        if value not in (None, []) and name not in SECRET
    }
