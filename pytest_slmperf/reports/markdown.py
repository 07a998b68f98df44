"""The verdicts in Markdown: job summary, pull-request comment, and annotations on the failing tests' lines."""

from pathlib import PurePosixPath

from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.facts import differences, session_facts
from pytest_slmperf.reports.view import (
    CALM,
    SYMBOLS,
    Line,
    any_simulated,
    counts,
    failed_words,
    lines_of,
    outcome_of,
    rank,
    short_ids,
    simulated,
)
from pytest_slmperf.reports.wording import printable
from pytest_slmperf.util.formatting import counted, interval_text, percent

MARKER = "<!-- slmperf-report -->"  # how a comment made earlier is found again, to be updated in place
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

    Begins with ``MARKER``.  Cut to what GitHub accepts, and then says so.
    """
    names = short_ids(results.results)
    found = counts(results.results)
    lines = sorted(
        (line for result in results.results for line in lines_of(result)), key=lambda line: rank(line.outcome)
    )
    loud = [line for line in lines if line.outcome not in CALM]
    calm = [line for line in lines if line.outcome in CALM]
    parts = [MARKER, f"## slmperf: {_headline(found, failed_words(results))}"]
    if any_simulated(results):
        parts.append("> **Simulated engine:** these figures come from a cost model and say nothing about any hardware.")
    parts += [f"> {escape(note)}" for note in results.session.notes]
    if results.session.failed_tests:
        rows = [f"| <code>{escape(one.id)}</code> | {escape(one.reason)} |" for one in results.session.failed_tests]
        parts.append("\n".join(["| failed by its own assertion or error | |", "|---|---|", *rows[:MAX_ROWS]]))
    if loud:
        parts.append(_table(loud[:MAX_ROWS], names))
        if len(loud) > MAX_ROWS:
            parts.append(f"and {len(loud) - MAX_ROWS} more in the report")
    changed = differences(results.results)
    if changed:
        parts.append("**What changed**\n\n" + _differences(changed[:30]))
    if calm:
        title = f"{counted(len(calm), 'metric')} the same or only measured"
        parts.append(f"<details><summary>{title}</summary>\n\n{_table(calm[:MAX_ROWS], names)}\n\n</details>")
        if len(calm) > MAX_ROWS:
            parts.append(f"and {len(calm) - MAX_ROWS} more in the report")
    parts.append("<sub>" + " · ".join(f"{key} {escape(value)}" for key, value in session_facts(results)) + "</sub>")
    return _cut("\n\n".join(parts) + "\n")


def _headline(found: dict[str, int], failed: str) -> str:
    told = [f"{SYMBOLS['failed']} {failed}"] if failed else []
    told += [f"{SYMBOLS[name]} {count} {name}" for name, count in found.items()]
    return ", ".join(told) or "nothing was measured"


def _table(lines: list[Line], names: dict[str, str]) -> str:
    rows = ["| test | metric | baseline → value | change | verdict |", "|---|---|---:|---:|---|"]
    for line in lines:
        name = f"<code>{escape(names[line.result.id])}</code>" + (" *(simulated)*" if simulated(line.result) else "")
        why = f"<br><sub>{escape(line.reason)}</sub>" if line.reason and line.outcome not in CALM else ""
        mark = f"{SYMBOLS.get(line.outcome, '!')} "
        verdict = f"{mark}**{line.outcome}**" if line.outcome not in CALM else mark + line.outcome
        rows.append(f"| {name}{why} | {escape(line.label) or '–'} | {line.both} | {line.change} | {verdict} |")
    return "\n".join(rows)


def _differences(changed: list[dict[str, object]]) -> str:
    rows = ["| | baseline | candidate |", "|---|---|---|"]
    rows += [
        f"| {escape(str(item['what']))} | {escape(str(item['baseline']))} | {escape(str(item['candidate']))} |"
        for item in changed
    ]
    return "\n".join(rows)


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_BYTES:
        return text
    kept = data[:MAX_BYTES].decode(errors="ignore").rsplit("\n", 1)[0]
    closing = "\n\n</details>" if kept.count("<details>") > kept.count("</details>") else ""
    return f"{kept}{closing}\n\nCut here; the HTML report has everything.\n"


ESCAPES = str.maketrans(
    {character: "\\" + character for character in "\\`*_{}[]|~"}
    # A name pings nobody and refers to nothing: GitHub looks for both in runs of plain text, which a comment ends.
    | {character: character + "<!-- -->" for character in "@#"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)


def escape(text: str) -> str:
    """Text that Markdown and the HTML in it show as it stands: no markup, no mention, no table cell is made of it."""
    return printable(text).translate(ESCAPES)


def annotations(results: Results, accepted: bool = False) -> list[str]:
    """GitHub workflow commands, one a judged metric that is not fine, on the test's line where it is known.

    ``Result.scenario["location"]`` is ``path:line``.  Only what is wrong or undecided is annotated.
    ``accepted``: the user said that these results become the baseline, so that a regression is no error.
    """
    found = [
        f"::error {_place(one.location)}title=slmperf: failed::{_data(printable(f'{one.id}: {one.reason}'))}"
        for one in results.session.failed_tests
    ]
    for result in sorted(results.results, key=lambda result: rank(outcome_of(result))):
        for line in lines_of(result):
            level = LEVELS.get(line.outcome)
            if accepted and line.outcome == "regressed":
                level = "notice"
            if level:
                place = _place(result.scenario.get("location"))
                found.append(
                    f"::{level} {place}title={_property(_annotation_title(line))}::{_data(_annotation_text(line))}"
                )
    return found


def _annotation_title(line: Line) -> str:
    return f"slmperf: {line.outcome}" + (f" {line.metric}" if line.metric else "")


def _annotation_text(line: Line) -> str:
    parts = [printable(line.result.id)]
    if line.verdict and line.verdict.change is not None:
        parts.append(
            f"{line.metric} {percent(line.verdict.change)} ({interval_text(line.verdict.ci)}), now {line.value}"
        )
    if line.reason:
        parts.append(printable(line.reason))
    return ": ".join(parts)


def _place(location: object) -> str:
    if not isinstance(location, str):
        return ""
    path, _, number = location.rpartition(":")
    if not number.isdigit() or not path or PurePosixPath(path).is_absolute():
        return ""
    return f"file={_property(path)},line={number},"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
