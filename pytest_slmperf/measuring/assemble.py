"""From measured launches to the record of a result and to the samples of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pytest_slmperf import redaction
from pytest_slmperf.baselines import comparability
from pytest_slmperf.baselines.comparability import of_devices, unlike
from pytest_slmperf.energy.round_energy import summarise
from pytest_slmperf.load.latencies import AnswerLengths
from pytest_slmperf.measuring.launch import Measured
from pytest_slmperf.metrics.base import mean
from pytest_slmperf.metrics.registry import (
    ENERGY_METRICS,
    energy_delay_product,
    energy_per_output_token,
    energy_per_request,
    mean_power,
    metric,
)
from pytest_slmperf.model.energy import Energy, PowerTrace
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Engine, MetricValue, Result
from pytest_slmperf.model.verdict import Gate, LaunchSample
from pytest_slmperf.scenarios.base import Scenario
from pytest_slmperf.statistics.estimate import value_and_interval
from pytest_slmperf.util.formatting import portion
from pytest_slmperf.util.quantiles import thin

ENERGY_FACTS = ("repeats", "counted", "idle_bare_reason")


def energy_values(measured: Measured) -> tuple[dict[str, float], str | None]:
    """Energy metrics of one launch over all its clean rounds; if there are none, an empty dict and the reason."""
    reading = measured.energy
    if reading is None:
        return {}, measured.energy_reason or "no clean round was measured"
    if reading.joules is None:
        reasons = [device.reason for device in reading.devices if device.reason]
        return {}, reading.reason or "; ".join(reasons) or "the meter gave no reading"
    if (bound := relative_bound(measured)) >= 1:
        return {}, f"the rounds were too short for the meter: the bound of their joules is {portion(bound)}"
    watts = mean_power(reading.joules, reading.window_s)
    rounds_s = math.fsum(outcome.t_end - outcome.t_start for outcome in measured.outcomes)
    values = {mean_power.name: watts}
    tokens = sum(outcome.n_out for outcome in measured.outcomes)
    completed = sum(outcome.completed for outcome in measured.outcomes)
    if tokens:
        values[energy_per_output_token.name] = energy_per_output_token(watts, rounds_s, tokens)
    if completed:
        each = values[energy_per_request.name] = energy_per_request(watts, rounds_s, completed)
        latencies = [outcome.values.get("e2el_mean") for outcome in measured.outcomes]
        known = [value for value in latencies if value is not None]
        if len(known) == len(latencies):
            values[energy_delay_product.name] = energy_delay_product(each, mean(known))
    return values, None


def relative_bound(measured: Measured) -> float:
    """Error bound of the launch's energy, relative to it; 0 without a reading."""
    reading = measured.energy
    if reading is None or reading.joules is None or reading.bound_j is None or reading.joules <= 0:
        return 0.0
    return reading.bound_j / reading.joules


def series(launches: Sequence[Measured]) -> tuple[dict[str, list[list[float]]], dict[str, str]]:
    """Per metric, one list of clean rounds per launch; and the reason for each metric without a reading.

    Energy has one value per launch: the meter's relative error shrinks with the window, so that rounds are read together.
    """
    values: dict[str, list[list[float]]] = {}
    missing: dict[str, str] = {}
    for index, measured in enumerate(launches):
        energy, reason = energy_values(measured)
        if reason is not None:
            missing |= dict.fromkeys(ENERGY_METRICS, reason)
        rows = [outcome.values for outcome in measured.outcomes]
        for outcome in measured.outcomes:
            missing |= outcome.missing
        for row in [*rows, energy]:
            for name, value in row.items():
                if not math.isfinite(value):
                    missing[name] = f"a round gave {value}, which is no measurement"
                    continue
                values.setdefault(name, [[] for _ in launches])[index].append(value)
    # A metric that some rounds lack is left out, since a mean over the other rounds would describe other work.
    for name in set(values) & set(missing):
        del values[name]
    return values, missing


def metric_value(name: str, launches: list[list[float]], gated: bool, hosts: Sequence[str | None] = ()) -> MetricValue:
    """The record of a metric. ``hosts``: the launch host of each launch; may be empty."""
    known = metric(name)
    kept = [rounds for rounds in launches if rounds]
    if known.combine is not None:
        value, ci = known.combine([value for rounds in kept for value in rounds]), None
    else:
        value, ci = value_and_interval(kept)
    return MetricValue(
        unit=known.unit,
        better=known.better,
        value=value,
        ci=ci,
        launches=kept,
        gate=gated,
        hosts=hosts_of(launches, hosts),
    )


def hosts_of(launches: Sequence[Sequence[float]], hosts: Sequence[str | None]) -> list[str | None]:
    """The hosts of the launches that have rounds; empty if none of these launches was forked."""
    kept = [host for rounds, host in zip(launches, hosts, strict=False) if rounds]
    return kept if any(kept) else []


def engine_record(spec: EngineSpec, facts: dict[str, Any]) -> Engine:
    own = ("name", "version", "model", "weights", "device", "dtype", "replicas", "environment")
    return Engine(
        name=spec.engine,
        version=str(facts.get("version", "unknown")),
        model=spec.model,
        weights=str(facts.get("weights") or spec.weights or "unknown"),
        device=str(facts.get("device") or spec.device or "unknown"),
        dtype=facts.get("dtype") or spec.dtype,
        replicas=int(facts.get("replicas", 1)),
        settings=redaction.hidden(
            {
                key: value
                for key, value in spec.as_dict().items()
                if key not in ("engine", "model", "weights", "device", "dtype", "env") and value not in (None, {}, ())
            }
        ),
        facts=redaction.hidden({key: value for key, value in facts.items() if key not in own}),
        environment=redaction.hidden(facts.get("environment")),
    )


def _power_trace(measured: Measured) -> PowerTrace | None:
    """The power trace of a launch; None if its meter gave none."""
    trace = measured.trace or {}
    return PowerTrace(t_s=trace["t_s"], watts=trace["watts"]) if trace.get("t_s") else None


def energy_record(launches: Sequence[Measured]) -> Energy:
    reason = next((measured.energy_reason for measured in launches if measured.energy_reason), None)
    readings = [measured.energy for measured in launches if measured.energy is not None]
    own = all(measured.energy_own for measured in launches if measured.energy is not None)
    metered = of_devices(summarise([reading for reading in readings if reading.joules is not None]).devices, own)
    if reason is not None or not readings:
        return Energy(reason=reason or "no clean round was measured", metered=metered)
    before = [measured.idle_before for measured in launches if measured.idle_before is not None]
    after = [measured.idle_after for measured in launches if measured.idle_after is not None]
    record = summarise(
        readings,
        idle_before=math.fsum(before) / len(before) if before else None,
        idle_after=math.fsum(after) / len(after) if after else None,
        idle_bare=next((m.idle_bare for m in launches if m.idle_bare is not None), None),
        trace=_power_trace(launches[-1]),
    )
    for key in ENERGY_FACTS:
        stated = [fact for measured in launches if (fact := measured.energy_facts.get(key))]
        setattr(record, key, "; ".join(dict.fromkeys(stated)) or None)
    record.metered = metered
    return record


def unlike_energy(
    baseline: Sequence[Measured], candidate: Sequence[Measured], metrics: Iterable[str]
) -> dict[str, str]:
    """The energy metrics among ``metrics``, with the reason, if a duet's sides were metered on unlike devices (one on the
    CPU, say); otherwise empty.
    """
    why = unlike(energy_record(baseline).metered, energy_record(candidate).metered)
    return dict.fromkeys(set(metrics) & set(ENERGY_METRICS), why) if why else {}


def assemble(
    test_id: str,
    scenario: Scenario,
    spec: EngineSpec,
    launches: Sequence[Measured],
    gates: Sequence[Gate],
) -> Result:
    """The record of one measured scenario, without verdicts. ``launches`` must not be empty."""
    values, missing = series(launches)
    gated = {gate.metric for gate in gates if gate.gate}
    hosts = [measured.launch.host for measured in launches]
    metrics = {name: metric_value(name, rounds, name in gated, hosts) for name, rounds in sorted(values.items())}
    wanted = {*missing, *(gate.metric for gate in gates)} - set(metrics)
    for name in sorted(wanted):
        known = metric(name)
        reason = missing.get(name, f"a scenario of kind {scenario.kind} does not measure it")
        metrics[name] = MetricValue(unit=known.unit, better=known.better, value=None, reason=reason, gate=name in gated)
    samples: dict[str, list[float]] = {}
    for measured in launches:
        for outcome in measured.outcomes:
            for base, drawn in outcome.samples.items():
                samples.setdefault(base, []).extend(drawn)
    rounds = [round_ for measured in launches for round_ in measured.launch.rounds]
    parameters, lengths = scenario.parameters(), lengths_of(launches)
    return Result(
        id=test_id,
        scenario=parameters | comparability.answers_of(lengths, parameters),
        engine=engine_record(spec, launches[-1].facts),
        metrics=metrics,
        energy=energy_record(launches),
        discarded_rounds=sum(1 for round_ in rounds if round_.contaminated),
        notes=comparability.answers_note(lengths, parameters)
        + scenario.notes([outcome for measured in launches for outcome in measured.outcomes])
        + [note for measured in launches for note in measured.notes]
        + [str(note) for note in dict.fromkeys(measured.facts.get("contention") for measured in launches) if note],
        preemptions=sum(outcome.preemptions or 0 for measured in launches for outcome in measured.outcomes),
        launches=[measured.launch for measured in launches],
        samples={base: thin(sorted(drawn)) for base, drawn in samples.items()},
        log_tail=launches[-1].log_tail,
    )


def lengths_of(launches: Iterable[Measured]) -> AnswerLengths | None:
    """The answers of all rounds that count; None where no round's are known."""
    known = [outcome.lengths for measured in launches for outcome in measured.outcomes if outcome.lengths is not None]
    return sum(known, AnswerLengths()) if known else None


def samples_of(launches: Sequence[Measured], gates: Sequence[Gate], paired: bool) -> dict[str, list[LaunchSample]]:
    """The launches with clean rounds, as samples of a comparison."""
    values, _ = series(launches)
    result: dict[str, list[LaunchSample]] = {}
    for gate in gates:
        per_launch = values.get(gate.metric)
        if per_launch is None:
            continue
        energy = gate.metric in ENERGY_METRICS
        result[gate.metric] = [
            LaunchSample(
                rounds=tuple(rounds),
                session=measured.launch.session or "",
                pair=measured.launch.index if paired else None,
                bound=relative_bound(measured) if energy else 0.0,
                host=measured.launch.host,
            )
            for measured, rounds in zip(launches, per_launch, strict=True)
            if rounds
        ]
    return result
