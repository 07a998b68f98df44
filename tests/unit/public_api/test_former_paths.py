"""Module paths of version 0.1: the names that its documentation and docstrings gave are found there, with a warning."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

MOVED = {
    "baselines.base": ("Store", "Baseline", "Reader"),
    "energy.polled": ("Counter", "PolledMeter"),
    "engines.spec": ("EngineSpec", "Scalar"),
    "fixtures": ("EngineRef", "Measurement", "Slmperf", "slmperf", "slm_engine", "energy_meter"),
    "hookspec": ("pytest_slmperf_engines", "pytest_slmperf_meters", "pytest_slmperf_exporters"),
    "loadgen.measure": ("Slo", "measure"),
    "marker": ("check", "merged", "NAME"),
    "options": ("OPTIONS", "add_options", "value", "folder", "validate"),
    "profiles": ("pick", "active", "activate"),
    "record": ("Result", "Results", "Session", "Machine", "MetricValue", "VerdictRecord", "load_results", "encode"),
    "reports.base": ("Exporter",),
    "roofline": (),
    "scenarios.coldstart": ("ColdStart",),
    "scenarios.replication_view": ("MeasuredReplication", "measure_replication"),
    "scenarios.rising_rates": ("MeasuredRates", "measure_rates"),
    "scenarios.sweep_view": ("MeasuredSweep",),
}
KEPT = {
    "energy.base": ("EnergyMeter", "Watch", "EnergyReading", "DeviceReading"),
    "engines.base": ("EngineAdapter", "Engine", "Batch", "RoundReading", "RequestTiming", "EngineState"),
    "engines.process": ("EngineProcess",),
    "errors": ("SlmperfError", "InvalidInput", "EngineError", "EngineMissing", "NotMeasured"),
    "metrics": ("REGISTRY", "Metric", "metric"),
    "reports.markdown": (),
    "scenarios.base": ("Scenario", "RoundOutcome"),
    "scenarios.offline": ("Offline",),
    "scenarios.replication": ("Replication",),
    "scenarios.serving": ("Serving",),
    "scenarios.serving_options": ("scenario",),
    "scenarios.sweep": ("Sweep", "SweepPoint"),
    "scenarios.transport": (),
}


def forget(path: str) -> None:
    """Let the next import of a former path be the first one."""
    sys.modules.pop(f"pytest_slmperf.{path}", None)


@pytest.mark.parametrize("path", MOVED)
def test_a_module_that_moved_is_found_with_a_warning(path):
    forget(path.partition(".")[0] if path.startswith("loadgen") else path)
    forget(path)
    with pytest.warns(DeprecationWarning, match=r"is now pytest_slmperf\..*; what users need is in pytest_slmperf"):
        module = importlib.import_module(f"pytest_slmperf.{path}")
    assert [name for name in MOVED[path] if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", KEPT)
def test_a_module_that_stayed_has_its_names(path):
    module = importlib.import_module(f"pytest_slmperf.{path}")
    assert [name for name in KEPT[path] if not hasattr(module, name)] == []


def test_a_former_path_gives_the_very_objects():
    forget("profiles")
    forget("record")
    with pytest.warns(DeprecationWarning, match="measuring.context"):
        from pytest_slmperf.profiles import pick  # type: ignore[import-not-found, import-untyped]
    with pytest.warns(DeprecationWarning, match="model.result"):
        from pytest_slmperf.record import Result  # type: ignore[import-not-found, import-untyped]
    import pytest_slmperf

    assert pick is pytest_slmperf.pick
    assert Result is pytest_slmperf.Result


def test_the_warning_points_at_the_import(tmp_path):
    (tmp_path / "suite.py").write_text("\nfrom pytest_slmperf.profiles import pick\n")
    run = subprocess.run(
        [sys.executable, "-W", "default::DeprecationWarning", "suite.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "suite.py:2: DeprecationWarning: pytest_slmperf.profiles is now" in run.stderr


def test_the_plugin_module_of_before():
    forget("plugin")
    with pytest.warns(DeprecationWarning, match=r"is now pytest_slmperf\.pytest_plugin\.plugin"):
        module = importlib.import_module("pytest_slmperf.plugin")
    assert all(hasattr(module, name) for name in ("pytest_addoption", "slmperf", "slm_engine", "energy_meter"))


def test_write_report_of_the_former_module():
    with pytest.warns(DeprecationWarning, match=r"write_report is now pytest_slmperf\.reports\.html\.report"):
        from pytest_slmperf.reports.html import write_report
    from pytest_slmperf.reports.html.report import write_report as now

    assert write_report is now


def test_main_of_the_former_module(capsys):
    from pytest_slmperf.cli import main

    with pytest.warns(DeprecationWarning, match="cli.main"), pytest.raises(SystemExit) as end:
        main(["--version"])  # type: ignore[operator]
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("pytest-slmperf")


@pytest.mark.parametrize(
    ("words", "shown"),
    [(("pytest_slmperf.roofline", "--help"), "usage"), (("pytest_slmperf.cli", "--version"), "pytest-slmperf")],
    ids=["roofline", "cli"],
)
def test_commands_that_the_documentation_named(words, shown):
    run = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert shown in run.stdout


def test_the_plugin_by_its_former_name(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(slmperf):\n    pass\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_slmperf.plugin"],
        cwd=tmp_path, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert "1 skipped" in run.stdout
