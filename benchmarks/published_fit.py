"""OPT-1.3B on an H100 as a cost model, fitted to the published sweep, and the published figures beside it.

Source: public raw logs of arXiv 2503.08311 (one H100 64 GB, fp16, vLLM 0.5.2, 2000 ShareGPT prompts sent at once, mean 111
tokens in and 292 out).

Fit: least squares over throughput, mean ITL and GPU utilisation at eight batch limits.  Utilisation (the share of time in
which a kernel runs, 86 % at batch 1 and 47 % at 768) is what tells the device's time from the host's: of a step with n
sequences the device takes 3.06 ms + 33 µs·n + 25 ns per token of KV cache read, the host 0.5 ms + 56 µs·n.  vLLM 0.5.2
computes prompts in steps of their own, at most 2048 tokens each.  The KV cache holds about 265,000 tokens (38 % at 256).

Replicas: ``INTERFERENCE`` is set so that 2×256, 4×256 and their ratio are each within 2 % of what was published.
"""

from __future__ import annotations

from pytest_slmperf.engines.simulated_model import Cost, Outcome, simulate_together

KV_TOKENS = 265_000
# What a further engine takes from the KV caches, in tokens of 192 KiB: its weights (2.6 GB), and by estimate 3 GB for its
# CUDA context, graphs and activations.
REPLICA_TOKENS = 28_600
INTERFERENCE = 0.65
SWITCH_COST = 0.25  # of time slices; nothing published tells it

# max_num_seqs → output tok/s, mean ITL in ms, KV-cache peak in percent
PUBLISHED = {
    1: (276.59, 3.623, 0.63), 2: (529.99, 3.782, 0.98), 4: (1014.66, 3.933, 1.43), 8: (1740.77, 4.566, 2.09),
    16: (2931.48, 5.381, 3.58), 32: (4159.89, 7.51, 5.78), 64: (5907.81, 10.396, 10.24), 96: (6552.55, 13.894, 15.98),
    128: (6897.16, 17.346, 18.86), 192: (7485.37, 23.579, 28.3), 256: (7841.94, 29.273, 38.05),
    384: (8084.77, 40.876, 54.3), 512: (8127.63, 52.111, 70.42), 640: (8196.39, 61.677, 85.31),
    768: (8016.71, 72.889, 96.77),
}  # fmt: skip


# replicas × max_num_seqs under MPS, equal memory → input and output tok/s together
PUBLISHED_REPLICAS = {(1, 768): 10968, (2, 256): 14669, (4, 256): 14720}
PUBLISHED_CHUNKED = 11860  # 1×768 with chunked prefill


def cost(max_num_seqs: int, *, replicas: int = 1, sharing: str = "mps", mixed: bool = False) -> Cost:
    """Cost of one replica that shares the device with the others and the memory equally."""
    return Cost(
        step_s=3.063e-3,
        seq_s=33.3e-6,
        context_s=25.2e-9,
        prefill_s=5.83e-6,
        host_step_s=0.497e-3,
        host_seq_s=56.3e-6,
        host_prompt_s=0.59e-3,
        mixed=mixed,
        max_num_seqs=max_num_seqs,
        max_batched_tokens=2048,
        kv_cache_tokens=(KV_TOKENS - (replicas - 1) * REPLICA_TOKENS) // replicas,
        replicas=replicas,
        interference=INTERFERENCE if sharing == "mps" else 1.0 + SWITCH_COST,
    )


def lengths(count: int, seed: int = 0) -> list[tuple[float, int, int]]:
    """Requests of ShareGPT-like spread around the published means: (arrival, prompt tokens, output tokens)."""
    import random

    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        n_in = min(1024, max(4, round(draw.lognormvariate(4.2, 1.0))))
        n_out = min(1900, max(4, round(draw.lognormvariate(5.40, 0.75))))
        rows.append((0.0, n_in, n_out))
    return rows


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
