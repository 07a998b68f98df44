"""Folders of vllm bench sweep that are a sweep with something particular, or none."""

import json

import pytest
from support.result_files import LATENCY, SERVE, at_rate
from test_vllm_bench import sweep_folder, write

from pytest_slmperf.model.results_file import load_results

FAST = {"mean_tpot_ms": None, "mean_e2el_ms": None}


def point(folder, name, **fields):
    """One setting as vLLM lays it out: its runs with what was varied, and their summary."""
    rows = [SERVE | {"date": f"20261123-15000{number}"} | fields | {"run_number": number} for number in range(2)]
    for number, row in enumerate(rows):
        write(folder / name / f"run={number}.json", row)
    write(folder / name / "summary.json", rows)


def workload(folder, rates=(8, 15), ends=((1, 1), (100, 100))):
    """What serve_workload writes by default: end points with caps of 1 and of all requests, the others without."""
    for rate, cap in ends:
        name = f"BENCH--max_concurrency={cap}-WL--request_rate={rate}"
        point(folder, name, request_rate=rate, max_concurrency=cap, mean_itl_ms=5.0 + rate, **at_rate(10.0 * rate))
    for rate in rates:
        fields = {"request_rate": rate, "max_concurrency": None, **at_rate(10.0 * rate)}
        point(folder, f"WL--request_rate={rate}", mean_itl_ms=5.0 + rate, **fields)
    return folder


def the_sweep(tmp_path):
    (found,) = [one for one in load_results(tmp_path / "results.json").results if one.scenario["kind"] == "sweep"]
    return found


def test_a_workload_explored_by_its_rate_is_a_sweep(call, tmp_path):
    workload(tmp_path / "exp")
    code, out, _ = call("import", "exp", "--csv", "points.csv")
    assert (code, "4 sweep points" in out) == (0, True)
    assert "note: exp: a sweep over request_rate whose end points are capped" in out
    assert "request_rate 1 has max_concurrency 1 and request_rate 100 has max_concurrency 100" in out
    sweep = the_sweep(tmp_path)
    assert (sweep.scenario["key"], sweep.scenario["keys"]) == ("request_rate", [1, 8, 15, 100])
    assert "max_concurrency" not in sweep.scenario
    assert sweep.metrics["hypervolume"].value > 0
    header, first, second, *_ = (tmp_path / "points.csv").read_text().splitlines()
    assert header.startswith("request_rate,max_concurrency,output_throughput")
    assert first.startswith("1,1,10.0")
    assert second.startswith("8,,80.0")
    asked = ("--key", "request_rate", "--max", "output_throughput", "--min", "itl_mean", "--json")
    assert json.loads(call("frontier", "points.csv", *asked)[1])["frontier"] == [1, 8, 15, 100]
    assert "end points are capped" in json.loads(call("import", "exp", "--json")[1])["notes"][0]


def test_an_end_point_that_was_measured_without_its_cap_too_is_left_out(call, tmp_path):
    workload(tmp_path / "exp", rates=(1, 2))  # as vLLM does on a machine that serves a request or two a second
    _, out, _ = call("import", "exp")
    assert "request_rate 1 with max_concurrency 1 is left out" in out
    assert the_sweep(tmp_path).scenario["keys"] == [1, 2, 100]


def test_a_rate_without_limit_is_the_last_point(call, tmp_path):
    for rate in ("inf", 4, 16):
        point(tmp_path / "exp", f"BENCH--request_rate={rate}", request_rate=rate)
    assert call("import", "exp", "--save", "main")[0] == 0
    sweep = the_sweep(tmp_path)
    assert sweep.scenario["keys"] == [4, 16, "inf"]
    assert sweep.metrics["knee_key"].reason == "request_rate inf is no number"
    assert sweep.metrics["hypervolume"].value > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}], "a and b differ, and a sweep has one setting"),
        ([{"dtype": "half"}, {"dtype": "float"}], "dtype differs, and is no number ('half')"),
        ([{"a": 1}, {}], "a differs, and 1 has none"),
        ([{"a": 1}, {"a": 1}, {"a": 2}], "a 1 stands in 2 of its settings"),
        ([{}, {}], "its 2 files differ in no setting; give them with --as"),
        ([{"request_rate": 1, "max_concurrency": 1}, {"request_rate": 2, "max_concurrency": 1}, {"request_rate": 1,
          "max_concurrency": 4}], "max_concurrency and request_rate differ"),
    ],
)  # fmt: skip
def test_what_is_no_sweep_says_why_and_keeps_its_settings(call, tmp_path, settings, words):
    for number, fields in enumerate(settings):
        point(tmp_path / "exp", f"{number}", **fields, label=str(number))
    code, out, _ = call("import", "exp", "--csv", "points.csv")
    assert code == 0
    assert f"note: exp: no sweep: {words}" in out
    varied = sorted(name for name in settings[0] if len({one.get(name) for one in settings}) > 1)
    header = (tmp_path / "points.csv").read_text().split(",")
    assert sorted(header[1 : 1 + len(varied)]) == varied
    (note,) = json.loads(call("import", "exp", "--json")[1])["notes"]
    assert words in note


def test_a_workload_over_several_caps_is_no_sweep(call, tmp_path):
    workload(tmp_path / "exp")
    point(tmp_path / "exp", "BENCH--max_concurrency=32-WL--request_rate=20", request_rate=20, max_concurrency=32)
    assert "no sweep: max_concurrency and request_rate differ" in call("import", "exp")[1]


def test_a_failed_point_is_named_and_the_others_are_kept(call, tmp_path):
    sweep_folder(tmp_path / "exp")
    summary = tmp_path / "exp/SERVE--max_num_seqs=8/summary.json"
    write(summary, [row | {"failed": 1} for row in json.loads(summary.read_text())])
    code, out, _ = call("import", "exp", "--save", "main", "--as", "sweep")
    assert code == 0
    assert "note: sweep: max_num_seqs 8 is left out of the frontier: 3 requests failed, and vllm bench leaves" in out
    assert "sweep: added" in out
    sweep = the_sweep(tmp_path)
    assert sweep.scenario["keys"] == [1, 64]
    assert [(row["key"], row["standing"]) for row in sweep.points] == [(1, "frontier"), (8, None), (64, "frontier")]
    assert sweep.points[1]["failure"].startswith("3 requests failed")
    assert sweep.points[1]["output_throughput"] > 0
    assert {name for name in sweep.metrics if "@8" in name} == set()


def test_a_sweep_without_a_usable_point_is_refused_with_the_reason(call, tmp_path):
    for batch in (1, 2):
        point(tmp_path / "exp", f"SERVE--max_num_seqs={batch}", max_num_seqs=batch, failed=1)
        write(tmp_path / f"lat/{batch}.json", LATENCY | {"max_num_seqs": batch})
    out = call("import", "exp", "--save", "main", "--as", "sweep")[1]
    assert "sweep: refused (nothing was measured, so there is nothing to save (point 1: 2 requests failed" in out
    assert "no point has both output_throughput and one of itl_mean" in call("import", "lat", "--save", "main")[1]


def test_points_that_lack_the_latency_of_most_are_named(call, tmp_path):
    for batch in (1, 2, 4):
        lacking = {"mean_itl_ms": None} if batch == 2 else {}
        point(tmp_path / "exp", f"SERVE--max_num_seqs={batch}", **FAST | {"max_num_seqs": batch} | lacking)
    assert "max_num_seqs 2 is left out of the frontier: no reading of itl_mean" in call("import", "exp")[1]
    assert the_sweep(tmp_path).scenario["keys"] == [1, 4]


def test_findings_know_how_imported_points_stand(call, tmp_path):
    for batch, speed in ((1, 100.0), (8, 400.0), (64, 390.0)):
        fields = {"output_throughput": speed, "mean_itl_ms": 5.0 + batch, "max_num_seqs": batch}
        point(tmp_path / "exp", f"SERVE--max_num_seqs={batch}", **fields)
    call("import", "exp")
    (row,) = [line for line in call("findings", "results.json")[1].splitlines() if line.startswith("| S4")]
    assert "dominated | holds | peak at 8; 64 dominated; frontier of output_throughput and itl_mean: 1, 8" in row


def test_the_knee_of_two_launches_is_one_of_the_keys(call, tmp_path):
    for day, best in (("mon", 8), ("tue", 64)):
        for batch in (1, 8, 64):
            speed = 400.0 if batch >= best else 100.0
            point(tmp_path / day, f"SERVE--max_num_seqs={batch}", max_num_seqs=batch, **at_rate(speed), date=day)
    call("import", "mon", "tue", "--as", "sweep")
    knee = the_sweep(tmp_path).metrics["knee_key"]
    assert (knee.value, knee.launches) == (8, [[8.0], [64.0]])


def test_points_of_unlike_numbers_of_launches_make_one_whole(call, tmp_path):
    for day in (23, 24, 25):
        sweep_folder(tmp_path / str(day), batches=(1, 64) if day == 23 else (1, 8, 64), day=day)
    call("import", "23", "24", "25", "--as", "sweep")
    sweep = the_sweep(tmp_path)
    assert len(sweep.metrics["output_throughput@1"].launches) == 3
    assert len(sweep.metrics["output_throughput@8"].launches) == 2
    assert len(sweep.metrics["hypervolume"].launches) == 1
