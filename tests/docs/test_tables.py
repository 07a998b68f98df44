"""Tables that were copied from a benchmark's output: what they count adds up."""

import re

import pytest
from support.doc_blocks import ROOT


@pytest.mark.parametrize("page", ["docs/explanation/verdicts.md", "benchmarks/data/detection_real.txt"])
def test_every_real_session_stands_in_one_column(page):
    """A session that was judged by nothing (incomparable) was counted and stood nowhere."""
    rows = re.findall(
        r"^\|([^|]+\|[^|]+\|[^|]+)\| +(\d+) +\| +\d+ +\| (\d+(?: / \d+)+) +\|", (ROOT / page).read_text(), re.M
    )
    assert len(rows) == 10
    for name, sessions, verdicts in rows:
        assert sum(map(int, verdicts.split(" / "))) == int(sessions), name
