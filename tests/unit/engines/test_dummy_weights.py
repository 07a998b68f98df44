"""Dummy weights: written once, checked by size and hash, and done without where the cache folder does not allow it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pytest_slmperf.engines import dummy_weights
from pytest_slmperf.engines.dummy_weights import MANIFEST, WEIGHTS, folder_of, tensors
from pytest_slmperf.engines.presets import Model, presets
from pytest_slmperf.model import architecture

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
    "tie_word_embeddings": True,
}
TINY = Model("preset", "tiny", CONFIG)


@pytest.fixture
def heard(monkeypatch) -> list[str]:
    monkeypatch.setattr(dummy_weights, "_checked", set())
    return []


def read(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


WRITTEN = {name: model for name, model in presets().items() if model.config["model_type"] != "gpt_neox"}


@pytest.mark.parametrize("model", WRITTEN.values(), ids=list(WRITTEN))
def test_every_presets_tensors_hold_its_parameters(model) -> None:
    sizes = [int(np.prod(shape)) for shape in tensors(model.config).values()]
    assert sum(sizes) == architecture.parameters(model.config)


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_a_file_of_that_dtype_holds_random_numbers_of_the_engines_spread(tmp_path, heard, dtype, width) -> None:
    folder = folder_of(TINY, dtype, heard.append, tmp_path)
    header, body = read(folder / WEIGHTS)
    assert header.pop("__metadata__") == {"format": "pt"}
    assert {name: tuple(entry["shape"]) for name, entry in header.items()} == tensors(CONFIG)
    assert len(body) == width * architecture.parameters(CONFIG)
    begin, end = header["model.layers.1.mlp.up_proj.weight"]["data_offsets"]
    raw = body[begin:end]
    if dtype == "bfloat16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, "<f2" if dtype == "float16" else "<f4").astype(np.float32)
    assert np.all(np.abs(values) <= 1e-3)
    assert 4e-4 < np.std(values) < 7e-4
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert heard == []


def test_written_once_and_read_only(tmp_path, heard) -> None:
    first = folder_of(TINY, "bfloat16", heard.append, tmp_path)
    made = (first / WEIGHTS).stat()
    again = folder_of(TINY, "bfloat16", heard.append, tmp_path)
    assert again == first
    assert (first / WEIGHTS).stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_mode & 0o222 == 0
    assert folder_of(TINY, "float32", heard.append, tmp_path) != first


def spoil_a_byte(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    replace(folder / WEIGHTS, bytes(data))


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def shorten(folder: Path) -> None:
    replace(folder / WEIGHTS, (folder / WEIGHTS).read_bytes()[:-1])


def of_another_version(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    replace(folder / MANIFEST, json.dumps(manifest | {"format": 99}).encode())


def no_manifest(folder: Path) -> None:
    replace(folder / MANIFEST, b"{")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_a_byte, "SHA-256"),
        (shorten, "instead of"),
        (of_another_version, "another version"),
        (no_manifest, "truncated"),
    ],
)
def test_what_is_not_as_it_was_written_is_named_and_written_again(tmp_path, heard, spoil, why) -> None:
    folder = folder_of(TINY, "bfloat16", heard.append, tmp_path)
    whole = (folder / WEIGHTS).read_bytes()
    spoil(folder)
    assert folder_of(TINY, "bfloat16", heard.append, tmp_path) == folder
    assert len(heard) == 1
    assert why in heard[0]
    assert str(folder) in heard[0]
    assert (folder / WEIGHTS).read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_named_and_done_without(tmp_path, heard) -> None:
    (tmp_path / "file").write_text("in the way")
    assert folder_of(TINY, "bfloat16", heard.append, tmp_path / "file") is None
    assert "every launch fills its own" in heard[0]
    assert str(tmp_path / "file") in heard[0]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, heard, monkeypatch) -> None:
    usage = os.statvfs(tmp_path)
    free = usage.f_bavail * usage.f_frsize
    monkeypatch.setattr(dummy_weights, "MOST_BYTES", 2 * free)
    large = Model("preset", "large", CONFIG | {"vocab_size": free // 32})  # as large as what is free
    assert folder_of(large, "bfloat16", heard.append, tmp_path) is None
    assert "less than twice as much is free" in heard[0]
    assert not list(tmp_path.rglob("*.safetensors*"))


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        (Model("folder", "/models/mine", CONFIG), "bfloat16"),
        (TINY, None),
        (TINY, "fp8"),
        (presets()["pythia-160m"], "bfloat16"),
        (Model("preset", "vast", CONFIG | {"vocab_size": 10**9}), "bfloat16"),
    ],
)
def test_other_models_are_left_to_the_engine_without_a_word(tmp_path, heard, model, dtype) -> None:
    assert folder_of(model, dtype, heard.append, tmp_path) is None
    assert heard == []
