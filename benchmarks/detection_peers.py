"""The peers' rules on the same data, by their own code where it installs.

Each takes the rounds (seconds) of baseline and candidate, shape (comparisons, launches, rounds), and returns whether the
tool, with its defaults, would call the candidate a regression.  All except otava pool the rounds of all launches, since
they have no concept of a launch; otava receives one mean per launch, as a history.  criterion.rs and nvbench are Rust and
CUDA tools, whose published rules are implemented here:

- criterion.rs (its book, "Analysis Process", section "Comparison", and ``compare_to_threshold`` in ``src/report.rs``):
  both samples are bootstrapped; a change is regressed when the share of T scores drawn from the mixed samples that are
  more extreme than the measured one is below the significance level (0.05) and the whole 95 % interval of the
  bootstrapped relative change of means lies above the noise threshold (0.01).
- nvbench (``nvbench_compare.py``, kept there as ``nvbench_compare_legacy.py``): same while the relative difference of mean
  times is at most the smaller one of the two sides' relative standard deviations, else slow or fast by its sign.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Peer = Callable[[np.ndarray, np.ndarray], np.ndarray]


def judge(rule: Peer, base: np.ndarray, cand: np.ndarray) -> np.ndarray | None:
    """The rule's answer per comparison; None for a rule that cannot answer (otava without a history)."""
    if rule is _otava:
        return _otava(base.mean(axis=2), cand.mean(axis=2)) if base.shape[1] > 2 else None
    return rule(base.reshape(len(base), -1), cand.reshape(len(cand), -1))


def _t_test(base: np.ndarray, cand: np.ndarray) -> np.ndarray:
    from scipy import stats

    return stats.ttest_ind(cand, base, axis=1, equal_var=False, alternative="greater").pvalue < 0.05


def _u_test(base: np.ndarray, cand: np.ndarray) -> np.ndarray:
    from scipy import stats

    return stats.mannwhitneyu(cand, base, axis=1, alternative="greater").pvalue < 0.05


def _pytest_benchmark(base: np.ndarray, cand: np.ndarray) -> np.ndarray:
    from pytest_benchmark.utils import parse_compare_fail

    check = parse_compare_fail("mean:5%")
    pairs = zip(base.mean(axis=1), cand.mean(axis=1), strict=True)
    return np.array([bool(check.fails({"mean": c}, {"mean": b})) for b, c in pairs])


def _asv(factor: float) -> Peer:
    def rule(base: np.ndarray, cand: np.ndarray) -> np.ndarray:
        from asv.commands.compare import _is_result_better
        from asv_runner.statistics import compute_stats

        found = []
        for b, c in zip(base, cand, strict=True):
            value_b, stats_b = compute_stats(list(b), 1)
            value_c, stats_c = compute_stats(list(c), 1)
            found.append(_is_result_better(value_b, value_c, (stats_b, list(b)), (stats_c, list(c)), factor))
        return np.array(found)

    return rule


def _criterion(base: np.ndarray, cand: np.ndarray, resamples: int = 200) -> np.ndarray:
    rng = np.random.default_rng(7)
    found = []
    for b, c in zip(base, cand, strict=True):
        means_b = b[rng.integers(0, len(b), (resamples, len(b)))].mean(axis=1)
        means_c = c[rng.integers(0, len(c), (resamples, len(c)))].mean(axis=1)
        low = np.quantile(means_c / means_b - 1, 0.025)
        both = np.concatenate([b, c])
        t = (c.mean() - b.mean()) / np.sqrt(b.var(ddof=1) / len(b) + c.var(ddof=1) / len(c))
        mixed = both[rng.integers(0, len(both), (resamples, len(both)))]
        mb, mc = mixed[:, : len(b)], mixed[:, len(b) :]
        null = (mc.mean(1) - mb.mean(1)) / np.sqrt(mb.var(1, ddof=1) / len(b) + mc.var(1, ddof=1) / len(c))
        found.append(low > 0.01 and np.mean(np.abs(null) >= abs(t)) < 0.05)
    return np.array(found)


def _nvbench(base: np.ndarray, cand: np.ndarray) -> np.ndarray:
    change = cand.mean(axis=1) / base.mean(axis=1) - 1
    noise = np.minimum(*(side.std(axis=1, ddof=1) / side.mean(axis=1) for side in (base, cand)))
    return change > noise


def _otava(base: np.ndarray, cand: np.ndarray) -> np.ndarray:
    from pytest_slmperf.statistics.changepoints import change_points

    found = []
    for b, c in zip(base, cand, strict=True):
        points = change_points([*b, *c])
        found.append(any(point.index == len(b) and point.change > 0 for point in points))
    return np.array(found)


def peers() -> dict[str, Peer | str]:
    """Name → rule, or the reason why it cannot run here."""
    found: dict[str, Peer | str] = {
        "pytest-benchmark mean:5%": _pytest_benchmark,
        "t-test 5 % (scipy)": _t_test,
        "U-test 5 % (scipy)": _u_test,
        "criterion's rule, restated": _criterion,
        "nvbench's rule, restated": _nvbench,
    }
    try:
        import asv.commands.compare  # noqa: F401

        found["asv, factor 1.1"] = _asv(1.1)
        found["asv, factor 1.05"] = _asv(1.05)
    except ImportError:
        found["asv"] = "not installed (pip install asv)"
    try:
        import otava.series  # noqa: F401

        found["otava, defaults"] = _otava
    except ImportError:
        found["otava"] = "not installed (pip install apache-otava)"
    return found
