import csv
import io
import json

import pytest

from pytest_slmperf.baselines.journal import Journal


@pytest.fixture
def results(make_result, make_results, write):
    return write("results.json", make_results(make_result()))


def test_export_to_standard_output(command, results):
    run = command("export", "--format", "csv", results)
    assert run.code == 0
    rows = list(csv.DictReader(io.StringIO(run.out)))
    assert rows[0]["metric"] == "output_throughput"


def test_export_to_a_file(command, results, tmp_path):
    run = command("export", "--format", "bencher", results, "-o", tmp_path / "new" / "b.json", "--json")
    assert json.loads(run.out)["format"] == "bencher"
    assert json.loads((tmp_path / "new" / "b.json").read_text())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.json"]


def test_export_of_a_wrong_format_names_the_right_ones(command, results):
    run = command("export", "--format", "xml", results)
    assert run.code == 4
    assert "bencher, csv, github-action-benchmark" in run.err


def test_export_to_a_place_that_cannot_be_written(command, results):
    run = command("export", "--format", "csv", results, "-o", "/proc/nothing/x.csv")
    assert run.code == 4
    assert "/proc/nothing/x.csv: cannot be written" in run.err


def test_report_is_written(command, results, tmp_path):
    run = command("report", results, "-o", tmp_path / "r.html")
    assert run.code == 0
    assert "test_batch[16]" in (tmp_path / "r.html").read_text()


def test_markdown_and_figures_beside_the_report(command, tmp_path, make_result, make_results, write):
    pytest.importorskip("vl_convert", reason="the report extra is not installed")
    batches = [
        make_result(f"t.py::t[{batch}]", scenario={"kind": "offline", "batch": batch, "input_len": 8, "output_len": 8})
        for batch in (1, 2, 4)
    ]
    results = write("sweep.json", make_results(*batches))
    run = command("report", results, "--figures", "figures", "--figure-format", "svg", "--markdown", "s.md", "--json")
    written = json.loads(run.out)
    assert written["report"] == "report.html"  # as the help says: whatever else is asked for
    assert (tmp_path / "report.html").is_file()
    assert "written whatever else is asked for [report.html]" in " ".join(command("report", "--help").out.split())
    assert "slmperf" in (tmp_path / written["markdown"]).read_text()
    assert written["figures"]
    assert all((tmp_path / path).read_text().lstrip().startswith("<svg") for path in written["figures"])


def test_after_a_crash_the_journal_gives_report_and_results(
    command, tmp_path, make_result, make_results, make_session, make_machine
):
    journal = Journal(tmp_path / ".slmperf", make_session(), make_machine())
    for name in ("t.py::a", "t.py::b"):
        journal.append(make_result(name))
    journal.path.write_bytes(journal.path.read_bytes()[:-30])  # the crash came while b was written
    run = command("report", journal.path, "-o", "r.html", "--results", "results.json", "--json")
    assert json.loads(run.out) == {"report": "r.html", "results": "results.json", "tests": 1}
    document = json.loads((tmp_path / "results.json").read_text())
    assert [result["id"] for result in document["results"]] == ["t.py::a"]
    assert "cut short" in document["session"]["notes"][0]
    assert command("report", "results.json").code == 0


def test_a_folder_is_no_results_file(command, tmp_path):
    run = command("report", tmp_path)
    assert run.code == 4
    assert "is a folder; give the results file" in run.err
