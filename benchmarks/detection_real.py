"""Verdicts on the real engine: unchanged code, injected slowdowns, with and without a neighbour (table 3).

    python benchmarks/detection_real.py measure --mode duet --slower 0 --sessions 30
    python benchmarks/detection_real.py measure --mode stored --slower 0.05 --sessions 5 --neighbour
    python benchmarks/detection_real.py table

``measure`` runs whole sessions of pytest on vLLM's CPU engine through the product and appends one compact record a
session (rounds, launches, evidence, verdicts, seconds) to benchmarks/data/real_sessions.jsonl.  ``table`` prints what
the product said, what its rule of today says of the same launches (replay), and what the peers' rules say of them; it
needs no engine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from detection_peers import judge, peers
from tabulate import tabulate

HERE = Path(__file__).parent
DATA = HERE / "data" / "real_sessions.jsonl"
METRIC = "output_throughput"
SUITE = """
import pytest

@pytest.mark.slmperf(launches=2, max_launches={launches}, rounds={rounds})
def test_batch(slmperf):
    slmperf.offline(batch=16, input_len=32, output_len=32)
"""
EVIDENCE = ("cpu_wait_share", "nivcsw", "steal_share", "psi_cpu_some", "others_cpus")
# One busy neighbour: reads and writes memory without pause, unpinned, in bursts of a few seconds.
NEIGHBOUR = """
import random, time
data = bytearray(64 << 20)
while True:
    end = time.monotonic() + random.uniform(1, 4)
    while time.monotonic() < end:
        data[:] = data[::-1]
    time.sleep(random.uniform(1, 4))
"""


@contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def session(folder: Path, options: argparse.Namespace, slower: float, *extra: str) -> tuple[dict[str, Any], float, int]:
    """One session of pytest in ``folder``; its results file, its seconds and its exit code."""
    (folder / "test_real.py").write_text(SUITE.format(launches=options.launches, rounds=options.rounds))
    out = folder / "results.json"
    out.unlink(missing_ok=True)
    path = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path), "SLOW_ENGINE_FRACTION": str(slower)}
    engine = ["--slmperf-engine", "vllm"]
    if options.mode == "duet":
        engine = ["--slmperf-engine", "slowed", "--slmperf-against", "engine.engine=vllm"]
    elif slower:
        env["SLOW_ENGINE_AS_VLLM"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "test_real.py", "-p", "slowed_engine", "-p", "no:cacheprovider"]
    command += ["--slmperf", *engine, "--slmperf-model", options.model, "--slmperf-json", str(out)]
    command += ["--slmperf-max-time", str(options.max_time), *extra]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if not out.exists():
        raise SystemExit(
            f"the session wrote no results (exit code {done.returncode}):\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
        )
    return json.loads(out.read_text()), seconds, done.returncode


def compact(results: dict[str, Any]) -> dict[str, Any]:
    """What replay needs of a results file: verdicts, and per launch the rounds with their evidence, as columns."""
    (result,) = results["results"]
    launches = []
    for launch in result["launches"]:
        rounds = launch["rounds"]
        launches.append(
            {
                "side": launch["side"],
                "index": launch["index"],
                "warmup": launch["warmup_rounds"],
                "values": [float(f"{r['values'].get(METRIC, 0):.5g}") for r in rounds],
                "disturbed": [n for n, r in enumerate(rounds) if r["contaminated"]],
                "evidence": {
                    key: [float(f"{r['evidence'][key]:.4g}") if key in r["evidence"] else None for r in rounds]
                    for key in EVIDENCE
                },
            }
        )
    return {
        "machine": {"cpu": results["machine"]["cpu"].get("model"), "engine": result["engine"]["version"]},
        "verdicts": [
            {key: verdict[key] for key in ("metric", "verdict", "change", "ci", "gate", "reason")}
            for verdict in result["verdicts"]
        ],
        "notes": result["notes"],
        "used": [
            (s or {}).get("launch_values") for s in (v["detail"] for v in result["verdicts"] if v["metric"] == METRIC)
        ],
        "launches": launches,
    }


def measure(options: argparse.Namespace) -> None:
    DATA.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, neighbour(options.neighbour):
        folder = Path(name)
        if options.mode == "stored":
            if options.baselines:
                shutil.copytree(options.baselines, folder / "baselines", dirs_exist_ok=True)
            known = len(list((folder / "baselines").rglob("*.json"))) if options.baselines else 0
            for _ in range(0 if known else 4):  # the baseline itself: four sessions of unchanged code
                session(
                    folder,
                    options,
                    0.0,
                    "--slmperf-approve",
                    "--slmperf-reason",
                    "benchmark",
                    "--slmperf-fail-on",
                    "never",
                )
            if options.baselines and not known:
                shutil.copytree(folder / "baselines", options.baselines, dirs_exist_ok=True)
        for number in range(options.sessions):
            results, seconds, code = session(folder, options, options.slower)
            record = {
                "mode": options.mode,
                "slower": options.slower,
                "neighbour": options.neighbour,
                "exit": code,
                "seconds": round(seconds, 1),
                **compact(results),
            }
            with DATA.open("a") as file:
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
            said = next(v for v in record["verdicts"] if v["metric"] == METRIC)
            print(f"{number + 1}/{options.sessions} {said['verdict']} {said['reason']} ({seconds:.0f} s)", flush=True)


def clean(record: dict[str, Any], side: str) -> list[tuple[int, list[float]]]:
    """Launch number and the rounds that count, of one side."""
    found = []
    for launch in record["launches"]:
        if launch["side"] == side:
            kept = [
                v
                for n, v in enumerate(launch["values"])
                if n >= launch["warmup"] and n not in launch["disturbed"] and v > 0
            ]
            if kept:
                found.append((launch["index"], kept))
    return found


def replay(record: dict[str, Any]) -> str:
    """What the product's rule of today says of a duet's launches, looked at one pair after the other."""
    from pytest_slmperf.verdicts.comparison import Comparison
    from pytest_slmperf.verdicts.types import Gate, LaunchSample

    sides = {side: dict(clean(record, side)) for side in ("candidate", "baseline")}
    pairs = sorted(set(sides["candidate"]) & set(sides["baseline"]))
    samples = {side: [LaunchSample(of[pair], "", pair) for pair in pairs] for side, of in sides.items()}
    comparison = Comparison([Gate(METRIC, "higher")], {}, alpha=0.00025, mode="duet")
    done, ahead, verdict = 0, comparison.first_launches, "inconclusive"
    while done < len(pairs):
        done = min(len(pairs), done + ahead)
        decision = comparison.decide(
            {METRIC: samples["candidate"][:done]}, {METRIC: samples["baseline"][:done]}, final=done == len(pairs)
        )
        verdict, ahead = decision.judgements[0].verdict, decision.next_launches
        if decision.done:
            break
    return verdict


def table() -> None:
    records = [json.loads(line) for line in DATA.read_text().splitlines() if line]
    groups: dict[tuple[str, float, bool], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["mode"], record["slower"], record["neighbour"]), []).append(record)
    rows = []
    for (mode, slower, busy), group in sorted(groups.items()):
        said = [next(v for v in r["verdicts"] if v["metric"] == METRIC) for r in group]
        count = {
            name: sum(v["verdict"] == name for v in said) for name in ("regressed", "same", "improved", "inconclusive")
        }
        rounds = [r for record in group for launch in record["launches"] for r in launch["values"]]
        spoiled = sum(len(launch["disturbed"]) for record in group for launch in record["launches"])
        again = "–"
        if mode == "duet":
            found = [replay(record) for record in group]
            sure = [found.count("regressed"), found.count("same")]
            again = f"{sure[0]} / {sure[1]} / {len(found) - sum(sure)}"
        rows.append(
            [
                mode,
                f"{slower:.0%}",
                "yes" if busy else "no",
                len(group),
                sum(r["exit"] == 1 for r in group),
                f"{count['regressed']} / {count['same']} / {count['inconclusive']}",
                again,
                f"{np.median([v['change'] for v in said if v['change'] is not None]):+.1%}"
                if any(v["change"] is not None for v in said)
                else "–",
                f"{np.mean([sum(x['side'] == 'candidate' for x in r['launches']) for r in group]):.1f}",
                f"{100 * spoiled / max(1, len(rounds)):.0f}",
                f"{np.median([r['seconds'] for r in group]):.0f}",
            ]
        )
    head = [
        "mode",
        "slower by",
        "neighbour",
        "sessions",
        "failed",
        "regressed / same / inconclusive",
        "replayed, no history",
    ]
    head += ["median change", "launches a side", "rounds disturbed %", "seconds"]
    print("Table 3. Real sessions on vLLM's CPU engine\n")
    print(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True))
    peer_table(records)


def peer_table(records: list[dict[str, Any]]) -> None:
    """The peers' rules on the first launch pair of each duet, as the tools are used."""
    rows = []
    for slower in sorted({r["slower"] for r in records if r["mode"] == "duet"}):
        for busy in (False, True):
            group = [r for r in records if (r["mode"], r["slower"], r["neighbour"]) == ("duet", slower, busy)]
            first = []
            for record in group:
                sides = [dict(clean(record, side)) for side in ("baseline", "candidate")]
                first += [[s[pair] for s in sides] for pair in sorted(set(sides[0]) & set(sides[1]))]
            if not first:
                continue
            row = [f"{slower:.0%}", "yes" if busy else "no", len(first)]
            for rule in peers().values():
                if not callable(rule):
                    continue
                said = []
                for base, cand in first:
                    if min(len(base), len(cand)) < 3:
                        continue
                    one = judge(rule, 1 / np.array([[base]]), 1 / np.array([[cand]]))
                    if one is not None:
                        said.append(bool(one[0]))
                row.append(f"{100 * np.mean(said):.0f}" if said else "–")
            rows.append(row)
    if rows:
        names = [name for name, rule in peers().items() if callable(rule)]
        print("\nThe peers' rules on each launch pair of the duets: flagged %, rounds taken as seconds\n")
        print(
            tabulate(
                rows, headers=["slower by", "neighbour", "pairs", *names], tablefmt="github", disable_numparse=True
            )
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("measure", help="run sessions and append their records")
    run.add_argument("--mode", choices=("duet", "stored"), default="duet")
    run.add_argument("--slower", type=float, default=0.0, help="share of each step's time that is waited (default 0)")
    run.add_argument("--sessions", type=int, default=1)
    run.add_argument("--neighbour", action="store_true", help="load the machine beside the engines")
    run.add_argument("--model", default="opt-125m")
    run.add_argument("--rounds", type=int, default=8)
    run.add_argument("--launches", type=int, default=12, help="most launches a side")
    run.add_argument("--max-time", type=int, default=600, help="seconds a session may take")
    run.add_argument("--baselines", type=Path, help="folder that keeps the stored baseline between calls")
    commands.add_parser("table", help="print table 3 from the records")
    options = parser.parse_args()
    if options.command == "measure":
        measure(options)
    else:
        table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
