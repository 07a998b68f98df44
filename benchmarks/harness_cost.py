"""What measuring costs: output throughput through slmperf's engine ÷ the same work in a bare ``LLM.generate`` loop.

    python benchmarks/harness_cost.py [--pairs 12] [--vllm-bench]

Both sides run in a process of their own with the same engine arguments and the same core.  They are resident side by side
and take turns (ABBA), so that drift of the machine falls on both alike.  Besides throughput by the clock, the processor time
of the measuring thread is compared, which a busy machine cannot disturb.  The bare side has vLLM's own defaults for
statistics (none), ours has them on: that is what it has to pay for.  ``--vllm-bench`` also runs ``vllm bench latency`` on
the same work, alone.  Prints medians, the ratio and its 95 % interval over pairs (Student's t on log ratios).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scipy.stats import t as student
from tabulate import tabulate

from pytest_slmperf.engines.base import Batch
from pytest_slmperf.engines.pool import EnginePool
from pytest_slmperf.engines.presets import presets
from pytest_slmperf.engines.process import EngineProcess
from pytest_slmperf.engines.registry import Registry, builtin_adapters
from pytest_slmperf.engines.spec import EngineSpec
from pytest_slmperf.engines.vllm import VllmAdapter

BARE = """
import json, os, random, sys, time
arguments, cpus = json.loads(sys.argv[1])
os.sched_setaffinity(0, cpus)
from vllm import LLM, SamplingParams
llm = LLM(**arguments)
out = os.fdopen(int(sys.argv[2]), "w")
vocabulary = llm.llm_engine.vllm_config.model_config.get_vocab_size()
for line in sys.stdin:
    batch, input_len, output_len, seed = json.loads(line)
    rng = random.Random(seed)
    prompts = [{"prompt_token_ids": [rng.randrange(256, vocabulary - 256) for _ in range(input_len)]} for _ in range(batch)]
    sampling = SamplingParams(max_tokens=output_len, ignore_eos=True, detokenize=False, temperature=0.0)
    start, used = time.monotonic(), time.thread_time()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.synchronize()
    seconds, used = time.monotonic() - start, time.thread_time() - used
    made = sum(len(one.outputs[0].token_ids) for one in outputs)
    print(made / seconds, made / used, file=out, flush=True)
"""
WORK = [  # model, layers kept (None: all), batch, input, output
    ("opt-125m", None, 16, 32, 32),
    ("opt-125m", 2, 64, 32, 32),  # steps as short as a GPU's: what is paid per step and request shows most
]


Rates = tuple[float, float]


class Bare:
    """The bare loop in a process of its own."""

    def __init__(self, engine: EngineProcess, adapter: VllmAdapter) -> None:
        arguments = dict(engine.facts["arguments"])
        del arguments["disable_log_stats"]
        reader, writer = os.pipe()
        command = [sys.executable, "-c", BARE, json.dumps([arguments, engine.facts["cpus"]]), str(writer)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writer,),
            env=os.environ | adapter.environment(engine.spec),
            text=True,
        )
        os.close(writer)
        self._out = os.fdopen(reader)

    def round(self, work: Batch) -> Rates:
        """Output tokens per second by the clock, and per second of the thread's processor time."""
        assert self._process.stdin is not None
        print(
            json.dumps([work.batch, work.input_len, work.output_len, work.seed]), file=self._process.stdin, flush=True
        )
        line = self._out.readline()
        if not line:
            sys.exit("the bare loop ended; does vLLM run here?")
        by_clock, by_cpu = line.split()
        return float(by_clock), float(by_cpu)

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._out.close()


def measure(spec: EngineSpec, work: Batch, pairs: int) -> tuple[list[Rates], list[Rates]]:
    """Rates of ours and of the bare loop, round by round."""
    adapter = VllmAdapter()
    with (
        tempfile.TemporaryDirectory() as logs,
        EnginePool(
            Registry(builtin_adapters()), Path(logs), lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr)
        ) as pool,
        pool.measuring(spec),
    ):
        engine = pool.acquire(spec)
        assert isinstance(engine, EngineProcess)
        bare = Bare(engine, adapter)
        print(file=sys.stderr)

        def ours(number: int) -> Rates:
            reading = engine.generate(Batch(work.batch, work.input_len, work.output_len, seed=number))
            return reading.n_out / (reading.t_end - reading.t_start), reading.n_out / reading.evidence["thread_cpu_s"]

        def theirs(number: int) -> Rates:
            return bare.round(Batch(work.batch, work.input_len, work.output_len, seed=number))

        for number in range(3):  # warm-up
            ours(number), theirs(number)
        a: list[Rates] = []
        b: list[Rates] = []
        for number in range(pairs):
            order = [(a, ours), (b, theirs)] if number % 2 == 0 else [(b, theirs), (a, ours)]
            for kept, side in order:
                kept.append(side(number))
        bare.stop()
        return a, b


def interval(a: list[Rates], b: list[Rates], kind: int) -> tuple[float, float, float]:
    """Ratio a ÷ b with its 95 % interval, from pairs; by the clock (kind 0) or by processor time (1)."""
    logs = [math.log(x[kind] / y[kind]) for x, y in zip(a, b, strict=True)]
    mean = statistics.mean(logs)
    half = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def vllm_bench(spec: EngineSpec, work: Batch, arguments: dict[str, object], env: dict[str, str]) -> float | None:
    """Output tokens per second by ``vllm bench latency`` (mean latency of a batch), None where it cannot run."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in arguments.items()]
    code = (
        "import os, json, sys, argparse; os.sched_setaffinity(0, json.loads(sys.argv.pop(1)))\n"
        "from vllm.benchmarks import latency\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "parser = FlexibleArgumentParser(); latency.add_cli_args(parser); latency.main(parser.parse_args())"
    )
    command = [sys.executable, "-c", code, json.dumps(list(spec.cpus or ())), *flags, "--skip-tokenizer-init",
               "--enforce-eager", "--no-enable-prefix-caching", f"--batch-size={work.batch}",
               f"--input-len={work.input_len}", f"--output-len={work.output_len}", "--num-iters-warmup=3",
               "--num-iters=8"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | env)
    found = re.search(r"Avg latency: ([0-9.]+) seconds", done.stdout)
    if found is None:
        print("vllm bench latency did not run:", *done.stderr.splitlines()[-3:], sep="\n  ", file=sys.stderr)
        return None
    return work.batch * work.output_len / float(found.group(1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="rounds of each side")
    parser.add_argument("--work", type=int, choices=range(len(WORK)), help="only this one of the works")
    parser.add_argument("--vllm-bench", action="store_true", help="also run vllm bench latency on the same work")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, layers, batch, input_len, output_len in WORK if options.work is None else [WORK[options.work]]:
            model = name
            if layers is not None:
                path = Path(folder) / f"{name}-{layers}"
                path.mkdir()
                (path / "config.json").write_text(json.dumps(presets()[name].config | {"num_hidden_layers": layers}))
                model = str(path)
            work = Batch(batch, input_len, output_len)
            spec = EngineSpec(
                "vllm", model, weights="dummy", max_model_len=128, max_num_seqs=batch, kv_cache_tokens=8192
            )
            adapter = VllmAdapter()
            resolved = adapter.resolve(spec)
            ours, bare = measure(resolved, work, options.pairs)
            other = None
            if options.vllm_bench:
                arguments = {"model": adapter.parameters(resolved)["path"], "dtype": resolved.dtype, "load_format": "dummy",
                             "max_model_len": 128, "max_num_seqs": batch, "kv_cache_memory_bytes": 2**30}  # fmt: skip
                other = vllm_bench(resolved, work, arguments, adapter.environment(resolved))
            title = f"{name}, {'all' if layers is None else layers} layers, {batch} × {input_len}/{output_len}"
            median = statistics.median
            rows.append(
                [title, median(rate for rate, _ in ours), median(rate for rate, _ in bare), other]
                + [
                    f"{ratio:.3f} ({low:.3f} … {high:.3f})"
                    for ratio, low, high in (interval(ours, bare, 0), interval(ours, bare, 1))
                ]
            )
    head = ["work", "ours tok/s", "bare tok/s", "vllm bench tok/s", "ours ÷ bare", "by processor time"]
    print(tabulate(rows, head, tablefmt="github", floatfmt=".1f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
