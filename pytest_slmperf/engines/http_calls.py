"""HTTP calls of an engine's endpoint: its address and key, the body of a request, its counters."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_slmperf.load.http.plain import fetch
from pytest_slmperf.load.plan import Target
from pytest_slmperf.load.prompts.prompt_text import Writer, load_tokenizer, plain_text
from pytest_slmperf.load.prompts.segments import join
from pytest_slmperf.load.requests import Item, Parts
from pytest_slmperf.metrics.plausible import absurd

# An endpoint of OpenAI's HTTP API.

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? ([-+0-9.eE]+|NaN|[+-]Inf)$", re.MULTILINE)


@dataclass(slots=True)
class Http:
    """One endpoint, and the form of its requests.

    vocabulary:  number of token ids from which prompts are drawn
    token_ids:   send ids rather than text (completions only)
    tokenizer:   folder or hub id of the model's tokenizer, for text of an exact number of tokens
    continuous_usage:  request the token count with every event (vLLM), which reveals events of several tokens
    clients:     number of client processes that send the load
    """

    target: Target
    model: str
    vocabulary: int = 30_000
    token_ids: bool = True
    tokenizer: str | None = None
    continuous_usage: bool = False
    ignore_eos: bool = True
    clients: int = 1
    _loaded: Writer | None = field(default=None, repr=False)

    def body(self, item: Item, seed: int, ignore_eos: bool = True) -> str:
        """The JSON of one request."""
        request: dict[str, Any] = {
            "model": self.model,
            "max_tokens": item.n_out,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.continuous_usage:
            request["stream_options"]["continuous_usage_stats"] = True
        if ignore_eos and self.ignore_eos:
            request["ignore_eos"] = True
        if self.target.api == "chat":
            request["messages"] = self._messages(item, seed)
        elif item.messages is None and item.text is None and self.token_ids:
            request["prompt"] = list(item.ids) if item.ids else join(item.parts or (), self.vocabulary, seed)
        else:
            request["prompt"] = self._text(item, seed)
        return json.dumps(request, separators=(",", ":"))

    def _messages(self, item: Item, seed: int) -> list[dict[str, Any]]:
        if item.messages is not None:
            return list(item.messages)
        if item.text is None and self.tokenizer is not None:
            return [*self._writer().messages(_parts(item), seed)]
        return [{"role": "user", "content": self._text(item, seed)}]

    def _text(self, item: Item, seed: int) -> str:
        if item.text is not None:
            return item.text
        if item.messages is not None:
            return "\n".join(str(message.get("content", "")) for message in item.messages)
        if self.tokenizer is not None:
            return self._writer().text(_parts(item), seed)
        # Each segment's text follows from its name, so that a shared prefix has the same text.
        return " ".join(plain_text(length, f"{seed}/{name}") for name, length in _parts(item))

    def _writer(self) -> Writer:
        if self._loaded is None:
            assert self.tokenizer is not None
            self._loaded = Writer(load_tokenizer(self.tokenizer))
        return self._loaded

    def get(self, path: str, timeout_s: float = 10.0, data: bytes | None = None) -> bytes:
        """One plain request that takes at most ``timeout_s``. NoAnswer, without the key in its message, if it fails.

        It ignores the environment's proxy, like the load: both must reach the same server.
        """
        target = self.target
        headers = list(target.headers)
        if data is not None:
            headers.append(("Content-Type", "application/json"))
        if key := target.key():
            headers.append(("Authorization", f"Bearer {key}"))
        # what begins with a slash is the server's own, and stands beside the API
        where = target.path("").removesuffix("/v1/") + path if path.startswith("/") else target.path(path)
        return fetch(target, where, headers, timeout_s, data)

    def counters(self) -> dict[str, float]:
        """The server's counters under ``/metrics``, summed over labels; empty if it publishes none."""
        try:
            text = self.get("/metrics", 5.0).decode("utf-8", "replace")
        except OSError:
            return {}
        summed: dict[str, float] = {}
        for name, value in SAMPLE.findall(text):
            try:
                summed[name] = summed.get(name, 0.0) + float(value)
            except ValueError:  # a sample that is no number is none
                continue
        return summed


def _parts(item: Item) -> Parts:
    return item.parts or (("own", item.n_in or 1),)


# Statistics that an OpenAI-compatible server publishes about itself under load.

PREEMPTIONS = ("vllm:num_preemptions_total", "vllm:num_preemptions")
KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
RUNNING = ("vllm:num_requests_running",)
LEAST_READINGS = 10


def pick(counters: dict[str, float], names: tuple[str, ...]) -> float | None:
    """The first counter of these names that the server has; a value that no counter can have is no reading."""
    return next(
        (counters[name] for name in names if name in counters and absurd(counters[name], "count") is None), None
    )


class CounterWatch:
    """Reads the server's own statistics before, twice a second during, and after a load."""

    def __init__(self, read: Callable[[], dict[str, float]], every_s: float = 0.5) -> None:
        self._read = read
        self._every = every_s
        self._done = threading.Event()
        self.kv_peak: float | None = None
        self.running: list[float] = []
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def __enter__(self) -> CounterWatch:
        self.before = self._read()
        self._thread = threading.Thread(target=self._watch, name="slmperf-counters", daemon=True)
        if self.before:
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            now = self._read()
            usage = pick(now, KV_USAGE)
            if usage is not None and usage <= 1.0:
                self.kv_peak = max(self.kv_peak or 0.0, 100.0 * usage)
            running = pick(now, RUNNING)
            if running is not None:
                self.running.append(running)

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        if self.before and exc[0] is None:  # an interrupt waits for no server
            self._thread.join(10)
            self.after = self._read()

    @property
    def mean_running(self) -> float | None:
        """Average number of running requests; None if too few readings fell into the load."""
        return sum(self.running) / len(self.running) if len(self.running) >= LEAST_READINGS else None

    @property
    def preemptions(self) -> int | None:
        """Preemptions between the first and the last reading; None if the server does not count them."""
        before, after = pick(self.before, PREEMPTIONS), pick(self.after, PREEMPTIONS)
        # a counter that fell is another server's, or none
        return None if before is None or after is None or after < before else round(after - before)
