"""The roofline of decoding (Williams, Waterman, Patterson 2009): every step reads all weights it multiplies once and each
sequence's KV cache once, and multiplies every weight once per sequence.

Times are lower bounds and throughputs upper bounds: host overhead, launches and imperfect kernels come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_slmperf.errors import InvalidInput

Bound = Literal["bandwidth", "compute"]


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """The costs of a model. ``weight_bytes``, ``kv_bytes_per_token`` in bytes; FLOPs of a token:
    ``flops_per_token + attention_flops · context``.

    ``read_bytes``: the weights that a step reads, without tables of which it looks up single rows (embeddings that are not
    tied to the output layer, learned positions); None: all of them.
    """

    name: str
    weight_bytes: int
    kv_bytes_per_token: int
    flops_per_token: int
    attention_flops: int = 0
    read_bytes: int | None = None

    @property
    def bytes_per_step(self) -> int:
        return self.weight_bytes if self.read_bytes is None else self.read_bytes


@dataclass(frozen=True, slots=True)
class Peaks:
    """The peaks of a device: bytes/s from memory, FLOP/s at the model's dtype."""

    bandwidth: float
    flops: float

    def __post_init__(self) -> None:
        for name in ("bandwidth", "flops"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"a device's {name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of one batch and length: least inter-token time in ms, most output tok/s, and the limiting resource.

    ``share(throughput)`` is a measured throughput ÷ this limit.
    """

    batch: int
    itl_ms: float
    output_throughput: float
    bound: Bound

    def share(self, output_throughput: float) -> float:
        return output_throughput / self.output_throughput


def decode_step_s(model: ModelFigures, peaks: Peaks, batch: int, context: float) -> tuple[float, Bound]:
    """Least seconds of a step that gives each of ``batch`` sequences of ``context`` tokens its next token."""
    moved = (model.bytes_per_step + batch * context * model.kv_bytes_per_token) / peaks.bandwidth
    computed = batch * (model.flops_per_token + model.attention_flops * context) / peaks.flops
    return (moved, "bandwidth") if moved >= computed else (computed, "compute")


def offline_limit(model: ModelFigures, peaks: Peaks, *, batch: int, input_len: int, output_len: int) -> Limit:
    """Limit of an offline batch: prefill at the compute peak, then ``output_len`` − 1 decode steps at the mean context.

    The prefill makes the first token of each sequence.
    """
    for name, value in (("batch", batch), ("input_len", input_len), ("output_len", output_len)):
        if value < 1:
            raise InvalidInput(f"{name} must be at least 1, not {value}")
    step, bound = decode_step_s(model, peaks, batch, input_len + output_len / 2)
    prompt = batch * input_len * (model.flops_per_token + model.attention_flops * input_len / 2)
    prefill = max(prompt / peaks.flops, model.bytes_per_step / peaks.bandwidth)
    window = prefill + (output_len - 1) * step
    return Limit(batch, 1e3 * step, batch * output_len / window, bound)


def ridge_batch(model: ModelFigures, peaks: Peaks, context: float) -> float | None:
    """The batch from which compute, not bandwidth, limits decoding; None if the KV cache's traffic grows faster than the
    arithmetic, so that bandwidth limits every batch (the plateau of small models)."""
    per_sequence = (model.flops_per_token + model.attention_flops * context) / peaks.flops
    per_sequence -= context * model.kv_bytes_per_token / peaks.bandwidth
    return model.bytes_per_step / peaks.bandwidth / per_sequence if per_sequence > 0 else None


def saturated_throughput(model: ModelFigures, peaks: Peaks, context: float) -> float:
    """Upper bound of output tok/s over all batches at this context: only KV traffic and arithmetic remain."""
    traffic = context * model.kv_bytes_per_token / peaks.bandwidth
    arithmetic = (model.flops_per_token + model.attention_flops * context) / peaks.flops
    return 1 / max(traffic, arithmetic)


def sequences_in_memory(model: ModelFigures, memory: int, context: float) -> int:
    """Number of sequences of ``context`` tokens that fit in addition to the weights; 0 if the weights do not fit."""
    return max(0, int((memory - model.weight_bytes) // (context * model.kv_bytes_per_token)))
