"""Rows: pytest itself and its neighbours, and the surroundings that a session is started in."""

from __future__ import annotations

from collections.abc import Callable

from faults.table import Bench, Ended, Fault, only

ONE = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"
OPTIONS = ("--slmperf", "--slmperf-engine", "simulated", "-p", "no:hypothesispytest")


def environment(suite: str = ONE, *arguments: str, **variables: str | None) -> Callable[[Bench], Ended]:
    """A session in a process of its own with these variables; None takes one away."""

    def act(bench: Bench) -> Ended:
        bench.write("test_perf.py", suite)
        bench.environment |= {name: value for name, value in variables.items() if value is not None}
        bench.without |= {name for name, value in variables.items() if value is None}
        return bench.ended(bench.start(*OPTIONS, *arguments))

    return act


def other_project(ini: str, *, own: str = "") -> Callable[[Bench], Ended]:
    """Project ``a`` names an interpreter that lies in project ``b``, which has an ini file."""

    def act(bench: Bench) -> Ended:
        bench.write("b/pytest.ini", ini)
        bench.write("b/venv/bin/python", "").chmod(0o755)
        if own:
            bench.write("a/pytest.ini", own)
        bench.write("a/test_perf.py", ONE)
        bench.work = bench.folder / "a"
        return bench.ended(bench.start(*OPTIONS, "--slmperf-python", str(bench.folder / "b/venv/bin/python"), "-rN"))

    return act


def nothing_in_b(bench: Bench) -> str | None:
    written = [path.name for path in (bench.folder / "b").iterdir() if path.name not in ("pytest.ini", "venv")]
    return f"the other project has {written}" if written else None


INI = "[pytest]\n"
ROWS = [
    Fault("xdist-worker-killed", "pytest-xdist's worker dies (`os._exit`) in a test",
          environment(ONE + "import os\ndef test_second(slmperf):\n    os._exit(7)\n", "-n", "1", "-p", "xdist"), 1,
          "crashed", "the other test's result", only("test_first")),
    Fault("timeout", "pytest-timeout ends a test whose engine hangs",
          lambda bench: bench.pytest("--slmperf-set", "fail=round-hang", "--timeout", "3", suite=ONE), 1, "Timeout"),
    Fault("optimised", "`PYTHONOPTIMIZE=2`, which takes assertions away", environment(PYTHONOPTIMIZE="2"), 0, "1 new", "",
          only("test_first")),
    Fault("c-locale", "the locale `C` with ASCII output", environment(LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"),
          0, "1 new", "", only("test_first")),
    Fault("forty-columns", "a terminal of 40 columns", environment(COLUMNS="40"), 0, "1 new", "", only("test_first")),
    Fault("no-home", "no HOME", environment(HOME=None), 0, "1 new", "", only("test_first")),
    Fault("no-tmpdir", "a TMPDIR that does not exist", environment(TMPDIR="/nonexistent"), 0, "1 new", "",
          only("test_first")),
    Fault("collect-only", "`--collect-only`: results of an earlier session stay",
          lambda bench: (bench.pytest(suite=ONE), bench.pytest("--collect-only", suite=ONE))[1], 0, "1 test collected",
          "the earlier results", only("test_first")),
    Fault("other-project", "an option names a path in another project, whose ini file pytest takes",
          other_project(INI), 1, "cannot run", "the other project: nothing is written there", nothing_in_b),
    Fault("other-project-addopts", "the same, and that ini file has `addopts`", other_project(INI + "addopts = -v\n"), 4,
          "Write --slmperf-python=", "the other project", nothing_in_b),
    Fault("other-project-own", "the same, and this project has an ini file of its own", other_project(INI, own=INI), 1,
          "cannot run", "the other project", nothing_in_b),
]  # fmt: skip
