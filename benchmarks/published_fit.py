"""OPT-1.3B on an H100 as a cost model, fitted to the published sweep, and the published figures beside it.

Source: public raw logs of arXiv 2503.08311 (one H100 64 GB, fp16, vLLM 0.5.2, 2000 ShareGPT prompts sent at once, mean 111
tokens in and 292 out).  Fit: a decode step takes 3.45 ms and 0.105 ms more per running sequence (mean ITL against the batch
limit, which most tokens are made at); the KV cache holds about 265,000 tokens (38 % at 256 sequences).
"""

from __future__ import annotations

from pytest_slmperf.engines.simulated_model import Cost, Outcome, neighbours_stretch, simulate

KV_TOKENS = 265_000
WEIGHT_TOKENS = 13_400  # a copy of the weights (2.6 GB) in tokens of KV cache (192 KiB)
BUSY_SHARE = (
    0.71  # of a step alone in which the device computes: two replicas then gain a third over one of the same batch
)
INPUT, OUTPUT = 111, 292

# max_num_seqs → output tok/s, mean ITL in ms, KV-cache peak in percent
PUBLISHED = {
    1: (276.59, 3.623, 0.63), 2: (529.99, 3.782, 0.98), 4: (1014.66, 3.933, 1.43), 8: (1740.77, 4.566, 2.09),
    16: (2931.48, 5.381, 3.58), 32: (4159.89, 7.51, 5.78), 64: (5907.81, 10.396, 10.24), 96: (6552.55, 13.894, 15.98),
    128: (6897.16, 17.346, 18.86), 192: (7485.37, 23.579, 28.3), 256: (7841.94, 29.273, 38.05),
    384: (8084.77, 40.876, 54.3), 512: (8127.63, 52.111, 70.42), 640: (8196.39, 61.677, 85.31),
    768: (8016.71, 72.889, 96.77),
}  # fmt: skip


def cost(max_num_seqs: int, *, replicas: int = 1, sharing: str = "mps") -> Cost:
    """Cost of one replica that shares the device with the others and the memory equally."""
    kv = (KV_TOKENS - (replicas - 1) * WEIGHT_TOKENS) // replicas
    return Cost(
        step_s=3.45e-3,
        seq_s=0.105e-3,
        prefill_s=5e-6,
        max_num_seqs=max_num_seqs,
        kv_cache_tokens=kv,
        stretch=neighbours_stretch(replicas, sharing, BUSY_SHARE),
    )


def lengths(count: int, seed: int = 0) -> list[tuple[float, int, int]]:
    """Requests of ShareGPT-like spread around the published means: (arrival, prompt tokens, output tokens)."""
    import random

    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        n_in = min(1024, max(4, round(draw.lognormvariate(4.2, 1.0))))
        n_out = min(1024, max(4, round(draw.lognormvariate(5.45, 0.75))))
        rows.append((0.0, n_in, n_out))
    return rows


def run(
    max_num_seqs: int, requests: int = 2000, *, replicas: int = 1, sharing: str = "mps"
) -> tuple[list[Outcome], float]:
    """Outcome of each replica with an even share of the requests, and the output tok/s of all together."""
    work = lengths(requests)
    shares = [work[number::replicas] for number in range(replicas)]
    outcomes = [simulate(share, cost(max_num_seqs, replicas=replicas, sharing=sharing)) for share in shares]
    tokens = sum(n_out for _, _, n_out in work)
    return outcomes, tokens / max(one.end for one in outcomes)
