"""What is known of the machine's noise: stored sessions and today's finished tests, metric by metric."""

from __future__ import annotations

import math
import random

from pytest_slmperf.measuring.judge import Noise
from pytest_slmperf.model.verdict import LaunchSample
from pytest_slmperf.statistics.variance import STATED_PRIOR


def launches(sd, count, seed, session="s", paired=False):
    rng = random.Random(seed)
    return [
        LaunchSample([100 * math.exp(rng.gauss(0, sd))], session=session, pair=number if paired else None)
        for number in range(count)
    ]


def test_without_anything_known_the_stated_prior_stands():
    assert Noise(lambda fingerprint: {}).prior("here", ["output_throughput"]) == STATED_PRIOR


def test_the_store_is_read_once_for_each_fingerprint():
    asked = []

    def read(fingerprint):
        asked.append(fingerprint)
        return {}

    noise = Noise(read)
    for fingerprint in ("a", "a", "b", "a"):
        noise.prior(fingerprint, ["output_throughput"])
    assert asked == ["a", "b"]


def test_only_the_same_metric_tells():
    stored = {("t", "engine_start_time"): launches(0.2, 12, 1), ("t", "output_throughput"): launches(0.003, 12, 2)}
    noise = Noise(lambda fingerprint: stored)
    assert math.sqrt(noise.prior("here", ["output_throughput"]).launch_var) < 0.01
    assert math.sqrt(noise.prior("here", ["engine_start_time"]).launch_var) > 0.1


def test_finished_tests_of_today_count():
    noise = Noise(lambda fingerprint: {})
    for number in range(6):
        noise.add(f"t{number}", "output_throughput", launches(0.002, 4, number))
    prior = noise.prior("here", ["output_throughput"])
    assert math.sqrt(prior.launch_var) < 0.005
    assert "history" in prior.source


def test_a_real_change_since_the_stored_sessions_is_no_noise():
    """Today's launches of the same test stand apart from the stored ones."""
    stored = {(f"t{n}", "output_throughput"): launches(0.003, 4, n, "old") for n in range(6)}
    noise = Noise(lambda fingerprint: stored)
    before = noise.prior("here", ["output_throughput"])
    for n in range(6):
        slower = [LaunchSample([0.8 * one.rounds[0]], session="new") for one in launches(0.003, 4, 40 + n)]
        noise.add(f"t{n}", "output_throughput", slower)
    after = noise.prior("here", ["output_throughput"])
    assert after.session_var == before.session_var
    assert math.sqrt(after.launch_var) < 0.006


def test_pairs_of_finished_duets_are_what_the_next_duet_trusts():
    noise = Noise(lambda fingerprint: {(f"t{n}", "output_throughput"): launches(0.002, 4, n) for n in range(6)})
    for number in range(5):
        sides = (launches(0.03, 4, 2 * number, paired=True), launches(0.03, 4, 2 * number + 1, paired=True))
        noise.add_pair(f"d{number}", "output_throughput", sides)
    prior = noise.prior("here", ["output_throughput"])
    assert math.sqrt(prior.pair_var) > 0.02 > 0.01 > math.sqrt(prior.launch_var)
