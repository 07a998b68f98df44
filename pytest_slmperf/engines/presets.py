"""From the name of a model to the model: an architecture preset, a folder on this machine, or an id on the model hub."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.model import architecture
from pytest_slmperf.util import files as atomic_write
from pytest_slmperf.util import read_file
from pytest_slmperf.util.checks import near_names
from pytest_slmperf.util.files import cache_folder, temporary_folder

CONFIG = "config.json"
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a name stands for.

    kind:       "preset" (architecture figures shipped here, no weights), "folder" or "hub"
    name:       the preset's name, the folder, or the hub id
    config:     its ``config.json``; empty for a hub id, whose config is not on this machine
    parameters: published count (presets)
    """

    kind: Literal["preset", "folder", "hub"]
    name: str
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    parameters: int | None = None
    hub_id: str | None = None
    gated: bool = False

    @property
    def default_weights(self) -> str:
        return "dummy" if self.kind == "preset" else "real"

    @property
    def quantization(self) -> str | None:
        """The quantization method of the weights by the model's config; None for plain weights."""
        quantization = self.config.get("quantization_config") or self.config.get("compression_config")
        if not quantization:
            return None
        return str((isinstance(quantization, dict) and quantization.get("quant_method")) or "unnamed")

    def kv_bytes_per_token(self, dtype: str | None = None) -> int | None:
        """Bytes of KV cache per token; None if they do not follow from the config, or for an unknown layout."""
        try:
            return architecture.kv_bytes_per_token(self.config, dtype)
        except (KeyError, TypeError, ValueError, ZeroDivisionError, architecture.UnknownFormat):
            return None

    def weight_bytes(self, dtype: str | None = None) -> int | None:
        """Bytes of the weights at this dtype; None for an architecture without a formula here.

        Quantized weights are as large as their files; without files, this is an upper bound.
        """
        if self.quantization is not None and (stored := self._stored_bytes()) is not None:
            return stored
        try:
            return architecture.weight_bytes(self.config, dtype)
        except (KeyError, TypeError, ValueError, ZeroDivisionError, architecture.UnknownArchitecture):
            return self._stored_bytes()

    def _stored_bytes(self) -> int | None:
        if self.kind != "folder":
            return None
        return sum(path.stat().st_size for path in Path(self.name).glob("*.safetensors")) or None


@cache
def presets() -> dict[str, Model]:
    """Every shipped preset by name."""
    models = {}
    for entry in files("pytest_slmperf.engines").joinpath("models").iterdir():
        if entry.name.endswith(".json"):
            data = json.loads(entry.read_text("utf-8"))
            models[data["name"]] = Model(
                "preset", data["name"], data["config"], data["parameters"], data["hub_id"], data["gated"]
            )
    return dict(sorted(models.items(), key=lambda item: (item[0].split("-")[0], item[1].parameters or 0)))


def resolve_model(name: str, weights: str | None = None) -> Model:
    """The model of ``name``. A preset has priority over a folder of the same name; ``./NAME`` is always a folder.

    With ``weights="dummy"`` the hub id of a preset means the preset, so that nothing is downloaded.  InvalidInput with the
    fix for an unknown name.
    """
    known = presets()
    if name.lower() in known:
        if weights == "real":
            preset = known[name.lower()]
            raise InvalidInput(
                f"model {name!r} is an architecture preset and has no weights; for real ones name a folder or a hub id "
                f"such as {preset.hub_id!r}" + (" (gated: its licence must be accepted there)" if preset.gated else "")
            )
        return known[name.lower()]
    folder = Path(name).expanduser()
    try:
        if name and read_file.exists(folder):
            return _folder(name, folder)
    except BaselineError as error:
        raise InvalidInput(str(error)) from error
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or "\\" in name:
        raise InvalidInput(f"model folder {name!r} does not exist")
    if HUB_ID.fullmatch(name):
        if weights == "dummy":
            for preset in known.values():
                if preset.hub_id == name:
                    return preset
        return Model("hub", name, hub_id=name)
    near = near_names(name.lower(), known, 3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise InvalidInput(
        f"unknown model {name!r}: {hint}presets are {', '.join(known)}; otherwise give a folder with a {CONFIG}, "
        "or a hub id of the form owner/name"
    )


def _folder(name: str, folder: Path) -> Model:
    config = folder / CONFIG
    if not read_file.is_folder(folder):
        raise InvalidInput(f"model {name!r} is a file; name the folder that holds its {CONFIG}")
    if not read_file.exists(config):
        raise InvalidInput(
            f"model folder {name!r} has no {CONFIG}; name the folder that holds it and the weights (for a GGUF file, "
            "convert it with transformers first)"
        )
    data = read_file.read(config, read_file.MOST_CONFIG)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{config}: not a readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{config}: holds no JSON object")
    return Model("folder", str(folder.resolve()), content)


def config_folder(model: Model, cache_dir: Path | None = None) -> Path:
    """A folder with nothing but the preset's ``config.json``, for dummy weights; the same folder at every call."""
    text = json.dumps(model.config, indent=1, sort_keys=True) + "\n"
    name = f"{model.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    try:
        return _write_config((cache_dir or cache_folder() / "models") / name, text)
    except (OSError, BaselineError):  # a home that cannot be written to
        return _write_config(temporary_folder() / "models" / name, text)


def _write_config(folder: Path, text: str) -> Path:
    target = folder / CONFIG
    if read_file.exists(target) and read_file.read(target, read_file.MOST_CONFIG) == text.encode():
        return folder
    atomic_write.replace(target, text.encode())
    return folder
