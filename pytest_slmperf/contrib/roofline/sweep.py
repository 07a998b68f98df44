"""A sweep's points as shares of the device's limits, if its peaks are known or can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pytest_slmperf.contrib.roofline.measure import Device, figures_of, measured_cpu, published
from pytest_slmperf.contrib.roofline.page import shares
from pytest_slmperf.engines.presets import Model, resolve_model
from pytest_slmperf.environment.fingerprint import describe_gpus
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.measuring.context import active_profile
from pytest_slmperf.model.charts import RooflineChart
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.model.result import Result
from pytest_slmperf.scenarios.sweep import LOADS, Sweep


def annotate(result: Result, scenario: Sweep, spec: EngineSpec) -> None:
    """Add the roofline to a finished sweep's charts, or the reason why there is none to its notes."""
    chart = roofline(scenario, spec, result.points, may_measure=active_profile().profile == "full")
    if isinstance(chart, str):
        result.notes.append(chart)
    elif chart is not None:
        result.charts.roofline = chart


def roofline(
    scenario: Sweep, spec: EngineSpec, records: Sequence[Mapping[str, Any]], *, may_measure: bool
) -> RooflineChart | str | None:
    """The chart ``Result.charts.roofline``; None if the sweep varies more than the batch, if the model's figures or the
    device's peaks are unknown, and on a CPU unless ``may_measure`` (which takes some seconds).

    A sentence if an engine argument changes the bytes of a step in a way that is unknown here.
    """
    work = dict(scenario.fixed)
    if scenario.key_name not in ("batch", "max_num_seqs") or not {*LOADS, "max_num_seqs"}.isdisjoint(work):
        return None  # the engine's limit differs from the number of requests, or another setting varies
    device, named = _device(spec, may_measure), resolve_model(spec.model, spec.weights)
    if device is None:
        return None
    if (why := _not_known(spec, named)) is not None:
        return f"no roofline: {why}"
    model = figures_of(named, spec.dtype, spec.kv_dtype)
    if model is None:
        return None
    rows = [dict(row) | {"settings": {"batch": row["key"]}} for row in records if not row.get("failure")]
    return shares(rows, model, device, spec.dtype, input_len=int(work["input_len"]), output_len=int(work["output_len"]))


def _not_known(spec: EngineSpec, model: Model) -> str | None:
    """Why the figures are unknown: quantized weights have other bytes and another arithmetic, layer by layer."""
    if quantization := dict(spec.settings).get("quantization") or model.quantization:
        return f"what a step reads and computes with quantized weights ({quantization}) is not known here"
    if model.kv_bytes_per_token(spec.dtype) is not None and model.kv_bytes_per_token(spec.kv_dtype) is None:
        return f"how many bytes a KV cache in {spec.kv_dtype} takes is not known here"
    return None


def _device(spec: EngineSpec, may_measure: bool) -> Device | None:
    kind, _, number = (spec.device or "cpu").partition(":")
    if kind == "cuda":
        gpus = describe_gpus()[0]
        index = int(number or 0)
        return published(str(gpus[index].get("name"))) if index < len(gpus) else None
    if kind != "cpu" or not may_measure:
        return None
    return cpu_peaks(spec.dtype or "bfloat16", spec.cpus, spec.python)


@cache
def cpu_peaks(dtype: str, cpus: tuple[int, ...] | None, python: str | None) -> Device | None:
    """The CPU's peaks, measured once in a session. If the probe fails, there is no chart, but the sweep stays valid."""
    try:
        return measured_cpu(dtype, cpus, python=python)
    except SlmperfError:
        return None
