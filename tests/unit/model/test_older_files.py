"""Files that the released version wrote (simulated engine) are read, and written again with the same content."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.model.results_file import encode, load_results
from pytest_slmperf.model.schema import generate
from pytest_slmperf.reports.html.report import render

FOLDER = Path(__file__).parent / "older_files"


@pytest.fixture(params=["compared", "duet"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """``compared``: against a stored baseline, with a sweep's advice and a replication; ``duet``: two sides measured."""
    path = tmp_path / f"{request.param}.json"
    path.write_bytes(gzip.decompress((FOLDER / f"{request.param}.json.gz").read_bytes()))
    return path


def lacking(old: Any, new: Any, where: str = "") -> list[str]:
    """Places where ``new`` says less than ``old``, or something else. Null and absent are one to a reader."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            place
            for key, value in old.items()
            if value is not None
            for place in lacking(value, new.get(key), f"{where}.{key}")
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [place for n, pair in enumerate(zip(old, new, strict=True)) for place in lacking(*pair, f"{where}[{n}]")]
    return [] if old == new else [f"{where}: {old!r} → {new!r}"]


def test_nothing_is_lost(older):
    assert lacking(json.loads(older.read_text()), json.loads(encode(load_results(older)))) == []


def test_the_published_schema_accepts_old_and_new(older):
    jsonschema = pytest.importorskip("jsonschema")
    (schema,) = [schema for name, schema in generate().items() if name.startswith("results")]
    for document in (json.loads(older.read_text()), json.loads(encode(load_results(older)))):
        jsonschema.validate(document, schema)


def test_the_report_draws_them(older):
    pytest.importorskip("vl_convert")
    results = load_results(older)
    page = render(results)
    assert all(result.id.rpartition("::")[2] in page for result in results.results)
