"""The charts of a sweep: Pareto frontier old against new, the area that was lost, the knee, and replication."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_slmperf.frontier.pareto import non_dominated
from pytest_slmperf.metrics.registry import REGISTRY
from pytest_slmperf.model.charts import FrontierChart, RooflineChart, SweepCharts
from pytest_slmperf.model.result import Result
from pytest_slmperf.reports.html.charts import BASELINE, CANDIDATE, ROOMY, Chart, five, span
from pytest_slmperf.reports.view import rank
from pytest_slmperf.reports.wording import metric_label
from pytest_slmperf.util.formatting import counted, percent, portion, quantity

POINT_METRICS = (
    "output_throughput",
    "itl_mean",
    "ttft_mean",
    "energy_per_output_token",
    "mean_power",
    "kv_cache_peak",
    "mean_running_requests",
)
DEFAULT_FRONTIERS = (
    FrontierChart(max="output_throughput", min="itl_mean"),
    FrontierChart(max="output_throughput", min="energy_per_output_token"),
)
STEP = tuple[float, float]
WIDE = 20  # largest ÷ smallest value; beyond it, small values would overlap on a linear axis


def sweep_charts(result: Result) -> list[Chart]:
    """Frontier charts for each pair of metrics the sweep was made for, then the replication bars."""
    about = result.charts.sweep or SweepCharts()
    key = str(about.key or result.scenario.get("key") or "key")
    charts = [frontier_chart(result, pair, key) for pair in about.frontiers or _usual_frontiers(result)]
    return [chart for chart in charts if chart] + roofline_charts(result) + replication_charts(result)


def _usual_frontiers(result: Result) -> Sequence[FrontierChart]:
    """The scenario's own objectives (throughput, then what it is traded against), else the usual pairs."""
    goals = result.scenario.get("objectives")
    if isinstance(goals, (list, tuple)) and len(goals) == 2:
        own = FrontierChart(max=str(goals[0]), min=str(goals[1]))
        return [own, *(pair for pair in DEFAULT_FRONTIERS if pair.min == "energy_per_output_token" != own.min)]
    return DEFAULT_FRONTIERS


def frontier_chart(result: Result, pair: FrontierChart, key: str) -> Chart | None:
    """One frontier: the ``max`` metric upwards, the ``min`` metric to the right; None with fewer than two points."""
    up, right = pair.max, pair.min
    columns: dict[str, list[Any]] = {name: [] for name in ("key", "x", "y", "side", "on", "note", "label", "bad")}
    steps: dict[str, list[STEP]] = {BASELINE: [], CANDIDATE: []}
    for side, points in ((BASELINE, result.baseline.points if result.baseline else []), (CANDIDATE, result.points)):
        rows = [row for row in (_row(point, right, up) for point in points) if row]
        best = pareto([(x, y) for x, y, _, dropped, _ in rows if not dropped])
        for x, y, name, dropped, verdict in rows:
            on = not dropped and (x, y) in best
            note = dropped or ("on the frontier" if on else "dominated")
            note += f"; {verdict}" if verdict and side == CANDIDATE else ""
            for column, value in zip(
                columns, (name, x, y, side, on, note, "", side == CANDIDATE and verdict == "regressed"), strict=True
            ):
                columns[column].append(value)
        steps[side] = sorted(best)
    if columns["side"].count(CANDIDATE) < 2:
        return None
    _label(columns)
    lost = lost_area(steps[BASELINE], steps[CANDIDATE])
    knees = _marks(pair, columns)
    text = f"{len(steps[CANDIDATE])} of {columns['side'].count(CANDIDATE)} points are on the frontier"
    marked = [
        (f"{'old ' if side == BASELINE else ''}{what}", name)
        for what, name, side in zip(knees["what"], knees["key"], knees["side"], strict=True)
    ]
    text += "".join(f"; {what} at {name}" for what, name in marked)
    text += "; shaded red: what the baseline reached and the candidate does not." if lost["x"] else "."
    return Chart(
        kind="frontier",
        title=f"Frontier: {metric_label(up)} against {metric_label(right)}",
        text=text,
        size="wide",
        words={
            "x": _axis(right),
            "y": _axis(up),
            "key": key,
            "across": across(columns["x"]),
            "tall": span(columns["y"]),
        },
        data={"points": columns, "lost": lost, "knees": knees},
    )


def across(values: Sequence[float]) -> dict[str, Any]:
    """The scale of the horizontal axis: logarithmic if the values span more than a linear axis can show."""
    wide = min(values) > 0 and max(values) / min(values) >= WIDE
    return {"type": "log", "nice": False, "padding": ROOMY["padding"]} if wide else ROOMY | {"domain": span(values)}


def _label(columns: dict[str, list[Any]]) -> None:
    """Name the candidate's frontier points, except where the name would cover a neighbour's."""
    wide = (max(columns["x"]) - min(columns["x"])) or 1.0
    high = (max(columns["y"]) - min(columns["y"])) or 1.0
    named: list[tuple[float, float]] = []
    for place, (x, y) in enumerate(zip(columns["x"], columns["y"], strict=True)):
        if columns["side"][place] != CANDIDATE or not columns["on"][place]:
            continue
        if all(abs(x - other) > 0.04 * wide or abs(y - above) > 0.06 * high for other, above in named):
            columns["label"][place] = columns["key"][place]
            named.append((x, y))


def pareto(points: Sequence[STEP]) -> set[STEP]:
    """The points (x, y) that no other beats in small x and large y: what is drawn as the frontier line."""
    fronts = non_dominated([(x, -y) for x, y in points])
    return {point for point, front in zip(points, fronts, strict=True) if front}


def lost_area(before: Sequence[STEP], after: Sequence[STEP]) -> dict[str, list[float]]:
    """Where the old staircase is above the new staircase: columns x, y (old) and y2 (new) for a step-after area.

    Left of the first new point the candidate reaches nothing, so the floor is the lowest value on either frontier.
    """
    columns: dict[str, list[float]] = {"x": [], "y": [], "y2": []}
    if not before or not after:
        return columns
    floor = min(y for _, y in [*before, *after])

    def height(steps: Sequence[STEP], x: float) -> float:
        return max((y for at, y in steps if at <= x), default=floor)

    edges = sorted({x for x, _ in [*before, *after]})
    if not any(height(before, x) > height(after, x) for x in edges):
        return columns
    for x in edges:
        new = height(after, x)
        columns["x"].append(x)
        columns["y"].append(max(height(before, x), new))
        columns["y2"].append(new)
    return columns


def _number(point: Mapping[str, Any], name: str) -> float | None:
    """A point's reading of a metric; None where it has none."""
    value = point.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _row(point: Mapping[str, Any], right: str, up: str) -> tuple[float, float, str, str, str] | None:
    """x, y, key, why it was dropped, and the worst verdict of its metrics."""
    across_value, up_value = _number(point, right), _number(point, up)
    if across_value is None or up_value is None:
        return None
    x, y = five(across_value), five(up_value)
    return x, y, str(point.get("key", "")), why_dropped(point), point_verdict(point)


def why_dropped(point: Mapping[str, Any]) -> str:
    """Why a point is not considered for the frontier; empty where it is."""
    preempted = point.get("preemptions")
    return str(point.get("dropped") or point.get("failure") or (counted(preempted, "preemption") if preempted else ""))


def point_verdict(point: Mapping[str, Any]) -> str:
    """The worst of a point's own verdicts (``point["verdicts"]``: metric → {"verdict": …}); empty where none was given.

    A point that is left out is not new: no side keeps such points, so that the baseline may well have had it.
    """
    verdicts = point.get("verdicts")
    names = [str(entry.get("verdict")) for entry in verdicts.values()] if isinstance(verdicts, Mapping) else []
    if why_dropped(point):
        names = [name for name in names if name != "new"]
    return min(names, key=rank, default="")


def points_table(result: Result) -> dict[str, list[Any]] | None:
    """A sweep's points as header and rows of text; None where the result has none."""
    points = result.points
    if not points:
        return None
    goals = result.scenario.get("objectives")
    wanted = [*(goals if isinstance(goals, (list, tuple)) else ()), *POINT_METRICS]
    names = [
        name for name in dict.fromkeys(map(str, wanted)) if any(_number(point, name) is not None for point in points)
    ]
    rows = []
    for point in points:
        values = [(name, _number(point, name)) for name in names]
        cells = ["–" if value is None else quantity(value, unit_of(name)) for name, value in values]
        verdict = point_verdict(point)
        rows.append({"key": str(point.get("key", "")), "cells": cells, "verdict": verdict, "note": why_dropped(point)})
    return {"names": [metric_label(name) for name in names], "rows": rows}


def unit_of(metric: str) -> str:
    return REGISTRY[metric].unit if metric in REGISTRY else ""


def _marks(pair: FrontierChart, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Knee and advised point of the candidate, and the old knee; ``label`` once where marks fall on one point."""
    marks: dict[str, list[Any]] = {name: [] for name in ("what", "key", "x", "y", "side", "label")}
    named: dict[tuple[float, float], int] = {}
    for key, mark, label, side in (
        (pair.knee, "knee", "knee", CANDIDATE),
        (pair.advice, "advised", "advised", CANDIDATE),
        (pair.baseline_knee, "knee", "old knee", BASELINE),
    ):
        if key is None:
            continue
        for name, x, y, at in zip(columns["key"], columns["x"], columns["y"], columns["side"], strict=True):
            if at == side and name == str(key):
                for column, value in zip(marks, (mark, name, x, y, side, label), strict=True):
                    marks[column].append(value)
                first = named.setdefault((x, y), len(marks["label"]) - 1)
                if first != len(marks["label"]) - 1:
                    marks["label"][first] += f", {label}"
                    marks["label"][-1] = ""
    return marks


def _axis(metric: str) -> str:
    unit = unit_of(metric)
    return metric_label(metric) + (f", {unit}" if unit and unit != "1" else "")


def roofline_charts(result: Result) -> list[Chart]:
    """Measured throughput beside what the device's bandwidth and compute allow, by point of the sweep."""
    about = result.charts.roofline or RooflineChart()
    columns: dict[str, list[Any]] = {name: [] for name in ("key", "value", "what", "share", "bound")}
    shares = []
    for point in about.points:
        if isinstance(point.key, str) or min(point.key, point.output_throughput, point.limit) <= 0:
            continue
        share = point.output_throughput / point.limit
        shares.append(share)
        for what, value in (("measured", point.output_throughput), ("limit", point.limit)):
            for name, cell in zip(columns, (float(point.key), value, what, share, point.bound), strict=True):
                columns[name].append(five(cell) if isinstance(cell, float) else cell)
    if len(shares) < 2:
        return []
    text = f"Between {portion(min(shares))} and {portion(max(shares))} of what {about.device} allows."
    words = {"unit": "tok/s", "x": str(result.scenario.get("key") or "batch"), "ticks": sorted(set(columns["key"]))}
    return [
        Chart(
            kind="roofline",
            title="Share of the device's limit",
            text=text,
            size="",
            words=words,
            data={"roofline": columns},
        )
    ]


def replication_charts(result: Result) -> list[Chart]:
    """Bars of throughput by number of replicas, batch and sharing mode."""
    labels, values = [], []
    for row in result.charts.replication:
        if row.output_throughput is not None:
            labels.append(f"{row.replicas} × {'?' if row.batch is None else row.batch} {row.mode}".rstrip())
            values.append(row.output_throughput)
    if len(values) < 2:
        return []
    best = labels[values.index(max(values))]
    text = f"Highest: {best} with {quantity(max(values), 'tok/s')}, {percent(max(values) / values[0] - 1)} over {labels[0]}."
    return [
        Chart(
            kind="replication",
            title="Replication: output throughput",
            text=text,
            size="",
            words={"unit": "tok/s", "height": 28 * len(values), "top": float(f"{max(values) * 1.35:.3g}")},
            data={"bars": {"label": labels, "value": [five(value) for value in values]}},
        )
    ]
