"""Figures as text for a reader: the only way to write a reading, a change, a share and a count, in every output."""

from __future__ import annotations

import math
from decimal import Decimal

MINUS = "−"


def number(value: float | None) -> str:
    """About four significant digits, with grouped thousands; a dash without a reading."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "failed" if value > 0 else str(value)
    if value == 0:
        return "0"  # −0.0 as well
    if abs(value) >= 1e9 or abs(value) < 1e-4:
        return f"{value:.3e}"
    if abs(float(f"{value:.4g}")) >= 1000:  # 999.95 has four digits before the point once it is rounded
        return f"{value:,.0f}"
    text = f"{value:#.4g}"
    return text.rstrip("0").rstrip(".") if value == int(value) else text


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, unless that is dimensionless ("1", "count")."""
    return number(value) if value is None else with_unit(number(value), unit)


def with_unit(text: str, unit: str) -> str:
    """Figures as text, with their unit unless they are dimensionless."""
    return text if unit in ("", "1", "count") else f"{text} {unit}"


def share(ratio: float) -> str:
    """A share in percent with two significant digits, never in powers of ten: "0.41", "220"."""
    return portion(ratio, 2).removesuffix(" %")


def percent(ratio: float | None, digits: int = 1) -> str:
    """A relative change as a signed percentage with a true minus sign."""
    if ratio is None or not math.isfinite(ratio):
        return "–"
    text = f"{_hundredths(abs(ratio), digits)} %"
    if text.split()[0].strip("0.") == "":
        return text
    return ("+" if ratio > 0 else MINUS) + text


def _hundredths(ratio: float, digits: int) -> str:
    """A ratio in percent, with an exponent if it is very large."""
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
    """``8,139 → 6,934 tok/s``; only the value if the baseline has none."""
    if before is None:
        return quantity(after, unit)
    return f"{number(before)} → {quantity(after, unit)}"


def more_text(launches: int) -> str:
    """The number of launches that an open verdict still needs, as text."""
    return f"about {counted(launches, 'more launch', 'more launches')} would decide it"


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


def portion(ratio: float, digits: int = 3) -> str:
    """A share, limit or level with ``digits`` significant digits, without powers of ten and without a plus: "0.25 %"."""
    rounded = Decimal(f"{100 * ratio:.{digits}g}")
    if not rounded.is_finite():
        return f"{ratio} %"
    return f"{rounded.normalize():f} %" if rounded else "0 %"  # −0.0 as well


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 reason``, ``2,000 reasons``. ``plural``: of ``noun``; None: with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
