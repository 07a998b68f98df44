"""From launch centres to the change Δ with its standard error and degrees of freedom, and the interval of a single side.

Vectorised over comparisons (first axis), so that benchmarks judge thousands of sessions with the same code.  Δ is the
log-ratio candidate ÷ baseline, in the direction in which more is worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pytest_slmperf.statistics.correlation import effective_df, mean_factor, scatter_share
from pytest_slmperf.statistics.crossover import adjust_for_order
from pytest_slmperf.statistics.launch_centre import log_centre
from pytest_slmperf.statistics.variance import STATED_PRIOR, VariancePrior, moderate

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """Δ per comparison.

    se, df:         standard error of Δ and its degrees of freedom
    unit_var:       the part of se² that falls with the number of candidate launches, as unit_var ÷ launches
    fixed_var:      the part of se² that does not
    own_se, own_df: ``se`` and ``df`` by these launches alone, without the launch variance of the history
    """

    delta: Array
    se: Array
    df: Array
    launches: Array
    unit_var: Array
    fixed_var: Array
    conflict: NDArray[np.bool_]  # noisier than the history allows, so that the history was not used
    own_se: Array
    own_df: Array


class Hosts(NamedTuple):
    """The launch host of each launch, as a number; −1 for a process of its own.

    ``candidate``: hosts of the candidate's launches, in a duet of the pairs; ``sessions``: of each baseline session's.
    """

    candidate: NDArray[np.int_]
    sessions: Sequence[NDArray[np.int_]] = ()


def host_share(hosts: NDArray[np.int_], mask: NDArray[np.bool_]) -> Array:
    """Share of the variance between hosts in the mean over the launches in ``mask`` (comparisons, launches): Σ (nₕ ÷ n)².

    Processes of their own add nothing, since their scatter includes what hosts differ by.
    """
    count = np.maximum(mask.sum(axis=-1), 1)
    share = np.zeros(mask.shape[0])
    for host in np.unique(hosts[hosts >= 0]):
        share += (mask[:, hosts == host].sum(axis=-1) / count) ** 2
    return share


def host_spread(
    groups: Sequence[Array], hosts: Sequence[NDArray[np.int_]], unit: Array, var: float, df: float
) -> tuple[Array, float]:
    """Variance between hosts and its degrees of freedom: the estimate from these launches, mixed with ``var`` and ``df``.

    ``groups``: launches (comparisons, launches) of one session each.  Kalibera & Jones 2013 (three levels): the variance
    of the hosts' means minus the part that comes from the launches, each of variance ``unit``.
    """
    total = np.full(unit.shape, df * var)
    for values, numbers in zip(groups, hosts, strict=True):
        known = np.unique(numbers[numbers >= 0])
        if len(known) < 2 or len(known) == (numbers >= 0).sum():
            continue  # one host, or one launch a host: nothing tells hosts from launches
        means = np.stack([values[:, numbers == host].mean(axis=-1) for host in known])
        noise = unit * np.mean([1 / (numbers == host).sum() for host in known])
        total += (len(known) - 1) * np.maximum(means.var(axis=0, ddof=1) - noise, 0.0)
        df += len(known) - 1
    return total / df, df


FLOOR_SHARE = 0.8  # the scale of a few rounds is uncertain, and a lower bound must not exceed the true variance


def paired(
    differences: Array,
    prior: VariancePrior,
    floor_var: Array,
    bound_var: Array,
    chosen: NDArray[np.bool_] | None = None,
    turn: Array | None = None,
    hosts: Hosts | None = None,
) -> Estimate:
    """Duet: ``differences`` (comparisons, pairs) of pair log-ratios.

    floor_var: (comparisons,), least variance of a pair, from the scatter of its rounds
    bound_var: variance of a pair from the error bound of the readings
    chosen:    same shape as ``differences``, the pairs to use; None: all
    turn:      (pairs,), which side went first, ±1, whose effect is removed (see ``crossover``); None: unknown
    hosts:     of the pairs, if the two sides come from different hosts; None if they share a host, whose deviation cancels
               in a pair
    """
    mask = np.ones(differences.shape, dtype=bool) if chosen is None else chosen
    count = mask.sum(axis=-1).astype(float)
    mean, var, df = _moments(differences, mask, count)
    share = 1 / np.maximum(count, 1)
    rho = prior.correlation
    own = (var / scatter_share(rho, count), effective_df(rho, df))
    known_by = own
    if turn is not None and (adjusted := adjust_for_order(differences, turn, mask)) is not None:
        mean, share = adjusted.mean, adjusted.factor
        every = np.full(count.shape, float(differences.shape[-1]))
        known_by = (adjusted.var / scatter_share(rho, every), effective_df(rho, adjusted.df))
        own = _sharper(own, known_by)
    alike = mean_factor(rho, count)
    known = moderate(*known_by, prior.pair_var, prior.pair_df)
    unit = (np.maximum(known.var, FLOOR_SHARE * floor_var) + bound_var) * alike
    alone = (np.maximum(own[0], FLOOR_SHARE * floor_var) + bound_var) * alike
    between, between_df = np.zeros_like(mean), 1.0
    if hosts is not None:
        spread, between_df = host_spread([differences], [hosts.candidate], unit, 2 * prior.host_var, prior.host_df)
        between = spread * host_share(hosts.candidate, mask)
    se, df = _sum(unit * share, known.df, between, between_df)
    own_se, own_df = _sum(alone * share, own[1], between, between_df)
    # Further pairs come from further hosts, so that the hosts' part falls with the number of pairs too.
    return Estimate(mean, se, df, count, unit + between * count, np.zeros_like(mean), known.conflict, own_se, own_df)


def _sum(first: Array, first_df: Array, second: Array, second_df: float) -> tuple[Array, Array]:
    """Standard error and degrees of freedom (Welch & Satterthwaite) of a sum of two independent variances."""
    total = first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (first**2 / np.maximum(first_df, 1e-9) + second**2 / second_df)
    return np.sqrt(total), np.where((second > 0) & (first_df > 0), df, first_df)


def _sharper(plain: tuple[Array, Array], adjusted: tuple[Array, Array]) -> tuple[Array, Array]:
    """Of two (variance, degrees of freedom), the pair with the narrower bound. Adjusting for the order costs one degree of
    freedom: with few pairs and no effect of the order, the unadjusted variance is sharper."""
    reach = [
        np.where(df > 0, stdtrit(np.maximum(df, 1e-9), 0.99) * np.sqrt(var), np.inf) for var, df in (plain, adjusted)
    ]
    keep = reach[0] <= reach[1]
    return np.where(keep, plain[0], adjusted[0]), np.where(keep, plain[1], adjusted[1])


def against_stored(
    candidate: Array,
    sessions: Sequence[Array],
    prior: VariancePrior,
    floor_var: Array,
    bound_var: Array,
    chosen: NDArray[np.bool_] | None = None,
    hosts: Hosts | None = None,
) -> Estimate:
    """Stored baseline: ``candidate`` (comparisons, launches) of direction-adjusted log centres, ``sessions`` the
    baseline's, one array (comparisons, launches) per baseline session.

    The variance between sessions enters once for the candidate's session and once for each baseline session; the variance
    between launch hosts once for each host (``hosts``; None: no launch was forked).
    """
    mask = np.ones(candidate.shape, dtype=bool) if chosen is None else chosen
    count = mask.sum(axis=-1).astype(float)
    mean, var, df = _moments(candidate, mask, count)
    rho = prior.correlation
    sizes = np.array([session.shape[-1] for session in sessions], dtype=float)
    alike, base_alike = mean_factor(rho, count), mean_factor(rho, sizes)
    own_df = effective_df(rho, df)
    squares = var / scatter_share(rho, count) * own_df
    for session, shown, launch_df in zip(
        sessions, scatter_share(rho, sizes), effective_df(rho, sizes - 1), strict=True
    ):
        if session.shape[-1] > 1:
            squares += session.var(axis=-1, ddof=1) / shown * launch_df
            own_df = own_df + launch_df
    own_var = squares / np.maximum(own_df, 1)
    known = moderate(own_var, own_df, prior.launch_var, prior.launch_df)
    unit = np.maximum(known.var, FLOOR_SHARE * floor_var) + bound_var
    own = np.maximum(own_var, FLOOR_SHARE * floor_var) + bound_var
    means = np.stack([session.mean(axis=-1) for session in sessions])
    sizes = sizes / base_alike  # the equivalent number of independent launches
    total = float(len(sessions))
    host, host_df, in_mean, in_base = _of_hosts(candidate, sessions, mask, unit, prior, hosts)
    between = np.zeros_like(mean)
    if total > 1:
        between = means.var(axis=0, ddof=1) - unit * (1 / sizes).mean() - host * in_base.mean()
    spread_df = prior.session_df + total - 1
    spread = (prior.session_df * prior.session_var + (total - 1) * np.maximum(between, 0.0)) / spread_df
    weight = 1 / (spread + unit / sizes[:, None] + host * in_base[:, None])
    # The weights of the sessions in the baseline, by which its variance splits into sessions, launches and hosts.
    share = weight / weight.sum(axis=0)
    base = (share * means).sum(axis=0)
    from_sessions = spread * (1 + (share**2).sum(axis=0))
    per_unit = (share**2 / sizes[:, None]).sum(axis=0)
    base_host = host * (share**2 * in_base[:, None]).sum(axis=0)
    from_hosts = host * in_mean + base_host

    def whole(each: Array, each_df: Array) -> tuple[Array, Array]:
        """Standard error and degrees of freedom (Welch & Satterthwaite) with ``each`` as the variance of a launch."""
        launch_part = each * (per_unit + alike / np.maximum(count, 1))
        se2 = from_sessions + launch_part + from_hosts
        parts = from_sessions**2 / spread_df + launch_part**2 / np.maximum(each_df, 1e-9) + from_hosts**2 / host_df
        return np.sqrt(se2), se2**2 / parts

    se, df = whole(unit, known.df)
    own_se, own_whole_df = whole(own, own_df)
    # Further launches come from further hosts, so that the hosts' part falls with the number of launches too.
    falling, fixed = unit * alike + host * in_mean * count, from_sessions + unit * per_unit + base_host
    return Estimate(mean - base, se, df, count, falling, fixed, known.conflict, own_se, own_whole_df)


def _of_hosts(
    candidate: Array,
    sessions: Sequence[Array],
    mask: NDArray[np.bool_],
    unit: Array,
    prior: VariancePrior,
    hosts: Hosts | None,
) -> tuple[Array, float, Array, Array]:
    """Variance between hosts, its degrees of freedom, and its share in the candidate's mean and in each session's."""
    if hosts is None:
        return np.zeros_like(unit), 1.0, np.zeros_like(unit), np.zeros(len(sessions))
    numbers = [hosts.candidate, *hosts.sessions]
    var, df = host_spread([candidate, *sessions], numbers, unit, prior.host_var, prior.host_df)
    base = [host_share(of, np.ones((1, len(of)), dtype=bool))[0] for of in hosts.sessions]
    return var, df, host_share(hosts.candidate, mask), np.array(base)


def _moments(values: Array, mask: NDArray[np.bool_], count: Array) -> tuple[Array, Array, Array]:
    safe = np.maximum(count, 1)
    mean = np.where(mask, values, 0.0).sum(axis=-1) / safe
    df = np.maximum(count - 1, 0.0)
    squares = np.where(mask, (values - mean[..., None]) ** 2, 0.0).sum(axis=-1)
    return mean, squares / np.maximum(df, 1), df


# The value of a metric on one side, with a confidence interval: for display, not for judging.

COVERAGE = 0.95


def value_and_interval(
    launches: Sequence[Sequence[float]], prior: VariancePrior | None = None
) -> tuple[float, tuple[float, float] | None]:
    """Value and 95 % interval. The value is the geometric mean over launches of each launch's robust centre.

    The interval is Student's t on the logarithm, with the launch variance moderated toward the prior. It is None for a
    single launch, and for values that are not all positive, whose plain mean is the value then.
    """
    flat = [value for rounds in launches for value in rounds]
    if not flat:
        raise ValueError("an interval needs at least one round")
    if min(flat) <= 0:
        means = [math.fsum(rounds) / len(rounds) for rounds in launches if rounds]
        return math.fsum(means) / len(means), None
    centres = np.array([log_centre(rounds) for rounds in launches if rounds])
    middle = float(centres.mean())
    if len(centres) < 2:
        return math.exp(middle), None
    known = prior or STATED_PRIOR
    spread = moderate(centres.var(ddof=1), np.asarray(len(centres) - 1.0), known.launch_var, known.launch_df)
    half = float(stdtrit(spread.df, (1 + COVERAGE) / 2) * np.sqrt(spread.var / len(centres)))
    return math.exp(middle), (math.exp(middle - half), math.exp(middle + half))
