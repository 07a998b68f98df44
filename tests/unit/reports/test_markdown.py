"""Job summary, comment and annotations."""

import pytest
from support.sample_results import hostile_results, sample_results

from pytest_slmperf.reports.markdown import MARKER, MAX_BYTES, annotations, job_summary
from pytest_slmperf.text_out import markdown as escape


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| <code>")
    ]


def test_summary_begins_with_the_marker_and_the_worst():
    text = job_summary(sample_results())
    assert text.startswith(MARKER)
    assert "## slmperf: ✗ 1 failed, ▼ 5 regressed" in text
    first, second = rows(text)[:2]
    assert first[-1].startswith("✗ **failed**")
    assert second[-1].startswith("▼ **regressed**")
    assert "| engine version | 0.31.2 | 0.32.0 |" in text
    assert "Simulated engine" in text


def test_every_row_has_five_cells_whatever_the_names_hold():
    for results in (sample_results(), hostile_results()):
        found = rows(job_summary(results))
        assert len(found) >= len(results.results)
        assert {len(row) for row in found} == {5}


def test_hostile_names_make_no_markup():
    text = job_summary(hostile_results())
    for tag in ("<script", "<img", "<b>", "</script"):
        assert tag not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("_a_b*c", "\\_a_b\\*c"),
        ("[x](y) | z", "\\[x\\](y) \\| z"),
        ("@someone #12", "@<!-- -->someone #<!-- -->12"),
        ("a\nb\x1b", "a\\\\nb\\\\x1b"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
    ],
)
def test_escape(text, shown):
    assert escape(text) == shown


def test_summary_of_many_tests_fits_a_comment_and_says_that_it_was_cut():
    text = job_summary(sample_results(500))
    assert len(text.encode()) < 65_536
    assert len(job_summary(hostile_results()).encode()) < MAX_BYTES
    assert text.count("<details>") == text.count("</details>")
    assert "more in the report" in text


def test_annotations_stand_on_the_tests_line():
    lines = annotations(sample_results())
    assert lines[0].startswith("::error file=perf_tests/test_model_size.py,line=31,title=slmperf%3A failed::")
    regressed = next(line for line in lines if "test_batch[256]" in line)
    assert regressed.startswith(
        "::error file=perf_tests/test_offline.py,line=12,title=slmperf%3A regressed output_throughput::"
    )
    assert "−14.8 %25 (−15.9 %25 to −13.7 %25)" in regressed
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 7 + ["::warning"] * 3 + ["::notice"] * 2
    assert not any("test_batch[1]" in line for line in lines)


def test_annotations_are_one_line_each_and_cannot_start_another_command():
    for line in annotations(hostile_results()):
        assert "\n" not in line
        assert "\r" not in line
        assert line.startswith("::error ")


@pytest.mark.parametrize("location", ["/etc/passwd:1", "no-number", ":3", 7, None])
def test_odd_locations_are_left_out(location):
    results = sample_results()
    results.results = results.results[-1:]
    results.results[0].scenario["location"] = location
    assert annotations(results)[0].startswith("::error title=")
