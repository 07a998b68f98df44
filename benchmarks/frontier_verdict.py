"""Rates of false alarms and of detected slowdowns (at large batch only) of a sweep's verdict, on synthetic launches.

Six points; the noise of launches and rounds multiplies throughput and divides latency, as on a real engine, where both come
from the same step time.  A stored baseline of two sessions with two launches each; up to six launches of the candidate.  The
prior comes from the stored launches of the sweep itself, as in a session (``--no-history``: no history).

    python benchmarks/frontier_verdict.py [--sweeps 200] [--no-history]
"""

from __future__ import annotations

import argparse
import random

from tabulate import tabulate

from pytest_slmperf.frontier.pareto import hypervolume, standings
from pytest_slmperf.frontier.points import Objective, Point
from pytest_slmperf.frontier.regression import VOLUME, frontier_verdict, point_metric, split_point_metric, volume_margin
from pytest_slmperf.judging.comparison import Comparison
from pytest_slmperf.model.verdict import Gate, LaunchSample
from pytest_slmperf.statistics.variance import VariancePrior, estimate_prior

GOALS = (Objective("output_throughput", "higher"), Objective("itl_mean", "lower"))
CURVE = {
    1: (277.0, 3.62),
    8: (1741.0, 4.57),
    32: (4160.0, 7.51),
    96: (6553.0, 13.9),
    256: (7842.0, 29.3),
    512: (8128.0, 52.1),
}
LARGE, ALPHA, ROUNDS, MOST = (256, 512), 0.01 / 10, 5, 6  # alpha: of a session of ten tests


def launch(draw: random.Random, between: float, within: float, slow: float) -> dict[str, list[float]]:
    """Rounds of one launch at every point, and the hypervolume of their means."""
    found: dict[str, list[float]] = {}
    points = []
    for key, (rate, gap) in CURVE.items():
        factor = draw.gauss(1, between) * (1 + slow if key in LARGE else 1)
        rounds = [factor * draw.gauss(1, within) for _ in range(ROUNDS)]
        found[point_metric("output_throughput", key)] = [rate / one for one in rounds]
        found[point_metric("itl_mean", key)] = [gap * one for one in rounds]
        points.append(
            Point(
                key, {name: sum(found[point_metric(name, key)]) / ROUNDS for name in ("output_throughput", "itl_mean")}
            )
        )
    found[VOLUME] = [hypervolume(points, GOALS).volume]
    return found


def samples(launches: list[tuple[str, dict[str, list[float]]]]) -> dict[str, list[LaunchSample]]:
    return {name: [LaunchSample(one[name], session) for session, one in launches] for name in launches[0][1]}


def priors(base: dict[str, list[LaunchSample]]) -> dict[str, VariancePrior]:
    """The priors in the form of ``measuring.judge``: one per metric, from all of its points."""
    alike: dict[str, dict[str, list[LaunchSample]]] = {}
    for name, found in base.items():
        alike.setdefault(split_point_metric(name)[0], {})[name] = found
    known = {metric: estimate_prior(points) for metric, points in alike.items()}
    return {name: known[split_point_metric(name)[0]] for name in base}


def sweep(
    draw: random.Random, between: float, within: float, slow: float, history: bool
) -> tuple[str, tuple[str, ...], int]:
    """(verdict, lost points, launches spent) of one sweep."""
    base = samples([(f"s{n // 2}", launch(draw, between, within, 0.0)) for n in range(4)])
    gates = [Gate(name, "lower" if name.startswith("itl") else "higher") for name in base if name != VOLUME]
    tolerance, limit = volume_margin(gates[0].tolerance, len(GOALS)), volume_margin(gates[0].limit, len(GOALS))
    gates.append(Gate(VOLUME, "higher", tolerance, limit))
    known = priors(base) if history else None
    comparison = Comparison(gates, base, alpha=ALPHA / len(gates), mode="stored", prior=known, max_launches=MOST)
    ranks = standings([Point(key, {"output_throughput": t, "itl_mean": g}) for key, (t, g) in CURVE.items()], GOALS)
    measured = [("now", launch(draw, between, within, slow)) for _ in range(2)]
    while True:
        decision = comparison.decide(samples(measured), final=len(measured) >= MOST)
        if decision.done or len(measured) >= MOST:
            break
        more = min(decision.next_launches, MOST - len(measured))
        measured += [("now", launch(draw, between, within, slow)) for _ in range(more)]
    verdict = frontier_verdict(decision.judgements, dict(zip(map(str, CURVE), ranks, strict=True)), key_name="batch")
    return verdict.verdict, verdict.lost, len(measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=200, help="per cell [%(default)s]")
    parser.add_argument("--no-history", action="store_true", help="nothing is known of the machine's noise beforehand")
    given = parser.parse_args()
    count = given.sweeps
    rows = []
    for between, within in ((0.005, 0.01), (0.01, 0.01), (0.01, 0.03), (0.03, 0.01)):
        for slow in (0.0, 0.05, 0.1, 0.2):
            draw = random.Random(f"{between}/{within}/{slow}")
            found = [sweep(draw, between, within, slow, not given.no_history) for _ in range(count)]
            hits = [lost for verdict, lost, _ in found if verdict == "regressed"]
            right = sum(set(lost) <= set(map(str, LARGE)) for lost in hits)
            rows.append(
                [
                    f"{between:.1%}",
                    f"{within:.0%}",
                    f"{slow:.0%}" if slow else "identical",
                    f"{len(hits) / count:.1%}",
                    f"{right / len(hits):.0%}" if hits else "",
                    f"{sum(verdict == 'inconclusive' for verdict, _, _ in found) / count:.0%}",
                    f"{sum(spent for _, _, spent in found) / count:.1f}",
                ]
            )
    headers = [
        "between launches",
        "within",
        "batch ≥ 256 slower by",
        "regressed",
        "only right points",
        "inconclusive",
        "launches",
    ]
    print(tabulate(rows, headers))


if __name__ == "__main__":
    main()
