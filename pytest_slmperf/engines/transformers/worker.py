"""Hugging Face transformers with its continuous batching, inside its process, on a CPU or a CUDA device.

Standard library, torch and transformers only, Python 3.10.  The library's generation loop runs in a thread of this process;
requests are handed over by its public ``add_request`` and every token is stamped by the library itself with
``time.perf_counter`` (CLOCK_MONOTONIC on Linux).
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.transformers import serving
    from pytest_slmperf.engines.worker import tools
    from pytest_slmperf.load import rows
else:
    import slmperf_worker_tools as tools

    rows = tools.load_own("load/rows")
    serving = tools.load_own("engines/transformers/serving")

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "memory footprint")
MEMORY_MEND = "Give it less: a smaller kv_cache_tokens or max_num_seqs, or a smaller model."
PAGE = 32  # tokens; short requests would waste most of a page of the library's 256
MODEL_SETTINGS = ("attn_implementation",)


class LoopLog:
    """Log of the generation loop's steps: the batch processor's own figures, read after each update."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.steps = 0
        self.kv_peak: float | None = None
        self.preemptions: int | None = None

    def attach(self, manager: Any) -> None:
        """Wrap the manager's batch processor when the manager creates it; figures that this version lacks stay None."""
        make = manager._create_batch_processor

        def make_and_watch() -> Any:
            processor = make()
            update, offloading = processor.update_batch, getattr(processor, "offloading_manager", None)
            capacity = getattr(processor.cache, "compute_free_capacity", None)
            active = getattr(processor.scheduler, "active_requests", None)

            def watched_update() -> None:
                self.steps += 1
                if capacity is not None:
                    used = 1.0 - float(capacity(relative=True))
                    self.kv_peak = used if self.kv_peak is None else max(self.kv_peak, used)
                update()

            processor.update_batch = watched_update
            if offloading is not None and active is not None:
                offload = offloading.offload_requests

                def watched_offload() -> Any:
                    before = len(active)
                    done = offload()
                    self.preemptions = (self.preemptions or 0) + max(0, before - len(active))
                    return done

                offloading.offload_requests = watched_offload
                self.counts_preemptions = True
            return processor

        self.counts_preemptions = False
        manager._create_batch_processor = make_and_watch


class TransformersEngine:
    def __init__(self, spec: dict[str, Any], report: tools.Report) -> None:
        self.spec = spec
        self.report = report
        self.log = LoopLog()
        self.rounds = self.total_tokens = self.total_preemptions = 0

    # life cycle

    def start(self) -> dict[str, Any]:
        began = time.monotonic()
        self.report.progress("importing transformers")
        torch, transformers = import_transformers()
        imported = time.monotonic()
        self.report.progress("loading the model")
        try:
            self._load(torch, transformers)
            self.manager.start()
        except Exception as error:
            raise explain(error, self.spec) from error
        loaded = time.monotonic()
        self.report.progress("first request")
        self.generate(batch=1, input_len=8, output_len=2)
        served = time.monotonic()
        config = self.manager.continuous_batching_config
        facts = {
            "version": transformers.__version__,
            "device": self.spec["device"],
            "weights": self.spec["weights"],
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cpus": sorted(os.sched_getaffinity(0)),
            "max_model_len": self.spec["max_model_len"],
            "max_num_seqs": self.spec["max_num_seqs"],
            "attention": self.model.config._attn_implementation,
            "prefix_caching": bool(config.allow_block_sharing),
            "kv_cache_tokens": int(config.num_blocks) * int(getattr(config, self._page_field)),
            "kv_block_size": int(getattr(config, self._page_field)),
            "python": ".".join(map(str, sys.version_info[:3])),
            "t_first_served": served,
            "import_s": imported - began,
            "load_s": loaded - imported,
            "first_request_s": served - loaded,
        }
        if self.spec["device"] != "cpu":
            facts["device_name"], facts["cuda"] = torch.cuda.get_device_name(), torch.version.cuda
        return facts

    def _load(self, torch: Any, transformers: Any) -> None:
        import dataclasses

        spec, settings = self.spec, dict(self.spec["settings"])
        known = {field.name for field in dataclasses.fields(transformers.ContinuousBatchingConfig)}
        for name in settings:
            if name not in known and name not in MODEL_SETTINGS:
                raise tools.WorkerFault(
                    "input",
                    f"transformers {transformers.__version__} has no continuous batching setting {name!r}",
                    f"Did you mean {tools.near(name, [*known, *MODEL_SETTINGS])}?",
                )
        device = "cpu" if spec["device"] == "cpu" else "cuda:0"  # the only GPU that this process sees
        load = {"attn_implementation": settings.pop("attn_implementation", "sdpa")}
        torch.manual_seed(0)
        if spec["weights"] == "dummy":
            config = transformers.AutoConfig.from_pretrained(spec["path"])
            dtype = getattr(torch, spec["dtype"]) if spec["dtype"] else None
            with torch.device(device):
                model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, **load)
        else:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                spec["path"], dtype=spec["dtype"] or "auto", **load
            )
        self.model = model.to(device).eval()
        self.vocabulary = int(self.model.config.get_text_config().vocab_size)
        self._page_field = page_field(known)
        page = int(settings.get(self._page_field, PAGE))
        wanted: dict[str, Any] = {
            self._page_field: page,
            "num_blocks": -(-spec["kv_cache_tokens"] // page),
            "max_batch_tokens": max(512, spec["max_num_seqs"]),
            "max_requests_per_batch": spec["max_num_seqs"],
            "allow_block_sharing": False,  # prefix caching
            "seed": 0,
        } | settings
        batching = transformers.ContinuousBatchingConfig(**{k: v for k, v in wanted.items() if k in known})
        generation = transformers.GenerationConfig(do_sample=False, max_new_tokens=16, eos_token_id=-1)
        self.manager = self.model.init_continuous_batching(generation, batching)
        self.log.attach(self.manager)

    def stop(self) -> None:
        """Do nothing: the process ends right after."""

    # the work

    def generate(
        self,
        batch: int,
        input_len: int,
        output_len: int,
        seed: int = 0,
        ignore_eos: bool = True,
        start_at: float | None = None,
    ) -> dict[str, Any]:
        """One offline round: hand all prompts to the manager at once and wait for the results."""
        tools.refuse_longer_than(self.spec["max_model_len"], input_len, output_len)
        prompts = tools.draw_prompts(batch, input_len, self.vocabulary, seed)
        eos = -1 if ignore_eos else self.model.config.eos_token_id
        self.log.clear()
        if start_at is not None:
            time.sleep(max(0.0, start_at - time.monotonic()))
        usage = tools.Usage()
        start = time.monotonic()
        for number, ids in enumerate(prompts):
            self.manager.add_request(
                ids,
                request_id=f"{self.rounds}-{number}",
                max_new_tokens=output_len,
                record_timestamps=True,
                eos_token_id=eos,
            )
        outputs = [self._result() for _ in prompts]  # their tokens are in host memory, so that the device is idle
        end = time.monotonic()
        evidence = usage.delta() | {"steps": self.log.steps}
        requests, gaps, spent = [], [], 0.0
        for output in outputs:
            stamps = list(output.timestamps or ())
            first, last = (stamps[0], stamps[-1]) if stamps else (None, None)
            requests.append(rows.RequestTiming(start, first, last, input_len, len(output.generated_tokens)))
            gaps += [after - before for before, after in zip(stamps, stamps[1:])]  # noqa: B905, RUF007 (Python 3.10)
            begun, ended = output.lifespan
            spent += max(0.0, ended - begun) if begun > 0 else 0.0
        made = sum(request.n_out for request in requests)
        self.rounds += 1
        self.total_tokens += made
        preemptions = (self.log.preemptions or 0) if self.log.counts_preemptions else None
        self.total_preemptions += preemptions or 0
        return {
            "t_start": start,
            "t_end": end,
            "n_in": batch * input_len,
            "n_out": made,
            "completed": len(requests),
            "requests": requests,
            "itl_s": gaps,
            "preemptions": preemptions,
            "kv_cache_peak": None if self.log.kv_peak is None else 100.0 * self.log.kv_peak,
            "mean_running": spent / (end - start) if spent else None,
            "evidence": evidence,
        }

    def play(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Play an open or closed loop (``engines/worker/player.py``)."""
        report = serving.play(self, plan)
        self.rounds += 1
        self.total_tokens += sum(record.n_out for record in report.records)
        self.total_preemptions += report.engine.preemptions or 0
        return report.to_wire()

    def _result(self) -> Any:
        """The next finished request."""
        while True:
            output = self.manager.get_result(timeout=1.0)
            if output is None:
                if not self.manager.is_running():
                    raise tools.WorkerFault("error", "transformers' generation loop ended; its error stands in the log")
                continue
            if output.error:
                raise explain(RuntimeError(output.error), self.spec)
            if output.is_finished() and output.request_id.startswith(f"{self.rounds}-"):
                return output  # outputs of other ids belong to requests that an earlier load gave up

    def reset_caches(self) -> dict[str, Any]:
        """Forget the blocks of finished requests, if a setting has switched prefix sharing on."""
        cache = getattr(self.manager.batch_processor, "cache", None)
        if cache is not None and hasattr(cache, "evict_cached_blocks"):
            cache.evict_cached_blocks()
        return {}

    def counters(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "output_tokens": self.total_tokens, "preemptions": self.total_preemptions}


def page_field(known: set[str]) -> str:
    """This version's name for the tokens of a page: block_size until 5.17 at least, which ignores page_size, so that the
    KV budget would be eight times the requested one."""
    return "page_size" if "page_size" in known else "block_size"


def import_transformers() -> tuple[Any, Any]:
    """torch and transformers; WorkerFault with cause and fix if the import fails."""
    try:
        import torch
        import transformers
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise tools.WorkerFault(
            "missing",
            f"importing torch and transformers failed in {sys.executable} ({text})",
            "pip install 'pytest-slmperf[transformers]'; where torchvision is to blame: pip uninstall torchvision",
        ) from error
    if not hasattr(transformers, "ContinuousBatchingConfig"):
        raise tools.WorkerFault(
            "missing",
            f"transformers {transformers.__version__} in {sys.executable} has no ContinuousBatchingConfig",
            "pip install --upgrade transformers",
        )
    return torch, transformers


def explain(error: Exception, spec: dict[str, Any]) -> Exception:
    """The error with cause and fix for the user."""
    if isinstance(error, tools.WorkerFault):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    low = text.lower()
    if isinstance(error, MemoryError) or any(sign in low for sign in OUT_OF_MEMORY):
        return tools.WorkerFault("memory", f"out of memory: {text[:400]}", MEMORY_MEND)
    if any(
        sign in low
        for sign in ("gated repo", "is not a local folder", "couldn't connect", "offline mode", "404 client")
    ):
        return tools.WorkerFault(
            "input",
            f"model {spec['model']!r} could not be had from the hub: {text[:400]}",
            "Check the name and the network, name a local folder, or use an architecture preset.",
        )
    return tools.WorkerFault("error", f"transformers failed ({type(error).__name__}: {text[:800]})")


def create(spec: dict[str, Any], report: tools.Report) -> TransformersEngine:
    return TransformersEngine(spec, report)
