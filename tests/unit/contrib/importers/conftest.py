from __future__ import annotations

import pytest

from pytest_slmperf.cli import main as cli


@pytest.fixture(scope="session")
def parser():
    """The command line's parser; making it takes longer than reading a small file."""
    return cli.build_parser()


@pytest.fixture
def call(capsys, tmp_path, monkeypatch, parser):
    """Runs ``slmperf ARGUMENTS`` in a folder of its own: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
