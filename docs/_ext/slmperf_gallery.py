"""The gallery's reports, made by the documentation's build from the results files in gallery/data."""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx

from pytest_slmperf.model.results_file import load_results
from pytest_slmperf.reports.html.report import write_report


def make(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    for path in sorted((Path(app.srcdir) / "gallery" / "data").glob("*.json")):
        folder = Path(app.outdir) / "gallery"
        write_report(load_results(path), folder / f"{path.stem}.html")
        shutil.copy(path, folder)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", make)
    return {"parallel_read_safe": True}
