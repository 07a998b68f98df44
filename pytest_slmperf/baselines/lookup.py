"""The look-up of a result's baseline, or of the reason why there is none, and the differences between both sides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_slmperf.baselines import builder, codec, comparability
from pytest_slmperf.baselines.store import Reader, check_name
from pytest_slmperf.environment import fingerprint
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.baseline import Baseline, BaselineSession
from pytest_slmperf.model.energy import Metered
from pytest_slmperf.model.result import Machine, Result, Session
from pytest_slmperf.model.verdict import Difference, LaunchSample, Verdict
from pytest_slmperf.util.formatting import counted

# Parts of the identity that a user may declare comparable, never engine, device and weights: figures of a simulation, of
# dummy weights or of another engine are different quantities.
CROSSABLE = ("driver", "gpus", "cpu", "cores")

_FIXED_DETAIL = frozenset(
    {"cores", "model", "family", "flags"}
)  # facts of the CPU that are part of the identity or follow from it


@dataclass(frozen=True, slots=True)
class BaselineMatch:
    """The outcome of a look-up.

    verdict:     None if the baseline is comparable; else "new" or "incomparable"
    reason:      of the verdict, in one line
    differences: between both sides
    metered:     meter, scope and devices of the candidate's energy
    same_gpus:   False if the user allows different GPUs
    provisional: True if the baseline is this machine's own, which nobody approved
    """

    baseline: Baseline | None
    verdict: Literal[Verdict.NEW, Verdict.INCOMPARABLE] | None = None
    reason: str = ""
    differences: list[Difference] = field(default_factory=list)
    metered: Metered | None = None
    same_gpus: bool = True
    provisional: bool = False

    @property
    def comparable(self) -> bool:
        """Whether there is a baseline and it is comparable."""
        return self.baseline is not None and self.verdict is None

    @property
    def label(self) -> str:
        """The baseline in a few characters, for messages: name, commit and date."""
        if self.baseline is None:
            return "none"
        newest = self.baseline.newest
        commit = f" @ {newest.commit.id[:10]}" if newest.commit.id else ""
        count = len(self.baseline.sessions)
        label = f"{self.baseline.name}{commit} of {newest.started_at[:10]} ({counted(count, 'session')})"
        return codec.plain(label)

    def samples(self, metric: str) -> list[LaunchSample]:
        """The launches of a metric in all comparable sessions of the baseline; may be empty."""
        return of_sessions(self.sessions(metric), metric)

    def sessions(self, metric: str) -> list[BaselineSession]:
        """The baseline's sessions; for an energy metric, only those with the candidate's kind of meter."""
        every = [] if self.baseline is None else self.baseline.sessions
        return [session for session in every if not (comparability.is_energy(metric) and self._unlike(session))]

    def unlike(self, metric: str) -> str | None:
        """Why the baseline's readings of an energy metric are not comparable; None if some are."""
        if self.baseline is None or not comparability.is_energy(metric) or self.samples(metric):
            return None
        had = [session for session in self.baseline.sessions if metric in session.metrics]
        return self._unlike(had[-1]) if had else None

    def _unlike(self, session: BaselineSession) -> str | None:
        return comparability.unlike(session.metered, self.metered, self.same_gpus)


def samples(baseline: Baseline, metric: str) -> list[LaunchSample]:
    """Launches of a metric, each with its session, and with the relative bound of an energy reading."""
    return of_sessions(baseline.sessions, metric)


def of_sessions(sessions: Sequence[BaselineSession], metric: str) -> list[LaunchSample]:
    """The launches of a metric in these sessions."""
    rows = []
    for session in sessions:
        values = session.metrics.get(metric)
        if values is None:
            continue
        bounds = values.bounds or [0.0] * len(values.launches)
        hosts = values.hosts or [None] * len(values.launches)
        rows += [
            LaunchSample(rounds=tuple(rounds), session=session.id, bound=bound, host=host)
            for rounds, bound, host in zip(values.launches, bounds, hosts, strict=False)
        ]
    return rows


def find(
    store: Reader,
    machine: Machine,
    result: Result,
    name: str,
    across: Collection[str] = (),
    session: Session | None = None,
) -> BaselineMatch:
    """The baseline for a result. ``across`` names parts of the identity that may differ (see ``CROSSABLE``).

    BaselineError if a baseline file cannot be read, InvalidInput for a wrong name or part.
    """
    check_name(name)
    across = check_across(across)
    baseline = store.load(fingerprint.of(machine, result.engine), name, result.id)
    if baseline is None or fingerprint.differing(baseline.identity, fingerprint.identity(machine, result.engine)):
        return _nearest(store.elsewhere(name, result.id), machine, result, name, across, session)
    return _judged(baseline, machine, result, session)


def check_across(across: Collection[str], option: str = "--slmperf-across") -> list[str]:
    """The parts in ``across``, whose entries may be lists with commas. InvalidInput for a part that may not differ."""
    parts = [part.strip() for given in across for part in given.split(",")]
    for part in parts:
        if part not in CROSSABLE:
            raise InvalidInput(f"{option} {part!r}: must be one of {', '.join(CROSSABLE)}")
    return parts


def differences(
    baseline: Baseline, machine: Machine, result: Result, session: Session | None = None
) -> list[Difference]:
    """The differences that do not prevent a comparison: versions, flags, commit, kernel, clocks, …"""
    old, new = builder.stable(baseline.engine), builder.stable(result.engine)
    rows = [_row("engine version", old.version, new.version)]
    rows += _rows("engine setting", _flat(old.settings), _flat(new.settings))
    # A later version of the adapter may report more facts: a fact of only one side is not a difference.
    before, after = _flat(old.facts), _flat(new.facts)
    shared = before.keys() & after.keys()
    rows += _rows("engine", {key: before[key] for key in shared}, {key: after[key] for key in shared})
    rows.append(_row("launches", *(facts.get("started", "processes of their own") for facts in (before, after))))
    if old.environment is not None and new.environment is not None:  # an older file does not tell it
        rows += _rows("environment", old.environment, new.environment)
    rows += [
        _row(part, *sides)
        for part, sides in fingerprint.differing(baseline.identity, fingerprint.identity(machine, new)).items()
    ]
    rows += _machine_rows(baseline.machine, machine)
    counted = (
        comparability.meter_text(baseline.newest.metered),
        comparability.meter_text(comparability.metered_of(result.energy)),
    )
    if None not in counted:  # unknown in older files
        rows.append(_row("energy counted on", *counted))
    if session is not None:
        rows.append(_row("commit", _commit(baseline.newest.commit.id), _commit(session.commit.id)))
        rows.append(_row("pytest-slmperf", baseline.newest.plugin_version, session.plugin_version))
    seen = set()
    return [row for row in rows if row and not (row.what in seen or seen.add(row.what))]  # type: ignore[func-returns-value]


def _nearest(
    candidates: list[Baseline],
    machine: Machine,
    result: Result,
    name: str,
    across: Collection[str],
    session: Session | None,
) -> BaselineMatch:
    """The baseline under another fingerprint that differs in the fewest parts; comparable if these parts may differ."""
    if not candidates:
        return BaselineMatch(
            None, Verdict.NEW, f"no baseline named {name!r} for this test; --slmperf-save {name} makes one"
        )
    own = fingerprint.identity(machine, result.engine)
    gaps = [(fingerprint.differing(candidate.identity, own), candidate) for candidate in candidates]
    allowed = [(gap, candidate) for gap, candidate in gaps if set(gap) <= set(across)]
    gap, baseline = min(allowed or gaps, key=lambda pair: (len(pair[0]), _age(pair[1])))
    if allowed:
        return _judged(baseline, machine, result, session)
    named = ", ".join(f"{part} {_shown(old)} → {_shown(new)}" for part, (old, new) in gap.items())
    mend = "; --slmperf-across driver compares all the same" if set(gap) == {"driver"} else ""
    rows = differences(baseline, machine, result, session)
    return BaselineMatch(
        baseline, Verdict.INCOMPARABLE, f"the baseline was taken on another system: {named}{mend}", rows
    )


def _judged(baseline: Baseline, machine: Machine, result: Result, session: Session | None) -> BaselineMatch:
    rows = differences(baseline, machine, result, session)
    if why := comparability.other_work(baseline.work, comparability.work_of(result)):
        return BaselineMatch(baseline, Verdict.INCOMPARABLE, why, rows)
    crossed = fingerprint.differing(baseline.identity, fingerprint.identity(machine, result.engine))
    return BaselineMatch(
        baseline,
        differences=rows,
        metered=comparability.metered_of(result.energy),
        same_gpus=not crossed.keys() & {"gpus", "cpu"},
    )


def _age(baseline: Baseline) -> tuple[int, ...]:
    """Sort key: the newest first."""
    return tuple(-ord(character) for character in baseline.newest.started_at)


def _machine_rows(old: Machine, new: Machine) -> list[Difference | None]:
    # pytest-benchmark adds details, whose absence is not a difference.
    shared = old.cpu.keys() & new.cpu.keys()
    rows = _rows("cpu", _detail(old.cpu, shared), _detail(new.cpu, shared))
    if old.cpu.get("model") != new.cpu.get("model"):
        rows.append(_row("cpu", old.cpu.get("model"), new.cpu.get("model")))
    for index, (before, after) in enumerate(zip(old.gpus, new.gpus, strict=False)):
        rows += _rows(f"gpu {index}", _detail(before, before), _detail(after, after))
    rows.append(_row("gpus", old.cards, new.cards))
    rows.append(_row("driver", old.driver, new.driver))
    rows += _rows("os", old.os, new.os)
    rows.append(_row("memory", _gib(old.memory_bytes), _gib(new.memory_bytes)))
    rows.append(_row("python", old.python, new.python))
    return rows


def _detail(facts: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: facts[key] for key in keys if key not in _FIXED_DETAIL and not key.startswith("hz_")}


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under names like ``settings.block_size``."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _rows(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference | None]:
    return [_row(f"{what} {key}", old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]


def _row(what: str, old: Any, new: Any) -> Difference | None:
    if codec.rounded(old) == codec.rounded(new):
        return None
    return Difference(what=what, baseline=old, candidate=new)


def _commit(commit: str | None) -> str | None:
    return commit[:10] if commit else None


def _gib(memory: int) -> str:
    return f"{memory / 2**30:.0f} GiB"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return codec.plain(" + ".join(map(str, value)) or "none")
    return "none" if value is None else codec.plain(str(value))
