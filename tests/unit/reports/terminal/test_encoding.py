from __future__ import annotations

import io
import json

import pytest

from pytest_slmperf.reports.terminal import encoding as charset
from pytest_slmperf.reports.terminal.progress import Progress


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf-16", None])
def test_what_can_be_shown_is_left_alone(encoding):
    assert charset.fit("a … −3 ± 日本", encoding) == "a … −3 ± 日本"
    assert charset.is_unicode(encoding)


def test_signs_become_plainer_ones_and_other_characters_escapes():
    assert charset.fit("… −3 % → ± ▼ Größe 日", "ascii") == "... -3 % -> +- v Gr\\u00f6\\u00dfe \\u65e5"
    assert charset.fit("Größe …", "latin-1") == "Größe ..."
    assert not charset.is_unicode("latin-1")


def test_a_cut_name_keeps_its_width_in_a_table():
    assert charset.table("…name  −3", "ascii") == "~name  -3"
    assert charset.table("…name  −3", "utf-8") == "…name  −3"


def test_progress_reaches_a_stream_that_lacks_the_ellipsis():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Progress(stream, False, width=40).update("test_" + "x" * 60, "engine starting")
    stream.seek(0)
    assert "...xxx" in stream.read()


def test_commands_print_to_such_a_stream(monkeypatch, tmp_path, make_result, make_results):
    from pytest_slmperf.cli import main as cli
    from pytest_slmperf.model.results_file import encode

    path = tmp_path / "results.json"
    result = make_result("test_größe", output_throughput=[[1.0, 1.0]])
    path.write_bytes(encode(make_results(result)))
    for words, wanted in (
        (["compare", str(path), str(path)], "["),
        (["compare", "--json", str(path), str(path)], None),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr("sys.stdout", stream)
        cli.main(words)
        stream.seek(0)
        text = stream.read()
        if wanted is None:
            assert "test_größe" in json.dumps(json.loads(text), ensure_ascii=False)
        else:
            assert "test_gr" in text
