"""Where nearly every test went one way against its stored baseline, the session says that it is hardly the tests."""

from __future__ import annotations

import pytest

SUITE = """
import pytest

@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 8, 12])
def test_batch(slmperf, batch):
    slmperf.offline(batch=batch, input_len=16, output_len=16)
"""


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("step", "words"), [("10.2", "came out worse"), ("9.8", "came out better"), ("10", None)])
def test_a_slower_or_faster_day_is_named_once(perf, results, step, words):
    perf("--slmperf-set", "step_ms=10", "--slmperf-approve", suite=SUITE)
    done = perf("--slmperf-set", f"step_ms={step}", suite=SUITE)
    told = [note for note in results()["session"]["notes"] if "lies in what they share" in note]
    assert (f"7 of 7 tests {words}" in said(done.stdout.str())) == (words is not None)
    assert len(told) == (words is not None)


def test_a_duet_measures_both_sides_on_one_day(perf, results):
    perf("--slmperf-set", "step_ms=10.2", "--slmperf-against", "engine.step_ms=10", suite=SUITE)
    found = results()
    assert found["session"]["mode"] == "duet"
    assert all(result["verdicts"][0]["change"] < -0.01 for result in found["results"])
    assert not any("lies in what they share" in note for note in found["session"]["notes"])
