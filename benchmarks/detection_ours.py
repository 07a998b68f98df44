"""Whole sessions judged by the product's own rule, vectorised over comparisons, for benchmarks/detection.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from detection_noise import Cell, Noise

from pytest_slmperf.engines.pool import host_number
from pytest_slmperf.judging import rule as product
from pytest_slmperf.judging.launch_planning import next_look
from pytest_slmperf.statistics.correlation import shown_correlation
from pytest_slmperf.statistics.crossover import order_of_pairs, residuals_of_order
from pytest_slmperf.statistics.estimate import Hosts, against_stored, host_spread, paired
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, fit_prior, scatter

TESTS, METRICS = 20, 2
COMPARISONS = TESTS * METRICS
SESSION_ALPHA = 0.01
ALPHA = SESSION_ALPHA / COMPARISONS
TOLERANCE, LIMIT = math.log(1.01), math.log(1.05)
MAX_LAUNCHES = 16
BASE_SESSIONS, BASE_LAUNCHES = 4, 4  # a stored baseline: four sessions of four launches
FOUR = np.array([host_number(launch) for launch in range(BASE_LAUNCHES)])
HISTORY_SESSIONS = 8  # sessions in the machine's history, with four launches per test


@dataclass
class Outcome:
    """Per comparison: verdict code, launches per side, whether the reported interval contains the truth."""

    verdict: np.ndarray
    launches: np.ndarray
    covered: np.ndarray


def learned_prior(cell: Cell, rng: np.random.Generator) -> VariancePrior:
    """The prior from the history of a machine with this noise: earlier sessions of the same suite, unchanged code."""
    past = [Noise(cell, COMPARISONS, rng) for _ in range(HISTORY_SESSIONS)]
    sessions = [noise.launches(BASE_LAUNCHES)[0] + noise.session()[:, None] for noise in past]
    duets = np.concatenate([noise.launches(4, side="a")[0] - noise.launches(4, side="b")[0] for noise in past[:3]])
    rests, lost = zip(*(residuals_of_order(duet, order_of_pairs(range(4))) for duet in duets), strict=True)
    correlation = shown_correlation([*np.concatenate(sessions), *duets])
    if cell.host:  # sessions of four launches, two from each of two hosts
        sessions = [values + noise.hosts(BASE_LAUNCHES) for values, noise in zip(sessions, past, strict=True)]
        duets = duets + np.concatenate([noise.hosts(4) - noise.hosts(4) for noise in past[:3]])
        rests, lost = zip(*(residuals_of_order(duet, order_of_pairs(range(4))) for duet in duets), strict=True)
    var, df = fit_prior(*scatter(np.concatenate(sessions), correlation))
    pair_var, pair_df = fit_prior(*scatter(rests, correlation, lost))
    means = np.stack([s.mean(axis=1) for s in sessions])
    noise = var / BASE_LAUNCHES
    host = (stated_host := STATED_PRIOR).host_var, stated_host.host_df
    if cell.host:
        seen = [host_spread([values], [FOUR], np.full(COMPARISONS, var), 0.0, 1e-9)[0].mean() for values in sessions]
        host_df = stated_host.host_df + HISTORY_SESSIONS
        host = (host[0] * host[1] + HISTORY_SESSIONS * float(np.mean(seen))) / host_df, host_df
        noise += host[0] / 2
    between = max(0.0, float((means.var(axis=0, ddof=1) - noise).mean()))
    own = HISTORY_SESSIONS - 1.0
    stated = STATED_PRIOR
    return replace(
        stated,
        launch_var=var,
        launch_df=df,
        pair_var=pair_var,
        pair_df=pair_df,
        session_var=(stated.session_df * stated.session_var + own * between) / (stated.session_df + own),
        session_df=stated.session_df + own,
        source="simulated history",
        correlation=correlation,
        host_var=host[0],
        host_df=host[1],
    )


def todays_prior(cell: Cell, rng: np.random.Generator, tests: int = 5, pairs: int = 3) -> VariancePrior:
    """The prior for duets from the session itself, after ``tests`` finished tests."""
    noise = Noise(cell, tests * METRICS, rng)
    duets = noise.launches(pairs)[0] - noise.launches(pairs)[0]
    rests, lost = zip(*(residuals_of_order(duet, order_of_pairs(range(pairs))) for duet in duets), strict=True)
    var, df = fit_prior(*scatter(rests, 0.0, lost))
    return replace(STATED_PRIOR, pair_var=var, pair_df=df, source="simulated: this session's finished tests")


def run(
    cell: Cell, change: float, comparisons: int, mode: str, prior: VariancePrior, rng: np.random.Generator
) -> Outcome:
    """Measure and judge ``comparisons`` comparisons, whose candidate is slower by ``change``, to their end."""
    noise = Noise(cell, comparisons, rng)
    shift = math.log1p(change)
    rule = product.Rule(comparisons, TOLERANCE, LIMIT, ALPHA, SESSION_ALPHA, MAX_LAUNCHES)
    base = []
    own_session = np.zeros(comparisons)
    if mode == "stored":
        base = [noise.launches(BASE_LAUNCHES)[0] + noise.session()[:, None] for _ in range(BASE_SESSIONS)]
        own_session = noise.session()
    hosts = None
    if cell.host:
        base = [values + noise.hosts(BASE_LAUNCHES) for values in base]
        hosts = noise.hosts(MAX_LAUNCHES) - (noise.hosts(MAX_LAUNCHES) if mode == "duet" else 0.0)
    values = np.zeros((comparisons, 0))
    floors = np.zeros((comparisons, 0))
    used = np.zeros(comparisons, dtype=int)
    nothing = np.zeros(comparisons)
    done = 0
    while (rule.verdict == product.OPEN).any():
        count = next_look(done, MAX_LAUNCHES)
        rows = np.flatnonzero(rule.verdict == product.OPEN)
        new, new_floor = np.zeros((2, comparisons, count - done))
        centre, se2 = noise.launches(count - done, rows)
        new[rows], new_floor[rows] = centre + shift + own_session[rows, None], se2
        if mode == "duet":
            centre, se2 = noise.launches(count - done, rows, side="baseline")
            new[rows] -= centre
            new_floor[rows] += se2
        if hosts is not None:
            new[rows] += hosts[rows, done:count]
        values, floors = np.hstack([values, new]), np.hstack([floors, new_floor])
        used[rows] = count
        after = np.where(rule.suspected_at > 0, rule.suspected_at, count)
        chosen = np.arange(count)[None, :] >= after[:, None]
        floor = floors.mean(axis=1)
        of = None if hosts is None else Hosts(np.array([host_number(n) for n in range(count)]), [FOUR] * len(base))
        if mode == "duet":
            whole, fresh = (
                paired(values, prior, floor, nothing, c, order_of_pairs(range(count)), of) for c in (None, chosen)
            )
        else:
            whole, fresh = (against_stored(values, base, prior, floor, nothing, c, of) for c in (None, chosen))
        rule.look(count, whole, fresh)
        done = count
    covered = (rule.lower <= shift) & (shift <= rule.upper)
    return Outcome(rule.verdict, used, covered)


def sessions(
    cell: Cell, change: float, count: int, mode: str, seed: int, *, history: Cell | str | None = "same"
) -> Outcome:
    """``count`` sessions of 40 comparisons. ``history``: the noise of the machine's history; None: no history.

    Every 50 sessions share a machine with a history of its own.
    """
    parts = []
    for block, first in enumerate(range(0, count, 50)):
        rng = np.random.default_rng([seed, block])
        past = cell if history == "same" else history
        prior = learned_prior(past, rng) if isinstance(past, Cell) else STATED_PRIOR
        if history == "today":
            prior = todays_prior(cell, rng)
        parts.append(run(cell, change, min(50, count - first) * COMPARISONS, mode, prior, rng))
    return Outcome(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("verdict", "launches", "covered")))
