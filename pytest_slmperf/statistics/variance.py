"""The prior of the noise, from a machine's history, and the moderated variance of a test with few launches.

The unit of analysis is the launch.  A handful of launches hardly shows its variance; therefore it is moderated: the variance
of this test is shrunk toward the variance in this machine's history and in the other tests of the session, which have the
weight of their degrees of freedom (empirical Bayes; Smyth 2004, as in limma).  All variances are of natural logs: a standard
deviation of 0.01 is a coefficient of variation of 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, gammaln

from pytest_slmperf.model.verdict import LaunchSample
from pytest_slmperf.statistics.correlation import LEAST_LAUNCHES, effective_df, scatter_share, shown_correlation
from pytest_slmperf.statistics.crossover import order_of_pairs, residuals_of_order
from pytest_slmperf.statistics.launch_centre import log_centre

Array = NDArray[np.float64]

MAX_DF = 100.0  # of a history of any length, since the machine may have changed
LEAST_VAR = 1e-4**2  # launches that agree within 0.01 % do so by chance, or are simulated
CONFLICT = 0.005  # level of the test that a sample is noisier than its prior, which is then not used


@dataclass(frozen=True, slots=True)
class VariancePrior:
    """The variances that are expected before a test is measured, each with its degrees of freedom.

    launch:      of a launch's centre within a session
    pair:        of the log-ratio of the two launches of a duet pair
    session:     between sessions
    host:        between launch hosts, a deviation that all launches forked from a host share
    source:      origin of the prior, for the report
    correlation: of neighbouring launches in a session, 0 unless the history shows it (see ``correlation``)
    """

    launch_var: float
    launch_df: float
    pair_var: float
    pair_df: float
    session_var: float
    session_df: float
    source: str
    correlation: float = 0.0
    host_var: float = 0.01**2
    host_df: float = 4.0

    def as_dict(self) -> dict[str, float | str]:
        """Plain form with standard deviations in percent, for the report."""
        return {
            "source": self.source,
            "launch_sd_percent": round(100 * math.sqrt(self.launch_var), 3),
            "launch_df": round(self.launch_df, 1),
            "pair_sd_percent": round(100 * math.sqrt(self.pair_var), 3),
            "pair_df": round(self.pair_df, 1),
            "session_sd_percent": round(100 * math.sqrt(self.session_var), 3),
            "session_df": round(self.session_df, 1),
            "correlation": round(self.correlation, 2),
            "host_sd_percent": round(100 * math.sqrt(self.host_var), 3),
            "host_df": round(self.host_df, 1),
        }


# For a machine without history: as noisy as a shared two-core machine with a busy neighbour. A quiet machine then needs a
# few launches more until it has a history, and a noisy machine raises no false alarm.  A single stored session does not show
# the variance between sessions; few degrees of freedom allow for machines whose sessions differ by more.
STATED_PRIOR = VariancePrior(
    launch_var=0.03**2,
    launch_df=4.0,
    pair_var=2 * 0.03**2,
    pair_df=4.0,
    session_var=0.01**2,
    session_df=5.0,
    source="stated: no history of this machine yet",
)


class Moderated(NamedTuple):
    """A moderated variance with its degrees of freedom. ``conflict``: whether the prior was left out."""

    var: Array
    df: Array
    conflict: NDArray[np.bool_]


def moderate(var: Array, df: Array, prior_var: float | Array, prior_df: float | Array) -> Moderated:
    """Shrink sample variances, with ``df`` degrees of freedom (0: no sample), toward the prior.

    If a sample is far noisier than the prior allows (F test at CONFLICT), the prior is left out: it does not fit this test
    today, for instance because of a new neighbour on the machine.
    """
    var, df = np.asarray(var, dtype=float), np.asarray(df, dtype=float)
    known_var, known_df = np.broadcast_arrays(np.asarray(prior_var, float), np.asarray(prior_df, float))
    safe_df = np.where(df > 0, df, 1.0)
    p = fdtrc(safe_df, np.maximum(known_df, 1e-9), np.where(df > 0, var, 0.0) / np.maximum(known_var, 1e-300))
    conflict = (df > 0) & (p < CONFLICT)
    mixed = (known_df * known_var + df * np.where(df > 0, var, 0.0)) / (known_df + df)
    return Moderated(np.where(conflict, var, mixed), np.where(conflict, df, known_df + df), conflict)


def fit_prior(variances: Sequence[float], dfs: Sequence[float]) -> tuple[float, float]:
    """Prior variance and degrees of freedom from many sample variances, by marginal maximum likelihood.

    The model is limma's: a sample variance with d degrees of freedom is s0² times an F(d, d0) variable.  limma matches
    moments of log s²; for the two or three launches of a session, maximum likelihood is much sharper.  The degrees of
    freedom are at most MAX_DF and at most half of the samples' sum.  ValueError without a variance of at least 1 degree.
    """
    var, df = np.asarray(variances, float), np.asarray(dfs, float)
    keep = (df >= 1) & np.isfinite(var)
    var, df = var[keep], df[keep]
    if not len(var):
        raise ValueError("no variance with at least one degree of freedom")
    var = np.maximum(var, LEAST_VAR)
    pooled = float((df * var).sum() / df.sum())
    most = min(MAX_DF, float(df.sum()) / 2)
    prior_dfs = np.geomspace(min(1.0, most), most, 24)
    centre, reach = math.log(pooled), 4.0
    best = (-math.inf, pooled, most)
    for _ in range(3):  # each time on a finer grid about the best scale
        scales = np.exp(centre + np.linspace(-reach, reach, 33))
        for prior_df in prior_dfs:
            likelihood = _log_likelihood(var, df, scales, float(prior_df))
            at = int(likelihood.argmax())
            if likelihood[at] > best[0]:
                best = (float(likelihood[at]), float(scales[at]), float(prior_df))
        centre, reach = math.log(best[1]), reach / 12
    return best[1], best[2]


def _log_likelihood(var: Array, df: Array, scales: Array, prior_df: float) -> Array:
    """Log-likelihood of the sample variances for each scale s0², up to a constant."""
    ratio = df[:, None] * var[:, None] / (prior_df * scales[None, :])
    constant = gammaln((df + prior_df) / 2) - gammaln(prior_df / 2)
    each = constant[:, None] + df[:, None] / 2 * np.log(ratio) - (df[:, None] + prior_df) / 2 * np.log1p(ratio)
    total: Array = each.sum(axis=0)
    return total


Pairs = tuple[Sequence[LaunchSample], Sequence[LaunchSample]]


def estimate_prior(
    history: Mapping[str, Sequence[LaunchSample]],
    pairs: Iterable[Pairs] = (),
    stated: VariancePrior = STATED_PRIOR,
) -> VariancePrior:
    """The prior that a machine's history supports.

    history: per metric and test (keys may be any text) all launches measured on this machine, with their ``session``
    pairs:   duets, as (baseline launches, candidate launches) joined by ``pair``; a shift between the sides does not matter
    stated:  the prior of each variance that the history does not show

    Both should include the finished tests of the running session, which show how noisy the machine is today.

    >>> quiet = {f"t{i}": [LaunchSample([100.0 + i + j], session="a") for j in range(4)] for i in range(8)}
    >>> estimate_prior(quiet).launch_df > STATED_PRIOR.launch_df
    True
    """
    groups: list[list[float]] = []
    tests: list[dict[str, list[float]]] = []
    hosted: list[dict[str, list[float]]] = []  # for each test and session, the launches of each host
    shared: dict[tuple[object, ...], list[list[float]]] = {}  # tests whose forked launches are the same processes
    for key, samples in history.items():
        sessions: dict[str, list[float]] = {}
        hosts: dict[str, dict[str, list[float]]] = {}
        for sample in samples:
            centre = log_centre(sample.rounds, key)
            sessions.setdefault(sample.session, []).append(centre)
            if sample.host is not None:
                hosts.setdefault(sample.session, {}).setdefault(sample.host, []).append(centre)
        tests.append(sessions)
        hosted += hosts.values()
        groups += [logs for logs in sessions.values() if len(logs) > 1]
        for name, logs in sessions.items():
            forked = [sample.host for sample in samples if sample.session == name]
            # What is not forked is a sequence of its own.
            which = (name, *forked[:LEAST_LAUNCHES]) if None not in forked else (name, key)
            shared.setdefault(which, []).append(logs)
    duets, rests, lost = _duets(pairs)
    # Without ``rests``: removing the effect of the order also removes an alternation from launch to launch.
    rho = shown_correlation([*map(_common_course, shared.values()), *duets])
    launch_vars, launch_dfs = scatter(groups, rho)
    pair_vars, pair_dfs = scatter(rests, rho, lost)
    prior, said = replace(stated, correlation=rho), []
    if sum(launch_dfs) >= 2 * stated.launch_df:
        var, df = fit_prior(launch_vars, launch_dfs)
        # Common deviations of both sides cancel in a duet, so that twice the launch variance is an upper bound for pairs.
        prior = replace(prior, launch_var=var, launch_df=df, pair_var=2 * var, pair_df=df)
        said.append(f"{len(launch_vars)} groups of launches with {sum(launch_dfs):.0f} degrees of freedom")
    if sum(pair_dfs) >= 2 * stated.pair_df:
        var, df = fit_prior(pair_vars, pair_dfs)
        prior = replace(prior, pair_var=var, pair_df=df)
        said.append(f"{len(pair_vars)} duets with {sum(pair_dfs):.0f} degrees of freedom")
    host = _host_variance(hosted, prior.launch_var)
    if host is not None:
        var, df = _pooled(stated.host_var, stated.host_df, *host)
        prior = replace(prior, host_var=var, host_df=df)
        said.append(f"launch hosts with {host[1]:.0f} degrees of freedom")
    session = _session_variance(tests, prior.launch_var)
    if session is not None:
        var, df = _pooled(stated.session_var, stated.session_df, *session)
        prior = replace(prior, session_var=var, session_df=df)
        said.append(f"{session[1] + 1:.0f} sessions")
    if rho:
        said.append(f"launches resemble the one before ({rho:.2f})")
    return replace(prior, source="history: " + ", ".join(said)) if said else prior


def _common_course(tests: Sequence[Sequence[float]]) -> Array:
    """The mean course of several tests over the launches that all of them have, of which each is one process.

    A process that is slow is so in every test: its course is seen once, however many tests share it.
    """
    count = min(map(len, tests))
    centred = [np.asarray(logs[:count]) - np.mean(logs[:count]) for logs in tests]
    return np.asarray(np.mean(centred, axis=0))


def _pooled(stated_var: float, stated_df: float, var: float, df: float) -> tuple[float, float]:
    """A stated variance and an estimated one, weighted by their degrees of freedom, and the sum of these."""
    return (stated_df * stated_var + df * var) / (stated_df + df), stated_df + df


def _duets(pairs: Iterable[Pairs]) -> tuple[list[list[float]], list[Array], list[int]]:
    """Each duet's pair differences, their residuals after the effect of the order, and the degrees of freedom that the
    residuals lost. Duets without remaining degrees of freedom are left out."""
    duets, rests, taken = [], [], []
    for sides in pairs:
        differences = pair_differences(*sides)
        turn = order_of_pairs(list(differences))
        if not differences or turn is None:
            continue
        rest, lost = residuals_of_order(list(differences.values()), turn)
        if len(rest) > lost:
            duets.append(list(differences.values()))
            rests.append(rest)
            taken.append(lost)
    return duets, rests, taken


def scatter(
    groups: Sequence[Sequence[float] | Array], rho: float, lost: int | Sequence[int] = 1
) -> tuple[list[float], list[float]]:
    """Variance and degrees of freedom of each group of launches (or pair differences) with correlation ``rho``.

    ``lost``: degrees of freedom that each group's fit used, one for its mean and one for the effect of the order.
    """
    sizes = np.array([len(group) for group in groups], float)
    left = sizes - np.asarray(lost, float)
    squares = np.array([((np.asarray(group) - np.mean(group)) ** 2).sum() for group in groups])
    variances = squares / left / scatter_share(rho, sizes)
    return list(map(float, variances)), list(map(float, np.maximum(1.0, effective_df(rho, left))))


def pair_differences(baseline: Sequence[LaunchSample], candidate: Sequence[LaunchSample]) -> dict[int, float]:
    """Log-ratio candidate ÷ baseline of each complete duet pair, by pair number."""
    base = {s.pair: log_centre(s.rounds, "baseline") for s in baseline if s.pair is not None}
    return {
        s.pair: log_centre(s.rounds, "candidate") - base[s.pair]
        for s in candidate
        if s.pair is not None and s.pair in base
    }


def _session_variance(tests: list[dict[str, list[float]]], launch_var: float) -> tuple[float, float] | None:
    """Variance between sessions over all tests, and its degrees of freedom.

    A warm day slows all tests together: twenty tests in three sessions count as three sessions, not as sixty.
    """
    estimates: list[float] = []
    weights: list[float] = []
    most = 0
    for sessions in tests:
        if len(sessions) < 2:
            continue
        means = [float(np.mean(logs)) for logs in sessions.values()]
        noise = launch_var * float(np.mean([1 / len(logs) for logs in sessions.values()]))
        estimates.append(float(np.var(means, ddof=1)) - noise)
        weights.append(len(means) - 1.0)
        most = max(most, len(means) - 1)
    if not estimates:
        return None
    return max(0.0, float(np.average(estimates, weights=weights))), float(most)


def _host_variance(hosted: list[dict[str, list[float]]], launch_var: float) -> tuple[float, float] | None:
    """Variance between the launch hosts of a session over all tests, and its degrees of freedom.

    All tests of a session share its hosts, so that each host counts once, for any number of tests.
    """
    estimates: list[float] = []
    weights: list[float] = []
    widest: dict[frozenset[str], int] = {}
    for hosts in hosted:
        # one launch a host: what hosts are off by cannot be told from what launches are off by
        if len(hosts) < 2 or max(map(len, hosts.values())) < 2:
            continue
        means = [float(np.mean(logs)) for logs in hosts.values()]
        noise = launch_var * float(np.mean([1 / len(logs) for logs in hosts.values()]))
        estimates.append(float(np.var(means, ddof=1)) - noise)
        weights.append(len(means) - 1.0)
        widest[frozenset(hosts)] = len(hosts) - 1
    if not estimates:
        return None
    # In a session, the hosts of each test are a subset of those of the test with the most launches.
    df = sum(count for names, count in widest.items() if not any(names < other for other in widest))
    return max(0.0, float(np.average(estimates, weights=weights))), float(df)
