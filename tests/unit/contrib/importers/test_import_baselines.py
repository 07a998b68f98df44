"""Existing results of vllm bench as baselines, and later ones held against them."""

import json

import pytest
from support.result_files import LATENCY, SERVE, at_rate
from test_vllm_bench import sweep_folder, write

from pytest_slmperf.model.results_file import load_results


def serve(tmp_path, name, factor=1.0, day=1, **more):
    run = SERVE | {"date": f"202611{day:02d}-150000"} | at_rate(640 * factor) | more
    return write(tmp_path / name, run)


def verdicts(out):
    return {row["id"]: row for row in json.loads(out)["results"]}


def test_existing_runs_become_a_baseline_that_later_ones_are_judged_by(call, tmp_path):
    for day, factor in ((1, 1.0), (2, 1.004), (3, 0.997), (4, 1.002)):
        serve(tmp_path, f"old{day}.json", factor, day)
        code, out, _ = call("import", f"old{day}.json", "--as", "chat", "--save", "main")
        assert code == 0
    assert "chat: extended (4 sessions)" in out
    assert "1 of 1 saved as 'main' in" in out
    assert "not known: the machine (--machine), the device (--device), the engine's version (--engine-version)" in out
    (stored,) = json.loads(call("baselines", "list", "--json")[1])
    assert (stored["id"], stored["sessions"], stored["approved_at"]) == ("chat", 4, None)
    for factor, verdict, exit_code in ((0.5, "regressed", 1), (2.0, "improved", 0)):
        for day, wobble in ((20, 1.0), (21, 1.003)):
            serve(tmp_path, f"new{day}.json", factor * wobble, day)
        assert call("import", "new20.json", "new21.json", "--as", "chat", "-o", "now.json")[0] == 0
        assert len(load_results(tmp_path / "now.json").results[0].metrics["output_throughput"].launches) == 2
        code, out, _ = call("compare", "baselines", "now.json", "--json", "--metric", "output_throughput")
        assert (code, verdicts(out)["chat"]["verdict"]) == (exit_code, verdict)


def test_sweeps_of_several_days_are_launches_of_one(call, tmp_path):
    for day, date in (("mon", 23), ("tue", 24)):
        sweep_folder(tmp_path / day, day=date)
    assert call("import", "mon", "tue", "--as", "sweep")[0] == 0
    *settings, sweep = load_results(tmp_path / "results.json").results
    assert [one.id for one in settings] == [f"sweep::max_num_seqs={batch}" for batch in (1, 64, 8)]
    assert [len(rounds) for rounds in sweep.metrics["output_throughput@8"].launches] == [3, 3]
    assert len(sweep.metrics["hypervolume"].launches) == 2


def test_same_files_twice_are_one_session(call, tmp_path):
    serve(tmp_path, "a.json")
    for _ in range(2):
        assert call("import", "a.json", "--save", "main")[0] == 0
    assert json.loads(call("baselines", "list", "--json")[1])[0]["sessions"] == 1


def test_metadata_is_for_the_record_unless_it_is_said_to_tell_settings_apart(call, tmp_path):
    """``--metadata night=2`` made a launch of the same setting a test of its own."""
    for day in (1, 2):
        serve(tmp_path, f"{day}.json", day=day, night=f"{day}", host="gpu-a")
    code, out, _ = call("import", "1.json", "2.json", "--as", "chat")
    assert code == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert len(result.metrics["output_throughput"].launches) == 2
    assert "night" not in result.scenario
    assert "note: chat: night (1, 2) is metadata, and tells no settings apart; --by night does" in out
    assert "host" not in out
    assert "metadata" not in call("import", "1.json", "2.json", "--as", "chat", "--by", "night")[1]
    *apart, sweep = load_results(tmp_path / "results.json").results
    assert [one.scenario["night"] for one in apart] == [1, 2]
    assert sweep.scenario["key"] == "night"
    assert "no run has that field" in call("import", "1.json", "--by", "tp")[2]
    assert "what a run measures" in call("import", "1.json", "--by", "output_throughput")[2]


def test_a_setting_told_apart_has_one_id_alone_and_among_others(call, tmp_path):
    for night in (1, 2):
        serve(tmp_path, f"{night}.json", day=night, night=f"{night}", output_throughput=640 + night)
    words = ("--as", "chat", "--by", "night", "--save", "main")
    for names in (("1.json",), ("2.json",), ("1.json", "2.json"), ("2.json",)):
        code, out, _ = call("import", *names, *words)
        assert (code, "scenario changed" in out) == (0, False)
    stored = json.loads(call("baselines", "list", "--json")[1])
    assert sorted(one["id"] for one in stored) == ["chat", "chat::night=1", "chat::night=2"]


def test_many_values_of_metadata_are_told_in_part(call, tmp_path):
    names = []
    for day in range(1, 8):
        names.append(f"{day}.json")
        serve(tmp_path, names[-1], day=day, night=f"{day}")
    assert "night (1, 2, 3, 4, 3 more) is metadata" in call("import", *names, "--as", "chat")[1]


def test_a_setting_given_with_by_is_part_of_the_work(call, tmp_path):
    serve(tmp_path, "1.json", tp="1")
    assert call("import", "1.json", "--as", "chat", "--by", "tp")[0] == 0
    assert load_results(tmp_path / "results.json").results[0].scenario["tp"] == 1


@pytest.mark.parametrize(("name", "tests"), [(None, 1), ("fp8", 2)])
def test_text_in_a_sweep_is_a_setting_where_its_folder_names_it_or_the_user_named_the_folder(
    call, tmp_path, name, tests
):
    for day in (1, 2):
        for batch in (8, 16):
            folder = tmp_path / f"{day}" / f"SERVE--max_num_seqs={batch}-BENCH--"
            folder.mkdir(parents=True)
            own = {"_benchmark_name": name} if name else {}
            serve(folder, "run=0.json", factor=batch, day=day, max_num_seqs=batch, kind=f"k{day}", **own)
    assert call("import", "1", "2", "--as", "chat")[0] == 0
    results = load_results(tmp_path / "results.json").results
    assert sum(one.scenario["kind"] != "sweep" for one in results) == 2 * tests


def stored_launches(call):
    """Session → its launches of the only stored test."""
    (entry,) = json.loads(call("baselines", "show", "chat", "--json")[1])
    return {one["id"]: one["metrics"]["output_throughput"]["launches"] for one in entry["sessions"]}


@pytest.mark.parametrize(
    ("imports", "sessions"),
    [
        ((("1", "2"), ("1",)), [[640, 641]]),  # nothing new
        ((("1",), ("1", "2")), [[640, 641]]),  # the larger import in place of the smaller
        ((("1", "2"), ("2", "3")), [[640], [641, 642]]),
        ((("1", "2"), ("3",), ("3", "1")), [[640, 641], [642]]),
    ],
)
def test_a_file_imported_again_among_others_counts_once(call, tmp_path, imports, sessions):
    for day in (1, 2, 3):
        serve(tmp_path, f"{day}.json", day=day, output_throughput=639 + day, mean_ttft_ms=20 + day / 7)
    for names in imports:
        code, out, _ = call("import", *(f"{name}.json" for name in names), "--as", "chat", "--save", "main")
        assert code == 0
    if imports[1] == ("1",):
        assert "chat: unchanged (its launches were imported before; counted once)" in out
        assert len(call("history", "chat", "--json")[1].split("import-")) == 2
    found = sorted(sorted(value for rounds in one for value in rounds) for one in stored_launches(call).values())
    assert found == sorted(sessions)


def test_approval_of_a_file_imported_before_is_kept(call, tmp_path):
    for day in (1, 2):
        serve(tmp_path, f"{day}.json", day=day, output_throughput=639 + day)
    call("import", "1.json", "2.json", "--as", "chat", "--save", "main")
    assert call("import", "1.json", "--as", "chat", "--approve", "--reason", "the good one")[0] == 0
    assert sorted(stored_launches(call).values()) == [[[640.0]], [[641.0]]]
    (entry,) = json.loads(call("baselines", "show", "chat", "--json")[1])
    assert sorted(one["reason"] or "" for one in entry["sessions"]) == ["", "the good one"]


def test_the_order_of_files_makes_no_other_session(call, tmp_path):
    for day in (1, 2):
        serve(tmp_path, f"{day}.json", day=day)
    for files in (("1.json", "2.json"), ("2.json", "1.json")):
        assert call("import", *files, "--as", "chat", "--save", "main")[0] == 0
    assert json.loads(call("baselines", "list", "--json")[1])[0]["sessions"] == 1


def test_a_run_given_twice_is_one_launch(call, tmp_path):
    serve(tmp_path, "a.json")
    serve(tmp_path, "copy.json")
    code, _, err = call("import", "a.json", "a.json", "copy.json", "--as", "chat")
    assert code == 0
    assert err.splitlines() == [
        "skipped: a.json: the same run as in a.json; counted once",
        "skipped: copy.json: the same run as in a.json; counted once",
    ]
    assert load_results(tmp_path / "results.json").results[0].metrics["output_throughput"].launches == [[640.0]]
    assert len(json.loads(call("import", "a.json", "copy.json", "--json")[1])["skipped"]) == 1


def test_a_folder_given_twice_or_with_a_file_of_it_is_one_launch(call, tmp_path):
    sweep_folder(tmp_path / "mon")
    call("import", "mon", "--as", "sweep", "-o", "once.json")
    again = "mon/SERVE--max_num_seqs=8/summary.json"
    _, _, err = call("import", "mon", "mon", again, "--as", "sweep")
    assert "skipped: mon: 9 of its 9 runs as in mon/SERVE--max_num_seqs=1/summary.json, run 0; counted once" in err
    assert f"skipped: {again}: 3 of its 3 runs as in {again}, run 0; counted once" in err
    once, twice = (load_results(tmp_path / name) for name in ("once.json", "results.json"))
    assert (once.session.id, once.results) == (twice.session.id, twice.results)


def test_approval_needs_a_reason_and_stores_it(call, tmp_path):
    serve(tmp_path, "a.json")
    code, _, err = call("import", "a.json", "--approve")
    assert (code, len(err.splitlines())) == (4, 1)
    assert "--reason" in err
    assert not (tmp_path / "baselines").exists()
    assert call("import", "a.json", "--approve", "--reason", "as published", "--baselines", "sqlite:///b.db")[0] == 0
    (stored,) = json.loads(call("baselines", "list", "--json", "--baselines", "sqlite:///b.db")[1])
    assert (stored["name"], stored["reason"]) == ("main", "as published")
    assert stored["approved_at"]


def test_a_sweep_is_kept_with_its_frontier(call, tmp_path):
    sweep_folder(tmp_path / "20261123_150000")
    code, out, _ = call("import", "20261123_150000", "--save", "main", "--as", "sweep")
    assert code == 0
    sweep = load_results(tmp_path / "results.json").results[-1]
    assert sweep.id == "sweep"
    # from the origin: every point adds a rectangle to the area under the frontier of throughput against 1 / latency
    fast, middle, slow = ((100 * batch**0.5 * 1.01, 1 / (5 + batch / 10)) for batch in (64, 8, 1))
    area = fast[0] * fast[1] + middle[0] * (middle[1] - fast[1]) + slow[0] * (slow[1] - middle[1])
    assert sweep.metrics["hypervolume"].value == pytest.approx(area)
    assert sweep.metrics["knee_key"].value == 64
    assert sweep.metrics["output_throughput@8"].launches == [[pytest.approx(100 * 8**0.5 * f) for f in (1, 1.01, 1.02)]]
    stored = {row["id"] for row in json.loads(call("baselines", "list", "--json")[1])}
    assert "sweep" in stored
    code, out, _ = call("compare", "results.json", "results.json", "--json")
    rows = verdicts(out)
    assert {row["metric"] for row in rows["sweep"]["verdicts"]} == {"hypervolume"}


def test_what_cannot_be_compared_is_named(call, tmp_path):
    serve(tmp_path, "a.json")
    assert call("import", "a.json", "--as", "chat", "--save", "main")[0] == 0
    serve(tmp_path, "b.json", num_prompts=500)
    call("import", "b.json", "--as", "chat", "-o", "b-results.json")
    code, out, _ = call("compare", "baselines", "b-results.json", "--json")
    (first, *_) = verdicts(out)["chat"]["verdicts"]
    assert (code, first["verdict"]) == (2, "incomparable")
    assert "num_prompts 100 → 500" in first["reason"]
    call("import", "a.json", "--as", "chat", "-o", "c-results.json", "--machine", "h100-box", "--device", "cuda")
    code, out, _ = call("compare", "baselines", "c-results.json", "--json")
    (first, *_) = verdicts(out)["chat"]["verdicts"]
    assert (code, first["verdict"]) == (2, "incomparable")
    assert "imported → h100-box" in first["reason"]
    assert "device unknown → cuda" in first["reason"]


def test_nothing_to_save_is_exit_4_and_says_why(call, tmp_path):
    write(tmp_path / "broken.json", SERVE | {"failed": 100, "completed": 0, "output_throughput": None,
          "request_throughput": None, "total_token_throughput": None})  # fmt: skip
    code, out, _ = call("import", "broken.json", "--save", "main")
    assert code == 4
    assert "refused (nothing was measured" in out
    assert "100 requests failed" in out


def test_names_that_hold_the_time_lose_it(call, tmp_path):
    for stamp in ("20261123-150000", "20261124-160000"):
        write(tmp_path / f"openai-infqps-opt-125m-{stamp}.json", SERVE)
        call("import", f"openai-infqps-opt-125m-{stamp}.json", "-o", f"{stamp}.json")
    ids = {load_results(tmp_path / f"{stamp}.json").results[0].id for stamp in ("20261123-150000", "20261124-160000")}
    assert ids == {"vllm bench serve::openai-infqps-opt-125m"}


def test_this_machine(call, tmp_path):
    from pytest_slmperf.environment.fingerprint import describe_machine

    write(tmp_path / "latency.json", LATENCY)
    assert call("import", "latency.json", "--machine", "this", "--device", "cpu")[0] == 0
    assert load_results(tmp_path / "results.json").machine.fingerprint == describe_machine().fingerprint


def test_an_empty_name_and_an_unusable_store(call, tmp_path):
    serve(tmp_path, "a.json")
    assert "--as" in call("import", "a.json", "--as", " ")[2]
    code, _, err = call("import", "a.json", "--save", "../up")
    assert (code, len(err.splitlines())) == (4, 1)
    assert "../up" in err
