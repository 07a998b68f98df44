"""The gate between an engine and the record: an impossible reading is reported as the engine's fault and never judged.

Times must be finite, in order, and within the call that measured them; counts must be whole and within the request.  The
times of an engine on a virtual clock are computed and only compared with each other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.engines.base import Batch, Engine, RequestTiming, RoundReading
from pytest_slmperf.errors import EngineError
from pytest_slmperf.load.plan import LoadPlan
from pytest_slmperf.load.rows import EngineStatistics, LoadSums, PlayReport, RequestRecord
from pytest_slmperf.metrics.plausible import absurd, finite, shown, whole
from pytest_slmperf.metrics.registry import engine_start_time

SLACK_S = 0.05  # by which a stamp may lie outside the call, for an engine that rounds
LONGEST_S = 1e7  # of a round on a virtual clock
MOST_PID = 2**22  # the kernel's largest
MARGIN = 4096  # tokens that an engine may add to a prompt


class Gate:
    """Checks of one call: ``fail`` raises EngineError, which names the engine and the field."""

    def __init__(self, engine: Engine, began: float) -> None:
        self._engine = engine
        self.virtual = engine.facts.virtual_clock
        self._from, self._until = began - SLACK_S, time.monotonic() + SLACK_S

    def fail(self, field: str, why: str) -> None:
        raise EngineError(
            f"engine {self._engine.spec.engine}: its reading cannot be: {field}: {why}; the engine or its adapter is at "
            "fault, and nothing was judged by it",
            self._engine.log_tail(),
        )

    def require(self, field: str, why: str | None) -> None:
        if why is not None:
            self.fail(field, why)

    def span_ns(self) -> tuple[int, int]:
        """The call, with the slack at both of its ends."""
        return round(self._from * 1e9), round(self._until * 1e9)

    def window(self, start: object, end: object) -> tuple[float, float]:
        """Start and end of a round, in seconds."""
        self.require("t_start", finite(start))
        self.require("t_end", finite(end))
        assert isinstance(start, int | float)
        assert isinstance(end, int | float)
        if not 0 < end - start < LONGEST_S:
            self.fail("t_end", f"the round lasted {shown(end - start)} s; its clock does not run forward, or runs wild")
        if not self.virtual:
            for field, at in (("t_start", start), ("t_end", end)):
                if not self._from <= at <= self._until:
                    off = min(at - self._from, self._until - at)
                    self.fail(field, f"it lies {shown(round(-off, 3))} s outside of the call that measured it")
        return float(start), float(end)

    def statistics(self, preemptions: object, kv_cache_peak: object, mean_running: object) -> None:
        """What an engine reports of itself; each may be None."""
        if preemptions is not None:
            self.require("preemptions", whole(preemptions, 1e9))
        if kv_cache_peak is not None:
            self.require("kv_cache_peak", absurd(kv_cache_peak, "%"))
        if mean_running is not None:
            self.require("mean_running", absurd(mean_running, "count"))

    def evidence(self, evidence: object) -> None:
        """The worker's own use of the machine: names and values, whose numbers are finite."""
        if not isinstance(evidence, Mapping):
            self.fail("evidence", f"{shown(evidence)} is no table of names and values")
            return
        for name, value in evidence.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.require(f"evidence of {shown(name)}", finite(value))


def checked_round(
    engine: Engine, work: Batch, timeout_s: float | None, *, start_at: float | None = None
) -> RoundReading:
    """``engine.generate(work)``, and EngineError where its reading cannot be."""
    began = time.monotonic()
    if start_at is None:
        reading = engine.generate(work, timeout_s)
    else:
        reading = engine.generate(work, timeout_s, start_at=start_at)
    gate = Gate(engine, began)
    if not isinstance(reading, RoundReading):
        gate.fail("generate", f"it gave {type(reading).__name__}, not a RoundReading")
    try:
        _check_round(gate, reading, work)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        gate.fail("generate", f"it is no reading of a round ({error})")
    return reading


def _check_round(gate: Gate, reading: RoundReading, work: Batch) -> None:
    start, end = gate.window(reading.t_start, reading.t_end)
    gate.require("completed", whole(reading.completed))
    gate.require("n_out", whole(reading.n_out))
    gate.require("n_in", whole(reading.n_in, work.batch * (work.input_len + MARGIN)))
    gate.statistics(reading.preemptions, reading.kv_cache_peak, reading.mean_running)
    gate.evidence(reading.evidence)
    _check_requests(gate, reading.requests, start - SLACK_S, end + SLACK_S)
    _check_gaps(gate, reading.itl_s, end - start + SLACK_S)


def _check_requests(gate: Gate, rows: Sequence[RequestTiming], start: float, end: float) -> None:
    for number, row in enumerate(rows):
        field = f"request {number}"
        times = [at for at in (row.t_sent, row.t_first, row.t_last) if at is not None]
        for at in times:
            gate.require(field, finite(at))
        if row.t_sent is None or times != sorted(times):
            gate.fail(field, f"its times are not in order: {shown(times)}")
        if times[0] < start or times[-1] > end:
            gate.fail(field, "its times lie outside of its round")
        gate.require(f"{field}, n_in", whole(row.n_in))
        gate.require(f"{field}, n_out", whole(row.n_out))


def _check_gaps(gate: Gate, gaps: Sequence[float], longest: float) -> None:
    if not gaps:
        return
    gate.require("itl_s", finite(sum(gaps)))
    if min(gaps) < 0 or max(gaps) > longest:
        gate.fail("itl_s", f"gaps from {shown(min(gaps))} to {shown(max(gaps))} s, in a round of {shown(longest)} s")


def checked_report(engine: Engine, load: LoadPlan, timeout_s: float) -> PlayReport:
    """``engine.play(load)``, and EngineError where its report cannot be."""
    began = time.monotonic()
    report = engine.play(load, timeout_s)
    gate = Gate(engine, began)
    if not isinstance(report, PlayReport):
        gate.fail("play", f"it gave {type(report).__name__}, not a PlayReport")
    try:
        _check_report(gate, report, load)
    except (TypeError, ValueError, AttributeError, OverflowError, KeyError) as error:
        gate.fail("play", f"it is no report of a load ({error})")
    return report


def _check_report(gate: Gate, report: PlayReport, load: LoadPlan) -> None:
    start_ns, earliest, latest = report.start_ns, *gate.span_ns()
    gate.require("start_ns", whole(start_ns, 1e30))
    first, last = report.sums.window_ns
    gate.require("window_ns", None if start_ns <= first < last else "it does not run forward from the start")
    if gate.virtual:
        earliest, latest = start_ns, start_ns + round(LONGEST_S * 1e9)
    elif not earliest <= start_ns <= latest:
        gate.fail("start_ns", "it lies outside of the call that measured it")
    engine: EngineStatistics = report.engine
    gate.statistics(engine.preemptions, engine.kv_cache_peak, engine.mean_running)
    gate.evidence(report.evidence)
    _check_sums(gate, report.sums)
    asked = {request.number: request.n_out for request in load.requests}
    for record in report.records:
        _check_record(gate, record, asked, earliest, latest)


def _check_record(
    gate: Gate, record: RequestRecord, asked: Mapping[int, int | None], start_ns: int, end_ns: int
) -> None:
    field = f"request {shown(record.number)}"
    if record.number not in asked:
        gate.fail(field, "none of that number was planned")
    for at in (record.due_ns, record.sent_ns, record.first_ns or 0, record.last_ns or 0):
        gate.require(field, whole(at, 1e30))
    times = [at for at in (record.sent_ns, record.first_ns, record.last_ns) if at]  # 0 or None: it was never sent
    if times != sorted(times):
        gate.fail(field, f"its times are not in order: {shown(times)}")
    if times and not (start_ns <= times[0] and times[-1] <= end_ns):
        gate.fail(field, "its times lie outside of the load")
    gate.require(f"{field}, n_out", whole(record.n_out, asked[record.number] or 1e9))
    gate.require(f"{field}, inside", whole(record.inside, record.n_out))
    if record.n_in is not None:
        gate.require(f"{field}, n_in", whole(record.n_in))


def _check_sums(gate: Gate, sums: LoadSums) -> None:
    for gap, times in sums.gaps:
        gate.require("gaps", whole(gap, 1e18) or whole(times))
    gate.require("gap_sum_ns", whole(sums.gap_sum_ns, 1e24))
    for tokens in sums.tiles:
        gate.require("tiles", whole(tokens))


def read_report(raw: Mapping[str, Any]) -> PlayReport:
    """A PlayReport from a worker's answer. EngineError where it is none."""
    try:
        return PlayReport.from_wire(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"the engine's answer to 'play' is not the report of a load: {error!r}") from error


def read_round(raw: Mapping[str, Any]) -> RoundReading:
    """A RoundReading from a worker's answer. Requests travel as rows, the fields of ``RequestTiming``."""
    try:
        requests = tuple(RequestTiming._make(row) for row in raw.get("requests", ()))
        return RoundReading(
            t_start=raw["t_start"],
            t_end=raw["t_end"],
            n_in=raw["n_in"],
            n_out=raw["n_out"],
            completed=raw["completed"],
            requests=requests,
            itl_s=tuple(raw.get("itl_s", ())),
            preemptions=raw.get("preemptions"),
            kv_cache_peak=raw.get("kv_cache_peak"),
            mean_running=raw.get("mean_running"),
            evidence=dict(raw.get("evidence", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"the engine's answer to 'generate' is not a round: {error!r}") from error


def read_pid(raw: Mapping[str, Any], usual: int | None) -> int | None:
    """The process id in a worker's answer, ``usual`` without one. EngineError for no process: it will get signals."""
    pid: int | None = raw.get("pid", usual)
    if pid is not None and (whole(pid, MOST_PID) or pid < 2):
        raise EngineError(f"the engine's answer to 'create' names process {shown(pid)}, which is none of its own")
    return pid


def read_seconds(raw: Mapping[str, Any], field: str) -> float | None:
    """A time in a worker's answer, None without one. EngineError for what is no time."""
    value = raw.get(field)
    if value is None:
        return None
    if why := finite(value):
        raise EngineError(f"the engine's answer cannot be: {field}: {why}")
    return float(value)


def required(value: float | None, method: str, field: str) -> float:
    """The value. EngineError for None: the worker's answer to ``method`` lacks the field."""
    if value is None:
        raise EngineError(f"the engine's answer to {method!r} has no {field!r}")
    return value


def take_start_time(facts: dict[str, Any], spawned: float) -> float:
    """Seconds from the spawn (CLOCK_MONOTONIC, s) to the first served request, by the facts, from which it takes them."""
    started = read_seconds(facts, "start_time_s")  # only from an engine with a virtual clock
    served = read_seconds(facts, "t_first_served") or time.monotonic()
    seconds = engine_start_time(spawned, served) if started is None else started
    if why := absurd(seconds, "s"):
        raise EngineError(f"the engine's answer to 'start' cannot be: the time that it took: {why}")
    for name in ("start_time_s", "t_first_served"):
        facts.pop(name, None)
    return seconds


def check_facts(raw: Mapping[str, Any]) -> None:
    """EngineError for facts of a started engine that cannot be."""
    longest, pids = raw.get("max_model_len"), raw.get("pids")
    if longest is not None and (why := whole(longest)):
        raise EngineError(f"the engine's answer to 'start' cannot be: max_model_len: {why}")
    if pids is not None and not isinstance(pids, list):
        raise EngineError(f"the engine's answer to 'start' cannot be: pids: {shown(pids)} is no list")
