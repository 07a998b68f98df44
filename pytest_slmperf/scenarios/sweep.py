"""A sweep: one scenario measured at several values of one or more settings, which shows a trade-off as a frontier."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.adaptive_grid import check_candidates
from pytest_slmperf.frontier.points import Key, Objective, goals_of
from pytest_slmperf.metrics.registry import metric
from pytest_slmperf.model.engine_spec import EngineSpec
from pytest_slmperf.scenarios.base import OpenEngine, RoundOutcome, Scenario
from pytest_slmperf.scenarios.offline import Offline, grow, whole

LOADS = ("batch", "requests", "waves")  # the number of requests sent at once
WORK = (*LOADS, "input_len", "output_len")  # all other names are settings of the engine
MAX_POINTS = 1000


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point. ``settings``: its varied values; ``spec``: its engine (points with equal engines share a launch)."""

    key: Key
    settings: dict[str, Any] = field(hash=False)
    work: Scenario
    spec: EngineSpec


@dataclass(frozen=True, slots=True)
class Sweep(Scenario):
    """``varied``: (name, values) of each swept setting; see ``build`` for what the names mean.

    ``objectives``, over which the frontier is computed: throughput first (higher is better), then a latency.
    """

    kind: ClassVar[str] = "sweep"
    gates: ClassVar[tuple[str, ...]] = ("hypervolume",)

    varied: tuple[tuple[str, tuple[Any, ...]], ...]
    fixed: tuple[tuple[str, Any], ...] = ()
    adaptive: bool = True
    objectives: tuple[str, ...] = ("output_throughput", "itl_mean")
    seed: int = 0

    @classmethod
    def of(
        cls, settings: Mapping[str, Any], *, adaptive: bool = True, latency: str = "itl_mean", seed: int = 0
    ) -> Sweep:
        """A sweep from the arguments of a test. InvalidInput names the wrong argument.

        Lists are varied, single values fixed.  ``batch``, ``input_len``, ``output_len`` and ``requests`` are the work;
        ``model``, ``kv_cache_tokens``, ``dtype`` and any other name are the engine's.  ``max_num_seqs`` is the engine's
        limit (with an engine for each value) if ``requests`` or ``batch`` gives the number of requests, or if ``waves``
        gives it as a multiple of the limit (with equal loads, a limit of 1 would take a hundred times as long as 256).
        Without any of them, each point sends as many requests as its limit, and the same engine serves all values.
        """
        varied = {name: value for name, value in settings.items() if isinstance(value, list | tuple | range)}
        fixed = {name: value for name, value in settings.items() if name not in varied and value is not None}
        if not varied:
            raise InvalidInput(
                "slmperf.sweep: name at least one setting and a list of values, for instance batch=[1, 4, 16]"
            )
        size = 1
        for name, values in varied.items():
            size *= len(values)
            try:
                check_candidates(list(values))
            except InvalidInput as error:
                raise InvalidInput(f"slmperf.sweep: {name}: {error}") from None
            for value in values:
                _check(name, value)
        for name, value in fixed.items():
            _check(name, value)
        names = {*varied, *fixed}
        if lacking := [name for name in ("input_len", "output_len") if name not in names]:
            raise InvalidInput(f"slmperf.sweep: give {' and '.join(lacking)}, in tokens per request")
        if not {"batch", "requests", "max_num_seqs"} & names:
            raise InvalidInput("slmperf.sweep: give batch (or requests): how many requests are sent at once")
        if len(said := sorted(set(LOADS) & names)) > 1:
            raise InvalidInput(
                f"slmperf.sweep: {' and '.join(said[:2])} both say how many requests are sent; give one of them"
            )
        if "waves" in names and "max_num_seqs" not in names:
            raise InvalidInput("slmperf.sweep: waves counts in max_num_seqs, the engine's limit; give that too")
        known = metric(latency)
        if known.better != "lower":
            raise InvalidInput(f"slmperf.sweep: latency must be a lower-is-better metric, not {latency!r}")
        if size > MAX_POINTS:
            raise InvalidInput(f"slmperf.sweep: {size} points are more than {MAX_POINTS}; split the sweep")
        return cls(
            varied=tuple((name, tuple(values)) for name, values in varied.items()),
            fixed=tuple(sorted(fixed.items())),
            adaptive=adaptive and len(varied) == 1,
            objectives=("output_throughput", latency),
            seed=seed,
        )

    def only(self, key: Key) -> Sweep:
        """The sweep with this point only."""
        settings = self.candidates.get(key)
        if settings is None:
            raise InvalidInput(f"slmperf.sweep: {key!r} is none of its points")
        return replace(self, varied=tuple((name, (value,)) for name, value in settings.items()), adaptive=False)

    @property
    def candidates(self) -> dict[Key, dict[str, Any]]:
        """Every point that may be measured, by key, with its value of each varied setting."""
        names = [name for name, _ in self.varied]
        drafts = (dict(zip(names, values, strict=True)) for values in itertools.product(*(v for _, v in self.varied)))
        return {self._key(settings): settings for settings in drafts}

    @property
    def key_name(self) -> str:
        """The setting whose values are the points' keys."""
        return self.varied[0][0] if len(self.varied) == 1 else "point"

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives with their directions."""
        return goals_of(self.objectives)

    def parameters(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "key": self.key_name,
            "varied": {name: list(values) for name, values in self.varied},
            **dict(self.fixed),
            "adaptive": self.adaptive,
            "objectives": list(self.objectives),
            "seed": self.seed,
        }

    def points(
        self,
        base: EngineSpec,
        resolve: Callable[[EngineSpec], EngineSpec],
        kv_budget: Callable[[EngineSpec], int | None] | None = None,
    ) -> list[SweepPoint]:
        """Every candidate point with its resolved engine, in the given order.

        ``kv_budget``: tokens of KV cache for engines that each saturate one limit; None: the choice of ``resolve``.
        """
        names = [name for name, _ in self.varied]
        base = base.with_settings(**{name: value for name, value in self.fixed if name not in WORK})
        drafts = [dict(zip(names, values, strict=True)) for values in itertools.product(*(v for _, v in self.varied))]
        works = [self._work(settings) for settings in drafts]
        asked = {*dict(self.fixed), *names}
        limited = "max_num_seqs" in asked and not asked.isdisjoint(
            LOADS
        )  # a limit that is independent of the number of requests
        own_engine = limited and "max_num_seqs" in names
        longest = max(work.input_len + work.output_len for work in works)
        seats = max(
            settings["max_num_seqs"] if own_engine else work.batch for settings, work in zip(drafts, works, strict=True)
        )
        spec = base.with_settings(max_model_len=grow(base.max_model_len, longest))
        if own_engine or not limited:
            spec = spec.with_settings(max_num_seqs=grow(base.max_num_seqs or 1, seats))
        if own_engine and spec.kv_cache_tokens is None and "kv_cache_tokens" not in names:
            # The same KV cache for every limit, so that shares of it at different knees are comparable.
            tokens = resolve(spec).kv_cache_tokens if kv_budget is None else kv_budget(spec)
            spec = spec.with_settings(kv_cache_tokens=tokens)
        shared = {*WORK} if own_engine else {*WORK, "max_num_seqs"}
        points = []
        for settings, work in zip(drafts, works, strict=True):
            changes = {name: value for name, value in settings.items() if name not in shared}
            points.append(SweepPoint(self._key(settings), settings, work, resolve(spec.with_settings(**changes))))
        return points

    def _key(self, settings: Mapping[str, Any]) -> Key:
        if len(settings) == 1:
            value = next(iter(settings.values()))
            return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        return ", ".join(f"{name}={value}" for name, value in settings.items())

    def _work(self, settings: Mapping[str, Any]) -> Offline:
        asked = dict(self.fixed) | dict(settings)
        count = asked.get("batch") or asked.get("requests") or asked["max_num_seqs"] * asked.get("waves", 1)
        return Offline(count, asked["input_len"], asked["output_len"], self.seed)

    def engine(self, spec: EngineSpec, launch: int, open_engine: OpenEngine) -> AbstractContextManager[Any]:
        raise TypeError("a sweep has an engine per point; it is measured by measuring.studies.adaptive_sweep")

    def round(self, engine: Any, timeout_s: float | None) -> RoundOutcome:
        raise TypeError("a sweep has rounds per point; it is measured by measuring.studies.adaptive_sweep")


def _check(name: str, value: Any) -> None:
    if name in (*WORK, "max_num_seqs", "kv_cache_tokens"):
        whole("sweep", name, value)
    elif not isinstance(value, str | int | float | bool):
        raise InvalidInput(f"slmperf.sweep: {name} must be a number, a text or true/false, not {value!r}")
