"""The typed result records: what ``results.json`` (schema 1) holds and what baselines are made of.

Every reader (terminal, HTML, comparison, exporters) reads these records and nothing else.  The fields of
``Results``, ``Result``, ``MetricValue`` and ``VerdictRecord`` that the published schema names are fixed; new ones
are added with a default, so that older files stay readable.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from pytest_slmperf.errors import BaselineError, NotMeasured

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 512 * 2**20  # some 50 kB a test: a results file larger than this is not one of ours
RESTORE = "restore it from version control, or delete it to start anew"  # what to do about a broken file of ours

VerdictName = Literal["regressed", "improved", "same", "inconclusive", "new", "incomparable"]


class Commit(msgspec.Struct, kw_only=True):
    """The commit of the code under test; ``id`` None outside version control."""

    id: str | None = None
    branch: str | None = None
    dirty: bool = False


class FailedTest(msgspec.Struct, kw_only=True):
    """A performance test that failed, and not by a verdict: by an assertion of its own, an error, a fixture."""

    id: str
    reason: str  # one line
    location: str | None = None  # path:line
    unexpected_pass: bool = False  # nothing in it failed: a strict xfail expected that something would


class Session(msgspec.Struct, kw_only=True):
    """One run of pytest. Times are UTC in ISO 8601 with a Z."""

    id: str
    started_at: str
    plugin_version: str
    commit: Commit = msgspec.field(default_factory=Commit)
    finished_at: str | None = None
    profile: str | None = None
    mode: Literal["stored", "duet"] = "stored"
    against: str | None = None
    alpha: float | None = None
    options: dict[str, Any] = {}
    notes: list[str] = []  # what the reader must know about the whole session: budget ended, meter lost, …
    failed_tests: list[FailedTest] = []

    def own_failure(self, result_id: str) -> str | None:
        """The assertion or error of a result's own test, in one line; None where none failed."""
        for failed in self.failed_tests:
            if failed.unexpected_pass:
                continue
            # a test that measures several adds a part to its id, or a number
            if result_id == failed.id or result_id.startswith((f"{failed.id}::", f"{failed.id}#")):
                return failed.reason
        return None


class Machine(msgspec.Struct, kw_only=True):
    """The machine measured on; ``fingerprint`` is the identity that baselines are filed under."""

    fingerprint: str
    cpu: dict[str, Any] = {}
    gpus: list[dict[str, Any]] = []
    memory_bytes: int = 0
    driver: str | None = None
    os: dict[str, Any] = {}
    python: str | None = None

    @property
    def usable_gpus(self) -> list[dict[str, Any]]:
        """The GPUs without those that cannot be opened: what an engine can run on."""
        return [gpu for gpu in self.gpus if not gpu.get("closed")]

    @property
    def cards(self) -> list[str]:
        """The GPUs' names, and why one cannot be opened."""
        return [
            str(gpu.get("name", "GPU")) + (f" (cannot be opened: {gpu['closed']})" if gpu.get("closed") else "")
            for gpu in self.gpus
        ]


class Engine(msgspec.Struct, kw_only=True):
    """The engine as it said it was once it was ready. ``weights``: dummy, real or simulated."""

    name: str
    version: str
    model: str
    weights: str
    device: str
    replicas: int = 1
    dtype: str | None = None
    settings: dict[str, Any] = {}  # engine arguments as given
    facts: dict[str, Any] = {}  # what else the engine reported: kv_cache_tokens, torch version, threads, …


class MetricValue(msgspec.Struct, kw_only=True):
    """One metric of one result.

    ``value`` None: not measured, and ``reason`` says why (a missing reading is never 0).
    ``launches`` holds one list of round values per engine launch; discarded rounds are not in it.
    """

    unit: str
    better: Literal["higher", "lower", "none"]
    value: float | None
    ci: tuple[float, float] | None = None
    launches: list[list[float]] = []
    reason: str | None = None
    gate: bool = False


class Metered(msgspec.Struct, kw_only=True):
    """What joules were counted on. ``devices``: kind (a GPU's name, not its UUID) → how many.

    ``own``: they are those that the engine uses, so that another number of them is the engine's own doing.
    """

    source: str
    scope: str
    devices: dict[str, int]
    own: bool = False


class Energy(msgspec.Struct, kw_only=True):
    """Energy of the measured rounds. ``source`` None: nothing was measured, and ``reason`` says why."""

    source: str | None = None
    reason: str | None = None
    scope: str | None = None  # GPU, module, package, …
    joules: float | None = None
    bound_j: float | None = None  # |measured − true| ≤ bound_j, quantisation and alignment
    gain: float | None = None  # relative gain uncertainty kept apart: cancels between runs on one device
    tick_s: float | None = None
    window_s: float | None = None
    idle_w_before: float | None = None
    idle_w_after: float | None = None
    idle_w_bare: float | None = None  # before the session's first engine started
    idle_bare_reason: str | None = None  # why there is none
    net_joules: float | None = None
    edges: str | None = None  # "ticks": the window runs from tick to tick inside the rounds; "rounds": it is the rounds
    rounds: dict[str, Any] | None = None  # joules, bound_j, window_s over the whole rounds, whatever the power did
    repeats: str | None = None  # whether the asked-for bound was met, or what ended the repeating
    counted: str | None = None  # which devices are in the sum
    metered: Metered | None = None  # the same for a comparison: only joules of the same kind of meter are compared
    cost: dict[str, float] | None = None  # from the user's own figures only
    devices: list[dict[str, Any]] = []
    witness: dict[str, Any] | None = None  # second source: joules, bound_j, disagreement
    warnings: list[str] = []
    trace: dict[str, Any] | None = None  # downsampled power trace: t_s, watts per device


class Round(msgspec.Struct, kw_only=True):
    """One measured round. Times are CLOCK_MONOTONIC seconds; ``contaminated`` names the evidence, None if clean."""

    t_start: float
    t_end: float
    values: dict[str, float] = {}
    evidence: dict[str, Any] = {}
    contaminated: str | None = None


class Launch(msgspec.Struct, kw_only=True):
    """One engine launch and the rounds measured in it, discarded ones included."""

    index: int
    start_time_s: float | None = None
    warmup_rounds: int = 0
    rounds: list[Round] = []
    side: Literal["candidate", "baseline"] = "candidate"
    session: str | None = None  # the session in which it was measured (launches of a baseline come from several)


class VerdictRecord(msgspec.Struct, kw_only=True):
    """One verdict. ``change`` is the relative change candidate ÷ baseline − 1, with its interval ``ci``."""

    metric: str
    verdict: VerdictName
    change: float | None = None
    ci: tuple[float, float] | None = None
    baseline: str | None = None
    tolerance: float | None = None
    limit: float | None = None
    gate: bool = True
    reason: str = ""  # one line for a reader
    detail: dict[str, Any] = {}  # everything that led to it, for the report
    more_launches: int | None = None  # inconclusive: how many more launches it would take


class Result(msgspec.Struct, kw_only=True):
    """One measured scenario."""

    id: str
    scenario: dict[str, Any]
    engine: Engine
    metrics: dict[str, MetricValue] = {}
    energy: Energy = msgspec.field(default_factory=Energy)
    discarded_rounds: int = 0
    preemptions: int = 0
    verdicts: list[VerdictRecord] = []
    launches: list[Launch] = []
    differences: list[dict[str, Any]] = []  # what changed against the baseline: {"what", "baseline", "candidate"}
    baseline: dict[str, Any] | None = None  # summary of the baseline side, so that the report can draw both
    samples: dict[str, Any] = {}  # bounded latency samples or sketches for ECDFs
    points: list[dict[str, Any]] = []  # a sweep's points
    charts: dict[str, Any] = {}
    log_tail: str = ""
    notes: list[str] = []
    failure: str | None = None  # not measured: why
    launch_s: float | None = None  # wall seconds of the longest launch (pair in a duet), the engine's start included
    launches_short: int = 0  # of the launches asked for, those that the session's time did not allow

    def need(self, enough: bool, name: str = "") -> None:
        """NotMeasured, with the verdict's reason, where an inconclusive measurement has not ``enough`` readings.

        Nothing can be asserted of it then: the test ends as inconclusive. ``name``: the metric that was asked for.
        """
        __tracebackhide__ = True
        why = next((one.reason for one in self.verdicts if one.verdict == "inconclusive"), None)
        if why is not None and not enough:
            raise NotMeasured(f"{self.id}: {name + ' ' if name else ''}was not measured: {why}")


class Results(msgspec.Struct, kw_only=True):
    """A whole results file."""

    session: Session
    machine: Machine
    results: list[Result] = []
    schema_version: int = SCHEMA_VERSION


def encode(value: Any) -> bytes:
    """JSON of a record, indented for reading and diffing, each array of plain values on one line.

    ValueError for NaN and infinity: JSON has neither.
    """
    return (indented(msgspec.to_builtins(value), " ") + "\n").encode("utf-8", "replace")


def indented(value: Any, step: str, *, sort: bool = False, pad: str = "") -> str:
    """Plain values as JSON: a line each for the items of objects and of arrays of arrays or objects; any other array on
    one line, so that a changed launch is a changed line in a diff."""
    inner = pad + step
    if isinstance(value, dict) and value:
        keys = sorted(value, key=str) if sort else value
        rows = [f"{_plain(str(key))}: {indented(value[key], step, sort=sort, pad=inner)}" for key in keys]
        brackets = "{}"
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [indented(item, step, sort=sort, pad=inner) for item in value]
        brackets = "[]"
    else:
        return _plain(value)
    lines = ",\n".join(inner + row for row in rows)
    return f"{brackets[0]}\n{lines}\n{pad}{brackets[1]}"


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES, mend: str = RESTORE) -> bytes:
    """The bytes of a file from outside, refused with a BaselineError that names it when it is absent, empty or too big.

    ``mend``: what to do about an empty one.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise BaselineError(
                f"{path}: {size / 2**20:.0f} MiB is more than the {limit / 2**20:.0f} MiB that such a file may have; "
                "it was left untouched. Is it the right file?"
            )
        data = path.read_bytes()
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BaselineError(
            f"{path}: not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8, or restore it from version "
            "control"
        ) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise BaselineError(f"{path}: the file is empty; {mend}")
    return data


def check_version(data: bytes, path: Path) -> None:
    """Refuse what is not JSON with a schema version that this version reads."""

    class _Head(msgspec.Struct):
        schema_version: int

    try:
        version = msgspec.json.decode(data, type=_Head).schema_version
    except msgspec.ValidationError as error:
        raise BaselineError(
            f"{path}: not a slmperf file ({error}); restore it from version control, or name the right one"
        ) from error
    except RecursionError as error:
        raise BaselineError(f"{path}: nested too deeply for a slmperf file; is it the right one?") from error
    except msgspec.DecodeError as error:
        if conflict := re.search(rb"^(<{7}|>{7}) .*$", data, re.MULTILINE):
            line = data.count(b"\n", 0, conflict.start()) + 1
            raise BaselineError(
                f"{path}: line {line} is the mark of a merge that was not settled ({conflict[0].decode()[:60].strip()}); "
                "take one side whole (git checkout --ours or --theirs, then git add), or measure and approve anew after that"
            ) from error
        why = _not_a_number(data) or f"not valid JSON, perhaps cut short ({error})"
        raise BaselineError(f"{path}: {why}; restore it from version control, or delete it") from error
    if version > SCHEMA_VERSION:
        raise BaselineError(
            f"{path}: has schema version {version}, and this pytest-slmperf reads up to {SCHEMA_VERSION}; "
            "upgrade pytest-slmperf to read it"
        )


def _not_a_number(data: bytes) -> str | None:
    """Where JSON that Python would read holds NaN or an infinity; None where it holds none, or is broken otherwise."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return None
    found = re.search(rb"-?\b(NaN|Infinity)\b", re.sub(rb'"(\\.|[^"\\])*"', lambda text: b'"' * len(text[0]), data))
    if found is None:
        return None
    line = data.count(b"\n", 0, found.start()) + 1
    fields = re.findall(rb'"([^"\n]*)"\s*:', data[: found.start()])
    name = f", after the field {fields[-1].decode(errors='replace')!r}," if fields else ""
    return f"line {line}{name} holds {found[0].decode()}, which is neither JSON nor a reading"


def load_results(path: Path) -> Results:
    """Read and validate a results file; BaselineError names the file and the field that is wrong."""
    data = read_bytes(path)
    check_version(data, path)
    try:
        found = msgspec.json.decode(data, type=Results)
    except msgspec.ValidationError as error:
        raise BaselineError(f"{path}: {error}; {RESTORE}") from error
    seen: set[str] = set()
    for result in found.results:
        if result.id in seen:
            raise BaselineError(f"{path}: holds two results of the test {result.id!r}; measure again, or take one away")
        for number, point in enumerate(result.points, 1):
            if not isinstance(point.get("key"), str | int | float):
                raise BaselineError(
                    f"{path}: point {number} of {result.id!r} has no key; measure again, or take it away"
                )
        seen.add(result.id)
    return found
