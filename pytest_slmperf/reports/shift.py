"""The note for a reader where nearly all tests of a comparison went one way."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_slmperf.judging.common_shift import common_shift
from pytest_slmperf.model.result import Result
from pytest_slmperf.reports.view import worseness_of
from pytest_slmperf.util.formatting import percent


def shift_notes(results: Iterable[Result]) -> list[str]:
    """One note, or none, for results compared with what was measured at another time; a duet needs none."""
    shift = common_shift([worse for result in results if (worse := worseness_of(result)) is not None])
    if shift is None:
        return []
    way, hint = (
        ("worse", "a duet (--slmperf-against) tells a slower machine from a slower engine")
        if shift.median > 0
        else ("better", "a single test that got worse by less than that does not show")
    )
    return [
        f"{shift.agree} of {shift.tests} tests came out {way} than their baselines, by "
        f"{percent(abs(shift.median)).lstrip('+')} in the median: so common a change lies in what they share (the machine "
        f"on that day, the engine, its settings), not in one test; {hint}"
    ]
