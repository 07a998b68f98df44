"""The quality of the verdicts: prints the tables of docs/explanation/verdicts.md from synthetic two-level noise.

    python benchmarks/detection.py            all tables (about 8 minutes on a shared core)
    python benchmarks/detection.py --quick    fewer draws, and exit 1 unless the error bounds hold (for CI, < 60 s)

Our verdicts come from the product's own rule (detection_ours.py), the peers' from their own code where it is installed
(detection_peers.py).  Seeds are fixed.  Table 3, on the real engine, is benchmarks/detection_real.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from detection_noise import Cell, Noise, rounds_for
from detection_ours import COMPARISONS, SESSION_ALPHA, Outcome, run, sessions
from detection_peers import judge, peers
from scipy.stats import beta
from tabulate import tabulate

from pytest_slmperf.judging.rule import INCONCLUSIVE, REGRESSED, SAME
from pytest_slmperf.statistics.crossover import order_of_pairs
from pytest_slmperf.statistics.estimate import paired
from pytest_slmperf.statistics.variance import STATED_PRIOR

START_S, ROUND_S = 3.0, 1.3  # measured: a launch and a round of a 125M model on two CPU cores
SESSION_CV = 0.005


def cells(session: float = 0.0) -> Iterable[Cell]:
    """The grid: within CV {1, 3} % × between CV {0, 1, 3} % × bursts {none, 5 % of rounds × 3}."""
    for within in (0.01, 0.03):
        for between in (0.0, 0.01, 0.03):
            for bursts in (False, True):
                yield Cell(within, between, bursts, session, rounds_for(within))


def upper(found: int, of: int) -> float:
    """Upper 95 % bound of a share (Clopper & Pearson)."""
    return float(beta.ppf(0.95, found + 1, of - found)) if found < of else 1.0


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def alarms(outcome: Outcome) -> tuple[int, int]:
    """Sessions with at least one regressed comparison, and sessions."""
    by_session = (outcome.verdict == REGRESSED).reshape(-1, COMPARISONS).any(axis=1)
    return int(by_session.sum()), len(by_session)


def minutes(outcome: Outcome, cell: Cell, sides: int) -> float:
    """Machine minutes of a comparison: starts and rounds of its launches, in a duet of both sides."""
    return float(outcome.launches.mean()) * sides * (START_S + cell.rounds * ROUND_S) / 60


def show(title: str, head: Sequence[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    print(tabulate(rows, headers=list(head), tablefmt="github", disable_numparse=True), flush=True)


CELL_HEAD = ["within", "between", "bursts", "rounds"]


def table_alarms(count: int, seed: int) -> list[float]:
    """Table 1: unchanged code. Returns the upper bounds of the session false-alarm rate."""
    bounds, rows = [], []
    for mode in ("duet", "stored"):
        for cell in cells(SESSION_CV if mode == "stored" else 0.0):
            for history in ("same", None):
                outcome = sessions(cell, 0.0, count, mode, seed, history=history)
                found, of = alarms(outcome)
                bounds.append(upper(found, of))
                rows.append(
                    [
                        mode,
                        *cell.words(),
                        "yes" if history else "none",
                        f"{percent(found / of, 2)} (≤ {percent(bounds[-1], 2)})",
                        percent((outcome.verdict == SAME).mean()),
                        percent((outcome.verdict == INCONCLUSIVE).mean()),
                        f"{outcome.launches.mean():.1f}",
                        f"{minutes(outcome, cell, 2 if mode == 'duet' else 1):.1f}",
                    ]
                )
    head = ["mode", *CELL_HEAD, "history", "sessions with a false alarm % (upper 95 %)", "same %", "inconclusive %"]
    show(
        f"Table 1. Unchanged code: sessions of 20 tests × 2 metrics, {count} per row; alpha {SESSION_ALPHA:.0%} a session; "
        f"stored: sessions differ by {SESSION_CV:.1%}",
        [*head, "launches a side", "machine min"],
        rows,
    )
    return bounds


def table_beyond(count: int, seed: int) -> list[float]:
    """Table 1b: noise that violates the assumptions of the model."""
    loud = Cell(0.01, 0.03, False, 0.0, 10)
    quiet = Cell(0.01, 0.01, False, 0.0, 10)
    mixed = Cell(0.01, 0.01, True, 0.0, 10, spread=0.5)
    apart = Cell(0.01, 0.01, False, 0.02, 10)
    rows, bounds = [], []
    for words, today, past in (
        ("tests differ in noise (lognormal, sd 0.5)", mixed, "same"),
        ("history quiet (between 1 %), today a neighbour (3 %)", loud, quiet),
        ("a neighbour (3 %), only five finished tests of today known", loud, "today"),
        ("history loud (3 %), today quiet (1 %)", quiet, loud),
        ("two rounds a launch only", Cell(0.03, 0.01, True, 0.0, 2), "same"),
        ("launches resemble the one before (AR(1), 0.5)", Cell(0.01, 0.01, False, 0.0, 10, serial=0.5), "same"),
        ("launches resemble the one before (AR(1), 0.8)", Cell(0.01, 0.01, False, 0.0, 10, serial=0.8), "same"),
        ("launches resemble the one before (AR(1), 0.8), loud", Cell(0.01, 0.03, False, 0.0, 10, serial=0.8), "same"),
        ("sessions differ by 2 %", apart, "same"),
        ("sessions differ by 2 %, no history", apart, None),
        ("sessions differ by 5 %, no history", replace(apart, session=0.05), None),
    ):
        for mode in ("duet",) if past == "today" else ("stored",) if today.session else ("duet", "stored"):
            outcome = sessions(today, 0.0, count, mode, seed, history=past)
            slow = sessions(today, 0.05, max(count // 20, 5), mode, seed + 1, history=past)
            found, of = alarms(outcome)
            bounds.append(upper(found, of))
            rows.append(
                [
                    words,
                    mode,
                    f"{percent(found / of, 2)} (≤ {percent(bounds[-1], 2)})",
                    percent((outcome.verdict == SAME).mean()),
                    percent((outcome.verdict == INCONCLUSIVE).mean()),
                    percent((slow.verdict == REGRESSED).mean()),
                ]
            )
    head = ["what is different", "mode", "sessions with a false alarm % (upper 95 %)", "same %", "inconclusive %"]
    show(f"Table 1b. Beyond the grid, {count} sessions per row", [*head, "5 % slower found %"], rows)
    return bounds


def table_hosts(count: int, seed: int) -> list[float]:
    """Table 1h: launches forked from hosts. Returns the upper bounds of the session false-alarm rate."""
    rows, bounds = [], []
    for mode in ("duet", "stored"):
        for cell in (
            Cell(0.01, between, bursts, SESSION_CV if mode == "stored" else 0.0, 10, host=host)
            for between in (0.01, 0.03)
            for host in (0.01, 0.02)
            for bursts in (False, True)
        ):
            for history in ("same", None):
                outcome = sessions(cell, 0.0, count, mode, seed, history=history)
                found, of = alarms(outcome)
                bounds.append(upper(found, of))
                slow = [sessions(cell, by, max(count // 20, 5), mode, seed + 1, history=history) for by in (0.05, 0.1)]
                rows.append(
                    [
                        mode,
                        f"{cell.host:.0%}",
                        *cell.words()[1:3],
                        "yes" if history else "none",
                        f"{percent(found / of, 2)} (≤ {percent(bounds[-1], 2)})",
                        percent(float(outcome.covered.mean()), 2),
                        percent((outcome.verdict == SAME).mean()),
                        percent((outcome.verdict == INCONCLUSIVE).mean()),
                        *(percent((each.verdict == REGRESSED).mean()) for each in slow),
                        f"{outcome.launches.mean():.1f}",
                    ]
                )
    head = ["mode", "hosts", "between", "bursts", "history", "sessions with a false alarm % (upper 95 %)", "coverage %"]
    show(
        f"Table 1h. Launches forked from hosts that differ, {count} sessions per row; a duet's sides have hosts of their "
        "own (with shared hosts it is table 1's duet)",
        [*head, "same %", "inconclusive %", "5 % slower found %", "10 % found %", "launches a side"],
        rows,
    )
    return bounds


def table_peers(count: int, seed: int) -> None:
    """Tables 1c and 2c: the peers' rules on the same noise: false alarms, and detected slowdowns of 5 % and 3 %."""
    for launches, words in ((1, "one launch a side"), (8, "eight launches a side, rounds pooled")):
        names = [name for name, rule in peers().items() if callable(rule)]
        head = ["within", "between", "bursts", *[f"{name}: alarms %, sessions %, finds 5 %" for name in names]]
        rows = []
        for cell in (Cell(w, b, x, 0.0, 10) for w in (0.01, 0.03) for b in (0.0, 0.01, 0.03) for x in (False, True)):
            noise = Noise(cell, count * COMPARISONS, np.random.default_rng([seed, 3, launches]))
            base, cand = np.exp(noise.raw(launches)), np.exp(noise.raw(launches))
            row = cell.words()[:3]
            for name in names:
                rule = peers()[name]
                assert callable(rule)
                quiet = judge(rule, base, cand)
                if quiet is None:
                    row.append("–")
                    continue
                slow = judge(rule, base, 1.05 * cand)
                assert slow is not None
                session = 1 - (1 - quiet.mean()) ** COMPARISONS
                row.append(f"{percent(quiet.mean())}, {percent(session, 0)}, {percent(slow.mean(), 0)}")
            rows.append(row)
        show(f"Table 1c. The peers' rules on unchanged code and on 5 % slower, {words}, 10 rounds a launch", head, rows)
    for name, rule in peers().items():
        if not callable(rule):
            print(f"{name}: {rule}")


def table_power(count: int, seed: int) -> dict[str, float]:
    """Table 2: slowdowns. Returns the lowest shares, which have targets."""
    rows = []
    worst = {"duet 5 % by 8": 1.0, "duet 3 % by 16": 1.0, "stored 10 %": 1.0}
    per_session = -(-count // COMPARISONS)
    for mode, changes in (("duet", (0.03, 0.05, 0.10)), ("stored", (0.05, 0.10))):
        for cell in cells(SESSION_CV if mode == "stored" else 0.0):
            for change in changes:
                for history in ("same", None):
                    outcome = sessions(cell, change, per_session, mode, seed, history=history)
                    hit = outcome.verdict == REGRESSED
                    by8 = float((hit & (outcome.launches <= 8)).mean())
                    if history and mode == "duet" and cell.between <= 0.01 and change == 0.05:
                        worst["duet 5 % by 8"] = min(worst["duet 5 % by 8"], by8)
                    if history and mode == "duet" and cell.between <= 0.01 and change == 0.03:
                        worst["duet 3 % by 16"] = min(worst["duet 3 % by 16"], float(hit.mean()))
                    if history and mode == "stored" and change == 0.10:
                        worst["stored 10 %"] = min(worst["stored 10 %"], float(hit.mean()))
                    rows.append(
                        [
                            mode,
                            *cell.words(),
                            "yes" if history else "none",
                            f"{change:.0%}",
                            percent(by8),
                            percent(hit.mean()),
                            percent((outcome.verdict == SAME).mean()),
                            percent((outcome.verdict == INCONCLUSIVE).mean()),
                            f"{outcome.launches.mean():.1f}",
                            f"{minutes(outcome, cell, 2 if mode == 'duet' else 1):.1f}",
                        ]
                    )
    head = ["mode", *CELL_HEAD, "history", "slower by", "found by 8 launches %", "by 16 %", "same %", "inconclusive %"]
    show(
        f"Table 2. Slower code, confirmation included; {per_session * COMPARISONS} comparisons per row, "
        f"each at its share of a session's alpha ({SESSION_ALPHA:.0%} ÷ {COMPARISONS})",
        [*head, "launches a side", "machine min"],
        rows,
    )
    rows = []
    for session in (0.0, 0.005, 0.01):
        for between in (0.01, 0.03):
            cell = Cell(0.01, between, False, session, 10)
            row = [f"{session:.1%}", f"{between:.0%}"]
            for change in (0.0, 0.05, 0.10):
                outcome = sessions(cell, change, per_session, "stored", seed)
                row.append(percent((outcome.verdict == (REGRESSED if change else SAME)).mean()))
            rows.append(row)
    head = ["sessions differ by", "between", "unchanged: same %", "5 % slower: found %", "10 % slower: found %"]
    show("Table 2b. Stored baseline: what the difference between sessions costs (with history)", head, rows)
    return worst


def table_coverage(count: int, seed: int) -> float:
    """Table 4: coverage of the reported intervals.  Returns the lowest coverage of the 99 % interval."""
    rows, lowest = [], 1.0
    per_session = -(-count // COMPARISONS)
    for mode in ("duet", "stored"):
        for cell in cells(SESSION_CV if mode == "stored" else 0.0):
            row = [mode, *cell.words()]
            for change in (0.0, 0.03, 0.05):
                covered = float(sessions(cell, change, per_session, mode, seed).covered.mean())
                lowest = min(lowest, covered)
                row.append(percent(covered, 2))
            rows.append(row)
    head = ["mode", *CELL_HEAD, "unchanged", "3 % slower", "5 % slower"]
    show(
        f"Table 4. Coverage of the reported {1 - SESSION_ALPHA:.0%} interval at the moment the verdict was given, %; "
        f"{per_session * COMPARISONS} comparisons per figure",
        head,
        rows,
    )
    rows = []
    for cell in cells():
        row = cell.words()
        for launches in (3, 8):
            held = [_fixed_coverage(cell, launches, 2000, np.random.default_rng([seed, b])) for b in range(25)]
            row.append(percent(float(np.mean(held)), 2))
        rows.append(row)
    head = [*CELL_HEAD, "3 launch pairs", "8 launch pairs"]
    show("Table 4b. Coverage of the plain 95 % moderated interval at a fixed number of launch pairs, %", head, rows)
    return lowest


def _fixed_coverage(cell: Cell, launches: int, size: int, rng: np.random.Generator) -> float:
    from detection_ours import learned_prior
    from scipy.special import stdtrit

    prior = learned_prior(cell, rng)
    noise = Noise(cell, size, rng)
    base, base_se2 = noise.launches(launches)
    cand, cand_se2 = noise.launches(launches)
    found = paired(
        cand - base, prior, (base_se2 + cand_se2).mean(axis=1), np.zeros(size), turn=order_of_pairs(range(launches))
    )
    return float((np.abs(found.delta) <= -stdtrit(found.df, 0.025) * found.se).mean())


def quick() -> int:
    """The quick check; exit code 1 unless the bounds hold."""
    failed = []
    for mode in ("duet", "stored"):
        session = SESSION_CV if mode == "stored" else 0.0
        forked = [Cell(0.01, between, False, session, host=0.02) for between in (0.01, 0.03)]
        for cell in [*cells(session), *forked]:
            cell = replace(cell, rounds=10)
            outcome = sessions(cell, 0.0, 250, mode, 11)
            found, of = alarms(outcome)
            covered = float(outcome.covered.mean())
            print(
                f"{mode:6} {' '.join(cell.words())} hosts {cell.host:.0%}: "
                f"false alarms in {found} of {of} sessions, coverage {covered:.4f}"
            )
            if upper(found, of) > 0.02 + 1e-9:
                failed.append(f"{mode} {cell}: false alarms in {found} of {of} sessions")
            if covered < 1 - SESSION_ALPHA - 0.01:
                failed.append(f"{mode} {cell}: coverage {covered:.4f}")
    from detection_ours import learned_prior

    rng = np.random.default_rng(12)
    cell = Cell(0.01, 0.01, True, 0.0, 10)
    outcome = run(cell, 0.05, 2000, "duet", learned_prior(cell, rng), rng)
    share = float(((outcome.verdict == REGRESSED) & (outcome.launches <= 8)).mean())
    print(f"duet, 5 % slower: found by 8 launches a side in {share:.1%}")
    if share < 0.95:
        failed.append(f"5 % slower found in {share:.1%} only")
    outcome = run(cell, 0.05, 1000, "duet", STATED_PRIOR, rng)
    print(f"duet, 5 % slower, no history: found in {(outcome.verdict == REGRESSED).mean():.1%}")
    for line in failed:
        print("FAILED", line)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer draws, exit 1 unless the bounds hold")
    parser.add_argument("--sessions", type=int, default=500, help="A/A sessions per row of table 1 (default 500)")
    parser.add_argument("--comparisons", type=int, default=2000, help="comparisons per row of tables 2 and 4")
    parser.add_argument("--tables", default="1,1h,1b,1c,2,4", help="which (default all)")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    began = time.perf_counter()
    if options.quick:
        code = quick()
        print(f"took {time.perf_counter() - began:.0f} s")
        return code
    wanted = options.tables.split(",")
    print(
        f"numpy {np.__version__}, seed {options.seed}; regressed, improved, same and inconclusive as the product says them"
    )
    if "1" in wanted:
        bounds = table_alarms(options.sessions, options.seed)
        print(f"\nhighest upper bound of the session false-alarm rate: {max(bounds):.2%}")
    if "1h" in wanted:
        bounds = table_hosts(options.sessions, options.seed)
        print(f"\nhighest upper bound of the session false-alarm rate with hosts: {max(bounds):.2%}")
    if "1b" in wanted:
        table_beyond(options.sessions, options.seed)
    if "1c" in wanted:
        table_peers(10, options.seed)
    if "2" in wanted:
        worst = table_power(options.comparisons, options.seed)
        print(
            "\nlowest over the cells of each target, with history: "
            + ", ".join(f"{k}: {v:.1%}" for k, v in worst.items())
        )
    if "4" in wanted:
        print(
            f"\nlowest coverage of the reported 99 % interval: {table_coverage(options.comparisons, options.seed):.2%}"
        )
    print(f"\ntook {(time.perf_counter() - began) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
