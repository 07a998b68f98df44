"""Findings of sweeps: batch and saturation (S1, S2, S4), KV budget (S5), context (S6), the advisor's
pick (S7), energy (S11), utilisation (S12).

Figures quoted as published are those of arXiv 2404.03353 and arXiv 2503.08311 (OPT-1.3B on one H100).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_slmperf.contrib.findings.finding import Finding, Outcome, Reading, above, all_of, below, of_point
from pytest_slmperf.frontier.knee import Knee, KneeUncertainty, knee_uncertainty, share_knee
from pytest_slmperf.frontier.points import Point, points_of
from pytest_slmperf.model.result import Result
from pytest_slmperf.util.formatting import number, portion

THROUGHPUT, ENERGY, POWER, KV = "output_throughput", "energy_per_output_token", "mean_power", "kv_cache_peak"
BUSY = "utilization_percent_mean"
FLAT = 0.10  # largest relative change of "flat" energy per token beyond the knee
STEEP = 0.5  # largest energy per token at the knee, as a share of the smallest batch's
POWER_FLAT = 1.5  # largest factor between mean powers of a sweep that are "nearly flat"
SMALL_KV = 50.0  # percent of the KV cache within which a small model reaches 95 % of its peak

RISES = "throughput rises with the batch"
SUBLINEAR = "it rises less than the batch does"
PLATEAU = "it reaches a plateau: 95 % of the peak before the largest batch"
SATURATED_KNEE = "95 % of the peak throughput at 50 % of the KV cache or less (published: batch 256, 38 %)"
PAST_PEAK = "every point past the peak is dominated"
BUDGET = "95 % of the peak throughput with less KV cache than the largest budget"
CONTEXT_KV = "at one batch, longer answers fill more KV cache"
CONTEXT_ITL = "and each token waits longer"
PICK = "the advisor's pick keeps its SLO when it is measured again"
ENERGY_FALLS = "at the knee a token costs at most half of what it costs in the smallest batch (published: 1/25)"
ENERGY_FLAT = "past the knee energy per token moves by less than 10 %"
POWER_NEARLY = "mean power rises less than 1.5-fold over the sweep (published: 1.2)"
UTILISATION = "NVML's utilisation does not tell throughput: somewhere it rises by less than half as much, or falls"


class View:
    """One measured sweep over a numeric setting, its usable points by rising key."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.key: str = str(result.scenario.get("key", ""))
        counted = {
            point.key: point for point in points_of(result.points, [THROUGHPUT]) if not isinstance(point.key, str)
        }
        self.points: list[Point] = sorted(counted.values(), key=lambda point: point.number)
        by_key: dict[Any, Mapping[str, Any]] = {row["key"]: row for row in result.points}
        self.rows = [by_key[point.key] for point in self.points]
        self.knee: Knee | None = share_knee(self.points, THROUGHPUT) if len(self.points) > 1 else None
        self.sure: KneeUncertainty | None = knee_uncertainty(self.points, THROUGHPUT) if self.knee else None

    @property
    def saturated(self) -> bool:
        """The engine's limit under one load (S2), not the number of requests (S1)."""
        return self.key == "max_num_seqs" and not {"batch", "requests", "waves"}.isdisjoint(self.result.scenario)

    def read(self, index: int, name: str) -> Reading | None:
        return of_point(self.rows[index], name)

    def throughput(self, index: int) -> Reading:
        reading = self.read(index, THROUGHPUT)
        assert reading is not None  # the rows include only points with it
        return reading

    def knee_range(self) -> tuple[float, float]:
        """Keys between which the knee lies; the key twice if it was measured only once."""
        assert self.knee is not None
        return (self.sure.low, self.sure.high) if self.sure else (float(self.knee.key),) * 2

    @property
    def knee_index(self) -> int:
        assert self.knee is not None
        return next(index for index, point in enumerate(self.points) if point.key == self.knee.key)

    def knee_before_end(self) -> Outcome:
        """Whether the knee lies before the largest key, with its whole range."""
        low, high = self.knee_range()
        largest = self.points[-1].number
        return "holds" if high < largest else "does not hold" if low >= largest else "cannot be told"

    def kv_at_knee(self) -> Reading | None:
        """Percent of the KV cache filled at the knee, between the least and the most over the knee's range."""
        low, high = self.knee_range()
        at = self.read(self.knee_index, KV)
        if at is None:
            return None
        near = [
            reading.value
            for index, point in enumerate(self.points)
            if low <= point.number <= high and (reading := self.read(index, KV)) is not None
        ]
        return Reading(at.value, min(near), max(near))

    def knee_words(self) -> str:
        assert self.knee is not None
        low, high = self.knee_range()
        about = f", {portion(self.sure.confidence)} of resamples between {low:g} and {high:g}" if self.sure else ""
        return f"knee at {self.key} {self.knee.key} ({portion(self.knee.share_of_peak)} of the peak{about})"

    def finding(self, scenario: str, statement: str, outcome: Outcome, evidence: str) -> Finding:
        return Finding(scenario, statement, outcome, evidence, self.result.id, self.result.engine.model)


def sweep_findings(result: Result) -> Iterator[Finding]:
    """The findings of one sweep's record; with fewer than two usable points, the sweep counts as not measured."""
    view = View(result)
    if ("::confirm " in result.id) or not view.key:
        return
    if view.key in ("batch", "max_num_seqs", "requests"):
        yield from _batch(view)
    elif view.key == "kv_cache_tokens":
        yield from _budget(view)
    elif view.key in ("output_len", "input_len"):
        yield from _context(view)


def _batch(view: View) -> Iterator[Finding]:
    first = "S2" if view.saturated else "S1"
    if view.knee is None:
        why = f"{len(view.points)} usable points; {'; '.join(view.result.notes) or 'a shape needs two'}"
        yield view.finding(first, RISES, "not measured", why)
        return
    gain = view.throughput(-1) / view.throughput(0)
    low, high = view.points[0].number, view.points[-1].number
    span = f"{view.key} {low:g} → {high:g}: {view.throughput(0)} → {view.throughput(-1)} tok/s, × {gain}"
    if not view.saturated:
        yield view.finding("S1", RISES, above(gain, 1), span)
        if low > 0:
            yield view.finding("S1", SUBLINEAR, below(gain, high / low), f"× {gain} for × {number(high / low)}")
    yield view.finding(first, PLATEAU, view.knee_before_end(), view.knee_words())
    if view.saturated:
        yield _small_kv(view)
    yield from _past_peak(view)
    yield from _energy(view)
    yield from _utilisation(view)


def _small_kv(view: View) -> Finding:
    share = view.kv_at_knee()
    if share is None:
        return view.finding("S2", SATURATED_KNEE, "not measured", "the engine did not tell how full its KV cache was")
    return view.finding("S2", SATURATED_KNEE, below(share, SMALL_KV), f"{view.knee_words()}; KV cache {share} %")


def _past_peak(view: View) -> Iterator[Finding]:
    standing = [str(row.get("standing")) for row in view.rows]
    best = max(range(len(view.points)), key=lambda index: view.throughput(index).value)
    front = ", ".join(f"{point.key}" for point, how in zip(view.points, standing, strict=True) if how == "frontier")
    past = standing[best + 1 :]
    where = f"frontier of {' and '.join(view.result.scenario.get('objectives', []))}: {front or 'none'}"
    if not past:
        yield view.finding("S4", PAST_PEAK, "not measured", f"the largest key has the most throughput; {where}")
        return
    outcome: Outcome = "holds"
    if "frontier" in past:
        outcome = "does not hold"
    elif set(past) != {"dominated"}:
        outcome = "cannot be told"
    keys = ", ".join(f"{point.key} {how}" for point, how in zip(view.points[best + 1 :], past, strict=True))
    yield view.finding("S4", PAST_PEAK, outcome, f"peak at {view.points[best].key}; {keys}; {where}")


def _energy(view: View) -> Iterator[Finding]:
    joules = [view.read(index, ENERGY) for index in range(len(view.rows))]
    at = view.knee_index
    first, knee = joules[0], joules[at]
    if first is None or knee is None:
        missing = view.rows[0].get("missing") or {}
        yield view.finding("S11", ENERGY_FALLS, "not measured", str(missing.get(ENERGY) or "no energy reading"))
        return
    fall = knee / first
    words = f"{first} → {knee} J/token from {view.key} {view.points[0].key} to {view.points[at].key}, × {fall}"
    yield view.finding("S11", ENERGY_FALLS, below(fall, STEEP), words)
    later = [
        (point.key, reading / knee)
        for point, reading in zip(view.points[at + 1 :], joules[at + 1 :], strict=True)
        if reading
    ]
    if later:
        parts = [all_of((below(ratio, 1 + FLAT), above(ratio, 1 - FLAT))) for _, ratio in later]
        words = ", ".join(f"{key}: × {ratio}" for key, ratio in later)
        yield view.finding("S11", ENERGY_FLAT, all_of(parts), f"against the knee, {words}")
    else:
        yield view.finding("S11", ENERGY_FLAT, "not measured", "no point past the knee has an energy reading")
    watts = [reading for index in range(len(view.rows)) if (reading := view.read(index, POWER)) is not None]
    if len(watts) > 1:
        rise = max(watts, key=lambda reading: reading.value) / min(watts, key=lambda reading: reading.value)
        words = f"{watts[0]} → {watts[-1]} W, largest ÷ smallest {rise}"
        yield view.finding("S11", POWER_NEARLY, below(rise, POWER_FLAT), words)


def _utilisation(view: View) -> Iterator[Finding]:
    seen = [(index, busy) for index in range(len(view.rows)) if (busy := view.read(index, BUSY)) is not None]
    if len(seen) < 2:
        return  # no GPU, or none that reports it
    outcome: Outcome = "does not hold"
    parts = [f"{view.points[seen[0][0]].key}: {portion(seen[0][1].value / 100)}"]
    for (here, busy), (there, later) in itertools.pairwise(seen):
        more = view.throughput(there) / view.throughput(here)
        parts.append(f"{view.points[there].key}: {portion(later.value / 100)}, tok/s × {number(more.value)}")
        if busy.value > 0 and more.low > 1 and later.value / busy.value - 1 < (more.low - 1) / 2:
            outcome = "holds"
    yield view.finding("S12", UTILISATION, outcome, "; ".join(parts))


def _budget(view: View) -> Iterator[Finding]:
    if view.knee is None:
        yield view.finding("S5", BUDGET, "not measured", f"{len(view.points)} usable points; a plateau needs two")
        return
    freed = int(view.points[-1].number - float(view.knee.key))
    memory = _kv_bytes(view.result)
    size = f" ({memory if isinstance(memory, str) else f'{freed * memory / 2**30:.3g} GiB'})" if memory else ""
    yield view.finding(
        "S5", BUDGET, view.knee_before_end(), f"{view.knee_words()}; {freed} tokens of KV cache freed{size}"
    )


def _kv_bytes(result: Result) -> int | str | None:
    """Bytes of KV cache per token of a preset, or a sentence for an unknown format; None for other models, which a page
    does not look up."""
    from pytest_slmperf.engines.presets import presets
    from pytest_slmperf.model.architecture import kv_dtype

    model = presets().get(result.engine.model)
    if model is None:
        return None
    kept = kv_dtype(result.engine.settings.get("kv_cache_dtype"), result.engine.dtype)
    return model.kv_bytes_per_token(kept) or f"bytes of a KV cache in {kept} not known"


def _context(view: View) -> Iterator[Finding]:
    if len(view.points) < 2:
        yield view.finding("S6", CONTEXT_KV, "not measured", f"{len(view.points)} usable points")
        return
    for statement, name, unit in ((CONTEXT_KV, KV, "%"), (CONTEXT_ITL, "itl_mean", "ms")):
        first, last = view.read(0, name), view.read(-1, name)
        if first is None or last is None:
            yield view.finding("S6", statement, "not measured", f"no reading of {name}")
            continue
        words = f"{view.key} {view.points[0].key} → {view.points[-1].key}: {first} → {last} {unit}"
        yield view.finding("S6", statement, above(last / first, 1) if first.value > 0 else "cannot be told", words)


def pick_findings(results: Sequence[Result]) -> Iterator[Finding]:
    """S7: each advised point that was measured again, checked against its bounds."""
    by_id = {result.id: result for result in results}
    for result in results:
        test, sign, _ = result.id.partition("::confirm ")
        asked = by_id.get(test)
        if not sign or asked is None:
            continue
        slos = asked.charts.sweep.slos or [] if asked.charts.sweep else []
        row = result.points[0] if result.points else {}
        parts: list[Outcome] = []
        words = []
        for slo in slos:
            reading = of_point(row, slo.name)
            if reading is None:
                parts.append("not measured")
                continue
            lower = slo.better == "lower"
            parts.append(below(reading, slo.bound) if lower else above(reading, slo.bound))
            words.append(f"{slo.name} {reading} {'≤' if lower else '≥'} {number(slo.bound)}")
        key = row.get("key", "?")
        evidence = f"{key}: " + ("; ".join(words) or "the record holds no bound")
        yield Finding("S7", PICK, all_of(parts), evidence, result.id, result.engine.model)
