"""The stored form of a baseline in every store: one JSON document, whose fields are all checked when it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from pytest_slmperf import redaction, text_out
from pytest_slmperf.errors import BaselineError, InvalidInput
from pytest_slmperf.metrics.registry import known
from pytest_slmperf.model.baseline import Baseline, BaselineMetric, HistoryPoint
from pytest_slmperf.model.results_file import RESTORE, check_facts, check_version, decoded, indented
from pytest_slmperf.util import read_file
from pytest_slmperf.util.checks import is_number

SMALLER = "measure fewer rounds, launches or points in one test"
LONGEST_LAUNCH_S = 30 * 86400.0
KEPT_HISTORY = 500  # points per test; the oldest go first


def decode(data: bytes, where: str, fingerprint: str, name: str) -> Baseline:
    """The baseline stored under ``fingerprint`` and ``name``. BaselineError with place, field and fix.

    It gets the name under which it is stored, so that users may copy a folder of baselines to another name.  Its
    fingerprint must be ``fingerprint``, so that baselines of other machines are never taken for this machine's.
    """
    check_version(data, where)
    try:
        baseline = msgspec.json.decode(data, type=Baseline)
        if baseline.fingerprint != fingerprint:
            raise InvalidInput(
                f"its field 'fingerprint' is {baseline.fingerprint!r}, but it lies under {fingerprint!r} "
                "(was it moved or edited by hand?)"
            )
        if not baseline.sessions:
            raise InvalidInput("it holds no session")
        for session in baseline.sessions:
            if not session.metrics:
                raise InvalidInput(f"session {session.id}: holds no metric")
            if session.launch_s is not None and not 0 < session.launch_s < LONGEST_LAUNCH_S:
                raise InvalidInput(f"session {session.id}: field 'launch_s' is {session.launch_s:g}, which is no time")
            for metric, values in session.metrics.items():
                check(f"session {session.id}", metric, values)
            for latency, distribution in session.distributions.items():
                usable_rounds(f"session {session.id}", latency, [distribution.quantiles])
    except (msgspec.ValidationError, msgspec.DecodeError, InvalidInput) as error:
        raise BaselineError(
            f"{where}: not a usable baseline: {error}; restore it from version control, or delete it to start anew"
        ) from error
    check_facts(baseline.machine, [baseline.work], where)
    for goal in baseline.work.get("objectives", ()) if baseline.work.get("kind") == "sweep" else ():
        if known(goal) is None:
            raise BaselineError(f"{where}: field 'work.objectives' names {goal[:40]!r}, which is no metric; {RESTORE}")
    baseline.name = name
    return baseline


def decode_row(data: bytes, where: str, kind: type[Any]) -> Any:
    """Any other stored document of this schema, such as a point of a history."""
    check_version(data, where)
    return decoded(data, kind, where)


def check(where: str, name: str, values: BaselineMetric) -> None:
    """Refuse impossible readings, and a unit or direction other than the metric's."""
    registered = known(name)
    for field in ("unit", "better") if registered else ():
        stored, right = getattr(values, field), getattr(registered, field)
        if stored != right:
            raise InvalidInput(f"{where}: metric {name!r} has the field {field!r} {stored!r}, which must be {right!r}")
    if not values.launches:
        raise InvalidInput(f"{where}: metric {name!r} has no launch")
    if not all(values.launches):
        raise InvalidInput(f"{where}: metric {name!r} has a launch without a round")
    usable_rounds(where, name, values.launches)
    usable_rounds(where, f"{name} (field 'bounds')", [values.bounds])
    if len(values.bounds) not in (0, len(values.launches)):
        raise InvalidInput(
            f"{where}: metric {name!r} has {len(values.bounds)} bounds for {len(values.launches)} launches"
        )


# JSON that is readable in a diff: sorted keys, the rounds of a launch on one line, six digits.

_DIGITS = 6


def render(value: Any) -> bytes:
    """A struct as indented JSON with a newline at the end. ValueError for NaN and infinity, which JSON lacks."""
    return (indented(_stored(value), "  ", sort=True) + "\n").encode()


def line(value: Any) -> bytes:
    """A struct as JSON on one line, to be appended to a file."""
    return (text_out.json_text(_stored(value), indent=None, sort=True) + "\n").encode()


def _stored(value: Any) -> Any:
    return redaction.hidden(rounded(msgspec.to_builtins(value)))


def thinned(points: Sequence[HistoryPoint], most_bytes: int) -> list[bytes]:
    """A history's lines in at most ``most_bytes``: every second entry of the older half is dropped, repeatedly if needed, so
    that the trend over years and all of the newest sessions are kept."""
    lines = [line(point) for point in points]
    return [lines[place] for place in kept_places([len(row) for row in lines], most_bytes)]


def kept_places(sizes: Sequence[int], most_bytes: int) -> list[int]:
    """The entries of a history, oldest first, that are kept within ``most_bytes`` together."""
    places = list(range(len(sizes)))
    while len(places) > 1 and sum(sizes[place] for place in places) > most_bytes:
        older = places[: (len(places) + 1) // 2]
        places = older[:-1:2] + places[len(older) :]
    return places


def too_large(baseline: Baseline) -> str | None:
    """Why a baseline would be too large to be read again; None if it is not."""
    size = len(render(baseline))
    if size <= read_file.MOST_BASELINE:
        return None
    most = read_file.MOST_BASELINE / read_file.MIB
    return f"a session of it takes {size / read_file.MIB:.1f} MiB, and a baseline may have {most:.0f} MiB; {SMALLER}"


def fitting(baseline: Baseline) -> Baseline:
    """The baseline without its oldest sessions, as far as needed to be read again; the newest session stays."""
    while len(baseline.sessions) > 1 and len(render(baseline)) > read_file.MOST_BASELINE:
        baseline.sessions = baseline.sessions[1:]
    return baseline


def clean(text: str) -> str:
    """``text`` with a question mark for each character that UTF-8 lacks, as it comes back from a file."""
    return text.encode("utf-8", "replace").decode()


def plain(text: str, most: int = 80) -> str:
    """``text`` from a file in a form for messages: one line of at most ``most`` characters, without control characters."""
    return text_out.shortened(text_out.printable(text), most)


def rounded(value: Any) -> Any:
    """Floats to six significant digits: further digits are noise, and make diffs unreadable."""
    if isinstance(value, float):
        short = float(f"{value:.{_DIGITS}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


def usable_rounds(where: str, metric: str, launches: Sequence[Sequence[float]]) -> list[list[float]]:
    """The launches with rounds, all checked: a baseline has only finite readings ≥ 0, or > 0 for a metric that cannot be 0.

    InvalidInput, with ``where`` (the test, or a session of it), metric, launch and round, so that later results are never
    compared with a wrong reading.
    """
    registered = known(metric)
    least = "> 0" if registered is not None and registered.positive else "≥ 0"
    for number, launch in enumerate(launches, start=1):
        for place, value in enumerate(launch, start=1):
            usable = is_number(value) and math.isfinite(value)
            if not usable or value < 0 or (value == 0 and least == "> 0"):
                raise InvalidInput(
                    f"{where}: metric {metric!r} has the value {value!r} in launch {number}, round {place}, where a "
                    f"baseline holds finite numbers {least}"
                )
    return [list(launch) for launch in launches if launch]
