"""The charts as Vega-Lite specifications without data: the page embeds each once, figures are drawn from the same.

A string may hold ``$word`` places, filled from a chart's ``words`` and the theme's; the data come as named datasets of
columns (``chartdata``).
"""

from __future__ import annotations

from typing import Any

BASELINE, CANDIDATE = "baseline", "candidate"
Spec = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


def _theme(ink: str, soft: str, line: str, words: dict[str, str]) -> dict[str, Any]:
    return {
        "words": words,
        "config": {
            "background": "transparent",
            "font": FONT,
            "view": {"stroke": None, "continuousHeight": 210, "discreteHeight": 210},
            "axis": {
                "labelColor": soft,
                "titleColor": soft,
                "gridColor": line,
                "domainColor": line,
                "tickColor": line,
                "labelFontSize": 11,
                "titleFontSize": 11,
                "titleFontWeight": "normal",
                "labelFlush": False,
                "tickCount": 6,
            },
            "legend": {
                "labelColor": ink,
                "titleColor": soft,
                "labelFontSize": 11,
                "orient": "top",
                "offset": 4,
            },
            "title": {"font": FONT, "color": ink, "fontSize": 13, "anchor": "start", "offset": 10},
            "text": {"font": FONT, "fill": ink},
            "mark": {"tooltip": True},
        },
    }


THEMES: dict[str, dict[str, Any]] = {
    "light": _theme(
        "#16191d",
        "#545c66",
        "#e1e5ea",
        {"old": "#8b95a1", "new": "#1f5fbf", "bad": "#b3261e", "good": "#1a6b3c", "soft": "#545c66", "band": "#e6eaef"},
    ),
    "dark": _theme(
        "#e8ebef",
        "#a3adb9",
        "#2e353e",
        {"old": "#8792a0", "new": "#8ab8ff", "bad": "#ff9a90", "good": "#7fd6a2", "soft": "#a3adb9", "band": "#2b323a"},
    ),
}

SIDE = {
    "field": "side",
    "type": "nominal",
    "title": None,
    "scale": {"domain": [BASELINE, CANDIDATE], "range": ["$old", "$new"]},
}
SIDE_SHAPE = {
    "field": "side",
    "type": "nominal",
    "title": None,
    "scale": {"domain": [BASELINE, CANDIDATE], "range": ["circle", "diamond"]},
}
FREE = {"zero": False, "nice": True, "domain": "$domain"}  # from ``spans.span``
WHOLE = {"values": "$ticks", "format": "d"}
TALL = {"zero": False, "nice": True, "padding": 28, "domain": "$tall"}
ROOMY = {"zero": False, "nice": False, "padding": 18}


def _value(field: str, title: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, **more}


ROUNDS: Spec = {
    "data": {"name": "rounds"},
    "height": 210,
    "encoding": {
        "x": {
            "field": "launch",
            "type": "ordinal",
            "sort": None,
            "title": "engine launch",
            "axis": {"labelAngle": 0, "labelExpr": "split(datum.label, ' ')[1]", "labelOverlap": True},
        },
        "y": _value("value", "$unit", scale=FREE),
    },
    "layer": [
        {
            "mark": {"type": "point", "filled": True, "size": 26, "opacity": 0.7},
            "encoding": {"color": SIDE, "shape": SIDE_SHAPE},
        },
        {
            "mark": {"type": "tick", "thickness": 2.5, "size": 18},
            "encoding": {"y": {"aggregate": "mean", "field": "value", "type": "quantitative"}, "color": SIDE},
        },
        {
            "data": {"name": "discarded"},
            "mark": {"type": "point", "shape": "cross", "size": 40, "angle": 45, "filled": True},
            "encoding": {
                "color": {"value": "$bad"},
                "tooltip": [
                    {"field": "why", "title": "discarded"},
                    {"field": "value", "title": "value", "format": ".5~g"},
                ],
            },
        },
    ],
}

# A text over a point near the right edge moves to the left, by what half its letters (3.2 px each) would stand out.
INWARDS = "-max(0, scale('x', datum.at) + 3.2 * length(datum.text) - width)"

INTERVALS: Spec = {
    "data": {"name": "verdicts"},
    "height": "$height",
    "encoding": {
        "y": {
            "field": "metric",
            "type": "nominal",
            "sort": None,
            "title": None,
            "axis": {"ticks": False, "domain": False},
        }
    },
    "layer": [
        {
            "mark": {"type": "bar", "height": 22, "color": "$band"},
            "encoding": {
                "x": _value(
                    "tol_low",
                    "$worse",
                    scale={"zero": True, "nice": False, "padding": 40},
                    axis={"labelExpr": "$labels", "labelBound": True, "tickCount": 4},
                ),
                "x2": {"field": "tol_high"},
                "tooltip": [{"field": "tolerance"}],
            },
        },
        {
            "mark": {"type": "tick", "thickness": 2, "size": 22, "color": "$bad"},
            "encoding": {"x": _value("limit_at", ""), "tooltip": [{"field": "limit"}]},
        },
        {
            "mark": {"type": "rule", "color": "$soft", "strokeDash": [2, 2]},
            "encoding": {"x": {"datum": 0}, "y": {"value": 0}, "y2": {"value": "height"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "color": "$new"},
            "encoding": {"x": _value("low", ""), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": "$new"},
            "encoding": {"x": _value("at", ""), "tooltip": [{"field": "metric"}, {"field": "text", "title": "change"}]},
        },
        {
            "mark": {"type": "text", "dy": -17, "dx": {"expr": INWARDS}, "fontSize": 11},
            "encoding": {"x": _value("at", ""), "text": {"field": "text"}},
        },
    ],
}

PAIRS: Spec = {
    "data": {"name": "pairs"},
    "height": 210,
    "layer": [
        {
            "data": {"name": "band"},
            "mark": {"type": "rect", "color": "$band"},
            "encoding": {"y": _value("low", "change, %"), "y2": {"field": "high"}},
        },
        {"mark": {"type": "rule", "color": "$soft", "strokeDash": [2, 2]}, "encoding": {"y": {"datum": 0}}},
        {
            "mark": {"type": "point", "filled": True, "size": 60, "color": "$new", "opacity": 1},
            "encoding": {
                "x": {"field": "pair", "type": "ordinal", "title": "launch pair", "axis": {"labelAngle": 0}},
                "y": _value("change", "change, %"),
                "tooltip": [{"field": "pair"}, {"field": "change", "title": "change, %", "format": "+.2f"}],
            },
        },
        {
            "mark": {"type": "rule", "color": "$new", "strokeWidth": 1.5},
            "encoding": {"y": {"aggregate": "mean", "field": "change", "type": "quantitative"}},
        },
    ],
}

ECDF: Spec = {
    "data": {"name": "ecdf"},
    "height": 210,
    "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
    "encoding": {
        "x": _value("value", "$unit", scale=FREE, axis={"labelOverlap": True, "labelSeparation": 6}),
        "y": _value("share", "share of requests", axis={"format": "%"}, scale={"domain": [0, 1]}),
        "color": SIDE,
        "strokeDash": {
            "field": "side",
            "type": "nominal",
            "title": None,
            "scale": {"domain": [BASELINE, CANDIDATE], "range": [[5, 3], [1, 0]]},
        },
    },
}

POWER: Spec = {
    "data": {"name": "power"},
    "height": 210,
    "layer": [
        {
            "mark": {"type": "line", "strokeWidth": 1.5, "interpolate": "step-after"},
            "encoding": {
                "x": _value("t", "seconds", scale={"nice": False}),
                "y": _value("watts", "W", scale={"zero": True}),
                "color": {
                    "field": "device",
                    "type": "nominal",
                    "title": None,
                    "scale": {"range": ["$new", "$good", "$bad", "$old"]},
                },
            },
        },
        {
            "data": {"name": "idle"},
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": "$soft"},
            "encoding": {"y": _value("watts", ""), "tooltip": [{"field": "when"}, {"field": "watts"}]},
        },
    ],
}

CURVE: Spec = {
    "data": {"name": "curve"},
    "height": 220,
    "encoding": {
        "x": _value(
            "batch",
            "$x",
            scale={"type": "log", "base": 2, "nice": False, "padding": 12},
            axis={"grid": False, "values": "$ticks"},
        ),
        "color": SIDE,
    },
    "layer": [
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": _value("value", "$unit", scale="$scale")}},
        {
            "mark": {"type": "point", "filled": True, "size": 48, "opacity": 1},
            "encoding": {
                "y": _value("value", ""),
                "shape": SIDE_SHAPE,
                "tooltip": [
                    {"field": "test"},
                    {"field": "side"},
                    {"field": "batch"},
                    {"field": "value", "format": ".5~g"},
                    {"field": "verdict"},
                ],
            },
        },
        {
            "transform": [{"filter": "datum.verdict === 'regressed' && datum.side === 'candidate'"}],
            "mark": {"type": "point", "size": 170, "strokeWidth": 2, "color": "$bad", "filled": False},
            "encoding": {"y": _value("value", ""), "color": {"value": "$bad"}},
        },
    ],
}

FRONTIER: Spec = {
    "data": {"name": "points"},
    "height": 320,
    "layer": [
        {
            "data": {"name": "lost"},
            "mark": {"type": "area", "interpolate": "step-after", "color": "$bad", "opacity": 0.22},
            "encoding": {
                "x": _value("x", "$x", scale="$across"),
                "y": _value("y", "$y", scale=TALL),
                "y2": {"field": "y2"},
            },
        },
        {
            "transform": [{"filter": "datum.on"}],
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
            "encoding": {
                "x": _value("x", "$x", scale="$across"),
                "y": _value("y", "$y", scale=TALL),
                "color": SIDE,
                "order": {"field": "x"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 52},
            "encoding": {
                "x": _value("x", ""),
                "y": _value("y", ""),
                "color": SIDE,
                "shape": SIDE_SHAPE | {"legend": None},
                "opacity": {"condition": {"test": "datum.on", "value": 1}, "value": 0.35},
                "tooltip": [
                    {"field": "key", "title": "$key"},
                    {"field": "side"},
                    {"field": "x", "title": "$x", "format": ".5~g"},
                    {"field": "y", "title": "$y", "format": ".5~g"},
                    {"field": "note"},
                ],
            },
        },
        {
            "transform": [{"filter": "datum.on && datum.side === 'candidate'"}],
            "mark": {"type": "text", "dy": 14, "dx": 6, "fontSize": 10, "align": "left"},
            "encoding": {"x": _value("x", ""), "y": _value("y", ""), "text": {"field": "label"}},
        },
        {
            "transform": [{"filter": "datum.bad"}],
            "mark": {"type": "point", "size": 150, "strokeWidth": 2, "filled": False, "color": "$bad"},
            "encoding": {"x": _value("x", ""), "y": _value("y", ""), "color": {"value": "$bad"}},
        },
        {
            "data": {"name": "knees"},
            "mark": {"type": "point", "size": 260, "strokeWidth": 2, "filled": False},
            "encoding": {
                "x": _value("x", ""),
                "y": _value("y", ""),
                "color": SIDE,
                "shape": {
                    "field": "what",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": ["knee", "advised"], "range": ["circle", "square"]},
                    "legend": None,  # each mark is named beside it
                },
                "tooltip": [{"field": "what"}, {"field": "key"}, {"field": "side"}],
            },
        },
        {
            "data": {"name": "knees"},
            "mark": {"type": "text", "dy": -16, "fontSize": 11, "fontWeight": 600},
            "encoding": {"x": _value("x", ""), "y": _value("y", ""), "text": {"field": "label"}, "color": SIDE},
        },
    ],
    "resolve": {"scale": {"shape": "independent"}, "legend": {"shape": "independent"}},
}

ROOFLINE: Spec = {
    "data": {"name": "roofline"},
    "height": 220,
    "mark": {"type": "line", "point": {"size": 40, "filled": True}, "strokeWidth": 2},
    "encoding": {
        "x": _value(
            "key",
            "$x",
            scale={"type": "log", "base": 2, "nice": False, "padding": 12},
            axis={"grid": False, "values": "$ticks"},
        ),
        "y": _value("value", "$unit", scale={"type": "log"}),
        "color": {
            "field": "what",
            "type": "nominal",
            "title": None,
            "scale": {"domain": ["limit", "measured"], "range": ["$old", "$new"]},
        },
        "tooltip": [
            {"field": "key"},
            {"field": "what"},
            {"field": "value", "format": ".5~g"},
            {"field": "share", "title": "share of the limit", "format": ".0%"},
            {"field": "bound", "title": "bound by"},
        ],
    },
}

REPLICATION: Spec = {
    "data": {"name": "bars"},
    "height": "$height",
    "encoding": {
        "y": {
            "field": "label",
            "type": "nominal",
            "sort": None,
            "title": None,
            "axis": {"ticks": False, "domain": False, "labelLimit": 240},
        },
        "x": _value("value", "$unit", scale={"zero": True, "domainMax": "$top"}),
    },
    "layer": [
        {"mark": {"type": "bar", "color": "$new", "height": 17, "cornerRadiusEnd": 3}},
        {
            "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11},
            "encoding": {"text": {"field": "value", "format": ",.5~g"}},
        },
    ],
}

HISTORY: Spec = {
    "data": {"name": "history"},
    "height": 210,
    "layer": [
        {
            "data": {"name": "changes"},
            "mark": {"type": "rule", "color": "$bad", "strokeDash": [4, 3], "strokeWidth": 1.5},
            "encoding": {"x": _value("n", "session, oldest first", axis=WHOLE), "tooltip": [{"field": "what"}]},
        },
        {
            "mark": {"type": "line", "color": "$new", "strokeWidth": 1.2, "opacity": 0.5},
            "encoding": {
                "x": _value(
                    "n", "session, oldest first", scale={"nice": False, "zero": False, "padding": 10}, axis=WHOLE
                ),
                "y": _value("value", "$unit", scale=FREE),
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 34, "color": "$new", "opacity": 1},
            "encoding": {
                "x": _value("n", ""),
                "y": _value("value", ""),
                "tooltip": [{"field": "at"}, {"field": "commit"}, {"field": "value", "format": ".5~g"}],
            },
        },
    ],
}

SPECS: dict[str, Spec] = {
    "rounds": ROUNDS,
    "intervals": INTERVALS,
    "pairs": PAIRS,
    "ecdf": ECDF,
    "power": POWER,
    "curve": CURVE,
    "frontier": FRONTIER,
    "roofline": ROOFLINE,
    "replication": REPLICATION,
    "history": HISTORY,
}


def fill(node: Any, words: dict[str, Any]) -> Any:
    """A copy of a specification with its ``$word`` places filled; a place that is the whole string may become any value."""
    import re

    if isinstance(node, str):
        whole = re.fullmatch(r"\$(\w+)", node)
        if whole and whole[1] in words:
            return words[whole[1]]
        return re.sub(r"\$(\w+)", lambda found: str(words.get(found[1], found[0])), node)
    if isinstance(node, list):
        return [fill(item, words) for item in node]
    if isinstance(node, dict):
        return {key: fill(value, words) for key, value in node.items()}
    return node


def specification(chart: dict[str, Any], theme: str = "light") -> Spec:
    """The complete specification of one chart (from ``chartdata``), data included."""
    spec: Spec = fill(SPECS[chart["kind"]], THEMES[theme]["words"] | chart["words"])
    if "layer" in spec:
        spec["layer"] = [layer for layer in spec["layer"] if _filled(layer, chart["data"])]
    spec["datasets"] = {name: records(columns) for name, columns in chart["data"].items()}
    spec["config"] = THEMES[theme]["config"]
    return spec


def _filled(layer: Spec, data: dict[str, dict[str, list[Any]]]) -> bool:
    """Whether a layer has rows to draw: an empty one would leave its scale without an extent."""
    own = layer.get("data")
    return own is None or any(data.get(own["name"], {}).values())


def records(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Columns as rows."""
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
