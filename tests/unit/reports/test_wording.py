"""Numbers and names as a reader sees them."""

import math

import pytest

from pytest_slmperf.reports.wording import direction_word, elide, metric_label, printable, width_of, wrap
from pytest_slmperf.util.formatting import change_text, duration, number, percent, quantity, share


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (5.0, "5"),
        (347.03, "347.0"),
        (120.0, "120"),
        (1234.56, "1,235"),
        (0.09512, "0.09512"),
        (-3.25, "-3.250"),
        (0.00001, "1.000e-05"),
        (2.5e12, "2.500e+12"),
        (math.inf, "failed"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_quantity_leaves_dimensionless_units_out():
    assert quantity(12.0, "tok/s") == "12 tok/s"
    assert quantity(0.5, "1") == "0.5000"
    assert quantity(3, "count") == "3"
    assert quantity(None, "ms") == "–"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0812, "+8.1 %"), (-0.298, "−29.8 %"), (0.0002, "0.0 %"), (-0.0002, "0.0 %"), (None, "–"), (math.nan, "–")],
)
def test_percent_is_signed_and_never_minus_zero(ratio, text):
    assert percent(ratio) == text


def test_change_says_the_larger_arm():
    assert change_text(-0.1, (-0.12, -0.09)) == "−10.0 % [−12.0, −9.0]"
    assert change_text(0.154, (-0.021, 0.314), short=True) == "+15.4 % [−2.1, +31]"
    assert change_text(0.0, (-0.0999, 0.0), short=True) == "0.0 % [−10, 0.0]"
    assert change_text(0.1, None) == "+10.0 %"
    assert change_text(None, None) == "–"
    assert change_text(0.1, (-math.inf, math.inf)) == "+10.0 %"


@pytest.mark.parametrize(
    ("change", "better", "word"),
    [
        (-0.1, "higher", "worse"),
        (0.1, "higher", "better"),
        (0.1, "lower", "worse"),
        (0.1, "none", ""),
        (0, "higher", ""),
    ],
)
def test_direction(change, better, word):
    assert direction_word(change, better) == word


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("ttft_p99", "TTFT p99"),
        ("e2el_mean", "end-to-end latency mean"),
        ("output_throughput@64", "output throughput at 64"),
        ("my_own_metric", "my own metric"),
    ],
)
def test_metric_label(name, label):
    assert metric_label(name) == label


def test_printable_shows_what_a_terminal_would_obey():
    assert printable("a\x1b[2Jb\r\nc\u202e\u2028") == "a\\x1b[2Jb\\r\\nc\\u202e\\u2028"
    assert printable("ümläut 🚀 日本") == "ümläut 🚀 日本"


def test_elide_counts_columns():
    assert elide("abcdef", 6) == "abcdef"
    assert elide("abcdef", 4) == "…def"
    assert elide("abcdef", 4, keep="start") == "abc…"
    assert width_of(elide("日本語日本語", 6)) <= 6
    assert elide("a/test_x.py::test_p", 10, keep="both") == "a/tes…st_p"
    assert width_of(elide("日本語日本語日本語", 7, keep="both")) <= 7


def test_a_long_name_is_cut_where_asked():
    name = "perf/" + "x" * 100_000 + "::test"
    assert elide(name, 12) == "…xxxxx::test"
    assert elide(name, 12, keep="start") == "perf/xxxxxx…"
    assert elide(name, 12, keep="both") == "perf/x…:test"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (-3, "0 s")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  a note that is indented and goes on for a while",
        "x" * 95,
        "日本語 " * 20,
        "日本語" * 30,
        "a " * 40 + "🎉" * 30,
        "at " + "/very/long" * 20_000,
    ],
)
def test_wrapped_rows_fit_and_lose_nothing(text):
    rows = wrap(text, 24)
    assert max(map(width_of, rows)) <= 24
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")
    assert rows[0].startswith("  ") == text.startswith("  ")
    assert all(row.startswith("  ") for row in rows[1:])


def test_a_figure_keeps_its_percent_sign_in_its_row():
    text = "changed by −1.5 % over 3 launches, 12 % of them"
    for columns in range(12, 40):
        rows = wrap(text, columns)
        assert max(map(width_of, rows)) <= columns
        assert not any(row.strip().startswith("%") for row in rows)
        assert " ".join(row.strip() for row in rows) == text


def test_a_change_beyond_counting_is_written_in_exponents():
    assert percent(1e12) == "+1.0e+14 %"
    assert percent(-0.0) == "0.0 %"
    assert change_text(1e12, (0.0, 1e15)) == "+1.0e+14 % [0.0, +1.0e+17]"


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.0041, "0.41"), (0.02, "2"), (0.996, "100"), (1.0, "100"), (2.16, "220"), (123.4, "12000")]
)
def test_a_share_is_never_written_in_powers_of_ten(ratio: float, text: str) -> None:
    assert share(ratio) == text


def test_bounds_of_energy_are_written_as_shares() -> None:
    from pytest_slmperf.cli.commands.energy import doctor_lines
    from pytest_slmperf.reports.wording import with_bound

    assert with_bound(10.0, 21.6) == "10 J ± 21.60 J (220 %)"
    assert doctor_lines([{"name": "GPU", "bound_percent": {"1 s": 100.4}}])[-1].endswith(": 100 % at 1 s")
