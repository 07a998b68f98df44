"""The HTML report: one self-contained file that opens with no network and runs nothing but its own script."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.html import charts, static_figures
from pytest_slmperf.reports.html.chart_data import MANY, family_charts, result_charts
from pytest_slmperf.reports.html.charts import specs, themes
from pytest_slmperf.reports.html.page import page
from pytest_slmperf.reports.view import CALM, view_of
from pytest_slmperf.text_out import printable
from pytest_slmperf.util.formatting import counted

if TYPE_CHECKING:
    from jinja2 import Environment

CHUNK = 200  # tests unpacked at once
FOLD = 1000  # tests; beyond it the calm ones are not listed until they are asked for
INSTALL_HINT = 'pip install "pytest-slmperf[report]"'


def write_report(results: Results, path: Path) -> None:
    """Write the report of these results to ``path``, replacing what was there in one step.

    Without the ``report`` extra the page has tables, sparklines and interval bars, and a line on how to get the charts.
    """
    from pytest_slmperf.util import files

    try:
        files.refuse_other(path, *files.REPORT)
        files.replace(path, render(results).encode("utf-8", "backslashreplace"))
    except BaselineError as error:
        cause = error.__cause__
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        raise InvalidInput(f"{path}: the report cannot be written ({why}); choose another file") from error


def render(results: Results) -> str:
    """The report as one HTML document."""
    view = view_of(results)
    values = page(view)
    vega = static_figures.javascript()
    crowded = values.total > MANY
    detail = _environment().get_template("parts.html.j2").module.detail  # type: ignore[attr-defined]
    held: list[dict[str, Any]] = [{}]
    for test in values.tests:
        if vega:
            test.charts = result_charts(test.result, values.total)
        if len(held[-1]) == CHUNK:
            held.append({})
        held[-1][test.key] = {"charts": [chart.as_json() for chart in test.charts]}
        # On a crowded page the sections of calm tests are unpacked when they are opened.
        if crowded and test.outcome in CALM:
            held[-1][test.key]["html"] = detail(test)
            test.packed = True
            test.folded = values.total > FOLD
    families = family_charts(results.results) if vega else []
    curves = {
        f"f{place}": {"charts": [chart.as_json() for chart in family.charts]} for place, family in enumerate(families)
    }
    style, script = charts.read("report.css"), charts.read("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=values,
            families=families,
            specs={"specs": specs(), "themes": themes()} if vega else None,
            held=[packed_json(chunk) for chunk in held],
            curves=packed_json(curves),
            chunk=CHUNK,
            folded=sum(test.folded for test in values.tests),
            vega=packed(vega) if vega else None,
            install_hint=INSTALL_HINT,
            style=Markup(style),
            script=Markup(script),
            policy=_policy([script, *([vega] if vega else [])], [style]),
        )
    )


def packed_json(value: Any) -> str:
    return packed(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def packed(text: str) -> str:
    """Text as gzip in base64: what the page unpacks when a section or a chart is first opened."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def island(value: Any) -> Markup:
    """JSON for the inside of a script element: no character in it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _policy(scripts: list[str], styles: list[str]) -> str:
    """A content security policy that lets exactly these scripts and styles run, and no request go out."""
    return (
        f"default-src 'none'; script-src {' '.join(map(_digest, scripts))}; style-src {' '.join(map(_digest, styles))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shown(value: Any) -> Any:
    """A value on the page: text without control characters; autoescape makes it text and no markup."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "\n".join(map(printable, value.split("\n")))


@cache
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(charts.template_folder()),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["island"] = island
    environment.filters["counted"] = counted
    return environment
