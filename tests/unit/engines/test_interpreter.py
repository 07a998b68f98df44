"""What is learnt of an interpreter without importing an engine into it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from pytest_slmperf.engines.interpreter import interpreter


@pytest.mark.parametrize(
    ("version_file", "hip"),
    [
        ("__version__ = '2.9.0+rocm6.4'\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4.43482'\n", "6.4.43482"),
        ("__version__ = '2.9.0a0+git1'\nhip = \"7.0\"\n", "7.0"),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", None),
        (None, None),
    ],
)
def test_a_torch_for_rocm_is_known_by_its_version_file(tmp_path: Path, version_file: str | None, hip: str | None):
    """Its own folder stands in for the installed torch, and fails where it is imported."""
    package = tmp_path / "lib" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    if version_file is not None:
        (package / "version.py").write_text(version_file)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(package.parent))} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    found = interpreter(str(python), ("torch",), ())
    assert (found.error, found.hip) == (None, hip)
    assert "torch" in found.modules
