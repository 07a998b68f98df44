"""What a sender really did: gaps between requests that left, against the distribution that was asked for, and lateness.

Every plan is seeded, so what can differ from run to run is the sender's lateness.  A busy machine makes that large for a
while; a sender that is wrong is wrong each time, so each plan has some tries.
"""

import json
from statistics import median

import pytest
from scipy import stats

from pytest_slmperf.contrib.mock_server.plan import MockPlan
from pytest_slmperf.contrib.mock_server.process import MockServer
from pytest_slmperf.load.arrivals import Arrivals, Constant, Gamma, poisson
from pytest_slmperf.load.http.run_clients import drive
from pytest_slmperf.load.plan import LoadPlan, Target
from pytest_slmperf.load.rows import PlannedRequest

RATE, SECONDS, SEED, TRIES = 100.0, 1.5, 11, 5
GAP = 1 / RATE
SURE = 0.01  # the p-value under which gaps are taken to be of another distribution
BODY = json.dumps({"model": "mock", "prompt": [1, 2, 3], "max_tokens": 2, "stream": True})


@pytest.fixture(scope="module")
def server():
    # an answer takes many gaps, so that a sender that waits for it cannot keep the schedule, and comes between two sends
    with MockServer(MockPlan(ttft_s=0.133, itl_s=0.02)) as running:
        yield running


def sent(server: MockServer, arrivals: Arrivals, clients: int) -> tuple[list[float], list[float]]:
    """Seconds after the start at which each request left by its own record, and by that of the server's kernel."""
    due = arrivals.times(SECONDS, SEED)
    server.truth(clear=True)
    requests = [PlannedRequest(k, BODY, due=at, n_in=3, n_out=2) for k, at in enumerate(due)]
    outcome = drive(Target(server.url, key_env=None), LoadPlan(requests, clients=clients))
    assert [error for error in outcome.requests.error if error] == []
    recorded = sorted((at - outcome.start_ns) / 1e9 for at in outcome.requests.sent_ns)
    received = sorted((row["received_ns"] - outcome.start_ns) / 1e9 for row in server.truth(clear=True))
    assert len(recorded) == len(received) == len(due)
    return recorded, received


def gaps(times: list[float]) -> list[float]:
    return [b - a for a, b in zip([0.0, *times], times, strict=False)]


def growth(times: list[float], due: list[float]) -> float:
    """By how much lateness grew within the run, in seconds: the lower end of the 95 % interval of Theil's slope."""
    late = [at - planned for at, planned in zip(times, due, strict=True)]
    assert min(late) >= 0.0
    return stats.theilslopes(late, due)[2] * SECONDS


@pytest.mark.parametrize(
    ("arrivals", "asked"),
    [
        (poisson(RATE), stats.expon(scale=GAP)),
        (Gamma(RATE, 4.0), stats.gamma(4.0, scale=GAP / 4)),
        (Gamma(RATE, 0.5), stats.gamma(0.5, scale=2 * GAP)),
        (Constant(RATE), None),
    ],
    ids=["poisson", "regular", "bursty", "constant"],
)
def test_gaps_between_sends_are_those_asked_for_and_lateness_has_no_trend(server, arrivals, asked):
    due = arrivals.times(SECONDS, SEED)
    found = []
    for turn in range(TRIES):
        both = sent(server, arrivals, clients=1 + turn % 3)
        if asked is not None:  # Kolmogorov and Smirnov
            fits = [stats.kstest(gaps(times), asked.cdf).pvalue > SURE for times in both]
        else:  # all in one point: most gaps are there
            fits = [median(abs(gap - GAP) for gap in gaps(times)[1:]) < 0.2 * GAP for times in both]
        grown = [growth(times, due) for times in both]
        if all(fits) and max(grown) < 0.1 * GAP:
            return
        found.append((fits, grown))
    pytest.fail(f"gaps right and seconds by which lateness grew, by the sender's record and by the server's: {found}")


def test_a_sender_that_rests_for_each_gap_would_not_pass():
    """Each rest ends 2 ms late, and so do all that follow."""
    due = poisson(RATE).times(SECONDS, SEED)
    slow = [at + 0.002 * k for k, at in enumerate(due, 1)]
    assert stats.kstest(gaps(slow), stats.expon(scale=GAP).cdf).pvalue < SURE / 10
    assert growth(slow, due) > 0.1 * GAP


@pytest.mark.parametrize("arrivals", [poisson(RATE), Gamma(RATE, 4.0)], ids=["poisson", "regular"])
def test_gaps_that_vary_would_not_pass_as_constant(arrivals):
    assert median(abs(gap - GAP) for gap in gaps(arrivals.times(SECONDS, SEED))) > 0.25 * GAP
