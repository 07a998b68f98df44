"""What follows from a model's ``config.json`` alone: parameters, bytes of weights, bytes of KV cache per token.

Standard library only and Python 3.10: the parent uses it, and the engine's process loads it by path.
Counts follow the model definitions of Hugging Face transformers (OPT, GPT-NeoX, Llama, Qwen2).
"""

from __future__ import annotations

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


KV_BLOCK = {"cpu": 128, "cuda": 16}  # tokens in a block of vLLM's KV cache, by kind of device


class UnknownArchitecture(ValueError):
    """The formulae below do not cover this ``model_type``."""


def dtype_bytes(dtype: str | None) -> int:
    """Bytes of one number; two where the name is not known (every half-precision type)."""
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
    """Bytes that one token takes in the KV cache: keys and values of every layer's KV heads."""
    return 2 * layers(config) * kv_heads(config) * head_dim(config) * dtype_bytes(dtype or config_dtype(config))


def kv_dtype(setting: Any, dtype: str | None) -> str | None:
    """The dtype that keys and values are kept in: the setting ``kv_cache_dtype`` where it names one, else the model's."""
    name = str(setting or "auto").removeprefix("torch.")
    if name.startswith("fp8"):  # fp8_e4m3, fp8_e5m2, …
        return "fp8"
    return name if name in DTYPE_BYTES else dtype


def kv_cache_bytes(tokens: int, per_token: int, device: str) -> int:
    """Bytes of the KV cache that holds ``tokens``, in whole blocks: a share of one is lost, and with it a request."""
    block = KV_BLOCK[device.partition(":")[0]]
    return -(-tokens // block) * block * per_token


def parameters(config: dict[str, Any]) -> int:
    """Number of parameters, tied embeddings counted once. UnknownArchitecture outside the families named above."""
    family = config.get("model_type")
    if family == "opt":
        return _opt(config)
    if family == "gpt_neox":
        return _gpt_neox(config)
    if family in ("llama", "qwen2", "mistral"):
        return _llama(config)
    raise UnknownArchitecture(f"model_type {family!r}")


def weight_bytes(config: dict[str, Any], dtype: str | None = None) -> int:
    """Bytes of the weights at this dtype (default: the config's)."""
    return parameters(config) * dtype_bytes(dtype or config_dtype(config))


def flops_per_token(config: dict[str, Any], context: int = 0) -> int:
    """Floating-point operations to make one token: two per weight that is multiplied, and attention over ``context``.

    Embedding look-ups multiply nothing; the output head does (tied or not).
    """
    hidden, vocabulary = int(config["hidden_size"]), int(config["vocab_size"])
    embedding = vocabulary * int(config.get("word_embed_proj_dim") or hidden)
    positions = int(config["max_position_embeddings"]) * hidden if config.get("model_type") == "opt" else 0
    tied = _tied(config)
    multiplied = parameters(config) - positions - (0 if tied else embedding)
    attention = 4 * layers(config) * int(config["num_attention_heads"]) * head_dim(config) * context
    return 2 * multiplied + attention


def _tied(config: dict[str, Any]) -> bool:
    # The families' own defaults, for configs that leave the key out.
    return bool(config.get("tie_word_embeddings", config.get("model_type") == "opt"))


def _opt(config: dict[str, Any]) -> int:
    hidden, feed, vocabulary = config["hidden_size"], config["ffn_dim"], config["vocab_size"]
    projection = config.get("word_embed_proj_dim") or hidden
    attention = 4 * (hidden * hidden + hidden)
    block = attention + hidden * feed + feed + feed * hidden + hidden + 4 * hidden
    total = vocabulary * projection + (config["max_position_embeddings"] + 2) * hidden + layers(config) * block
    if projection != hidden:
        total += 2 * projection * hidden
    if config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False):
        total += 2 * hidden
    return int(total if _tied(config) else total + vocabulary * projection)


def _gpt_neox(config: dict[str, Any]) -> int:
    hidden, feed, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    block = 4 * (hidden * hidden + hidden) + 2 * hidden * feed + feed + hidden + 4 * hidden
    embeddings = vocabulary * hidden * (1 if _tied(config) else 2)
    return int(embeddings + layers(config) * block + 2 * hidden)


def _llama(config: dict[str, Any]) -> int:
    hidden, feed, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries, keys = config["num_attention_heads"] * head_dim(config), kv_heads(config) * head_dim(config)
    block = hidden * queries + 2 * hidden * keys + queries * hidden + 3 * hidden * feed + 2 * hidden
    if config.get("model_type") == "qwen2" or config.get("attention_bias"):
        block += queries + 2 * keys
        if config.get("attention_bias"):
            block += hidden
    embeddings = vocabulary * hidden * (1 if _tied(config) else 2)
    return int(embeddings + layers(config) * block + hidden)
