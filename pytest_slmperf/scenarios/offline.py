"""Offline scenarios: a batch at once, and the start of an engine (``cold_start``)."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pytest_slmperf.engines.base import Batch, Engine, EngineAdapter
from pytest_slmperf.engines.reading_gate import checked_round
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.metrics.registry import engine_start_time
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import OpenEngine, RoundOutcome, Scenario, batch_outcome, first_fills_caches
from pytest_slmperf.util.checks import is_whole

MOST_TOKENS = 1e9  # of one round, since prompts are drawn in the memory of the engine's process


def whole(kind: str, name: str, value: Any, least: int = 1) -> None:
    """InvalidInput unless the scenario's parameter ``name`` is a whole number of at least ``least``."""
    if not is_whole(value) or value < least:
        raise InvalidInput(f"slmperf.{kind}: {name} must be a whole number of at least {least}, not {value!r}")


def grow(current: int | None, needed: int) -> int | None:
    """A size of at least ``needed``: a smaller one grows to a power of two; None stays None, since the adapter chooses."""
    return current if current is None or current >= needed else 1 << (needed - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Offline(Scenario):
    """``batch`` requests of ``input_len`` prompt tokens, ``output_len`` generated tokens each."""

    kind: ClassVar[str] = "offline"

    batch: int
    input_len: int
    output_len: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "input_len", "output_len"):
            whole(self.kind, name, getattr(self, name))
        whole(self.kind, "seed", self.seed, least=0)
        if (tokens := self.batch * (self.input_len + self.output_len)) > MOST_TOKENS:
            raise InvalidInput(
                f"slmperf.{self.kind}: {self.batch} requests of {self.input_len}+{self.output_len} tokens are {tokens:.3g} "
                f"tokens in one round, more than {MOST_TOKENS:.0e}; a round should take seconds"
            )

    def parameters(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    def spec(self, base: EngineSpec, adapter: EngineAdapter) -> EngineSpec:
        return base.with_settings(
            max_model_len=grow(base.max_model_len, self.input_len + self.output_len),
            max_num_seqs=grow(base.max_num_seqs, self.batch),
        )

    def round(self, engine: Engine, timeout_s: float | None) -> RoundOutcome:
        reading = checked_round(engine, Batch(self.batch, self.input_len, self.output_len, self.seed), timeout_s)
        return batch_outcome(reading, self.batch, self.output_len, engine)


# Cold start: from the spawn of the engine's process to the first served request, with the machine's caches filled.


@dataclass(frozen=True, slots=True)
class ColdStart(Scenario):
    """Each launch is a process of its own, whose only round is its start. On a GPU, the first launch does not count."""

    kind: ClassVar[str] = "cold_start"
    gates: ClassVar[tuple[str, ...]] = ("engine_start_time",)
    measures_energy: ClassVar[bool] = False
    needs_warmup: ClassVar[bool] = False
    starts_engine: ClassVar[bool] = True
    rounds_per_launch: ClassVar[int | None] = 1

    def parameters(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def prepare(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> None:
        if first_fills_caches(spec, launch):
            with open_engine(spec, -1):
                pass

    def engine(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> AbstractContextManager[Any]:
        return open_engine(spec, -1)

    def round(self, engine: Engine, timeout_s: float | None) -> RoundOutcome:
        seconds = engine.start_time_s
        if seconds is None:
            raise EngineError("the engine did not say how long it took to start", engine.log_tail())
        now = time.monotonic()
        return RoundOutcome(
            t_start=now - seconds, t_end=now, n_out=0, completed=1, values={engine_start_time.name: seconds}
        )
