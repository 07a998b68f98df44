"""--slmperf-against: both sides measured in one session, interleaved, and judged against each other."""

from __future__ import annotations

import venv

import pytest

ONE = "def test_one(slmperf):\n    slmperf.offline(batch=4, input_len=16, output_len=16)\n"
START = "def test_start(slmperf):\n    slmperf.cold_start()\n"


def test_a_slower_candidate_regresses_against_the_other_configuration(perf, results):
    result = perf("--slmperf-set", "slowdown=0.3", "--slmperf-against", "engine.slowdown=0", suite=ONE)
    result.assert_outcomes(failed=1)
    found = results()
    assert found["session"]["mode"] == "duet"
    (entry,) = found["results"]
    (verdict,) = [one for one in entry["verdicts"] if one["metric"] == "output_throughput"]
    assert verdict["verdict"] == "regressed"
    assert verdict["change"] == pytest.approx(1 / 1.3 - 1, rel=0.01)
    sides = [launch["side"] for launch in entry["launches"]]
    assert sides.count("baseline") == sides.count("candidate") >= 2
    (named,) = [row for row in entry["differences"] if "slowdown" in row["what"]]
    assert named["candidate"] == 0.3


def test_equal_sides_are_the_same(perf, results):
    """Another seed of a noisy engine is another launch, not another engine."""
    noise = ["--slmperf-set", "noise_launch=0.003", "--slmperf-set", "noise_round=0.005"]
    result = perf(*noise, "--slmperf-against", "engine.seed=7", suite=ONE)
    assert result.ret == 0
    assert "failed" not in result.parseoutcomes()


def test_rounds_alternate_between_the_sides(perf, results):
    perf(
        "--slmperf-against",
        "engine.slowdown=0",
        "--slmperf-set",
        "clock=real",
        "--slmperf-set",
        "slowdown=0.001",
        suite=ONE,
    )
    (entry,) = results()["results"]
    pair = [launch for launch in entry["launches"] if launch["index"] == 0]
    order = sorted((round_["t_start"], launch["side"]) for launch in pair for round_ in launch["rounds"])
    assert [side for _, side in order[:8]] == ["baseline", "candidate", "candidate", "baseline"] * 2


def test_cold_starts_can_be_compared_too(perf):
    slow = ["--slmperf-set", "start_s=2.0", "--slmperf-against", "engine.start_s=1.0"]
    result = perf(*slow, suite=START)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*engine_start_time regressed: +9*"])


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("python=/nonexistent/python", "python=/nonexistent/python: there is no such executable file; give the path*"),
        ("python=.", "python=.: there is no such executable file*"),
        ("python=./words", "python=./words: the interpreter */words cannot be run (*"),
        ("python=/bin/ls", "python=/bin/ls: /bin/ls is not a Python interpreter that works (*"),
        ("python=./old", "python=./old: */old is Python 3.9.1; engines need 3.10"),
        ("engine.slowdwn=0.1", "engine.slowdwn=0.1: simulated engine has no setting 'slowdwn'; did you mean slowdown*"),
        ("engine.engine=vlm", "engine.engine=vlm: unknown engine 'vlm'; known here: *"),
        ("engine.model=opt-126m", "engine.model=opt-126m: unknown model 'opt-126m': did you mean opt-125m*"),
        ("enigne.slowdown=1", "unknown side 'enigne.slowdown'; use python=PATH*"),
        ("engine.max_model_len=abc", "engine max_model_len must be a positive whole number*"),
    ],
)
def test_the_other_side_is_checked_before_anything_is_measured(perf, pytester, against, message):
    (pytester.path / "words").write_text("no program")
    (pytester.path / "words").chmod(0o755)
    (pytester.path / "old").write_text("""#!/bin/sh\necho '{"modules": [], "versions": {}, "python": [3, 9, 1]}'\n""")
    (pytester.path / "old").chmod(0o755)
    result = perf("--slmperf-against", against, suite=ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])
    assert not (pytester.path / ".slmperf/results.json").exists()


def test_an_interpreter_without_the_engine_is_named_with_the_mend(perf, pytester):
    """An environment with nothing in it, given by a relative path."""
    venv.create(pytester.path / "bare", with_pip=False)
    result = perf("--slmperf-against", "python=bare/bin/python", suite=ONE, engine="vllm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*--slmperf-against python=bare/bin/python: vLLM is not installed in */bare/bin/python; run *pip install vllm*"
        ]
    )


def test_the_other_side_runs_in_its_own_interpreter(perf, pytester, results):
    """The simulated engine needs no package, so an empty environment can serve it."""
    venv.create(pytester.path / "bare", with_pip=False)
    result = perf("--slmperf-against", "python=bare/bin/python", suite=ONE)
    assert result.ret == 0
    (entry,) = results()["results"]
    assert entry["verdicts"][0]["verdict"] == "same"
    assert entry["baseline"]["engine"]["settings"]["python"].endswith("bare/bin/python")
