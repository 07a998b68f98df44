"""The roofline as a page: limits of every preset on a device, and measured points as a share of their limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_slmperf.contrib.roofline.limits import (
    ModelFigures,
    Peaks,
    offline_limit,
    ridge_batch,
    saturated_throughput,
    sequences_in_memory,
)
from pytest_slmperf.contrib.roofline.measure import DEVICES, Device
from pytest_slmperf.model.charts import RooflineChart, RooflinePoint

MB, GB = 1e6, 1e9


def peaks_of(device: Device, dtype: str | None) -> Peaks | None:
    """The device's peaks at this dtype; None if the table or measurement has none."""
    flops = device.flops_for(dtype)
    return None if flops is None else Peaks(device.bandwidth, flops)


def shares(
    records: Sequence[Mapping[str, Any]],
    model: ModelFigures,
    device: Device,
    dtype: str | None,
    *,
    input_len: int,
    output_len: int,
) -> RooflineChart | None:
    """Points of an offline sweep over the batch, compared with the device: the chart ``Result.charts.roofline``.

    None if the device's peaks at this dtype are unknown.  Each point: key, limit, measured, share, limiting resource.
    """
    peaks = peaks_of(device, dtype)
    if peaks is None:
        return None
    rows = []
    for record in records:
        batch = (record.get("settings") or {}).get("batch", record["key"])
        measured = record.get("output_throughput")
        if not isinstance(batch, int) or measured is None:
            continue
        limit = offline_limit(model, peaks, batch=batch, input_len=input_len, output_len=output_len)
        rows.append(
            RooflinePoint(
                key=record["key"],
                output_throughput=measured,
                limit=limit.output_throughput,
                itl_limit_ms=limit.itl_ms,
                share=limit.share(measured),
                bound=limit.bound,
            )
        )
    return RooflineChart(
        device=device.name,
        source=device.source,
        bandwidth_gb_s=peaks.bandwidth / GB,
        tflops=peaks.flops / 1e12,
        weights_mb=model.weight_bytes / MB,
        kv_bytes_per_token=model.kv_bytes_per_token,
        flops_per_token=model.flops_per_token,
        points=rows,
    )


def preset_table(models: Iterable[ModelFigures]) -> str:
    """Markdown table of the bytes and operations of each model per token."""
    rows = [
        [
            model.name,
            f"{model.weight_bytes / MB:,.0f}",
            f"{model.kv_bytes_per_token / 1024:,.0f}",
            f"{model.flops_per_token / GB:.2f}",
        ]
        for model in models
    ]
    return _markdown(["model", "weights, MB", "KV cache, KiB per token", "GFLOP per token"], rows)


def device_table(models: Sequence[ModelFigures], device: Device, dtype: str, context: int) -> str:
    """Markdown table of the limits of every model on one device at this context length."""
    peaks = peaks_of(device, dtype)
    if peaks is None:
        return f"No {dtype} peak of {device.name} is known.\n"
    rows = []
    for model in models:
        limit = offline_limit(model, peaks, batch=1, input_len=context // 2, output_len=context)
        ridge = ridge_batch(model, peaks, context)
        fit = "" if device.memory is None else f"{sequences_in_memory(model, device.memory, context):,}"
        rows.append(
            [
                model.name,
                f"{limit.itl_ms:.2f}",
                f"{1e3 / limit.itl_ms:,.0f}",
                "–" if ridge is None else f"{ridge:,.0f}",
                f"{saturated_throughput(model, peaks, context):,.0f}",
                fit,
            ]
        )
    headers = ["model", "least ITL, ms", "tok/s at batch 1", "ridge batch", "tok/s at any batch", "sequences in memory"]
    return _markdown(headers, rows)


def page(
    models: Sequence[ModelFigures],
    devices: Sequence[Device] = DEVICES,
    *,
    dtype: str = "float16",
    kv_dtype: str | None = None,
    context: int = 512,
) -> str:
    """The whole page as Markdown. ``kv_dtype``: of the KV cache; None: ``dtype``."""
    kept = dtype if kv_dtype in (None, dtype) else f"{dtype}, KV cache in {kv_dtype}"
    parts = [
        f"Weights {'and KV cache ' if kept == dtype else ''}in {kept}; limits at a context of {context} tokens.\n",
        preset_table(models),
    ]
    for device in devices:
        peaks = peaks_of(device, dtype)
        if peaks is None:
            continue
        rates = f"{peaks.bandwidth / GB:,.0f} GB/s, {peaks.flops / 1e12:,.2f} TFLOP/s in {dtype}"
        limits = device_table(models, device, dtype, context)
        parts.append(f"## {device.name}\n\n{rates} ({device.source}).\n\n{limits}")
    return "\n".join(parts)


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "|".join(["---"] + ["---:"] * (len(headers) - 1)) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
