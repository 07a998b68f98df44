"""The HTML report as a file: self-contained, inert, complete with and without the chart libraries."""

import json
import re
from html.parser import HTMLParser

import pytest
from support.sample_results import HOSTILE_IDS, hostile_results, sample_results

from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.model.verdict import Verdict, VerdictRecord
from pytest_slmperf.reports.html import static_figures
from pytest_slmperf.reports.html.page import _title as page_title
from pytest_slmperf.reports.html.report import island, render, write_report
from pytest_slmperf.text_out import printable


class Page(HTMLParser):
    """Elements, attributes and text of a page, as a browser would parse them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.text += "" if tag in ("b", "code") else " "
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif not self.cdata_elem:
            self.text += data


@pytest.fixture(scope="module")
def gallery() -> str:
    return render(sample_results())


@pytest.fixture
def no_vega(monkeypatch):
    monkeypatch.setattr(static_figures, "javascript", lambda: None)


def test_headline_says_what_got_worse_by_how_much_and_how_sure(gallery):
    text = " ".join(Page(gallery).text.split())
    assert "5 of 15 tests got worse, 1 could not be measured" in text
    assert "−11.6 % output throughput in test_batch[128] 6,459 → 5,710 tok/s interval −12.7 % to −10.5 %" in text
    assert "− 0.31.2" not in text  # the sign is drawn by the style sheet, not read out
    assert "engine version 0.31.2 0.32.0" in text


def test_everything_is_inside_the_one_file(gallery):
    page = Page(gallery)
    assert not {"link", "iframe", "img", "object", "base"} & set(page.tags)
    assert [value for name, value in page.attributes if name in ("src", "srcset", "data", "action")] == []
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]


def test_no_id_stands_twice_and_every_reference_is_met(gallery):
    page = Page(gallery)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    referred = {value for name, value in page.attributes if name in ("aria-controls", "aria-labelledby", "for")}
    referred |= {value[1:] for name, value in page.attributes if name == "href"}
    assert referred <= set(ids)


def test_policy_allows_only_the_pages_own_scripts(gallery):
    pytest.importorskip("vl_convert", reason="without the report extra the page has no script that draws charts")
    policy = dict(
        part.strip().split(" ", 1)
        for part in re.search(r'Policy" content="([^"]+)"', gallery)[1].replace("&#39;", "'").split(";")
    )
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in " ".join(policy.values())
    assert policy["script-src"].count("sha256-") == 2


def test_hostile_names_are_text_and_nothing_else():
    page = Page(render(hostile_results()))
    clean = Page(render(sample_results()))
    assert set(page.tags) <= set(clean.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert sum("__owned" in script for script in page.scripts) == len(
        [script for script in page.scripts if "__owned" in script and json.loads(script) is not None]
    )
    for identifier in HOSTILE_IDS:
        assert "\n".join(map(printable, identifier.split("::")[1].split("\n"))) in page.text


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "\u2028\u2029", "&lt;", 'quote " \\'])
def test_island_cannot_be_left_and_says_the_same(text):
    encoded = str(island({"text": text}))
    assert not set("<>&\u2028\u2029") & set(encoded)
    assert json.loads(encoded) == {"text": text}


def test_without_the_extra_the_page_has_tables_and_says_how_to_get_charts(no_vega):
    page = Page(render(sample_results()))
    assert 'pip install "pytest-slmperf[report]"' in page.text
    assert "svg" in page.tags
    assert "figure" not in page.tags
    assert "test_batch[256]" in page.text


def test_energy_is_shown_with_bound_and_source_or_the_reason(no_vega):
    text = " ".join(Page(render(sample_results())).text.split())
    assert re.search(r"gross energy [\d,]+ J ± [\d.]+ J \([\d.]+ %\) ", text)
    assert "nvml-counter, gpu" in text
    assert "unavailable: no NVML library and no RAPL on this machine" in text


def test_simulated_results_are_marked(no_vega):
    text = Page(render(sample_results())).text
    assert "Simulated engine." in text
    assert text.count("simulated\n") >= 1
    results = sample_results(3)
    assert "Simulated engine." not in Page(render(results)).text


def test_empty_results_still_make_a_page(no_vega):
    assert "Nothing was measured" in Page(render(sample_results(0))).text


def test_write_makes_the_folder_and_leaves_no_part(tmp_path, no_vega):
    target = tmp_path / "deep" / "report.html"
    write_report(sample_results(2), target)
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_a_path_that_cannot_be_written_is_named(tmp_path, no_vega):
    (tmp_path / "file").write_text("")
    with pytest.raises(SlmperfError, match=r"file/report\.html: the report cannot be written"):
        write_report(sample_results(1), tmp_path / "file" / "report.html")


def test_latencies_say_how_they_differ_from_the_distributions():
    pytest.importorskip("vl_convert")
    told = "the distributions above pool the requests"
    results = sample_results()
    assert told in Page(render(results)).text
    for result in results.results:
        result.samples = {}
    assert told not in Page(render(results)).text


@pytest.mark.parametrize(("open_ones", "said"), [(7, "and 1 more reason in"), (9, "and 3 more reasons in")])
def test_what_is_counted_has_its_plural(make_result, make_results, no_vega, open_ones, said):
    results = [
        make_result(f"t.py::t[{number}]", fields={"preemptions": 1, "verdicts": [
            VerdictRecord(metric="output_throughput", verdict=Verdict.INCONCLUSIVE, reason=f"reason {number}")
        ]})
        for number in range(open_ones)
    ]  # fmt: skip
    text = Page(render(make_results(*results))).text
    assert said in text
    assert "; 1 preemption." in text
    assert "\n1 test\n" in "\n".join(line.strip() for line in Page(render(make_results(results[0]))).text.splitlines())


def test_one_test_and_none_read_as_such():
    assert '<p id="shown" class="quiet" role="status" aria-live="polite">1 test</p>' in render(sample_results(1))
    empty = render(sample_results(0))
    assert "No performance test measured anything in this session." in empty
    assert re.search(r'<div class="scroll"[^>]* hidden>', empty)  # a table of nothing but heads


@pytest.mark.parametrize(
    ("found", "title"),
    [
        ({"failed": 1}, "The test could not be measured"),
        ({"failed": 2}, "2 of 2 tests could not be measured"),
        ({"new": 1}, "No regression found, but the one test could not be judged"),
        ({"improved": 1}, "The test got better"),
        ({"regressed": 1, "failed": 1}, "1 of 2 tests got worse, 1 could not be measured"),
    ],
)
def test_title_counts_as_people_do(found, title):
    assert page_title(found, "") == title
