import subprocess
import sys

import pytest


def test_bash_completes_commands_and_options(command, tmp_path):
    pytest.importorskip("shtab", reason="shtab is not installed (extra 'completion')")
    script = tmp_path / "completion.bash"
    script.write_text(command("completion", "bash").out)

    def complete(*words: str) -> list[str]:
        line = f"COMP_WORDS=(slmperf {' '.join(words)}); COMP_CWORD={len(words)}"
        ask = f"source completion.bash; {line}; _shtab_slmperf; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path, check=True)
        return sorted(done.stdout.split())

    assert complete("comp") == ["compare", "completion"]
    assert complete("compare", "--tol") == ["--tolerance"]


def test_without_shtab_it_says_which_extra(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    run = command("completion", "bash")
    assert run.code == 4
    assert "pytest-slmperf[completion]" in run.err


def test_other_shells_are_refused(command):
    assert command("completion", "cobol").code == 4
