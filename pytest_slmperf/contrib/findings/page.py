"""All findings of some results, and their page: Markdown, or JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pytest_slmperf.contrib.findings import across, replicas, sweeps
from pytest_slmperf.contrib.findings.finding import Finding, Source
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.text_out import markdown as escaped

SIMULATED = "simulated"  # the weights of a result that was not measured

# The claim of each scenario, and the shipped test that measures it. The page has every claim, even without a result for it.
CLAIMS: tuple[tuple[str, str, str], ...] = (
    ("S1", sweeps.RISES, "test_pareto.py::test_frontier"),
    ("S2", sweeps.SATURATED_KNEE, "test_pareto.py::test_saturated, --slmperf-profile full"),
    ("S3", across.SLOWER, "test_pareto.py::test_model_size, --slmperf-profile full"),
    ("S3", across.KNEE_RISES, "test_pareto.py::test_saturated with several --slmperf-model"),
    ("S4", sweeps.PAST_PEAK, "test_pareto.py::test_frontier"),
    ("S5", sweeps.BUDGET, "test_kv_budget.py, --slmperf-profile full"),
    ("S6", sweeps.CONTEXT_KV, "test_context.py"),
    ("S7", sweeps.PICK, "test_pareto.py::test_frontier, --slmperf-profile full"),
    ("S8", replicas.PAYS, "test_replication.py"),
    ("S9", replicas.MODE, "test_replication.py on a GPU"),
    ("S10", replicas.BASELINES["all memory"], "test_replication.py, --slmperf-profile full"),
    ("S11", sweeps.ENERGY_FALLS, "test_pareto.py::test_frontier with an energy meter"),
    ("S12", sweeps.UTILISATION, "test_cpu_overhead.py on a GPU"),
    ("S13", across.GRAPHS, "test_cpu_overhead.py on a GPU"),
)


def findings_of(sources: Sequence[Source]) -> list[Finding]:
    """Every statement, checked against these results, in the scenarios' order.

    InvalidInput if the files come from different machines, whose figures must not be mixed.
    """
    machines = {source.results.machine.fingerprint: source.name for source in sources}
    if len(machines) > 1:
        raise InvalidInput(
            "the files come from different machines ("
            + ", ".join(f"{name}: {print_}" for print_, name in machines.items())
            + "); make a page for each"
        )
    results = [result for source in sources for result in source.results.results]
    weights = {result.engine.weights for result in results}
    if SIMULATED in weights and len(weights) > 1:
        raise InvalidInput("some results are simulated and some are measured; make a page for each")
    findings: list[Finding] = []
    for result in results:
        if result.scenario.get("kind") == "sweep":
            findings += sweeps.sweep_findings(result)
    for source in sources:  # a pick and its replicas belong to the same run
        findings += sweeps.pick_findings(source.results.results)
        findings += replicas.replication_findings(source.results.results)
    findings += across.across_findings(results)
    seen = {(finding.scenario, finding.statement) for finding in findings}
    spoken = {finding.scenario for finding in findings}
    for scenario, statement, test in CLAIMS:
        lacks = (scenario, statement) not in seen and (scenario not in spoken or scenario == "S3")
        if lacks:
            findings.append(Finding(scenario, statement, "not measured", f"perf_tests/{test} measures it"))
    return sorted(findings, key=lambda finding: int(finding.scenario[1:]))


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """Number of statements per outcome."""
    counted = Counter(finding.outcome for finding in findings)
    return {name: counted.get(name, 0) for name in ("holds", "does not hold", "cannot be told", "not measured")}


def as_json(sources: Sequence[Source], findings: Sequence[Finding]) -> dict[str, Any]:
    """The page for programs."""
    return {
        "files": [source.name for source in sources],
        "machine": sources[0].results.machine.fingerprint,
        "counts": counts(findings),
        "findings": [asdict(finding) for finding in findings],
    }


def markdown(sources: Sequence[Source], findings: Sequence[Finding]) -> str:
    """The page for readers."""
    results = [result for source in sources for result in source.results.results]
    lines = ["# Findings", "", *_about(sources), ""]
    if SIMULATED in {result.engine.weights for result in results}:
        lines += ["**Simulated: these figures show what the tool does, and say nothing about a machine.**", ""]
    lines += [", ".join(f"{count} {name}" for name, count in counts(findings).items() if count) + ".", ""]
    lines += ["| | statement | outcome | measured | model | test |", "|---|---|---|---|---|---|"]
    for finding in findings:
        cells = (finding.scenario, finding.statement, finding.outcome, finding.evidence, finding.model, finding.test)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines += [
        "",
        "Intervals are 95 %, over launches of the engine (over rounds where there was one launch). A statement holds or",
        "fails with its whole interval; between the two it cannot be told, and more launches would tell. A figure without",
        "an interval was read once, and its value decides. Published figures are of OPT-1.3B on one H100 (arXiv 2404.03353,",
        "arXiv 2503.08311).",
        "",
    ]
    return "\n".join(lines)


def _about(sources: Sequence[Source]) -> list[str]:
    machine = sources[0].results.machine
    where = ", ".join(machine.cards) or f"{machine.cpu.get('model', 'CPU')}, {machine.cpu.get('cores', '?')} cores"
    engines = sorted(
        {
            f"{result.engine.name} {result.engine.version or ''}".strip() + f" ({result.engine.weights} weights)"
            for source in sources
            for result in source.results.results
        }
    )
    driver = f", driver {machine.driver}" if machine.driver else ""
    lines = [f"- Device: {_cell(where + driver)} (<code>{_cell(machine.fingerprint)}</code>)"]
    lines.append(f"- Engine: {_cell('; '.join(engines) or 'none')}")
    for source in sources:
        session = source.results.session
        when = f"{session.started_at}, profile {session.profile or 'not told'}"
        lines.append(f"- <code>{_cell(source.name)}</code>: {_cell(when)}")
    return lines


def _cell(text: str) -> str:
    """Text that cannot break a table, nor be read as markup."""
    return escaped(text)
