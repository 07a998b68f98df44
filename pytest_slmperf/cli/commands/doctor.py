"""``slmperf doctor``: what can be measured on this machine, how quiet it is, and what is missing."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import time
from pathlib import Path
from typing import Any

from pytest_slmperf.cli import output
from pytest_slmperf.util.formatting import portion

DESCRIPTION = """\
Looks at engines, energy meters, the clock, the noise of the machine and the optional packages, and says for whatever is
missing what to do about it. It starts no engine and takes some seconds; up to five more where the tick of a GPU's energy
counter is not known yet.
"""
EPILOG = """\
examples:
  slmperf doctor
  slmperf doctor --json | jq '.engines'

exit codes: 0 a real engine can be measured here, 2 none can
"""
NOISE_S = 1.0

# The purpose of each optional package, and the extra that installs it.
OPTIONAL = {
    "vl_convert": ("charts in the report and as pictures", "report"),
    "psycopg": ("baselines in PostgreSQL", "postgres"),
    "pyarrow": ("export to Parquet", "parquet"),
    "mlflow": ("export to MLflow", "mlflow"),
    "otava": ("change points in the history", "history"),
}


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "doctor", help="what can be measured on this machine, and what is missing",
        description=DESCRIPTION, epilog=EPILOG,
    )  # fmt: skip
    output.add_store(parser)
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pytest_slmperf.environment.fingerprint import describe_machine

    machine = describe_machine()
    engines = _engines()
    report: dict[str, Any] = {
        "machine": machine,
        "engines": engines,
        "meters": _meters(),
        "clock": clock(),
        "noise": noise(NOISE_S),
        "baselines": _baselines(args.baselines, machine.fingerprint),
        "missing": [
            {"package": name, "for": use, "mend": f"pip install 'pytest-slmperf[{extra}]'"}
            for name, (use, extra) in OPTIONAL.items()
            if importlib.util.find_spec(name) is None
        ],
    }
    if args.json:
        output.print_json(report)
    else:
        _show(report)
    # A remote endpoint is always "ready", whatever this machine can measure.
    return 0 if any(row["usable"] and not row["simulated"] and not row["remote"] for row in engines) else 2


def clock() -> dict[str, float]:
    """Smallest observed step of CLOCK_MONOTONIC, and its resolution by the system, in seconds."""
    steps = []
    for _ in range(1000):
        start = time.monotonic()
        while (now := time.monotonic()) == start:
            pass
        steps.append(now - start)
    return {"tick_s": min(steps), "resolution_s": time.get_clock_info("monotonic").resolution}


def noise(seconds: float) -> dict[str, Any]:
    """Coefficient of variation of a fixed piece of work on one core (about 5 ms of counting), and evidence.

    The evidence: involuntary context switches of this process, CPU steal, pressure and load.
    """
    import resource

    work = _work_of(0.005)
    before, steal = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, read_steal_s()
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        _count(work)
        times.append(time.perf_counter() - start)
    mean = math.fsum(times) / len(times)
    sd = math.sqrt(math.fsum((seconds - mean) ** 2 for seconds in times) / (len(times) - 1)) if len(times) > 1 else 0.0
    ordered = sorted(times)
    stolen = read_steal_s()
    return {
        "pieces": len(times),
        "cv": sd / mean,
        "slowest_over_median": ordered[-1] / ordered[len(ordered) // 2],
        "involuntary_switches": resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - before,
        "steal_s": None if steal is None or stolen is None else stolen - steal,
        "load_1min": os.getloadavg()[0],
        "cpu_pressure_percent": read_pressure(),
    }


def _count(work: int) -> None:
    for _ in range(work):
        pass


def _work_of(seconds: float) -> int:
    work = 10_000
    while True:
        start = time.perf_counter()
        _count(work)
        taken = time.perf_counter() - start
        if taken >= seconds:
            return work
        work = int(work * max(1.2, min(10.0, 1.1 * seconds / max(taken, 1e-9))))


def read_steal_s(path: Path = Path("/proc/stat")) -> float | None:
    """CPU seconds that the hypervisor gave to other machines, over all cores; None if they are unknown."""
    try:
        return int(path.read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def read_pressure(path: Path = Path("/proc/pressure/cpu")) -> float | None:
    """Share of the last 10 s in which some task waited for a core, in percent; None if it is unknown."""
    try:
        fields = dict(part.split("=") for part in path.read_text().splitlines()[0].split()[1:])
        return float(fields["avg10"])
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _engines() -> list[dict[str, Any]]:
    from pytest_slmperf.engines.registry import Registry

    rows: dict[str, dict[str, Any]] = {}
    for adapter in Registry(output.hooked("pytest_slmperf_engines")):
        missing = adapter.missing()
        rows[adapter.name] = {
            "name": adapter.name,
            "simulated": adapter.traits.simulated,
            "remote": adapter.traits.remote,
            "usable": missing is None,
            "missing": missing,
            "device": adapter.default_device() if missing is None else None,
        }
    return list(rows.values())


def ready_text(engine: dict[str, Any], gpus: list[dict[str, Any]]) -> str:
    """ "ready on cuda:0 (NVIDIA H100)"."""
    if engine["simulated"]:
        return "ready (simulated: figures say nothing about hardware)"
    kind, _, number = (engine["device"] or "").partition(":")
    if not kind:
        return "ready"
    index = int(number) if number.isdigit() else 0
    name = gpus[index].get("name") if kind == "cuda" and index < len(gpus) else None
    return f"ready on {engine['device']}" + (f" ({name})" if name else "")


def _meters() -> list[dict[str, Any]]:
    from pytest_slmperf.cli.commands.energy import doctor_rows
    from pytest_slmperf.energy.registry import adapted

    rows = []
    for meter in map(adapted, output.hooked("pytest_slmperf_meters")):
        try:
            devices = doctor_rows(meter)
            rows.append({"name": meter.name, "available": meter.available, "reason": meter.reason, "devices": devices})
        finally:
            meter.close()
    return rows


def _baselines(place: str, machine: str) -> dict[str, Any]:
    """The number of baselines and their systems; an unreadable place is reported, not raised."""
    from pytest_slmperf.errors import SlmperfError

    try:
        store = output.open_store(place)
        stored = store.all()
    except SlmperfError as error:
        return {"place": place, "problem": str(error)}
    systems: dict[str, int] = {}
    for baseline in stored:
        systems[baseline.fingerprint] = systems.get(baseline.fingerprint, 0) + 1
    here = sum(baseline.machine.fingerprint == machine for baseline in stored)
    return {"place": str(store), "baselines": len(stored), "of_this_machine": here, "systems": systems}


def _show(report: dict[str, Any]) -> None:
    from pytest_slmperf.cli.commands.energy import doctor_lines

    machine = report["machine"]
    cards = ", ".join(machine.cards) or "no GPU"
    _line(
        "machine",
        f"{machine.cpu.get('model')}, {machine.cpu.get('cores')} cores, {machine.memory_bytes / 2**30:.0f} GiB",
    )
    _line("", f"{cards}{f', driver {machine.driver}' if machine.driver else ''}; fingerprint {machine.fingerprint}")
    for number, engine in enumerate(report["engines"]):
        state = ready_text(engine, machine.gpus) if engine["usable"] else f"missing: {engine['missing']}"
        _line("" if number else "engines", f"{engine['name']}: {state}")
    for number, meter in enumerate(report["meters"]):
        state = "available" if meter["available"] else f"unavailable: {meter['reason']}"
        _line("" if number else "energy", f"{meter['name']}: {state}")
        for line in doctor_lines(meter["devices"]):
            _line("", f"  {line}")
    _line("clock", f"CLOCK_MONOTONIC ticks every {report['clock']['tick_s'] * 1e9:.0f} ns")
    _line("noise", _noise_line(report["noise"]))
    kept = report["baselines"]
    if "problem" in kept:
        _line("baselines", kept["problem"])
    else:
        _line("baselines", f"{kept['baselines']} in {kept['place']}, {kept['of_this_machine']} of this machine")
    for number, row in enumerate(report["missing"]):
        _line("" if number else "missing", f"{row['package']} ({row['for']}): {row['mend']}")


def _noise_line(noise: dict[str, Any]) -> str:
    verdict = (
        "quiet"
        if noise["cv"] < 0.02
        else "some noise"
        if noise["cv"] < 0.1
        else "noisy: use a duet, or a quieter machine"
    )
    slowest = f"slowest {noise['slowest_over_median']:.1f}× the median"
    text = f"5 ms of work varies by {portion(noise['cv'], 2)} ({slowest}): {verdict}"
    text += f"; {noise['involuntary_switches']} involuntary switches, load {noise['load_1min']:.1f}"
    if noise["steal_s"]:
        text += f", {noise['steal_s']:.2f} s stolen by the hypervisor"
    return text


def _line(head: str, text: str) -> None:
    output.say(f"{head:<10} {text}")
