"""Names and lines as a reader sees them: the same wording in terminal, Markdown and HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_slmperf.metrics.registry import LATENCIES, known
from pytest_slmperf.model.energy import Energy
from pytest_slmperf.model.result import Result
from pytest_slmperf.model.verdict import Difference
from pytest_slmperf.text_out import log_line
from pytest_slmperf.text_out import printable as printable  # reports import it from here
from pytest_slmperf.util.formatting import number, quantity, share

ELLIPSIS = "…"


def metric_label(name: str) -> str:
    """A metric's name for a reader: ``ttft_p99`` → ``TTFT p99``, and that of a latency's samples: ``ttft`` → ``TTFT``."""
    metric = known(name)
    if metric is not None:
        return metric.label
    name, at, point = name.partition("@")
    if at:
        return f"{metric_label(name)} at {point}"
    base, _, statistic = name.partition("_")
    if base in LATENCIES:
        return f"{LATENCIES[base].label} {statistic}".strip()
    return name.replace("_", " ")


def direction_word(change: float | None, better: str) -> str:
    """``worse``, ``better`` or nothing, by the metric's direction."""
    if not change or better == "none":
        return ""
    return "worse" if (change < 0) == (better == "higher") else "better"


def width_of(text: str) -> int:
    """Terminal columns that a text takes: wide characters two, combining ones none."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(characters: Iterable[str], columns: int) -> int:
    """How many of the first characters fit into ``columns``."""
    used = 0
    for count, character in enumerate(characters):
        used += _columns(character)
        if used > columns:
            return count
    return -1  # every character fits


def elide(text: str, columns: int, keep: str = "end") -> str:
    """The text cut to ``columns`` with an ellipsis; ``keep`` says which end stays: "start", "end" or "both"."""
    if width_of(text) <= columns:
        return text
    if keep == "both":
        head = text[: _fitting(text, columns // 2)]
        return head + elide(text[len(head) :], columns - width_of(head))
    if keep == "end":
        return ELLIPSIS + text[len(text) - _fitting(reversed(text), columns - 1) :]
    return text[: _fitting(text, columns - 1)] + ELLIPSIS


PERCENT, GLUED = re.compile(r"(?<=\d) %"), "\N{NO-BREAK SPACE}%"


def wrap(text: str, columns: int, indent: str = "  ") -> list[str]:
    """The text in rows of at most ``columns``, all but the first indented; a word that is too long for a row is cut.

    A figure and its percent sign stay in one row.
    """
    text = PERCENT.sub(GLUED, text)
    words = text.lstrip(" ").split(" ")
    rows, row = [], " " * (len(text) - len(text.lstrip(" ")))
    used = len(row)
    for place, word in enumerate(words):
        width = width_of(word)
        if place and used + 1 + width > columns:
            rows.append(row)
            row, used = indent, width_of(indent)
        elif place:
            row, used = row + " ", used + 1
        if used + width > columns:
            *full, row = _cut(word, row, indent, columns)
            rows += full
            used = width_of(row)
        else:
            row, used = row + word, used + width
    return [log_line(each.replace(GLUED, " %")) for each in (*rows, row)]


def _cut(word: str, start: str, indent: str, columns: int) -> list[str]:
    """A word too long for a row, in rows: the first begins with ``start``, the others with ``indent``."""
    rows, begin = [], 0
    used, least = width_of(start), width_of(indent)
    for place, character in enumerate(word):
        width = _columns(character)
        if used + width > columns and (place > begin or used > least):
            rows.append(start + word[begin:place])
            start, begin, used = indent, place, least
        used += width
    return [*rows, start + word[begin:]]


def show(value: Any) -> str:
    """Any JSON value as short text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):  # settings are shown as short as they were written
        return f"{value:.4g}" if 1e-4 <= abs(value) < 1000 else number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(show(item) for item in value)
    return str(value)


def difference_text(difference: Difference) -> str:
    """One thing that changed: ``engine version 0.31 → 0.32``, ``slowdown none → 0.3``."""
    return f"{difference.what} {show(difference.baseline)} → {show(difference.candidate)}"


# What a run says of its energy: rows of the report, lines of the terminal.

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 24


def rows(energy: Energy) -> list[tuple[str, str]]:
    """(name, text) of everything that is known of one test's energy; ``energy`` must have a source."""
    texts: list[tuple[str, str]] = []
    if energy.joules is not None:
        where = ", between the counter's ticks" if energy.edges == "ticks" else ""
        texts.append(("gross energy", with_bound(energy.joules, energy.bound_j) + where))
    if energy.edges == "ticks" and energy.rounds:
        whole = with_bound(energy.rounds.joules, energy.rounds.bound_j)
        texts.append(("over the whole rounds", f"{whole} in {quantity(energy.rounds.window_s, 's')}"))
    if energy.rounds and energy.rounds.gaps_s and energy.rounds.window_s:
        part = share(energy.rounds.gaps_s / energy.rounds.window_s)
        texts.append(("between the rounds", f"{part} % of that time, at the rounds' power as far as is known"))
    if energy.net_joules is not None:
        texts.append(("net of idle", f"{number(energy.net_joules)} J"))
    texts.append(("source", f"{energy.source}, {energy.scope or 'scope not stated'}"))
    for label, value, unit in (
        ("window", energy.window_s, "s"),
        ("counter tick", energy.tick_s, "s"),
        ("idle before, engine resident", energy.idle_w_before, "W"),
        ("idle after, engine resident", energy.idle_w_after, "W"),
        ("idle, bare", energy.idle_w_bare, "W"),
    ):
        if value is not None:
            texts.append((label, quantity(value, unit)))
    if energy.idle_w_bare is None and energy.idle_bare_reason:
        texts.append(("idle, bare", f"unavailable: {energy.idle_bare_reason}"))
    if energy.counted:
        texts.append(("devices counted", energy.counted))
    if energy.repeats:
        texts.append(("rounds repeated for the bound", energy.repeats))
    if energy.gain is not None:
        texts.append(("gain uncertainty", f"± {energy.gain * 100:g} %, cancels between runs on one device"))
    return texts + cost_rows(energy)


def cost_rows(energy: Energy) -> list[tuple[str, str]]:
    """Cost and emissions at the user's own figures; empty without them."""
    cost = energy.cost or {}
    texts = []
    for name, unit, rate in (
        ("cost", "", f"at {cost.get('price_per_kwh', 0):g} a kWh"),
        ("carbon_g", " gCO2", f"at {cost.get('carbon_g_per_kwh', 0):g} gCO2 a kWh"),
    ):
        label = "cost" if name == "cost" else "emissions"
        if name in cost:
            texts.append((f"{label} of the window", f"{number(cost[name])}{unit} {rate}"))
        if (each := cost.get(f"{name}_per_million_output_tokens")) is not None:
            texts.append((f"{label} of a million output tokens", f"{number(each)}{unit} {rate}"))
    return texts


def with_bound(joules: float, bound_j: float | None) -> str:
    """ "300.1 J ± 1.2 J (0.4 %)"."""
    bound = f" ± {number(bound_j)} J" if bound_j is not None else ""
    relative = f" ({share(bound_j / joules)} %)" if bound_j and joules else ""
    return f"{number(joules)} J{bound}{relative}"


def test_lines(result: Result) -> list[str]:
    """One test's energy for the terminal."""
    energy = result.energy
    if energy.joules is None:
        return [f"  energy: unavailable: {energy.reason}"] if energy.reason else []
    lines = [f"  energy: {with_bound(energy.joules, energy.bound_j)} ({energy.source}, {energy.scope})"]
    idle = _idle([energy])
    if idle:
        lines.append(f"  idle: {idle}")
    bars = sparkline(energy)
    if bars:
        lines.append(f"  power: {bars}")
    if energy.repeats:
        lines.append(f"  energy rounds: {energy.repeats}")
    lines += [f"  {label}: {text}" for label, text in cost_rows(energy)]
    return lines + [f"  energy warning: {text}" for text in energy.warnings]


def session_lines(results: Sequence[Result]) -> list[str]:
    """The session's energy in a line or two; nothing where no energy was read (the table says why)."""
    read = [result.energy for result in results if result.energy.joules]
    if not read:
        return []
    bounds = [energy.bound_j / energy.joules for energy in read if energy.bound_j is not None and energy.joules]
    sources = ", ".join(sorted({f"{energy.source}, {energy.scope}" for energy in read}))
    bound = f"; bound {_range(bounds, share)} %" if bounds else ""
    idle = _idle(read)
    lines = [f"energy: {sources}{bound}{'; idle ' + idle if idle else ''}"]
    for name, label, unit, rate in (
        ("cost", "cost", "", "price_per_kwh"),
        ("carbon_g", "emissions", " gCO2", "carbon_g_per_kwh"),
    ):
        key = f"{name}_per_million_output_tokens"
        each = [energy.cost[key] for energy in read if energy.cost and key in energy.cost]
        if each:
            given = next(energy.cost[rate] for energy in read if energy.cost and rate in energy.cost)
            lines.append(f"{label} of a million output tokens: {_range(each, number)}{unit} (at {given:g}{unit} a kWh)")
    return lines


def _idle(energies: Sequence[Energy]) -> str:
    """ "72 W bare, 122 to 124 W with the engine"."""
    bare = [energy.idle_w_bare for energy in energies if energy.idle_w_bare is not None]
    resident = [w for e in energies for w in (e.idle_w_before, e.idle_w_after) if w is not None]
    why = next((energy.idle_bare_reason for energy in energies if energy.idle_bare_reason), None)
    parts = [f"{_range(bare, number)} W bare"] if bare else [f"bare unavailable: {why}"] if why else []
    return ", ".join([*parts, *([f"{_range(resident, number)} W with the engine"] if resident else [])])


def _range(values: Sequence[float], words: Callable[[float], str]) -> str:
    least, most = words(min(values)), words(max(values))
    return least if least == most else f"{least} to {most}"


def sparkline(energy: Energy) -> str:
    """The power trace as bars from 0 W to its peak, all devices together; empty without a trace."""
    series = [watts for watts in energy.trace.watts.values() if watts] if energy.trace else []
    if not series:
        return ""
    watts = [sum(each) for each in zip(*series, strict=False)]
    count = min(MOST_BARS, len(watts))
    means = []
    for k in range(count):
        part = watts[k * len(watts) // count : (k + 1) * len(watts) // count]
        means.append(sum(part) / len(part))
    peak = max(means)
    if peak <= 0:
        return ""
    bars = "".join(BARS[min(len(BARS) - 1, int(mean / peak * len(BARS)))] for mean in means)
    return f"{bars} peak {quantity(peak, 'W')}"
