"""``sglang.bench_serving --output-file``: one JSON object per line.

The file has the number of requests only with ``--output-details``, and the model only in ``server_info``, which later
versions write for SGLang's own server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_slmperf.contrib.importers.fields import Fields, is_measured
from pytest_slmperf.contrib.importers.formats import common
from pytest_slmperf.contrib.importers.run import Counts, Run

NAME = "sglang.bench_serving"
WORK = ("backend", "dataset_name", "request_rate", "max_concurrency", "sharegpt_output_len", "random_input_len",
        "random_output_len", "random_range_ratio")  # fmt: skip
RATES = {
    "request_throughput": "request_throughput",
    "output_throughput": "output_throughput",
    "total_throughput": "total_token_throughput",
    "request_goodput": "goodput",
}
LATENCIES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e_latency": "e2el"}
# read from server_info, whose other fields hold its users' keys and its momentary state
SERVER_SETTINGS = ("tp_size", "dp_size", "pp_size", "ep_size", "dtype", "quantization", "kv_cache_dtype",
                   "attention_backend", "mem_fraction_static", "max_running_requests", "chunked_prefill_size",
                   "disable_radix_cache", "disable_cuda_graph", "schedule_policy", "speculative_algorithm")  # fmt: skip
PASSED_OVER = frozenset(
    {"duration", "completed", "total_input_tokens", "total_input_text_tokens", "total_input_vision_tokens",
     "total_output_tokens", "total_output_tokens_retokenized", "accept_length", "max_concurrent_requests", "max_itl_ms",
     "max_output_tokens_per_s", "slo_attainment", "cache_report", "cached_tokens", "cached_tokens_details", "server_info",
     "input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors", "num_prompts", "failed", "num_processes",
     "benchmark_start_time", "benchmark_end_time", "arrival_seed"}
)  # fmt: skip


def recognises(document: Mapping[str, Any]) -> bool:
    own = "total_output_tokens_retokenized" in document or "mean_e2e_latency_ms" in document
    return own and "request_throughput" in document


def runs(fields: Fields, swept: bool) -> list[Run]:
    seconds = fields.duration("duration")
    work = fields.settings(WORK)
    backend = fields.text("backend")
    embeds = backend.endswith("-embedding")  # embeddings have no output tokens, whatever length was asked for
    exact = not embeds and str(work.get("dataset_name")).startswith("random") and work.get("random_range_ratio") == 1
    errors = fields.values.get("errors")
    counts = Counts(
        requests=len(errors) if isinstance(errors, list) else fields.count("num_prompts"),  # one entry per request
        completed=fields.count("completed"),
        failed=max(
            sum(bool(error) for error in errors) if isinstance(errors, list) else 0, fields.count("failed") or 0
        ),
        input_tokens=fields.count("total_input_tokens"),
        output_tokens=fields.count("total_output_tokens"),
        asked_output=fields.optional("random_output_len") if exact else None,
    )
    server = _server(fields)
    known = {*WORK, *RATES, *PASSED_OVER, "tag"}
    values = common.rates(fields, RATES) | common.prefixed(fields, LATENCIES, "_ms", 1.0)
    return [
        Run(
            file=fields.file,
            format=NAME,
            kind="serving",
            fields=fields.values,
            engine="sglang" if backend.startswith("sglang") else backend.removesuffix("-chat"),
            engine_version=server.text("version", "") or None,
            model=server.text("model_path"),
            engine_settings=server.settings(SERVER_SETTINGS),
            work=work | counts.lengths | counts.number,
            asked=work,
            text={"tag": tag} if (tag := fields.text("tag", "")) else {},
            unknown=sorted(name for name in fields.values if name not in known and not is_measured(name)),
            values=values if counts.completed != 0 else {},
            counts=counts,
            doubts=counts.doubts(values, seconds),
        )
    ]


def _server(fields: Fields) -> Fields:
    """The server's own settings (``server_info``); an object without fields if the file has none.

    If prefill and decode run on different servers, it is that of the first decode server.
    """
    info = fields.values.get("server_info")
    if isinstance(info, Mapping) and isinstance(info.get("decode"), list) and info["decode"]:
        info = info["decode"][0]
    return Fields(fields.file, info if isinstance(info, Mapping) else {}, NAME, "server_info.")
