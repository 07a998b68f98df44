"""The engines known in this session, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytest_slmperf.engines.base import EngineAdapter
from pytest_slmperf.engines.former_shape import adapted
from pytest_slmperf.errors import InvalidInput


def builtin_adapters() -> list[EngineAdapter]:
    """The engines this package ships."""
    from pytest_slmperf.engines.openai.adapter import OpenAIAdapter
    from pytest_slmperf.engines.simulated.adapter import SimulatedAdapter
    from pytest_slmperf.engines.transformers.adapter import TransformersAdapter
    from pytest_slmperf.engines.vllm.adapter import VllmAdapter, VllmAsyncAdapter
    from pytest_slmperf.engines.vllm_server.adapter import VllmServerAdapter

    return [
        VllmAdapter(),
        VllmAsyncAdapter(),
        VllmServerAdapter(),
        TransformersAdapter(),
        OpenAIAdapter(),
        SimulatedAdapter(),
    ]


class Registry:
    """Engine adapters by name; a later adapter replaces an earlier one of the same name."""

    def __init__(self, adapters: Iterable[Any]) -> None:
        """``adapters``: the results of the hook; adapters without the base class (version 0.1) are wrapped."""
        self._adapters = {adapter.name: adapted(adapter) for adapter in adapters}

    def __iter__(self) -> Iterator[EngineAdapter]:
        return iter(self._adapters.values())

    def names(self) -> list[str]:
        return sorted(self._adapters)

    def get(self, name: str) -> EngineAdapter:
        """The adapter of that name; InvalidInput, with the known names, if there is none."""
        try:
            return self._adapters[name]
        except KeyError:
            raise InvalidInput(
                f"unknown engine {name!r}; known here: {', '.join(self.names()) or 'none'}. "
                "Another one is added by a plugin that implements the hook pytest_slmperf_engines"
            ) from None
