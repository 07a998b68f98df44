"""What users import comes from ``pytest_slmperf``: every name is there, and nothing is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_slmperf

PROMISED = {
    *("Slo", "Offline", "Serving", "Sweep", "EngineAdapter", "Engine", "EnergyMeter", "Exporter", "Store", "pick"),
    *("Measurement", "Slmperf", "EngineProcess", "EngineSpec", "Counter", "PolledMeter"),
}
HEAVY = ("torch", "vllm", "numpy", "scipy", "pydantic", "msgspec", "jinja2", "pytest")


@pytest.mark.parametrize("name", pytest_slmperf.__all__)
def test_every_name_is_there(name):
    assert getattr(pytest_slmperf, name) is not None


def test_what_is_promised_is_listed():
    assert set(pytest_slmperf.__all__) >= PROMISED


def test_dir_lists_the_public_names():
    assert dir(pytest_slmperf) == sorted(pytest_slmperf.__all__)


def test_star_import_gives_the_public_names():
    names: dict[str, object] = {}
    exec("from pytest_slmperf import *", names)
    assert set(names) >= set(pytest_slmperf.__all__)


def test_an_unknown_name_is_an_import_error():
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from pytest_slmperf import no_such_name")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, pytest_slmperf; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
