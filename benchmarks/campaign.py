"""Plan a campaign of about a thousand points before anything runs: cost, order, stopping.

Curves: every shipped preset × input/output lengths × KV budgets, swept over max_num_seqs; predicted by the roofline of one
H100 and a fixed host time per step.  ``python benchmarks/campaign.py``
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from itertools import product

from tabulate import tabulate

from pytest_slmperf.contrib.campaign import Curve, plan
from pytest_slmperf.contrib.roofline.limits import decode_step_s, sequences_in_memory
from pytest_slmperf.contrib.roofline.measure import figures_of, published
from pytest_slmperf.contrib.roofline.page import peaks_of
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.frontier.points import Key, Objective, Point

BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
LENGTHS = ((111, 292), (161, 338), (512, 128))
KV_SHARES = (1.0, 0.4)
HOST_S = 1.5e-3  # host time of a step: scheduling, sampling, launching
START_S = 25.0  # a vLLM start on a GPU, weights in the page cache
REQUESTS, ROUNDS, LAUNCHES = 512, 3, 2
GOALS = (Objective("output_throughput", "higher"), Objective("itl_mean", "lower"))


def main() -> None:
    device = published("NVIDIA H100 80GB HBM3")
    assert device is not None
    peaks = peaks_of(device, "float16")
    assert peaks is not None
    assert device.memory is not None
    models = {name: found for name, model in presets().items() if (found := figures_of(model, "float16")) is not None}
    chosen = [name for name in models if models[name].weight_bytes < 0.5 * device.memory]

    def predict(name: Hashable, key: Key) -> tuple[Point, float]:
        model, (input_len, output_len), share = name  # type: ignore[misc]
        context = input_len + output_len / 2
        fit = sequences_in_memory(models[model], int(device.memory * share * 0.9), context)
        running = min(int(key), max(1, fit))
        step = HOST_S + decode_step_s(models[model], peaks, running, context)[0]
        seconds = LAUNCHES * ROUNDS * -(-REQUESTS // running) * output_len * step
        return Point(key, {"output_throughput": running / step, "itl_mean": 1e3 * step}), seconds

    curves = [
        Curve(name, BATCHES, lambda key, name=name: (name[0], name[2], key))
        for name in product(chosen, LENGTHS, KV_SHARES)
    ]
    began = time.perf_counter()
    rows = []
    for tolerance in (0.05, 0.02, 0.01, 0.0, None):
        # Each launch is a process of its own, so that an engine starts once per repetition of its points.
        found = plan(curves, GOALS, predict, start_s=LAUNCHES * START_S, tolerance=tolerance)
        rows.append(
            [
                "(every point)" if tolerance is None else f"{tolerance:.0%}",
                len(found.works),
                LAUNCHES * found.starts_after,
                f"{found.planned_s / 3600:.1f}",
                f"{found.share:.0%}",
            ]
        )
    took = time.perf_counter() - began
    print(
        f"{found.points} points on {len(curves)} curves ({len(chosen)} models); in the order given they take "
        f"{LAUNCHES * found.starts_before} engine starts, {LAUNCHES} launches each, and {found.everything_s / 3600:.1f} h "
        "of one H100 (predicted).\n"
    )
    print(tabulate(rows, ["stop at a gain below", "points", "engine starts", "hours", "of the full cost"]))
    print(f"\nplanning took {took:.2f} s for {len(rows)} plans")


if __name__ == "__main__":
    main()
