"""Static pictures of every chart, drawn by vl-convert without a browser, and its Vega libraries."""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytest_slmperf.errors import BaselineError, InvalidInput, SlmperfError
from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.html.chart_data import family_charts, result_charts
from pytest_slmperf.reports.html.charts import Chart, specification
from pytest_slmperf.reports.wording import printable
from pytest_slmperf.util import files, read_file
from pytest_slmperf.util.files import cache_folder

FORMATS = ("svg", "png")
WIDTHS = {"": 380, "wide": 720}
FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def write_figures(results: Results, folder: Path, formats: Sequence[str] = FORMATS, scale: float = 2.0) -> list[Path]:
    """Write each chart of these results into ``folder``, one file a format; returns the files in the order drawn.

    ``scale``: pixels of a PNG for each unit of the chart.  InvalidInput for a format that is not svg or png
    or a folder that cannot be written; SlmperfError when the ``report`` extra is not installed.
    """
    for name in formats:
        if name not in FORMATS:
            raise InvalidInput(f"figure format {name!r} is not one of {', '.join(FORMATS)}")
    try:
        import vl_convert
    except ImportError:
        raise SlmperfError('figures need the report extra: pip install "pytest-slmperf[report]"') from None
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stem, chart, test in figures(results):
            spec = static(chart, test)
            for name in formats:
                path = folder / f"{stem}.{name}"
                if name == "svg":
                    path.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
                else:
                    path.write_bytes(vl_convert.vegalite_to_png(spec, scale=scale))
                written.append(path)
    except OSError as error:
        raise InvalidInput(
            f"{folder}: figures cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return written


def figures(results: Results) -> Iterator[tuple[str, Chart, str]]:
    """A file stem, a chart and its test's id for each picture: families of tests (no id) first, then each test's own."""
    for family in family_charts(results.results):
        for chart in family.charts:
            yield stem_of(f"{family.name} {family.about}", f"against-batch-{chart.title}"), chart, ""
    for result in results.results:
        for chart in result_charts(result, 1):
            yield stem_of(result.id, chart.title), chart, result.id


def stem_of(test: str, title: str) -> str:
    """A file name made of a test's id and a chart's title: plain letters, never longer than 120, unique by a short hash."""
    name = test.rsplit("/", 1)[-1]
    words = re.sub(r"[^A-Za-z0-9.]+", "-", f"{name} {title}").strip("-.").lower()
    return f"{words[:105]}-{sha256(f'{test} {title}'.encode()).hexdigest()[:8]}"


def static(chart: Chart, test: str = "") -> dict[str, Any]:
    """The specification of a chart as it is printed: on white, with its title, at a fixed width."""
    spec = specification(chart, "light")
    spec["width"] = WIDTHS[chart.size]
    title: dict[str, Any] = {"text": chart.title[:1].upper() + chart.title[1:]}
    if test:
        title |= {"subtitle": printable(test)[-90:], "subtitleColor": "#545c66", "subtitleFontSize": 10}
    spec["title"] = title
    spec["background"] = "white"
    spec["padding"] = 12
    spec["config"] = _with_fonts(spec["config"]) | {"background": "white"}
    return spec


def _with_fonts(node: Any) -> Any:
    """The configuration with fonts that a converter finds on any machine, system-ui being none of them."""
    if isinstance(node, dict):
        return {key: FONTS if key == "font" else _with_fonts(value) for key, value in node.items()}
    return node


# The Vega libraries as one piece of JavaScript, taken from vl-convert (the ``report`` extra).

EXPORT = "window.vegaEmbed = vegaEmbed;"


def _kept_script() -> Path:
    return cache_folder() / f"vega-{version('vl-convert-python')}.js.gz"


def is_kept() -> bool:
    """Whether ``javascript`` returns at once: from the cache, or because vl-convert is not installed."""
    try:
        return _kept_script().is_file()
    except PackageNotFoundError:
        return True


@cache
def javascript() -> str | None:
    """The source that defines ``vegaEmbed`` on ``window``; None where vl-convert is not installed.

    Bundling takes about a second, so the result is kept in the user's cache folder, a file for each version of vl-convert.
    """
    try:
        import vl_convert
    except ImportError:
        return None
    kept = _kept_script()
    try:
        source = gzip.decompress(read_file.read(kept, read_file.MOST_CONFIG)).decode()
        if source.endswith(EXPORT_MARK):
            return source
    except (BaselineError, OSError, EOFError, ValueError, zlib.error):
        pass  # a missing or damaged file is made anew
    source = f"(() => {{{vl_convert.javascript_bundle(EXPORT)}}})();{EXPORT_MARK}"
    with contextlib.suppress(BaselineError):  # an unwritable cache costs a second, but not the report
        files.replace(kept, gzip.compress(source.encode(), mtime=0))
    return source


EXPORT_MARK = "/* vegaEmbed */"  # at the end of the file, so that a truncated file is detected
