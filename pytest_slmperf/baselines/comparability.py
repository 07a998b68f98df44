"""Comparability of two results: their work, and the devices and meters of their energy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_slmperf import redaction
from pytest_slmperf.baselines import codec
from pytest_slmperf.load.latencies import AnswerLengths
from pytest_slmperf.metrics.registry import ENERGY_METRICS
from pytest_slmperf.model.energy import DeviceEnergy, Energy, Metered
from pytest_slmperf.model.result import Result
from pytest_slmperf.util.formatting import portion

LENGTHS_ALIKE = 0.02
# Of the output tokens that were asked for, the share that came. Where nothing is said, it was all of them; a scenario that
# lets answers end early (ignore_eos false) always says it, and where it does not, an older version measured it.
ANSWERED = "answered_share"
# Durations and repetitions change the precision, not the work; the place of the test does not matter either.
_NOT_WORK = frozenset(
    {"rounds", "min_rounds", "max_rounds", "launches", "min_launches", "max_launches", "warmup", "warmup_rounds"}
    | {"max_time", "timeout", "profile", "location"}
)


def work_of(result: Result) -> dict[str, Any]:
    """Scenario kind and parameters, model, dtype and number of replicas, as plain JSON values."""
    scenario = {
        key: value for key, value in result.scenario.items() if key not in _NOT_WORK and not redaction.is_secret(key)
    }
    engine = result.engine
    own = {"model": model_name(engine.model), "dtype": engine.dtype, "replicas": engine.replicas}
    work: dict[str, Any] = codec.rounded(scenario | own)
    return work


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between two pieces of work, one phrase each: ``batch 16 → 32``.

    A key that only one side has, with a value of None or empty, is not a difference: later versions add parameters.
    """
    rows = [
        f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}"
        for key in _changed(old, new)
        if not _is_length(key) or not _near(old.get(key), new.get(key))
    ]
    had, has = _answered(old), _answered(new)
    if had is not None and has is not None and not _near(had, has):
        rows.append(f"answers of {portion(had)} → {portion(has)} of the output tokens asked for")
    return rows


def other_work(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why two pieces of work cannot be compared; None where they can."""
    changed = changes(old, new)
    if not changed:
        return None
    lengths_only = all(_is_length(key) for key in _changed(old, new))
    return f"{'other work' if lengths_only else 'scenario changed'} ({', '.join(changed)})"


def other_answers(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Why the answers of two works cannot be compared, whatever else they differ in; None where they can."""
    keys = (ANSWERED, "ignore_eos")
    return other_work({key: old[key] for key in keys if key in old}, {key: new[key] for key in keys if key in new})


def answers_of(lengths: AnswerLengths | None, scenario: Mapping[str, Any]) -> dict[str, float]:
    """The part of the work that only its answers tell: ``answered_share``, where they were not as asked or need not be."""
    if lengths is None or not lengths.asked:
        return {}
    share = round(lengths.came / lengths.asked, 4)
    return {} if share == 1 and scenario.get("ignore_eos") is not False else {ANSWERED: share}


def answers_note(lengths: AnswerLengths | None, scenario: Mapping[str, Any]) -> list[str]:
    """The note on answers of other lengths than asked."""
    if lengths is None or not lengths.other:
        return []
    count = "all" if lengths.other == lengths.requests else f"{lengths.other} of"
    came = f"{lengths.came} of {lengths.asked} output tokens, {count} {lengths.requests} answers of another length"
    if scenario.get("ignore_eos") is False:
        return [f"answers ended early, as ignore_eos=False lets them: {came}"]
    alike = lengths.came >= (1 - LENGTHS_ALIKE) * lengths.asked
    tail = "" if alike else "; other work than answers of the full length"
    return [f"answers are shorter than asked: {came} (is ignore_eos honoured?){tail}"]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [*old, *(key for key in new if key not in old)]
    return [key for key in keys if key != ANSWERED and old.get(key) != new.get(key) and (old.get(key) or new.get(key))]


def _answered(work: Mapping[str, Any]) -> float | None:
    share = work.get(ANSWERED, None if work.get("ignore_eos") is False else 1.0)
    return share if isinstance(share, int | float) else None


def _is_length(key: str) -> bool:
    return key.endswith("tokens_per_request")


def _near(old: Any, new: Any) -> bool:
    """Whether two measured lengths are of one work: answers of a sampled model vary a little from run to run."""
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    return abs(old - new) <= LENGTHS_ALIKE * max(abs(old), abs(new))


def model_name(name: str) -> str:
    """The model's name without the folder on this machine."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if name.startswith(("/", "~", ".")) or "\\" in name else name


def _shown(value: Any) -> str:
    return "none" if value is None else codec.plain(str(value), 60)


# The meter, scope and devices of energy readings: with different ones, joules are different quantities.


def is_energy(metric: str) -> bool:
    """True for a metric made of joules, of a whole test or at one point of a sweep."""
    return metric.partition("@")[0] in ENERGY_METRICS


def metered_of(energy: Energy) -> Metered | None:
    """Meter, scope and devices of a record's joules; None without joules. For older records, derived from their devices."""
    if energy.metered is not None or energy.source is None:
        return energy.metered
    return of_devices(energy.devices, "which the engine uses" in (energy.counted or ""))


def of_devices(devices: Sequence[DeviceEnergy], own: bool) -> Metered | None:
    """The same from one entry per device, each with name, source and scope; None without a device.

    Devices count by their kind, not by UUID: a second card of the same model is an equal meter.
    """
    if not devices:
        return None
    kinds: dict[str, int] = {}
    for device in devices:
        kind = _kind(device)
        kinds[kind] = kinds.get(kind, 0) + 1
    return Metered(
        source=_joined(device.source for device in devices),
        scope=_joined(device.scope for device in devices),
        devices=kinds,
        own=own,
    )


def unlike(old: Metered | None, new: Metered | None, same_gpus: bool = True) -> str | None:
    """Why joules of the two sides are not comparable, in one line; None if they are, or if one side is unknown.

    ``same_gpus`` False: the user allows different GPUs (``--slmperf-across gpus``), so that their kinds may differ. If both
    sides count only the engine's devices, a different number of them is a change of the engine, which is comparable.
    """
    if old is None or new is None:
        return None
    for what in ("source", "scope"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            return f"the energy has another {'meter' if what == 'source' else what}: {before} → {after}"
    before, after = old.devices, new.devices
    if same_gpus and (before.keys() != after.keys() or (before != after and not (old.own and new.own))):
        return f"the energy has other devices: {_told(before)} → {_told(after)}"
    return None


def meter_text(metered: Metered | None) -> str | None:
    """Meter, scope and devices in a few words, for a table of differences."""
    return None if metered is None else f"{metered.source}, {metered.scope}: {_told(metered.devices)}"


def _told(kinds: Mapping[str, int]) -> str:
    return " + ".join(f"{count} × {kind}" for kind, count in kinds.items())


def _kind(device: DeviceEnergy) -> str:
    """The device's name without the number that distinguishes devices of a kind: "A100 [0]", "package-1 dram"."""
    return re.sub(r" \[\d+\]$|(?<=^package)-\d+", "", device.name)


def _joined(names: Iterable[str | None]) -> str:
    parts = [part for name in names for part in str(name).split(" + ")]
    return " + ".join(dict.fromkeys(parts))
