"""Findings of replication: S8 (useful number of replicas), S9 (sharing mode), S10 (gain over fair baselines)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from pytest_slmperf.contrib.findings.finding import Finding, Outcome, Reading, above, all_of, of_metric
from pytest_slmperf.frontier.replication import cannot_run
from pytest_slmperf.model.defaults import LEAST_GAIN
from pytest_slmperf.model.result import Result
from pytest_slmperf.util.formatting import counted, percent, portion

THROUGHPUT, FULL = "output_throughput", 95.0
PAYS = "a second replica adds throughput"
STOPS = "more replicas stop paying once a replica's KV cache is full"
MODE = "MPS gives at least the throughput of time slicing (2 % allowed)"
TOO_MANY = "four time-sliced replicas can be slower than two"
BASELINES = {
    "all memory": "replicas beat one engine with all the memory (published: +33.7 % with MPS)",
    "chunked prefill": "replicas beat the same with chunked prefill (published: +23.6 %)",
    "k=1": "replicas beat one engine with one replica's batch",
}


class Group:
    """The numbers of replicas that one test measured, and its baselines: label → record."""

    def __init__(self, test: str) -> None:
        self.test = test
        self.labels: dict[str, Result] = {}

    @property
    def sharing(self) -> str:
        return next((str(result.scenario.get("sharing", "")) for result in self.counted.values()), "")

    @property
    def counted(self) -> dict[int, Result]:
        """K → record, by rising K."""
        by_count = {
            int(name[2:]): result for name, result in self.labels.items() if name[:2] == "k=" and name[2:].isdigit()
        }
        return dict(sorted(by_count.items()))

    @property
    def failures(self) -> list[str]:
        """The test's notes about each K that could not run and therefore has no record."""
        rows = [row for result in self.labels.values() for row in result.charts.replication]
        return [cannot_run(row.replicas, row.failure) for row in rows if row.failure]

    @property
    def model(self) -> str:
        return next(iter(self.labels.values())).engine.model

    def read(self, label: str) -> Reading | None:
        result = self.labels.get(label)
        return of_metric(result.metrics, THROUGHPUT) if result else None

    def baseline(self, label: str) -> Reading | None:
        """The reading of a fair baseline. "One engine" is the baseline "with chunked prefill" if it chunks by default; the
        published engine with all the memory did not."""
        every = self.labels.get("all memory")
        if every is not None and every.engine.facts.get("chunked_prefill"):
            label = {"chunked prefill": "all memory", "all memory": "no chunked prefill"}.get(label, label)
        return self.read(label)

    def finding(self, scenario: str, statement: str, outcome: Outcome, evidence: str) -> Finding:
        return Finding(scenario, statement, outcome, evidence, self.test, self.model)


def groups(results: Sequence[Result]) -> list[Group]:
    """Replication records, grouped by the test that measured them."""
    by_test: dict[str, Group] = {}
    for result in results:
        test, sign, label = result.id.rpartition("::")
        if result.scenario.get("kind") == "replication" and sign:
            by_test.setdefault(test, Group(test)).labels[label] = result
    return [group for group in by_test.values() if group.counted]


def replication_findings(results: Sequence[Result]) -> Iterator[Finding]:
    every = groups(results)
    for group in every:
        yield from _rise(group)
        yield from _fair(group)
    yield from _modes(every)


def _rise(group: Group) -> Iterator[Finding]:
    known = {k: reading for k in group.counted if (reading := group.read(f"k={k}")) is not None}
    if 1 not in known or len(known) < 2:
        why = "; ".join(group.failures) or "one replica and more than one are needed"
        yield group.finding("S8", PAYS, "not measured", why)
        return
    words = ", ".join(f"{k}: {reading} tok/s" for k, reading in known.items())
    notes = [note for k, result in group.counted.items() if k > 1 for note in result.notes if "share" in note]
    words += f"; {notes[0]}" if notes else ""
    if 2 in known:
        yield group.finding("S8", PAYS, above(known[2] / known[1], 1), f"{words}; 2 against 1: × {known[2] / known[1]}")
    ks = list(known)
    for fewer, more in itertools.pairwise(ks):
        step = known[more] / known[fewer]
        if step.value < 1 + LEAST_GAIN:
            result = group.counted[more]
            peak = of_metric(result.metrics, "kv_cache_peak")
            full = result.preemptions > 0 or (peak is not None and peak.value >= FULL)
            seen = "not told" if peak is None else f"{portion(peak.value / 100)} full"
            evidence = f"{more} against {fewer}: × {step}; KV cache {seen}, {counted(result.preemptions, 'preemption')}"
            sure = step.high < 1 + LEAST_GAIN
            outcome: Outcome = ("holds" if full else "does not hold") if sure else "cannot be told"
            yield group.finding("S8", STOPS, outcome, evidence)
            return
    why = "; ".join([f"every further replica still paid, up to {ks[-1]}", *group.failures])
    yield group.finding("S8", STOPS, "not measured", why)


def _fair(group: Group) -> Iterator[Finding]:
    known = {k: reading for k in group.counted if k > 1 and (reading := group.read(f"k={k}")) is not None}
    if not known:
        return
    best = max(known, key=lambda k: known[k].value)
    for label, statement in BASELINES.items():
        base = group.baseline(label)
        if base is None:
            why = "this baseline was not measured (fair=True measures it; whether prefill is chunked is a setting of vLLM)"
            yield group.finding("S10", statement, "not measured", why)
            continue
        gain = known[best] / base
        words = f"{best} replicas, {group.sharing}: {known[best]} against {base} tok/s, × {gain}"
        yield group.finding("S10", statement, above(gain, 1), f"{words}, {percent(gain.value - 1)}")


def _modes(every: Sequence[Group]) -> Iterator[Finding]:
    sliced = [group for group in every if group.sharing == "time-slice"]
    for group in sliced:
        two, four = group.read("k=2"), group.read("k=4")
        if two is not None and four is not None:
            yield group.finding("S9", TOO_MANY, above(two / four, 1), f"2: {two}, 4: {four} tok/s")
        for other in every:
            if other.sharing != "mps" or other.model != group.model or _stem(other.test) != _stem(group.test):
                continue
            parts, words = [], []
            for k in sorted(set(group.counted) & set(other.counted) - {1}):
                mine, theirs = group.read(f"k={k}"), other.read(f"k={k}")
                if mine is not None and theirs is not None:
                    parts.append(above(theirs / mine, 1 - LEAST_GAIN))
                    words.append(f"{k}: × {theirs / mine}")
            yield other.finding("S9", MODE, all_of(parts), "MPS ÷ time slicing, " + (", ".join(words) or "no common K"))


def _stem(test: str) -> str:
    return test.partition("[")[0]
