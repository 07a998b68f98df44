"""One verdict of a whole sweep: has the frontier moved back at a point that matters? And the metrics of a whole sweep.

``judging.comparison`` compares every objective at every point, and the hypervolume, each with an even share of the sweep's
error.  A point matters unless it is dominated for certain in the baseline: no user runs a dominated point, so that its
slowdown harms nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_slmperf.frontier import pareto
from pytest_slmperf.frontier.pareto import Standing
from pytest_slmperf.frontier.points import Key, Objective, Point, numeric_keys
from pytest_slmperf.metrics.registry import hypervolume, knee_key, knee_kv_share, peak_output_throughput
from pytest_slmperf.model.verdict import Judgement, Verdict
from pytest_slmperf.util.formatting import percent

VOLUME = "hypervolume"
ENERGY = "energy_per_output_token"  # judged at each point with a reading, in addition to the objectives
AT = "@"
MOST = 0.99  # a limit is below 100 %


def point_metric(metric: str, key: Key) -> str:
    """Name of a metric at one point of a sweep: ``output_throughput@64``."""
    return f"{metric}{AT}{key}"


def split_point_metric(name: str) -> tuple[str, str | None]:
    """(metric, key as text) of a name made by ``point_metric``; the key is None for a metric of the whole sweep."""
    metric, sign, key = name.partition(AT)
    return metric, key if sign else None


def volume_margin(margin: float, objectives: int) -> float:
    """Tolerance or limit of the hypervolume that corresponds to ``margin`` in each of ``objectives`` at a point.

    A factor f in each of n objectives changes the volume by f**n: with the points' own margin the hypervolume would be
    judged n times as strictly as the points.
    """
    return min((1 + margin) ** objectives - 1, MOST)


@dataclass(frozen=True, slots=True)
class FrontierVerdict:
    """The verdict of a sweep. ``lost`` and ``won``: keys of the points that matter and got worse or better.

    ``worst``: the regressed judgement with the largest change; None if nothing that matters regressed.
    """

    verdict: Verdict
    reason: str
    lost: tuple[str, ...]
    won: tuple[str, ...]
    unseen: tuple[str, ...]  # regressed points that the baseline's frontier does not need
    worst: Judgement | None
    volume: Judgement | None

    def detail(self) -> dict[str, Any]:
        """JSON-ready, for the report."""
        return {"lost": list(self.lost), "won": list(self.won), "unseen": list(self.unseen)}

    def judgement(self, detail: Mapping[str, Any], more_launches: int | None = None) -> Judgement:
        """The verdict as the hypervolume's judgement, with its change and interval. ``detail``: further grounds of it."""
        return Judgement(
            VOLUME,
            self.verdict,
            change=None if self.volume is None else self.volume.change,
            ci=None if self.volume is None else self.volume.ci,
            reason=self.reason,
            more_launches=more_launches,
            detail={**detail, **self.detail()},
        )


def frontier_verdict(
    judgements: Sequence[Judgement], baseline_standings: Mapping[str, Standing], *, key_name: str = "point"
) -> FrontierVerdict:
    """One verdict from the judgements of the points (named by ``point_metric``) and of the hypervolume.

    ``baseline_standings``: key as text → standing among the baseline's points. The comparisons that matter are the
    hypervolume's and those of points that matter; the verdict is

    regressed     if one of them regressed
    improved      if none regressed, all were decided and one improved
    same          if all are "same"
    inconclusive  if one is still open
    incomparable  if one has no reading on one side (a point that failed now, for instance)
    new           if there was nothing to compare with
    """
    volume = next((judgement for judgement in judgements if judgement.metric == VOLUME), None)
    by_point: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        key = split_point_metric(judgement.metric)[1]
        if key is not None:
            by_point.setdefault(key, []).append(judgement)
    matters = {key for key in by_point if baseline_standings.get(key, "frontier") != "dominated"}
    lost = tuple(key for key, judged in by_point.items() if key in matters and _any(judged, Verdict.REGRESSED))
    unseen = tuple(key for key, judged in by_point.items() if key not in matters and _any(judged, Verdict.REGRESSED))
    won = tuple(
        key for key, judged in by_point.items() if key in matters and key not in lost and _any(judged, Verdict.IMPROVED)
    )
    watched = [judgement for key, judged in by_point.items() if key in matters for judgement in judged]
    watched += [volume] if volume else []
    regressed = [judgement for judgement in watched if judgement.verdict == Verdict.REGRESSED]
    worst = max(regressed, key=lambda judgement: abs(judgement.change or 0.0), default=None)
    name, reason = _decide(watched, volume, lost, won, worst, key_name)
    if unseen:
        reason += f"; {key_name} {', '.join(unseen)} got worse too, but other points of the baseline dominate it"
    return FrontierVerdict(name, reason, lost, won, unseen, worst, volume)


def _decide(
    watched: Sequence[Judgement],
    volume: Judgement | None,
    lost: Sequence[str],
    won: Sequence[str],
    worst: Judgement | None,
    key_name: str,
) -> tuple[Verdict, str]:
    kinds = {judgement.verdict for judgement in watched}
    if worst is not None:
        where = (
            f"the frontier moved back at {key_name} {', '.join(lost)}" if lost else "the frontier as a whole moved back"
        )
        return Verdict.REGRESSED, f"{where}: {worst.metric} {_percent(worst.change)}"
    if not watched or kinds <= {Verdict.NEW, Verdict.INCOMPARABLE}:
        reasons = list(dict.fromkeys(judgement.reason for judgement in watched)) or ["no point was compared"]
        return (Verdict.NEW if kinds == {Verdict.NEW} else Verdict.INCOMPARABLE), "; ".join(reasons)
    if Verdict.INCONCLUSIVE in kinds:
        open_ones = [judgement.metric for judgement in watched if judgement.verdict == Verdict.INCONCLUSIVE]
        return (
            Verdict.INCONCLUSIVE,
            f"{len(open_ones)} of {len(watched)} comparisons stayed open: {', '.join(open_ones[:4])}",
        )
    if Verdict.INCOMPARABLE in kinds:
        lacking = [judgement for judgement in watched if judgement.verdict == Verdict.INCOMPARABLE]
        named = ", ".join(judgement.metric for judgement in lacking[:4])
        return (
            Verdict.INCOMPARABLE,
            f"{len(lacking)} of {len(watched)} comparisons could not be made: {named} ({lacking[0].reason})",
        )
    if won or (volume is not None and volume.verdict == Verdict.IMPROVED):
        where = f" at {key_name} {', '.join(won)}" if won else ""
        return Verdict.IMPROVED, f"the frontier moved forward{where} and back nowhere"
    return Verdict.SAME, f"the frontier moved back nowhere ({len(watched)} comparisons)"


def _any(judged: Sequence[Judgement], verdict: Verdict) -> bool:
    return any(judgement.verdict == verdict for judgement in judged)


def _percent(change: float | None) -> str:
    return "by an unknown amount" if change is None else percent(change)


# Metrics of a whole sweep: hypervolume, peak, knee.


def whole_of(points: Sequence[Point], goals: Sequence[Objective]) -> dict[str, float]:
    """Hypervolume, peak throughput and, if keys are numbers, the knee and its KV share."""
    throughputs = [point.values[goals[0].name] for point in points]
    values = {
        hypervolume.name: pareto.hypervolume(points, goals).volume,
        peak_output_throughput.name: peak_output_throughput(throughputs),
    }
    if numeric_keys(points):
        knee = values[knee_key.name] = knee_key([point.number for point in points], throughputs)
        peaks = {point.number: point.values.get("kv_cache_peak") for point in reversed(points)}
        known = {key: peak for key, peak in peaks.items() if peak is not None}
        if knee in known:
            values[knee_kv_share.name] = knee_kv_share(known, knee)
    return values
