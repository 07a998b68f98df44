"""How far an axis reaches, and to how many figures its values are drawn."""

from __future__ import annotations

from collections.abc import Sequence

FIGURES = 5  # more than a chart can show
STORED = 4  # what a baseline keeps of a percentile
LEAST = 0.01  # of the value in the middle, to either side


def to_figures(value: float, figures: int) -> float:
    """A finite value to ``figures`` significant digits."""
    return float(f"{value:.{figures}g}")


def five(value: float) -> float:
    """Five significant digits of a finite value."""
    return to_figures(value, FIGURES)


def figures_of(values: Sequence[float]) -> int:
    """To how many digits to draw the values beside these: a baseline's rounding must not look like a change."""
    stored = values and all(value == to_figures(value, STORED) for value in values)
    return STORED if stored else FIGURES


def span(values: Sequence[float]) -> list[float]:
    """The domain of an axis, [low, high]: all values, and at least 1 % to either side of their middle.

    On a narrower one, noise and rounding would fill the chart; where all values are equal the ticks would be labelled
    without their decimals.
    """
    if not any(values):
        return [0.0, 1.0]
    low, high = min(values), max(values)
    middle = (low + high) / 2
    least = abs(middle) * LEAST
    return [low, high] if high - middle >= least else [five(middle - least), five(middle + least)]
