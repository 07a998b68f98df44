"""Writes the reference pages from the code, so that they cannot say anything else than the code does.

The pages appear in ``docs/reference/generated/`` before Sphinx reads its sources. Nothing there is committed.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.pytest_plugin.setting_table import Setting

ARROW = {"higher": "higher", "lower": "lower", "none": "no direction"}


def cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def options_page() -> str:
    from pytest_slmperf.pytest_plugin.setting_table import OPTIONS

    rows = [
        (f"`{option.flag} {option.metavar}`", f"`{option.ini}`", _default(option), option.help)
        for option in OPTIONS.values()
    ]
    return (
        "# Options\n\n"
        "Each option can be given on the command line or, by its ini name, in `pytest.ini` or `pyproject.toml`. What a "
        "test's [marker](markers.md) says wins over the command line, and the command line wins over the ini file.\n\n"
        "Two flags have no ini twin: `--slmperf` runs performance tests, which are skipped without it, and "
        "`--slmperf-approve` makes what was measured the baseline, after showing what changes.\n\n"
        + table(("option", "ini", "default", "meaning"), rows)
    )


def markers_page() -> str:
    from pytest_slmperf.pytest_plugin.setting_table import MARKER_KEYS

    rows = [(f"`{key}`", setting.kind.wanted, _default(setting), setting.help) for key, setting in MARKER_KEYS.items()]
    return (
        "# The marker\n\n"
        "`@pytest.mark.slmperf(...)` takes these keywords, on a test, a class, or a module (`pytestmark`). The closest "
        "mark wins, key by key; what no mark gives is taken from the [option](options.md) of that name, where there is one. "
        "An unknown key or a wrong value ends the session with an error that names it.\n\n"
        + table(("key", "value", "default", "meaning"), rows)
    )


def _default(setting: Setting) -> str:
    plain = setting.fixed_default is not None and not setting.default_text
    return f"`{setting.shown_default}`" if plain else setting.shown_default


def metrics_page() -> str:
    from pytest_slmperf.metrics.registry import REGISTRY

    gating = _gating()
    rows = [(f"`{m.name}`", m.unit, ARROW[m.better], gating.get(m.name, ""), m.formula) for m in REGISTRY.values()]
    return (
        "# Metrics\n\n"
        "One metric, one definition. Names and formulas follow vLLM's own benchmarks. “Gates” names the "
        "scenarios in which a regression of this metric fails a test when nothing else was said; the marker's `gate` names "
        "others. Energy gates where a meter exists. A reading that "
        "is missing is reported with its reason and is never 0.\n\n"
        + table(("metric", "unit", "better", "gates", "formula"), rows)
    )


def _gating() -> dict[str, str]:
    """Metric → the scenarios whose default gates hold it."""
    from pytest_slmperf.scenarios.offline import ColdStart, Offline
    from pytest_slmperf.scenarios.replication import Replication
    from pytest_slmperf.scenarios.serving import Serving
    from pytest_slmperf.scenarios.sweep import Sweep

    found: dict[str, list[str]] = {}
    for scenario in (Offline, Serving, ColdStart, Replication, Sweep):
        for name in scenario.gates:
            found.setdefault(name, []).append(scenario.kind)
    return {name: ", ".join(kinds) for name, kinds in found.items()}


def cli_page() -> str:
    from pytest_slmperf.cli.main import build_parser

    text = "# The command `slmperf`\n\n"
    for parser in build_parser().walk():
        parser.formatter_class = _wide(parser.formatter_class)
        text += f"## `{parser.prog}`\n\n```text\n{parser.format_help().rstrip()}\n```\n\n"
    return text


def _wide(base: Any) -> Any:
    """The same help whatever terminal builds the site."""

    class Wide(base):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            named["width"] = 100
            super().__init__(*arguments, **named)

    return Wide


def schema_page(schema: dict[str, Any], anchor: str) -> str:
    """Fields of the results file: the schema's own definitions, one table each."""
    text = (
        "# The results file\n\n"
        "`--slmperf-json` writes it, `slmperf compare`, `report` and `export` read it. A reader refuses a newer "
        f"`schema_version` and reads every older one. The [JSON Schema]({anchor}) is part of the package.\n\n"
    )
    for name, about in schema["$defs"].items():
        if "enum" in about:  # the words that a field may hold
            text += f"## {name}\n\n{about.get('description', '')}\n\n{_kind(about)}\n\n"
            continue
        rows = []
        for field, what in about["properties"].items():
            needed = "yes" if field in about.get("required", []) else ""
            rows.append((f"`{field}`", _kind(what), needed, what.get("description", "")))
        text += (
            f"## {name}\n\n{about.get('description', '')}\n\n" + table(("field", "type", "required", ""), rows) + "\n"
        )
    return text


def _kind(what: dict[str, Any]) -> str:
    if "$ref" in what:
        return what["$ref"].rpartition("/")[2]
    for many in ("anyOf", "oneOf"):
        if many in what:
            return " or ".join(_kind(part) for part in what[many])
    if "const" in what or "enum" in what:
        return " or ".join(f"`{json.dumps(value)}`" for value in what.get("enum", [what.get("const")]))
    kind = what.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(what['items'])}" if isinstance(what.get("items"), dict) else "list"
    return str(kind)


def methods_page() -> str:
    """Every public method of the fixture ``slmperf``: its signature and its docstring."""
    from pytest_slmperf.pytest_plugin.slmperf_fixture import Slmperf

    text = ""
    for name, method in inspect.getmembers(Slmperf, inspect.isfunction):
        if name.startswith("_"):
            continue
        wanted = list(inspect.signature(method).parameters.values())[1:]
        plain = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in wanted])
        # docstrings are written with double backticks; Markdown reads them as code too
        # a parameter that is optional, and whose default the docstring says
        shown = str(plain).replace("Ellipsis", "…")
        text += f"### `slmperf.{name}{shown}`\n\n{inspect.getdoc(method)}\n\n"
    return text


def names_page() -> str:
    """What ``pytest_slmperf`` exports, each with the first sentence of its docstring."""
    import pytest_slmperf

    rows = []
    for name in pytest_slmperf.__all__:
        text = inspect.getdoc(getattr(pytest_slmperf, name)) or ""
        if not name.startswith("__"):
            rows.append((f"`{name}`", text.split("\n\n")[0].replace("``", "`")))
    return (
        "# Python names\n\n"
        "`from pytest_slmperf import …` gives these names, each loaded on first use. Other modules of the package may be "
        "renamed without notice.\n\n" + table(("name", ""), rows)
    )


def action_inputs(root: Path) -> str:
    import yaml

    action = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))
    inputs = [
        (f"`{name}`", f"`{about['default']}`" if about.get("default") else "", about["description"])
        for name, about in action["inputs"].items()
    ]
    outputs = [(f"`{name}`", about["description"]) for name, about in action["outputs"].items()]
    return table(("input", "default", "meaning"), inputs) + "\n" + table(("output", "meaning"), outputs)


def survives_page(root: Path) -> str:
    """The fault matrix of the tests, as a page."""
    sys.path.insert(0, str(root / "tests"))
    try:
        return str(import_module("faults.table").page())
    finally:
        sys.path.remove(str(root / "tests"))


def pages(root: Path) -> dict[str, str]:
    """File name → Markdown (or JSON) of every generated page."""
    from pytest_slmperf.model import schema as published

    ((schema_name, schema),) = [item for item in published.generate().items() if item[0].startswith("results-")]
    return {
        "options.md": options_page(),
        "markers.md": markers_page(),
        "metrics.md": metrics_page(),
        "command.md": cli_page(),
        "results.md": schema_page(schema, schema_name),
        "methods.txt": methods_page(),
        "python.md": names_page(),
        "survives.md": survives_page(root),
        "action-inputs.txt": action_inputs(root),
        schema_name: published.text(schema),
    }


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(folder.parents[2]).items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    write(Path(app.srcdir) / "reference" / "generated")
    return {"version": "1", "parallel_read_safe": True}
