"""Every public command and every export, on records whose every text is hostile: no byte of the output acts."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from support.hostile import BEGINNINGS, REST, acts, made_hostile
from support.sample_results import sample_results

from pytest_slmperf.cli import main as cli
from pytest_slmperf.cli import output
from pytest_slmperf.model.result import Results
from pytest_slmperf.model.results_file import encode, load_results
from pytest_slmperf.reports import markdown

# Commands that read no record: what they print of the machine and of other programs is tested where they are.
OTHERS = {"bisect", "completion", "doctor", "energy", "mock-server"}
READING: dict[str, tuple[tuple[str, ...], ...]] = {
    "report": (("report", "r.json", "--markdown", "r.md", "--results", "again.json"), ("report", "r.json", "--json")),
    "compare": (
        ("compare", "c.json", "c.json", "-vv"),
        ("compare", "c.json", "c.json", "--json"),
        ("compare", "baselines", "c.json"),
        ("compare", "c.json", "baselines", "-v"),
        ("compare", "c.json", "plain.json", "-vv"),
    ),
    "baselines": (
        ("baselines", "list"),
        ("baselines", "list", "--json"),
        ("baselines", "show", "test"),
        ("baselines", "show", "test", "--json"),
        ("baselines", "show", "=none\x1b[31m"),
        ("baselines", "approve", "c.json", "--reason", REST, "--mode", "replace"),
        ("baselines", "approve", "c.json", "--dry-run", "--json"),
        ("baselines", "list", "--name", "\x1b[31m"),
        ("baselines", "rename", "no\x1b[31m", "n"),
        ("baselines", "prune", "--sessions", "1", "--history", "1"),
        ("baselines", "prune", "--older-than", "2999-01-01", "--dry-run"),
    ),
    "history": (("history", ""), ("history", "", "--json"), ("history", "\x1b[31m\n::error::owned")),
    "export": tuple(
        ("export", "--format", exporter.name, "r.json")
        for exporter in output.hooked("pytest_slmperf_exporters", own_only=True)
        if exporter.name not in ("parquet", "mlflow")
    ),  # binary, and a server's
    "findings": (("findings", "c.json"), ("findings", "c.json", "--json"), ("findings", "c.json", "-o", "f.md")),
    "frontier": (
        ("frontier", "p.csv", "--max", "t", "--min", "l", "--key", "k\x1b[31m"),
        ("frontier", "p.csv", "--max", "t", "--min", "l", "--key", "k\x1b[31m", "--json"),
        ("frontier", "p.csv", "--max", "t", "--min", "l", "--key", "k\x1b[31m", "--by", "by"),
    ),
    "import": (
        ("import", "v.json", "-o", "i.json"),
        ("import", "v.json", "-o", "i.json", "--json"),
        ("import", "x\x1b[31m.json"),
    ),
}


@pytest.fixture(scope="module", params=BEGINNINGS)
def hostile(request: pytest.FixtureRequest) -> Results:
    records = made_hostile(sample_results(), request.param)
    assert isinstance(records, Results)
    assert request.param in records.session.id
    assert request.param in records.results[0].id
    return records


@pytest.fixture(scope="module")
def written(hostile: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that commands read, and a stored baseline, for all tests of one beginning."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "r.json").write_bytes(encode(hostile))
    kept = made_hostile(sample_results(6), hostile.session.id.partition(".session")[0], keep=("unit",))
    (folder / "c.json").write_bytes(encode(kept))
    (folder / "plain.json").write_bytes(encode(sample_results()))
    beginning = hostile.results[0].id.partition("0")[0]
    with (folder / "p.csv").open("w", newline="") as file:
        rows: list[list[object]] = [
            ["k\x1b[31m", "t", "l", "by"],
            [f"{beginning}1{REST[:-1]}", 10, 1, REST[:-1]],
            ["2", 20, 2, "b"],
            ["3", "", 2, "b"],
        ]
        csv.writer(file).writerows(rows)
    run: dict[str, object] = dict.fromkeys(("model_id", "endpoint_type", "backend"), beginning + REST[:-1])
    run |= {"output_throughput": 10.0, "completed": 3, "duration": 3.0, "num_prompts": 3, "date": "20260101-000000"}
    (folder / "v.json").write_text(json.dumps(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["baselines", "approve", "c.json", "--reason", beginning + REST]) == 0
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_every_command_is_tried() -> None:
    assert set(cli.subcommands()) == OTHERS | set(READING)


@pytest.mark.parametrize(
    "words", [words for rows in READING.values() for words in rows], ids=lambda words: " ".join(words)[:60]
)
def test_no_output_acts(words: tuple[str, ...], folder: Path, command) -> None:
    run = command(*words)
    assert run.code in (0, 1, 2, 4), run
    assert acts(run.out) == []
    assert acts(run.err) == []
    assert "Traceback" not in run.err
    if "--json" in words and run.code != 4:
        json.loads(run.out)
    for path in folder.glob("*.md"):
        assert_inert_markdown(path.read_text())


def assert_inert_markdown(text: str) -> None:
    assert acts(text) == []
    for pattern in ("<script", r"(?<!\\)\]\(https", r"https?://\w", r"\bwww\.", r"@owned", r"#1\b"):
        assert re.search(pattern, text) is None, re.search(f".{{0,80}}{pattern}.{{0,20}}", text)


def test_a_summary_and_annotations_are_inert(hostile: Results) -> None:
    assert_inert_markdown(markdown.job_summary(hostile))
    for line in markdown.annotations(hostile):
        assert re.fullmatch(
            r"::(error|warning|notice) (file=[^,\n]*,line=\d+,)?title=slmperf%3A [^,\n]*?::[^\n]*", line
        ), line
        assert acts(line[2:]) == []


def test_cells_are_no_formulas(folder: Path, command) -> None:
    rows = list(csv.reader(io.StringIO(command("export", "--format", "csv", "r.json").out, newline="")))
    assert len({len(row) for row in rows}) == 1
    for row in rows[1:]:
        for cell in row:
            assert re.match(r"\s*[=+@]|\s*-(?![\d.])|\s*::", cell) is None, cell


def test_an_export_holds_the_same_names(folder: Path, command) -> None:
    ids = {result.id for result in load_results(folder / "r.json").results}
    assert set(json.loads(command("export", "--format", "bencher", "r.json").out)) <= ids


def test_the_page_shows_what_would_act(hostile: Results, tmp_path: Path, command) -> None:
    (tmp_path / "r.json").write_bytes(encode(hostile))
    assert command("report", "r.json").code == 0
    page = (tmp_path / "report.html").read_text()
    assert "<script>owned" not in page
    assert [line for line in acts(page.replace("\t", " ")) if "character" in line and "\\n" not in line] == []
