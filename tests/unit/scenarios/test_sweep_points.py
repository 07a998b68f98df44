"""The engine that each point of a sweep is measured with."""

import pytest

from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.sweep import Sweep


def points(**settings):
    sweep = Sweep.of({"input_len": 8, "output_len": 8, **settings})
    return sweep.points(EngineSpec("simulated", "opt-125m"), SimulatedAdapter().resolve)


@pytest.mark.parametrize("load", ["batch", "requests"])
def test_the_engines_limit_is_apart_from_how_many_are_sent(load):
    """The limit was that of the largest batch at every point, whatever it was called."""
    found = {
        (point.settings[load], point.settings["max_num_seqs"]): (point.work.batch, point.spec.max_num_seqs)
        for point in points(**{load: [1, 16], "max_num_seqs": [4, 8]})
    }
    assert found == {(sent, limit): (sent, limit) for sent in (1, 16) for limit in (4, 8)}


def test_a_limit_below_the_batch_stays():
    found = points(batch=[1, 16], max_num_seqs=4)
    assert [(point.work.batch, point.spec.max_num_seqs) for point in found] == [(1, 4), (16, 4)]
    assert len({point.spec for point in found}) == 1


def test_one_engine_serves_every_batch_or_limit_alone():
    assert {point.spec.max_num_seqs for point in points(batch=[1, 12])} == {16}
    assert {point.spec.max_num_seqs for point in points(max_num_seqs=[1, 12])} == {16}


def test_a_dry_run_finds_a_limit_that_the_model_was_not_made_for():
    with pytest.raises(InvalidInput, match="max_model_len 4096 is more than the 2048 that opt-125m was made for"):
        SimulatedAdapter().resolve(EngineSpec("simulated", "opt-125m", max_model_len=4096))
