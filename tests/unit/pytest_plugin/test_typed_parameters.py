"""The fixture's methods name every parameter of the scenario behind them, for editors, ``help`` and type checkers."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from pytest_slmperf.pytest_plugin.slmperf_fixture import Slmperf
from pytest_slmperf.scenarios import serving_options
from pytest_slmperf.scenarios.offline import Offline
from pytest_slmperf.scenarios.parameters import ServingLoad
from pytest_slmperf.scenarios.replication import Replication
from pytest_slmperf.scenarios.serving import Serving
from pytest_slmperf.scenarios.sweep import WORK


def named(method) -> set[str]:
    wanted = inspect.signature(method).parameters.values()
    return {one.name for one in wanted if one.kind is not one.VAR_KEYWORD} - {"self", "name"}


def fields(scenario) -> set[str]:
    return {field.name for field in dataclasses.fields(scenario)}


def test_serving_takes_what_the_scenario_takes():
    assert named(Slmperf.serving) == named(serving_options.scenario) | fields(Serving)


def test_a_sweep_of_rates_takes_the_same_load():
    assert named(Slmperf.serving_sweep) == named(Slmperf.serving) | {"keep_up"}


def test_offline_takes_what_the_scenario_takes():
    assert named(Slmperf.offline) == fields(Offline)


@pytest.mark.parametrize("method", [Slmperf.replicas, Slmperf.replication])
def test_replicas_take_what_the_scenario_takes(method):
    own = fields(Replication) - {"replicas", "engine_settings"} | {"k", "settings"}
    further = {"least_gain", "fair"} if method is Slmperf.replication else set()
    assert named(method) == own | further


def test_a_sweep_names_its_work():
    assert named(Slmperf.sweep) >= {*WORK, "max_num_seqs", "kv_cache_tokens", "adaptive", "latency", "settings"}


@pytest.mark.parametrize("key", ServingLoad.__annotations__)
def test_every_parameter_of_a_load_is_described(key):
    text = inspect.getdoc(Slmperf.serving)
    assert f"``{key}``" in text or f"``{key}=" in text


@pytest.mark.parametrize(
    "method", [method for name, method in vars(Slmperf).items() if inspect.isfunction(method) and name[0] != "_"]
)
def test_every_method_is_described_and_keyword_only(method):
    assert inspect.getdoc(method)
    positional = [
        one.name
        for one in inspect.signature(method).parameters.values()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.POSITIONAL_ONLY)
    ]
    assert positional in (["self"], ["self", "k"], ["self", "scenario", "name"])


@pytest.mark.parametrize("field", dataclasses.fields(Serving), ids=lambda field: field.name)
def test_a_load_has_the_types_of_the_scenario(field):
    wider = {"arrivals", "slo", "workload"}  # a test may write these in short
    if field.name not in wider:
        assert ServingLoad.__annotations__[field.name].__forward_arg__ == field.type
