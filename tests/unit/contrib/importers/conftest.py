from __future__ import annotations

import json

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


@pytest.fixture
def judged(call, tmp_path):
    """``judged(old, new)``: (exit code, metric → (verdict, change, reason)) of files imported as one test each."""

    def compare(old, new):
        assert call("import", *old, "--as", "chat", "--save", "main")[0] == 0
        assert call("import", *new, "--as", "chat", "-o", "new.res")[0] == 0
        code, out, _ = call("compare", "baselines", "new.res", "--json")
        (row,) = json.loads(out)["results"]
        return code, {one["metric"]: one for one in row["verdicts"]}

    return compare


@pytest.fixture
def three(tmp_path):
    """``three(name, document)``: files of three runs of it, one after the other."""

    def lay(name, document):
        for run in range(3):
            (tmp_path / f"{name}{run}.json").write_text(json.dumps(document | {"note": f"run {run}"}), encoding="utf-8")
        return [f"{name}{run}.json" for run in range(3)]

    return lay
