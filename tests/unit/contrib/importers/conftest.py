from __future__ import annotations

import pytest

from pytest_slmperf.cli.main import main


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Runs ``slmperf ARGUMENTS`` in a folder of its own: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
