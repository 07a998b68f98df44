"""Pictures without a browser."""

import sys

import pytest
from support.sample_results import hostile_results, sample_results

from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.model.charts import Charts
from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.html.static_figures import figures, stem_of, write_figures


def only(*places: int) -> Results:
    results = sample_results()
    results.results = [results.results[place] for place in places]
    return results


def test_svg_and_png_are_written_with_title_and_marks(tmp_path):
    pytest.importorskip("vl_convert")
    results = only(5)
    results.results[0].samples, results.results[0].charts, results.results[0].energy.trace = {}, Charts(), None
    files = write_figures(results, tmp_path / "figures")
    assert len(files) == 2 * len(list(figures(results))) == 6
    for path in files:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG" if path.suffix == ".png" else b"<svg")
    svg = next(path for path in files if path.suffix == ".svg" and "rounds-per-launch-output" in path.name).read_text()
    assert "Rounds per launch: output throughput" in svg
    assert "test_batch[256]" in svg
    assert svg.count("<path") > 80


def test_hostile_names_make_plain_file_names_and_inert_svg(tmp_path):
    pytest.importorskip("vl_convert")
    results = hostile_results()
    results.results = results.results[:1]
    for path in write_figures(results, tmp_path, ["svg"]):
        assert path.parent == tmp_path
        assert path.stem.replace("-", "").replace(".", "").replace("_", "").isalnum()
        assert "<script" not in path.read_text()


def test_stems_differ_where_ids_differ():
    stems = {stem_of(f"a.py::t[{'x' * 200}{n}]", "title") for n in range(3)}
    assert len(stems) == 3
    assert all(len(stem) <= 120 for stem in stems)


def test_unknown_format_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="'pdf' is not one of svg, png"):
        write_figures(only(0), tmp_path, ["pdf"])


def test_without_the_extra_the_mend_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(SlmperfError, match=r"pip install \"pytest-slmperf\[report\]\""):
        write_figures(only(0), tmp_path)


def test_folder_that_cannot_be_made_is_named(tmp_path):
    pytest.importorskip("vl_convert")
    (tmp_path / "file").write_text("")
    with pytest.raises(SlmperfError, match="figures cannot be written"):
        write_figures(only(0), tmp_path / "file" / "x")
