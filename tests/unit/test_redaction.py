"""What is secret is hidden wherever it stands, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_slmperf import redaction
from pytest_slmperf.metrics.registry import REGISTRY


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    redaction.forget()
    yield
    redaction.forget()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u:pass-word@h:5432/db", "postgresql://u:…@h:5432/db"),
        ("postgresql://u:pa#ss?w@rd/x@h/db", "postgresql://u:…@h/db"),
        ("postgresql://h/db?password=pass-word", "postgresql://h/db?…"),
        ("postgresql://h/db?email=a@b&password=x", "postgresql://h/db?…"),
        ("https://h/v1#key", "https://h/v1?…"),
        ("https://planted@h/", "https://…@h/"),
        ("postgresql://user@h/", "postgresql://user@h/"),
        ("https://h/a@b", "https://h/a@b"),
        ("sqlite:///a/b@c.db", "sqlite:///a/b@c.db"),
        ("host=h dbname=d password=pass-word", "host=h dbname=d password=…"),
        ("baselines", "baselines"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(address: str, shown: str) -> None:
    assert redaction.address(address) == shown
    assert redaction.address(shown) == shown


@pytest.mark.parametrize("name", ["hf_token", "api_key", "OPENAI_API_KEY", "PGPASSWORD", "db.secret", "Authorization",
                                  "x-api-key", "client_secret", "AWS_ACCESS_KEY_ID", "passphrase"])  # fmt: skip
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert redaction.is_secret(name)
    assert redaction.hide(f"{name}=planted-1, x") == f"{name}=…, x"


@pytest.mark.parametrize(
    "name", ["key", "key_env", "max_tokens", "tokenizer", "keys", "engine", "author", "monkey", *REGISTRY]
)
def test_other_names_are_none(name: str) -> None:
    assert not redaction.is_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: … …"),
        ("see postgresql://u:p@h/d: refused", "see postgresql://u:…@h/d: refused"),
        ("--slmperf-against engine.hf_token=abc,engine.x=1", "--slmperf-against engine.hf_token=…,engine.x=1"),
        ("unexpected token: ]", "unexpected token: ]"),
        ("0.4 J/token: 3 of 5", "0.4 J/token: 3 of 5"),
        ("t.py::test[a=b]: 5 = 5", "t.py::test[a=b]: 5 = 5"),
    ],
)
def test_a_message(text: str, shown: str) -> None:
    assert redaction.hide(text) == shown


def test_what_a_variable_a_setting_or_a_url_held_is_hidden_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "planted-in-variable")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:planted%2Din-url@h/db")
    monkeypatch.setenv("SSH_AUTH_TOKEN", "/run/socket")
    monkeypatch.setenv("OTHER_TOKEN", "disabled")
    redaction.remember({"hf_token": "planted-in-setting", "batch": 3, "url": "http://u:planted-in-value@h"})
    redaction.remember_address("postgresql://u:planted#2@h/db?password=planted-3&x=harmless")
    values = ("planted-in-variable", "planted-in-url", "planted%2Din-url", "planted-in-setting", "planted-in-value",
              "planted#2", "planted-3")  # fmt: skip
    for value in values:
        assert redaction.hide(f"said {value}!") == "said …!"
    record = {"a": [f"x {values[0]}", {"api_key": "short", "per_token": "same", values[3]: 1.5}], "b": (None, True)}
    assert redaction.hidden(record) == {
        "a": ["x …", {"api_key": "…", "per_token": "same", "…": 1.5}],
        "b": (None, True),
    }
    assert redaction.hide("disabled, /run/socket, harmless") == "disabled, /run/socket, harmless"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["a", "a-", "a.", "A_", "9a", "key", "a=", "http://", "Bearer ", "eyJ-", "token=", "a1B"]
)
def test_a_long_word_takes_no_time_that_grows_with_its_square(piece: str) -> None:
    """Of an unbounded pattern a word of this length takes ten minutes and more."""
    text = (piece * 200_000)[:200_000]
    assert len(redaction.message(text)) <= len(text)
    redaction.is_suspect("VLLM_ANY", text)
    redaction.masked(text)
