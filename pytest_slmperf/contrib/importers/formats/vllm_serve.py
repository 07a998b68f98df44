"""``vllm bench serve``, Python and Rust client: one JSON object per run, with the fields of vLLM 0.11 to 0.32."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, Setting, is_measured, is_number
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Counts, Run

NAME = "vllm bench serve"
WORK = ("request_rate", "burstiness", "max_concurrency", "num_prompts", "backend", "dataset_name", "ramp_up_strategy",
        "ramp_up_start_rps", "ramp_up_end_rps")  # fmt: skip
ASKED = (*WORK, "model_id", "tokenizer_id", "endpoint_type", "best_of", "use_beam_search")
COUNTED = ("completed", "failed", "total_input_tokens", "total_output_tokens")
RATES = {
    "output_throughput": "output_throughput",
    "total_token_throughput": "total_token_throughput",
    "request_throughput": "request_throughput",
    "request_goodput": "goodput",
}
LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2el"}
# fields that are not imported: momentary peaks, single requests, speculation, other kinds of models
PASSED_OVER = frozenset(
    {"date", "label", "duration", "max_output_tokens_per_s", "max_concurrent_requests", "rtfx", "steady_state",
     "input_throughput", "input_lens", "output_lens", "ttfts", "itls", "tpots", "generated_texts", "errors", "start_times",
     "latencies", "queue_times", "rps_change_events", "run_number", "_benchmark_name", "goodput_config",
     "total_input_sequences", "input_sequence_throughput"}
)  # fmt: skip
PASSED_OVER_PREFIXES = ("spec_decode_", "diffusion_", "probe_")
# engine arguments, which vllm bench sweep and users add to a run's fields
ENGINE_ARGUMENTS = frozenset(
    {"max_num_seqs", "max_num_batched_tokens", "max_model_len", "tensor_parallel_size", "pipeline_parallel_size",
     "data_parallel_size", "gpu_memory_utilization", "block_size", "dtype", "kv_cache_dtype", "quantization", "seed",
     "enforce_eager", "enable_prefix_caching", "enable_chunked_prefill", "async_scheduling", "random_input_len",
     "random_output_len", "input_len", "output_len", "batch_size"}
)  # fmt: skip
# backends that name an engine; the others (openai, openai-chat, vllm) are interfaces of vLLM's own server
ENGINES = {"tgi": "tgi", "tensorrt-llm": "tensorrt-llm", "deepspeed-mii": "deepspeed-mii", "lmdeploy": "lmdeploy",
           "sglang": "sglang", "scalellm": "scalellm", "llama.cpp": "llama.cpp"}  # fmt: skip


def recognises(document: Mapping[str, Any]) -> bool:
    return "duration" in document and "request_throughput" in document


def runs(fields: Fields, swept: bool) -> list[Run]:
    seconds = fields.duration("duration")
    work = fields.settings(WORK)
    completed = fields.count("completed")
    whole = fields.values.get("num_prompts") == -1  # the whole data set was sent; no field has its size
    counts = Counts(
        requests=None if whole else fields.count("num_prompts"),
        completed=completed,
        failed=fields.count("failed") or 0,
        input_tokens=fields.count("total_input_tokens"),
        output_tokens=fields.count("total_output_tokens"),
        asked_output=_asked_output(fields),
    )
    values = common.rates(fields, RATES) | common.prefixed(fields, LATENCIES, "_ms", 1.0)
    if completed == 0:  # without a completed request, the rates have no meaning
        values = {}
    return [
        with_other_fields(
            fields,
            swept,
            Run(
                file=fields.file,
                format=NAME,
                kind="serving",
                fields=fields.values,
                engine=ENGINES.get(fields.text("backend"), "vllm"),
                model=fields.text("model_id"),
                engine_settings=fields.settings(("tensor_parallel_size", "tokenizer_id")),
                work=work | counts.lengths | ({} if "num_prompts" in work and not whole else counts.number),
                asked=fields.settings(ASKED),
                values=values,
                counts=counts,
                doubts=counts.doubts(values, seconds),
                measured_at=date(fields.values.get("date")),
            ),
            {*ASKED, *COUNTED, *RATES},
        )
    ]


def _asked_output(fields: Fields) -> float | None:
    """Output tokens asked for per request, if the file has them (a sweep that varied them writes them); None if the lengths
    were drawn from a range, whose mean is not exact."""
    ranged = str(fields.values.get("random_range_ratio") or 0) not in ("0", "0.0")
    if ranged or not fields.text("dataset_name", "random").startswith("random"):
        return None
    lengths = [fields.values.get(name) for name in ("random_output_len", "output_len")]
    return next((float(length) for length in lengths if length is not None and is_number(length) and length > 0), None)


def with_other_fields(fields: Fields, swept: bool, run: Run, read: set[str]) -> Run:
    """The run with the other fields of its file: engine settings, recorded text, and the names of unknown fields.

    vLLM writes the user's ``--metadata`` as text fields, and a sweep writes the varied settings as fields of any scalar
    type.
    """
    from dataclasses import replace

    asked: dict[str, Setting] = dict(run.asked)
    text: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in fields.values.items():
        passed = name in PASSED_OVER or name.startswith(PASSED_OVER_PREFIXES)
        if name in read or value is None or passed or (is_measured(name) and name not in ENGINE_ARGUMENTS):
            continue
        if isinstance(value, str):
            text[name] = value
        elif (swept or name in ENGINE_ARGUMENTS) and (isinstance(value, bool) or is_number(value)):
            asked[name] = value
        else:
            unknown.append(name)
    return replace(run, asked=asked, text=text, unknown=sorted(unknown))


def date(text: Any) -> datetime | None:
    """The time from text such as ``20261123-150000``, as vllm bench serve writes it; None for anything else."""
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M%S")
    except (TypeError, ValueError):
        return None
