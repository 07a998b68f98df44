"""Two processes never hold one device; one process may hold it twice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_slmperf.engines.device_lock import DeviceLock, physical
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import EngineError
from pytest_slmperf.model.engine_spec import EngineSpec


@contextmanager
def other_process(folder: Path, device: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input ends."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pytest_slmperf.engines.device_lock import DeviceLock
        with DeviceLock(sys.argv[2], Path(sys.argv[1])).hold(purpose="measures elsewhere"):
            print("held", flush=True)
            sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder), device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_another_process_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    lock = DeviceLock("cuda:0", tmp_path)
    said: list[str] = []
    with other_process(tmp_path, "cuda:0") as other:

        def progress(text: str) -> None:
            said.append(text)
            if other.stdin is not None and not other.stdin.closed:
                other.stdin.close()  # lets it go

        with lock.hold(progress, timeout_s=30):
            assert "process" in lock.holder()
    assert said
    assert f"waiting for device cuda:0: process {other.pid} measures elsewhere" in said[0]


def test_waiting_has_an_end_that_names_the_holder(tmp_path: Path) -> None:
    with (
        other_process(tmp_path, "cpu") as other,
        pytest.raises(EngineError, match=f"stayed taken for 0 s: process {other.pid} measures elsewhere"),
        DeviceLock("cpu", tmp_path).hold(timeout_s=0.1),
    ):
        pass


def test_another_device_is_free(tmp_path: Path) -> None:
    with other_process(tmp_path, "cuda:0"), DeviceLock("cuda:1", tmp_path).hold(timeout_s=0):
        pass


def test_a_killed_holder_gives_the_device_back(tmp_path: Path) -> None:
    with other_process(tmp_path, "cpu") as other:
        other.kill()
        other.wait()
        with DeviceLock("cpu", tmp_path).hold(timeout_s=5):
            pass


def test_re_entrant_in_one_process(tmp_path: Path) -> None:
    lock = DeviceLock("cpu", tmp_path)
    with lock.hold(), lock.hold():
        pass
    with other_process(tmp_path, "cpu"):
        pass  # it was given back


def test_not_through_a_link_that_somebody_laid(tmp_path: Path) -> None:
    lock = DeviceLock("cpu", tmp_path)
    target = tmp_path / "precious"
    target.write_text("kept")
    lock.path.symlink_to(target)
    with pytest.raises(EngineError, match="cannot open the lock of device cpu"), lock.hold():
        pass
    assert target.read_text() == "kept"


@pytest.mark.parametrize(
    ("device", "visible", "name"),
    [
        ("cpu", "", "cpu"),
        ("cuda:0", "", "cuda-0"),
        ("cuda:1", "", "cuda-1"),
        ("cuda:0", "3,5", "cuda-3"),
        ("cuda:1", "GPU-aa, GPU-bb", "cuda-GPU-bb"),
        ("cuda", "7", "cuda-7"),
    ],
)
def test_the_same_device_has_one_name(device: str, visible: str, name: str) -> None:
    assert physical(device, visible) == name


def test_simulated_engines_need_no_device(tmp_path: Path) -> None:
    pool = EnginePool(Registry(builtin_adapters()), tmp_path, lock_timeout_s=0)
    with pool, pool.measuring(EngineSpec("simulated", "opt-125m")):
        pass
