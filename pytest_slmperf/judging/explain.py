"""A verdict in words: one line for the terminal, and all details for the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_slmperf.judging.rule import MISS
from pytest_slmperf.model.verdict import Judgement, Verdict
from pytest_slmperf.statistics.variance import STATED_PRIOR
from pytest_slmperf.util.formatting import counted, percent, portion

if TYPE_CHECKING:
    from pytest_slmperf.judging.series import Series


def judgement_of(series: Series) -> Judgement:
    """The current judgement of one metric; an open verdict reads ``inconclusive``."""
    verdict = series.verdict if isinstance(series.verdict, Verdict) else Verdict.INCONCLUSIVE
    gate = series.gate
    if series.estimate is None:
        reason = series.settled[1] if series.settled else "a verdict needs at least two launches"
        more = None if series.settled else max(1, 2 - len(series.candidate))
        return Judgement(gate.metric, verdict, None, None, reason, more, _detail(series))
    rule = series.rule
    low, high = float(rule.lower[0]), float(rule.upper[0])
    if _at_the_last_look(series):  # the interval shown is the one that decided
        low, high = float(rule.last_lower[0]), float(rule.last_upper[0])
    change, ci = _change(series, float(series.estimate.delta[0])), _interval(series, low, high)
    reason = series.settled[1] if series.settled else _reason(series, verdict, change)
    return Judgement(gate.metric, verdict, change, ci, reason, series.more, _detail(series))


def _at_the_last_look(series: Series) -> bool:
    """Whether ``same`` rests on ruling out the limit at MISS, while the reported interval reaches beyond the limit."""
    return series.verdict == Verdict.SAME and float(series.rule.upper[0]) >= series.lam


def _change(series: Series, delta: float) -> float:
    return math.expm1(series.sign * delta)


def _interval(series: Series, low: float, high: float) -> tuple[float, float] | None:
    ends = sorted((series.sign * low, series.sign * high))
    if not all(math.isfinite(end) and end < 700 for end in ends):
        return None
    return math.expm1(ends[0]), math.expm1(ends[1])


def _reason(series: Series, verdict: Verdict, change: float) -> str:
    gate, count = series.gate, len(series.candidate)
    unit = "launch pairs" if series.mode == "duet" else f"launches against {len(series.baseline)} of the baseline"
    seen = f"{percent(change)} over {count} {unit}"
    worse = "lower" if gate.better == "higher" else "higher"
    if verdict == Verdict.REGRESSED:
        fresh = count - series.suspected_at
        confirmed = f", confirmed by {fresh} fresh ones" if series.suspected_at else ""
        return f"{seen}{confirmed}: surely more than {portion(gate.tolerance)} {worse}{_assumed(series)}"
    if verdict == Verdict.IMPROVED:
        return f"{seen}: surely better by more than {portion(gate.tolerance)}"
    if verdict == Verdict.SAME:
        denied = " (a first suspicion was not confirmed)" if series.suspected_at else ""
        level = f" at {portion(1 - MISS)}" if _at_the_last_look(series) else ""
        return f"{seen}: {portion(gate.limit)} {worse} is ruled out{level}{denied}"
    if not series.hosts_suffice and float(series.rule.gate_lower[0]) > series.tau:
        return (
            f"{seen}: forked from too few launch hosts to bear a regression (two a side, and a new one that confirms)"
        )
    if series.verdict == Verdict.INCONCLUSIVE:
        end = "the time" if count < series.max_launches else f"the {series.max_launches} launches"
        if series.more is None:
            return (
                f"{seen}: more launches would not tell, the baseline is too uncertain; add sessions to it or run a duet"
            )
        return f"{seen}: {end} ended first; about {counted(series.more, 'more launch', 'more launches')} would tell"
    if series.suspected_at:
        return f"{seen}: suspicious, being confirmed by fresh launches"
    return f"{seen}: still open"


def _assumed(series: Series) -> str:
    """The assumption behind the verdict: one stored session cannot show the difference between sessions."""
    prior = series.prior
    if series.mode == "duet" or series.sessions > 1 or prior.session_df > STATED_PRIOR.session_df:
        return ""
    return f", if sessions here differ by about {portion(math.sqrt(prior.session_var), 2)} (the baseline is of one session)"


def _detail(series: Series) -> dict[str, Any]:
    gate = series.gate
    detail: dict[str, Any] = {
        "mode": series.mode,
        "better": gate.better,
        "tolerance": gate.tolerance,
        "limit": gate.limit,
        "alpha": series.alpha,
        "interval_level": 1 - (2 * MISS if _at_the_last_look(series) else series.interval_alpha),
        "launches": {"candidate": len(series.candidate), "baseline": len(series.baseline)},
        "looks": list(series.rule.looks),
        "prior": series.prior.as_dict(),
        "launch_values": {
            "candidate": [math.exp(centre) for centre in series.candidate.log_centres],
            "baseline": [math.exp(centre) for centre in series.baseline.log_centres],
        },
        "outlying_rounds": {
            "candidate": series.candidate.outlying,
            "baseline": series.baseline.outlying,
        },
    }
    estimate = series.estimate
    if estimate is not None:
        rule = series.rule
        detail |= {
            "se_percent": 100 * float(estimate.se[0]),
            "df": float(estimate.df[0]),
            "unit_sd_percent": 100 * math.sqrt(float(estimate.unit_var[0])),
            "session_and_baseline_sd_percent": 100 * math.sqrt(float(estimate.fixed_var[0])),
            "noisier_than_history": bool(estimate.conflict[0]),
            "gate_interval": _interval(series, float(rule.gate_lower[0]), float(rule.gate_upper[0])),
        }
        if series.suspected_at and series.confirmation is not None:
            bound = float(rule.confirm_lower[0])
            detail["confirmation"] = {
                "after_launches": series.suspected_at,
                "launches": int(series.confirmation.launches[0]),
                "change": _change(series, float(series.confirmation.delta[0])),
                "worse_by_at_least": math.expm1(bound) if math.isfinite(bound) else None,
            }
    return detail
