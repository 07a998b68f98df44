import io
import json

import pytest
from support import published_points as published

from pytest_slmperf.cli import main as cli


@pytest.fixture
def call(capsys):
    """Runs the subcommand: (exit code, standard output, standard error)."""

    def run(*arguments):
        code = cli.main(["frontier", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def points(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(published.as_csv())
    return path


USUAL = ("--max", "output_tok_s", "--min", "mean_itl_ms")


def test_json_is_the_fixed_form(call, points):
    code, out, err = call(points, *USUAL, "--slo", "mean_itl_ms=30.04", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert set(found) == {"frontier", "dropped", "knee", "advice"}
    assert found["frontier"] == published.BATCHES[:-1]
    assert found["knee"] == {"key": 256, "share_of_peak": 0.9568}
    assert found["advice"]["key"] == 256


def test_table_for_a_reader(call, points):
    code, out, _ = call(points, *USUAL, "--slo", "mean_itl_ms=15.02")
    assert code == 0
    line = next(line for line in out.splitlines() if line.split()[:1] == ["768"])
    assert "dominated" in line
    assert "advice:   max_num_seqs 96" in out
    assert "knee:     max_num_seqs 256 reaches 95.7 % of the peak" in out
    assert "reference point: origin" in out


def test_other_columns_one_row(call, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("users;speed;wait\n3;50;7\n")
    code, out, _ = call(path, "--max", "speed", "--min", "wait", "--key", "users", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["frontier"] == [3]
    assert found["knee"] == {"key": 3, "share_of_peak": 1.0}
    assert found["advice"]["key"] == 3


def test_every_row_dropped_is_an_answer(call, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("max_num_seqs,t,l,preemptions\n1024,5,5,543\n")
    code, out, _ = call(path, "--max", "t", "--min", "l", "--json")
    assert code == 0
    assert json.loads(out) == {
        "frontier": [],
        "dropped": [{"key": 1024, "reason": "543 preemptions"}],
        "knee": None,
        "advice": None,
    }
    assert "543 preemptions" in call(path, "--max", "t", "--min", "l")[1]


def test_slo_on_the_throughput_is_a_floor_and_signs_are_read(call, points):
    for slo, pick in (("output_tok_s=8000", None), ("mean_itl_ms<=15.02", 96), ("mean_itl_ms >= 29", 256)):
        found = json.loads(call(points, *USUAL, "--slo", slo, "--json")[1])
        assert (found["advice"] and found["advice"]["key"]) == pick


def test_standard_input(call, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(published.as_csv().encode())))
    assert call("-", *USUAL, "--json")[0] == 0


def test_three_objectives_and_repeats(call, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("max_num_seqs,t,l,e\n1,10,1,9\n1,11,1,9\n8,60,2,3\n8,61,2,3\n")
    code, out, _ = call(path, "--max", "t", "--min", "l", "--min", "e", "--repeats")
    assert code == 0
    assert "resamples agree" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max", "output_tok_s"), "--min COLUMN"),
        ((), "--max COLUMN"),
        (("--max", "speed", "--min", "mean_itl_ms"), "no column 'speed'"),
        ((*USUAL, "--key", "batch"), "no column 'batch'"),
        ((*USUAL, "--slo", "mean_itl_ms"), "write COLUMN=VALUE"),
        ((*USUAL, "--slo", "mean_itl_ms=fast"), "'fast' is not a number"),
        ((*USUAL, "--slo", "latency=3"), "no column 'latency'"),
        ((*USUAL, "--epsilon", "1.5"), "epsilon"),
        ((*USUAL, "--epsilon", "x"), "--epsilon"),
        ((*USUAL, "--epsilon", "nan"), "finite"),
        (("--max", "output_tok_s", "--min", "output_tok_s"), "twice"),
        ((*USUAL, "--min", "kv_peak_pct", "--min", "mean_power_w"), "two or three"),
    ],
)
def test_wrong_usage_is_exit_4_with_one_line(call, points, arguments, words):
    code, out, err = call(points, *arguments)
    assert (code, out) == (4, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_unreadable_files_are_exit_4(call, tmp_path):
    assert call(tmp_path / "absent.csv", *USUAL)[0] == 4
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    code, _, err = call(tmp_path / "binary.csv", *USUAL)
    assert code == 4
    assert "UTF-8" in err
    code, _, err = call(tmp_path, *USUAL)
    assert code == 4
    assert str(tmp_path) in err


def test_names_from_the_file_cannot_steer_the_terminal(call, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text('config,"out\n(tok/s)",itl\na,100,5\n\x1b[2Jb,200,6\n')
    code, out, _ = call(path, "--key", "config", "--max", "out\n(tok/s)", "--min", "itl")
    assert code == 0
    assert "\x1b" not in out
    assert r"frontier: a, \x1b[2Jb (2 of 2 points)" in out.splitlines()
    assert "\x1b" not in call(path, "--max", "\x1b[2J", "--min", "itl")[2]


def test_a_batch_column_of_another_name_is_asked_for(call, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("Batch (n),out,itl\n1,100,5\n")
    assert "it has: Batch (n), out, itl; --key names the batch column" in call(path, "--max", "out", "--min", "itl")[2]
