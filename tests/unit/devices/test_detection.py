"""Which GPUs a process would see, without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_slmperf.devices import gpus
from pytest_slmperf.devices import nvml as nvml_lib


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus.nvidia_devices.cache_clear()
    yield
    gpus.nvidia_devices.cache_clear()


def nvml(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    library = SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: count
    )
    monkeypatch.setattr(nvml_lib, "load", lambda: library)


def test_a_gpu_that_only_nvml_knows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under WSL2, where neither /dev/nvidia0 nor /proc/driver/nvidia exist."""
    monkeypatch.setattr(gpus, "device_files", lambda: 0)
    nvml(monkeypatch, 1)
    assert gpus.default_device() == "cuda:0"


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 4), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("3", 1), ("GPU-a,GPU-b", 2)]
)
def test_what_is_hidden_is_not_counted(monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int) -> None:
    nvml(monkeypatch, 4)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.cuda_device_count() == count


def test_device_files_are_counted_where_nvml_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()

    def absent() -> None:
        raise ImportError

    monkeypatch.setattr(nvml_lib, "load", absent)
    files = gpus.device_files(tmp_path)
    monkeypatch.setattr(gpus, "device_files", lambda: files)
    assert gpus.cuda_device_count() == 2
