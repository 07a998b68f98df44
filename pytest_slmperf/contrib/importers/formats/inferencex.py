"""InferenceX (InferenceMAX): one object for each point, latencies in seconds, throughputs per GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, Setting, is_measured
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Run

NAME = "inferencex"
WORK = {"conc": "max_concurrency", "isl": "input_len", "osl": "output_len"}
ASKED = ("precision", "tp", "pp", "dcp_size", "pcp_size", "ep", "dp_attention", "spec_decoding", "mtp", "disagg",
         "is_multinode", "hw", "prefill_hw", "decode_hw", "framework", "image", "model", "kv_p2p_transfer",
         "num_prefill_gpu", "num_decode_gpu",
         *(f"{role}_{name}" for role in ("prefill", "decode")
           for name in ("tp", "pp", "dcp_size", "pcp_size", "ep", "dp_attention", "num_workers")))  # fmt: skip
LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2el"}
MEASURED = ("tput_per_gpu", "output_tput_per_gpu")
PASSED_OVER = {"input_tput_per_gpu", "infmax_model_prefix", "recipe_fingerprint", "router", "runner_type", "date", "run_url",
               "power_metric_schema_version", "power_valid", "avg_power_w", "avg_total_gpu_power_w", "total_gpu_energy_j",
               "joules_per_successful_query", "joules_per_input_token", "joules_per_output_token",
               "joules_per_total_token"} | {f"{role}_{name}" for role in ("prefill", "decode") for name in (
               "gpu_energy_j", "avg_power_w", "joules_per_input_token", "joules_per_output_token")}  # fmt: skip


DEVICE = ("hw", "hardware", "device")  # of its own files, of its public data, of files made by others


def recognises(document: Mapping[str, Any]) -> bool:
    return "conc" in document and ("tput_per_gpu" in document or "tput_per_gpu" in _metrics(document))


def _metrics(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The readings, where they stand in an object of their own, as in the public data."""
    metrics = document.get("metrics")
    return metrics if isinstance(metrics, Mapping) else {}


def runs(fields: Fields, swept: bool) -> list[Run]:
    own = {name: value for name, value in fields.values.items() if name != "metrics" or not _metrics(fields.values)}
    fields = Fields(fields.file, {**own, **_metrics(fields.values)}, NAME)
    device = next((name for name in DEVICE if fields.has(name)), "hw")
    work = {ours: value for theirs, ours in WORK.items() if (value := fields.setting(theirs)) is not None}
    asked = fields.settings(ASKED)
    values = common.prefixed(fields, LATENCIES, "", 1000.0) | _throughputs(fields)
    known = {*WORK, *ASKED, *MEASURED, *PASSED_OVER, *DEVICE}
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="serving",
            fields=fields.values,
            engine=fields.text("framework"),
            model=fields.text("model"),
            device=fields.text(device, "") or None,
            engine_settings={name: value for name, value in asked.items() if name not in ("hw", "framework", "model")},
            work=work | {name: value for name, value in asked.items() if _is_hardware(name, value)},
            asked=asked | work,
            unknown=sorted(name for name in fields.values if name not in known and not is_measured(name)),
            values=values,
        )
    ]


def _is_hardware(name: str, value: Setting) -> bool:
    """Whether the setting is the precision or a number of GPUs. A number of 1 is left out, since versions of the tool differ
    in which numbers they write."""
    if name in ("precision", "tp", "ep", "dp_attention"):
        return True
    return value not in (0, 1, "1") and name.endswith(("pp", "_size", "_gpu", "_tp", "_ep", "_num_workers"))


def _throughputs(fields: Fields) -> dict[str, list[float]]:
    """Throughputs of the whole deployment: the file's values per GPU, multiplied by the number of GPUs they were divided
    by."""
    whole = output = 1
    if fields.has("num_prefill_gpu") or fields.has(
        "num_decode_gpu"
    ):  # output tokens were divided by the decoding GPUs, if there are any
        prefill, decode = fields.count("num_prefill_gpu") or 0, fields.count("num_decode_gpu") or 0
        whole, output = prefill + decode, decode or prefill
    elif "true" in (str(fields.values.get(name)).lower() for name in ("is_multinode", "disagg")) or not fields.has(
        "tp"
    ):
        return {}
    else:
        for name in ("tp", "pp", "pcp_size"):
            whole *= fields.count(name) or 1
        output = whole
    factors = {"total_token_throughput": ("tput_per_gpu", whole), "output_throughput": ("output_tput_per_gpu", output)}
    return {
        ours: [gpus * rate]
        for ours, (theirs, gpus) in factors.items()
        if gpus and (rate := fields.optional(theirs)) is not None
    }
