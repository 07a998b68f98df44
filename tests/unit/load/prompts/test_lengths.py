from random import Random
from statistics import mean

import pytest
from scipy import stats

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.prompts import lengths


@pytest.mark.parametrize("name", ["azure-2023-conv", "azure-2023-code"])
@pytest.mark.parametrize("side", [0, 1])
def test_draws_follow_the_published_quantiles(name, side):
    table = lengths.quantile_tables()[name][side]
    random = Random(5)
    drawn = [table.draw(random) for _ in range(4000)]
    for share, tokens in zip(table.shares[1:-1], table.tokens[1:-1], strict=True):
        below = sum(value <= tokens for value in drawn) / len(drawn)
        # whole tokens: the share at a quantile is at least that quantile's, and above it only where values tie
        assert below >= share - 4 * (share * (1 - share) / len(drawn)) ** 0.5
    assert min(drawn) >= table.tokens[0]
    assert max(drawn) <= table.tokens[-1]


def test_table_is_the_published_one():
    inputs, outputs = lengths.quantile_tables()["azure-2023-conv"]
    assert inputs.at(0.5) == 1020
    assert outputs.at(0.99) == 601
    assert outputs.at(0.25) == pytest.approx((77 + 91) / 2)


def test_scale_keeps_the_shape():
    full, small = lengths.named("azure-2023-code"), lengths.named("azure-2023-code", scale=0.1)
    assert small.input.at(0.9) == pytest.approx(0.1 * full.input.at(0.9))  # type: ignore[attr-defined]


def test_sharegpt_like_is_centred_on_the_published_means():
    pair = lengths.named("sharegpt-like")
    drawn = lengths.draw_pairs(pair, 20_000, seed=1)
    assert mean(n_in for n_in, _ in drawn) == pytest.approx(161, rel=0.05)
    assert mean(n_out for _, n_out in drawn) == pytest.approx(338, rel=0.15)  # the clip at 1024 takes some of its tail
    assert stats.skew([n_in for n_in, _ in drawn]) > 1


def test_limit_cuts_input_first():
    pair = lengths.LengthPair("x", lengths.Fixed(100), lengths.Fixed(50))
    assert lengths.draw_pairs(pair, 2, 0, limit=120) == [(70, 50), (70, 50)]
    assert lengths.draw_pairs(pair, 1, 0, limit=30) == [(1, 29)]


def test_seeded():
    pair = lengths.named("azure-2023-conv")
    assert lengths.draw_pairs(pair, 50, 3) == lengths.draw_pairs(pair, 50, 3)
    assert lengths.draw_pairs(pair, 50, 3) != lengths.draw_pairs(pair, 50, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lengths.Fixed(0),
        lambda: lengths.Fixed(True),
        lambda: lengths.Uniform(5, 4),
        lambda: lengths.Quantiles((0, 1), (5, 4)),
        lambda: lengths.Quantiles((0.1, 1), (4, 5)),
        lambda: lengths.named("azure-2099"),
        lambda: lengths.named("sharegpt-like", scale=0),
        lambda: lengths.draw_pairs(lengths.named("sharegpt-like"), 1, 0, limit=1),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(InvalidInput):
        make()
