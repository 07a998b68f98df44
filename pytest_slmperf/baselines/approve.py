"""Making measured results the baseline, after showing what that changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_slmperf.baselines import builder, comparability
from pytest_slmperf.baselines.store import KEPT_SESSIONS, Mode, Store, check_name
from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model.baseline import Baseline
from pytest_slmperf.model.result import Result, Results
from pytest_slmperf.model.verdict import Verdict
from pytest_slmperf.util.checks import near_names
from pytest_slmperf.util.formatting import before_and_after, counted, percent, quantity

_AGAIN = "its launches were imported before; counted once"
SHOWN = 20  # tests whose change a session's summary tells; slmperf baselines approve tells all


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A gated metric before and after: mean of the launch means, in ``unit``; ``old`` None where there was none."""

    metric: str
    unit: str
    old: float | None
    new: float

    @property
    def change(self) -> float | None:
        return self.new / self.old - 1 if self.old else None


@dataclass(frozen=True, slots=True)
class Change:
    """What approving one result does: ``added`` (first baseline), ``extended`` (a session more), ``replaced`` (the older
    sessions go), ``unchanged`` (its launches are in it already, or older than all that it keeps), or ``refused`` with the
    reason (nothing was measured, or its test failed and nobody approved that)."""

    test: str
    action: Literal["added", "extended", "replaced", "unchanged", "refused"]
    metrics: list[MetricChange] = field(default_factory=list)
    why: str = ""
    lost: str = ""  # why the session is not in the test's history, where it could not be noted there

    def lines(self) -> list[str]:
        """The change in words, for a terminal."""
        head = f"{self.test}: {self.action}" + (f" ({self.why})" if self.why else "")
        lost = [f"  not in the history: {self.lost}"] if self.lost else []
        return [head, *(f"  {_describe(change)}" for change in self.metrics), *lost]


def preview(
    store: Store, results: Results, name: str, mode: Mode = "auto", *, only: Sequence[str] | None = None
) -> list[Change]:
    """What ``save_all`` would do with an approval; reads only."""
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
    """Save every measured result under ``name`` and note it in the history; returns what was done.

    ``approved_at`` None: saved, not approved. ``only`` limits it to these test ids. A result that holds nothing to save
    is ``refused`` and the others are saved; so is, in an approval, one whose test failed by its own assertion or error,
    unless ``only`` names it. BaselineError when the store cannot be read or written.
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
        except BaselineError as error:  # the baseline is saved, and the other tests' are to be
            changes[-1] = replace(change, lost=str(error))
    return changes


def chosen(results: Iterable[Result], only: Sequence[str] | None) -> list[Result]:
    """The results of the tests named, or all. InvalidInput for a test that is not among them."""
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
    # Approving accepts what a verdict says of the figures. It says nothing of what the test itself asserts (an SLO),
    # and figures that break that would be what every later run is measured by.
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
        # what this session did not measure stands in older ones only, and so does not change
        if now is not None and any(value.launches) and (value.gate or (name in REGISTRY and REGISTRY[name].gate)):
            changes.append(MetricChange(name, value.unit, mean(old, name) if old else None, now))
    return changes


def mean(baseline: Baseline, metric: str) -> float | None:
    """Mean of the launch means over all sessions, None where there is none."""
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
    """The lines of the changes that a reader must see: a session more of the same is none.

    What was not saved comes first, then the largest change.
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
