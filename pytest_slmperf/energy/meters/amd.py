"""AMD GPUs through the driver's energy accumulator (package ``amdsmi``, extra ``amd``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pytest_slmperf.devices import amd
from pytest_slmperf.devices.selection import is_index
from pytest_slmperf.energy.counter.tick_schedule import REAL, Clock
from pytest_slmperf.energy.meters.polled_counter import Counter, PolledMeter

SOURCE = "amdsmi-counter"


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU. ``index``: position in ROCm's order; ``ids``: names a UUID entry may use; ``unit_j``: step of its
    accumulator, J.
    """

    handle: Any
    index: int
    name: str
    uuid: str | None
    ids: tuple[str, ...] = ()
    unit_j: float = 0.0


def energy_j(lib: Any, handle: Any) -> float:
    """Accumulated energy in J: accumulator × resolution. The key of the accumulator differs between versions of amdsmi."""
    counted = lib.amdsmi_get_energy_count(handle)
    count = counted["energy_accumulator"] if "energy_accumulator" in counted else counted["power"]
    return float(count) * _step_j(counted)


def _step_j(counted: Mapping[str, Any]) -> float:
    """J of one count of the accumulator; ValueError where it is not reported, since every reading would then be 0."""
    step_uj = counted.get("counter_resolution")
    if not isinstance(step_uj, (int, float)) or not step_uj > 0:
        raise ValueError(f"AMD SMI tells {step_uj!r} µJ as the step of its accumulator")
    return step_uj * 1e-6


def cards(lib: Any) -> list[Card]:
    """Every GPU in ROCm's order (AMD SMI's own order where an older version does not report ROCm's)."""
    listed = []
    for index, handle in enumerate(lib.amdsmi_get_processor_handles()):

        def ask(name: str, handle: Any = handle) -> Any:
            try:
                return getattr(lib, name)(handle)
            except Exception:
                return None  # an optional fact

        asic, place = ask("amdsmi_get_gpu_asic_info") or {}, ask("amdsmi_get_gpu_enumeration_info") or {}
        uuid, serial = ask("amdsmi_get_gpu_device_uuid"), str(asic.get("asic_serial") or "").removeprefix("0x")
        ids = [place.get("hip_uuid"), uuid, serial]
        number = place.get("hip_id")
        try:
            unit_j = _step_j(lib.amdsmi_get_energy_count(handle))
        except Exception:
            unit_j = 0.0  # such a card has no reading; an attempt to read it gives the reason
        listed.append(
            Card(
                handle,
                number if isinstance(number, int) else index,
                str(asic.get("market_name") or f"AMD GPU {index}"),
                uuid,
                tuple(_bare(name) for name in ids if name and name != "N/A"),
                unit_j,
            )
        )
    if len({card.index for card in listed}) < len(listed):  # the numbers are not unique, so they mean nothing
        listed = [replace(c, index=k) for k, c in enumerate(listed)]
    return sorted(listed, key=lambda card: card.index)


def _bare(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-")


def among(visible: Sequence[Card], entries: Sequence[str]) -> list[Card]:
    """The cards that the entries name (indices among ``visible``, or UUIDs); as in ROCm, the first wrong entry ends the
    list.
    """
    chosen: list[Card] = []
    for entry in entries:
        if is_index(entry):
            card = visible[int(entry)] if int(entry) < len(visible) else None
        else:
            card = next((card for card in visible if entry and _bare(entry) in card.ids), None)
        if card is None:
            break
        if card not in chosen:
            chosen.append(card)
    return chosen


class AmdMeter(PolledMeter):
    """Energy of the AMD GPUs that ROCm's variables leave visible; ``lib`` is the module amdsmi.

    ``ROCR_VISIBLE_DEVICES`` applies first; ``HIP_VISIBLE_DEVICES``, or ``CUDA_VISIBLE_DEVICES`` where that is empty, selects
    among the rest.
    """

    name = "amd"
    visible_variables = amd.VISIBLE

    def __init__(
        self,
        clock: Clock = REAL,
        *,
        lib: Any = None,
        gap_s: float = 0.01,
        threaded: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__(clock, gap_s, threaded)
        self._runtime: list[Card] = []  # left visible by ROCR_VISIBLE_DEVICES: HIP's indices count among these
        self._cards: list[Card] = []
        self._lib: Any = None
        try:
            loaded = lib or _load()
            loaded.amdsmi_init()
            self._lib = loaded
            everything = cards(loaded)
        except ImportError:
            self.reason = "the package amdsmi is not installed (pip install 'pytest-slmperf[amd]', or ROCm's own copy)"
            return
        except Exception as error:  # without ROCm the package fails on import, differently in each version
            self.reason = f"AMD SMI does not start: {type(error).__name__}: {error}"
            return
        self._choose(everything, environ)

    def _choose(self, everything: list[Card], environ: Mapping[str, str]) -> None:
        if not everything:
            self.reason = "AMD SMI works but shows no GPU"
            return
        self._runtime = self._cards = everything
        if amd.RUNTIME in environ:
            self._runtime = self._cards = among(everything, _entries(environ[amd.RUNTIME]))
        name = next((key for key in self.visible_variables if environ.get(key)), None)
        if self._cards and name is not None:
            self._cards = among(self._runtime, _entries(environ[name]))
        if not self._cards:
            last = name if name is not None and self._runtime else amd.RUNTIME
            count = len(self._runtime or everything)
            self.reason = f"{last}={environ[last]!r} names none of the {count} GPUs (indices from 0, or GPU-<UUID>)"
            return
        for card in self._cards:
            try:
                energy_j(self._lib, card.handle)
            except Exception as error:
                self.reason = f"{card.name}: no energy counter: {error}"
                return
        self.available = True

    def only(self, entries: Sequence[str]) -> AmdMeter:
        """This meter restricted to the GPUs that ``entries`` of HIP_ or CUDA_VISIBLE_DEVICES name; the whole meter
        closes it.
        """
        view = copy(self)
        view._cards = [card for card in among(self._runtime, entries) if card in self._cards]
        return view

    def counters(self) -> list[Counter]:
        names = [card.name for card in self._cards]
        return [
            Counter(
                card.name if names.count(card.name) == 1 else f"{card.name} [{card.index}]",
                card.index, card.uuid, SOURCE, "gpu", card.unit_j, partial(energy_j, self._lib, card.handle),
            )
            for card in self._cards
        ]  # fmt: skip

    def close(self) -> None:
        if self._lib is not None:
            self._lib.amdsmi_shut_down()
            self._lib, self._cards = None, []
        super().close()


def _entries(wish: str) -> list[str]:
    return [entry.strip() for entry in wish.split(",")]


def _load() -> Any:
    import amdsmi

    return amdsmi
