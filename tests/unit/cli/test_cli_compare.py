import json
import random
from pathlib import Path

import pytest

from pytest_slmperf.baselines.journal import Journal
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.model.result import MetricValue
from pytest_slmperf.model.verdict import Verdict, VerdictRecord

# Six launches of five rounds with 0.2 % noise around a level: enough for a clear answer.
NOISE = (0.998, 1.001, 1.0, 1.002, 0.999)


def launches(level: float, count: int = 6) -> list[list[float]]:
    return [[level * noise * (1 + 0.001 * (-1) ** number) for noise in NOISE] for number in range(count)]


@pytest.fixture
def sides(make_result, make_results, write):
    """Writes base.json (throughput 100) and cand.json (throughput times a factor, with changes)."""

    def make(factor=1.0, base=None, candidate=None, count=6, machine=None):
        old = make_result(output_throughput=launches(100.0, count), **base or {})
        new = make_result(output_throughput=launches(100.0 * factor, count), **candidate or {})
        return write("base.json", make_results(old)), write("cand.json", make_results(new, number=2, machine=machine))

    return make


@pytest.mark.parametrize(("factor", "code", "verdict"), [(1.0, 0, "same"), (0.7, 1, "regressed"), (1.4, 0, "improved")])
def test_exit_code_and_verdict(command, sides, factor, code, verdict):
    run = command("compare", *sides(factor))
    assert run.code == code
    assert f"1 {verdict} against" in run.out
    assert run.err == ""


def test_too_few_launches_are_inconclusive(command, sides):
    run = command("compare", *sides(0.97, count=1))
    assert run.code == 2
    assert "1 inconclusive" in run.out


def test_a_change_that_all_tests_share_is_said_to_be_one(command, make_result, make_results, write):
    names = [f"t.py::test_{number}" for number in range(7)]

    def side(level):
        return [make_result(name, output_throughput=launches(level)) for name in names]

    run = command(
        "compare", write("a.json", make_results(*side(100.0))), write("b.json", make_results(*side(95.0), number=2))
    )
    assert "7 of 7 tests came out worse than their baselines, by 5.0 % in the median" in " ".join(run.out.split())


def test_json_form(command, sides):
    run = command("compare", *sides(0.7), "--json")
    document = json.loads(run.out)
    assert run.code == document["exit_code"] == 1
    (entry,) = document["results"]
    assert entry["id"] == "perf_tests/test_offline.py::test_batch[16]"
    assert entry["verdict"] == "regressed"
    (verdict,) = entry["verdicts"]
    assert verdict["change"] == pytest.approx(-0.3, abs=0.01)
    assert verdict["ci"][0] < verdict["change"] < verdict["ci"][1] < -0.1
    assert document["counts"] == {"regressed": 1}


def test_lower_is_better_is_judged_the_other_way(command, make_result, make_results, write):
    base = write("a.json", make_results(make_result(ttft_p99=launches(10.0))))
    cand = write("b.json", make_results(make_result(ttft_p99=launches(14.0)), number=2))
    run = command("compare", base, cand, "--metric", "ttft_p99")
    assert run.code == 1
    assert command("compare", cand, base, "--metric", "ttft_p99").code == 0


def test_engine_version_is_compared_and_named(command, sides):
    run = command("compare", *sides(1.0, candidate={"engine": {"version": "0.33.0", "settings": {"x": 1}}}))
    assert run.code == 0
    assert "engine version 0.32.0 → 0.33.0" in run.out
    assert "engine setting x none → 1" in run.out
    assert "commit 1111111111 → 2222222222" in run.out


def test_other_hardware_is_incomparable_and_named(command, sides, make_machine):
    other = make_machine(cpu={"model": "Intel Xeon", "family": "6/1", "cores": 8})
    run = command("compare", *sides(1.0, machine=other))
    assert run.code == 2
    assert "1 incomparable" in run.out
    assert "AMD EPYC (26/2) → Intel Xeon (6/1)" in " ".join(run.out.split())
    crossed = command("compare", *sides(1.0, machine=other), "--across", "cpu,cores")
    assert crossed.code == 0


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        ({"engine": {"weights": "real"}}, "weights dummy → real"),
        ({"engine": {"name": "simulated", "weights": "simulated"}}, "weights dummy → simulated"),
        ({"scenario": {"kind": "offline", "batch": 32, "input_len": 32, "output_len": 32}}, "batch 16 → 32"),
        ({"engine": {"model": "opt-350m"}}, "model opt-125m → opt-350m"),
    ],
)
def test_what_is_not_the_same_is_never_compared(command, sides, candidate, why):
    run = command("compare", *sides(1.0, candidate=candidate))
    assert run.code == 2
    assert why in " ".join(run.out.split())


def test_a_test_without_baseline_is_not_green(command, make_result, make_results, write):
    base = write("a.json", make_results(make_result("t.py::old", output_throughput=launches(1.0))))
    cand = write("b.json", make_results(make_result("t.py::new", output_throughput=launches(1.0)), number=2))
    run = command("compare", base, cand)
    assert run.code == 2
    assert "1 new" in run.out
    (verdict,) = json.loads(command("compare", base, cand, "--json").out)["results"][0]["verdicts"]
    assert verdict["reason"] == f"{base} holds nothing of this test"
    assert "not in the candidate: t.py::old" in run.out


def test_a_reading_that_went_missing_is_not_green(command, make_result, make_results, write):
    base = make_result(output_throughput=launches(100.0), energy_per_output_token=launches(0.1))
    cand = make_result(output_throughput=launches(100.0))
    cand.metrics["energy_per_output_token"] = MetricValue(unit="J/tok", better="lower", value=None, reason="NVML lost")
    run = command("compare", write("a.json", make_results(base)), write("b.json", make_results(cand, number=2)))
    assert run.code == 2
    assert "not measured: NVML lost" in run.out


def test_a_test_that_failed_is_not_green(command, sides, make_result, make_results, write):
    base, _ = sides()
    failed = make_result(output_throughput=[], fields={"failure": "engine was killed (SIGKILL)"})
    run = command("compare", base, write("b.json", make_results(failed, number=2)))
    assert run.code == 2
    assert "engine was killed (SIGKILL)" in run.out


def test_quarantine_and_margins_of_the_session_hold(command, sides):
    verdict = VerdictRecord(metric="output_throughput", verdict=Verdict.NEW, gate=False, tolerance=0.01, limit=0.05)
    pair = sides(0.7, candidate={"fields": {"verdicts": [verdict]}})
    run = command("compare", *pair, "--json")
    (shown,) = json.loads(run.out)["results"][0]["verdicts"]
    assert (shown["verdict"], shown["gate"], run.code) == ("regressed", False, 0)
    wide = VerdictRecord(metric="output_throughput", verdict=Verdict.NEW, tolerance=0.6, limit=0.9)
    assert command("compare", *sides(0.7, candidate={"fields": {"verdicts": [wide]}})).code == 0
    assert command("compare", *sides(0.7)).code == 1
    assert command("compare", *sides(0.7), "--tolerance", "0.6", "--limit", "0.9").code == 0


def test_against_stored_baselines_of_several_sessions(
    command, tmp_path, make_result, make_session, make_machine, sides
):
    store = FileStore(tmp_path / "kept")
    for number in (1, 2, 3):
        store.save("main", make_result(output_throughput=launches(100.0)), make_session(number), make_machine())
    _, slow = sides(0.7)
    run = command("compare", tmp_path / "kept", slow)
    assert run.code == 1
    assert "(3 sessions)" in command("compare", tmp_path / "kept", slow, "--json").out
    assert command("compare", tmp_path / "kept", tmp_path / "kept").code == 0
    assert command("compare", tmp_path / "kept", slow, "--baseline", "other").code == 4
    assert command("compare", f"sqlite:///{tmp_path}/none.db", slow).code == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "absent.json", "absent.json"], "absent.json: cannot be read (No such file"),
        (["compare", "empty.json", "base.json"], "empty.json: the file is empty"),
        (["compare", "broken.json", "base.json"], "broken.json: not valid JSON"),
        (["compare", "newer.json", "base.json"], "newer.json: has schema version 2"),
        (["compare", "nothing.json", "base.json"], "nothing.json: holds no results"),
        (["compare", "base.json", "negative.json"], "output_throughput"),
        (["compare", "base.json", "base.json", "--metric", "througput"], "did you mean"),
        (["compare", "base.json", "base.json", "--metric", "kv_cache_peak"], "no direction"),
        (["compare", "base.json", "base.json", "--alpha", "0.7"], "alpha must lie between"),
        (["compare", "base.json", "base.json", "--limit", "0.001"], "limit"),
        (["compare", "base.json", "base.json", "--across", "weights"], "must be one of driver"),
        (["compare", "base.json"], "the following arguments are required: CANDIDATE"),
        (["compare", "base.json", "base.json", "--alpha", "x"], "invalid float value"),
        (["compare", "mysql://x", "base.json"], "is not known"),
    ],
)
def test_wrong_usage_is_4_with_one_clear_line(command, sides, tmp_path, words, said):
    base, _ = sides()
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "broken.json").write_text(base.read_text()[:500])
    (tmp_path / "newer.json").write_text(base.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    document = json.loads(base.read_text())
    document["results"][0]["metrics"]["output_throughput"]["launches"][0][0] = -1
    (tmp_path / "negative.json").write_text(json.dumps(document))
    document["results"] = []
    (tmp_path / "nothing.json").write_text(json.dumps(document))
    run = command(*words)
    assert run.code == 4
    assert said in run.err
    assert run.out == ""
    assert "Traceback" not in run.err


def test_the_comparison_as_a_report(command, sides, tmp_path):
    run = command("compare", *sides(0.7), "-o", "r.html")
    assert run.code == 1
    page = (tmp_path / "r.html").read_text()
    assert "regressed" in page
    assert "test_batch[16]" in page


def test_a_journal_is_a_side_too(command, sides, tmp_path, make_result, make_session, make_machine):
    base, _ = sides()
    journal = Journal(tmp_path, make_session(2), make_machine())
    journal.append(make_result(output_throughput=launches(70.0)))
    assert command("compare", base, journal.path).code == 1


def test_names_from_outside_cannot_steer_the_terminal(command, make_result, make_results, write):
    wild = "t.py::test[\x1b[31mred\x07\x1b]0;title\x07<script>]"
    base = write("a.json", make_results(make_result(wild, output_throughput=launches(1.0))))
    run = command("compare", base, base)
    assert "\x1b" not in run.out
    assert "\x07" not in run.out


def test_each_metric_is_judged_by_its_own_noise(command, make_result, make_results, write):
    """A start-up time that scatters by 20 % says nothing of how much a throughput scatters."""
    rng = random.Random(1)

    def side(number):
        return make_results(
            *(
                make_result(
                    f"t.py::test_{test}",
                    output_throughput=[[100 * rng.gauss(1, 0.002)] * 3 for _ in range(4)],
                    engine_start_time=[[9 * rng.gauss(1, 0.2)] for _ in range(4)],
                )
                for test in range(8)
            ),
            number=number,
        )

    pair = write("a.json", side(1)), write("b.json", side(2))
    words = ["--json", "--metric", "output_throughput", "--metric", "engine_start_time"]
    verdicts = json.loads(command("compare", *pair, *words).out)["results"][0]["verdicts"]
    sds = {one["metric"]: one["detail"]["prior"]["launch_sd_percent"] for one in verdicts}
    assert sds["output_throughput"] < 1 < 10 < sds["engine_start_time"]


def test_one_launch_on_either_side_decides_nothing_about_a_large_drop(command, sides):
    run = command("compare", *sides(0.7, count=1))
    assert run.code == 2
    assert "a verdict needs at least two launches" in " ".join(run.out.split())


def test_a_baseline_of_one_session_says_what_it_takes_for_granted(command, sides):
    run = command("compare", *sides(0.7))
    assert "if sessions here differ by about 1 % (the baseline is of one session)" in " ".join(run.out.split())


def test_a_test_that_is_gone_is_named(command, make_result, make_results, write):
    base = write(
        "a.json",
        make_results(
            make_result("t.py::kept", output_throughput=launches(1.0)),
            make_result("t.py::gone", output_throughput=launches(1.0)),
        ),
    )
    cand = write("b.json", make_results(make_result("t.py::kept", output_throughput=launches(1.0)), number=2))
    run = command("compare", base, cand)
    assert run.code == 0
    assert "not in the candidate: t.py::gone" in run.out
    assert json.loads(command("compare", base, cand, "--json").out)["absent"] == ["t.py::gone"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("launches", [[0.0, 1.0]], "'output_throughput' has the value 0.0 in launch 1, round 1"),
        ("unit", "tok/min", "'output_throughput' has the field 'unit' 'tok/min', which must be 'tok/s'"),
    ],
)
def test_a_reading_that_is_none_is_refused_with_its_file(command, sides, key, value, said):
    base, candidate = sides()
    document = json.loads(Path(candidate).read_text())
    document["results"][0]["metrics"]["output_throughput"][key] = value
    Path(candidate).write_text(json.dumps(document))
    run = command("compare", base, candidate)
    assert run.code == 4
    assert str(candidate) in run.err
    assert said in run.err


def test_two_results_of_one_test_are_refused(command, sides):
    base, candidate = sides()
    document = json.loads(Path(candidate).read_text())
    document["results"] *= 2
    Path(candidate).write_text(json.dumps(document))
    run = command("compare", base, candidate)
    assert run.code == 4
    assert "cand.json: holds two results of the test 'perf_tests/test_offline.py::test_batch[16]'" in run.err
