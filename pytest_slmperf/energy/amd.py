"""AMD GPUs through the driver's energy accumulator (package ``amdsmi``, extra ``amd``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_slmperf.energy.clock import REAL, Clock
from pytest_slmperf.energy.polled import Counter, PolledProbe
from pytest_slmperf.energy.rest import mean_power
from pytest_slmperf.energy.watch import CounterWatch

SOURCE = "amdsmi-counter"
UNIT_J = 15.3e-6  # step of the accumulator on current boards; each reading brings its own resolution
VISIBLE = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class Card:
    handle: Any
    index: int
    name: str
    uuid: str | None


def energy_j(lib: Any, handle: Any) -> float:
    """Accumulated energy in J: accumulator × resolution (µJ). The accumulator's key changed its name over versions."""
    found = lib.amdsmi_get_energy_count(handle)
    count = found["energy_accumulator"] if "energy_accumulator" in found else found["power"]
    return float(count) * float(found["counter_resolution"]) * 1e-6


class AmdMeter:
    """Energy of the visible AMD GPUs; ``lib`` is the module amdsmi."""

    name = "amd"

    def __init__(self, clock: Clock = REAL, *, lib: Any = None, gap_s: float = 0.01, threaded: bool = True) -> None:
        self.available = False
        self.reason: str | None = None
        self._clock = clock
        self._gap_s = gap_s
        self._threaded = threaded
        self._cards: list[Card] = []
        self._lib: Any = None
        try:
            self._lib = lib or _load()
            self._lib.amdsmi_init()
            handles = list(self._lib.amdsmi_get_processor_handles())
        except ImportError:
            self.reason = "the package amdsmi is not installed (pip install 'pytest-slmperf[amd]', or ROCm's own copy)"
            return
        except Exception as error:  # without ROCm the package fails on import, each version in its own way
            self.reason = f"AMD SMI does not start: {type(error).__name__}: {error}"
            return
        self._choose(handles)

    def _choose(self, handles: list[Any]) -> None:
        name, wish = next(((key, os.environ[key]) for key in VISIBLE if key in os.environ), ("", None))
        entries = [entry.strip() for entry in wish.split(",")] if wish is not None else None
        if entries is not None and not all(entry.isdigit() and int(entry) < len(handles) for entry in entries):
            self.reason = f"{name}={wish!r}: this meter reads GPU indices from 0 to {len(handles) - 1}"
            return
        chosen = range(len(handles)) if entries is None else [int(entry) for entry in entries]
        self._cards = [self._card(handles[index], index) for index in chosen]
        if not self._cards:
            self.reason = "AMD SMI works but shows no GPU"
            return
        for card in self._cards:
            try:
                energy_j(self._lib, card.handle)
            except Exception as error:
                self.reason = f"{card.name}: no energy counter: {error}"
                return
        self.available = True

    def _card(self, handle: Any, index: int) -> Card:
        def ask(name: str) -> Any:
            try:
                return getattr(self._lib, name)(handle)
            except Exception:
                return None  # a fact that is nice to have

        name = (ask("amdsmi_get_gpu_asic_info") or {}).get("market_name") or f"AMD GPU {index}"
        return Card(handle, index, str(name), ask("amdsmi_get_gpu_device_uuid"))

    def _names(self) -> list[str]:
        names = [card.name for card in self._cards]
        return [n if names.count(n) == 1 else f"{n} [{c.index}]" for n, c in zip(names, self._cards, strict=True)]

    def devices(self) -> Sequence[dict[str, Any]]:
        return [
            {"name": name, "uuid": card.uuid, "index": card.index, "source": SOURCE, "scope": "gpu"}
            for name, card in zip(self._names(), self._cards, strict=True)
        ]

    def watch(self) -> CounterWatch:
        probes = [
            PolledProbe(
                Counter(name, card.uuid, SOURCE, "gpu", UNIT_J, partial(energy_j, self._lib, card.handle)),
                self._clock,
                self._gap_s,
            )
            for name, card in zip(self._names(), self._cards, strict=True)
        ]
        return CounterWatch(probes, self._clock, threaded=self._threaded)

    def idle_power_w(self, seconds: float) -> float | None:
        return mean_power(self, seconds, self._clock)

    def close(self) -> None:
        if self._cards and self._lib is not None:
            self._cards = []
            self._lib.amdsmi_shut_down()
        self.available, self.reason = False, self.reason or "the meter is closed"


def _load() -> Any:
    import amdsmi

    return amdsmi
