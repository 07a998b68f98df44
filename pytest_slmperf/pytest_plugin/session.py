"""The performance side of one pytest process: what is shared by all its tests, built when the first one measures."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.measuring.profiles import active
from pytest_slmperf.pytest_plugin import marker, options, settings
from pytest_slmperf.pytest_plugin.setting_table import OPTIONS
from pytest_slmperf.pytest_plugin.stash import TEST
from pytest_slmperf.util.version import __version__

if TYPE_CHECKING:
    from pytest_slmperf.baselines.journal import Journal
    from pytest_slmperf.baselines.lookup import Found
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.measuring.context import Lab, Reporter
    from pytest_slmperf.measuring.noise import History, Noise
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Machine, Result, Results, Session
    from pytest_slmperf.reports.base import Exporter
    from pytest_slmperf.scenarios.base import Scenario
    from pytest_slmperf.scenarios.sweep import Sweep


CRASHED = "???"  # what pytest-xdist gives as the phase of a test whose worker died
_MARGIN = 1.25  # what a launch may take longer today: rounds until it is steady, an engine's start


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PerfSession:
    """State of one pytest process with ``--slmperf``. Heavy parts are imported and built on first use."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.pid = os.getpid()
        self.id = worker_input(config, "slmperf_session_id") or f"{now().replace(':', '')}-{uuid.uuid4().hex[:6]}"
        self.started_at = now()
        self.started = time.monotonic()
        self.tests: list[str] = []  # perf tests of this run, in order
        self.finished: set[str] = set()
        self.least: dict[str, float] = {}  # seconds that each measured test took at the least: its fewest launches
        self.expected: dict[str, float] = {}  # the same by the baselines, before it is measured
        self.collected: list[dict[str, Any]] = []  # results, as they came with the tests' reports
        self.notes: list[str] = []
        self.kept: list[str] = []  # what was saved, for the summary
        self.problems: list[str] = []  # what could not be written, for the summary
        self.is_worker = hasattr(config, "workerinput")
        self._lab: Lab | None = None
        self._measured_until: float | None = None  # on the lab's clock; None in a controller of pytest-xdist

    # --- places --------------------------------------------------------------------------------------------------

    def path(self, name: str, fallback: str | None = None) -> Path:
        """The file that a path option names, or a file of that name in the state folder."""
        given = options.value(self.config, name)
        if given is None:
            return self.state_dir / (fallback or name)
        return Path(options.folder(self.config, name), given)

    @property
    def state_dir(self) -> Path:
        return Path(options.folder(self.config, "state-dir"), options.value(self.config, "state-dir"))

    # --- parts ---------------------------------------------------------------------------------------------------

    @cached_property
    def record(self) -> Session:
        from pytest_slmperf.environment.commit import describe
        from pytest_slmperf.model.result import Session

        against = options.value(self.config, "against")
        given = {name: options.value(self.config, name) for name in OPTIONS}
        shown = {
            name: item for name, item in given.items() if item not in (None, []) and name not in ("endpoint", "set")
        }
        return Session(
            id=self.id,
            started_at=self.started_at,
            plugin_version=__version__,
            commit=describe(self.config.rootpath),
            profile=options.value(self.config, "profile"),
            mode="duet" if against else "stored",
            against=against,
            alpha=options.value(self.config, "alpha"),
            options={name: [list(pair) if isinstance(pair, tuple) else pair for pair in item]
                     if isinstance(item, list) else item for name, item in shown.items()},
            notes=self.notes,
        )  # fmt: skip

    @cached_property
    def machine(self) -> Machine:
        from pytest_slmperf.environment.machine import describe

        return describe()

    @cached_property
    def store(self) -> Store:
        from pytest_slmperf.baselines.open import open_store

        return open_store(options.value(self.config, "baselines"), options.folder(self.config, "baselines"))

    @property
    def lab(self) -> Lab:
        """Engines, meter and clock; the first use starts nothing but builds the pool."""
        if self._lab is None:
            _ = self.machine  # described now: a GPU that is lost in the middle can say nothing of itself afterwards
            from pytest_slmperf.energy.registry import choose
            from pytest_slmperf.engines.pool import EnginePool
            from pytest_slmperf.engines.registry import Registry
            from pytest_slmperf.measuring.bare_idle import BareIdle
            from pytest_slmperf.measuring.context import Lab

            adapters = [adapter for found in reversed(self._hooked("pytest_slmperf_engines")) for adapter in found]
            meters = [meter for found in self._hooked("pytest_slmperf_meters") for meter in found]
            meter = choose(meters, options.value(self.config, "meter"))
            bare_idle = BareIdle(meter)
            registry = Registry(adapters)
            progress = self.reporter()
            pool = EnginePool(
                registry,
                self.state_dir / "logs",
                lambda phrase: progress.update("", phrase),
                start_timeout_s=options.value(self.config, "start-timeout"),
                before_start=bare_idle.before_start,
            )
            self._lab = Lab(
                registry=registry,
                pool=pool,
                meter=meter,
                bare_idle=bare_idle,
                state_dir=self.state_dir,
                session_id=self.id,
                deadline=self.deadline,
                progress=progress,
                annotate=self._annotate,
            )
        return self._lab

    def _annotate(self, result: Result, scenario: Sweep, spec: EngineSpec) -> None:
        """What plugins add to a finished sweep; a plugin that fails costs its charts, and never the measurement."""
        try:
            self.config.hook.pytest_slmperf_annotate(config=self.config, result=result, scenario=scenario, spec=spec)
        except Exception as error:
            result.notes.append(f"a plugin's pytest_slmperf_annotate failed: {type(error).__name__}: {error}")

    def _hooked(self, name: str) -> list[Any]:
        """What all plugins give; InvalidInput names the hook where one of them fails."""
        try:
            found: list[Any] = getattr(self.config.hook, name)(config=self.config)
        except SlmperfError:
            raise
        except Exception as error:
            raise InvalidInput(
                f"a plugin's {name} failed: {type(error).__name__}: {error}; mend it, or leave it out with -p no:NAME"
            ) from error
        return found

    def reporter(self) -> Reporter:
        """Live progress on the terminal; silent under -q, in xdist workers and where pytest has no terminal."""
        from pytest_slmperf.measuring.context import Silent

        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or worker_input(self.config, "workerid") or self.config.get_verbosity() < 0:
            return Silent()
        from pytest_slmperf.reports.terminal.progress import Progress

        writer = terminal._tw
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        uncaptured = capture.global_and_fixture_disabled if capture else nullcontext
        with uncaptured():  # while output is captured, a terminal does not look like one
            live = writer.hasmarkup and writer._file.isatty()
        return Progress(
            writer._file,
            live,
            self.config.get_verbosity(),
            width=writer.fullwidth,
            column=lambda: int(writer.width_of_current_line),
            uncaptured=uncaptured,
        )

    @property
    def deadline(self) -> float | None:
        budget = settings.time_budget(self.config, active().gpu)
        return None if budget is None else self.started + budget

    @cached_property
    def journal(self) -> Journal:
        from pytest_slmperf.baselines.journal import Journal

        return Journal(self.state_dir, self.record, self.machine)

    def exporter(self, name: str) -> Exporter:
        """The exporter of that name; InvalidInput lists the known ones."""
        found: dict[str, Exporter] = {
            exporter.name: exporter
            for group in reversed(self.config.hook.pytest_slmperf_exporters(config=self.config))
            for exporter in group
        }
        if name not in found:
            raise InvalidInput(f"--slmperf-export: unknown format {name!r}; known are {', '.join(sorted(found))}")
        return found[name]

    def header(self) -> str:
        """The line in pytest's header: what will be measured, and against what."""

        def value(name: str) -> Any:
            return options.value(self.config, name)

        spec = settings.base_spec(self.config)
        against = (
            f"duet against {value('against')}"
            if value("against")
            else (f"baseline {value('baseline')!r} in {options.shown_url(value('baselines'))}")
        )
        budget = self.deadline and f", at most {self.deadline - self.started:.0f} s"
        device = settings.device_of(self.config, spec)
        return (
            f"slmperf: {spec.engine} serving {spec.model} on {device}, profile {value('profile')}"
            f"{budget or ''}, {against}"
        )

    def approve_command(self, results: Path | None) -> str | None:
        """What makes these very results the baseline, as the user would type it; None where this session did it."""
        name, place = options.value(self.config, "baseline"), options.value(self.config, "baselines")
        if self.config.getoption("--slmperf-approve") or options.value(self.config, "save") == name:
            return None
        if results is None:  # they were not written: measure again
            return shlex.join(["pytest", *map(str, self.config.invocation_params.args), "--slmperf-approve"])
        words = ["slmperf", "baselines", "approve", str(results), "--reason", "…"]
        words += ["--name", name] if name != "main" else []
        words += ["--baselines", options.shown_url(place)] if place != "baselines" else []
        return shlex.join(words)

    # --- results -------------------------------------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Results arrive with the reports: in the controller under pytest-xdist, in the one process otherwise."""
        if report.when == "teardown":
            self.finished.add(report.nodeid)
        if not self.is_worker:
            self._remember_failure(report)
            found = getattr(report, "slmperf_results", [])
            again = {result["id"] for result in found}  # another plugin ran the test again: its last run counts
            self.collected = [result for result in self.collected if result["id"] not in again] + found

    def _remember_failure(self, report: pytest.TestReport) -> None:
        """A test that failed by no verdict; forgotten where another plugin runs it again."""
        import msgspec

        from pytest_slmperf.model.result import FailedTest

        if report.when == "setup":
            kept = [one for one in self.record.failed_tests if one.id != report.nodeid]
            self.record.failed_tests = kept
        found = getattr(report, "slmperf_failure", None)
        if report.when == CRASHED:  # the worker, and with it what it knew of the test
            found = {"id": report.nodeid, "reason": str(report.longrepr)}
        known = {one.id for one in self.record.failed_tests} if report.when == "call" else set()
        # of failing subtests the first tells why
        if report.failed and found is not None and report.nodeid not in known:
            self.record.failed_tests.append(msgspec.convert(found, FailedTest))

    def results(self) -> Results:
        """All results so far as records."""
        import msgspec

        from pytest_slmperf.model.result import Result, Results

        self.record.finished_at = self.record.finished_at or now()
        found = [msgspec.convert(result, Result) for result in self.collected]
        return Results(session=self.record, machine=self.machine, results=found)

    # --- one test ------------------------------------------------------------------------------------------------

    def measure(self, item: pytest.Item, scenario: Scenario, result_id: str, number: int) -> Result:
        """Measure one scenario of a test and return its record with verdicts. ``number``: 0 for the test's first one."""
        from pytest_slmperf.measuring.choice import measurement_of
        from pytest_slmperf.measuring.measurement import Budget, not_measured

        chosen = settings.resolve(self.config, item.nodeid, marker.merged(item), item.stash[TEST].spec)
        against = options.value(self.config, "against")
        if self.lab.time_left() <= 0:
            return not_measured(self.lab, scenario, chosen, result_id, self.expected.get(item.nodeid))
        budget = Budget(self.lab, *self.shares(item.nodeid, chosen.max_time))
        result: Result = measurement_of(scenario)(
            lab=self.lab,
            scenario=scenario,
            settings=chosen,
            test=result_id,
            alpha=self.alpha_share(number),
            find_baseline=self.find,
            fingerprint=self.fingerprint,
            noise=self.noise,
            budget=budget,
            against=settings.against_spec(chosen.spec, against) if against else None,
        ).run()
        self._measured_until = self.lab.clock()
        result.launch_s = longest = max(budget.launch_seconds, default=None)
        bounded_itself = chosen.max_time is not None and sum(budget.launch_seconds) + (longest or 0.0) > chosen.max_time
        if self.deadline is not None and not bounded_itself:
            result.launches_short = max(0, chosen.launches - len(budget.launch_seconds))
        self.least[item.nodeid] = self.least.get(item.nodeid, 0.0) + sum(budget.launch_seconds[: chosen.launches])
        self._add_cost(result)
        return result

    def _add_cost(self, result: Result) -> None:
        """Cost and emissions, where the user gave a price or the grid's figure: neither is ever guessed."""
        from pytest_slmperf.energy.cost import costs

        per_token = result.metrics.get("energy_per_output_token")
        result.energy.cost = costs(
            result.energy.joules,
            per_token.value if per_token else None,
            options.value(self.config, "price-per-kwh"),
            options.value(self.config, "carbon-g-per-kwh"),
        )

    def alpha_share(self, number: int) -> float:
        """This measurement's share of the session's alpha, all its metrics together (see ``verdicts.plan``)."""
        from pytest_slmperf.judging.launch_planning import alpha_share

        return alpha_share(float(options.value(self.config, "alpha")), max(1, len(self.tests)), number)

    def shares(self, nodeid: str, max_time: float | None) -> tuple[float | None, float | None]:
        """Until when this test may measure, and have its fewest launches: its part of what is left, the tests still to
        come counted in.

        A test that ends early leaves its time to the ones after it.
        """
        now = self.lab.clock()
        own_end = [] if max_time is None else [now + max_time]
        if self.deadline is None:
            return min(own_end, default=None), None
        from pytest_slmperf.judging.launch_planning import seconds_for, seconds_for_the_fewest

        # What nothing is known of may need what the dearest so far did, or what the others are expected to on average.
        average = sum(self.expected.values()) / max(1, len(self.expected))
        unknown = max(self.least.values(), default=average)
        others = [test for test in self.tests if test not in self.finished and test != nodeid]
        own = max(0.0, _MARGIN * self.expected.get(nodeid, unknown) - self.least.get(nodeid, 0.0))
        needs = [self.expected.get(test, unknown) for test in others]
        left, total = self.deadline - now, self.deadline - self.started
        share = seconds_for(left, total, max(1 + len(others), len(self.tests)), own, [_MARGIN * need for need in needs])
        fewest = seconds_for_the_fewest(left, own, needs)
        return min([now + share, *own_end]), min([now + fewest, *own_end])

    def time_note(self, results: Results) -> None:
        """Say which time would have given every test its fewest launches, where this one did not."""
        short = [result for result in results.results if result.launches_short]
        if not short or self.deadline is None:
            return
        known = [result.launch_s for result in results.results if result.launch_s is not None]
        usual = max(known, default=0.0)
        missing = sum(result.launches_short * (result.launch_s or usual) for result in short)
        used = (self._measured_until or time.monotonic()) - self.started
        enough = 10 * math.ceil(1.05 * (used + missing) / 10)
        names = ", ".join(result.id for result in short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
        self.notes.append(
            f"the time ended before every test had its fewest launches ({names}); --slmperf-max-time {enough} would "
            "have done, or fewer tests"
        )

    @cached_property
    def noise(self) -> Noise:
        from pytest_slmperf.measuring.noise import Noise

        return Noise(self._stored_launches)

    def _stored_launches(self, fingerprint: str) -> History:
        """All launches of the baselines taken on this machine with this engine, by test and metric."""
        from pytest_slmperf.baselines.lookup import samples

        return {
            (baseline.id, name): samples(baseline, name)
            for baseline in self.store.all(options.value(self.config, "baseline"))
            if baseline.fingerprint == fingerprint
            for name in baseline.newest.metrics
        }

    def fingerprint(self, result: Result) -> str:
        from pytest_slmperf.environment.fingerprint import of

        return of(self.machine, result.engine)

    def find(self, result: Result) -> Found:
        from pytest_slmperf.baselines.lookup import find

        return find(
            self.store,
            self.machine,
            result,
            options.value(self.config, "baseline"),
            tuple(options.value(self.config, "across")),
            self.record,
        )

    # --- end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop engines and meter. Idempotent; called on every way out, Ctrl-C included."""
        lab, self._lab = self._lab, None
        if lab is None:
            return
        try:
            lab.progress.clear()
            lab.meter.close()
        except Exception as error:  # another package's meter: what was measured is still to be written
            self.notes.append(f"the meter {lab.meter.name} failed when it was closed: {type(error).__name__}: {error}")
        finally:
            lab.pool.close()
            if (
                "pytest_slmperf.engines.sharing.mps" in sys.modules
            ):  # replicas shared a GPU: their server ends after them
                sys.modules["pytest_slmperf.engines.sharing.mps"].stop_shared()


def worker_input(config: pytest.Config, key: str) -> Any:
    """A value that the pytest-xdist controller gave this worker; None outside a worker."""
    return getattr(config, "workerinput", {}).get(key)
