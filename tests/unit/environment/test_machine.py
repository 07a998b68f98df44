import builtins
import os
import subprocess
import sys

import pytest

from pytest_slmperf.environment import fingerprint

EPYC = """\
processor\t: 0
model name\t: AMD EPYC   9654
cpu family\t: 25
model\t\t: 17
flags\t\t: fpu avx2 avx512f

processor\t: 1
"""


def test_describes_this_machine():
    found = fingerprint.describe_machine()
    assert found.cpu["model"]
    assert found.cpu["cores"] >= 1
    assert found.memory_bytes > 2**28
    assert found.python.startswith("CPython")
    assert found.fingerprint == fingerprint.of_machine(found)


def test_reads_model_family_and_telling_flags(tmp_path):
    (tmp_path / "cpuinfo").write_text(EPYC)
    facts = fingerprint.cpu(tmp_path)
    assert facts["model"] == "AMD EPYC 9654"
    assert facts["family"] == "25/17"
    assert facts["flags"] == ["avx2", "avx512f"]


def test_without_proc_there_is_still_a_model(tmp_path):
    assert fingerprint.cpu(tmp_path / "absent")["model"]


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", os.cpu_count()), ("50000 100000", 1), ("nonsense", os.cpu_count()), ("", os.cpu_count())],
)
def test_a_container_quota_limits_the_cores(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert fingerprint.available_cores(tmp_path) == cores


def test_the_fingerprint_is_the_same_without_pytest_benchmark(monkeypatch):
    with_it = fingerprint.describe_machine()
    assert "l2_cache_size" in with_it.cpu or "vendor_id" in with_it.cpu  # pytest-benchmark's part is really there
    real_import = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("pytest_benchmark"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    without = fingerprint.describe_machine()
    assert without.fingerprint == with_it.fingerprint
    assert "vendor_id" not in without.cpu


def test_importing_the_module_imports_nothing_heavy():
    code = (
        "import sys, pytest_slmperf.environment.fingerprint, pytest_slmperf.environment.commit\n"
        "print([m for m in ('pytest_benchmark', 'pynvml', 'cpuinfo', 'numpy', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
