import random
import statistics

import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.knee import knee_uncertainty, kneedle, share_knee
from pytest_slmperf.frontier.points import Point


def curve(pairs):
    return [Point(key, {"t": value}) for key, value in pairs]


def test_published_knee_is_256_at_38_percent_of_the_kv_cache(sweep):
    knee = share_knee(sweep, "output_throughput", cost="kv_cache_peak")
    assert (knee.key, knee.interior, knee.method) == (256, True, "share")
    assert knee.share_of_peak == pytest.approx(0.957, abs=0.001)
    assert knee.cost == pytest.approx(38.05)


def test_kneedle_bends_earlier_than_the_share_rule(sweep):
    bend = kneedle(sweep, "output_throughput")
    assert bend.key == 128
    assert bend.share_of_peak == pytest.approx(0.841, abs=0.001)


def test_order_of_the_points_does_not_matter(sweep):
    shuffled = list(sweep)
    random.Random(3).shuffle(shuffled)
    assert share_knee(shuffled, "output_throughput") == share_knee(sweep, "output_throughput")
    assert kneedle(shuffled, "output_throughput") == kneedle(sweep, "output_throughput")


def test_a_curve_that_still_rises_has_no_interior_knee():
    knee = share_knee(curve([(1, 10), (2, 20), (4, 40)]), "t")
    assert (knee.key, knee.interior, knee.share_of_peak) == (4, False, 1.0)
    assert kneedle(curve([(1, 10), (2, 20), (3, 30)]), "t") is None  # a straight line


def test_of_points_with_one_key_the_fastest_is_the_knee():
    assert share_knee(curve([(1, 10), (2, 99), (2, 100), (2, 96)]), "t").share_of_peak == 1.0


def test_few_points():
    assert share_knee([], "t") is None
    assert share_knee(curve([(5, 7)]), "t").key == 5
    assert kneedle(curve([(5, 7)]), "t") is None
    assert share_knee(curve([(1, 0.0), (2, 0.0)]), "t") is None


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_share_out_of_range(share):
    with pytest.raises(InvalidInput, match="share of the peak"):
        share_knee(curve([(1, 1)]), "t", share=share)


def test_names_are_no_keys_for_a_knee():
    points = [Point("opt-125m", {"t": 1.0}), Point("opt-350m", {"t": 2.0})]
    with pytest.raises(InvalidInput, match="'opt-125m' is not a number"):
        kneedle(points, "t")


def launched(pairs, noise, seed, launches=3, rounds=4):
    draw = random.Random(seed)
    found = []
    for key, value in pairs:
        groups = []
        for _ in range(launches):
            launch = draw.gauss(1, noise)
            groups.append([value * launch * draw.gauss(1, noise) for _ in range(rounds)])
        mean = sum(sum(group) for group in groups) / (launches * rounds)
        found.append(Point(key, {"t": mean}, {}, {"t": groups}))
    return found


PAIRS = [(1, 10), (4, 38), (16, 120), (64, 260), (128, 294), (256, 300), (512, 301)]


def test_bootstrap_is_sure_of_a_sharp_knee_and_unsure_of_a_noisy_one():
    sharp = knee_uncertainty(launched(PAIRS, 0.002, 1), "t")
    noisy = knee_uncertainty(launched(PAIRS, 0.05, 1), "t")
    assert (sharp.low, sharp.high, sharp.support) == (128, 128, 1.0)
    assert noisy.support < 1
    assert noisy.low < noisy.high
    assert sum(noisy.keys.values()) == pytest.approx(1)


def test_bootstrap_of_kneedle_and_its_repeatability():
    points = launched(PAIRS, 0.01, 2)
    assert knee_uncertainty(points, "t", method="kneedle") == knee_uncertainty(points, "t", method="kneedle")
    assert knee_uncertainty(points, "t", method="kneedle").low >= 16


def test_bootstrap_needs_more_than_one_reading():
    assert knee_uncertainty(curve(PAIRS), "t") is None
    assert knee_uncertainty([Point(1, {"t": 1.0}, {}, {"t": [[1.0]]})], "t") is None


def test_readings_of_single_rounds_are_drawn_as_launches():
    """The rows of a table: 95 % of the peak is passed at 8 in most resamples and not in all."""
    draw = random.Random(1)
    readings = {8: [draw.gauss(96, 3) for _ in range(9)], 16: [draw.gauss(100, 3) for _ in range(9)], 4: [50.0] * 9}
    points = [
        Point(key, {"rate": statistics.fmean(found)}, launches={"rate": [[one] for one in found]})
        for key, found in readings.items()
    ]
    sure = knee_uncertainty(points, "rate", seed=3)
    assert sure == knee_uncertainty(points, "rate", seed=3)
    assert (sure.low, sure.high) == (8, 16)
    assert set(sure.keys) == {8, 16}
    assert 0.05 < sure.keys[16] < 0.6
