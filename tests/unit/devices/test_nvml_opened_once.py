"""NVML has one door: a second place that initialises it would need its own words for every return code."""

from __future__ import annotations

from pathlib import Path

import pytest_slmperf

PACKAGE = Path(pytest_slmperf.__file__).parent
IN_AN_ENGINE = "engines/vllm/mig_slice.py"  # runs inside vLLM's process, with the NVML module that vLLM ships


def test_only_one_file_of_this_process_initialises_nvml() -> None:
    files = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "nvmlInit" in path.read_text(encoding="utf-8") or "import pynvml" in path.read_text(encoding="utf-8")
    }
    assert files - {IN_AN_ENGINE} == {"devices/nvml.py"}


def test_mig_slices_are_listed_in_one_file() -> None:
    files = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "nvmlDeviceGetMigDeviceHandleByIndex" in path.read_text(encoding="utf-8")
    }
    assert files == {"devices/gpus.py"}
