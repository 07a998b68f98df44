"""One launch of one side: its rounds with their evidence, the warm-up, and replacements for disturbed rounds."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_slmperf.energy.base import EnergyReading, Watch
from pytest_slmperf.energy.registry import meter_of_engine
from pytest_slmperf.energy.round_energy import of_rounds, relative_bound
from pytest_slmperf.environment import evidence
from pytest_slmperf.errors import EngineError
from pytest_slmperf.judging.launch_planning import rounds_wanted
from pytest_slmperf.measuring.context import MeasuringContext, Settings
from pytest_slmperf.measuring.evidence_checks import (
    DEFAULT_LIMITS,
    LEAST,
    Limits,
    judge_rounds,
    may_measure_again,
    steady_state,
)
from pytest_slmperf.metrics.plausible import absurd
from pytest_slmperf.metrics.registry import known
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Launch, Round
from pytest_slmperf.scenarios.base import RoundOutcome, Scenario
from pytest_slmperf.util.formatting import number, portion

IDLE_S = 0.5  # idle seconds before and after each launch's rounds
MAX_WARMUP = 12  # rounds; a fresh vLLM CPU engine is slow in its first three or four
TURN_TICKS = 10  # ticks of the meter in one turn of a duet, of which two are lost at the edges
GIVE_UP_AFTER_S, GIVE_UP_RATIO = 10.0, 10  # give up if after 10 s the bound is still 10 times the requested bound
# Check the bound at most every 20 times the cost of a check, and at least every 0.5 s.
CHECK_TIMES, MOST_BETWEEN_CHECKS_S = 20, 0.5
MOST_FOR_BOUND_S = 30.0  # limit for rounds that only the energy bound needs: some devices cannot reach it


@dataclass
class Measured:
    """A finished launch: its record, and the data for further records.

    ``outcomes``: the rounds that count, in order. ``unfit``: why the launch must not be used (more rounds were disturbed
    than may be repeated).
    """

    launch: Launch
    outcomes: list[RoundOutcome] = field(default_factory=list)
    energy: EnergyReading | None = None  # over all rounds that count, together
    energy_reason: str | None = None
    energy_own: bool = False  # only the devices of the engine are counted
    idle_before: float | None = None
    idle_after: float | None = None
    idle_bare: float | None = None
    energy_facts: dict[str, str | None] = field(default_factory=dict)  # repeats, counted, idle_bare_reason
    trace: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    log_tail: str = ""
    unfit: str | None = None
    notes: list[str] = field(default_factory=list)


class LaunchRun:
    """Measures one launch, round by round, so that the rounds of two sides can be interleaved.

    ``warm``: the engine has measured another point in this launch; one round adjusts it to the new point.
    """

    def __init__(
        self,
        context: MeasuringContext,
        scenario: Scenario,
        settings: Settings,
        spec: EngineSpec,
        index: int,
        test: str,
        side: Literal["candidate", "baseline"] = "candidate",
        limits: Limits = DEFAULT_LIMITS,
        *,
        warm: bool = False,
    ) -> None:
        self.limits = replace(limits, **settings.evidence_limits)  # type: ignore[arg-type]
        self.context, self.scenario, self.settings, self.spec, self.test = context, scenario, settings, spec, test
        self.measured = Measured(Launch(index=index, side=side, session=context.session_id))
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self._all: list[RoundOutcome] = []
        self._extra: tuple[float, int] | None = None  # (time, rounds) since which only the energy bound is missing
        self._given_up = False
        self._next_check = float("-inf")  # time of the next check of the energy bound
        self._turn_s = 0.0
        # The first round of a launch does one-time work and never counts.
        self._warmup = 1 if scenario.needs_warmup else 0
        self._steady = not scenario.needs_warmup
        self._warm = warm

    def __enter__(self) -> LaunchRun:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                self._finish()
        finally:
            self._stack.close()

    def _open(self) -> None:
        launch = self.measured.launch
        self.context.progress.update(self.test, "engine starting", estimate=f"launch {launch.index + 1}")
        self.scenario.prepare(self.spec, launch.index, self.context.engines)
        self._before_start = evidence.snapshot()
        self.engine = self._stack.enter_context(self.scenario.engine(self.spec, launch.index, self.context.engines))
        self._stack.enter_context(self.context.pool.measuring(self.spec))
        self.measured.facts = dict(self.engine.facts)
        launch.start_time_s = self.engine.start_time_s
        launch.host = self.engine.host
        self._virtual = self.engine.facts.virtual_clock
        self._pids = list(self.engine.facts.pids)
        self._open_watch()
        if self.scenario.needs_warmup:
            self.engine.reset_caches()

    def _open_watch(self) -> None:
        meter = self.context.meter
        if not self.scenario.measures_energy:
            self.measured.energy_reason = f"a {self.scenario.kind} scenario measures no energy"
        elif not meter.available:
            self.measured.energy_reason = meter.reason
        elif self._virtual:
            self.measured.energy_reason = "the simulated engine ran on a virtual clock, on which no meter runs"
        else:
            whole = meter
            meter, which = meter_of_engine(meter, self.spec)
            self._meter, self.measured.energy_own = meter, meter is not whole
            names = [str(device["name"]) for device in meter.devices()]
            self.measured.idle_bare, why = self.context.bare_idle.of(names)
            self.measured.energy_facts = {"counted": which, "idle_bare_reason": why}
            self.measured.idle_before = meter.idle_power_w(IDLE_S)
            self._watch = self._stack.enter_context(meter.watch())
            self._turn_s = TURN_TICKS * max((device.get("tick_s") or 0.0 for device in meter.devices()), default=0.0)

    def _checked_round(self) -> RoundOutcome:
        """One round of the scenario. EngineError for an impossible figure, whatever its source."""
        outcome = self.scenario.round(self.engine, self.settings.round_timeout)
        for name, value in outcome.values.items():
            registered = known(name)
            if reason := absurd(value, "" if registered is None else registered.unit):
                raise EngineError(f"the round's {name} cannot be: {reason}; nothing was judged by it")
        return outcome

    def round(self) -> None:
        """Measure one round and classify all rounds so far: warm-up, disturbed, or counting."""
        if self._virtual:  # nothing on this machine can disturb a computed round
            outcome = self._checked_round()
            seen = dict(outcome.evidence)
        else:
            # The start of the engine belongs to the single round of a cold start, and so do disturbances of the start.
            before = self._before_start if self.scenario.starts_engine else evidence.snapshot(self._pids)
            outcome = self._checked_round()
            seen = evidence.delta(before, evidence.snapshot(self._pids)) | outcome.evidence
        if outcome.preemptions is not None:
            seen["preemptions"] = outcome.preemptions
        if self._watch is not None:
            seen = evidence.with_devices(seen, self._watch.details(outcome.t_start, outcome.t_end))
        self._all.append(outcome)
        self.measured.launch.rounds.append(
            Round(t_start=outcome.t_start, t_end=outcome.t_end, values=dict(outcome.values), evidence=seen)
        )
        self._judge()
        self._tell(outcome)

    def _tell(self, outcome: RoundOutcome) -> None:
        """Show the progress: rounds done, the least number of rounds of this launch, and the remaining seconds."""
        name, value = next(iter(outcome.values.items()), ("", 0.0))
        shown = f"{name} {number(value)}"
        phase, done, total = "rounds", len(self._kept()), self.rounds_wanted
        if not self._steady:  # during warm-up: at best, all rounds but the first will count
            phase, done, total = "warm-up", len(self._all), max(1 + total, 1 + len(self._all))
        elif self._extra is not None:  # the number of further rounds depends on the meter's ticks
            self.context.progress.update(self.test, "rounds until the energy bound is reached:", done, 0, shown)
            return
        each = 0.0 if self._virtual else outcome.t_end - outcome.t_start
        self.context.progress.update(self.test, phase, done, total, shown, left_s=max(0, total - done) * each or None)

    def turn(self) -> None:
        """This side's turn in a duet: one round, or as many successive rounds as the meter needs to see several ticks."""
        began = self.context.clock()
        self.round()
        while self.context.clock() - began < self._turn_s and self.wants_more():
            self.round()

    @property
    def rounds_wanted(self) -> int:
        """Number of clean rounds that this launch needs: more if rounds scatter, up to the settings' limit."""
        least, most = self.settings.rounds, self.settings.most_rounds
        if self.scenario.rounds_per_launch:
            return self.scenario.rounds_per_launch
        kept = self._kept()
        if most <= least or len(kept) < least:
            return least
        return rounds_wanted([self._all[n].t_end - self._all[n].t_start for n in kept], least=least, most=most)

    def _judge(self) -> None:
        rounds = self.measured.launch.rounds
        reasons = judge_rounds([round_.evidence for round_ in rounds], self.limits)
        for round_, outcome, reason in zip(rounds, self._all, reasons, strict=True):
            round_.contaminated = outcome.contaminated or reason
        if self.scenario.needs_warmup:
            seconds = [
                round_.t_end - round_.t_start
                for number, round_ in enumerate(rounds)
                if number > 0 and round_.contaminated is None
            ]
            steady = steady_state(seconds, least=max(2, min(LEAST, self.rounds_wanted)))
            self._steady = steady.steady
            self._note = steady.reason
            # ``steady.warmup`` counts from the first clean round after the very first round.
            self._warmup = 1 + self._position(steady.warmup if steady.steady else 0)
        if self._warm:
            self._steady = True
            self._warmup = 1 + self._position(0)

    def _position(self, clean: int) -> int:
        """Rounds between the first round and the clean round number ``clean``."""
        later = self.measured.launch.rounds[1:]
        for position, round_ in enumerate(later):
            if round_.contaminated is None:
                if clean == 0:
                    return position
                clean -= 1
        return len(later)

    def _kept(self) -> list[int]:
        """Indices of the rounds that count: after the warm-up and not disturbed."""
        rounds = self.measured.launch.rounds
        return [number for number in range(self._warmup, len(rounds)) if rounds[number].contaminated is None]

    def wants_more(self) -> bool:
        """True while the launch needs further rounds and may still measure them."""
        rounds = self.measured.launch.rounds
        if rounds and self.context.time_left() <= 0:
            return False
        spoiled = sum(1 for round_ in rounds if round_.contaminated is not None)
        if len(self._kept()) < self.rounds_wanted:
            return len(rounds) - spoiled < self.rounds_wanted + MAX_WARMUP and may_measure_again(
                spoiled, self.rounds_wanted
            )
        if not self._steady and len(rounds) - spoiled < self.rounds_wanted + MAX_WARMUP:
            return may_measure_again(spoiled, self.rounds_wanted)
        return self._more_for_energy()

    def _windows(self) -> list[tuple[float, float]]:
        return [(self._all[number].t_start, self._all[number].t_end) for number in self._kept()]

    def _more_for_energy(self) -> bool:
        """True while the launch's rounds together miss the requested energy bound and there is time to repeat rounds."""
        windows = self._windows()
        if self._watch is None or not windows:
            return False
        began = self.context.clock()
        if began < self._next_check:
            return True
        bound = relative_bound(self._watch, windows)
        if bound is None:
            return False  # further rounds do not help without a reading; the record has the reason
        since, _ = self._extra = self._extra or (self.context.clock(), len(windows))
        seconds, asked = self.context.clock() - since, self.settings.energy_bound
        hopeless = seconds > GIVE_UP_AFTER_S and bound > GIVE_UP_RATIO * asked
        self._given_up = bound > asked and (hopeless or seconds > MOST_FOR_BOUND_S)
        if bound <= asked or self._given_up:
            return False
        # A check costs more with every round, and the meter sees it as a gap between two rounds.
        now = self.context.clock()
        self._next_check = now + min(MOST_BETWEEN_CHECKS_S, CHECK_TIMES * (now - began))
        return True

    def _repeats(self, reading: EnergyReading, rounds: int) -> str | None:
        """A sentence on whether the launch's energy reached its bound, with the further rounds or why they ended."""
        if not reading.joules or reading.bound_j is None:
            return None
        bound, asked = reading.bound_j / reading.joules, self.settings.energy_bound
        extra = rounds - self._extra[1] if self._extra else 0
        more = f"after {extra} further rounds" if extra else "without further rounds"
        out_of_time = "the time ended" if self.context.time_left() <= 0 else "bound missed by the last tick"
        ended = "given up" if self._given_up else out_of_time
        return f"{'bound reached' if bound <= asked else ended} {more} ({portion(bound)}, asked for {portion(asked)})"

    def _finish(self) -> None:
        measured, kept = self.measured, self._kept()
        measured.outcomes = [self._all[number] for number in kept]
        measured.launch.warmup_rounds = self._warmup
        spoiled = [round_.contaminated for round_ in measured.launch.rounds if round_.contaminated is not None]
        if len(kept) < self.rounds_wanted and spoiled:
            measured.unfit = f"{len(spoiled)} of {len(measured.launch.rounds)} rounds were disturbed: {spoiled[-1]}"
        elif len(kept) < self.rounds_wanted:
            measured.unfit = f"the session's time ended after {len(kept)} of {self.rounds_wanted} rounds"
        elif not self._steady:
            measured.notes.append(f"launch {measured.launch.index + 1}: {self._note}")
        if self._watch is not None:
            windows = self._windows()
            if windows:
                measured.energy = of_rounds(self._watch, windows)
                measured.energy_facts["repeats"] = self._repeats(measured.energy, len(windows))
            measured.trace = self._watch.trace()
            measured.idle_after = self._meter.idle_power_w(IDLE_S)
        measured.log_tail = self.engine.log_tail()
