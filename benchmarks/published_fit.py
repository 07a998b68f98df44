"""OPT-1.3B on an H100 as a cost model, fitted to the published sweep, and the published figures beside it.

Source: public raw logs of arXiv 2503.08311 (one H100 64 GB, fp16, vLLM 0.5.2, 2000 ShareGPT prompts sent at once, mean 111
tokens in and 292 out).

Fit: bounded least squares over throughput, mean ITL and GPU utilisation at 15 batch limits (``published_least_squares.py``
computes the figures).  Utilisation (the share of time in which a kernel runs, 86 % at batch 1 and 47 % at 768) separates the
device's time from the host's.  The device time of a step is not linear in the batch: it hardly grows up to 16 sequences,
jumps at 32 (kernels with larger tiles), is flat up to 64, and rises more steeply from 256, where vLLM 0.5.2 has no CUDA
graph.  Reading a token of KV cache takes 71 ns (59 at the memory's bandwidth), computing a prompt token 5.4 µs (2.7).
vLLM 0.5.2 computes prompts in steps of their own, at most 2048 tokens each.  The KV cache holds about 265,000 tokens
(38 % at 256).

Replicas: ``INTERFERENCE`` and the 2 GB in ``REPLICA_TOKENS`` are set to the two published MPS points, 2×256 and 4×256.
"""

from __future__ import annotations

import random

from pytest_slmperf.engines.simulated.cost_model import Cost, Outcome, simulate_together

KNOTS = (1, 16, 32, 64, 256, 512, 768)  # running sequences
CURVE_MS = (3.058, 3.412, 3.957, 3.957, 7.070, 12.28, 20.82)  # device time of a step, without reading the KV cache
KV_TOKENS = 265_000
# KV-cache tokens (of 192 KiB) that a further engine costs: its weights (2.6 GB), and 2 GB for its CUDA context, graphs and
# activations.
REPLICA_TOKENS = 23_500
INTERFERENCE = 0.68
SWITCH_COST = 0.25  # of time slices; an assumption, since no figure is published

# max_num_seqs → output tok/s, mean ITL in ms, KV-cache peak in percent
PUBLISHED = {
    1: (276.59, 3.623, 0.63), 2: (529.99, 3.782, 0.98), 4: (1014.66, 3.933, 1.43), 8: (1740.77, 4.566, 2.09),
    16: (2931.48, 5.381, 3.58), 32: (4159.89, 7.51, 5.78), 64: (5907.81, 10.396, 10.24), 96: (6552.55, 13.894, 15.98),
    128: (6897.16, 17.346, 18.86), 192: (7485.37, 23.579, 28.3), 256: (7841.94, 29.273, 38.05),
    384: (8084.77, 40.876, 54.3), 512: (8127.63, 52.111, 70.42), 640: (8196.39, 61.677, 85.31),
    768: (8016.71, 72.889, 96.77),
}  # fmt: skip

# max_num_seqs → share of the time in which a kernel ran (NVML)
UTILISATION = {
    1: 0.865, 2: 0.851, 4: 0.822, 8: 0.761, 16: 0.732, 32: 0.645, 64: 0.614, 96: 0.575, 128: 0.537, 192: 0.564,
    256: 0.548, 384: 0.514, 512: 0.504, 640: 0.497, 768: 0.473,
}  # fmt: skip

# replicas × max_num_seqs under MPS, equal memory → input and output tok/s together
PUBLISHED_REPLICAS = {(1, 768): 10968, (2, 256): 14669, (4, 256): 14720}
PUBLISHED_CHUNKED = 11860  # 1×768 with chunked prefill


def cost(max_num_seqs: int, *, replicas: int = 1, sharing: str = "mps", mixed: bool = False) -> Cost:
    """Cost model of one of several replicas that share the device, with equal shares of the memory."""
    return Cost(
        step_s=0.0,
        curve=tuple((n, ms * 1e-3) for n, ms in zip(KNOTS, CURVE_MS, strict=True)),
        context_s=70.6e-9,
        prefill_s=5.40e-6,
        host_step_s=0.490e-3,
        host_seq_s=58.2e-6,
        mixed=mixed,
        max_num_seqs=max_num_seqs,
        max_batched_tokens=2048,
        kv_cache_tokens=(KV_TOKENS - (replicas - 1) * REPLICA_TOKENS) // replicas,
        replicas=replicas,
        interference=INTERFERENCE if sharing == "mps" else 1.0 + SWITCH_COST,
    )


def lengths(count: int, seed: int = 0) -> list[tuple[float, int, int]]:
    """Requests with the published means and a spread like ShareGPT's: (arrival, prompt tokens, output tokens)."""
    draw = random.Random(seed)
    inputs = _with_mean(110.6, 1024, [draw.lognormvariate(0, 1.0) for _ in range(count)])
    outputs = _with_mean(292.0, 1900, [draw.lognormvariate(0, 0.75) for _ in range(count)])
    return [(0.0, n_in, n_out) for n_in, n_out in zip(inputs, outputs, strict=True)]


def _with_mean(mean: float, most: int, shape: list[float]) -> list[int]:
    """Lengths in proportion to ``shape``, within 4 … ``most``, whose mean is ``mean``."""
    scale = mean / (sum(shape) / len(shape))
    for _ in range(20):  # clipping changes the mean
        made = [min(most, max(4, round(scale * one))) for one in shape]
        scale *= mean / (sum(made) / len(made))
    return made


def run(
    max_num_seqs: int, requests: int = 2000, *, replicas: int = 1, sharing: str = "mps", mixed: bool = False
) -> tuple[list[Outcome], float, float]:
    """Outcome of each replica with an even share of the requests; output tok/s, and input and output tok/s, of all."""
    work = lengths(requests)
    shares = [work[number::replicas] for number in range(replicas)]
    each = cost(max_num_seqs, replicas=replicas, sharing=sharing, mixed=mixed)
    outcomes = simulate_together(shares, each)
    seconds = max(one.end for one in outcomes)
    made = sum(n_out for _, _, n_out in work)
    return outcomes, made / seconds, (made + sum(n_in for _, n_in, _ in work)) / seconds
