"""The data of each chart, drawn from the records as columns, with a title and a sentence that says what it shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_slmperf.metrics.registry import REGISTRY
from pytest_slmperf.model.charts import sample_of
from pytest_slmperf.model.result import Result, launch_means
from pytest_slmperf.reports.html.charts import BASELINE, CANDIDATE, Chart, figures_of, five, span, to_figures
from pytest_slmperf.reports.html.sweep_data import sweep_charts
from pytest_slmperf.reports.view import lines_of
from pytest_slmperf.reports.wording import metric_label
from pytest_slmperf.util.formatting import change_text, counted, interval_text, percent, quantity
from pytest_slmperf.util.quantiles import even_ranks, least_reaching

MANY = 60  # tests; beyond it charts carry fewer points, so that 500 tests stay under 5 MB


def chart(kind: str, title: str, text: str, data: dict[str, Any], *, size: str = "", **words: Any) -> Chart:
    return Chart(kind, title, text, data, size, words)


def axis(unit: str) -> str:
    """The title of an axis with this unit; the unit "1" is left out."""
    return "" if unit == "1" else unit


def result_charts(result: Result, tests: int) -> list[Chart]:
    """Every chart of one test's section. ``tests``: how many tests share the page."""
    fine = tests <= MANY
    return [
        *sweep_charts(result),
        *interval_charts(result),
        *pair_charts(result),
        *round_charts(result, 4 if fine else 2),
        *ecdf_charts(result, 100 if fine else 40),
        *power_charts(result, 240 if fine else 80),
        *history_charts(result),
    ]


def interval_charts(result: Result) -> list[Chart]:
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("metric", "at", "low", "high", "text", "tol_low", "tol_high", "tolerance", "limit_at", "limit")
    }
    directions = set()
    for line in lines_of(result, gated_only=False):
        verdict = line.verdict
        if verdict is None or verdict.change is None or not math.isfinite(verdict.change):
            continue
        sign = -100.0 if line.better == "lower" else 100.0
        directions.add(sign)
        ends = verdict.ci if verdict.ci and all(map(math.isfinite, verdict.ci)) else (verdict.change, verdict.change)
        low, high = sorted(sign * edge for edge in ends)
        tolerance, limit = verdict.tolerance or 0.0, verdict.limit
        row = (
            line.label,
            sign * verdict.change,
            low,
            high,
            change_text(verdict.change, verdict.ci),
            -100 * tolerance,
            100 * tolerance,
            percent(tolerance).lstrip("+"),
            None if limit is None else -100 * limit,
            "none" if limit is None else percent(limit).lstrip("+"),
        )
        for name, value in zip(columns, row, strict=True):
            columns[name].append(five(value) if isinstance(value, float) else value)
    if not columns["metric"]:
        return []
    text = "; ".join(f"{metric} {change}" for metric, change in zip(columns["metric"], columns["text"], strict=True))
    return [
        chart(
            "intervals",
            "Change against tolerance and limit",
            f"{text}. Grey band: tolerance; red line: limit; left is worse.",
            {"verdicts": columns},
            height=48 * len(columns["metric"]),
            **_signs(directions),
        )
    ]


# Left is worse whichever sign a metric's change has: labels have the sign of the changes where all metrics agree on it.
_SIZE = "replace(datum.label, '−', '') + ' %'"
_LABELS = {
    100.0: "(datum.value > 0 ? '+' : '') + datum.label + ' %'",
    -100.0: f"(datum.value < 0 ? '+' : datum.value > 0 ? '−' : '') + {_SIZE}",
}


def _signs(directions: set[float]) -> dict[str, str]:
    """Labels and title of the axis of changes."""
    if len(directions) == 1:
        return {"labels": _LABELS[min(directions)], "worse": "← worse · better →"}
    return {"labels": _SIZE, "worse": "← worse by · better by →"}


ROUND_METRICS = (
    "output_throughput",
    "energy_per_output_token",
    "e2el_p50",
    "ttft_p50",
)  # drawn even without a verdict


def pair_charts(result: Result) -> list[Chart]:
    """The change in each launch pair of a duet, in which drift and the load of neighbours cancel."""
    named_duet = result.baseline is not None and "duet" in str(result.baseline.name)
    if not named_duet and not any(launch.side == BASELINE for launch in result.launches):
        return []
    charts = []
    for verdict in result.verdicts:
        reading = result.metrics.get(verdict.metric)
        before = dict(launch_means(result.baseline_launches(verdict.metric)))
        after = dict(launch_means(reading.launches)) if reading else {}
        both = [index for index in after if before.get(index) and math.isfinite(after[index] / before[index])]
        if len(both) < 2:
            continue
        changes = [five(100 * (after[index] / before[index] - 1)) for index in both]
        tolerance = 100 * (verdict.tolerance or 0.0)
        charts.append(
            chart(
                "pairs",
                f"Launch pairs: {metric_label(verdict.metric)}",
                f"{counted(len(both), 'pair')}, candidate against baseline "
                f"{interval_text((min(changes) / 100, max(changes) / 100))}.",
                {
                    "pairs": {"pair": [index + 1 for index in both], "change": changes},
                    "band": {"low": [-tolerance], "high": [tolerance]},
                },
            )
        )
    return charts[:2]


def round_charts(result: Result, most: int) -> list[Chart]:
    charts: list[Chart] = []
    names = dict.fromkeys([*(verdict.metric for verdict in result.verdicts), *ROUND_METRICS])
    for name in names:
        reading = result.metrics.get(name)
        if reading is None or "@" in name or len(charts) == most:
            continue
        sides = {BASELINE: result.baseline_launches(name), CANDIDATE: reading.launches}
        if sum(len(rounds) for rounds in sides[CANDIDATE]) < 2:
            continue
        rounds: dict[str, list[Any]] = {"side": [], "launch": [], "value": []}
        for side, launches in sides.items():
            for number, values in enumerate(launches):
                finite = [five(value) for value in values if math.isfinite(value)]
                rounds["side"] += [side] * len(finite)
                rounds["launch"] += [f"{side} {number + 1}"] * len(finite)
                rounds["value"] += finite
        discarded = _discarded(result, name)
        means = [mean for _, mean in launch_means(reading.launches)]
        low, high = quantity(min(means), reading.unit), quantity(max(means), reading.unit)
        text = f"{counted(len(means), 'launch', 'launches')}, launch means {low} to {high}"
        if sides[BASELINE]:
            text += f"; baseline {quantity(result.baseline_value(name), reading.unit)}"
        if discarded["value"]:
            text += f"; {len(discarded['value'])} discarded rounds crossed out"
        charts.append(
            chart(
                "rounds",
                f"Rounds per launch: {metric_label(name)}",
                text + ".",
                {"rounds": rounds, "discarded": discarded},
                unit=axis(reading.unit),
                domain=span(rounds["value"] + discarded["value"]),
            )
        )
    return charts


def _discarded(result: Result, name: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"launch": [], "value": [], "why": []}
    seen = {BASELINE: 0, CANDIDATE: 0}
    for launch in result.launches:
        seen[launch.side] += 1
        for record in launch.rounds:
            value = record.values.get(name)
            if record.contaminated and value is not None and math.isfinite(value):
                columns["launch"].append(f"{launch.side} {seen[launch.side]}")
                columns["value"].append(five(value))
                columns["why"].append(record.contaminated)
    return columns


def ecdf_charts(result: Result, points: int) -> list[Chart]:
    charts: list[Chart] = []
    for name in result.samples:
        own = sample_of(result.samples, name)
        stored = sample_of(result.baseline.samples, name).values if result.baseline else []
        sides = {BASELINE: stored, CANDIDATE: own.values}
        if len(sides[CANDIDATE]) < 2:
            continue
        figures = figures_of(sides[BASELINE])
        columns: dict[str, list[Any]] = {"side": [], "value": [], "share": []}
        for side, values in sides.items():
            for share, value in ecdf(values, points):
                columns["side"].append(side)
                columns["value"].append(to_figures(value, figures))
                columns["share"].append(round(share, 4))
        unit = own.unit
        middle = [
            f"{side} median {quantity(least_reaching(values, 0.5), unit)}, "
            f"p99 {quantity(least_reaching(values, 0.99), unit)}"
            for side, values in sides.items()
            if values
        ]
        text = f"All requests: {'; '.join(middle)}."
        if result.baseline is not None and not sides[BASELINE]:
            text += " The baseline was saved without its distribution; approve it again to keep it."
        title, domain = f"Distribution of {metric_label(name)}", span(columns["value"])
        charts.append(chart("ecdf", title, text, {"ecdf": columns}, unit=unit, domain=domain))
    return charts


def ecdf(values: Sequence[float], points: int) -> list[tuple[float, float]]:
    """(share of values ≤ v, v) at up to ``points`` ranks of sorted values, both ends included."""
    return [((rank + 1) / len(values), values[rank]) for rank in even_ranks(len(values), points)]


def power_charts(result: Result, points: int) -> list[Chart]:
    trace = result.energy.trace
    if trace is None:
        return []
    times = trace.t_s
    columns: dict[str, list[Any]] = {"t": [], "watts": [], "device": []}
    for device, readings in trace.watts.items():
        if len(readings) != len(times) or not times:
            continue
        every = max(1, math.ceil(len(times) / points))
        for start in range(0, len(times), every):
            # the mean of each stretch, so that thinning the trace keeps its energy
            stretch = readings[start : start + every]
            columns["t"].append(five(times[start] - times[0]))
            columns["watts"].append(five(sum(stretch) / len(stretch)))
            columns["device"].append(str(device))
    if not columns["t"]:
        return []
    energy = result.energy
    idle = [("idle before", energy.idle_w_before), ("idle after", energy.idle_w_after)]
    known = [(when, watts) for when, watts in idle if watts is not None and math.isfinite(watts)]
    text = f"Peak {quantity(max(columns['watts']), 'W')} over {quantity(max(columns['t']), 's')}"
    text += "".join(f"; {when} {quantity(watts, 'W')}" for when, watts in known) + "."
    data = {
        "power": columns,
        "idle": {"when": [when for when, _ in known], "watts": [five(watts) for _, watts in known]},
    }
    return [chart("power", "Power during the measurement", text, data)]


def history_charts(result: Result) -> list[Chart]:
    charts = []
    for name, entry in result.charts.history.items():
        points = entry.points
        if len(points) < 3:  # with two sessions, the history would only repeat the comparison
            continue
        columns: dict[str, list[Any]] = {
            "n": list(range(1, len(points) + 1)),
            "value": [five(point.value) for point in points],
            "at": [point.at for point in points],
            "commit": [(point.commit or "")[:10] for point in points],
        }
        places = [place for place in entry.changes if 0 <= place < len(points)]
        changes = {
            "n": [place + 0.5 for place in places],
            "what": [f"change point before {columns['commit'][place] or columns['at'][place]}" for place in places],
        }
        text = f"{counted(len(points), 'session')}; change points: {len(places) or 'none'}."
        unit = REGISTRY[name].unit if name in REGISTRY else result.metrics[name].unit if name in result.metrics else ""
        charts.append(
            chart(
                "history",
                f"History: {metric_label(name)}",
                text,
                {"history": columns, "changes": changes},
                unit=axis(unit),
                domain=span(columns["value"]),
                ticks=list(range(1, len(points) + 1, math.ceil(len(points) / 12))),
                size="wide",
            )
        )
    return charts


LATENCIES = ("itl_mean", "itl_p50", "tpot_mean", "tpot_p50", "ttft_p50", "e2el_mean", "e2el_p50")
FAMILY_METRICS = (("output_throughput",), LATENCIES, ("energy_per_output_token",))


@dataclass(frozen=True, slots=True)
class Family:
    """Tests that differ only in the batch: their name, model, lengths, and charts against the batch."""

    name: str
    about: str
    charts: list[Chart]


def family_charts(results: Iterable[Result]) -> list[Family]:
    """Throughput, latency and energy against the batch, baseline and candidate, for tests that differ only in the batch."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        batch = result.scenario.get("batch")
        if isinstance(batch, int) and not isinstance(batch, bool) and batch > 0 and result.failure is None:
            rest = {key: value for key, value in result.scenario.items() if key not in ("batch", "location")}
            name = result.id.split("[", 1)[0]
            key = repr(
                (name, result.engine.model, result.engine.name, result.engine.weights, sorted(rest.items(), key=str))
            )
            groups.setdefault(key, []).append(result)
    families = []
    for members in groups.values():
        if len({member.scenario["batch"] for member in members}) < 3:
            continue
        members.sort(key=lambda member: member.scenario["batch"])
        charts = [curve for names in FAMILY_METRICS if (curve := _curve(members, names)) is not None]
        if charts:
            first = members[0]
            lengths = ", ".join(
                f"{key.replace('_', ' ')} {first.scenario[key]}"
                for key in ("input_len", "output_len")
                if key in first.scenario
            )
            families.append(
                Family(
                    name=first.id.split("[", 1)[0].split("::")[-1],
                    about=f"{first.engine.model}, {lengths}".rstrip(", "),
                    charts=charts,
                )
            )
    return families


def _curve(members: Sequence[Result], names: Sequence[str]) -> Chart | None:
    name = next((name for name in names if sum(_known(member, name) for member in members) >= 3), None)
    if name is None:
        return None
    columns: dict[str, list[Any]] = {key: [] for key in ("batch", "value", "side", "test", "verdict")}
    for member in members:
        verdict = next((entry.verdict for entry in member.verdicts if entry.metric == name), "not judged")
        reading = member.metrics.get(name)
        for side, value in ((BASELINE, member.baseline_value(name)), (CANDIDATE, reading.value if reading else None)):
            if value is not None and math.isfinite(value):
                for key, cell in zip(
                    columns, (member.scenario["batch"], five(value), side, member.id, verdict), strict=True
                ):
                    columns[key].append(cell)
    unit = next(member.metrics[name].unit for member in members if _known(member, name))
    worse = sorted(
        {batch for batch, verdict in zip(columns["batch"], columns["verdict"], strict=True) if verdict == "regressed"}
    )
    if worse:
        text = f"Regressed at batch {', '.join(map(str, worse))}."
    else:
        text = "Shown, not judged." if set(columns["verdict"]) == {"not judged"} else "No regression at any batch."
    # Energy per token falls by more than a power of ten over a sweep: on a linear axis its end would be flat.
    spread = (
        min(columns["value"]) > 0 and max(columns["value"]) / min(columns["value"]) > 30 and name.startswith("energy")
    )
    scale = {"type": "log", "nice": True} if spread else {"zero": True}
    ticks = sorted(set(columns["batch"]))
    return chart("curve", metric_label(name), text, {"curve": columns}, unit=unit, x="batch", ticks=ticks, scale=scale)


def _known(member: Result, name: str) -> bool:
    reading = member.metrics.get(name)
    return reading is not None and reading.value is not None and math.isfinite(reading.value)
