import json

import pytest
from support.result_files import LATENCY, SERVE, THROUGHPUT

from pytest_slmperf.cli import main as cli
from pytest_slmperf.cli.commands import frontier
from pytest_slmperf.contrib.commands import import_
from pytest_slmperf.model.results_file import load_results


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Runs the subcommand in a folder of its own: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(module, *arguments):
        code = cli.main([module.__name__.rsplit(".", 1)[1].strip("_"), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def sweep_folder(root, batches=(1, 8, 64), runs=3, summary=True, day=23):
    """An experiment folder as vllm bench sweep serve lays it out: what was varied stands in summary.json and in the name of
    the folder, not in the runs."""
    for batch in batches:
        folder = root / f"SERVE--max_num_seqs={batch}"
        rows = []
        for number in range(runs):
            row = SERVE | {
                "output_throughput": 100.0 * batch**0.5 * (1 + 0.01 * number),
                "mean_itl_ms": 5 + batch / 10,
                "date": f"202611{day}-1500{number:02d}",
                "duration": 10.0 + number,
            }
            write(folder / f"run={number}.json", row)
            rows.append(row | {"run_number": number, "max_num_seqs": batch})
        if summary:
            write(folder / "summary.json", rows)
        write(folder / "warmup.json", SERVE)
    write(root / "SERVE--max_num_seqs=999-failure.json", {"error_type": "OSError"})
    return root


def test_serve_file(call, tmp_path):
    write(tmp_path / "run.json", SERVE)
    code, out, _ = call(import_, "run.json", "--engine-version", "0.32.0", "--device", "cuda")
    assert code == 0
    assert "results.json: 1 result" in out
    results = load_results(tmp_path / "results.json")
    (result,) = results.results
    assert result.metrics["output_throughput"].value == 640
    assert result.metrics["ttft_p50"].value == 28
    assert result.metrics["itl_p99"].value == 33
    assert "ttft_p90" not in result.metrics  # not in the file: absent, not 0
    assert "goodput" not in result.metrics
    traffic = {"request_rate": "inf", "burstiness": 1.0, "max_concurrency": 16, "num_prompts": 100, "backend": "openai"}
    lengths = {"input_tokens_per_request": 32, "output_tokens_per_request": 64}
    assert result.scenario == {"kind": "serving", **traffic, **lengths}
    gated = {name for name, value in result.metrics.items() if value.gate}
    assert gated == {"output_throughput", "ttft_p50", "tpot_mean"}  # of the TPOT the file has the mean only
    assert (result.engine.name, result.engine.version, result.engine.device) == ("vllm", "0.32.0", "cuda")
    assert results.machine.fingerprint == "imported"
    assert results.session.started_at == "2026-11-23T15:00:00Z"  # of the run, not of the import


def test_failed_requests_leave_no_latency_number(call, tmp_path):
    write(tmp_path / "run.json", SERVE | {"failed": 3})
    assert call(import_, "run.json")[0] == 0
    (result,) = load_results(tmp_path / "results.json").results
    assert result.metrics["itl_mean"].value is None
    assert "3 requests failed" in result.metrics["itl_mean"].reason
    assert result.metrics["output_throughput"].value == 640


def test_latency_file_with_and_without_its_shape(call, tmp_path):
    write(tmp_path / "latency.json", LATENCY)
    call(import_, "latency.json")
    (plain,) = load_results(tmp_path / "results.json").results
    assert plain.metrics["e2el_mean"].launches == [[400.0, 600.0]]
    assert "output_throughput" not in plain.metrics
    call(import_, "latency.json", "--batch", 8, "--output-len", 32)
    (shaped,) = load_results(tmp_path / "results.json").results
    assert shaped.metrics["output_throughput"].launches == [[8 * 32 / 0.4, 8 * 32 / 0.6]]
    assert shaped.scenario == {"kind": "offline", "batch": 8, "output_len": 32}


def test_throughput_file(call, tmp_path):
    write(tmp_path / "t.json", THROUGHPUT)
    call(import_, "t.json", "--output-len", 32)
    (result,) = load_results(tmp_path / "results.json").results
    assert result.metrics["total_token_throughput"].value == 640
    assert result.metrics["output_throughput"].value == 320


@pytest.mark.parametrize("summary", [True, False])
def test_sweep_folder_becomes_a_sweep_that_frontier_reads(call, tmp_path, summary):
    sweep_folder(tmp_path / "exp", summary=summary)
    code, out, err = call(import_, "exp", "-o", "r/results.json", "--csv", "points.csv")
    assert code == 0
    assert "4 results, 3 sweep points" in out
    assert "max_num_seqs=999-failure.json: the run failed" in err
    *settings, sweep = load_results(tmp_path / "r/results.json").results
    assert [result.scenario["max_num_seqs"] for result in settings] == [1, 64, 8]
    assert len(settings[0].metrics["output_throughput"].launches[0]) == 3
    told = {name: sweep.scenario[name] for name in ("kind", "key", "keys", "objectives")}
    assert told == {
        "kind": "sweep",
        "key": "max_num_seqs",
        "keys": [1, 8, 64],
        "objectives": ["output_throughput", "itl_mean"],
    }
    assert [record["key"] for record in sweep.points] == [1, 8, 64]
    low, high = sweep.points[0]["ci"]["output_throughput"]
    assert low < sweep.points[0]["output_throughput"] < high
    code, out, _ = call(frontier, "points.csv", "--max", "output_throughput", "--min", "itl_mean", "--json")
    assert code == 0
    assert json.loads(out)["frontier"] == [1, 8, 64]


def test_plain_folder_json_lines_and_equal_names(call, tmp_path):
    write(tmp_path / "d/a.json", "\n".join(json.dumps(SERVE | {"max_concurrency": n}) for n in (1, 2)))
    write(tmp_path / "e/a.json", SERVE)
    write(tmp_path / "f/a.json", SERVE | {"date": "20261124-150000"})
    assert call(import_, "d", "e/a.json", "f/a.json")[0] == 0
    ids = [result.id for result in load_results(tmp_path / "results.json").results]
    assert len(ids) == len(set(ids)) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("", "empty"),
        ("[]", "holds no result object"),
        ("[1]", "holds no result object"),
        ({"hello": 1}, "not a result of vllm bench"),
        (SERVE | {"output_throughput": "fast"}, "output_throughput"),
        (SERVE | {"output_throughput": -1}, "output_throughput"),
        (LATENCY | {"latencies": []}, "latencies"),
        (LATENCY | {"latencies": [0]}, "latencies"),
    ],
)
def test_bad_files_are_exit_4_and_write_nothing(call, tmp_path, content, words):
    write(tmp_path / "x.json", content)
    code, _, err = call(import_, "x.json")
    assert code == 4
    assert words in err
    assert "x" in err
    assert not (tmp_path / "results.json").exists()


def test_absent_file_empty_folder_wrong_option(call, tmp_path):
    assert call(import_, "absent.json")[0] == 4
    (tmp_path / "void").mkdir()
    assert "no result file" in call(import_, "void")[2]
    write(tmp_path / "latency.json", LATENCY)
    assert "--batch" in call(import_, "latency.json", "--batch", 0)[2]
    assert "cannot be written" in call(import_, "latency.json", "-o", "latency.json/x")[2]
