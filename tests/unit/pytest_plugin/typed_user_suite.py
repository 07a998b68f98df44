"""A user's perf tests, checked by mypy and not run: a wrong keyword or type is an error in the editor.

An ``ignore`` that mypy does not need is an error too (``warn_unused_ignores``), so each of them proves that mypy sees it.
"""

from __future__ import annotations

from pytest_slmperf import Slmperf, Slo


def right(slmperf: Slmperf) -> None:
    slmperf.offline(batch=8, input_len=32, output_len=32)
    slmperf.serving(rate=5.0, input_len=32, output_len=32, duration_s=10, slo={"ttft": 200.0})
    slmperf.serving(concurrency=4, workload="azure-2023-conv", length_scale=0.1, num_requests=20, slo=Slo(ttft=200.0))
    sustained: float | None = slmperf.serving_sweep(
        rate=[1.0, 2.0], duration_s=10, input_len=32, output_len=32
    ).sustained
    slmperf.sweep(
        batch=[1, 4, 16], input_len=32, output_len=(8, 32), enforce_eager=[True, False], settings={"name": "a"}
    )
    slmperf.replicas(2, batch=4, input_len=32, output_len=32, sharing="mps", enforce_eager=True)
    slmperf.replication([1, 2], batch=4, input_len=32, output_len=32, least_gain=0.1)
    assert sustained
    assert slmperf.cold_start()["engine_start_time"] > 0


def wrong(slmperf: Slmperf) -> None:
    slmperf.offline(batch=8, input_len=32)  # type: ignore[call-arg]
    slmperf.serving(rat=5.0, input_len=32, output_len=32, duration_s=10)  # type: ignore[call-arg]
    slmperf.serving(rate="5", input_len=32, output_len=32, duration_s=10)  # type: ignore[arg-type]
    slmperf.serving(rate=5.0, input_len=32, output_len=32, warmup_s="1")  # type: ignore[arg-type]
    slmperf.serving_sweep(rate=1.0, duration=10)  # type: ignore[call-arg]
    slmperf.sweep(batch=["1"], input_len=32, output_len=32)  # type: ignore[list-item]
    slmperf.replicas(2, batch=4, input_len=32, output_len=32, sharing="mpi")  # type: ignore[arg-type]
    slmperf.replication([1, 2], batch=4, input_len=32, output_len=32, fair=3)  # type: ignore[arg-type]
