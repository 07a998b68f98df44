"""The full profile gives a launch with noisy rounds more of them; a number that was asked for is
the number measured, but for what it takes to see that the rounds are steady."""

from __future__ import annotations

import pytest

SUITE = """
import pytest

@pytest.mark.slmperf(launches=1, settings={{"noise_round": {noise}}}{more})
def test_one(slmperf):
    slmperf.offline(batch=1, input_len=8, output_len=8)
"""


@pytest.mark.parametrize(
    ("noise", "more", "least", "most"),
    [(0.0, "", 10, 10), (0.03, "", 16, 46), (0.03, ", rounds=6", 6, 12)],
    ids=["calm", "noisy", "asked for"],
)
def test_rounds_follow_their_noise(perf, results, noise, more, least, most):
    assert perf("--slmperf-profile", "full", suite=SUITE.format(noise=noise, more=more)).ret == 0
    (result,) = results()["results"]
    (launch,) = result["launches"]
    kept = result["metrics"]["output_throughput"]["launches"][0]
    assert least <= len(kept) <= most
    assert len(launch["rounds"]) > len(kept)  # the warm-up stands in the record and does not count
