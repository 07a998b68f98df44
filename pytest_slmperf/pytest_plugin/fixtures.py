"""The fixtures a perf test uses: ``slmperf``, ``slm_engine``, ``energy_meter``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_slmperf.measuring.handle import Measurement
from pytest_slmperf.pytest_plugin.test_state import SKIPPED, TEST, TestState

if TYPE_CHECKING:
    from pytest_slmperf.energy.base import EnergyMeter
    from pytest_slmperf.engines.base import Engine
    from pytest_slmperf.frontier.advisor import Advice
    from pytest_slmperf.measuring.studies.replication import MeasuredReplication
    from pytest_slmperf.measuring.studies.rising_rates import MeasuredRates
    from pytest_slmperf.measuring.studies.sweep_result import MeasuredSweep
    from pytest_slmperf.model.engine_spec import EngineSpec
    from pytest_slmperf.model.result import Result
    from pytest_slmperf.pytest_plugin.context import SessionContext
    from pytest_slmperf.scenarios.base import Scenario


_TOO_LATE = (
    "slmperf measures in the body of a test or in the setup of its fixtures: this test has ended and has its verdict, and "
    "what is measured in its teardown would be judged by nobody"
)


class EngineRef:
    """The engine of a test: described at once, started when first used, then resident for the session."""

    def __init__(self, context: SessionContext, spec: EngineSpec) -> None:
        self._context = context
        self.spec = spec

    @property
    def engine(self) -> Engine:
        """The running engine (launch 0 of its specification)."""
        lab = self._context.lab
        return lab.pool.acquire(lab.resolve(self.spec), 0)

    @property
    def facts(self) -> dict[str, Any]:
        """What the engine says of itself: version, device, weights, dtype, …"""
        return self.engine.facts

    def __repr__(self) -> str:
        return f"<{self.spec.engine} serving {self.spec.model}>"


class Slmperf:
    """Measures scenarios and records their results. Each call compares with the baseline; the test fails at its end."""

    def __init__(self, context: SessionContext, item: pytest.Item) -> None:
        self._context = context
        self._item = item
        self._number = 0
        self._ids: set[str] = set()
        self._open_id: str | None = None  # of what is being measured and has no result yet

    def offline(
        self, *, batch: int, input_len: int, output_len: int, seed: int = 0, name: str | None = None
    ) -> Measurement:
        """So many requests handed over at once, lengths in tokens, EOS ignored: throughput, latency, energy."""
        from pytest_slmperf.scenarios.offline import Offline

        return self.measure(Offline(batch, input_len, output_len, seed), name)

    def serving(self, *, name: str | None = None, **load: Any) -> Measurement:
        """Requests by a schedule: latency from the moment each was due, goodput under an SLO.

        ``rate=5.0`` (open loop) or ``concurrency=16`` (closed), ``input_len=`` and ``output_len=`` or ``workload=``,
        ``duration_s=`` (after ``warmup_s=``) or ``num_requests=``, ``slo={"ttft": 200, "tpot": 50}`` in ms, and what else
        ``pytest_slmperf.scenarios.serving_options.scenario`` and ``scenarios.serving.Serving`` take.
        """
        from pytest_slmperf.scenarios.serving_options import scenario

        return self.measure(scenario(**load), name)

    def serving_sweep(
        self, *, rate: float | Sequence[float], keep_up: float = 0.9, name: str | None = None, **load: Any
    ) -> MeasuredRates:
        """``serving`` at rising rates up to saturation: ``serving_sweep(rate=1.0, duration_s=10, input_len=…, …)``.

        ``rate`` is the first, doubled from there on, or a rising list; each rate is a result of its own.  It ends behind
        the first at which fewer than ``keep_up`` of the requests due in the window were completed in it.
        """
        from pytest_slmperf.errors import InvalidInput
        from pytest_slmperf.measuring.studies.rising_rates import measure_rates

        if load.get("duration_s") is None:
            raise InvalidInput("slmperf.serving_sweep: needs duration_s, the window of each rate")
        prefix = f"{name}-" if name else ""
        load.setdefault(
            "tolerated_failures", 1.0
        )  # beyond saturation requests run out of time, and that is the finding
        return measure_rates(lambda one: self.serving(rate=one, name=f"{prefix}rate={one:g}", **load), rate, keep_up)

    def cold_start(self, *, name: str | None = None) -> Measurement:
        """Process spawn to first request served, each launch a fresh process."""
        from pytest_slmperf.scenarios.cold_start import ColdStart

        return self.measure(ColdStart(), name)

    def sweep(
        self, *, name: str | None = None, adaptive: bool = True, latency: str = "itl_mean", **settings: Any
    ) -> MeasuredSweep:
        """One scenario at several values: ``sweep(batch=[1, 4, 16], input_len=32, output_len=32)``.

        Lists are what varies (work or any engine setting), single values stay; see ``scenarios.sweep.Sweep.of``.
        One verdict for the whole: did the frontier of throughput and latency move back anywhere that matters.
        """
        from pytest_slmperf.measuring.studies.sweep_result import MeasuredSweep, mark_advice
        from pytest_slmperf.pytest_plugin.record_result import write_to_journal
        from pytest_slmperf.scenarios.sweep import Sweep

        scenario = Sweep.of(settings, adaptive=adaptive, latency=latency)
        result = self.measure(scenario, name).result

        def record_advice(advice: Advice) -> None:
            mark_advice(result, advice)
            write_to_journal(self._context.journal, result)

        return MeasuredSweep(scenario, result, lambda one, label: self.measure(one, label).result, record_advice)

    def replicas(self, k: int, *, name: str | None = None, **settings: Any) -> Measurement:
        """K engines of the specification on one device, as one: ``replicas(2, sharing="mps", batch=256, …)``.

        See ``scenarios.replication.Replication`` for the settings.
        """
        from pytest_slmperf.scenarios.replication import Replication

        return self.measure(Replication.of(k, settings), name)

    def replication(
        self,
        k: Sequence[int] | Literal["auto"] = "auto",
        *,
        least_gain: float = 0.02,
        fair: bool = True,
        **settings: Any,
    ) -> MeasuredReplication:
        """Several K with equal memory and equal work, each a result of its own, and the fair baselines of one engine.

        "auto" doubles K until another replica adds less than ``least_gain``.  A K that is too large for the memory ends
        it: ``points`` and the last result's notes say why.  Where another reason keeps a K from running, the test fails.
        """
        from pytest_slmperf.measuring.studies.replication import measure_replication
        from pytest_slmperf.pytest_plugin import marker, options
        from pytest_slmperf.pytest_plugin.record_result import write_to_journal
        from pytest_slmperf.pytest_plugin.settings import base_spec
        from pytest_slmperf.scenarios.replication import Replication

        spec = self._item.stash[TEST].spec or base_spec(self._item.config, marker.merged(self._item))
        lab = self._context.lab

        def budget(scenario: Replication) -> int | None:
            """All of the device's memory; half of it in a duet, whose other side has the same."""
            duet = options.value(self._item.config, "against")
            one = scenario.spec(spec)
            return lab.resolve(one).kv_cache_tokens if duet else lab.kv_tokens_alone(one)

        scenario = Replication.of(1, settings)
        with self._told(scenario):
            found = measure_replication(
                scenario,
                k,
                self._measured,
                least_gain=least_gain,
                fair=fair,
                vllm=spec.engine == "vllm",
                kv_budget=budget,
            )
        last = self._item.stash[TEST].results[-1]
        last.charts["replication"] = found.rows()
        last.notes += found.notes
        write_to_journal(self._context.journal, last)
        return found

    def measure(self, scenario: Scenario, name: str | None = None) -> Measurement:
        """Measure any scenario. ``name`` tells several scenarios of one test apart; without it they are numbered."""
        with self._told(scenario):
            return Measurement(self._measured(scenario, name))

    @contextmanager
    def _told(self, scenario: Scenario) -> Iterator[None]:
        """What keeps a scenario from being measured is recorded, so that every report shows it, and fails the test."""
        from pytest_slmperf.errors import NotMeasured, SlmperfError
        from pytest_slmperf.pytest_plugin.record_result import record_failure

        self._open_id = None
        try:
            yield
        except NotMeasured:  # asked of a result that was recorded: inconclusive
            raise
        except SlmperfError as error:
            # Written for the user: what is wrong and the mend. Frames of this package would only hide it.
            record_failure(self._context.journal, self._item, scenario, self._failed_id(), error)
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        except Exception as error:
            record_failure(self._context.journal, self._item, scenario, self._failed_id(), error)
            raise

    def _measured(self, scenario: Scenario, name: str | None) -> Result:
        """Measure and record; an error is the caller's to record or to bear."""
        from pytest_slmperf.pytest_plugin.measure_scenario import measure_scenario
        from pytest_slmperf.pytest_plugin.record_result import record_result

        if self._item.stash[TEST].ended:
            pytest.fail(_TOO_LATE, pytrace=False)
        number, self._number = self._number, self._number + 1
        self._open_id = self._new_id(name, number)
        try:
            result = measure_scenario(self._context, self._item, scenario, self._open_id, number)
        except KeyboardInterrupt as stop:
            if (measured := getattr(stop, "result", None)) is not None:  # a sweep: the points there are
                record_result(self._context.journal, self._item, measured)
            raise
        finally:
            self._context.lab.progress.clear()
        record_result(self._context.journal, self._item, result)
        self._open_id = None
        return result

    def _failed_id(self) -> str:
        """Of what failed: what was being measured, or something new where it failed before or after it measured."""
        return self._open_id or self._new_id(None, self._number)

    def _new_id(self, name: str | None, number: int) -> str:
        """The result's id, unlike every other of this test: a name used again is numbered, as scenarios without one are."""
        first = self._item.nodeid + (f"::{name}" if name else f"#{number + 1}" if number else "")
        found = first
        for again in itertools.count(2):
            if found not in self._ids:
                break
            found = f"{first}#{again}"
        self._ids.add(found)
        return found


@pytest.fixture
def slm_engine(request: pytest.FixtureRequest) -> EngineRef:
    """The engine under test, resident for the session and pooled by its specification.

    Parametrize it indirectly with a mapping to change fields of the specification or engine arguments:
    ``@pytest.mark.parametrize("slm_engine", [{"model": "opt-350m"}], indirect=True)``.
    """
    from pytest_slmperf.pytest_plugin import marker, settings

    context = _context(request, "slm_engine")
    spec = settings.base_spec(request.config, marker.merged(request.node))
    changes = getattr(request, "param", None)
    if changes is not None:
        spec = spec.with_settings(**changes)
        request.node.stash[TEST].spec = spec
    return EngineRef(context, spec)


@pytest.fixture
def energy_meter(request: pytest.FixtureRequest) -> EnergyMeter:
    """The energy meter of the session; ``available`` is False and ``reason`` says why where there is none."""
    return _context(request, "energy_meter").lab.meter


@pytest.fixture
def slmperf(request: pytest.FixtureRequest) -> Slmperf:
    """Measures a scenario, records its result, compares it with the baseline."""
    return Slmperf(_context(request, "slmperf"), request.node)


def _context(request: pytest.FixtureRequest, name: str) -> SessionContext:
    """The session's context, after noting that the test was given this fixture.

    ``getfixturevalue`` may bring it without the signature saying so, and only then is the test known to be a performance
    test; without ``--slmperf`` it is skipped here.
    """
    if not request.config.getoption("--slmperf"):
        pytest.skip(SKIPPED)
    from pytest_slmperf.pytest_plugin.context import CONTEXT

    request.node.stash.setdefault(TEST, TestState()).used.add(name)
    return request.config.stash[CONTEXT]
