"""optimum-benchmark's ``benchmark.json`` (with its config) and ``benchmark_report.json``: times in seconds.

Its prefill is the time to the first token of a batch, and its decode the time of the other tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, Setting
from pytest_slmperf.contrib.importers.run import Run

NAME = "optimum-benchmark"
TARGETS = ("load_dataset", "preprocess_dataset", "load_model", "load", "first_generate", "prefill", "decode", "per_token",
           "generate", "first_forward", "forward", "call", "per_step", "overall", "warmup", "train")  # fmt: skip

ENGINE_SETTINGS = ("torch_dtype", "dtype", "quantization_scheme", "attn_implementation", "cache_implementation",
                   "torch_compile", "device_map")  # fmt: skip


def recognises(document: Mapping[str, Any]) -> bool:
    report = document.get("report", document)
    return isinstance(report, dict) and any(
        isinstance(report.get(name), dict) and "latency" in report[name] for name in ("prefill", "forward", "decode")
    )


def runs(fields: Fields, swept: bool) -> list[Run]:
    whole = "report" in fields.values
    report = fields.below("report") if whole else fields
    config = fields.below("config") if whole else Fields(fields.file, {}, NAME)
    backend, scenario = config.below("backend"), config.below("scenario")
    work = _work(scenario)
    known = {"config", "report"} if whole else set(TARGETS)
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="offline",
            fields=fields.values,
            engine=backend.text("name"),
            engine_version=backend.text("version", "") or None,
            model=backend.text("model"),
            device=_device(backend, config.below("environment")),
            dtype=backend.text("torch_dtype", "") or None,
            engine_settings=backend.settings(ENGINE_SETTINGS),
            work=work,
            asked=work,
            unknown=sorted(name for name in fields.values if name not in known),
            values=_values(report, work),
            gates=(("output_throughput",), ("ttft_mean", "e2el_mean"), ("tpot_mean", "itl_mean")),
        )
    ]


def _device(backend: Fields, environment: Fields) -> str | None:
    """The device: its kind, the number of devices if there are several, and the device's name if the file has it."""
    kind = backend.text("device", "")
    gpus = environment.values.get("gpu")
    names = sorted({str(name).strip() for name in gpus}) if isinstance(gpus, list) and kind != "cpu" else []
    if kind == "cpu":
        names = [environment.text("cpu", "").strip()]
    number = len([part for part in backend.text("device_ids", "").split(",") if part.strip()])
    words = " and ".join(filter(None, names))
    several = f"{number} × " if number > 1 else ""
    return ", ".join(filter(None, (kind, f"{several}{words}".removesuffix(" × ")))) or None


def _work(scenario: Fields) -> dict[str, Setting]:
    shapes, generate = scenario.below("input_shapes"), scenario.below("generate_kwargs")
    shape = {
        "batch": shapes.setting("batch_size"),
        "input_len": shapes.setting("sequence_length"),
        "output_len": generate.setting("max_new_tokens"),
    }
    return {name: value for name, value in shape.items() if value is not None}


def _values(report: Fields, work: Mapping[str, Setting]) -> dict[str, list[float]]:
    seconds = {name: _times(report.below(name)) for name in ("prefill", "decode", "per_token", "forward")}
    values: dict[str, list[float]] = {}
    if seconds["forward"]:
        values["e2el_mean"] = [1000 * time for time in seconds["forward"]]
    if seconds["prefill"]:
        values["ttft_mean"] = [1000 * time for time in seconds["prefill"]]
    if seconds["per_token"]:
        values["itl_mean"] = [1000 * math.fsum(seconds["per_token"]) / len(seconds["per_token"])]
    if seconds["prefill"] and len(seconds["prefill"]) == len(seconds["decode"]):
        both = [first + rest for first, rest in zip(seconds["prefill"], seconds["decode"], strict=True)]
        values["e2el_mean"] = [1000 * time for time in both]
        batch, length = work.get("batch"), work.get("output_len")
        if isinstance(batch, int) and isinstance(length, int):
            values["output_throughput"] = [batch * length / time for time in both]
            if length > 1:
                values["tpot_mean"] = [1000 * time / (length - 1) for time in seconds["decode"]]
    return values


def _times(target: Fields) -> list[float]:
    latency = target.below("latency")
    if not latency.has("values"):
        return []
    if latency.text("unit", "") != "s":
        raise latency.wrong("unit", "not s")
    return latency.times("values")
