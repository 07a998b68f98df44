"""One way to write a reading, a change, a share and a count, wherever a reader meets them."""

import re
from pathlib import Path

import pytest

import pytest_slmperf
from pytest_slmperf.model.verdict import Difference
from pytest_slmperf.reports.wording import difference_text
from pytest_slmperf.util.formatting import counted, number, portion, share, with_unit

PACKAGE = Path(pytest_slmperf.__file__).parent
# f"{x:.1%}" writes "1.0%" where the rest writes "1 %"; f"{x:.4g}" writes 2.102e+04 where the rest writes 21,021
OWN_FORMAT = re.compile(r":\+?\.\d%\}|:,?\.[4-6]g\}")
NO_READINGS = {
    "util/formatting.py",
    "reports/wording.py",  # settings, as short as they were written
    "reports/facts.py",  # bytes
    "reports/html/page.py",  # a sort key
    "reports/exporters.py",  # read by a program
    "cli/commands/energy.py",  # a cost in the user's currency
}


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.05, "5 %"), (0.957, "95.7 %"), (0.0025, "0.25 %"), (1.0, "100 %"), (2.2, "220 %")]
)
def test_a_portion_has_three_significant_digits(ratio, text):
    assert portion(ratio) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999.95, "1,000"),
        (-999.96, "-1,000"),
        (999.94, "999.9"),
        (9.9996, "10.00"),
        (-0.0, "0"),
        (1234.6, "1,235"),
        (1e9, "1.000e+09"),
        (0.00009999, "9.999e-05"),
        (0.0001, "0.0001000"),
    ],
)
def test_a_number_keeps_its_form_where_rounding_adds_a_digit(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(1e10, "1000000000000"), (1e-8, "0.000001"), (-0.0, "0"), (123.4, "12000")]
)
def test_a_share_is_never_in_powers_of_ten(ratio, text):
    assert share(ratio) == text


def test_counts_have_their_plural_and_units_their_place():
    assert [counted(1, "reason"), counted(0, "round"), counted(2000, "more launch", "more launches")] == [
        "1 reason",
        "0 rounds",
        "2,000 more launches",
    ]
    assert [with_unit("1, 2", "ms"), with_unit("1, 2", "1")] == ["1, 2 ms", "1, 2"]


def test_what_was_not_set_is_none_in_words():
    row = Difference(what="settings › slowdown", baseline=None, candidate=0.3)
    assert difference_text(row) == "settings › slowdown none → 0.3"
    assert difference_text(Difference(what="graphs", baseline=True, candidate=False)) == "graphs yes → no"


def test_no_module_has_a_format_of_its_own():
    own = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if str(path.relative_to(PACKAGE)) not in NO_READINGS
        for line in path.read_text().splitlines()
        if OWN_FORMAT.search(line) and "float(f" not in line  # rounds what is stored
    ]
    assert own == []
