"""A preset's dummy weights, written once as safetensors under the cache folder and mapped by every launch.

Engines that make their own dummy weights draw a random number per parameter at every start: 3 s for 125 million parameters
on one core, against 0.3 s to read them from the page cache.  The distribution is vLLM's: uniform in ±0.001.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_slmperf.engines.presets import CONFIG, Model
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.model import architecture
from pytest_slmperf.util import files
from pytest_slmperf.util.files import cache_folder

if TYPE_CHECKING:  # numpy is imported where weights are written, not by every process that starts an engine
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1  # of the folder; incremented with every change of names, shapes or values
WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
MOST_BYTES = 8 * 2**30  # of one model; larger files take longer to read than the launches would save
SPREAD = 1e-3
NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # dtypes, as safetensors names them
DRAWN_AT_ONCE = 1 << 24

Shape = tuple[int, ...]


class Manifest(msgspec.Struct, kw_only=True):
    """The expected properties of the folder's weights file."""

    format: int
    size: int
    sha256: str


_checked: set[tuple[str, int, int]] = set()  # files whose hash this process has verified


def folder_of(model: Model, dtype: str | None, tell: Callable[[str], None], cache: Path | None = None) -> Path | None:
    """A folder with the preset's ``config.json`` and its weights, written now unless it exists.

    None if the engine must make its own weights: for a model that is not supported here (not a preset, too large, another
    dtype or family), or because of a fault of the cache folder, whose reason goes to ``tell``.
    """
    name = str(dtype or "").removeprefix("torch.")
    size = model.weight_bytes(name)
    known = model.kind == "preset" and name in NAMES and model.config.get("model_type") in FAMILIES
    if not known or size is None or size > MOST_BYTES:
        return None
    text = json.dumps(model.config, indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    folder = (cache or cache_folder()) / "weights" / f"{model.name}-{digest}-{name}-{FORMAT}"
    wrong = _wrong(folder)
    if wrong is None:
        return folder
    try:
        with files.locked(folder):
            files.drop_leftovers(folder)
            if (folder / WEIGHTS).exists() and (wrong := _wrong(folder)) is not None:
                tell(f"cached weights are written again: {wrong}")
            if wrong is not None and _wrong(folder) is not None:
                _write(folder, text, tensors(model.config), name, size)
    except (OSError, BaselineError) as error:
        tell(f"weights are not kept, every launch fills its own: {_why(folder, error)}")
        return None
    return folder


def _why(folder: Path, error: OSError | BaselineError) -> str:
    return str(files.cannot_write(folder, error) if isinstance(error, OSError) else error)


def _wrong(folder: Path) -> str | None:
    """The fault of a folder's weights, naming the file, or None. Each process computes the hash once."""
    path = folder / WEIGHTS
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        status = path.stat()
    except (OSError, msgspec.DecodeError) as error:
        return f"{folder}: {error}"
    if manifest.format != FORMAT:
        return f"{folder}: made by another version (format {manifest.format}, this one writes {FORMAT})"
    if status.st_size != manifest.size:
        return f"{path}: has {status.st_size} bytes instead of {manifest.size}"
    key = (str(path), status.st_mtime_ns, status.st_ino)
    if key not in _checked:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{path}: {error.strerror}"
        if digest != manifest.sha256:
            return f"{path}: its SHA-256 is not the one it was written with"
        _checked.add(key)
    return None


def _write(folder: Path, config: str, shapes: Mapping[str, Shape], dtype: str, size: int) -> None:
    if shutil.disk_usage(folder).free < 2 * size:
        raise BaselineError(f"{folder}: {size / 2**30:.1f} GiB are needed and less than twice as much is free")
    temporary = folder / f".{WEIGHTS}-{os.getpid()}.tmp"
    digest, written = hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            for chunk in _file(shapes, dtype):
                file.write(chunk)
                digest.update(chunk)
                written += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o444)
        temporary.replace(folder / WEIGHTS)
    finally:
        temporary.unlink(missing_ok=True)
    files.replace(folder / CONFIG, config.encode())
    manifest = Manifest(format=FORMAT, size=written, sha256=digest.hexdigest())
    files.replace(folder / MANIFEST, msgspec.json.encode(manifest) + b"\n")


def _file(shapes: Mapping[str, Shape], dtype: str) -> Iterator[bytes]:
    """A safetensors file (length of the header, header, tensors in its order), piece by piece."""
    import numpy as np

    width, header, end = architecture.dtype_bytes(dtype), {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + width * math.prod(shape)
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    rng = np.random.default_rng(0)
    for shape in shapes.values():
        left = math.prod(shape)
        while left:
            count = min(left, DRAWN_AT_ONCE)
            left -= count
            yield _encode((rng.random(count, dtype=np.float32) - np.float32(0.5)) * np.float32(2 * SPREAD), dtype)


def _encode(values: NDArray[np.float32], dtype: str) -> bytes:
    import numpy as np

    if dtype == "bfloat16":  # the upper half of a float32: truncating instead of rounding is fine for random numbers
        return (values.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    return values.astype("<f2" if dtype == "float16" else "<f4").tobytes()


def tensors(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Names and shapes of the tensors in the model's checkpoint (Hugging Face transformers), without tied heads.

    UnknownArchitecture for families other than OPT, Llama and Qwen2. GPT-NeoX is left out because the name of its head
    changed, and each version of vLLM reads one of the two names.
    """
    make = FAMILIES.get(str(config.get("model_type")))
    if make is None:
        raise architecture.UnknownArchitecture(f"model_type {config.get('model_type')!r}")
    return make(dict(config))


def _linear(name: str, rows: int, columns: int, bias: bool = True) -> dict[str, Shape]:
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _opt(config: dict[str, Any]) -> dict[str, Shape]:
    hidden, feed, vocabulary = config["hidden_size"], config["ffn_dim"], config["vocab_size"]
    projection = config.get("word_embed_proj_dim") or hidden
    top = "model.decoder"
    shapes: dict[str, Shape] = {f"{top}.embed_tokens.weight": (vocabulary, projection)}
    shapes[f"{top}.embed_positions.weight"] = (config["max_position_embeddings"] + 2, hidden)
    if projection != hidden:
        shapes |= _linear(f"{top}.project_in", hidden, projection, False)
        shapes |= _linear(f"{top}.project_out", projection, hidden, False)
    if config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False):
        shapes |= _norm(f"{top}.final_layer_norm", hidden)
    for number in range(architecture.layers(config)):
        layer = f"{top}.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{part}", hidden, hidden)
        shapes |= _norm(f"{layer}.self_attn_layer_norm", hidden)
        shapes |= _linear(f"{layer}.fc1", feed, hidden) | _linear(f"{layer}.fc2", hidden, feed)
        shapes |= _norm(f"{layer}.final_layer_norm", hidden)
    return shapes if _tied(config) else shapes | {"lm_head.weight": (vocabulary, projection)}


def _llama(config: dict[str, Any]) -> dict[str, Shape]:
    hidden, feed, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * architecture.head_dim(config)
    keys = architecture.kv_heads(config) * architecture.head_dim(config)
    every = bool(config.get("attention_bias"))
    bias = every or config["model_type"] == "qwen2"
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for number in range(architecture.layers(config)):
        layer = f"model.layers.{number}"
        shapes |= _linear(f"{layer}.self_attn.q_proj", queries, hidden, bias)
        shapes |= _linear(f"{layer}.self_attn.k_proj", keys, hidden, bias)
        shapes |= _linear(f"{layer}.self_attn.v_proj", keys, hidden, bias)
        shapes |= _linear(f"{layer}.self_attn.o_proj", hidden, queries, every)
        shapes |= _linear(f"{layer}.mlp.gate_proj", feed, hidden, False)
        shapes |= _linear(f"{layer}.mlp.up_proj", feed, hidden, False)
        shapes |= _linear(f"{layer}.mlp.down_proj", hidden, feed, False)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    return shapes if _tied(config) else shapes | {"lm_head.weight": (vocabulary, hidden)}


def _tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", config.get("model_type") == "opt"))


FAMILIES = {"opt": _opt, "llama": _llama, "qwen2": _llama}
