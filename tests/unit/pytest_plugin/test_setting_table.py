"""The table of settings: what it declares is what options, ini, marker and their checks do."""

import argparse

import pytest

from pytest_slmperf.pytest_plugin import setting_kinds as kinds
from pytest_slmperf.pytest_plugin.setting_table import MARKER_KEYS, OPTIONS, SETTINGS, ByProfile, resolved

WRONG = (None, -1, object(), [1], "", True, float("nan"), {1: 2}, {"a": object()})


def defaults(setting):
    return [
        value
        for profile in ("quick", "full")
        for gpu in (False, True)
        if (value := resolved(setting.default, profile, gpu)) is not None
    ]


@pytest.mark.parametrize("setting", MARKER_KEYS.values(), ids=lambda setting: setting.key)
def test_a_marker_key_accepts_its_default_and_refuses_what_is_none(setting):
    assert all(setting.kind.accepts(value) for value in defaults(setting))
    refused = [value for value in WRONG if not setting.kind.accepts(value)]
    assert any(value is None for value in refused)
    assert len(refused) >= 5


@pytest.mark.parametrize("setting", OPTIONS.values(), ids=lambda setting: setting.name)
def test_an_option_reads_its_default_back_from_text(setting):
    for value in defaults(setting):
        read = setting.kind.from_text(str(value))
        assert read == ((None, value) if isinstance(setting.kind, kinds.Margin) else value)


def test_each_place_holds_a_name_once():
    assert len(OPTIONS) + len(MARKER_KEYS) == sum(1 + (setting.given == "both") for setting in SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.name}-{setting.given}")
def test_help_says_the_default_once_and_can_be_shown(setting):
    assert "default" not in setting.help
    parser = argparse.ArgumentParser()
    parser.add_argument("--it", help=setting.help.replace("%", "%%"))
    assert setting.help.split()[0] in parser.format_help()


def test_booleans_are_no_numbers():
    assert not any(kind.accepts(True) for kind in (kinds.WHOLE, kinds.POSITIVE, kinds.SECONDS, kinds.FRACTION))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.SECONDS, "4m", 240.0),
        (kinds.SECONDS, "1H", 3600.0),
        (kinds.SECONDS, "90", 90.0),
        (kinds.FRACTION, " 2% ", 0.02),
        (kinds.Margin(), "ttft_p99=5%", ("ttft_p99", 0.05)),
        (kinds.EvidenceLimit(), "steal_share=off", ("steal_share", None)),
        (kinds.KeyValue(), "a=b=c", ("a", "b=c")),
    ],
)
def test_text_becomes_a_value(kind, text, value):
    assert kind.from_text(text) == value


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "0", "s", ""])
def test_a_time_is_finite_and_more_than_nothing(text):
    with pytest.raises(ValueError, match=r"must be (a time such as|more than 0 seconds)"):
        kinds.SECONDS.from_text(text)


def test_a_default_by_profile_and_device():
    budget = OPTIONS["max-time"].default
    assert isinstance(budget, ByProfile)
    assert [resolved(budget, profile, gpu) for profile in ("quick", "full") for gpu in (False, True)] == [
        150.0,
        900.0,
        None,
        None,
    ]
