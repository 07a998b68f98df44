"""The result of ``slmperf.replication``: throughput by number of replicas, fair baselines, the largest useful K."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pytest_slmperf.devices.selection import TooFewSlices
from pytest_slmperf.errors import EngineError, EngineMissing, InvalidInput, OutOfMemory
from pytest_slmperf.frontier.replication import ReplicaPoint, Useful, cannot_run, gains, largest_useful
from pytest_slmperf.model.charts import ReplicationRow
from pytest_slmperf.model.defaults import LEAST_GAIN
from pytest_slmperf.model.result import Result
from pytest_slmperf.scenarios.offline import whole
from pytest_slmperf.scenarios.replication import Replication

ROW_METRICS = ("output_throughput", "itl_mean", "energy_per_output_token", "kv_cache_peak", "fairness")
AUTO = (1, 2, 4, 8, 16)
Measure = Callable[[Replication, str], Result]


class MeasuredReplication:
    """Replication measured at several K with equal memory and equal work."""

    def __init__(self) -> None:
        self.results: dict[int, Result] = {}
        self.points: list[ReplicaPoint] = []
        self.baselines: dict[str, Result] = {}
        self.least_gain = LEAST_GAIN
        self.notes: list[str] = []

    @property
    def complete(self) -> bool:
        """Whether every number of replicas that ran has a reading (on a disturbed machine some may not)."""
        return bool(self.points) and all(point.output_throughput is not None or point.failure for point in self.points)

    @property
    def useful(self) -> Useful:
        """The largest useful K, and why more is not useful. NotMeasured, which ends the test as inconclusive, if a reading
        is missing."""
        self._need(*self.results)
        return largest_useful(self.points, self.least_gain)

    def throughput(self, replicas: int) -> float:
        """Output tok/s of all replicas together. LookupError if this K was not measured; if the machine was too disturbed,
        its subclass NotMeasured, which ends the test as inconclusive."""
        self._need(replicas)
        for point in self.points:
            if point.replicas == replicas and point.output_throughput is not None:
                return point.output_throughput
        raise LookupError(
            f"{replicas} replicas were not measured; {[point.replicas for point in self.points]} were tried"
        )

    def _need(self, *numbers: int) -> None:
        for number in numbers:
            if (result := self.results.get(number)) is not None:
                _measured(result)

    def gains(self, replicas: int | None = None) -> dict[str, float]:
        """Gain of K replicas (None: the largest useful K) over each fair baseline. LookupError or NotMeasured, as for
        ``throughput``, if a baseline has no reading: without it, "better than all baselines" could be true of none."""
        measured = {}
        for name, result in self.baselines.items():
            _measured(result)
            value = _throughput(result)
            if value is None:
                raise LookupError(f"baseline {name!r} of the replication has no output_throughput")
            measured[name] = value
        return gains(self.throughput(replicas or self.useful.replicas), measured)

    def rows(self) -> list[ReplicationRow]:
        """Chart rows: the baselines, then each K; a K that could not run has the reason instead of figures."""
        rows = [_row(result, name) for name, result in self.baselines.items()]
        rows += [_row(result, str(result.scenario["sharing"])) for result in self.results.values()]
        return rows + [_failed_row(point, self.results[1]) for point in self.points if point.failure]


def measure_replication(
    scenario: Replication,
    ks: Sequence[int] | str,
    measure: Measure,
    *,
    least_gain: float,
    fair: bool,
    chunked_prefill_setting: str | None,
    kv_budget: Callable[[Replication], int | None],
) -> MeasuredReplication:
    """Measure each K in rising order; "auto" doubles K until a further replica is not useful.

    fair:      measure three single engines as well: with all the memory and as many sequences as the largest K has in all;
               the same with chunked prefill switched on by ``chunked_prefill_setting`` (off if it is on by default); and
               with the batch of a single replica
    kv_budget: KV-cache tokens that an engine gets by default; unless the test has a budget, all K share the budget of one
               engine with all the sequences

    A K that does not fit into memory ends the list with a note. EngineError or InvalidInput if K cannot run for another
    reason: too few MIG slices (except in "auto"), no MPS, a replica that died.
    """
    automatic = ks == "auto"
    numbers = _numbers(ks)
    measured = MeasuredReplication()
    measured.least_gain = least_gain
    most = AUTO[2] if automatic else numbers[-1]
    total = scenario.requests or scenario.batch * most
    if scenario.total_kv_cache_tokens is None:
        tokens = kv_budget(replace(scenario, replicas=1, batch=scenario.batch * most, requests=total))
        scenario = replace(scenario, total_kv_cache_tokens=tokens)
    for number in numbers:
        point = replace(scenario, replicas=number, requests=total)
        try:
            result = measure(point, f"k={number}")
        except (EngineError, TooFewSlices) as error:
            if number == 1 or not _ends_the_list(error, automatic, replicated=len(measured.results) > 1):
                raise
            why = str(error).splitlines()[0]
            measured.points.append(ReplicaPoint(number, None, failure=why))
            measured.notes.append(cannot_run(number, why))
            break
        measured.results[number] = result
        measured.points.append(_point(number, result))
        if automatic and (not measured.complete or measured.useful.replicas < number):
            break
    if fair:
        most = max(measured.results)
        every = replace(scenario, replicas=1, requests=total, batch=scenario.batch * most)
        measured.baselines["one engine"] = measure(every, "all memory")
        if chunked_prefill_setting is not None:
            _other_prefill(measured, every, chunked_prefill_setting, measure)
        else:
            measured.notes.append("no baseline with chunked prefill: it is a setting of vLLM")
        if scenario.sharing == "mig":
            measured.notes.append(
                "the baselines are one engine on one MIG slice; one on the whole GPU can be measured with MIG switched off"
            )
        measured.baselines["one engine, same batch"] = measured.results[1]
    return measured


def _other_prefill(measured: MeasuredReplication, every: Replication, setting: str, measure: Measure) -> None:
    """Measure the baseline with the opposite prefill to "one engine". vLLM V1 chunks prefill by default, so that an engine
    with chunked prefill switched on would be the same engine again."""
    facts = measured.baselines["one engine"].engine.facts
    chunks = facts.get("chunked_prefill", facts.get("arguments", {}).get(setting))
    name = "no chunked prefill" if chunks else "chunked prefill"
    settings = dict(every.engine_settings) | {setting: not chunks}
    try:
        result = measure(replace(every, engine_settings=tuple(sorted(settings.items()))), name)
    except (EngineError, InvalidInput) as error:
        if not chunks:
            raise
        # Some models and versions cannot run without chunked prefill.
        measured.notes.append(f"no baseline without chunked prefill: {str(error).splitlines()[0]}")
        return
    measured.baselines[f"one engine, {name}"] = result
    if chunks:
        measured.notes.append('"one engine" prefills in chunks, as this vLLM does by default')


def _ends_the_list(error: Exception, automatic: bool, replicated: bool) -> bool:
    """Whether the error means that K was too large, so that the smaller K are the answer.

    This is so if memory is the cause; in "auto" also if there are too few slices, or if replicas died after smaller numbers
    had run (``replicated``): without these, replication itself may not work here.
    """
    if isinstance(error, OutOfMemory):
        return True
    if not automatic or isinstance(error, EngineMissing):
        return False
    return isinstance(error, TooFewSlices) or replicated


def _numbers(ks: object) -> list[int]:
    """The numbers of replicas to measure, rising from 1; InvalidInput unless ``ks`` is "auto" or a list of numbers."""
    if ks == "auto":
        return list(AUTO)
    if isinstance(ks, int):
        raise InvalidInput(
            f"slmperf.replication: k must be a list of numbers of replicas or 'auto', not {ks!r}; write k=[1, 2, 4], or "
            "measure one number with slmperf.replicas(2, …)"
        )
    if isinstance(ks, str) or not isinstance(ks, Iterable):
        raise InvalidInput(f"slmperf.replication: k must be 'auto' or a list of numbers, not {ks!r}")
    given = list(ks)
    if not given:
        raise InvalidInput("slmperf.replication: k is empty; name at least one number of replicas, k=[2], or k='auto'")
    for number in given:
        whole("replication", "each k", number)
    return sorted({1, *given})


def _point(number: int, result: Result) -> ReplicaPoint:
    peak = result.metrics.get("kv_cache_peak")
    return ReplicaPoint(number, _throughput(result), result.preemptions, None if peak is None else peak.value)


def _measured(result: Result) -> None:
    """NotMeasured if the machine was too disturbed for this result."""
    if _throughput(result) is None:
        result.need(False, "output_throughput")


def _throughput(result: Result) -> float | None:
    return result.metrics["output_throughput"].value


def _failed_row(point: ReplicaPoint, first: Result) -> ReplicationRow:
    scenario = first.scenario
    return ReplicationRow(
        replicas=point.replicas, batch=scenario["batch"], mode=str(scenario["sharing"]), failure=point.failure
    )


def _row(result: Result, mode: str) -> ReplicationRow:
    row = ReplicationRow(replicas=result.scenario["replicas"], batch=result.scenario["batch"], mode=mode)
    for name in ROW_METRICS:
        if name in result.metrics:
            setattr(row, name, result.metrics[name].value)
    return row
