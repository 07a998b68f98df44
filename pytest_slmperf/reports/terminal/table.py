"""The verdict table and the closing lines at the end of a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import NEXT_TIME, UNDECIDED
from pytest_slmperf.reports import wording
from pytest_slmperf.reports.view import CALM, SYMBOLS, Group, Line, ReportView, grouped, simulated
from pytest_slmperf.reports.wording import difference_text, elide, printable, width_of, wrap
from pytest_slmperf.text_out import log_line
from pytest_slmperf.util.formatting import change_text, counted, more_text, number, portion, quantity

COLOURS = {
    "failed": "31;1",
    "regressed": "31;1",
    "incomparable": "35",
    "inconclusive": "33",
    "new": "36",
    "improved": "32",
    "same": "",
    "measured": "",
}
REWORKED = (
    "scenario changed",
    "other work",
)  # beginnings of a reason that names other work
USUAL_LEVEL = 0.99  # coverage of every interval, except one that decided at the last look
MAX_NAMES = 5  # tests named beside a reason they share
LONGEST = 4000  # columns of a line of a message; its middle is left out here, and is in the report
GAP = 2  # columns between two cells
PROVISIONAL = "~"  # mark of a verdict against this machine's own sessions
MAX_METRIC = 17  # "output_throughput"; longer names are cut in the table and whole in the reasons
MIN_METRIC = 12  # "output_thro…" is still unique
GOOD_NAME, LEAST_NAME = 16, 10  # columns that a test's name gets before other columns


def paint(text: str, outcome: str, colour: bool) -> str:
    """The text in the outcome's colour; the bare text where colour is off or the outcome needs none."""
    code = COLOURS.get(outcome, "")
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def verdict_table(view: ReportView, width: int = 80, verbosity: int = 0, colour: bool = False) -> str:
    """One line for each test and gated metric, then the reason for everything that is not ``same``.

    ``verbosity`` < 0: only the reasons; ≥ 1: metrics that are judged but do not gate, too; ≥ 2: every metric with its
    interval and launches, and what changed.  No line is longer than ``width`` columns.
    """
    if not view.tests:
        return "no performance test was measured"
    parts = []
    if verbosity >= 0:
        names = {test.result.id: printable(test.name) for test in view.tests}
        parts.append(_table(view.lines(gated_only=verbosity < 1), names, width, colour))
    reasons = _reasons(view, width, verbosity, colour)
    if reasons:
        parts.append("\n".join(reasons))
    if verbosity >= 2:
        parts.append("\n".join(text for test in view.tests for text in metric_lines(test.result, width)))
    return "\n\n".join(parts)


def _table(lines: Sequence[Line], names: Mapping[str, str], width: int, colour: bool) -> str:
    """The table within ``width`` columns: what does not fit goes in the order of ``_fit``."""
    import tabulate

    columns = {
        "test": [names[line.result.id] for line in lines],
        "metric": [elide(printable(line.metric) or "–", MAX_METRIC, keep="start") for line in lines],
        "value": [
            printable(line.value) + (" sim" if simulated(line.result) and line.reading is not None else "")
            for line in lines
        ],
        "change": [_change(line) + ("*" if 0 < _level(line) < USUAL_LEVEL else "") for line in lines],
        "verdict": [f"{SYMBOLS.get(line.outcome, '!')} {line.outcome}{_mark(line)}" for line in lines],
    }
    _fit(columns, lines, width, tabulate.MIN_PADDING)
    shown = columns["test"]
    columns["verdict"] = [
        paint(cell, line.outcome, colour) for cell, line in zip(columns["verdict"], lines, strict=True)
    ]
    columns["test"] = ["x" * width_of(name) for name in shown]  # tabulate counts characters, a terminal columns
    text = tabulate.tabulate(
        columns,
        headers="keys",
        tablefmt="simple",
        colalign=["right" if name in ("value", "change") else "left" for name in columns],
        disable_numparse=True,
    )
    top, rule, *rows = text.split("\n")
    rows = [name + row[width_of(name) :] for name, row in zip(shown, rows, strict=True)]
    texts = [log_line(row.rstrip()) for row in [top, rule, *rows]]
    if any(line.verdict and line.verdict.provisional for line in lines):
        text = f"{PROVISIONAL} provisional: compared with this machine's last sessions, which nobody approved"
        texts += _wrapped(text, width, "", False)
    if any(cell.endswith("*") for cell in columns.get("change", ())):
        levels = sorted({_level(line) for line in lines if 0 < _level(line) < USUAL_LEVEL})
        lower = ", ".join(map(portion, levels))
        texts += _wrapped(
            f"* interval at {lower}, which decided at the last look; others at {portion(USUAL_LEVEL)}", width, "", False
        )
    return "\n".join(texts)


def _level(line: Line) -> float:
    """Coverage of the interval that a line shows; 0 where it shows none."""
    if line.verdict is None or line.verdict.ci is None:
        return 0.0
    level = line.verdict.detail.get("interval_level")
    return float(level) if isinstance(level, (int, float)) else 0.0


def _mark(line: Line) -> str:
    return f" {PROVISIONAL}" if line.verdict and line.verdict.provisional else ""


def _change(line: Line) -> str:
    verdict = line.verdict
    return change_text(verdict.change, verdict.ci, short=True).replace(" %", "%") if verdict else "–"


def _fit(columns: dict[str, list[str]], lines: Sequence[Line], width: int, padding: int) -> None:
    """Make the columns fit, in place: shorter metrics, then no value, no interval, no metric; then shorter names.

    The report shows the value as well, and the reason of what is not ``same`` its interval.  Only the first of a test's
    rows has its name.
    """

    def wide(name: str) -> int:
        return max(width_of(name) + padding, *(width_of(cell) for cell in columns[name]))  # room beside a header

    def room() -> int:
        return width - sum(wide(name) + GAP for name in columns if name != "test")

    good, least = (min(wide("test"), enough) for enough in (GOOD_NAME, LEAST_NAME))
    if room() < good:
        short = max(MIN_METRIC, wide("metric") - (good - room()))
        columns["metric"] = [elide(cell, short, keep="start") for cell in columns["metric"]]
    if room() < least:
        del columns["value"]
    if room() < least:
        columns["change"] = [
            cell.partition(" [")[0] if line.verdict else cell
            for cell, line in zip(columns["change"], lines, strict=True)
        ]
    if room() < least:
        del columns["metric"]
    most = max(6, room())
    names = {line.result.id: name for line, name in zip(lines, columns["test"], strict=True)}
    keep = "end" if len({elide(name, most) for name in names.values()}) == len(names) else "both"
    previous = None
    for row, line in enumerate(lines):
        columns["test"][row] = elide(columns["test"][row], most, keep) if line.result.id != previous else ""
        previous = line.result.id


def _reasons(view: ReportView, width: int, verbosity: int, colour: bool) -> list[str]:
    texts: list[str] = []
    quiet = CALM if verbosity >= 0 else (*CALM, "improved")
    lines = view.lines(gated_only=verbosity < 1)
    for group in grouped(line for line in lines if line.outcome not in quiet):
        line = group.lines[0]
        if line.verdict is None:
            texts += _wrapped(f"{_names(group)}: not measured: {group.reason}", width, "failed", colour)
            continue
        reason = group.reason or f"{line.change} against {line.verdict.baseline or 'its baseline'}"
        if len(group.lines) == 1:
            text = f"{line.outcome}: {printable(line.result.id)} {line.metric}: {reason}"
        else:
            text = f"{line.outcome}: {reason}: {_names(group)}"
        texts += _wrapped(text, width, line.outcome, colour)
        if line.verdict.more_launches and "more launch" not in reason:
            texts += _wrapped(f"  {more_text(line.verdict.more_launches)}", width, "", False)
    if verbosity >= 0:
        texts += _notes([test.result for test in view.tests], width, verbosity)
    return texts


def _notes(results: Sequence[Result], width: int, verbosity: int) -> list[str]:
    """The tests' own notes, each only once though several tests have it; below -v only the first note of each test."""
    owners: dict[str, list[str]] = {}
    for result in results:
        notes = list(dict.fromkeys(result.notes))
        if verbosity < 1 and len(notes) > 1:
            notes = [f"{notes[0]} (and {len(notes) - 1} more, shown by -v)"]
        for note in notes:
            owners.setdefault(note, []).append(result.id)
    texts = []
    for note, ids in owners.items():
        who = printable(ids[0]) if len(ids) == 1 else f"{len(ids)} tests"
        texts += _wrapped(f"note: {who}: {note}", width, "", False)
    return texts


def _names(group: Group) -> str:
    """The tests that share a reason, a handful by name."""
    names = [printable(identifier) for identifier in group.tests]
    rest = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + rest


def _wrapped(text: str, width: int, outcome: str, colour: bool) -> list[str]:
    rows: list[str] = []
    for line in map(printable, text.split("\n")):
        part = elide(line, LONGEST, keep="both")
        rows += wrap(f"  {part}" if rows else part, max(20, width))
    return [paint(row, outcome, colour) if number == 0 else row for number, row in enumerate(rows)]


def metric_lines(result: Result, width: int = 80) -> list[str]:
    """Every metric of one test, a line each, with interval and launch means: for ``-vv`` and for ``-rA`` sections."""
    texts = [log_line(elide(printable(result.id), width))]
    for name, reading in result.metrics.items():
        if reading.value is None:
            text = f"  {name}: unavailable: {reading.reason or 'no reason was recorded'}"
        else:
            text = f"  {name}: {quantity(reading.value, reading.unit)}"
            if reading.ci:
                text += f" [{number(reading.ci[0])} to {number(reading.ci[1])}]"
            means = [number(sum(rounds) / len(rounds)) for rounds in reading.launches if rounds]
            if len(means) > 1:
                text += f", launches {' '.join(means)}"
        texts += _wrapped(text, width, "", False)
    for text in wording.test_lines(result):
        texts += _wrapped(text, width, "", False)
    if result.discarded_rounds or result.preemptions:
        texts.append(
            f"  {counted(result.discarded_rounds, 'round')} discarded, {counted(result.preemptions, 'preemption')}"
        )
    for difference in result.differences:
        texts += _wrapped(f"  changed: {difference_text(difference)}", width, "", False)
    return texts


def session_lines(
    view: ReportView,
    *,
    html: Path | None = None,
    json: Path | None = None,
    width: int = 80,
    verbosity: int = 0,
    colour: bool = False,
    approve: str | None = "slmperf baselines approve results.json --reason …",
) -> list[str]:
    """The closing lines: tests per outcome, where the files are, and what to do next.

    ``approve`` is the command that makes this run the baseline, as the user would type it; None when that was done.
    """
    parts = [f"{count} {outcome}" for outcome, count in view.counts.items()] or ["nothing was measured"]
    parts += [view.own_failures] if view.own_failures else []
    worst = "failed" if view.own_failures else next(iter(view.counts), "")
    decided = set(view.counts) - {*UNDECIDED} or view.own_failures or not view.counts
    head = "" if decided else "nothing decided yet: "
    judged = [line.verdict for line in view.lines() if line.verdict and line.outcome not in UNDECIDED]
    parts += ["provisional"] if judged and all(verdict.provisional for verdict in judged) else []
    again = f"; {_one_thing(view)}" if head and _one_thing(view) else ""
    texts = _wrapped(f"slmperf: {head}{', '.join(parts)}{again}", width, worst, colour)
    if view.simulated:
        texts += _wrapped(
            "SIMULATED engine: these figures say nothing about any hardware", width, "inconclusive", colour
        )
    if verbosity >= 0:
        for text in wording.session_lines(view.results.results):
            texts += _wrapped(text, width, "", False)
    for note in view.session.notes:
        texts += _wrapped(f"note: {note}", width, "", False)
    if html is not None:
        texts.append(log_line(printable(f"report: {html}")))
    if json is not None:
        texts.append(log_line(printable(f"results: {json}")))
    if verbosity >= 0:
        for text in _advice(view, approve):
            texts += _wrapped(text, width, "", False)
    return texts


def _one_thing(view: ReportView) -> str:
    """What to do after a session without a verdict; empty if the following lines say it."""
    reasons = [line.reason for line in view.lines() if line.outcome in UNDECIDED]
    if any(reason.endswith(NEXT_TIME) for reason in reasons):
        return "run the same command again, which compares with this session"
    busy = sum(reason.startswith("environment:") for reason in reasons)
    if busy and 2 * busy >= sum(line.outcome == "inconclusive" for line in view.lines()):
        return "other work disturbed the engine; run the same command again when the machine is idle"
    more = [line.verdict.more_launches for line in view.lines() if line.verdict and line.verdict.more_launches]
    return f"it takes more time: {more_text(max(more))}" if more else ""


def _new(view: ReportView) -> int:
    """Tests that an approval would give a baseline: those without one, except tests that failed by their own assertion."""
    own_failure = view.session.own_failure
    return sum(test.outcome == "new" and own_failure(test.result.id) is None for test in view.tests)


def _advice(view: ReportView, approve: str | None) -> list[str]:
    advice = []
    if view.counts.get("regressed"):
        worst = next(test.result for test in view.tests if test.outcome == "regressed")
        location = worst.scenario.get("location")
        where = f" (first: {printable(str(location))})" if location else ""
        mend = f"; if it is meant, approve these results: {approve}" if approve else ""
        advice.append(f"next: see in the report what changed{where}{mend}")
    elif approve and (new := _new(view)):
        advice.append(f"next: {new} without a baseline and so not judged; make this run the baseline: {approve}")
    elif approve and any(line.verdict and line.verdict.provisional and line.outcome in CALM for line in view.lines()):
        advice.append(f"next: keep this run for every machine and session to compare with: {approve}")
    open_lines = [line for line in view.lines() if line.outcome in UNDECIDED]
    reasons = [line.reason for line in open_lines if line.outcome == "incomparable"]
    reworked = [reason for reason in reasons if reason.startswith(REWORKED)]
    if reworked:
        advice.append(
            "next: a test that does other work than its baseline did needs a new one"
            + (f"; make this run the baseline: {approve}" if approve and not _new(view) else "")
        )
        reasons = [reason for reason in reasons if reason not in reworked]
    reasons = [
        reason for reason in reasons if not reason.endswith(NEXT_TIME)
    ]  # the first line of the summary says what to do
    if any(not reason.startswith("not measured") for reason in reasons):
        advice.append(
            "next: incomparable tests need a baseline of this machine and engine; take one here, or run where the "
            "baseline was taken"
        )
    elif reasons:  # a new baseline would lack the reading too
        advice.append("next: what the baseline holds and this session lacks was not measured, for the reason above")
    if view.counts.get("inconclusive"):
        # Where the baseline is what is uncertain, more time would only be spent.
        why = [line.reason for line in open_lines if line.outcome == "inconclusive"]
        time_helps = any("more launches would not tell" not in reason for reason in why)
        advice.append(
            f"next: inconclusive tests need {'more time (--slmperf-max-time), ' if time_helps else ''}a quieter machine, "
            "or more sessions in the baseline (slmperf baselines approve)"
        )
    return advice
