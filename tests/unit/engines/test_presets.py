"""Presets hold true figures, and a model's name means one thing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pytest_slmperf.engines.presets import Model, config_folder, presets, resolve_model
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model import architecture
from pytest_slmperf.model.engine_spec import EngineSpec

LISTED = {
    # published parameter counts: the models' hub pages (safetensors metadata) and papers
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984,
    "opt-13b": 12_853_473_280,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "tinyllama-1.1b": 1_100_048_384,
}


def test_every_listed_model_is_there_and_no_other() -> None:
    assert {name: model.parameters for name, model in presets().items()} == LISTED


@pytest.mark.parametrize("name", LISTED)
def test_the_formula_gives_the_published_count(name: str) -> None:
    assert architecture.parameters(presets()[name].config) == LISTED[name]


def test_opt_350m_is_the_odd_one() -> None:
    config = presets()["opt-350m"].config
    assert (config["do_layer_norm_before"], config["word_embed_proj_dim"]) == (False, 512)


@pytest.mark.parametrize(
    ("name", "kv", "weights"),
    [
        ("opt-125m", 36_864, 250_478_592),  # 2 × 12 layers × 768 × 2 bytes
        ("opt-1.3b", 196_608, 2_631_516_160),
        ("smollm2-135m", 23_040, 269_030_016),  # 2 × 30 layers × 3 heads × 64 × 2 bytes
        ("qwen2.5-0.5b", 12_288, 988_065_536),
        ("llama-3.2-1b", 32_768, 2_471_628_800),
    ],
)
def test_bytes(name: str, kv: int, weights: int) -> None:
    model = presets()[name]
    assert (model.kv_bytes_per_token(), model.weight_bytes()) == (kv, weights)
    assert model.kv_bytes_per_token("float32") == 2 * kv


def test_flops_are_two_per_multiplied_weight_and_attention_over_the_context() -> None:
    llama = presets()["llama-3.2-1b"].config  # tied: the embedding multiplies as the head
    norms = (2 * 16 + 1) * 2048
    assert architecture.flops_per_token(llama) == 2 * (LISTED["llama-3.2-1b"] - norms)
    assert architecture.flops_per_token(llama, 100) - architecture.flops_per_token(llama) == 4 * 16 * 32 * 64 * 100
    pythia = presets()["pythia-160m"].config  # untied: the input embedding is only looked up
    biases_and_norms = 12 * (4 * 768 + 3072 + 768 + 4 * 768) + 2 * 768
    assert architecture.flops_per_token(pythia) == 2 * (LISTED["pythia-160m"] - 50_304 * 768 - biases_and_norms)


def test_an_architecture_without_a_formula_is_not_guessed() -> None:
    with pytest.raises(architecture.UnknownArchitecture, match="mamba"):
        architecture.parameters({"model_type": "mamba"})
    assert Model("hub", "a/b").weight_bytes() is None
    assert Model("hub", "a/b").kv_bytes_per_token() is None


def test_quantized_weights_are_as_large_as_their_files(tmp_path: Path) -> None:
    config = presets()["opt-125m"].config | {"quantization_config": {"quant_method": "gptq"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    dummy = resolve_model(str(tmp_path))
    assert dummy.quantization == "gptq"
    assert dummy.weight_bytes() == 2 * LISTED["opt-125m"]  # an upper bound, which is what memory is set aside by
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    assert resolve_model(str(tmp_path)).weight_bytes() == 1000


# names


def test_preset_by_name_in_any_case() -> None:
    assert resolve_model("OPT-125M").name == "opt-125m"
    assert resolve_model("opt-125m").default_weights == "dummy"


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    model = resolve_model(str(tmp_path))
    assert (model.kind, model.name, model.default_weights) == ("folder", str(tmp_path), "real")


def test_a_preset_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("opt-125m").mkdir()
    Path("opt-125m/config.json").write_text("{}")
    assert resolve_model("opt-125m").kind == "preset"
    assert resolve_model("./opt-125m").kind == "folder"


def test_hub_id_and_its_dummy_twin() -> None:
    assert resolve_model("facebook/opt-125m").kind == "hub"
    assert resolve_model("facebook/opt-125m", "dummy").kind == "preset"
    assert resolve_model("someone/else", "dummy").kind == "hub"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("opt-125", r"unknown model 'opt-125': did you mean opt-125m"),
        ("nonsense", r"presets are llama-3.2-1b, .* or a hub id of the form owner/name"),
        ("", "unknown model ''"),
        ("/nowhere/model", "model folder '/nowhere/model' does not exist"),
        ("./missing", "does not exist"),
        ("a/b/c", "does not exist"),
        ("../..", "has no config.json"),
        ("<script>alert(1)</script>", "unknown model|does not exist"),
        ("owner/", "unknown model"),
        ("🦙\n", "unknown model"),
    ],
)
def test_wrong_names_say_what_to_do(name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "deeper")
    with pytest.raises(InvalidInput, match=says):
        resolve_model(name)


def test_a_preset_has_no_real_weights() -> None:
    with pytest.raises(InvalidInput, match=r"'opt-125m' is an architecture preset .* 'facebook/opt-125m'"):
        resolve_model("opt-125m", "real")
    with pytest.raises(InvalidInput, match="gated"):
        resolve_model("llama-3.2-1b", "real")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "has no config.json"), ("{,", "not a readable JSON file"), ("[]", "no JSON object")],
)
def test_folders_that_hold_no_model(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidInput, match=says):
        resolve_model(str(tmp_path))


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.touch()
    with pytest.raises(InvalidInput, match="is a file"):
        resolve_model(str(file))


def test_the_bare_config_lies_in_the_same_place_every_time(tmp_path: Path) -> None:
    model = presets()["opt-125m"]
    first = config_folder(model, tmp_path)
    before = (first / "config.json").stat().st_mtime_ns
    assert config_folder(model, tmp_path) == first
    assert (first / "config.json").stat().st_mtime_ns == before
    assert [path.name for path in first.iterdir()] == ["config.json"]
    (first / "config.json").write_text("cut sho")
    assert json.loads((config_folder(model, tmp_path) / "config.json").read_text()) == model.config


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert (config_folder(presets()["opt-125m"], tmp_path / "x") / "config.json").exists()


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    assert (config_folder(presets()["opt-125m"], tmp_path / "cache") / "config.json").exists()


@pytest.mark.parametrize("longest", ["many", -5, 0, [1], True])
def test_a_window_that_is_no_number_is_refused_by_name(tmp_path, longest):
    folder = tmp_path / "odd"
    folder.mkdir()
    config = resolve_model("opt-125m", "dummy").config
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": longest}))
    spec = EngineSpec(engine="vllm", model=str(folder), weights="dummy", device="cpu")
    with pytest.raises(InvalidInput, match="max_position_embeddings in its config"):
        Registry(builtin_adapters()).get("vllm").resolve(spec)
