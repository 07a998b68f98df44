"""The ``openai`` engine: any server that speaks OpenAI's HTTP API (vLLM, SGLang, llama.cpp, TGI, Ollama, …)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_slmperf import text_out
from pytest_slmperf.engines.base import (
    START_TIMEOUT_S,
    EngineAdapter,
    EngineFacts,
    EngineState,
    EngineTraits,
    Progress,
    check_settings,
)
from pytest_slmperf.engines.http_calls import Http
from pytest_slmperf.engines.http_engine import HttpEngine
from pytest_slmperf.errors import EngineError, InvalidInput
from pytest_slmperf.load.http.limits import loads
from pytest_slmperf.load.http.plain import Refused
from pytest_slmperf.load.plan import Target
from pytest_slmperf.model.engine_spec import EngineSpec, Scalar
from pytest_slmperf.util.checks import is_whole

CONTROL_S = 10.0  # of one plain request, the whole call
MOST_NAMES = 10
DEFAULTS: dict[str, Scalar] = {
    "endpoint": "",
    "system": "",
    "api": "completions",
    "key_env": "OPENAI_API_KEY",
    "ca_file": "",
    "insecure": False,
    "vocabulary": 30_000,
    "token_ids": True,
    "tokenizer": "",
    "continuous_usage": False,
    "ignore_eos": True,
    "clients": 1,
}


def http_of(spec: EngineSpec, url: str | None = None, model: str | None = None) -> Http:
    """The endpoint of the specification. InvalidInput for a wrong setting."""
    given: dict[str, Any] = DEFAULTS | check_settings("openai", dict(spec.settings), DEFAULTS)
    endpoint = url or given["endpoint"]
    if not endpoint:
        raise InvalidInput(
            "engine openai: no endpoint; give --slmperf-endpoint http://HOST:PORT/v1 (or the engine setting 'endpoint')"
        )
    target = Target(
        endpoint,
        api=given["api"],
        key_env=given["key_env"] or None,
        ca_file=given["ca_file"] or None,
        insecure=given["insecure"],
    )
    return Http(
        target,
        model or spec.model,
        vocabulary=int(given["vocabulary"]),
        token_ids=bool(given["token_ids"]),
        tokenizer=given["tokenizer"] or None,
        continuous_usage=bool(given["continuous_usage"]),
        ignore_eos=bool(given["ignore_eos"]),
        clients=int(given["clients"]),
    )


class OpenAIEngine(HttpEngine):
    """An endpoint that runs already: nothing is started and nothing is stopped."""

    state = EngineState.READY

    def __init__(self, spec: EngineSpec, endpoint: Http, facts: dict[str, Any]) -> None:
        self.spec = spec
        self.endpoint = endpoint
        self.facts = EngineFacts(facts)

    def stop(self) -> None:
        """Send no more requests; the endpoint keeps running."""
        self.state = EngineState.STOPPED


class OpenAIAdapter(EngineAdapter):
    """Adapter of endpoints that are already running."""

    name = "openai"
    traits = EngineTraits(remote=True)

    def resolve(self, spec: EngineSpec) -> EngineSpec:
        """Checks the settings. The device is "remote", since the endpoint's hardware is unknown here.

        The setting ``system`` names it, which keeps baselines of endpoints on different systems apart.
        """
        http_of(spec).target.check()
        settings = check_settings(self.name, dict(spec.settings), DEFAULTS)
        system = str(settings.get("system") or "")
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,40}", system):
            raise InvalidInput(
                f"engine openai: system must be letters, digits, '.', '_', '-' (at most 40), not {system!r}"
            )
        return replace(
            spec,
            device=f"remote-{system}" if system else "remote",
            weights=spec.weights or "real",
            cpus=spec.cpus or (),
            settings=tuple(sorted(settings.items())),
        )

    def footprint_bytes(self, spec: EngineSpec) -> int:
        """None of this machine's memory."""
        return 0

    def with_prefix_caching(self, spec: EngineSpec) -> EngineSpec:
        """Unchanged: only the operator of the endpoint can switch its prefix cache."""
        return spec

    def launch(
        self, spec: EngineSpec, *, log_path: Path, progress: Progress, timeout_s: float = START_TIMEOUT_S
    ) -> OpenAIEngine:
        """Ask the endpoint for its models. EngineError if it does not answer, InvalidInput if it does not have the model."""
        http = http_of(spec)
        progress(f"asking {http.target.host} for its models")
        cards = models_of(http, min(CONTROL_S, timeout_s))
        names = [str(card.get("id")) for card in cards]
        if spec.model not in names:
            raise InvalidInput(
                f"engine openai: {http.target.url} serves {listed(names)}, not {spec.model!r}; "
                "name one of these with --slmperf-model"
            )
        return OpenAIEngine(spec, http, describe(http, spec, cards[names.index(spec.model)]))


def listed(names: list[str]) -> str:
    """Names of models in a message: the first few, each as short as a line takes."""
    return text_out.some(names, MOST_NAMES) or "no model"


def shown_text(value: object, most: int = 80) -> str:
    """A server's text about itself in a form for one line: short, and without control characters."""
    return text_out.shortened(text_out.printable(str(value)), most)


def models_of(http: Http, timeout_s: float = CONTROL_S) -> list[dict[str, Any]]:
    """The cards of ``/v1/models``. EngineError unless they come within ``timeout_s``."""
    where = http.target.url
    try:
        data = loads(http.get("models", timeout_s))
        return [card for card in data["data"] if isinstance(card, dict)]
    except Refused as error:
        mend = f"; {http.target.key_mend()}" if error.status in (401, 403) else ""
        if error.status == 404:
            mend = " for its models; give the URL that ends in /v1, without what follows it"
        elif 300 <= error.status < 400:
            mend = ", a redirect, which is not followed: the key goes to the server that was named; name the other one"
        raise EngineError(f"engine openai: {where} answers {error.status}{mend}") from None
    except OSError as error:
        mend = "is the server up?"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            mend = (
                "name the certificates of its authority with --slmperf-set ca_file=FILE, or trust it with insecure=true"
            )
        raise EngineError(f"engine openai: {where} cannot be reached ({error}); {mend}") from None
    except (ValueError, KeyError, TypeError):
        raise EngineError(f"engine openai: {where} does not list its models as OpenAI's API does") from None


def describe(http: Http, spec: EngineSpec, card: dict[str, Any]) -> dict[str, Any]:
    """The endpoint's facts: its version if it reports one, its device as the user named it."""
    version = "unknown"
    try:
        version = shown_text(loads(http.get("/version")).get("version", version))
    except (OSError, ValueError, AttributeError):
        pass
    longest = card.get("max_model_len")
    simulated = version == "slmperf-mock"  # figures of the mock server are never compared with those of an engine
    return {
        "version": version,
        "device": spec.device or "remote",
        "weights": "simulated" if simulated else spec.weights or "real",
        "dtype": spec.dtype,
        "owned_by": None if card.get("owned_by") is None else shown_text(card["owned_by"]),
        "max_model_len": longest if is_whole(longest) and longest > 0 else None,
        "api": http.target.api,
    }
