"""What a careless or hostile user gives the commands: one line that names it, the exit code 4, and no traceback."""

import pytest


def test_a_name_from_a_file_cannot_steer_the_terminal(command, tmp_path):
    (tmp_path / "p.csv").write_text('"a\x1b[31m","i\nl"\n1,10\n2,20\n')
    missing = command("frontier", "p.csv", "--max", "x", "--min", "y")
    assert missing.code == 4
    assert "it has: a\\x1b[31m, i\\nl; --key names" in missing.err
    table = command("frontier", "p.csv", "--max", "i\nl", "--min", "a\x1b[31m", "--key", "a\x1b[31m")
    assert "\x1b" not in table.out + table.err
    assert "i\\nl" in table.out + table.err
    (tmp_path / "x\x1b[31m.json").write_text("{}")
    assert "\x1b" not in command("import", "x\x1b[31m.json").err


def test_approving_no_results_is_no_approval(command, make_results, write, tmp_path):
    run = command("baselines", "approve", write("none.json", make_results()), "--reason", "r")
    assert run.code == 4
    assert "none.json: nothing was measured in that session, so there is nothing to approve" in run.err


@pytest.mark.parametrize("place", ["sqlite:", "sqlite:b.db", "postgresql:db", "postgres:/db"])
def test_half_a_url_is_no_folder(command, make_result, make_results, write, tmp_path, place):
    results = write("r.json", make_results(make_result()))
    before = set(tmp_path.iterdir())
    run = command("baselines", "approve", results, "--reason", "r", "--baselines", place)
    assert run.code == 4
    assert f"--baselines: {place!r}: write sqlite:///PATH or postgresql://HOST/DATABASE" in run.err
    assert set(tmp_path.iterdir()) == before


def test_a_name_that_no_baseline_has_is_told_from_no_baselines(command, make_result, make_results, write):
    command("baselines", "approve", write("r.json", make_results(make_result())), "--reason", "r")
    assert "no baselines named 'v1' in baselines, which holds main" in command("baselines", "list", "--name", "v1").out


@pytest.mark.parametrize("words", [("report", "r.json"), ("history", "test_batch")])
def test_figures_that_cannot_be_written_are_wrong_usage(command, make_result, make_results, write, words):
    pytest.importorskip("vl_convert", reason="the report extra is not installed")
    results = write("r.json", make_results(make_result()))
    command("baselines", "approve", results, "--reason", "r")
    run = command(*words, "--figures", "r.json")
    assert run.code == 4
    assert "r.json: figures cannot be written (File exists); choose another folder" in run.err


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none(command, port):
    run = command("mock-server", "--port", port)
    assert run.code == 4
    assert f"--port {port}: must be 0 to 65535" in run.err


def test_a_record_of_the_mock_server_that_cannot_be_written_is_said_before_it_serves(command, tmp_path):
    (tmp_path / "file").write_text("kept")
    run = command("mock-server", "--port", "0", "--truth", "file/truth.jsonl")
    assert (run.code, run.out) == (4, "")
    assert "file/truth.jsonl: cannot be written" in run.err


def test_the_option_named_is_the_one_that_was_given(command, make_result, make_results, write):
    results = write("r.json", make_results(make_result()))
    run = command("compare", results, results, "--across", "weights")
    assert "--across 'weights': must be one of driver" in run.err
    assert "--slmperf" not in run.err


def test_a_results_file_with_a_wrong_field_says_what_to_do(command, tmp_path):
    (tmp_path / "r.json").write_text('{"schema_version": 1}')
    run = command("report", "r.json")
    assert run.code == 4
    assert "r.json: Object missing required field `session`; restore it" in run.err
