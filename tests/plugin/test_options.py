"""Options and marker: wrong input ends the session or the test with a sentence that names it and the mend."""

from __future__ import annotations

import json
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slmperf-alpha", "0.5"], "--slmperf-alpha: must lie between 0 and 0.5*"),
        (["--slmperf-alpha", "0"], "--slmperf-alpha: must lie between 0 and 0.5*"),
        (["--slmperf-alpha", "often"], "--slmperf-alpha: must be a share*"),
        (["--slmperf-tolerance", "1.5"], "--slmperf-tolerance: must be at least 0 and less than 1*"),
        (["--slmperf-tolerance", "6%"], "*--slmperf-tolerance 6 % must be below --slmperf-limit 5 %*"),
        (["--slmperf-tolerance", "ttft_p98=2%"], "*unknown metric 'ttft_p98'; did you mean*"),
        (["--slmperf-max-time", "soon"], "--slmperf-max-time: must be a time such as*"),
        (["--slmperf-fail-on", "improved"], "--slmperf-fail-on: must be one of regressed*"),
        (["--slmperf-profile", "fast"], "--slmperf-profile: must be one of quick, full*"),
        (["--slmperf-baselines="], "--slmperf-baselines is empty: give DIR|URL, or leave the option away*"),
        (["--slmperf-max-time", ""], "--slmperf-max-time is empty: give TIME*"),
        (["--slmperf-launches", "0"], "--slmperf-launches: must be at least 1*"),
        (["--slmperf-set", "slowdown"], "--slmperf-set: must be KEY=VALUE*"),
        (
            ["--slmperf-evidence-limit", "steal=1"],
            "--slmperf-evidence-limit: unknown limit 'steal'; known are cpu_wait*",
        ),
        (["--slmperf-evidence-limit", "steal_share=x"], "--slmperf-evidence-limit: steal_share must be a number*"),
        (["--slmperf-against", "faster"], "*--slmperf-against: 'faster' must be python=PATH*"),
        (["--slmperf-against", "engine.model=opt-125m"], "*--slmperf-against*both sides are the same engine*"),
    ],
)
def test_wrong_option_is_a_usage_error(perf, arguments, message):
    result = perf(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_wrong_ini_value_names_key_and_file(perf, pytester):
    pytester.makeini("[pytest]\nslmperf_alpha = 2\n")
    result = perf()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*slmperf_alpha in tox.ini: must be at least 0 and less than 1*"])


def test_ini_then_command_line_then_marker(perf, pytester, results):
    pytester.makeini("[pytest]\nslmperf_launches = 3\nslmperf_rounds = 2\n")
    suite = """
import pytest

def test_plain(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)

@pytest.mark.slmperf(rounds=4)
def test_marked(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
    perf("--slmperf-launches", "2", suite=suite)
    plain, marked = results()["results"]
    assert [len(rounds) for rounds in plain["metrics"]["output_throughput"]["launches"]] == [2, 2]
    assert [len(rounds) for rounds in marked["metrics"]["output_throughput"]["launches"]] == [4, 4]


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("round=3", "*has no key 'round'; did you mean 'rounds'*"),
        ("rounds=0", "*slmperf(rounds=…) must be a whole number of at least 1, not 0*"),
        ("tolerance=2", "*slmperf(tolerance=…) must be a share*"),
        ("settings={'a': []}", "*slmperf(settings=…) must be a mapping*"),
        ("'fast'", "*takes keywords only*"),
    ],
)
def test_wrong_marker_names_test_and_key(perf, mark, message):
    suite = f"""
import pytest

@pytest.mark.slmperf({mark})
def test_it(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
    result = perf(suite=suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slmperf-engine", "vlm"], "*unknown engine 'vlm'; known here: openai, simulated*"),
        (["--slmperf-model", "opt-126m"], "*unknown model 'opt-126m': did you mean opt-125m*"),
        (["--slmperf-model", "./empty"], "*model folder './empty' has no config.json*"),
        (["--slmperf-meter", "watts"], "*--slmperf-meter watts: no such meter*"),
        (["--slmperf-set", "slowdon=1"], "*simulated engine has no setting 'slowdon'; did you mean slowdown*"),
        (["--slmperf-export", "xml=out.xml"], "*--slmperf-export: unknown format 'xml'; known are bencher*"),
    ],
)
def test_unknown_names_end_the_session_with_the_known_ones(perf, pytester, arguments, message):
    (pytester.path / "empty").mkdir()
    result = perf(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not (pytester.path / ".slmperf/results.json").exists()


def test_an_unknown_name_of_one_test_names_the_test(perf):
    suite = """
import pytest

@pytest.mark.slmperf(gate=["ttft_p98"])
def test_it(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
    result = perf(suite=suite)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_perf.py::test_it: unknown metric 'ttft_p98'*"])


@pytest.mark.parametrize(
    ("mark", "arguments", "message"),
    [("round=3", [], "*no key 'round'; did you mean*"), ("", ["--slmperf-model", "opt-126m"], "*unknown model*")],
)
def test_under_xdist_wrong_input_fails_the_test_loudly(perf, mark, arguments, message):
    """A worker that ended its session would be taken for a crash, and the message lost."""
    suite = f"""
import pytest

@pytest.mark.slmperf({mark})
def test_it(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
    result = perf("-n", "1", *arguments, suite=suite)
    assert result.ret == 1
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_relative_paths_begin_where_pytest_does(perf, pytester, monkeypatch):
    """On the command line from the folder where pytest was started, in the ini from the ini file's."""
    pytester.makeini("[pytest]\nslmperf_html = out/report.html\n")
    (pytester.path / "below").mkdir()
    (pytester.path / "test_perf.py").write_text(
        "def test_it(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n"
    )
    monkeypatch.chdir(pytester.path / "below")
    pytester.run(
        *(sys.executable, "-m", "pytest", "..", "--slmperf", "--slmperf-engine", "simulated"),
        *("--slmperf-json", "mine.json", "--slmperf-export", "csv=mine.csv"),
    )
    assert (pytester.path / "below/mine.json").is_file()
    assert (pytester.path / "below/mine.csv").is_file()
    assert (pytester.path / "out/report.html").is_file()


def test_scenario_arguments_are_checked(perf):
    result = perf(suite="def test_it(slmperf):\n    slmperf.offline(batch=0, input_len=16, output_len=16)\n")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*slmperf.offline: batch must be a whole number of at least 1, not 0*"])


def test_tolerance_of_one_metric(perf, results):
    perf("--slmperf-tolerance", "output_throughput=2%", "--slmperf-limit", "10%")
    verdict = next(v for v in results()["results"][0]["verdicts"] if v["metric"] == "output_throughput")
    assert (verdict["tolerance"], verdict["limit"]) == (0.02, 0.1)


def test_gate_false_never_fails(perf):
    suite = """
import pytest

@pytest.mark.slmperf(gate=False)
def test_it(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)
"""
    perf("--slmperf-approve", suite=suite)
    result = perf("--slmperf-set", "slowdown=0.3", suite=suite)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*regressed*"])


def test_quarantine_in_the_ini_never_fails(perf, pytester):
    pytester.makeini("[pytest]\nslmperf_quarantine =\n    *test_batch*\n")
    perf("--slmperf-approve")
    result = perf("--slmperf-set", "slowdown=0.3")
    result.assert_outcomes(passed=2)


def test_quarantine_names_a_parametrized_test_by_its_id(perf):
    perf("--slmperf-approve")
    result = perf("--slmperf-set", "slowdown=0.3", "--slmperf-quarantine", "test_perf.py::test_batch[8]")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_perf.py::test_batch?1]*"])


def test_a_quarantined_test_that_does_not_exist_is_told(perf):
    known = [
        "--slmperf-quarantine",
        "test_perf.py::test_batch[[]8]",
        "--slmperf-quarantine",
        "test_perf.py::test_bach*",
    ]
    result = perf(*known, "--slmperf-quarantine", "other/test_x.py::test_it", "--slmperf-quarantine", "*test_batch*")
    assert result.ret == 0
    told = result.stdout.str()
    assert "slmperf_quarantine: 'test_perf.py::test_bach*' names no test" in " ".join(told.split())
    assert "'other/test_x.py::test_it' names no test" in " ".join(told.split())
    assert "'*test_batch*'" not in told


def test_fail_on_inconclusive_fails_what_has_no_baseline(perf):
    perf("--slmperf-fail-on", "inconclusive").assert_outcomes(failed=2)


def test_fail_on_never(perf):
    perf("--slmperf-approve")
    perf("--slmperf-set", "slowdown=0.3", "--slmperf-fail-on", "never").assert_outcomes(passed=2)


def test_a_path_given_to_an_option_does_not_move_the_rootdir(pytester, monkeypatch):
    """Without an ini file pytest takes the option's value for a test path once it exists: the ids would change."""
    project, store = pytester.path / "project", pytester.path / "store"
    (project / "perf").mkdir(parents=True)
    store.mkdir()
    (project / "perf/test_it.py").write_text(
        "def test_it(slmperf):\n    slmperf.offline(batch=1, input_len=8, output_len=8)\n"
    )
    monkeypatch.chdir(project)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--slmperf", "--slmperf-engine", "simulated"]
    result = pytester.run(*command, "--slmperf-baselines", str(store), "perf")
    result.stdout.fnmatch_lines([f"rootdir: {project}"])
    assert json.loads((project / ".slmperf/results.json").read_text())["results"][0]["id"] == "perf/test_it.py::test_it"
