"""What to send, how, and for how long: the description of one load, made before anything is sent."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from pytest_slmperf.errors import InvalidInput

USUAL_KEY_ENV = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible endpoint. ``url`` is the base, with or without ``/v1``; ``api``: completions or chat.

    ``key_env`` names the environment variable that holds the key; the key itself is read by the client processes and
    stands in no plan, no record and no message.
    """

    url: str
    api: Literal["completions", "chat"] = "completions"
    key_env: str | None = USUAL_KEY_ENV
    ca_file: str | None = None
    insecure: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if "@" in self.url or "?" in self.url or "#" in self.url:  # nor is it shown
            raise InvalidInput(
                "the endpoint's URL must hold no user, key or query; put the key into the environment (OPENAI_API_KEY)"
            )
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or any(c.isspace() for c in self.url):
            raise InvalidInput(f"endpoint {self.url!r} is not a URL such as http://localhost:8000/v1")
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_env):
            raise InvalidInput("key_env must be the name of an environment variable that holds the key, not the key")
        if self.api not in ("completions", "chat"):
            raise InvalidInput(f"the API is 'completions' or 'chat', not {self.api!r}")

    def key(self) -> str | None:
        """The key, to be shown nowhere. InvalidInput where it cannot be one, or the variable asked for is not set."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key and self.key_env != USUAL_KEY_ENV:  # the name is not shown: it may be the key itself
            raise InvalidInput("the environment variable named by key_env is not set; put the key into it")
        if not all("!" <= c <= "~" for c in key):
            raise InvalidInput(f"the key in {self.key_env} holds characters that no key has (a line end, a quote?)")
        return key or None

    def key_mend(self) -> str:
        """What to do about an answer of 401 or 403."""
        if self.key_env is None:
            return "no key was sent: name the environment variable that holds it with --slmperf-set key_env=NAME"
        if self.key() is None:
            return f"no key was sent: put it into the environment variable {self.key_env}"
        return f"is the key in the environment variable {self.key_env} right?"

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)

    def path(self, name: str) -> str:
        """The path of an API, for instance ``models``."""
        base = urlsplit(self.url).path.rstrip("/")
        return f"{base if base.endswith('/v1') else base + '/v1'}/{name}"

    def plan(self) -> dict[str, Any]:
        """What a client process is told of it."""
        return {
            "host": self.host,
            "port": self.port,
            "host_header": urlsplit(self.url).netloc,
            "path": self.path("chat/completions" if self.api == "chat" else "completions"),
            "tls": self.tls,
            "ca_file": self.ca_file,
            "insecure": self.insecure,
            "headers": dict(self.headers),
            "key_env": self.key_env,
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of a schedule.

    ``due``: seconds after the start, None in closed loop and for a later turn.  ``after``: index of the request that must
    be answered first, ``pause`` seconds before.  ``body``: the JSON sent.  ``n_in``, ``n_out``: tokens meant.
    """

    index: int
    body: str
    due: float | None = None
    after: int | None = None
    pause: float = 0.0
    n_in: int | None = None
    n_out: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How a schedule is played. All times in seconds.

    ``window_s`` None: everything is measured, from the first request due to the last token.  Otherwise requests that
    are due from ``warmup_s`` on for ``window_s`` are measured; those before warm the engine up.
    ``kernel_stamps``: bytes have the time at which the kernel had them, rather than that of the read (not under TLS).
    """

    requests: Sequence[Planned]
    loop: Literal["open", "closed"] = "open"
    concurrency: int | None = None
    ramp_s: float = 0.0
    cycle: bool = False
    warmup_s: float = 0.0
    window_s: float | None = None
    drain_s: float = 30.0
    limit_s: float = 600.0
    request_timeout_s: float = 300.0
    stall_timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    clients: int = 1
    connections: int | None = None
    preconnect: int | None = None
    cpus: tuple[int, ...] | None = None
    kernel_stamps: bool = True
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.loop not in ("open", "closed"):
            raise InvalidInput(f"a load is 'open' or 'closed' loop, not {self.loop!r}")
        if not self.requests:
            raise InvalidInput("the schedule holds no request; raise the rate or the duration")
        if self.loop == "closed" and (self.concurrency is None or self.concurrency < 1):
            raise InvalidInput(f"a closed loop needs a concurrency of at least 1, not {self.concurrency!r}")
        if self.loop == "closed" and self.cycle and self.window_s is None:
            raise InvalidInput("a closed loop that repeats its requests needs a window, or it would not end")
        if self.loop == "open" and any(r.due is None and r.after is None for r in self.requests):
            raise InvalidInput("every request of an open loop needs the time it is due")
        for name in ("drain_s", "limit_s", "request_timeout_s", "stall_timeout_s", "connect_timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} must be above 0 seconds, not {getattr(self, name)!r}")
        if self.window_s is not None and not self.window_s > 0:
            raise InvalidInput(f"window_s must be above 0 seconds, not {self.window_s!r}")
        if self.warmup_s < 0 or self.ramp_s < 0:
            raise InvalidInput("warmup_s and ramp_s must be 0 seconds or more")
        if self.clients < 1:
            raise InvalidInput(f"a load needs at least one client process, not {self.clients!r}")


def slices(load: Load) -> list[dict[str, Any]]:
    """The plan of each client process: requests dealt out in turn, a conversation staying with one client.

    This is the seam beyond one machine: a client is a function of its slice, wherever it runs.
    """
    count = min(load.clients, load.concurrency or load.clients, len(load.requests))
    parts: list[list[list[Any]]] = [[] for _ in range(count)]
    home: dict[int, int] = {}
    turn = 0
    for request in load.requests:
        if request.after is None:
            place = turn % count
            turn += 1
        else:
            place = home[request.after]
        home[request.index] = place
        parts[place].append([request.index, request.due, request.body, request.after, request.pause])
    plans = []
    for number, part in enumerate(parts):
        share = None
        if load.concurrency is not None:
            share = load.concurrency // count + (number < load.concurrency % count)
        preconnect = load.preconnect
        if preconnect is None:
            preconnect = load.concurrency if load.concurrency is not None else min(64, len(load.requests))
        plans.append(
            {
                "loop": load.loop,
                "requests": part,
                "concurrency": share,
                "ramp_s": load.ramp_s,
                "cycle": load.cycle,
                "warmup_s": load.warmup_s,
                "window_s": load.window_s,
                "stop_s": None if load.window_s is None else load.warmup_s + load.window_s,
                "drain_s": load.drain_s,
                "limit_s": load.limit_s,
                "request_timeout_s": load.request_timeout_s,
                "stall_timeout_s": load.stall_timeout_s,
                "connect_timeout_s": load.connect_timeout_s,
                "connections": None if load.connections is None else max(1, load.connections // count),
                "preconnect": -(-preconnect // count),
                "kernel_stamps": load.kernel_stamps,
                "cpus": None if load.cpus is None else list(load.cpus),
            }
        )
    return plans
