"""The published JSON Schemas, written from the record types by ``python -m pytest_slmperf.model.schema``."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def generate() -> dict[str, dict[str, Any]]:
    """File name → JSON Schema (draft 2020-12) of results files and of baselines."""
    from pytest_slmperf.model.baseline import Baseline
    from pytest_slmperf.model.result import SCHEMA_VERSION, Results

    return {
        f"results-{SCHEMA_VERSION}.schema.json": _schema(Results, "A results file of pytest-slmperf", SCHEMA_VERSION),
        f"baseline-{SCHEMA_VERSION}.schema.json": _schema(Baseline, "A baseline of pytest-slmperf", SCHEMA_VERSION),
    }


def text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _schema(kind: type, title: str, version: int) -> dict[str, Any]:
    import msgspec

    schema = msgspec.json.schema(kind)
    for described in schema["$defs"].values():
        if "description" in described:  # Python 3.13 takes the indentation out of docstrings, older ones don't
            described["description"] = inspect.cleandoc(described["description"])
    definition = schema["$defs"][kind.__name__]
    # A file without a version, or with another, is not described by this schema.
    definition["properties"]["schema_version"] = {"const": version}
    definition["required"] = [*definition.get("required", []), "schema_version"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
