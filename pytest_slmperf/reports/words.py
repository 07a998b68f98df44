"""Numbers and names as a reader sees them: the same wording in terminal, Markdown and HTML."""

from __future__ import annotations

import math
import unicodedata

MINUS = "−"
ELLIPSIS = "…"
LABELS = {
    "output_throughput": "output throughput",
    "energy_per_output_token": "energy per output token",
    "energy_per_request": "energy per request",
    "energy_delay_product": "energy-delay product",
    "engine_start_time": "engine start time",
    "kv_cache_peak": "peak KV cache use",
    "slo_attainment": "SLO attainment",
}
ACRONYMS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "end-to-end latency"}


def metric_label(name: str) -> str:
    """A metric's name for a reader: ``ttft_p99`` → ``TTFT p99``."""
    name, at, key = name.partition("@")
    if at:
        return f"{metric_label(name)} at {key}"  # one point of a sweep
    if name in LABELS:
        return LABELS[name]
    base, _, statistic = name.partition("_")
    if base in ACRONYMS:
        return f"{ACRONYMS[base]} {statistic}".strip()
    return name.replace("_", " ")


def number(value: float | None) -> str:
    """About four significant digits, thousands grouped; a dash where there is no reading."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "failed" if value > 0 else str(value)
    if value != 0 and (abs(value) >= 1e9 or abs(value) < 1e-4):
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:#.4g}"
    return text.rstrip("0").rstrip(".") if value == int(value) else text


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit; dimensionless ones ("1", "count") are not written."""
    text = number(value)
    if value is None or unit in ("", "1", "count"):
        return text
    return f"{text} {unit}"


def share(ratio: float) -> str:
    """A share in percent with two significant digits, never in powers of ten: "0.41", "220"."""
    return f"{float(f'{100 * ratio:.2g}'):.10g}"


def percent(ratio: float | None, digits: int = 1) -> str:
    """A relative change as a signed percentage with a true minus sign."""
    if ratio is None or not math.isfinite(ratio):
        return "–"
    text = f"{_hundredths(abs(ratio), digits)} %"
    if text.split()[0].strip("0.") == "":
        return text
    return ("+" if ratio > 0 else MINUS) + text


def _hundredths(ratio: float, digits: int) -> str:
    """A ratio in percent; in exponents where nobody would count the digits."""
    return f"{ratio * 100:.{digits}f}" if abs(ratio) < 1e4 else f"{ratio * 100:.1e}"


def change_text(change: float | None, ci: tuple[float, float] | None, *, short: bool = False) -> str:
    """``−29.8 % [−31.1, −28.6]``: the change and both ends of its interval, in percent; ``short``: two digits an end.

    Both ends and not one ±: the interval of a ratio is wider on the side of the larger ratio.
    """
    if change is None:
        return "–"
    if ci is None or not all(math.isfinite(edge) for edge in ci):
        return percent(change)
    low, high = (percent(edge, 0 if short and abs(edge) >= 0.0995 else 1).removesuffix(" %") for edge in ci)
    return f"{percent(change)} [{low}, {high}]"


def interval_text(ci: tuple[float, float] | None) -> str:
    """Both ends of an interval of relative changes."""
    if ci is None:
        return "no interval"
    return f"{percent(ci[0])} to {percent(ci[1])}"


def before_and_after(before: float | None, after: float | None, unit: str) -> str:
    """``8,139 → 6,934 tok/s``; the value alone where the baseline has none."""
    if before is None:
        return quantity(after, unit)
    return f"{number(before)} → {quantity(after, unit)}"


def more_text(launches: int) -> str:
    """What an open verdict still takes."""
    return f"about {launches} more {'launch' if launches == 1 else 'launches'} would decide it"


def direction_word(change: float | None, better: str) -> str:
    """``worse``, ``better`` or nothing, by the metric's direction."""
    if not change or better == "none":
        return ""
    return "worse" if (change < 0) == (better == "higher") else "better"


def printable(text: str) -> str:
    """The text on one line, control characters written as escapes: names from outside may hold anything."""
    return "".join(
        character
        if character == " " or not unicodedata.category(character).startswith(("C", "Z"))
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character) or (
        character
        if character == "\u200d"  # joins emoji
        else character.encode("unicode_escape", "backslashreplace").decode()
    )


def width_of(text: str) -> int:
    """Terminal columns that a text takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def elide(text: str, columns: int, keep: str = "end") -> str:
    """The text cut to so many columns with an ellipsis; ``keep`` says which end stays: "start", "end" or "both"."""
    if width_of(text) <= columns:
        return text
    if keep == "both":
        head = ""
        while width_of(head + text[len(head)]) <= columns // 2:
            head += text[len(head)]
        return head + elide(text[len(head) :], columns - width_of(head))
    while text and width_of(text) > columns - 1:
        text = text[1:] if keep == "end" else text[:-1]
    return ELLIPSIS + text if keep == "end" else text + ELLIPSIS


def wrap(text: str, columns: int, indent: str = "  ") -> list[str]:
    """The text in rows of at most so many terminal columns, all but the first indented; a word too long for one is cut."""
    words = text.lstrip(" ").split(" ")
    rows, row, empty = [], " " * (len(text) - len(text.lstrip(" "))), True
    for word in words:
        joined = row + word if empty else f"{row} {word}"
        if not empty and width_of(joined) > columns:
            rows.append(row)
            joined = indent + word
        while width_of(joined) > columns:
            fits = next(place for place in range(len(joined), 0, -1) if width_of(joined[:place]) <= columns)
            rows.append(joined[:fits])
            joined = indent + joined[fits:]
        row, empty = joined, False
    return [*rows, row]


def duration(seconds: float) -> str:
    """Seconds for a reader: ``8 s``, ``3 min 20 s``, ``1 h 05 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
