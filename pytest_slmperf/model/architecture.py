"""Figures that follow from a model's ``config.json``: parameters, bytes of weights and KV cache, operations per token.

Standard library only and Python 3.10: the parent uses it, and the engine's process loads it by path.
Counts follow the model definitions of Hugging Face transformers (OPT, GPT-NeoX, Llama, Qwen2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DTYPE_BYTES = {
    "float32": 4,
    "float": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "float8_e4m3fn": 1,
    "int8": 1,
}
KV_FP8 = ("fp8_e4m3", "fp8_e5m2", "fp8_inc", "float8_e5m2")
KV_BLOCK = {"cpu": 128, "cuda": 16}  # tokens in a block of vLLM's KV cache, by kind of device


class UnknownArchitecture(ValueError):
    """The formulas below do not cover this ``model_type``."""


class UnknownFormat(ValueError):
    """A format of the KV cache whose bytes are unknown here."""


@dataclass(frozen=True)
class Counts:
    """A model's parameters by their use in a step.

    multiplied: with the token of every sequence (matrices of the layers, the output head, tied or not)
    added:      used element by element (biases, norms)
    looked_up:  of which single rows are read (an embedding that is not tied to the head, learned positions)
    """

    multiplied: int
    added: int
    looked_up: int


def dtype_bytes(dtype: str | None) -> int:
    """Bytes of one number; two for an unknown name (as for every half-precision type)."""
    return DTYPE_BYTES.get(str(dtype or "").removeprefix("torch."), 2)


def config_dtype(config: dict[str, Any]) -> str | None:
    """The dtype a config names: ``dtype`` since transformers 4.56, ``torch_dtype`` before."""
    value = config.get("dtype") or config.get("torch_dtype")
    return str(value).removeprefix("torch.") if value else None


def layers(config: dict[str, Any]) -> int:
    return int(config["num_hidden_layers"])


def kv_heads(config: dict[str, Any]) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def kv_bytes_per_token(config: dict[str, Any], dtype: str | None = None) -> int:
    """Bytes of one token in the KV cache: keys and values of every layer's KV heads.

    ``dtype``: a result of ``kv_dtype``; None: the config's. UnknownFormat for a format of unknown layout.
    """
    return 2 * layers(config) * kv_heads(config) * kv_head_bytes(head_dim(config), dtype or config_dtype(config))


def kv_dtype(setting: Any, dtype: str | None) -> str | None:
    """The format of keys and values: the engine's ``kv_cache_dtype``, or the model's dtype if that is absent or "auto"."""
    name = str(setting or "auto").removeprefix("torch.")
    return dtype if name == "auto" else name


def kv_head_bytes(size: int, dtype: str | None) -> int:
    """Bytes of one token's keys (or values) in one head of ``size`` numbers.

    Source: vLLM's attention back ends (``customize_spec`` of Triton's and FlashInfer's): a scale in float32 per token and
    head, or a scale of 8 bits per 16 numbers of 4 bits. The scale of fp8 is per tensor and takes no space here.
    UnknownFormat for any other format, such as those of models with latent attention.
    """
    name = str(dtype or "auto").removeprefix("torch.")
    if name in ("fp8_per_token_head", "int8_per_token_head"):
        return size + 4
    if name == "int4_per_token_head":
        return size // 2 + 4
    if name in ("nvfp4", "nvfp4_4over6"):
        return size // 2 + size // 16
    if name in ("auto", *DTYPE_BYTES):
        return size * dtype_bytes(name)
    if name in KV_FP8:
        return size
    raise UnknownFormat(f"kv_cache_dtype {name!r}")


def kv_cache_bytes(tokens: int, per_token: int, device: str) -> int:
    """Bytes of a KV cache for ``tokens``, in whole blocks: part of a block would be lost, and a request with it."""
    block = KV_BLOCK[device.partition(":")[0]]
    return -(-tokens // block) * block * per_token


def counts(config: dict[str, Any]) -> Counts:
    """The model's parameters, tied embeddings counted once. UnknownArchitecture outside the families named above."""
    family = config.get("model_type")
    if family == "opt":
        return _opt(config)
    if family == "gpt_neox":
        return _gpt_neox(config)
    if family in ("llama", "qwen2", "mistral"):
        return _llama(config)
    raise UnknownArchitecture(f"model_type {family!r}")


def parameters(config: dict[str, Any]) -> int:
    """Number of parameters, tied embeddings counted once. UnknownArchitecture outside the families named above."""
    count = counts(config)
    return count.multiplied + count.added + count.looked_up


def weight_bytes(config: dict[str, Any], dtype: str | None = None) -> int:
    """Bytes of the weights at this dtype (default: the config's)."""
    return parameters(config) * dtype_bytes(dtype or config_dtype(config))


def read_bytes(config: dict[str, Any], dtype: str | None = None) -> int:
    """Bytes of the weights that every step reads: all except tables whose rows are looked up."""
    count = counts(config)
    return (count.multiplied + count.added) * dtype_bytes(dtype or config_dtype(config))


def flops_per_token(config: dict[str, Any], context: int = 0) -> int:
    """Floating-point operations of matrix products for one token.

    Formula: 2·N + 4·L·H·Q·T with N multiplied weights, L layers, H heads of Q numbers, T = ``context``: the forward third of
    PaLM's 6·N + 12·L·H·Q·T (Chowdhery et al. 2022, appendix B), without biases, norms, activations, softmax and embeddings
    that are only looked up, as there.
    """
    attention = 4 * layers(config) * int(config["num_attention_heads"]) * head_dim(config) * context
    return 2 * counts(config).multiplied + attention


def _tied(config: dict[str, Any]) -> bool:
    # The defaults of the families, for configs without the key.
    return bool(config.get("tie_word_embeddings", config.get("model_type") == "opt"))


def _opt(config: dict[str, Any]) -> Counts:
    hidden, feed, vocabulary = int(config["hidden_size"]), int(config["ffn_dim"]), int(config["vocab_size"])
    projection = int(config.get("word_embed_proj_dim") or hidden)
    table = vocabulary * projection
    multiplied = layers(config) * (4 * hidden * hidden + 2 * hidden * feed) + table
    added = layers(config) * (4 * hidden + feed + hidden + 4 * hidden)
    if projection != hidden:
        multiplied += 2 * projection * hidden
    if config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False):
        added += 2 * hidden
    positions = (int(config["max_position_embeddings"]) + 2) * hidden
    return Counts(multiplied, added, positions + (0 if _tied(config) else table))


def _gpt_neox(config: dict[str, Any]) -> Counts:
    hidden, feed = int(config["hidden_size"]), int(config["intermediate_size"])
    table = int(config["vocab_size"]) * hidden
    multiplied = layers(config) * (4 * hidden * hidden + 2 * hidden * feed) + table
    added = layers(config) * (4 * hidden + feed + hidden + 4 * hidden) + 2 * hidden
    return Counts(multiplied, added, 0 if _tied(config) else table)


def _llama(config: dict[str, Any]) -> Counts:
    hidden, feed = int(config["hidden_size"]), int(config["intermediate_size"])
    table = int(config["vocab_size"]) * hidden
    queries, keys = int(config["num_attention_heads"]) * head_dim(config), kv_heads(config) * head_dim(config)
    multiplied = layers(config) * (2 * hidden * queries + 2 * hidden * keys + 3 * hidden * feed) + table
    block = 2 * hidden
    if config.get("model_type") == "qwen2" or config.get("attention_bias"):
        block += queries + 2 * keys
        if config.get("attention_bias"):
            block += hidden
    return Counts(multiplied, layers(config) * block + hidden, 0 if _tied(config) else table)
