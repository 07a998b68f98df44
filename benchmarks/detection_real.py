"""Verdicts on the real engine: unchanged code, injected slowdowns, with and without a neighbour (table 3).

    python benchmarks/detection_real.py measure --mode duet --slower 0 --sessions 30
    python benchmarks/detection_real.py measure --mode stored --slower 0.1 --sessions 5 --neighbour
    python benchmarks/detection_real.py campaign --minutes 60      # all kinds in turn, until the time is up
    python benchmarks/detection_real.py table

``measure`` runs whole sessions of pytest on vLLM's CPU engine through the product and appends one compact record per
session (rounds, launches, evidence, verdicts, seconds) to benchmarks/data/real_sessions.jsonl.  ``table`` prints, for the
same launches, the verdicts of the session, of today's rule (replay) and of the peers' rules; it needs no engine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
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
VERDICTS = ("regressed", "same", "inconclusive", "incomparable")  # columns of the table; no session has improved so far
SUITE = """
import pytest

@pytest.mark.slmperf(launches={first}, max_launches={launches}, rounds={rounds})
def test_batch(slmperf):
    slmperf.offline(batch=16, input_len=32, output_len={output_len})
"""
EVIDENCE = ("cpu_wait_share", "nivcsw", "steal_share", "psi_cpu_some", "others_cpus")
# One busy neighbour, not pinned, which reads and writes memory in bursts of a few seconds.
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
    os.sched_setaffinity(
        process.pid, range(os.cpu_count() or 1)
    )  # the neighbour must not inherit the session's pinning
    try:
        yield
    finally:
        process.kill()
        process.wait()


def session(
    options: argparse.Namespace, mode: str, slower: float, *extra: str, first: int = 2
) -> tuple[dict[str, Any], float, int]:
    """One session of pytest in the work folder; its results file, its seconds and its exit code."""
    folder: Path = options.work
    folder.mkdir(parents=True, exist_ok=True)
    suite = SUITE.format(
        first=first, launches=max(first, options.launches), rounds=options.rounds, output_len=options.output_len
    )
    (folder / "test_real.py").write_text(suite)
    out = folder / "results.json"
    out.unlink(missing_ok=True)
    path = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path), "SLOW_ENGINE_FRACTION": str(slower)}
    command = [sys.executable, "-m", "pytest", "-q", "test_real.py", "-p", "slowed_engine", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "--slmperf", "--slmperf-engine", "vllm", "--slmperf-model", options.model]
    command += ["--slmperf-json", str(out), "--slmperf-max-time", str(options.max_time), *extra]
    command += ["--slmperf-fork", "auto" if options.fork else "never"]
    if mode == "duet":
        command += ["--slmperf-against", "engine.engine=plain"]
    if options.limit:
        command += ["--slmperf-tolerance", str(options.limit / 5), "--slmperf-limit", str(options.limit)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if not out.exists():
        said = f"{done.stdout[-3000:]}{done.stderr[-2000:]}"
        raise SystemExit(f"the session wrote no results (exit code {done.returncode}):\n{said}")
    return json.loads(out.read_text()), seconds, done.returncode


def history(options: argparse.Namespace) -> bool:
    """Store the baseline, four sessions of six launches, which is also the history of noise for duets.

    False if none could be stored, because the machine was always disturbed.
    """
    baselines = options.work / "baselines"
    stored = any(baselines.rglob("*.json"))
    for _ in range(max(options.history, 0 if stored else 4)):
        why = ["--slmperf-approve", "--slmperf-reason", "benchmark", "--slmperf-fail-on", "never"]
        results, seconds, _ = session(options, "stored", 0.0, *why, first=6)
        said = results["results"][0]["verdicts"][0]
        print(f"baseline session: {said['verdict']} {said['reason']} ({seconds:.0f} s)", flush=True)
    return any(baselines.rglob("*.json"))


def compact(results: dict[str, Any]) -> dict[str, Any]:
    """The part of a results file that replay needs: verdicts, and per launch the rounds with their evidence, as columns."""
    (result,) = results["results"]
    launches = []
    for launch in result["launches"]:
        rounds = launch["rounds"]
        launches.append(
            {
                "side": launch["side"],
                "index": launch["index"],
                "host": launch.get("host"),
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


def measure(options: argparse.Namespace, mode: str, slower: float, busy: bool) -> None:
    """Run one session and append it to the records."""
    with neighbour(busy):
        results, seconds, code = session(options, mode, slower)
    record = {"mode": mode, "slower": slower, "neighbour": busy, "exit": code, "seconds": round(seconds, 1)}
    record |= ({"limit": options.limit} if options.limit else {}) | ({"fork": True} if options.fork else {})
    record |= compact(results)
    DATA.parent.mkdir(exist_ok=True)
    with DATA.open("a") as file:
        file.write(json.dumps(record, separators=(",", ":")) + "\n")
    said = next(v for v in record["verdicts"] if v["metric"] == METRIC)
    kind = f"{mode}{', forked' if options.fork else ''}, {slower:.0%} slower{', neighbour' if busy else ''}"
    print(f"{kind}: {said['verdict']} {said['reason']} ({seconds:.0f} s)", flush=True)


# Half of a campaign measures unchanged code, the other half the slowdowns, each with and without a neighbour.
CAMPAIGN = [
    ("duet", 0.0, False),
    ("duet", 0.10, False),
    ("duet", 0.0, True),
    ("duet", 0.05, False),
    ("stored", 0.0, False),
    ("stored", 0.10, False),
    ("duet", 0.0, False),
    ("duet", 0.05, True),
    ("duet", 0.0, False),
    ("duet", 0.03, False),
]


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


Pair = tuple[
    list[float], list[float], int
]  # rounds of a launch of the candidate, and of the baseline; the pair's number


def pairs_of(record: dict[str, Any]) -> list[Pair]:
    sides = {side: dict(clean(record, side)) for side in ("candidate", "baseline")}
    both = sorted(set(sides["candidate"]) & set(sides["baseline"]))
    return [(sides["candidate"][pair], sides["baseline"][pair], pair) for pair in both]


Hosts = dict[tuple[str, int], str | None]  # (side, number of the launch) → its launch host


def hosts_of(record: dict[str, Any]) -> Hosts:
    return {(launch["side"], launch["index"]): launch.get("host") for launch in record["launches"]}


def judged(pairs: list[Pair], alpha: float = 0.00025, hosts: Hosts | None = None) -> tuple[str, int]:
    """The verdict of today's rule on successive launch pairs, and the number of pairs that it needed."""
    from pytest_slmperf.judging.comparison import Comparison
    from pytest_slmperf.model.verdict import Gate, LaunchSample

    known = hosts or {}
    sides = [
        [LaunchSample(pair[side], "", pair[2], host=known.get((name, pair[2]))) for pair in pairs]
        for side, name in enumerate(("candidate", "baseline"))
    ]
    comparison = Comparison([Gate(METRIC, "higher")], {}, alpha=alpha, mode="duet")
    done, ahead, verdict = 0, comparison.first_launches, "inconclusive"
    while done < len(pairs):
        done = min(len(pairs), done + ahead)
        decision = comparison.decide({METRIC: sides[0][:done]}, {METRIC: sides[1][:done]}, final=done == len(pairs))
        verdict, ahead = decision.judgements[0].verdict, decision.next_launches
        if decision.done:
            break
    return verdict, done


def replay(record: dict[str, Any]) -> str:
    return judged(pairs_of(record), hosts=hosts_of(record))[0]


def resampled(records: list[dict[str, Any]], sessions: int, most: int = 12, seed: int = 20261123) -> None:
    """Bootstrap many sessions from few: draw pairs with replacement, swap sides at random, slow the candidate.

    The noise is the real engine's, the truth is known, and there are enough sessions to estimate a rate. The bootstrap does
    not contain noise that lasts longer than a pair and affects one side only; the sessions of table 3 do.
    """
    rows = []
    for busy in (False, True):
        pool = [
            p
            for r in records
            if (r["mode"], r["slower"], r["neighbour"], r.get("fork")) == ("duet", 0.0, busy, None)
            for p in pairs_of(r)
        ]
        if len(pool) < 8:
            continue
        for slower in (0.0, 0.03, 0.05, 0.10):
            rng, said, looked = np.random.default_rng([seed, busy, int(1000 * slower)]), [], []
            for _ in range(sessions):
                drawn: list[Pair] = []
                for index, swap in zip(rng.integers(len(pool), size=most), rng.random(most) < 0.5, strict=True):
                    one, other, pair = pool[index]
                    # A swap changes which side went first; each draw keeps the order in which it was measured.
                    one, other, turn = (other, one, pair + 1) if swap else (one, other, pair)
                    drawn.append(([value * (1 - slower) for value in one], other, 2 * len(drawn) + turn % 2))
                verdict, pairs = judged(drawn)
                said.append(verdict)
                looked.append(pairs)
            counts = [said.count(name) for name in ("regressed", "same", "improved", "inconclusive")]
            share = [f"{100 * count / sessions:.1f}" for count in counts]
            row = ["yes" if busy else "no", len(pool), f"{slower:.0%}", sessions, *share, f"{np.mean(looked):.1f}"]
            rows.append(row)
    head = ["neighbour", "real pairs", "slower by", "sessions", "regressed %", "same %", "improved %", "inconclusive %"]
    print(f"\nTable 3b. Sessions drawn from the real A/A launch pairs, at most {most} pairs each, no history\n")
    print(tabulate(rows, headers=[*head, "pairs looked at"], tablefmt="github", disable_numparse=True))


def table(sessions: int) -> None:
    records = [json.loads(line) for line in DATA.read_text().splitlines() if line]
    groups: dict[tuple[str, float, bool], list[dict[str, Any]]] = {}
    for record in records:
        mode = record["mode"] + (f", limit {record['limit']:.0%}" if "limit" in record else "")
        mode += ", forked" if record.get("fork") else ""
        groups.setdefault((mode, record["slower"], record["neighbour"]), []).append(record)
    rows = []
    for (mode, slower, busy), group in sorted(groups.items()):
        said = [next(v for v in r["verdicts"] if v["metric"] == METRIC) for r in group]
        count = Counter(v["verdict"] for v in said)
        assert not count.keys() - set(VERDICTS), count  # the columns cover every session
        rounds = [r for record in group for launch in record["launches"] for r in launch["values"]]
        spoiled = sum(len(launch["disturbed"]) for record in group for launch in record["launches"])
        again = "–"
        if mode == "duet":  # at the usual margins
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
                " / ".join(str(count[name]) for name in VERDICTS),
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
        " / ".join(VERDICTS),
        "replayed, no history",
    ]
    head += ["median change", "launches a side", "rounds disturbed %", "seconds"]
    print("Table 3. Real sessions on vLLM's CPU engine\n")
    print(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True))
    resampled(records, sessions)
    peer_table(records)


def peer_table(records: list[dict[str, Any]]) -> None:
    """The peers' rules on the first launch pair of each duet, as the tools are used."""
    rows = []
    for slower in sorted({r["slower"] for r in records if r["mode"] == "duet"}):
        for busy in (False, True):
            group = [r for r in records if (r["mode"], r["slower"], r["neighbour"]) == ("duet", slower, busy)]
            first = []
            for record in group:
                first += [(base, cand) for cand, base, _ in pairs_of(record)]
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
    one = commands.add_parser("measure", help="run sessions of one kind and append their records")
    one.add_argument("--mode", choices=("duet", "stored"), default="duet")
    one.add_argument("--slower", type=float, default=0.0, help="share of each step's time that is waited (default 0)")
    one.add_argument("--sessions", type=int, default=1)
    one.add_argument("--neighbour", action="store_true", help="load the machine beside the engines")
    campaign = commands.add_parser("campaign", help="run sessions of all kinds in turn until the time is up")
    campaign.add_argument("--minutes", type=float, default=60)
    for run in (one, campaign):
        run.add_argument("--model", default="opt-125m")
        run.add_argument("--rounds", type=int, default=8)
        run.add_argument("--launches", type=int, default=12, help="most launches a side")
        run.add_argument(
            "--output-len", type=int, default=32, help="tokens of each answer; short rounds, short sessions"
        )
        run.add_argument(
            "--limit", type=float, help="what must not pass, e.g. 0.03; the tolerance is then a fifth of it"
        )
        run.add_argument("--fork", action="store_true", help="launches forked from hosts (--slmperf-fork auto)")
        run.add_argument("--max-time", type=int, default=600, help="seconds a session may take")
        run.add_argument(
            "--history", type=int, default=0, help="baseline sessions to add first; the first is always run"
        )
        run.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "slmperf-detection")
    printed = commands.add_parser("table", help="print table 3 from the records")
    printed.add_argument("--resampled", type=int, default=1000, help="sessions a row of table 3b (default 1000)")
    options = parser.parse_args()
    if options.command == "table":
        table(options.resampled)
        return 0
    stored = history(options)
    if options.command == "measure":
        if options.mode == "stored" and not stored:
            raise SystemExit("no baseline could be stored: the machine was disturbed all the time")
        for _ in range(options.sessions):
            measure(options, options.mode, options.slower, options.neighbour)
        return 0
    end = time.monotonic() + 60 * options.minutes
    for kind in itertools.cycle(CAMPAIGN):
        if time.monotonic() > end:
            break
        if stored or kind[0] == "duet":
            measure(options, *kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
