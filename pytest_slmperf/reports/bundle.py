"""The Vega libraries as one piece of JavaScript, taken from vl-convert (the ``report`` extra)."""

from __future__ import annotations

from functools import cache


@cache
def javascript() -> str | None:
    """The source that defines ``vegaEmbed`` on ``window``; None where vl-convert is not installed."""
    try:
        import vl_convert
    except ImportError:
        return None
    source: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return source
