"""The files of ``templates/``: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pytest_slmperf.errors import SlmperfError


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
