"""Approval of measured results as the baseline: the changes that it makes, shown and saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_slmperf.baselines import builder, comparability
from pytest_slmperf.baselines.builder import KEPT_SESSIONS, Mode
from pytest_slmperf.baselines.store import Store, check_name
from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.util.checks import near_names
from pytest_slmperf.util.formatting import before_and_after, counted, percent, quantity

_AGAIN = "its launches were imported before; counted once"
SHOWN = 20  # tests whose change a session's summary shows; ``slmperf baselines approve`` shows all


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A gated metric before and after: mean of the launch means, in ``unit``; ``old`` None for a new metric."""

    metric: str
    unit: str
    old: float | None
    new: float

    @property
    def change(self) -> float | None:
        return self.new / self.old - 1 if self.old else None


@dataclass(frozen=True, slots=True)
class Change:
    """The effect of approving one result.

    added:     it is the first baseline of its test
    extended:  the baseline gains a session
    replaced:  the older sessions are dropped
    unchanged: its launches are already in the baseline, or older than all that the baseline keeps
    refused:   with the reason: nothing was measured, or its test failed and the user did not name it
    """

    test: str
    action: Literal["added", "extended", "replaced", "unchanged", "refused"]
    metrics: list[MetricChange] = field(default_factory=list)
    why: str = ""
    lost: str = ""  # why the session could not be added to the test's history

    def lines(self) -> list[str]:
        """The lines about the change for a terminal."""
        head = f"{self.test}: {self.action}" + (f" ({self.why})" if self.why else "")
        lost = [f"  not in the history: {self.lost}"] if self.lost else []
        return [head, *(f"  {_describe(change)}" for change in self.metrics), *lost]


def preview(
    store: Store, results: Results, name: str, mode: Mode = "auto", *, only: Sequence[str] | None = None
) -> list[Change]:
    """The changes that ``save_all`` would make with an approval; only reads."""
    check_name(name)
    return [
        _change(store, results, result, name, mode, approved_at="", approving=not only)
        for result in chosen(results.results, only)
    ]


def save_all(
    store: Store,
    results: Results,
    name: str,
    *,
    reason: str | None,
    approved_at: str | None,
    mode: Mode = "auto",
    only: Sequence[str] | None = None,
) -> list[Change]:
    """Save every measured result under ``name`` and add it to the history; returns the changes.

    ``approved_at`` None: saved, not approved. ``only``: save these test ids only. Refused are results without readings and,
    in an approval, results whose test failed by its own assertion or error, unless ``only`` names them; all others are
    saved. BaselineError if the store cannot be read or written.
    """
    changes = []
    approving = approved_at is not None and not only
    for result in chosen(results.results, only):
        change = _change(store, results, result, name, mode, approved_at=approved_at, approving=approving)
        changes.append(change)
        if change.action in ("refused", "unchanged"):
            continue
        store.save(name, result, results.session, results.machine, reason, approved_at=approved_at, mode=mode)
        try:
            store.remember(result, results.session, results.machine, approved=approved_at is not None)
        except BaselineError as error:  # this baseline is saved already, and those of the other tests must be saved too
            changes[-1] = replace(change, lost=str(error))
    return changes


def chosen(results: Iterable[Result], only: Sequence[str] | None) -> list[Result]:
    """The results of the tests in ``only``, or all. InvalidInput for a test without a result."""
    known = {result.id: result for result in results}
    for test in only or ():
        if test not in known:
            near = near_names(test, known, 2) or list(known)[:2]
            raise InvalidInput(
                f"no result of {test!r}; these results hold, among others, {', '.join(near) or 'nothing'}"
            )
    return [known[test] for test in only] if only else list(known.values())


def _change(
    store: Store, results: Results, result: Result, name: str, mode: Mode, *, approved_at: str | None, approving: bool
) -> Change:
    # An approval accepts figures in spite of their verdicts. It does not cover the test's own assertions (an SLO): later
    # runs would be compared with figures that violate them.
    if approving and (failed := results.session.own_failure(result.id)) is not None:
        why = f"its test failed: {failed}; slmperf baselines approve --test ID stores it all the same"
        return Change(result.id, "refused", why=why)
    try:
        new = builder.from_result(name, result, results.session, results.machine, None, approved_at)
    except InvalidInput as error:
        return Change(result.id, "refused", why=str(error).removeprefix(f"{result.id}: "))
    old = store.load(new.fingerprint, name, result.id)
    if old is None:
        return Change(result.id, "added", _metrics(None, new, result))
    merged = builder.merged(old, new, mode, result)
    if merged is old:
        older = len(old.sessions) >= KEPT_SESSIONS and new.newest.started_at < old.sessions[0].started_at
        why = f"older than the {KEPT_SESSIONS} sessions that are kept" if older else _AGAIN
        return Change(result.id, "unchanged", why=why)
    if any(session.id != new.newest.id for session in merged.sessions):
        return Change(result.id, "extended", _metrics(old, new, result), counted(len(merged.sessions), "session"))
    return Change(result.id, "replaced", _metrics(old, new, result), _why_replaced(old, new, result))


def _metrics(old: Baseline | None, new: Baseline, result: Result) -> list[MetricChange]:
    from pytest_slmperf.metrics.registry import REGISTRY

    changes = []
    for name, value in result.metrics.items():
        now = mean(new, name)
        # A metric that this session did not measure is in older sessions only and does not change.
        if now is not None and any(value.launches) and (value.gate or (name in REGISTRY and REGISTRY[name].gate)):
            changes.append(MetricChange(name, value.unit, mean(old, name) if old else None, now))
    return changes


def mean(baseline: Baseline, metric: str) -> float | None:
    """Mean of the launch means over all sessions; None without a launch."""
    launches = [
        launch
        for session in baseline.sessions
        if metric in session.metrics
        for launch in session.metrics[metric].launches
    ]
    return math.fsum(math.fsum(rounds) / len(rounds) for rounds in launches) / len(launches) if launches else None


def _why_replaced(old: Baseline, new: Baseline, result: Result) -> str:
    changed = comparability.changes(old.work, new.work)
    if changed:
        return f"scenario changed: {', '.join(changed)}"
    if old.engine.version != new.engine.version:
        return f"engine version {old.engine.version} → {new.engine.version}"
    verdicts = [verdict for verdict in result.verdicts if verdict.verdict in (Verdict.REGRESSED, Verdict.IMPROVED)]
    if verdicts:
        return ", ".join(f"{verdict.metric} {verdict.verdict}" for verdict in verdicts)
    return "engine settings changed" if old.engine.settings != new.engine.settings else "same session, or as asked"


def shown(changes: Sequence[Change], most: int = SHOWN) -> list[str]:
    """The lines of the changes that a reader must see, which excludes baselines that only gain a session.

    Refused results come first, then the largest changes.
    """

    def order(change: Change) -> tuple[bool, float]:
        return change.action != "refused", -max((abs(metric.change or 0) for metric in change.metrics), default=0.0)

    telling = sorted((change for change in changes if change.action not in ("extended", "unchanged")), key=order)
    lines = [line for change in telling[:most] for line in change.lines()]
    return lines + ([f"and {len(telling) - most} more"] if len(telling) > most else [])


def as_json(change: Change) -> dict[str, Any]:
    return {
        "test": change.test,
        "action": change.action,
        "why": change.why,
        "lost": change.lost,
        "metrics": [
            {
                "metric": metric.metric,
                "unit": metric.unit,
                "old": metric.old,
                "new": metric.new,
                "change": metric.change,
            }
            for metric in change.metrics
        ],
    }


def _describe(metric: MetricChange) -> str:
    if metric.old is None or metric.change is None:
        return f"{metric.metric}: {quantity(metric.new, metric.unit)}"
    return f"{metric.metric}: {before_and_after(metric.old, metric.new, metric.unit)} ({percent(metric.change)})"
