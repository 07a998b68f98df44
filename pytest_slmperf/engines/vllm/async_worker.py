"""vLLM's ``AsyncLLM`` inside a worker: the engine that ``vllm serve`` runs behind its HTTP front end, without HTTP.

Standard library and vLLM only, Python 3.10.
"""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.vllm import offline_worker as base
    from pytest_slmperf.engines.vllm import serving
    from pytest_slmperf.engines.vllm_common import faults
    from pytest_slmperf.engines.worker import player, tools
    from pytest_slmperf.load import rows, settings
else:
    import slmperf_worker_tools as tools

    base = tools.load_own("engines/vllm/offline_worker")
    faults = tools.load_own("engines/vllm_common/faults")
    player = tools.load_own("engines/worker/player")
    rows = tools.load_own("load/rows")
    settings = tools.load_own("load/settings")
    serving = tools.load_own("engines/vllm/serving")

SPARE_S = 0.05


class VllmAsyncEngine(base.VllmEngine):
    """The same operations as the in-process engine, and ``play``, over ``AsyncLLM``."""

    def start(self) -> dict[str, Any]:
        began = time.monotonic()
        self.report.progress("importing vLLM")
        vllm = faults.import_vllm()
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        imported = time.monotonic()
        faults.check_device(faults.platform_device(), self.spec)
        log = faults.Log()
        self.report.progress("loading the model")
        arguments = self.engine_arguments(vllm)
        self._leave_the_cores_to_the_model()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        try:
            # The usage context decides defaults such as max_num_batched_tokens; this engine stands for a server.
            self.engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**arguments), usage_context=UsageContext.OPENAI_API_SERVER
            )
        except Exception as error:
            raise faults.explain(error, self.spec, log.cause()) from error
        loaded = time.monotonic()
        self.llm = SimpleNamespace(llm_engine=self.engine)
        self._take_over_logging()  # before the first request, when the output handler stores the logger
        config = self.engine.vllm_config
        faults.check_device(str(config.device_config.device_type), self.spec)
        self.vocabulary = int(config.model_config.get_vocab_size())
        self.sampling_params = vllm.SamplingParams
        self.report.progress("first request")
        self.generate(batch=1, input_len=min(8, self.spec["max_model_len"] - 2), output_len=2)
        served = time.monotonic()
        return self._facts(vllm, arguments) | {
            "t_first_served": served,
            "import_s": imported - began,
            "load_s": loaded - imported,
            "first_request_s": served - loaded,
            "tells_request_times": True,
            "cpus": list(self.spec.get("cpus") or ()),  # of the computing threads, not of this process
        }

    def _leave_the_cores_to_the_model(self) -> None:
        """Allow this process every core. On a CPU, vLLM binds its computing threads itself; on their cores, the engine's
        core process, which inherits this setting and polls for results, would take their time.
        """
        if self.spec["device"] == "cpu":
            try:
                os.sched_setaffinity(0, range(os.cpu_count() or 1))
            except OSError:
                pass  # a container may forbid it

    def generate(
        self,
        batch: int,
        input_len: int,
        output_len: int,
        seed: int = 0,
        ignore_eos: bool = True,
        start_at: float | None = None,
    ) -> dict[str, Any]:
        """One offline round: all requests at once."""
        prompts = tools.draw_prompts(batch, input_len, self.vocabulary, seed)
        pacing = settings.Pacing(
            seed=seed, ignore_eos=ignore_eos, drain_s=3600.0, limit_s=7200.0, request_timeout_s=3600.0
        )
        requests = [
            rows.PlannedRequest(index, due=0.0, n_in=input_len, n_out=output_len, ids=ids)
            for index, ids in enumerate(prompts)
        ]
        if start_at is not None:
            time.sleep(max(0.0, start_at - time.monotonic()))
        report = self._played(player.Player(pacing, requests, self.vocabulary))
        records = report.records
        failed = [record for record in records if record.error is not None]
        if failed:
            example = failed[0].error_text or failed[0].error
            raise RuntimeError(f"{len(failed)} of {batch} requests failed: {example}")
        self.rounds += 1
        n_out = sum(record.n_out for record in records)
        self.total_tokens += n_out
        self.total_preemptions += report.engine.preemptions or 0
        start = report.start_ns / 1e9
        served = [_served(start, record) for record in records]
        return {
            "t_start": start,
            "t_end": max(request.t_last or 0.0 for request in served),
            "n_in": sum(record.n_in or 0 for record in records),
            "n_out": n_out,
            "completed": len(records),
            "requests": served,
            "itl_s": [gap / 1e9 for gap, times in report.sums.gaps for _ in range(times)],
            "preemptions": report.engine.preemptions,
            "kv_cache_peak": report.engine.kv_cache_peak,
            "mean_running": report.engine.mean_running,
            "evidence": report.evidence | {"steps": report.engine.steps},
        }

    def play(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Play an open or closed loop (``engines/worker/player.py``)."""
        return self._played(player.Player.of(plan, self.vocabulary)).to_wire()

    def _played(self, load: player.Player) -> rows.PlayReport:
        load.check_lengths(self.spec["max_model_len"])
        self.steps.clear()
        usage = tools.Usage()
        cpu = time.process_time()
        self.loop.run_until_complete(self._play(load, serving.sampling_of(self, load.ignore_eos)))
        cpu_s = time.process_time() - cpu
        return load.report(serving.statistics(self, load.start_ns), usage.delta(), cpu_s)

    async def _play(self, load: player.Player, sampling: Any) -> None:
        tasks: dict[int, asyncio.Task[None]] = {}
        stirred = asyncio.Event()

        async def answer(prompt: player.Prompt) -> None:
            serial, ids = prompt.serial, {"prompt_token_ids": prompt.ids}
            try:
                async for output in self.engine.generate(ids, sampling(prompt.n_out), str(serial)):
                    load.tokens(serial, time.monotonic_ns(), sum(len(part.token_ids) for part in output.outputs))
                load.finish(serial, time.monotonic_ns())
            except asyncio.CancelledError:
                pass  # given up; its record is already written
            except Exception as error:
                load.finish(serial, time.monotonic_ns(), type(error).__name__, str(error))
            finally:
                tasks.pop(serial, None)
                stirred.set()

        load.begin(time.monotonic_ns() + 20_000_000)
        while not load.over():
            now = time.monotonic_ns()
            for prompt in load.take(now, busy=False):
                tasks[prompt.serial] = self.loop.create_task(answer(prompt))
            for serial in load.expired(now):
                if serial in tasks:
                    tasks[serial].cancel()
            due = load.next_due()
            wait = SPARE_S if due is None else min(SPARE_S, (due - time.monotonic_ns()) / 1e9)
            if wait > 0:
                stirred.clear()
                try:
                    await asyncio.wait_for(stirred.wait(), wait)
                except asyncio.TimeoutError:  # noqa: UP041 (another class until Python 3.11)
                    pass
            else:
                await asyncio.sleep(0)
        if tasks:
            await asyncio.wait(list(tasks.values()), timeout=5)

    def reset_caches(self) -> dict[str, Any]:
        self.loop.run_until_complete(self.engine.reset_prefix_cache())
        return {}

    def stop(self) -> None:
        """Do nothing: the parent kills the process group, to which the engine's core belongs."""


def _served(start: float, record: rows.RequestRecord) -> rows.RequestTiming:
    """The times of a request that succeeded."""
    first, last, n_in = record.first_ns, record.last_ns, record.n_in
    if first is None or last is None or n_in is None:
        raise RuntimeError(f"request {record.number} has no times")
    return rows.RequestTiming(start, first / 1e9, last / 1e9, n_in, record.n_out)


def create(spec: dict[str, Any], report: tools.Report) -> VllmAsyncEngine:
    return VllmAsyncEngine(spec, report)
