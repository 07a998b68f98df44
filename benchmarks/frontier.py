"""The simulated engine and the analysis, compared with the published saturation and replication.

Prints tables; no GPU needed.  ``python benchmarks/frontier.py``
"""

from __future__ import annotations

import statistics

from published_fit import PUBLISHED, PUBLISHED_CHUNKED, PUBLISHED_REPLICAS, run
from tabulate import tabulate

from pytest_slmperf.frontier.adaptive_grid import coarse_grid, next_step
from pytest_slmperf.frontier.advisor import largest_batch
from pytest_slmperf.frontier.knee import kneedle, share_knee
from pytest_slmperf.frontier.pareto import frontier, hypervolume
from pytest_slmperf.frontier.points import MetricBound, Objective, Point
from pytest_slmperf.frontier.replication import ReplicaPoint, gains, largest_useful

GOALS = (Objective("output_throughput", "higher"), Objective("itl_mean", "lower"))


def simulated() -> list[Point]:
    """The saturated sweep of the cost model."""
    points = []
    for batch in PUBLISHED:
        (outcome,), throughput, _ = run(batch)
        values = {"output_throughput": throughput, "itl_mean": 1e3 * statistics.fmean(outcome.gaps)}
        points.append(Point(batch, values | {"kv_cache_peak": 100 * outcome.kv_peak}))
    return points


def published() -> list[Point]:
    return [
        Point(batch, {"output_throughput": t, "itl_mean": itl, "kv_cache_peak": kv})
        for batch, (t, itl, kv) in PUBLISHED.items()
    ]


def saturation() -> None:
    ours, theirs = simulated(), published()
    rows = [
        [
            one.key,
            f"{other.values['output_throughput']:.0f}",
            f"{one.values['output_throughput']:.0f}",
            f"{one.values['output_throughput'] / other.values['output_throughput']:.2f}",
            f"{one.values['itl_mean'] / other.values['itl_mean']:.2f}",
            f"{other.values['kv_cache_peak']:.0f}",
            f"{one.values['kv_cache_peak']:.0f}",
        ]
        for one, other in zip(ours, theirs, strict=True)
    ]
    print("Saturation: OPT-1.3B, 2000 requests at once\n")
    print(
        tabulate(rows, ["max_num_seqs", "tok/s published", "simulated", "ratio", "ITL ratio", "KV % published", "KV %"])
    )
    rows = []
    for name, points in (("published", theirs), ("simulated", ours)):
        table = {point.key: point for point in points}
        knee, bend = share_knee(points, "output_throughput", cost="kv_cache_peak"), kneedle(points, "output_throughput")
        picks = []
        for factor in (2, 4):
            slo = MetricBound("itl_mean", factor * table[32].values["itl_mean"])
            advice = largest_batch(points, "output_throughput", [slo])
            picks.append("none" if advice is None else str(advice.key))
        assert knee is not None
        rows.append([name, len(frontier(points, GOALS)), knee.key, f"{knee.cost:.0f}", bend and bend.key, *picks])
    print()
    print(tabulate(rows, ["", "frontier points", "knee ≥ 95 %", "KV % there", "Kneedle", "BCA L=2", "BCA L=4"]))


def adaptive() -> None:
    """The points that the adaptive sweep chooses on the published curve, and the hypervolume that it misses."""
    table = {point.key: point for point in published()}
    rows = []
    for tolerance in (0.05, 0.02, 0.01, 0.005):
        picked = coarse_grid(list(table))
        while (
            step := next_step(list(table), [table[key] for key in picked], GOALS, tolerance=tolerance)
        ).key is not None:
            picked.append(step.key)
        points = [table[key] for key in picked]
        share = hypervolume(points, GOALS).volume / hypervolume(list(table.values()), GOALS).volume
        knee = share_knee(points, "output_throughput")
        assert knee is not None
        rows.append([f"{tolerance:.1%}", f"{len(picked)} of {len(table)}", f"{share:.2%}", knee.key])
    print("\nAdaptive sweep on the published curve\n")
    print(tabulate(rows, ["tolerance", "points", "of the hypervolume", "knee"]))


def replication() -> None:
    """Replicas of 256 sequences in the same memory, against the published points."""
    known = {(key, "mps", False): told for key, told in PUBLISHED_REPLICAS.items()}
    known[(1, 768), "mps", True] = PUBLISHED_CHUNKED
    rows, points = [], []
    base, told_base = run(768)[2], PUBLISHED_REPLICAS[1, 768]
    for replicas, batch, sharing, mixed in (
        (1, 768, "mps", False), (1, 768, "mps", True), (1, 256, "mps", False), (2, 256, "mps", False),
        (4, 256, "mps", False), (2, 96, "time-slice", False), (4, 96, "time-slice", False),
        (4, 256, "time-slice", False),
    ):  # fmt: skip
        outcomes, _, throughput = run(batch, replicas=replicas, sharing=sharing, mixed=mixed)
        peak = 100 * max(one.kv_peak for one in outcomes)
        preempted = sum(one.preemptions for one in outcomes)
        told = known.get(((replicas, batch), sharing, mixed))
        rows.append(
            [
                f"{replicas}×{batch}{' chunked' if mixed else ''}",
                sharing if replicas > 1 else "",
                "" if told is None else f"{told}",
                f"{throughput:.0f}",
                "" if told is None else f"{throughput / told - 1:+.1%}",
                "" if told is None else f"{told / told_base - 1:+.1%}",
                f"{throughput / base - 1:+.1%}",
                f"{peak:.0f}",
                preempted,
            ]
        )
        if sharing == "mps" and not mixed:
            points.append(ReplicaPoint(replicas, throughput, preempted, peak))
    print("\nReplication: equal memory, 2000 requests at once, input and output tokens\n")
    headers = ["replicas × batch", "sharing", "published", "simulated", "off by", "over 1×768", "sim.", "KV %"]
    print(tabulate(rows, [*headers, "preemptions"]))
    best: dict[int, ReplicaPoint] = {}
    for point in points:
        best[point.replicas] = max(best.get(point.replicas, point), point, key=_rate)
    found = largest_useful(list(best.values()))
    print(f"\nlargest useful K: {found.replicas} ({found.gain:+.1%} over the best single engine); {found.reason}")
    single = {"1×768": base, "1×768 chunked": run(768, mixed=True)[2], "1×256": run(256)[2]}
    over = gains(_rate(best[found.replicas]), single)
    print("gain over " + ", ".join(f"{name}: {gain:+.1%}" for name, gain in over.items()))
    print("published: +33.7% over 1×768, +23.6% over 1×768 chunked; 4×256 adds +0.3% to 2×256, KV cache full")


def _rate(point: ReplicaPoint) -> float:
    return point.output_throughput or 0.0


if __name__ == "__main__":
    saturation()
    adaptive()
    replication()
