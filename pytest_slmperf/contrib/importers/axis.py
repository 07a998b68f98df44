"""Which setting a folder of runs swept, or why it is no sweep over one setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_slmperf.contrib.importers.combinations import Combination
from pytest_slmperf.contrib.importers.fields import is_number
from pytest_slmperf.frontier.points import Key

UNLIMITED = "inf"  # how vLLM writes a request rate without limit
CAP = "max_concurrency"
_ROUNDED_FROM = 10  # smaller numbers look like multiples after rounding
_LEADERS = (CAP, "request_rate")  # if settings move in lockstep, the sweep is over one of these


@dataclass(frozen=True, slots=True)
class Axis:
    """The setting that was swept, and its points by rising key (no limit last). ``notes``: what a reader must know."""

    name: str
    points: Sequence[tuple[Key, Combination]]
    notes: Sequence[str] = ()


def axis_of(combinations: Sequence[Combination]) -> Axis | str:
    """The setting that the combinations swept, or a sentence that says why they are no sweep: they differ in no setting, in
    several, in one that is not a number, or in one that some of them lack."""
    names = sorted({name for setting in combinations for name in setting.settings})
    varied = [name for name in names if len({repr(setting.settings.get(name)) for setting in combinations}) > 1]
    varied = _leading(varied, combinations)
    if not varied:
        return (
            f"its {len(combinations)} files differ in no setting; give them with --as ID to make them launches of one"
        )
    if len(varied) == 1:
        return _over(varied[0], combinations)
    workload = {setting.workload for setting in combinations}
    if len(workload) == 1 and {*workload, CAP} == set(varied):
        return _explored(next(name for name in varied if name != CAP), combinations)
    return _several(varied)


def _leading(varied: Sequence[str], combinations: Sequence[Combination]) -> list[str]:
    """The settings in ``varied`` without those that follow another one in lockstep, as num_prompts = 10 × max_concurrency
    does."""
    first = sorted(varied, key=lambda name: (_LEADERS.index(name) if name in _LEADERS else len(_LEADERS), name))
    kept: list[str] = []
    for name in first:
        if not any(_in_lockstep(leader, name, combinations) for leader in kept):
            kept.append(name)
    return sorted(kept)


def _in_lockstep(leader: str, name: str, combinations: Sequence[Combination]) -> bool:
    leading = [setting.settings.get(leader) for setting in combinations]
    following = [setting.settings.get(name) for setting in combinations]
    if not all(is_number(value) and float(value or 0) > 0 for value in (*leading, *following)):
        return False
    pairs = [(float(a or 1), float(b or 0)) for a, b in zip(leading, following, strict=True)]
    ratios = [b / a for a, b in pairs]
    if max(ratios) <= min(ratios) * (1 + 1e-9):
        return True
    # The requests of a fixed time at a rate are rounded: 60 s at 31.4/s and at 61.79/s give 1884 and 3707.
    most, of_most = max(pairs)
    whole = all(b.is_integer() and b >= _ROUNDED_FROM for _, b in pairs)
    return whole and all(abs(b - a * of_most / most) < 1 for a, b in pairs)


def _several(varied: Sequence[str]) -> str:
    words = f"{', '.join(varied[:-1])} and {varied[-1]}"
    return f"{words} differ, and a sweep has one setting; import the points that are alike in the others apart"


def _over(name: str, combinations: Sequence[Combination], notes: Sequence[str] = ()) -> Axis | str:
    keyed: list[tuple[Key, Combination]] = []
    for setting in combinations:
        key = setting.settings.get(name)
        if key is None:
            return f"{name} differs, and {setting.name} has none"
        if not (is_number(key) or key == UNLIMITED):
            return (
                f"{name} differs, and is no number ({key!r}); write the points with --csv, and slmperf frontier "
                f"--key {name} reads them"
            )
        keyed.append((key, setting))
    keys = [key for key, _ in keyed]
    counts = Counter(keys)
    twice = next((key for key in keys if counts[key] > 1), None)
    if twice is not None:
        return f"{name} {twice} stands in {counts[twice]} of its settings; import each group of points apart"
    return Axis(name, sorted(keyed, key=lambda pair: float(pair[0])), notes)


def _explored(name: str, combinations: Sequence[Combination]) -> Axis | str:
    """The axis of a sweep of serve_workload, whose two end points also cap the requests in flight: at 1, and at all
    requests."""
    ends = [setting for setting in combinations if _is_end(name, setting)]
    others = [setting for setting in combinations if setting not in ends]
    if len(ends) > 2 or len({repr(setting.settings.get(CAP)) for setting in others}) > 1:
        return _several([CAP, name])
    taken = {setting.settings.get(name) for setting in others}
    kept = [setting for setting in ends if setting.settings.get(name) not in taken]
    notes = [_end_words(name, kept)] if kept else []
    notes += [
        f"{name} {setting.settings[name]} with {CAP} {setting.settings[CAP]} is left out: "
        "it was measured without that cap too"
        for setting in ends
        if setting not in kept
    ]
    return _over(name, [*kept, *others], notes)


def _is_end(name: str, setting: Combination) -> bool:
    """Whether the combination is an end point: vLLM caps it at its own rate, or leaves its rate unlimited."""
    cap, rate = setting.settings.get(CAP), setting.settings.get(name)
    return is_number(cap) and (cap == rate or rate == UNLIMITED)


def _end_words(name: str, ends: Sequence[Combination]) -> str:
    words = " and ".join(f"{name} {end.settings[name]} has {CAP} {end.settings[CAP]}" for end in ends)
    return f"a sweep over {name} whose end points are capped, as vllm bench sweep serve_workload does: {words}"
