"""From the arguments of ``slmperf.serving(...)`` to a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.arrivals import Arrivals, Constant, Gamma, Ramp, Recorded
from pytest_slmperf.load.latencies import Slo
from pytest_slmperf.load.prompts import lengths
from pytest_slmperf.load.requests import Conversations, Drawn, Own, Workload, fixed
from pytest_slmperf.load.traces.formats import Unit
from pytest_slmperf.load.traces.reading import read_trace
from pytest_slmperf.scenarios.serving import Serving
from pytest_slmperf.util.checks import is_whole


def scenario(
    *,
    rate: float | None = None,
    burstiness: float | None = None,
    arrivals: str | Arrivals | Sequence[float] | None = None,
    rate_to: float | None = None,
    concurrency: int | None = None,
    input_len: int | None = None,
    output_len: int | None = None,
    workload: str | Path | Workload | None = None,
    length_scale: float = 1.0,
    prefix_len: int = 0,
    prefix_groups: int = 1,
    turns: int = 1,
    trace_unit: Unit | None = None,
    skip_empty: bool = False,
    trace_speed: float = 1.0,
    slo: Mapping[str, float] | Slo | None = None,
    **rest: Any,
) -> Serving:
    """A ``Serving`` scenario.

    Load: ``rate`` (requests/s; Poisson, or gamma with ``burstiness``, or ``arrivals="constant"``, or to ``rate_to`` in a
    ramp), or ``concurrency``, or ``workload`` a trace with times, or ``arrivals`` a list of seconds.
    Work: ``input_len`` and ``output_len``; or ``workload``: "azure-2023-conv", "azure-2023-code", "sharegpt-like" (scaled
    by ``length_scale``), a JSONL or CSV file, or your own ``Workload``.  ``rest``: the fields of ``Serving``.
    """
    allowed = set(Serving.__dataclass_fields__) - {"workload", "arrivals", "concurrency", "slo"}
    wrong = sorted(set(rest) - allowed)
    if wrong:
        raise InvalidInput(f"slmperf.serving has no argument {wrong[0]!r}; it has {', '.join(sorted(allowed))}, …")
    if (prefix_len or turns > 1) and "prefix_caching" not in rest:
        rest["prefix_caching"] = True  # a shared prefix is there to be cached
    if not is_whole(turns) or turns < 1:
        raise InvalidInput(f"slmperf.serving: turns must be a whole number of at least 1, not {turns!r}")
    if length_scale != 1.0 and (workload is None or not isinstance(workload, str)):
        raise InvalidInput("slmperf.serving: length_scale needs a named workload, such as 'azure-2023-conv'")
    if input_len is not None and workload is not None:
        raise InvalidInput("slmperf.serving: give input_len or a workload, not both")
    recorded: tuple[float, ...] = ()
    if (path := _file(workload)) is not None:
        if turns > 1 or prefix_len:
            raise InvalidInput("slmperf.serving: a file of requests is sent as it is; leave turns and prefix_len out")
        trace = read_trace(path, unit=trace_unit, skip_empty=skip_empty, lengths_required=output_len is None)
        work: Workload = Own(path.name, trace, output_len, trace.skipped, trace.notes())
        recorded = tuple(row.at for row in trace if row.at is not None)
        if trace.shares_tokens:
            rest.setdefault("prefix_caching", True)
    elif workload is None or isinstance(workload, str | Path):
        pair = _lengths(workload, input_len, output_len, length_scale)
        work = _shaped(pair, prefix_len, prefix_groups, turns)
    else:
        work = workload
    times = _arrivals(rate, burstiness, arrivals, rate_to)
    if times is None and concurrency is None and recorded:
        times = Recorded(recorded, trace_speed)
    elif trace_speed != 1.0:
        raise InvalidInput("slmperf.serving: trace_speed needs a trace with times, played without rate or concurrency")
    if isinstance(times, Recorded) and rest.get("duration_s") is None and rest.get("num_requests") is None:
        rest["num_requests"] = len(times.at)
    bounds = Slo.of(dict(slo) if isinstance(slo, Mapping) else slo)
    return Serving(workload=work, arrivals=times, concurrency=concurrency, slo=bounds, **rest)


def _arrivals(
    rate: float | None,
    burstiness: float | None,
    arrivals: str | Arrivals | Sequence[float] | None,
    rate_to: float | None,
) -> Arrivals | None:
    if isinstance(arrivals, str):
        if arrivals not in ("poisson", "constant", "gamma"):
            raise InvalidInput(f"slmperf.serving: arrivals are 'poisson', 'constant' or 'gamma', not {arrivals!r}")
        if rate is None:
            raise InvalidInput(f"slmperf.serving: arrivals={arrivals!r} needs a rate")
    elif arrivals is not None:
        if rate is not None:
            raise InvalidInput("slmperf.serving: give a rate or arrivals of your own, not both")
        if isinstance(arrivals, Arrivals):
            return arrivals
        try:
            return Recorded(tuple(float(at) for at in arrivals))
        except InvalidInput:
            raise
        except (TypeError, ValueError):
            raise InvalidInput(
                f"slmperf.serving: arrivals of your own are a list of seconds, not {arrivals!r}"
            ) from None
    if rate is None:
        if burstiness is not None or rate_to is not None:
            raise InvalidInput("slmperf.serving: burstiness and rate_to need a rate")
        return None
    if rate_to is not None:
        if burstiness is not None or arrivals not in (None, "poisson"):
            raise InvalidInput("slmperf.serving: a ramp (rate_to) is Poisson; leave burstiness and arrivals out")
        return Ramp(rate, rate_to)
    if arrivals == "constant":
        if burstiness is not None:
            raise InvalidInput("slmperf.serving: constant arrivals have no burstiness")
        return Constant(rate)
    return Gamma(rate, 1.0 if burstiness is None else burstiness)


def _file(workload: str | Path | Workload | None) -> Path | None:
    """The file that a workload names, None where it names none."""
    if not isinstance(workload, str | Path):
        return None
    path = Path(workload)
    suffix = path.suffix.lower()
    return path if suffix in (".jsonl", ".csv") or (suffix == ".json" and path.is_file()) else None


def _lengths(
    workload: str | Path | None, input_len: int | None, output_len: int | None, scale: float
) -> lengths.LengthPair:
    if workload is None:
        if input_len is None or output_len is None:
            raise InvalidInput("slmperf.serving: give input_len and output_len, or a workload")
        return fixed(input_len, output_len)
    if output_len is not None:
        raise InvalidInput("slmperf.serving: give output_len or a workload that has its own, not both")
    return lengths.named(str(workload), scale)


def _shaped(pair: lengths.LengthPair, prefix_len: int, prefix_groups: int, turns: int) -> Workload:
    if turns > 1:
        if prefix_len:
            raise InvalidInput("slmperf.serving: conversations share their history; leave prefix_len out")
        return Conversations(pair, turns)
    return Drawn(pair, prefix_len, prefix_groups)
