"""From a measured sweep to its record: points, metrics of the whole sweep, chart data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.baselines import comparability
from pytest_slmperf.frontier.pareto import Standing, standings
from pytest_slmperf.frontier.points import Key, Point, launch_interval, point_record, points_of
from pytest_slmperf.frontier.regression import ENERGY, VOLUME, point_metric, whole_of
from pytest_slmperf.measuring.assemble import assemble, energy_record, engine_record, hosts_of, lengths_of
from pytest_slmperf.measuring.assemble import series as launch_series
from pytest_slmperf.measuring.context import Settings
from pytest_slmperf.measuring.launch import Measured
from pytest_slmperf.measuring.sides import Side
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.charts import Charts, FrontierChart, SweepCharts
from pytest_slmperf.model.result import Launch, MetricValue, Result
from pytest_slmperf.scenarios.sweep import Sweep, SweepPoint

WHOLE = (VOLUME, "peak_output_throughput", "knee_key", "knee_kv_share")
KEPT = ("kv_cache_peak", "mean_running_requests", "mean_power", "energy_per_request", "request_throughput", "tpot_mean")


def results_of(side: Side, scenario: Sweep) -> dict[Key, Result]:
    """The full record of each measured point, in the order of the points."""
    return {
        key: assemble(f"{scenario.key_name}={key}", point.work, point.spec, side.measured[key], ())
        for key, point in side.points.items()
        if any(measured.outcomes for measured in side.measured.get(key, ()))
    }


def records_of(side: Side, scenario: Sweep) -> list[dict[str, Any]]:
    """The records of all points for ``Result.points``; a failed point has its reason."""
    results = results_of(side, scenario)
    records = []
    for key, point in side.points.items():
        if key in results:
            records.append(_point(key, point, results[key], scenario))
        elif why := side.failures.get(key) or side.disturbed.get(key):
            records.append({"key": key, "settings": point.settings, "launches": {}, "failure": why})
    return records


def usable_points(side: Side, scenario: Sweep) -> list[Point]:
    """The points with readings of every objective that neither preempted nor failed."""
    return points_of(records_of(side, scenario), scenario.objectives)


def standings_of(side: Side, scenario: Sweep) -> dict[str, Standing]:
    """Key as text → standing of the point."""
    points = usable_points(side, scenario)
    return {str(p.key): rank for p, rank in zip(points, standings(points, scenario.goals), strict=True)}


def _point(key: Key, point: SweepPoint, result: Result, scenario: Sweep) -> dict[str, Any]:
    names = [*scenario.objectives, ENERGY, *KEPT]
    launches = {
        name: value.launches for name in dict.fromkeys(names) if (value := result.metrics.get(name)) and value.launches
    }
    record = point_record(key, launches, settings=point.settings, preemptions=result.preemptions)
    peak = result.metrics.get("kv_cache_peak")
    if peak is not None and peak.value is not None:
        record["kv_cache_peak"] = peak.value  # the highest peak, not the mean of peaks
    record["missing"] = {
        name: value.reason for name, value in result.metrics.items() if value.value is None and name in names
    }
    record["discarded_rounds"] = result.discarded_rounds
    if busy := _utilization(result):
        record["utilization_percent_mean"] = _mean(busy)
    record["engine"] = {"model": result.engine.model, "kv_cache_tokens": point.spec.kv_cache_tokens}
    if result.energy.joules is not None:
        energy = result.energy
        record["energy"] = {
            "joules": energy.joules,
            "bound_j": energy.bound_j,
            "window_s": energy.window_s,
            "source": energy.source,
        }
    return record


def _utilization(result: Result) -> list[float]:
    """NVML's GPU utilisation of every clean round and GPU, percent; empty if no device reports it."""
    return [
        float(gpu["utilization_percent_mean"])
        for launch in result.launches
        for round_ in launch.rounds
        if round_.contaminated is None
        for gpu in round_.evidence.get("gpus", {}).values()
        if "utilization_percent_mean" in gpu
    ]


def series(side: Side, scenario: Sweep, keys: Sequence[Key]) -> dict[str, list[list[float]]]:
    """Rounds per launch (an empty list for a launch without rounds) of the objectives and the energy at every point, and
    the metrics of the whole sweep, with one value per launch in which every point was measured."""
    usable = {point.key for point in usable_points(side, scenario)}
    kept = {key: _by_index(side.measured[key]) for key in keys if key in usable}
    values = {
        point_metric(name, key): launches
        for key, values in kept.items()
        for name in (*scenario.objectives, ENERGY)
        if (launches := values.get(name))
    }
    for launch in range(max((len(rounds) for values in kept.values() for rounds in values.values()), default=0)):
        points = [_at_launch(key, values, scenario, launch) for key, values in kept.items()]
        whole = whole_of([p for p in points if p is not None], scenario.goals) if all(points) else {}
        for name in WHOLE:
            values.setdefault(name, []).append([whole[name]] if name in whole else [])
    return {name: launches for name, launches in values.items() if any(launches)}


def _by_index(launches: Sequence[Measured]) -> dict[str, list[list[float]]]:
    """Rounds per metric at the index of their launch; an unusable launch has an empty list."""
    places = [measured.launch.index for measured in launches]
    values: dict[str, list[list[float]]] = {}
    for name, groups in launch_series(launches)[0].items():
        rows: list[list[float]] = [[] for _ in range(max(places) + 1)]
        for place, rounds in zip(places, groups, strict=True):
            rows[place] = rounds
        values[name] = rows
    return values


def _at_launch(key: Key, values: Mapping[str, list[list[float]]], scenario: Sweep, launch: int) -> Point | None:
    """The point by the readings of one launch; None unless the launch has a clean round of every objective."""
    rounds = {name: values[name][launch] if launch < len(values[name]) else [] for name in scenario.objectives}
    if not all(rounds.values()):
        return None
    means = {name: _mean(readings) for name, readings in rounds.items()}
    share = values.get("kv_cache_peak", [])
    if launch < len(share) and share[launch]:
        means["kv_cache_peak"] = max(share[launch])
    return Point(key, means)


def record(
    test: str, scenario: Sweep, settings: Settings, side: Side, keys: Sequence[Key] = (), unfit: Sequence[Measured] = ()
) -> Result:
    """The record of a measured sweep, without verdicts.

    ``keys``: the points that count; empty: all measured points. ``unfit``: the unusable launches, which the record holds as
    evidence if nothing else was measured.
    """
    results = results_of(side, scenario)
    keys = list(keys) or list(results)
    if not results:
        return _nothing(test, scenario, settings, side, unfit)
    first = next(iter(results.values()))
    every = [measured for key in keys for measured in side.measured.get(key, ())]
    gated = settings.gate if isinstance(settings.gate, frozenset) else frozenset(scenario.gates)
    metrics = {
        name: _metric(name, launches, bool(settings.gate) and name in gated, hosts_by_launch(side))
        for name, launches in series(side, scenario, keys).items()
    }
    for name in WHOLE:
        if name not in metrics:
            known = metric(name)
            reason = "the points' keys are not numbers" if name.startswith("knee") else "no point without preemptions"
            metrics[name] = MetricValue(
                unit=known.unit, better=known.better, value=None, reason=reason, gate=name in gated
            )
    ranks = standings_of(side, scenario)
    parameters = scenario.parameters()
    points = [row | {"standing": ranks.get(str(row["key"]))} for row in records_of(side, scenario)]
    return Result(
        id=test,
        scenario=parameters | comparability.answers_of(lengths_of(every), parameters),
        engine=first.engine,
        metrics=metrics,
        energy=energy_record(every),
        discarded_rounds=sum(result.discarded_rounds for result in results.values()),
        preemptions=sum(result.preemptions for result in results.values()),
        launches=_launches(side, keys),
        points=points,
        charts=charts(scenario, metrics, points),
        log_tail=side.log_tail or first.log_tail,
        notes=[f"point {key} failed: {why}" for key, why in side.failures.items()]
        + [f"point {key}: a launch is not used: {why}" for key, why in side.disturbed.items()]
        + [
            f"point {key}: {note}"
            for key, result in results.items()
            for note in comparability.answers_note(lengths_of(side.measured[key]), result.scenario)
        ],
    )


def _nothing(test: str, scenario: Sweep, settings: Settings, side: Side, unfit: Sequence[Measured]) -> Result:
    """The record of a sweep on a machine that was too disturbed for every point: the reason, without figures."""
    point = next(iter(side.points.values()))
    why = f"environment: {next(iter(side.disturbed.values()))}"
    known = metric(VOLUME)
    points = records_of(side, scenario)
    launches = [measured.launch for measured in unfit]
    metrics = {
        VOLUME: MetricValue(unit=known.unit, better=known.better, value=None, reason=why, gate=bool(settings.gate))
    }
    notes = [f"point {key}: a launch is not used: {reason}" for key, reason in side.disturbed.items()]
    return Result(
        id=test, scenario=scenario.parameters(), engine=engine_record(point.spec, side.facts), metrics=metrics,
        points=points, notes=notes, launches=launches,
        discarded_rounds=sum(1 for launch in launches for round_ in launch.rounds if round_.contaminated),
    )  # fmt: skip


def charts(
    scenario: Sweep, metrics: Mapping[str, MetricValue], points: Sequence[Mapping[str, Any]], advice: Key | None = None
) -> Charts:
    """The charts of a sweep: the metrics that span the frontiers, the knee, the advisor's pick."""
    throughput, latency = scenario.objectives
    knee = metrics["knee_key"].value
    by_number = {float(row["key"]): row["key"] for row in points if not isinstance(row["key"], str)}
    mark = None if knee is None else by_number.get(knee)
    metrics_to_the_right = [latency, *([ENERGY] if any(ENERGY in row for row in points) else [])]
    frontiers = [FrontierChart(max=throughput, min=name, knee=mark, advice=advice) for name in metrics_to_the_right]
    return Charts(sweep=SweepCharts(key=scenario.key_name, frontiers=frontiers))


def hosts_by_launch(side: Side) -> dict[int, str | None]:
    """The launch host of each launch, by its index; all points of a launch share a host."""
    return {each.launch.index: each.launch.host for measured in side.measured.values() for each in measured}


def _metric(name: str, launches: list[list[float]], gate: bool, hosts: dict[int, str | None]) -> MetricValue:
    known = metric(name)
    of_launches = hosts_of(launches, [hosts.get(index) for index in range(len(launches))])
    launches = [rounds for rounds in launches if rounds]
    means = [_mean(rounds) for rounds in launches]
    value = (
        sorted(means)[(len(means) - 1) // 2] if name == "knee_key" else _mean(means)
    )  # a median, because a mean of keys need not be a key
    ci = None if name == "knee_key" else launch_interval(launches)
    return MetricValue(
        unit=known.unit,
        better=known.better,
        value=value,
        ci=ci,
        launches=launches,
        gate=gate,
        hosts=of_launches,
    )


def _launches(side: Side, keys: Sequence[Key]) -> list[Launch]:
    """The launches of the sweep, each with the rounds of all its points in the order of measuring."""
    merged: dict[int, Launch] = {}
    for key in keys:
        for measured in side.measured.get(key, ()):
            launch = measured.launch
            into = merged.setdefault(
                launch.index,
                Launch(
                    index=launch.index,
                    side=launch.side,
                    session=launch.session,
                    start_time_s=launch.start_time_s,
                    host=launch.host,
                ),
            )
            into.warmup_rounds += launch.warmup_rounds
            into.rounds += launch.rounds
    for launch in merged.values():
        launch.rounds.sort(key=lambda round_: round_.t_start)
    return [merged[index] for index in sorted(merged)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
