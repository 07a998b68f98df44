"""InferenceX (InferenceMAX): one object a point, latencies in seconds, throughputs per GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, is_measured
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Run

NAME = "inferencex"
WORK = {"conc": "max_concurrency", "isl": "input_len", "osl": "output_len"}
ASKED = ("precision", "tp", "ep", "dp_attention", "spec_decoding", "mtp", "disagg", "is_multinode", "hw", "framework",
         "image", "model", "prefill_tp", "prefill_ep", "prefill_dp_attention", "prefill_num_workers", "num_prefill_gpu",
         "decode_tp", "decode_ep", "decode_dp_attention", "decode_num_workers", "num_decode_gpu")  # fmt: skip
PER_GPU = {"output_tput_per_gpu": "output_throughput", "tput_per_gpu": "total_token_throughput"}
LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2el"}
PASSED_OVER = {"input_tput_per_gpu", "infmax_model_prefix", "runner_type", "date", "run_url", "avg_power_w",
               "joules_per_output_token", "joules_per_total_token"}  # fmt: skip


def recognises(document: Mapping[str, Any]) -> bool:
    return "tput_per_gpu" in document and "conc" in document


def runs(fields: Fields, swept: bool) -> list[Run]:
    work = {ours: value for theirs, ours in WORK.items() if (value := fields.setting(theirs)) is not None}
    asked = fields.settings(ASKED)
    values = common.prefixed(fields, LATENCIES, "", 1000.0)
    spread = [name for name in ("is_multinode", "disagg") if str(asked.get(name, False)).lower() == "true"]
    gpus = fields.count("tp")
    if gpus and not spread:  # of several pools of GPUs the file does not say by which a throughput was divided
        values |= {
            ours: [gpus * rate] for theirs, ours in PER_GPU.items() if (rate := fields.optional(theirs)) is not None
        }
    known = {*WORK, *ASKED, *PER_GPU, *PASSED_OVER}
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="serving",
            fields=fields.values,
            engine=fields.text("framework"),
            model=fields.text("model"),
            device=fields.text("hw", "") or None,
            engine_settings={name: value for name, value in asked.items() if name not in ("hw", "framework", "model")},
            work=work
            | {name: value for name, value in asked.items() if name in ("precision", "tp", "ep", "dp_attention")},
            asked=asked | work,
            unknown=sorted(name for name in fields.values if name not in known and not is_measured(name)),
            values=values,
        )
    ]
