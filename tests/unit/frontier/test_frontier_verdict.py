import pytest

from pytest_slmperf.frontier.regression import frontier_verdict, point_metric, split_point_metric
from pytest_slmperf.model.verdict import Judgement


def judged(name, verdict, change=0.0):
    return Judgement(name, verdict, change, (change - 0.01, change + 0.01), f"{name} is {verdict}")


def verdict(rows, standings=None):
    return frontier_verdict([judged(*row) for row in rows], standings or {}, key_name="max_num_seqs")


def test_names():
    assert point_metric("output_throughput", 64) == "output_throughput@64"
    assert split_point_metric("output_throughput@64") == ("output_throughput", "64")
    assert split_point_metric("hypervolume") == ("hypervolume", None)


def test_a_slower_point_of_the_frontier_is_named():
    found = verdict(
        [("output_throughput@1", "same"), ("output_throughput@64", "regressed", -0.1), ("hypervolume", "same", -0.01)]
    )
    assert found.verdict == "regressed"
    assert found.lost == ("64",)
    assert found.reason == "the frontier moved back at max_num_seqs 64: output_throughput@64 −10.0 %"
    assert found.detail()["lost"] == ["64"]


def test_a_slower_point_that_was_dominated_takes_nothing_away():
    found = verdict(
        [("output_throughput@64", "same"), ("output_throughput@768", "regressed", -0.2), ("hypervolume", "same")],
        {"64": "frontier", "768": "dominated"},
    )
    assert found.verdict == "same"
    assert found.unseen == ("768",)
    assert "768 got worse too" in found.reason


def test_a_point_that_cannot_be_told_from_the_frontier_matters():
    assert verdict([("itl_mean@8", "regressed", 0.2)], {"8": "indistinguishable"}).verdict == "regressed"


def test_the_volume_alone_can_regress():
    found = verdict([("output_throughput@1", "inconclusive"), ("hypervolume", "regressed", -0.04)])
    assert found.verdict == "regressed"
    assert found.reason.startswith("the frontier as a whole moved back")


def test_gain_here_does_not_excuse_loss_there():
    found = verdict([("output_throughput@1", "improved", 0.3), ("output_throughput@64", "regressed", -0.1)])
    assert (found.verdict, found.won) == ("regressed", ("1",))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("output_throughput@1", "same"), ("hypervolume", "same")], "same"),
        ([("output_throughput@1", "improved", 0.1), ("hypervolume", "same")], "improved"),
        ([("output_throughput@1", "same"), ("hypervolume", "improved", 0.1)], "improved"),
        ([("output_throughput@1", "improved", 0.1), ("itl_mean@1", "inconclusive")], "inconclusive"),
        ([("output_throughput@1", "new"), ("hypervolume", "new")], "new"),
        ([("output_throughput@1", "new"), ("hypervolume", "incomparable")], "incomparable"),
        ([("output_throughput@1", "same"), ("output_throughput@64", "incomparable")], "incomparable"),
        ([("output_throughput@1", "same"), ("output_throughput@64", "new")], "same"),
        ([], "incomparable"),
    ],
)
def test_never_silently_green(rows, expected):
    assert verdict(rows).verdict == expected
