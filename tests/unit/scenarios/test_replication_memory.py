"""What K replicas leave for the KV cache of each."""

import pytest

from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
from pytest_slmperf.engines.vllm.adapter import VllmAdapter
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.replication import Replication


def test_a_further_simulated_engine_takes_its_weights_and_what_is_said_beside_them():
    work = Replication(replicas=2, batch=8, input_len=16, output_len=16)
    spec = SimulatedAdapter().resolve(EngineSpec("simulated", "opt-1.3b", kv_cache_tokens=265_000))
    weights, token = 2_631_516_160, 2 * 24 * 2048 * 2
    assert work.kv_each(spec, SimulatedAdapter()) == int((265_000 - weights / token) // 2)
    larger = spec.with_settings(runtime_gb=2.0)
    assert work.kv_each(larger, SimulatedAdapter()) == int((265_000 - (weights + 2e9) / token) // 2)


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        ("owner/name", (), "the size of owner/name is not known, .*; name a preset, or a local folder"),
        (
            "opt-125m",
            (("kv_cache_dtype", "fp8_ds_mla"),),
            "KV cache in fp8_ds_mla takes .*; choose another kv_cache_dtype",
        ),
    ],
)
def test_the_mend_is_not_the_budget_that_was_given_already(model, settings, says):
    spec = EngineSpec("vllm", model, device="cuda:0", kv_cache_tokens=4096, settings=settings)
    with pytest.raises(InvalidInput, match=says):
        Replication(replicas=2, batch=8, input_len=16, output_len=16).kv_each(spec, VllmAdapter())
