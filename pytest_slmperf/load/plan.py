"""The plan of one load: its target, its requests, and their pacing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.rows import PlannedRequest
from pytest_slmperf.load.settings import ABOVE_ZERO, COUNT, Pacing, first_wrong, setting, values_of

USUAL_KEY_ENV = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible endpoint. ``url``: the base, with or without ``/v1``; ``api``: completions or chat.

    ``key_env``: name of the environment variable with the key. The client processes read the key itself, which is in no
    plan, record or message.
    """

    url: str
    api: Literal["completions", "chat"] = "completions"
    key_env: str | None = USUAL_KEY_ENV
    ca_file: str | None = None
    insecure: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if "@" in self.url or "?" in self.url or "#" in self.url:  # the message does not show the URL
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
        """The key, which must never be shown. InvalidInput if it cannot be a key, or if its variable is not set."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key and self.key_env != USUAL_KEY_ENV:  # without the name in the message, which may be the key itself
            raise InvalidInput("the environment variable named by key_env is not set; put the key into it")
        if not all("!" <= c <= "~" for c in key):
            raise InvalidInput(f"the key in {self.key_env} holds characters that no key has (a line end, a quote?)")
        return key or None

    def check(self) -> None:
        """InvalidInput for a key or a file of certificates that cannot be used, before anything is started."""
        self.key()
        if self.ca_file is None:
            return
        import ssl

        mend = "give the certificates (PEM) of the authority that signed the server's"
        if not os.path.isfile(self.ca_file):
            raise InvalidInput(f"the certificate file {self.ca_file} does not exist, or is no file; {mend}")
        try:
            ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            why = "holds no certificate" if isinstance(error, ssl.SSLError) else f"cannot be read ({error.strerror})"
            raise InvalidInput(f"the certificate file {self.ca_file} {why}; {mend}") from None

    def key_mend(self) -> str:
        """The fix for an answer of 401 or 403."""
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

    @property
    def netloc(self) -> str:
        """Host and port of the URL, for the Host header."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, kw_only=True)
class LoadPlan(Pacing):
    """One load: its requests, their pacing, and the way in which clients send them. All times in seconds.

    clients:       number of processes that share an HTTP load; None: the default of its transport
    connections:   largest number of open connections
    preconnect:    number of connections opened before the start
    cpus:          cores of the clients
    kernel_stamps: time bytes by their arrival in the kernel instead of by the read (not under TLS)
    """

    requests: Sequence[PlannedRequest] = field(kw_only=False)
    connect_timeout_s: float = setting(10.0, ABOVE_ZERO)
    clients: int | None = setting(None, COUNT)
    connections: int | None = setting(None, COUNT)
    preconnect: int | None = None
    cpus: Sequence[int] | None = None
    kernel_stamps: bool = True

    def __post_init__(self) -> None:
        if self.loop not in ("open", "closed"):
            raise InvalidInput(f"a load is 'open' or 'closed' loop, not {self.loop!r}")
        if not self.requests:
            raise InvalidInput("the schedule holds no request; raise the rate or the duration")
        if wrong := first_wrong(self):
            raise InvalidInput(wrong)
        if self.loop == "closed" and self.concurrency is None:
            raise InvalidInput("a closed loop needs a concurrency of at least 1")
        if self.loop == "closed" and self.cycle and self.window_s is None:
            raise InvalidInput("a closed loop that repeats its requests needs a window, or it would not end")
        if self.loop == "open" and any(r.due is None and r.after is None for r in self.requests):
            raise InvalidInput("every request of an open loop needs the time it is due")

    def slices(self) -> list[LoadPlan]:
        """The plan of each client process: requests in turn, with all turns of a conversation in the same client.

        A client depends only on its slice, so that slices could also run on several machines.
        """
        clients = self.clients or 1
        first_turns = sum(request.after is None for request in self.requests)
        count = min(clients, self.concurrency or clients, first_turns)
        preconnect = self.preconnect
        if preconnect is None:
            preconnect = self.concurrency if self.concurrency is not None else min(64, len(self.requests))
        return [
            replace(
                self,
                requests=requests,
                clients=1,
                concurrency=None if self.concurrency is None else _share(self.concurrency, number, count),
                connections=None if self.connections is None else max(1, self.connections // count),
                preconnect=-(-preconnect // count),
            )
            for number, requests in enumerate(_deal_out(self.requests, count))
        ]

    def to_wire(self) -> dict[str, Any]:
        """All settings except the requests, as plain data for a client process; ``from_wire`` is the inverse."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "requests"}

    @staticmethod
    def from_wire(settings: Mapping[str, Any], requests: Sequence[PlannedRequest]) -> LoadPlan:
        return LoadPlan(requests, **settings)

    def for_worker(self) -> dict[str, Any]:
        """The plan for ``player.Player``: the pacing, and the requests as rows."""
        return {
            "pacing": values_of(Pacing, self),
            "requests": list(self.requests),
        }


def _share(whole: int, number: int, count: int) -> int:
    return whole // count + (number < whole % count)


def _deal_out(requests: Sequence[PlannedRequest], count: int) -> list[list[PlannedRequest]]:
    parts: list[list[PlannedRequest]] = [[] for _ in range(count)]
    home: dict[int, int] = {}
    turn = 0
    for request in requests:
        if request.after is None:
            home[request.number] = turn % count
            turn += 1
        else:
            home[request.number] = home[request.after]
        parts[home[request.number]].append(request)
    return parts


def ignore_eos_mend(refusals: Iterable[str]) -> str:
    """What to do about an endpoint that refuses ``ignore_eos``, as the texts of its refusals say; else empty."""
    if not any("ignore_eos" in text for text in refusals):
        return ""
    return "; leave it out with --slmperf-set ignore_eos=false (answers may then end early, which is counted)"
