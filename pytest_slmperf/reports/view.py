"""The view model: the content of terminal, Markdown and HTML reports, computed once. The reports only lay it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from statistics import median

from pytest_slmperf.judging.comparison import common_shift
from pytest_slmperf.metrics.registry import REGISTRY
from pytest_slmperf.model.result import MetricValue, Result, Results, Session
from pytest_slmperf.model.verdict import Verdict, VerdictRecord
from pytest_slmperf.reports.facts import Difference, differences, session_facts
from pytest_slmperf.reports.wording import direction_word, metric_label
from pytest_slmperf.util.formatting import before_and_after, change_text, interval_text, percent, quantity

# Worst first. "failed" (could not be measured) and "measured" (nothing was judged) are outcomes of a test, not verdicts.
OUTCOMES = ("failed", *(verdict.value for verdict in Verdict), "measured")
SYMBOLS = {
    "failed": "✗",
    "regressed": "▼",
    "incomparable": "≠",
    "inconclusive": "?",
    "new": "+",
    "improved": "▲",
    "same": "=",
    "measured": "·",
}

CALM = ("same", "measured")  # outcomes that need no attention


def rank(outcome: str) -> int:
    """Place in ``OUTCOMES``, 0 being the worst. An unknown name ranks with the worst, so that it is seen."""
    return OUTCOMES.index(outcome) if outcome in OUTCOMES else 0


@dataclass(frozen=True, slots=True)
class Line:
    """One judged (or only measured) metric of one test."""

    result: Result
    metric: str
    outcome: str
    verdict: VerdictRecord | None
    reading: MetricValue | None

    @property
    def label(self) -> str:
        return metric_label(self.metric)

    @property
    def better(self) -> str:
        """The metric's direction; one judged at a point of a sweep (``metric@key``) has that of its metric."""
        if self.reading is not None:
            return self.reading.better
        known = REGISTRY.get(self.metric.partition("@")[0])
        return known.better if known else "none"

    @property
    def value(self) -> str:
        if self.reading is None:
            return "–"
        return quantity(self.reading.value, self.reading.unit)

    @property
    def before(self) -> float | None:
        """The baseline's value."""
        return self.result.baseline_value(self.metric)

    @property
    def both(self) -> str:
        """Baseline and value with one unit."""
        if self.reading is None:
            return "–"
        return before_and_after(self.before, self.reading.value, self.reading.unit)

    @property
    def change(self) -> str:
        return change_text(self.verdict.change, self.verdict.ci) if self.verdict else "–"

    @property
    def verdict_text(self) -> str:
        """The outcome, and whether it rests on a baseline that nobody approved."""
        return f"{self.outcome}, provisional" if self.verdict and self.verdict.provisional else self.outcome

    @property
    def symbol(self) -> str:
        return SYMBOLS.get(self.outcome, "!")

    @property
    def before_text(self) -> str:
        """The baseline's value with its unit; empty where there is none."""
        return quantity(self.before, self.reading.unit if self.reading else "") if self.before is not None else ""

    @property
    def percent_change(self) -> str:
        """The change alone; empty where there is none."""
        return percent(self.verdict.change) if self.verdict and self.verdict.change is not None else ""

    @property
    def interval(self) -> str:
        """The change's interval; empty where there is none."""
        return interval_text(self.verdict.ci) if self.verdict and self.verdict.ci else ""

    @property
    def certainty(self) -> str:
        """The change's interval, its level, and whether fresh launches confirmed it; empty where there is no interval."""
        if self.verdict is None or not self.interval:
            return ""
        level = self.verdict.detail.get("interval_level")
        head = f"{level * 100:g} % interval" if isinstance(level, (int, float)) and 0 < level < 1 else "interval"
        confirmation = self.verdict.detail.get("confirmation")
        fresh = confirmation.get("launches") if isinstance(confirmation, dict) else None
        confirmed = f", confirmed by {fresh} fresh launches" if fresh and self.outcome == "regressed" else ""
        return f"{head} {self.interval}{confirmed}"

    @property
    def direction(self) -> str:
        """``worse``, ``better`` or nothing, as the change goes."""
        return direction_word(self.verdict.change, self.better) if self.verdict else ""

    @property
    def worseness(self) -> float | None:
        """The change with its sign turned so that larger is worse; None where there is none."""
        if self.verdict is None or self.verdict.change is None:
            return None
        return self.verdict.change if self.better == "lower" else -self.verdict.change

    @property
    def gated(self) -> bool:
        return self.verdict.gate if self.verdict else bool(self.reading and self.reading.gate)

    @property
    def reason(self) -> str:
        """The verdict's reason, or else why there is no reading; empty if neither is recorded."""
        if self.outcome == "failed":
            return (self.result.failure or "no reason was recorded").strip()
        if self.verdict and self.verdict.reason:
            return self.verdict.reason
        if self.reading is not None and self.reading.value is None and self.reading.reason:
            return f"unavailable: {self.reading.reason}"
        return ""


def lines_of(result: Result, *, gated_only: bool = True) -> list[Line]:
    """The lines of one test: judged metrics that gate, worst first, then (``gated_only`` False) the other judged ones.

    A test without any verdict still has a line, so that it is never missing from a table.
    """
    if result.failure is not None and not result.verdicts:
        return [Line(result, "", "failed", None, None)]
    judged = [
        Line(result, verdict.metric, str(verdict.verdict), verdict, result.metrics.get(verdict.metric))
        for verdict in result.verdicts
        if verdict.gate or not gated_only
    ]
    if judged:
        return sorted(judged, key=lambda line: (not line.gated, rank(line.outcome)))
    shown = [line for line in lines_of(result, gated_only=False) if line.outcome != "measured"] if gated_only else []
    shown = [line for line in shown if line.verdict is not None and line.verdict.change is not None]
    if shown:  # judged without a gate (quarantine, gate=False): shown as well
        return shown
    chosen = [name for name, reading in result.metrics.items() if reading.gate] or list(result.metrics)[:1]
    if not chosen:
        return [Line(result, "", "measured", None, None)]
    return [Line(result, name, "measured", None, result.metrics[name]) for name in chosen]


@dataclass(frozen=True, slots=True)
class Group:
    """Lines with the same outcome for the same reason, so that a report gives the reason once."""

    outcome: str
    reason: str
    lines: list[Line]

    @property
    def tests(self) -> list[str]:
        return list(dict.fromkeys(line.result.id for line in self.lines))


def grouped(lines: Iterable[Line]) -> list[Group]:
    """The lines by outcome and reason, worst outcome first; a line without a reason makes a group alone."""
    groups: dict[tuple[object, ...], Group] = {}
    for line in sorted(lines, key=lambda line: rank(line.outcome)):
        alone = () if line.reason else (line.result.id, line.metric)
        groups.setdefault((line.outcome, line.reason, *alone), Group(line.outcome, line.reason, [])).lines.append(line)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class ResultView:
    """One measured test. ``name`` is its short id; ``lines`` (never empty) are the judged metrics that gate, worst first;
    ``all_lines`` holds the judged metrics that do not gate as well."""

    result: Result
    name: str
    outcome: str
    lines: list[Line]
    all_lines: list[Line]

    @property
    def simulated(self) -> bool:
        return simulated(self.result)

    @property
    def severity(self) -> tuple[int, float]:
        """Sorts the worst outcome first, then the largest change for the worse."""
        return rank(self.outcome), -(self.lines[0].worseness or 0.0)


@dataclass(frozen=True, slots=True)
class ReportView:
    """A whole session. ``tests`` are in the order measured; ``counts`` are tests per outcome, the worst first."""

    results: Results
    tests: list[ResultView]
    counts: dict[str, int]
    differences: list[Difference]
    facts: list[tuple[str, str]]

    @property
    def session(self) -> Session:
        return self.results.session

    @property
    def simulated(self) -> bool:
        """Whether any test was measured on the simulated engine."""
        return any(test.simulated for test in self.tests)

    @property
    def own_failures(self) -> str:
        """A phrase with the number of tests that failed for another reason than a verdict, for a headline; empty if there
        are none."""
        count = len(self.session.failed_tests)
        tests, their = ("test", "its") if count == 1 else ("tests", "their")
        return "" if not count else f"{count} {tests} failed by {their} own assertion or error"

    def lines(self, *, gated_only: bool = True) -> list[Line]:
        """The lines of all tests, in the order measured."""
        return [line for test in self.tests for line in (test.lines if gated_only else test.all_lines)]


def view_of(results: Results) -> ReportView:
    """The view of these results, which must not change while it is used."""
    names = short_ids(results.results)
    tests = [
        ResultView(result, names[result.id], outcome_of(result), lines_of(result), lines_of(result, gated_only=False))
        for result in results.results
    ]
    outcomes = Counter(test.outcome for test in tests)
    counts = {outcome: outcomes[outcome] for outcome in OUTCOMES if outcome in outcomes}
    return ReportView(results, tests, counts, differences(results.results), session_facts(results))


def outcome_of(result: Result) -> str:
    """The test's outcome: failed when it could not be measured, else the worst of its gated verdicts."""
    return "failed" if result.failure is not None else lines_of(result)[0].outcome


def worseness_of(result: Result) -> float | None:
    """How much worse a test became: the median over its judged metrics; None if none has a change."""
    worse = [line.worseness for line in lines_of(result) if line.worseness is not None]
    return median(worse) if worse else None


def simulated(result: Result) -> bool:
    """Whether this was measured on the simulated engine: such figures say nothing of any hardware."""
    return result.engine.simulated


def short_ids(results: Iterable[Result]) -> dict[str, str]:
    """Test ids without their file where that stays unambiguous."""
    ids = [result.id for result in results]
    short = [
        identifier.rsplit("/", 1)[-1] if "::" not in identifier else identifier.split("::", 1)[1] for identifier in ids
    ]
    if len(set(short)) < len(set(ids)):
        short = [_without_folder(identifier) for identifier in ids]
    if len(set(short)) < len(set(ids)):
        folders = [identifier.partition("::")[0].split("/")[:-1] for identifier in ids]
        alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
        shared = "".join(f"{parts[0]}/" for parts in alike)
        short = [identifier.removeprefix(shared) for identifier in ids]
    return dict(zip(ids, short, strict=True))


def _without_folder(identifier: str) -> str:
    file, separator, rest = identifier.partition("::")
    return file.rsplit("/", 1)[-1] + separator + rest


# The note for a reader where nearly all tests of a comparison went one way.


def shift_notes(results: Iterable[Result]) -> list[str]:
    """One note, or none, for results compared with what was measured at another time; a duet needs none."""
    shift = common_shift([worse for result in results if (worse := worseness_of(result)) is not None])
    if shift is None:
        return []
    way, hint = (
        ("worse", "a duet (--slmperf-against) tells a slower machine from a slower engine")
        if shift.median > 0
        else ("better", "a single test that got worse by less than that does not show")
    )
    return [
        f"{shift.agree} of {shift.tests} tests came out {way} than their baselines, by "
        f"{percent(abs(shift.median)).lstrip('+')} in the median: so common a change lies in what they share (the machine "
        f"on that day, the engine, its settings), not in one test; {hint}"
    ]
