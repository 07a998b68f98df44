"""Replication: several engines of one specification on one device, measured as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal

from pytest_slmperf.engines.base import SHARE, Batch, EngineAdapter, RoundReading
from pytest_slmperf.engines.presets import resolve_model
from pytest_slmperf.engines.sharing.replicas import (
    SHARINGS,
    ReplicaGroup,
    Sharing,
    available_cores,
    label,
    open_replicas,
    replica_specs,
    share_cores,
)
from pytest_slmperf.errors import InvalidInput, OutOfMemory
from pytest_slmperf.frontier.replication import kv_tokens_each, kv_tokens_together, split_evenly
from pytest_slmperf.metrics.registry import fairness, mean_running_requests, output_throughput
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import OpenEngine, RoundOutcome, Scenario, batch_outcome
from pytest_slmperf.scenarios.offline import grow, whole
from pytest_slmperf.util.checks import is_number

Split = Literal["even", "least-load"]


# Engine settings of a replica that follow from the scenario.
FOLLOWS = {
    "kv_cache_tokens": "is what each replica gets of total_kv_cache_tokens, the budget of all together; give that",
    "max_num_seqs": "of a replica is its batch; give batch, and requests where more are to be sent",
    "max_model_len": "follows from input_len and output_len",
}


@dataclass(frozen=True, slots=True)
class Replication(Scenario):
    """``requests`` (default: ``batch`` per replica) over ``replicas`` engines of at most ``batch`` running sequences.

    split: "even": every replica gets its share at once; "least-load": pieces of ``batch`` go to the next free replica.
    total_kv_cache_tokens: KV budget that one engine with all the memory would have (default: the adapter's).  K replicas
    share it, less K − 1 further copies of the weights (on a GPU also less what each running engine takes beside them), so
    that every K uses the same memory.  With sharing="mig" a slice's memory holds the copy and bounds the KV cache of a
    replica.
    engine_settings: further arguments of the engine.
    """

    kind: ClassVar[str] = "replication"

    replicas: int
    batch: int
    input_len: int
    output_len: int
    sharing: Sharing = "time-slice"
    split: Split = "even"
    requests: int | None = None
    total_kv_cache_tokens: int | None = None
    seed: int = 0
    engine_settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("replicas", "batch", "input_len", "output_len"):
            whole("replicas", name, getattr(self, name))
        for name in ("requests", "total_kv_cache_tokens"):
            if getattr(self, name) is not None:
                whole("replicas", name, getattr(self, name))
        whole("replicas", "seed", self.seed, least=0)
        if self.sharing not in SHARINGS:
            raise InvalidInput(f"slmperf.replicas: sharing must be one of {', '.join(SHARINGS)}, not {self.sharing!r}")
        if self.split not in ("even", "least-load"):
            raise InvalidInput(f"slmperf.replicas: split must be 'even' or 'least-load', not {self.split!r}")

    @classmethod
    def of(cls, replicas: int, settings: Mapping[str, Any]) -> Replication:
        """From the arguments of a test. Further names are engine settings. InvalidInput for a missing argument."""
        if isinstance(replicas, list | tuple | range):
            numbers = ", ".join(map(repr, replicas))
            raise InvalidInput(
                f"slmperf.replicas: replicas is one number, not a list; slmperf.replication([{numbers}], …) measures several"
            )
        for name, instead in FOLLOWS.items():
            if name in settings:
                raise InvalidInput(f"slmperf.replicas: {name} {instead}")
        own = {field.name for field in fields(cls)} - {"replicas", "engine_settings"}
        known = {name: value for name, value in settings.items() if name in own}
        if lacking := [name for name in ("batch", "input_len", "output_len") if name not in known]:
            raise InvalidInput(f"slmperf.replicas: give {', '.join(lacking)}")
        rest = tuple(sorted((name, value) for name, value in settings.items() if name not in own))
        return cls(replicas, **known, engine_settings=rest)

    def parameters(self) -> dict[str, Any]:
        given = asdict(self) | {"kind": self.kind, "engine_settings": dict(self.engine_settings)}
        return {name: value for name, value in given.items() if value not in (None, {})}

    def spec(self, base: EngineSpec, adapter: EngineAdapter) -> EngineSpec:
        # Without "requests" no replica gets more than its batch, so that a pooled engine with any higher limit will do.
        limit = self.batch if self.requests is not None else grow(base.max_num_seqs, self.batch)
        return base.with_settings(
            max_model_len=grow(base.max_model_len, self.input_len + self.output_len),
            max_num_seqs=limit,
            kv_cache_tokens=self.total_kv_cache_tokens or base.kv_cache_tokens,
            **dict(self.engine_settings),
        )

    def engine(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> AbstractContextManager[Any]:
        on_cpu = (spec.device or "cpu").startswith("cpu")
        adapter = open_engine.adapter(spec)
        tokens = self.kv_each(spec, adapter)
        each = spec if tokens is None else replace(spec, kv_cache_tokens=tokens)
        modelled = adapter.replica_specs(each, self.replicas, self.sharing)
        cores = share_cores(available_cores(), self.replicas) if modelled is None else None
        specs = modelled or replica_specs(each, self.replicas, self.sharing, cores=cores, mps=open_engine.mps)
        facts: dict[str, Any] = {"sharing": "cores" if on_cpu else self.sharing, "kv_cache_tokens_each": tokens}
        if cores is not None:
            facts["cores"] = [list(own) for own in cores.each]
            if cores.contention is not None:
                facts["contention"] = cores.contention
        return open_replicas(specs, spec, launch, open_engine, facts, mig_hint=adapter.traits.mig_hint)

    def kv_each(self, spec: EngineSpec, adapter: EngineAdapter) -> int | None:
        """KV-cache tokens of one replica; ``spec`` has the budget of all together.

        OutOfMemory if the replicas do not fit, InvalidInput for a model of unknown size.
        """
        sliced = self.sharing == "mig" and (spec.device or "cpu").startswith("cuda")
        if spec.kv_cache_tokens is None or (self.replicas == 1 and not sliced):
            return spec.kv_cache_tokens
        model = resolve_model(spec.model, spec.weights)
        weights, per_token = model.weight_bytes(spec.dtype), model.kv_bytes_per_token(spec.kv_dtype)
        if weights is None or per_token is None:
            unknown, mend = f"the size of {spec.model}", "name a preset, or a local folder whose config.json tells it"
            if weights is not None and model.kv_bytes_per_token(spec.dtype) is not None:
                unknown, mend = f"how many bytes a KV cache in {spec.kv_dtype} takes", "choose another kv_cache_dtype"
            raise InvalidInput(
                f"slmperf.replicas: {unknown} is not known, so equal memory cannot be shared out; {mend}"
            )
        copy_bytes = weights + adapter.runtime_bytes(spec)
        if sliced:
            return self._kv_of_a_slice(spec, copy_bytes, per_token)
        tokens = kv_tokens_each(spec.kv_cache_tokens, self.replicas, copy_bytes, per_token)
        longest = self.input_len + self.output_len
        if tokens < longest:
            least = kv_tokens_together(longest, self.replicas, copy_bytes, per_token)
            raise OutOfMemory(
                f"{self.replicas} replicas do not fit: so many copies of the weights leave {max(tokens, 0)} tokens of KV "
                f"cache each, and a request takes {longest}; they need total_kv_cache_tokens of {least} where there are "
                f"{spec.kv_cache_tokens}"
            )
        return tokens

    def _kv_of_a_slice(self, spec: EngineSpec, copy_bytes: int, per_token: int) -> int:
        """KV-cache tokens of a replica on a MIG slice of its own, which also holds the weights: an equal share of the
        budget, limited by the smallest slice. OutOfMemory if that is less than a request."""
        from pytest_slmperf.devices.selection import mig_slices

        sizes = [part.memory_bytes for part in mig_slices(spec.device or "cuda:0")[: self.replicas]]
        rooms = [int((size * SHARE - copy_bytes) // per_token) for size in sizes if size is not None]
        tokens = min([(spec.kv_cache_tokens or 0) // self.replicas, *rooms])
        if tokens < self.input_len + self.output_len:
            least = min((size for size in sizes if size is not None), default=0)
            raise OutOfMemory(
                f"a replica has {max(tokens, 0)} tokens of KV cache on its MIG slice (the smallest has "
                f"{least / 2**30:.1f} GiB), and a request takes {self.input_len + self.output_len}"
            )
        return tokens

    def round(self, engine: ReplicaGroup, timeout_s: float | None) -> RoundOutcome:
        total = self.requests or self.replicas * self.batch
        pieces = split_evenly(total, self.replicas)
        if self.split == "least-load":
            count = -(-total // self.batch)
            pieces = split_evenly(total, count)
        works = [Batch(size, self.input_len, self.output_len, self.seed + number) for number, size in enumerate(pieces)]
        if self.split == "even":
            readings = [[reading] for reading in engine.generate_all(works, timeout_s)]
        else:
            readings = engine.generate_queue(works, timeout_s)
        return self._outcome(readings, total, engine)

    def _outcome(self, readings: Sequence[Sequence[RoundReading]], total: int, engine: ReplicaGroup) -> RoundOutcome:
        merged = merge([reading for own in readings for reading in own])
        whole = batch_outcome(merged, total, self.output_len, engine)
        values = dict(whole.values)
        rates = []
        for number, own in enumerate(readings):
            if not own:  # the other replicas did every piece
                continue
            replica = merge(own)
            rates.append(output_throughput(replica.n_out, replica.t_end - replica.t_start))
            values[f"{output_throughput.name}@{label(number)}"] = rates[-1]
        values[fairness.name] = fairness(rates + [0.0] * (self.replicas - len(rates)))
        return replace(whole, values=values)


def merge(readings: Sequence[RoundReading]) -> RoundReading:
    """The readings of several engines as one: the window spans all of them, counts add up, the KV peak is the highest.

    A figure that one of the engines lacks is None.
    """
    start, end = min(reading.t_start for reading in readings), max(reading.t_end for reading in readings)
    evidence: dict[str, Any] = {}
    for reading in readings:
        for name, value in reading.evidence.items():
            known = evidence.get(name)
            adds = is_number(value) and isinstance(known, int | float)
            evidence[name] = known + value if adds else value
    preempted = [reading.preemptions for reading in readings]
    peaks = [reading.kv_cache_peak for reading in readings]
    running = [(reading.mean_running, reading.t_end - reading.t_start) for reading in readings]
    return RoundReading(
        t_start=start,
        t_end=end,
        n_in=sum(reading.n_in for reading in readings),
        n_out=sum(reading.n_out for reading in readings),
        completed=sum(reading.completed for reading in readings),
        requests=tuple(request for reading in readings for request in reading.requests),
        itl_s=tuple(gap for reading in readings for gap in reading.itl_s),
        preemptions=None if None in preempted else sum(count for count in preempted if count is not None),
        kv_cache_peak=None if None in peaks else max(peak for peak in peaks if peak is not None),
        mean_running=None
        if any(mean is None for mean, _ in running) or end <= start
        else mean_running_requests(sum((mean or 0.0) * seconds for mean, seconds in running), end - start),
        evidence=evidence,
    )
