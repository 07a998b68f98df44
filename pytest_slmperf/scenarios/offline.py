"""Offline batch: so many prompts of one length handed over at once, so many tokens each, EOS ignored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pytest_slmperf.engines.base import Batch, Engine, EngineAdapter
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import RoundOutcome, Scenario
from pytest_slmperf.scenarios.summary import outcome
from pytest_slmperf.util.numbers import is_whole

MOST_TOKENS = 1e9  # of one round: prompts are drawn in the engine's process, and more would fill the memory


def whole(kind: str, name: str, value: Any, least: int = 1) -> None:
    """Refuse what is not a whole number of at least ``least``, naming the scenario's parameter."""
    if not is_whole(value) or value < least:
        raise InvalidInput(f"slmperf.{kind}: {name} must be a whole number of at least {least}, not {value!r}")


def grow(current: int | None, needed: int) -> int | None:
    """None stays None (the adapter chooses, knowing its device); a stated size that is too small grows to a power of two."""
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
        reading = engine.generate(Batch(self.batch, self.input_len, self.output_len, self.seed), timeout_s)
        made, asked = reading.n_out, self.batch * self.output_len
        if reading.completed != self.batch or made != asked:
            raise EngineError(
                f"the engine completed {reading.completed} of {self.batch} requests with {made} of {asked} output tokens; "
                "a throughput of unfinished work would mean nothing",
                engine.log_tail(),
            )
        return outcome(reading)
