"""The verdicts in Markdown: job summary, pull-request comment, and annotations on the failing tests' lines."""

from pathlib import PurePosixPath

from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.facts import Difference
from pytest_slmperf.reports.view import CALM, SYMBOLS, Line, ReportView, rank, simulated, view_of
from pytest_slmperf.text_out import markdown as escape
from pytest_slmperf.text_out import workflow_command
from pytest_slmperf.util.formatting import counted, interval_text, percent

MARKER = "<!-- slmperf-report -->"  # finds the comment of an earlier run, which is then updated in place
MAX_BYTES = 60_000  # GitHub refuses a comment of more than 65,536 characters
MAX_ROWS = 100
LEVELS = {
    "failed": "error",
    "regressed": "error",
    "incomparable": "warning",
    "inconclusive": "warning",
    "new": "notice",
}


def job_summary(results: Results) -> str:
    """Job summary and comment body: what got worse first, what changed, then everything else folded away.

    Begins with ``MARKER``.  A longer text than GitHub accepts is cut, with a line about it at the end.
    """
    view = view_of(results)
    names = {test.result.id: test.name for test in view.tests}
    lines = sorted(view.lines(), key=lambda line: rank(line.outcome))
    loud = [line for line in lines if line.outcome not in CALM]
    calm = [line for line in lines if line.outcome in CALM]
    parts = [MARKER, f"## slmperf: {_headline(view)}"]
    if view.simulated:
        parts.append("> **Simulated engine:** these figures come from a cost model and say nothing about any hardware.")
    parts += [f"> {escape(note)}" for note in view.session.notes]
    if view.session.failed_tests:
        rows = [f"| <code>{escape(test.id)}</code> | {escape(test.reason)} |" for test in view.session.failed_tests]
        parts.append("\n".join(["| failed by its own assertion or error | |", "|---|---|", *rows[:MAX_ROWS]]))
    if loud:
        parts.append(_table(loud[:MAX_ROWS], names))
        if len(loud) > MAX_ROWS:
            parts.append(f"and {len(loud) - MAX_ROWS} more in the report")
    if view.differences:
        parts.append("**What changed**\n\n" + _differences(view.differences[:30]))
    if calm:
        title = f"{counted(len(calm), 'metric')} the same or only measured"
        parts.append(f"<details><summary>{title}</summary>\n\n{_table(calm[:MAX_ROWS], names)}\n\n</details>")
        if len(calm) > MAX_ROWS:
            parts.append(f"and {len(calm) - MAX_ROWS} more in the report")
    parts.append("<sub>" + " · ".join(f"{key} {escape(value)}" for key, value in view.facts) + "</sub>")
    return _cut("\n\n".join(parts) + "\n")


def _headline(view: ReportView) -> str:
    parts = [f"{SYMBOLS['failed']} {view.own_failures}"] if view.own_failures else []
    parts += [f"{SYMBOLS[outcome]} {count} {outcome}" for outcome, count in view.counts.items()]
    return ", ".join(parts) or "nothing was measured"


def _table(lines: list[Line], names: dict[str, str]) -> str:
    rows = ["| test | metric | baseline → value | change | verdict |", "|---|---|---:|---:|---|"]
    for line in lines:
        name = f"<code>{escape(names[line.result.id])}</code>" + (" *(simulated)*" if simulated(line.result) else "")
        why = f"<br><sub>{escape(line.reason)}</sub>" if line.reason and line.outcome not in CALM else ""
        mark = f"{SYMBOLS.get(line.outcome, '!')} "
        verdict = f"{mark}**{line.verdict_text}**" if line.outcome not in CALM else mark + line.verdict_text
        rows.append(f"| {name}{why} | {escape(line.label) or '–'} | {escape(line.both)} | {line.change} | {verdict} |")
    return "\n".join(rows)


def _differences(changed: list[Difference]) -> str:
    rows = ["| | baseline | candidate |", "|---|---|---|"]
    rows += [f"| {escape(row.what)} | {escape(row.baseline)} | {escape(row.candidate)} |" for row in changed]
    return "\n".join(rows)


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_BYTES:
        return text
    kept = data[:MAX_BYTES].decode(errors="ignore").rsplit("\n", 1)[0]
    closing = "\n\n</details>" if kept.count("<details>") > kept.count("</details>") else ""
    return f"{kept}{closing}\n\nCut here; the HTML report has everything.\n"


def annotations(results: Results, accepted: bool = False) -> list[str]:
    """GitHub workflow commands, one for each judged metric that is not fine, on the test's line where it is known.

    ``Result.scenario["location"]`` is ``path:line``.  Only what is wrong or undecided is annotated.
    ``accepted``: the user makes these results the baseline, so a regression is no error.
    """
    view = view_of(results)
    commands = [
        workflow_command("error", f"{test.id}: {test.reason}", _properties(test.location, "slmperf: failed"))
        for test in view.session.failed_tests
    ]
    for test in sorted(view.tests, key=lambda test: rank(test.outcome)):
        for line in test.lines:
            level = LEVELS.get(line.outcome)
            if accepted and line.outcome == "regressed":
                level = "notice"
            if level:
                properties = _properties(test.result.scenario.get("location"), _annotation_title(line))
                commands.append(workflow_command(level, _annotation_text(line), properties))
    return commands


def _annotation_title(line: Line) -> str:
    return f"slmperf: {line.outcome}" + (f" {line.metric}" if line.metric else "")


def _annotation_text(line: Line) -> str:
    parts = [line.result.id]
    if line.verdict and line.verdict.change is not None:
        parts.append(
            f"{line.metric} {percent(line.verdict.change)} ({interval_text(line.verdict.ci)}), now {line.value}"
        )
    if line.reason:
        parts.append(line.reason)
    return ": ".join(parts)


def _properties(location: object, title: str) -> dict[str, str]:
    """Of a workflow command: file and line of a test where they are known, and the title."""
    path, _, number = location.rpartition(":") if isinstance(location, str) else ("", "", "")
    if not number.isdecimal() or not path or PurePosixPath(path).is_absolute():
        return {"title": title}
    return {"file": path, "line": number, "title": title}
