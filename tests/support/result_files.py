"""One small result file of each benchmark, made by hand from the fields that it writes; the values are made up."""

from __future__ import annotations

from typing import Any

# The field names that vllm 0.32 writes; the values are made up and consistent with each other.
SERVE: dict[str, Any] = {
    "date": "20261123-150000",
    "endpoint_type": "openai",
    "backend": "openai",
    "label": None,
    "model_id": "facebook/opt-125m",
    "tokenizer_id": "facebook/opt-125m",
    "num_prompts": 100,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 16,
    "duration": 10.0,
    "completed": 100,
    "failed": 0,
    "total_input_tokens": 3200,
    "total_output_tokens": 6400,
    "request_throughput": 10.0,
    "request_goodput": None,
    "output_throughput": 640.0,
    "total_token_throughput": 960.0,
    "max_output_tokens_per_s": 700.0,
    "max_concurrent_requests": 20,
    "rtfx": 0.0,
    "mean_ttft_ms": 30.0,
    "median_ttft_ms": 28.0,
    "std_ttft_ms": 4.0,
    "p99_ttft_ms": 60.0,
    "mean_tpot_ms": 20.0,
    "mean_itl_ms": 19.5,
    "median_itl_ms": 19.0,
    "p99_itl_ms": 33.0,
}


def at_rate(rate: float) -> dict[str, Any]:
    """``SERVE`` at another rate of output tokens, with the duration that follows from it."""
    return {"output_throughput": rate, "duration": SERVE["total_output_tokens"] / rate}


LATENCY: dict[str, Any] = {
    "model_id": "facebook/opt-125m",
    "avg_latency": 0.5,
    "latencies": [0.4, 0.6],
    "percentiles": {"50": 0.5},
}
THROUGHPUT: dict[str, Any] = {
    "model_id": "facebook/opt-125m",
    "elapsed_time": 10.0,
    "num_requests": 100,
    "total_num_tokens": 6400,
    "requests_per_second": 10.0,
    "tokens_per_second": 640.0,
}
SGLANG: dict[str, Any] = {
    "tag": None, "backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "max_concurrency": 8,
    "sharegpt_output_len": None, "random_input_len": 128, "random_output_len": 32, "random_range_ratio": 1.0,
    "duration": 20.0, "completed": 40, "total_input_tokens": 5120, "total_output_tokens": 1280,
    "total_output_tokens_retokenized": 1279, "request_throughput": 2.0, "input_throughput": 256.0,
    "output_throughput": 64.0, "total_throughput": 320.0, "mean_e2e_latency_ms": 900.0, "median_e2e_latency_ms": 880.0,
    "p99_e2e_latency_ms": 1200.0, "mean_ttft_ms": 90.0, "median_ttft_ms": 80.0, "std_ttft_ms": 9.0, "p99_ttft_ms": 150.0,
    "mean_tpot_ms": 26.0, "median_tpot_ms": 25.0, "p99_tpot_ms": 40.0, "mean_itl_ms": 26.0, "median_itl_ms": 24.0,
    "p95_itl_ms": 39.0, "p99_itl_ms": 41.0, "max_itl_ms": 70.0, "concurrency": 7.2, "accept_length": None,
}  # fmt: skip


def status(mean: float, median: float | None = None, **percentiles: float) -> dict[str, Any]:
    """GuideLLM's distribution of 30 successful requests."""
    values = {"mean": mean, "median": median or mean, "std_dev": 1.0, "count": 30, "total_sum": 30 * mean,
              "percentiles": {"p50": median or mean, **percentiles}}  # fmt: skip
    nothing = {"mean": 0.0, "median": 0.0, "std_dev": 0.0, "count": 0, "total_sum": 0.0, "percentiles": {"p50": 0.0}}
    return {"successful": values, "errored": nothing, "incomplete": nothing, "total": values}


# of 0.4 to 0.6
GUIDELLM: dict[str, Any] = {
    "metadata": {"version": 1, "guidellm_version": "0.5.0"},
    "args": {"model": "org/model", "data": ["prompt_tokens=256,output_tokens=64"], "max_seconds": 30},
    "benchmarks": [
        {
            "type_": "generative_benchmark",
            "config": {"run_index": 0, "strategy": {"type_": "concurrent", "streams": streams, "worker_count": 1}},
            "scheduler_metrics": {"requests_made": {"successful": 33, "errored": 0, "incomplete": 2, "total": 35}},
            "duration": 30.0,
            "metrics": {
                "request_totals": {"successful": 30, "errored": 0, "incomplete": 2, "total": 32},
                "requests_per_second": status(1.0 * streams),
                "output_tokens_per_second": status(64.0 * streams),
                "tokens_per_second": status(320.0 * streams),
                "request_latency": status(2.0, 1.9, p99=2.5),
                "time_to_first_token_ms": status(50.0, 45.0, p90=70.0, p95=80.0, p99=90.0),
                "time_per_output_token_ms": status(31.0),
                "inter_token_latency_ms": status(30.0, 29.0, p99=40.0),
                "prompt_token_count": status(256.0),
                "output_token_count": status(64.0),
            },
        }
        for streams in (1, 4)
    ],
}


def unit(name: str, **statistics: float) -> dict[str, Any]:
    """A metric of AIPerf."""
    return {"unit": name, **statistics}


AIPERF: dict[str, Any] = {
    "schema_version": "1.0",
    "aiperf_version": "0.3.0",
    "request_throughput": unit("requests/sec", avg=5.0),
    "request_count": unit("requests", avg=50.0),
    "error_request_count": unit("requests", avg=0.0),
    "time_to_first_token": unit("ms", avg=30.0, p50=28.0, p90=40.0, p95=45.0, p99=60.0, std=5.0),
    "time_to_second_token": unit("ms", avg=12.0),
    "inter_token_latency": unit("ms", avg=11.0, p50=10.5, p99=15.0),
    "request_latency": unit("ms", avg=1000.0, p50=990.0, p99=1200.0),
    "output_token_throughput": unit("tokens/sec", avg=500.0),
    "output_sequence_length": unit("tokens", avg=100.0),
    "input_sequence_length": unit("tokens", avg=550.0),
    "total_isl": unit("tokens", avg=27500.0),
    "total_osl": unit("tokens", avg=5000.0),
    "input_config": {
        "endpoint": {"model_names": ["org/model"]},
        "loadgen": {"concurrency": 10, "request_count": 50},
        "input": {"prompt": {"output_tokens": {"mean": 100}}},
    },
    "was_cancelled": False,
    "error_summary": [],
}
INFERENCEX: dict[str, Any] = {
    "hw": "b200", "tp": 2, "pp": 2, "dcp_size": 1, "pcp_size": 1, "ep": 1, "is_multinode": False, "disagg": False,
    "dp_attention": "false", "conc": 32, "model": "org/model", "framework": "sglang",
    "precision": "fp8", "image": "img:1", "isl": 1024, "osl": 512, "tput_per_gpu": 300.0, "output_tput_per_gpu": 100.0,
    "input_tput_per_gpu": 200.0, "mean_ttft": 0.2, "median_ttft": 0.18, "p99_ttft": 0.5, "mean_tpot": 0.02,
    "median_tpot": 0.019, "p99_tpot": 0.03, "mean_intvty": 50.0, "median_intvty": 52.6, "mean_itl": 0.02,
    "median_itl": 0.018, "mean_e2el": 10.0, "median_e2el": 9.8, "p99_e2el": 12.0,
}  # fmt: skip
# of 0.6; before it there were neither benchmark_time_seconds nor the two counts of tokens, and prompt_len beside output_len
INFERENCE_PERF: dict[str, Any] = {
    "benchmark_time_seconds": 10.5,
    "load_summary": {
        "count": 20, "schedule_delay": {"mean": 0.001, "median": 0.001, "p90": 0.002},
        "requested_rate": 2.0, "achieved_rate": 1.9, "send_duration": 10.0,
    },
    "successes": {
        "count": 20,
        "latency": {
            "request_latency": {"mean": 3.0, "median": 2.9, "p90": 3.5},
            "time_to_first_token": {"mean": 0.1, "median": 0.09, "p99": 0.2},
            "time_per_output_token": {"mean": 0.03, "median": 0.029},
            "normalized_time_per_output_token": {"mean": 0.031},
            "inter_token_latency": {"mean": 0.03, "median": 0.028},
        },
        "throughput": {"input_tokens_per_sec": 190.0, "output_tokens_per_sec": 95.0, "total_tokens_per_sec": 285.0,
                       "requests_per_sec": 1.9, "images_per_sec": 0.0},
        "request_size_bytes": {"mean": 900.0},
        "prompt_tokens": {"total": 2000.0, "cached": 0.0, "uncached": 2000.0, "mean": 100.0, "median": 100.0},
        "output_len": {"mean": 49.0},
        "output_tokens": {"total": 1000.0, "mean": 50.0},
        "token_count_mismatches": 0,
    },
    "failures": {"count": 0, "request_latency": None, "prompt_tokens": {"total": 0.0}, "by_label": {}},
}  # fmt: skip


def seconds(*values: float) -> dict[str, Any]:
    """A target of optimum-benchmark, a value for each iteration."""
    return {"latency": {"unit": "s", "count": len(values), "values": list(values), "mean": sum(values) / len(values)}}


OPTIMUM: dict[str, Any] = {
    "config": {
        "backend": {"name": "pytorch", "version": "2.6", "model": "org/model", "device": "cuda"},
        "scenario": {
            "input_shapes": {"batch_size": 2, "sequence_length": 16},
            "generate_kwargs": {"max_new_tokens": 11, "min_new_tokens": 11},
        },
    },
    "report": {
        "load_model": seconds(4.0),
        "generate": seconds(1.0, 1.0),
        "prefill": seconds(0.1, 0.2),
        "decode": seconds(0.9, 0.8),
        "per_token": seconds(0.09),
    },
}
STARTUP: dict[str, Any] = {
    "avg_cold_startup_time": 30.0, "cold_startup_times": [29.0, 31.0], "cold_startup_percentiles": {"50": 30.0},
    "avg_warm_startup_time": 9.0, "warm_startup_times": [9.0], "warm_startup_percentiles": {"50": 9.0},
}  # fmt: skip
