"""The map in CONTRIBUTING.md is true: every place that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = sorted({name for name in re.findall(r"`([A-Za-z_.][\w./-]*)`", TEXT) if "/" in name or name.endswith(".md")})


@pytest.mark.parametrize("name", NAMED)
def test_every_place_on_the_map_exists(name: str) -> None:
    made = (".tox/", "site/")  # by tox, where it has run
    assert name in made or (ROOT / name).exists() or (ROOT / "pytest_slmperf" / name).exists()


def test_every_folder_of_the_package_is_on_the_map() -> None:
    folders = {path.parent.name for path in (ROOT / "pytest_slmperf").glob("*/__init__.py")}
    assert {folder for folder in folders if f"`{folder}/`" not in TEXT} == set()
