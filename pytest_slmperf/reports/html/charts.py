"""Charts as Vega-Lite specifications without data: ``templates/charts/KIND.vl.json``, and the themes they are drawn in.

A string in a specification may hold ``$word`` places, filled from a chart's ``words`` and the theme's.  The data come as
named datasets of columns (``chart_data``).  Conventions of the files:

* A theme's words are colours: ``$old`` and ``$new`` of the two sides, ``$bad``, ``$good``, ``$soft``, ``$band``.
* ``$domain`` and ``$tall`` come from ``axis_ranges.span``.
* The text over a point of ``intervals`` near the right edge moves to the left, by the part of half its letters (3.2 px
  each) that would leave the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pytest_slmperf.errors import SlmperfError

# How far an axis reaches, and to how many figures its values are drawn.

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
    """The number of significant digits for these values: a baseline's rounding must not look like a change."""
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


# The files of ``templates/``: inside the installed package, or beside it in a checkout.


@cache
def template_folder() -> Path:
    """The folder of the templates; SlmperfError where the installation lacks it."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "templates", package.parent / "templates"):
        if (folder / "report.html.j2").is_file():
            return folder
    raise SlmperfError(f"{package}: the report's templates are missing; reinstall pytest-slmperf")


def read(name: str) -> str:
    """The text of one file, by its path below the folder."""
    return (template_folder() / name).read_text(encoding="utf-8")


BASELINE, CANDIDATE = "baseline", "candidate"
KINDS = (
    "rounds",
    "intervals",
    "pairs",
    "ecdf",
    "power",
    "curve",
    "frontier",
    "roofline",
    "replication",
    "history",
)
ROOMY = {"zero": False, "nice": False, "padding": 18}
Spec = dict[str, Any]
Columns = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: the kind of specification, the datasets and words that fill it, and a sentence on what it shows."""

    kind: str
    title: str
    text: str
    data: dict[str, Columns]
    size: str = ""  # "wide" or usual
    words: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The chart as the page's script reads it."""
        return {
            "kind": self.kind,
            "title": self.title,
            "text": self.text,
            "size": self.size,
            "words": self.words,
            "data": self.data,
        }


@cache
def specs() -> dict[str, Spec]:
    """Kind of chart → its specification; not to be changed in place."""
    return {kind: json.loads(read(f"charts/{kind}.vl.json")) for kind in KINDS}


@cache
def themes() -> dict[str, dict[str, Any]]:
    """ "light" and "dark": each a theme's ``words`` (colours) and its Vega-Lite ``config``; not to be changed in place."""
    return dict(json.loads(read("charts/themes.json")))


def fill(node: Any, words: dict[str, Any]) -> Any:
    """A copy of a specification with its ``$word`` places filled; a place that is the whole string may become any value."""
    if isinstance(node, str):
        whole = re.fullmatch(r"\$(\w+)", node)
        if whole and whole[1] in words:
            return words[whole[1]]
        return re.sub(r"\$(\w+)", lambda place: str(words.get(place[1], place[0])), node)
    if isinstance(node, list):
        return [fill(item, words) for item in node]
    if isinstance(node, dict):
        return {key: fill(value, words) for key, value in node.items()}
    return node


def specification(chart: Chart, theme: str = "light") -> Spec:
    """The complete specification of one chart (from ``chart_data``), data included."""
    spec: Spec = fill(specs()[chart.kind], themes()[theme]["words"] | chart.words)
    if "layer" in spec:
        spec["layer"] = [layer for layer in spec["layer"] if _filled(layer, chart.data)]
    spec["datasets"] = {name: records(columns) for name, columns in chart.data.items()}
    spec["config"] = themes()[theme]["config"]
    return spec


def _filled(layer: Spec, data: dict[str, Columns]) -> bool:
    """Whether a layer has rows to draw: an empty one would leave its scale without an extent."""
    own = layer.get("data")
    return own is None or any(data.get(own["name"], {}).values())


def records(columns: Columns) -> list[dict[str, Any]]:
    """Columns as rows."""
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
