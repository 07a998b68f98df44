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
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pytest_slmperf.reports.html import template_files

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
    return {kind: json.loads(template_files.read(f"charts/{kind}.vl.json")) for kind in KINDS}


@cache
def themes() -> dict[str, dict[str, Any]]:
    """ "light" and "dark": each a theme's ``words`` (colours) and its Vega-Lite ``config``; not to be changed in place."""
    return dict(json.loads(template_files.read("charts/themes.json")))


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
