"""The object behind the fixture ``slmperf``: it measures scenarios and records their results."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

import pytest

from pytest_slmperf.measuring.handle import Measurement
from pytest_slmperf.model.defaults import LEAST_GAIN
from pytest_slmperf.pytest_plugin.test_state import TEST
from pytest_slmperf.scenarios.parameters import EngineArgument, OneOrMore, ServingLoad

if TYPE_CHECKING:
    from pytest_slmperf.engines.sharing.replicas import Sharing
    from pytest_slmperf.frontier.advisor import Advice
    from pytest_slmperf.measuring.studies.replication import MeasuredReplication
    from pytest_slmperf.measuring.studies.rising_rates import MeasuredRates
    from pytest_slmperf.measuring.studies.sweep_result import MeasuredSweep
    from pytest_slmperf.model.result import Result
    from pytest_slmperf.pytest_plugin.context import SessionContext
    from pytest_slmperf.scenarios.base import Scenario
    from pytest_slmperf.scenarios.replication import Split

Method = TypeVar("Method", bound=Callable[..., Any])


_TOO_LATE = (
    "slmperf measures in the body of a test or in the setup of its fixtures: this test has ended and has its verdict, and "
    "what is measured in its teardown would be judged by nobody"
)


def accepts(parameters: type) -> Callable[[Method], Method]:
    """Show the keys of a TypedDict as keyword parameters in the method's signature, for ``help`` and interactive shells;
    type checkers find them in ``Unpack``."""

    def with_signature(method: Method) -> Method:
        own = [each for each in signature(method).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        further = [
            Parameter(key, Parameter.KEYWORD_ONLY, default=..., annotation=kind.__forward_arg__)
            for key, kind in parameters.__annotations__.items()
        ]
        method.__signature__ = signature(method).replace(parameters=own + further)  # type: ignore[attr-defined]
        return method

    return with_signature


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


class Slmperf:
    """Measures scenarios and records their results. Each call compares with the baseline; the test fails at its end."""

    def __init__(self, context: SessionContext, item: pytest.Item) -> None:
        self._context = context
        self._item = item
        self._number = 0
        self._ids: set[str] = set()
        self._open_id: str | None = None  # of the result that is being measured

    def offline(
        self, *, batch: int, input_len: int, output_len: int, seed: int = 0, name: str | None = None
    ) -> Measurement:
        """``batch`` requests handed over at once, lengths in tokens, EOS ignored: throughput, latency, energy."""
        from pytest_slmperf.scenarios.offline import Offline

        return self.measure(Offline(batch, input_len, output_len, seed), name)

    @accepts(ServingLoad)
    def serving(
        self, *, rate: float | None = None, name: str | None = None, **load: Unpack[ServingLoad]
    ) -> Measurement:
        """Requests by a schedule: latency from the moment each was due, goodput under an SLO.

        When requests come:

        - ``rate``: requests per second, Poisson; with ``burstiness`` (1: Poisson; below 1: burstier) gamma; with
          ``arrivals="constant"`` evenly spaced; with ``rate_to`` a ramp from ``rate`` to that rate
        - ``arrivals``: also a list of your own, in seconds after the start
        - ``concurrency``: a closed loop of that many users instead, who enter over ``ramp_s`` seconds
        - a ``workload`` file that has times is played by them, ``trace_speed`` times as fast; ``trace_unit`` of its times,
          where the file's format leaves it open: "s" or "ms"; ``skip_empty``: leave rows of 0 tokens out

        What they ask for:

        - ``input_len`` and ``output_len``: tokens of prompt and answer
        - or ``workload``: "azure-2023-conv", "azure-2023-code" or "sharegpt-like" (lengths times ``length_scale``), a JSONL,
          JSON or CSV file, or a workload of your own
        - ``prefix_len``: tokens that prompts share at their start, in ``prefix_groups`` groups; ``turns``: requests of one
          conversation, each with its history; both turn ``prefix_caching`` on, which is off otherwise
        - ``ignore_eos``: False lets the model end an answer early; ``seed``: of the schedule and the prompts

        What is measured:

        - ``duration_s``: a window of that length after ``warmup_s`` of the same load; or ``num_requests``, all measured
        - ``rounds``: rounds in each launch, 2; ``cold``: one round, in a fresh process for each launch
        - ``slo``: bounds of goodput in ms, ``{"ttft": 200, "tpot": 50}``
        - ``tolerated_failures``: share of requests that may fail before the test does, 0.49

        The client: ``drain_s`` (wait for answers behind the last request that is due), ``limit_s`` (longest round),
        ``request_timeout_s``, ``stall_timeout_s`` (longest silence of a stream), all in seconds, and ``clients``
        (processes).
        """
        from pytest_slmperf.scenarios.serving_options import scenario

        return self.measure(scenario(rate=rate, **load), name)

    @accepts(ServingLoad)
    def serving_sweep(
        self,
        *,
        rate: float | Sequence[float],
        keep_up: float = 0.9,
        name: str | None = None,
        **load: Unpack[ServingLoad],
    ) -> MeasuredRates:
        """``serving`` at rising rates up to saturation: ``serving_sweep(rate=1.0, duration_s=10, input_len=…, …)``.

        ``rate`` (requests/s) is the first, doubled from there on, or a rising list; each rate is a result of its own. The
        sweep ends behind the first rate at which fewer than ``keep_up`` of the requests that were due in the window were
        completed in it. ``duration_s`` is needed; the rest of the load as in ``serving``.
        """
        from pytest_slmperf.errors import InvalidInput
        from pytest_slmperf.measuring.studies.rising_rates import measure_rates

        if load.get("duration_s") is None:
            raise InvalidInput("slmperf.serving_sweep: needs duration_s, the window of each rate")
        # The sweep looks for saturation, beyond which requests run out of time.
        load.setdefault("tolerated_failures", 1.0)
        prefix = f"{name}-" if name else ""

        def serve(at: float) -> Measurement:
            return self.serving(rate=at, name=f"{prefix}rate={at:g}", **load)

        return measure_rates(serve, rate, keep_up)

    def cold_start(self, *, name: str | None = None) -> Measurement:
        """Process spawn to first request served, each launch a fresh process."""
        from pytest_slmperf.scenarios.offline import ColdStart

        return self.measure(ColdStart(), name)

    def sweep(
        self,
        *,
        batch: OneOrMore[int] | None = None,
        requests: OneOrMore[int] | None = None,
        waves: OneOrMore[int] | None = None,
        input_len: OneOrMore[int] | None = None,
        output_len: OneOrMore[int] | None = None,
        max_num_seqs: OneOrMore[int] | None = None,
        kv_cache_tokens: OneOrMore[int] | None = None,
        model: OneOrMore[str] | None = None,
        dtype: OneOrMore[str] | None = None,
        adaptive: bool = True,
        latency: str = "itl_mean",
        name: str | None = None,
        settings: Mapping[str, OneOrMore[EngineArgument]] | None = None,
        **engine_settings: OneOrMore[EngineArgument],
    ) -> MeasuredSweep:
        """One scenario at several values: ``sweep(batch=[1, 4, 16], input_len=32, output_len=32)``.

        A list is what varies, a single value stays. One verdict for the whole sweep: did the frontier of throughput and
        latency move back anywhere that matters.

        - ``input_len`` and ``output_len``, tokens of each request, are needed
        - one of ``batch`` or ``requests`` (requests sent at once) and ``waves`` (sent at once, in ``max_num_seqs``); or
          ``max_num_seqs`` alone: each point sends as many requests as its limit
        - ``max_num_seqs``, ``kv_cache_tokens``, ``model``, ``dtype`` and any further name are the engine's settings, by the
          engine's own names; ``settings`` takes them as a mapping, for names that are parameters here
        - ``adaptive``: measure the points that decide the frontier rather than all; ``latency``: the metric beside
          throughput, lower is better
        """
        from pytest_slmperf.measuring.studies.sweep_result import MeasuredSweep, mark_advice
        from pytest_slmperf.pytest_plugin.outcome import write_to_journal
        from pytest_slmperf.scenarios.sweep import Sweep

        own = {"batch": batch, "requests": requests, "waves": waves, "input_len": input_len, "output_len": output_len,
               "max_num_seqs": max_num_seqs, "kv_cache_tokens": kv_cache_tokens, "model": model, "dtype": dtype}  # fmt: skip
        given = _without_none(own) | engine_settings | dict(settings or {})
        scenario = Sweep.of(given, adaptive=adaptive, latency=latency)
        result = self.measure(scenario, name).result

        def record_advice(advice: Advice) -> None:
            mark_advice(result, advice)
            write_to_journal(self._context.journal, result)

        return MeasuredSweep(scenario, result, lambda point, label: self.measure(point, label).result, record_advice)

    def replicas(
        self,
        k: int,
        *,
        batch: int | None = None,
        input_len: int | None = None,
        output_len: int | None = None,
        sharing: Sharing = "time-slice",
        split: Split = "even",
        requests: int | None = None,
        total_kv_cache_tokens: int | None = None,
        seed: int = 0,
        name: str | None = None,
        settings: Mapping[str, EngineArgument] | None = None,
        **engine_settings: EngineArgument,
    ) -> Measurement:
        """``k`` engines of the specification on one device, measured as one: ``replicas(2, sharing="mps", batch=256, …)``.

        - ``batch``: most requests that each replica runs at once; ``input_len``, ``output_len``: tokens of each request.
          All three are needed.
        - ``requests``: how many are sent to all replicas together; without it ``batch`` to each
        - ``sharing``: of a GPU, by "time-slice", "mps" or "mig"; on a CPU each replica has cores of its own
        - ``split``: "even" hands every replica its share at once, "least-load" gives pieces of ``batch`` to whichever is
          free
        - ``total_kv_cache_tokens``: KV-cache budget of one engine that has all the memory, which the replicas share
        - ``seed``: of the prompts
        - any further name is a setting of the engine; ``settings`` takes them as a mapping
        """
        from pytest_slmperf.scenarios.replication import Replication

        work = {"batch": batch, "input_len": input_len, "output_len": output_len, "sharing": sharing, "split": split,
                "requests": requests, "total_kv_cache_tokens": total_kv_cache_tokens, "seed": seed}  # fmt: skip
        given = _without_none(work) | engine_settings | dict(settings or {})
        return self.measure(Replication.of(k, given), name)

    def replication(
        self,
        k: Sequence[int] | Literal["auto"] = "auto",
        *,
        batch: int | None = None,
        input_len: int | None = None,
        output_len: int | None = None,
        sharing: Sharing = "time-slice",
        split: Split = "even",
        requests: int | None = None,
        total_kv_cache_tokens: int | None = None,
        seed: int = 0,
        least_gain: float = LEAST_GAIN,
        fair: bool = True,
        settings: Mapping[str, EngineArgument] | None = None,
        **engine_settings: EngineArgument,
    ) -> MeasuredReplication:
        """``replicas`` for several K with equal memory and equal work, and ``fair`` baselines of one engine beside them.

        Each K is a result of its own. "auto" doubles K until another replica adds less than ``least_gain``. A K that is too
        large for the memory ends it: ``points`` and the last result's notes say why. Where another reason keeps a K from
        running, the test fails. The further parameters are those of ``replicas``.
        """
        from pytest_slmperf.measuring.studies.replication import measure_replication
        from pytest_slmperf.pytest_plugin import setting_table
        from pytest_slmperf.pytest_plugin.outcome import write_to_journal
        from pytest_slmperf.pytest_plugin.settings import base_spec
        from pytest_slmperf.scenarios.replication import Replication

        work = {"batch": batch, "input_len": input_len, "output_len": output_len, "sharing": sharing, "split": split,
                "requests": requests, "total_kv_cache_tokens": total_kv_cache_tokens, "seed": seed}  # fmt: skip
        given = _without_none(work) | engine_settings | dict(settings or {})
        spec = self._item.stash[TEST].spec or base_spec(self._item.config, setting_table.merged(self._item))
        measuring = self._context.measuring

        def budget(scenario: Replication) -> int | None:
            """KV-cache tokens in the device's whole memory, or in a duet in half of it, since both sides share it."""
            duet = setting_table.value(self._item.config, "against")
            engine = scenario.spec(spec, measuring.adapter(spec))
            return measuring.resolve(engine).kv_cache_tokens if duet else measuring.kv_tokens_alone(engine)

        scenario = Replication.of(1, given)
        with self._failures_recorded(scenario):
            measured = measure_replication(
                scenario,
                k,
                self._measured,
                least_gain=least_gain,
                fair=fair,
                chunked_prefill_setting=measuring.adapter(spec).traits.chunked_prefill_setting,
                kv_budget=budget,
            )
        last = self._item.stash[TEST].results[-1]
        last.charts.replication = measured.rows()
        last.notes += measured.notes
        write_to_journal(self._context.journal, last)
        return measured

    def measure(self, scenario: Scenario, name: str | None = None) -> Measurement:
        """Measure any scenario. ``name`` distinguishes the scenarios of a test; without it they are numbered."""
        with self._failures_recorded(scenario):
            return Measurement(self._measured(scenario, name))

    @contextmanager
    def _failures_recorded(self, scenario: Scenario) -> Iterator[None]:
        """Record the reason why the scenario cannot be measured, so that every report shows it, and fail the test."""
        from pytest_slmperf.errors import NotMeasured, SlmperfError
        from pytest_slmperf.pytest_plugin.outcome import record_failure

        self._open_id = None
        try:
            yield
        except (NotMeasured, pytest.exit.Exception):  # a result that is recorded already; a signal, or a caller's exit
            raise
        except SlmperfError as error:
            # The message is written for the user. Frames of this package would only hide it.
            record_failure(self._context.journal, self._item, scenario, self._failed_id(), error)
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        except Exception as error:
            record_failure(self._context.journal, self._item, scenario, self._failed_id(), error)
            raise

    def _measured(self, scenario: Scenario, name: str | None) -> Result:
        """Measure and record; the caller handles errors."""
        from pytest_slmperf.pytest_plugin.measure_scenario import measure_scenario
        from pytest_slmperf.pytest_plugin.outcome import record_result

        if self._item.stash[TEST].ended:
            pytest.fail(_TOO_LATE, pytrace=False)
        number, self._number = self._number, self._number + 1
        self._open_id = self._new_id(name, number)
        try:
            keep = partial(record_result, self._context.journal, self._item)
            result = measure_scenario(self._context, self._item, scenario, self._open_id, number, keep)
        except (KeyboardInterrupt, pytest.exit.Exception):
            self._item.stash[TEST].cut_short = True
            raise
        finally:
            self._context.measuring.progress.clear()
        record_result(self._context.journal, self._item, result)
        self._open_id = None
        return result

    def _failed_id(self) -> str:
        """The id of a failure: that of the current result, or else a new id."""
        return self._open_id or self._new_id(None, self._number)

    def _new_id(self, name: str | None, number: int) -> str:
        """An id that no other result of this test has. Scenarios without a name, and repeated names, are numbered."""
        first = self._item.nodeid + (f"::{name}" if name else f"#{number + 1}" if number else "")
        candidates = itertools.chain([first], (f"{first}#{again}" for again in itertools.count(2)))
        unused = next(candidate for candidate in candidates if candidate not in self._ids)
        self._ids.add(unused)
        return unused
