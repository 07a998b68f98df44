"""The verdict table and the closing lines, at every level and width."""

import re
from pathlib import Path

import msgspec
import pytest
from support.sample_results import hostile_results, sample_results

from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.terminal.table import metric_lines, session_lines, verdict_table
from pytest_slmperf.reports.view import view_of
from pytest_slmperf.reports.wording import width_of


@pytest.fixture(scope="module")
def gallery() -> Results:
    return sample_results()


@pytest.mark.parametrize("verbosity", [-1, 0, 1, 2])
@pytest.mark.parametrize("make", [sample_results, hostile_results])
def test_fits_eighty_columns(make, verbosity):
    text = verdict_table(view_of(make()), 80, verbosity)
    assert max(width_of(row) for row in text.splitlines()) <= 80


def test_every_gated_metric_has_a_row(gallery):
    table = verdict_table(view_of(gallery), 100).split("\n\n")[0]
    gated = sum(sum(verdict.gate for verdict in result.verdicts) or 1 for result in gallery.results)
    assert len(table.splitlines()) == gated + 2
    assert re.search(r"test_batch\[256\]\s+output_throughput .*tok/s\s+−14\.8% \[−16, −14\]\s+▼ regressed", table)


def test_everything_but_same_has_its_reason(gallery):
    reasons = verdict_table(view_of(gallery), 200).split("\n\n")[1]
    assert "regressed: perf_tests/test_serving.py::test_poisson[80% of peak] ttft_p99: more by 31.2 %" in reasons
    assert "not measured: the engine stopped in round 3" in reasons
    assert "the baseline was taken on another GPU" in reasons
    assert "no baseline for this test" in reasons
    assert "about 6 more launches would decide it" in reasons
    assert "test_batch[1] " not in reasons
    assert [row.split(":")[0] for row in reasons.splitlines() if row[0] != " "][1:6] == ["regressed"] * 5


def test_a_shared_reason_is_said_once(gallery):
    results = sample_results()
    fresh = next(result for result in results.results if result.verdicts and result.verdicts[0].verdict == "new")
    results.results = [msgspec.structs.replace(fresh, id=f"test_a.py::test[{number}]") for number in range(8)]
    reasons = verdict_table(view_of(results), 300).split("\n\n")[1].splitlines()
    named = ", ".join(f"test_a.py::test[{number}]" for number in range(5))
    assert reasons == [f"new: no baseline for this test: {named} and 3 more"]


def test_many_notes_of_a_test_stand_in_one_line_until_asked_for():
    results = sample_results(1)
    results.results[0].notes = [f"launch {number} is not used" for number in range(3)]
    name = results.results[0].id
    assert f"note: {name}: launch 0 is not used (and 2 more, shown by -v)" in verdict_table(view_of(results), 200)
    assert f"note: {name}: launch 2 is not used" in verdict_table(view_of(results), 200, 1)


def test_levels_add_and_take_away(gallery):
    quiet, plain, most = (verdict_table(view_of(gallery), 80, level) for level in (-1, 0, 2))
    assert "─" not in quiet
    assert "---" not in quiet
    assert "regressed:" in quiet
    assert "improved:" not in quiet
    assert "goodput: unavailable: the scenario states no SLO" in most
    assert "goodput" not in plain
    assert "changed: engine version 0.31.2 → 0.32.0" in most


def test_colour_only_where_asked(gallery):
    assert "\x1b" not in verdict_table(view_of(gallery), 80, 1, colour=False)
    painted = verdict_table(view_of(gallery), 80, 1, colour=True)
    assert "\x1b[31;1m▼ regressed\x1b[0m" in painted
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == verdict_table(view_of(gallery), 80, 1, colour=False)


def test_control_characters_of_names_reach_no_terminal():
    text = verdict_table(view_of(hostile_results()), 120, 2)
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text
    assert "new\\nline\\ttab" in text


def test_no_results_is_said():
    assert verdict_table(view_of(sample_results(0)), 80) == "no performance test was measured"
    assert session_lines(view_of(sample_results(0)))[0] == "slmperf: nothing was measured"


def test_closing_lines_say_counts_files_and_what_to_do(gallery):
    lines = session_lines(
        view_of(gallery), html=Path("report.html"), json=Path("results.json"), approve="pytest x --slmperf-approve"
    )
    text = "\n".join(lines)
    assert " ".join(text.split()).startswith(
        "slmperf: 1 failed, 5 regressed, 1 incomparable, 1 inconclusive, 1 new, 1 improved, 5 same"
    )
    assert "report: report.html" in lines
    assert "results: results.json" in lines
    assert "--slmperf-approve" in text
    assert "SIMULATED" in text
    assert max(map(width_of, lines)) <= 80


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the baseline was taken on another GPU", "take one here"),
        ("not measured: the meter was lost", "was not measured"),
    ],
)
def test_incomparable_is_told_its_mend(gallery, reason, told):
    """A new baseline mends nothing where the reading is missing now."""
    one = next(result for result in gallery.results if result.verdicts and result.verdicts[0].gate)
    verdict = msgspec.structs.replace(one.verdicts[0], verdict="incomparable", change=None, ci=None, reason=reason)
    results = msgspec.structs.replace(gallery, results=[msgspec.structs.replace(one, verdicts=[verdict])])
    advice = [
        line
        for line in " ".join(" ".join(session_lines(view_of(results))).split()).split("next: ")
        if "slmperf:" not in line
    ]
    assert len(advice) == 1
    assert told in advice[0]


def test_new_tests_are_told_how_to_get_a_baseline(gallery):
    only_new = Results(
        session=gallery.session,
        machine=gallery.machine,
        results=[result for result in gallery.results if result.verdicts and result.verdicts[0].verdict == "new"],
    )
    text = " ".join(
        line.strip()
        for line in session_lines(view_of(only_new), approve="pytest perf_tests/ --slmperf --slmperf-approve")
    )
    assert "1 new" in text
    assert "make this run the baseline: pytest perf_tests/ --slmperf --slmperf-approve" in text
    assert not any(line.startswith("next:") for line in session_lines(view_of(only_new), verbosity=-1))


def test_metrics_of_one_test_with_intervals_and_launches(gallery):
    lines = metric_lines(gallery.results[0], 200)
    assert lines[0] == "perf_tests/test_offline.py::test_batch[1]"
    assert re.match(r"  output_throughput: [\d.]+ tok/s \[[\d.]+ to [\d.]+\], launches( [\d.]+){6}$", lines[1])
    assert any(re.match(r"  energy: [\d,]+ J ± [\d.]+ J \([\d.]+ %\) \(nvml-counter, gpu\)", line) for line in lines)


def test_no_line_is_wider_than_the_terminal_whatever_names_and_figures():
    found = sample_results(4)
    names = ("日本語" * 40, "x" * 300, "🎉👩\u200d👩 \u202e\x1b[31m", "line\nbreak")
    for result, name in zip(found.results, names, strict=True):
        result.id = f"t.py::t[{name}]"
        result.notes = [name]
        result.verdicts[0].reason = f"{name}\nand more"
        result.verdicts[0].change, result.verdicts[0].ci = 1e12, (-1e9, 1e15)
    found.results[0].failure, found.results[0].verdicts = "the engine died\nTraceback:\n  " + "y" * 200, []
    for verbosity in (-1, 0, 1, 2):
        text = verdict_table(view_of(found), 80, verbosity)
        assert max(map(width_of, text.splitlines())) <= 80
        assert "\x1b" not in text


def test_short_figures_leave_no_wider_columns_than_the_terminal_has():
    found = sample_results(2)
    found.results[1].id = "t.py::test[" + "x" * 120 + "]"
    for result in found.results:
        result.verdicts = [msgspec.structs.replace(result.verdicts[0], verdict="new", change=None, ci=None)]
    assert max(map(width_of, verdict_table(view_of(found), 80).splitlines())) <= 80


@pytest.mark.parametrize("make", [sample_results, hostile_results])
@pytest.mark.parametrize("width", [60, 66, 72, 80])
def test_narrow_terminals_lose_columns_and_never_the_test_or_its_verdict(make, width):
    results = make()
    for verbosity in (0, 1, 2):
        assert max(map(width_of, verdict_table(view_of(results), width, verbosity).splitlines())) <= width
    head = verdict_table(view_of(results), width).split("\n\n")[0].splitlines()[0]
    assert [name for name in ("test", "change", "verdict") if name in head] == ["test", "change", "verdict"]
    assert width in (66, 72) or ("value" in head) == (width == 80)


def test_an_interval_that_decided_at_another_level_says_so():
    results = sample_results(3)
    for result, level in zip(results.results, (0.99, 0.9, 0.99), strict=True):
        result.verdicts = result.verdicts[:1]
        result.verdicts[0].detail["interval_level"] = level
    table = verdict_table(view_of(results), 80)
    assert [row.count("*") for row in table.splitlines()[2:6]] == [0, 1, 0, 1]
    assert "* interval at 90 %, which decided at the last look; others at 99 %" in table


def test_tests_of_one_name_in_two_folders_stay_apart(gallery):
    one, two = (
        msgspec.structs.replace(gallery.results[0], id=f"perf/{name}/test_x.py::TestChat::test_p[8]") for name in "ab"
    )
    rows = (
        verdict_table(view_of(msgspec.structs.replace(gallery, results=[one, two])), 72).split("\n\n")[0].splitlines()
    )
    names = [row.split()[0] for row in rows if "test_p[8]" in row or "t_p[8]" in row]
    assert len(names) == 2
    assert names[0].startswith("a/")
    assert names[1].startswith("b/")
    assert "…" in names[0]


def test_a_message_without_end_loses_its_middle(gallery):
    result = next(each for each in gallery.results if each.failure)
    kept, result.failure = result.failure, "begin " + "x" * 100_000 + " end"
    text = verdict_table(view_of(gallery), 80)
    result.failure = kept
    message = " ".join(line.strip() for line in text.splitlines() if "xxxx" in line or "begin" in line)
    assert "not measured: begin" in message
    assert "…" in message
    assert message.endswith(" end")
    assert len(text) < 20_000
