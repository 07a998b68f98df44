"""Fit the cost model to the published sweep; its results are the figures in ``published_fit``.

All requests arrive at once, so that the sequences of each step do not depend on the costs.  Duration, mean ITL and the
device's idle time are therefore linear in the costs: the coefficient of a cost is the result of a run in which that cost is
1 and all others are 0, and bounded least squares over relative errors solves for the costs.  The bounds are physical: a step
of more sequences takes at least as long; a token of KV cache is not read faster than the memory's bandwidth; a prompt token
takes the tensor cores at least the time at their peak, and at most three times that.

``python benchmarks/published_least_squares.py`` fits all 15 batch limits, and 8 of them to predict the other 7.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection

import numpy as np
from published_fit import KNOTS, KV_TOKENS, PUBLISHED, UTILISATION, lengths
from scipy.optimize import lsq_linear
from tabulate import tabulate

from pytest_slmperf.engines.simulated.cost_model import Cost, simulate

HALF = (1, 16, 32, 64, 128, 256, 512, 768)
UTILISATION_WEIGHT = 0.5  # NVML's utilisation is not precise
# OPT-1.3B in fp16 on an H100: 24 layers × K and V × 2048 × 2 bytes at 3.35 TB/s; 2 × 1.32 G operations at 989 Tflop/s
LEAST = {"context_s": 24 * 2 * 2048 * 2 / 3.35e12, "prefill_s": 2 * 1.316e9 / 989e12}
HOST = ("host_step_s", "host_seq_s")
COSTS = (f"curve at {KNOTS[0]}", *(f"rise to {n}" for n in KNOTS[1:]), *LEAST, *HOST)


def units() -> list[Cost]:
    """One cost model per cost, in which it is 1 and all others are 0."""
    shared = {"mixed": False, "max_batched_tokens": 2048, "kv_cache_tokens": KV_TOKENS}
    rises = np.triu(np.ones((len(KNOTS),) * 2)).tolist()  # 0 before a knot, 1 from the knot on
    curves = [Cost(0.0, curve=tuple(zip(KNOTS, rise, strict=True)), **shared) for rise in rises]
    return curves + [Cost(0.0, **{name: 1.0}, **shared) for name in (*LEAST, *HOST)]


def design(batch: int) -> np.ndarray:
    """Rows: published duration, mean ITL and idle time; columns: the share of each that a cost explains."""
    throughput, itl, _ = PUBLISHED[batch]
    seconds = sum(n_out for _, _, n_out in WORK) / throughput
    runs = [simulate(WORK, one.__class__(**{**vars(one), "max_num_seqs": batch})) for one in units()]
    ends = np.array([run.end for run in runs])
    gaps = np.array([statistics.fmean(run.gaps) for run in runs])
    idle = np.where(np.isin(COSTS, HOST), ends, 0.0)
    return np.array([ends / seconds, gaps / (itl * 1e-3), UTILISATION_WEIGHT * idle / seconds])


def fit(designs: dict[int, np.ndarray], batches: Collection[int]) -> np.ndarray:
    """Each cost in seconds."""
    rows = np.concatenate([designs[batch] for batch in batches])
    goal = np.concatenate([[1.0, 1.0, UTILISATION_WEIGHT * (1 - UTILISATION[batch])] for batch in batches])
    least = np.array([LEAST.get(name, 0.0) for name in COSTS])
    most = np.array([3 * LEAST[name] if name == "prefill_s" else np.inf for name in COSTS])
    return lsq_linear(rows, goal, (least, most)).x


if __name__ == "__main__":
    WORK = lengths(2000)
    every = {batch: design(batch) for batch in PUBLISHED}
    whole, half = fit(every, PUBLISHED), fit(every, HALF)
    print(tabulate([(name, 1e6 * a, 1e6 * b) for name, a, b in zip(COSTS, whole, half, strict=True)],
                   ["µs", "fitted to all", f"fitted to {len(HALF)}"], floatfmt=".4g"))  # fmt: skip
    rows = []
    for batch, matrix in every.items():
        (time, itl, _), (time_half, itl_half, _) = matrix @ whole, matrix @ half
        rows.append([batch, 1 / time - 1, itl - 1, 1 / time_half - 1, itl_half - 1, "" if batch in HALF else "unseen"])
    print(tabulate(rows, ["max_num_seqs", "throughput", "ITL", "of 8: throughput", "ITL", ""], floatfmt="+.1%"))
