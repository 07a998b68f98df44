"""Loading the plugin imports the standard library and pytest only (what that costs in time: benchmarks/load.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIST_MODULES = """
import json, sys
def pytest_unconfigure(config):
    open("modules.json", "w").write(json.dumps(sorted(sys.modules)))
"""
PYTEST_OWN = {"pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py", "list_modules", "colorama"}


def modules(folder: Path, *arguments: str) -> set[str]:
    (folder / "list_modules.py").write_text(LIST_MODULES)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "list_modules", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        check=False,
    )
    return set(json.loads((folder / "modules.json").read_text()))


def foreign(names: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in names}
    standard = set(sys.stdlib_module_names) | PYTEST_OWN | {"pytest_slmperf", "__main__", "__mp_main__"}
    return {top for top in tops if top not in standard and not top.startswith("_")}


@pytest.mark.parametrize("arguments", [["--collect-only"], ["--help"], []], ids=["collect-only", "help", "run"])
def test_loading_the_plugin_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "test_one.py").write_text("def test_plain():\n    pass\n\n\ndef test_perf(slmperf):\n    pass\n")
    without = foreign(modules(tmp_path, *arguments))
    plugins = ("pytest_slmperf.pytest_plugin.plugin", "pytest_slmperf.contrib.plugin")  # both entry points
    loaded = modules(tmp_path, *arguments, *(word for name in plugins for word in ("-p", name)))
    assert loaded.issuperset(plugins)
    assert foreign(loaded) - without == set()


def test_the_check_sees_a_heavy_import(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import msgspec\n")
    assert "msgspec" in foreign(modules(tmp_path, "--collect-only"))
