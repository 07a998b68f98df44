"""Redaction: keys and passwords never appear in anything that is printed, written or recorded.

A value is secret by its name (of a variable or a setting) or by its place in a URL. It is then hidden everywhere: in
messages, records, reports and logs. Standard library only, since the errors use it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from pytest_slmperf import text_out

HIDDEN = "…"
LEAST = 6  # least characters of a value that is hidden everywhere: a shorter value is part of too many words

_NAME = re.compile(
    r"(?:api|access|private|secret|signing|encryption|account|storage|subscription).?key|(?<!per_)(?<!put_)token$"
    r"|secret|passw|passphrase|(?:^|[_.-])(?:pass|pwd|pat|auth|bearer|cookie|sas)$|credential|authorization",
    re.IGNORECASE,
)
# Repetitions that something must follow are bounded: else a long word is searched anew from each of its letters.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s'\"<>`]*[^\s'\"<>`:.,;)\]]")
_PAIR = re.compile(r"(?P<name>[A-Za-z][\w.-]{0,80})(?P<sign>['\"]?\s*[=:]\s*['\"]?)(?P<value>[^\s'\",;&)\]}]+)")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
# Tokens by their makers' marks, and JSON web tokens: secret wherever they stand.
_MARKED = re.compile(
    r"\b(?:sk-|hf_|gh[opsur]_|github_pat_|glpat-|xox[abprs]-|nvapi-)[A-Za-z0-9_-]{16,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\beyJ[\w-]{8,2000}\.[\w-]+(?:\.[\w-]*)?"
)
# Of environment variables a mere suspicion suffices: leaving out a harmless one costs little.
_SUSPECT_NAME = re.compile(
    r".*(KEYS?|TOKENS?|SECRETS?|PASSW(OR)?D|PASSPHRASE|CREDENTIALS?|AUTH(ORIZATION)?|COOKIES?|PRIVATE|BEARER|DSN)(_\w+)?"
)
_NO_SECRET = re.compile(r".*_(NUM|MAX|MIN)_\w*TOKENS|.*_TOKENS_PER_\w+|TOKENIZERS_\w+")
_SUSPECT_VALUE = re.compile(
    r"(sk|pk|rk|hf|gh[opsur]|github_pat|glpat|xox[abprs]|nvapi|AKIA|ASIA|AIza)[-_]?\w{12,}"
    r"|eyJ[\w-]{1,2000}\.[\w-]+"
    r"|\w{1,30}://[^/\s]{0,5000}@"  # a user in a URL
    r"|-----BEGIN|[Bb]earer\s"
    r"|(?<![\w+/-])(?=[\w+/-]*\d)(?=[\w+/-]*[a-z])(?=[\w+/-]*[A-Z])[\w+/-]{32,}={0,2}"  # long and random
)
_USER = re.compile(r"[\w.%+~…-]*")

_known: set[str] = set()  # secret values from settings and URLs


def is_secret(name: str) -> bool:
    """Whether a variable, setting or header of this name has a secret value."""
    return _NAME.search(name) is not None


def is_suspect(name: str, value: str) -> bool:
    """Whether an environment variable may hold a secret, by its name or by its value."""
    by_name = is_secret(name) or _SUSPECT_NAME.fullmatch(name) is not None
    return (by_name and _NO_SECRET.fullmatch(name) is None) or _SUSPECT_VALUE.search(value) is not None


def remember(settings: Mapping[str, Any]) -> None:
    """Hide, from now on, the values of secret settings, and secrets in URLs among the values."""
    for name, value in settings.items():
        if isinstance(value, str):
            if is_secret(str(name)):
                _known.add(value)
            else:
                remember_address(value)


def remember_given(text: str) -> None:
    """Hide, from now on, the secrets in a typed text: an address, ``name=value`` pairs, or both."""
    remember_address(text)
    for pair in _PAIR.finditer(text):
        if is_secret(pair["name"]):
            _known.add(pair["value"])
    for part in _ADDRESS.findall(text):
        remember_address(part)


def remember_address(address: str) -> None:
    """Hide, from now on, the password in an address, and the secret values of its query and fragment."""
    _known.update(_secrets_of(address))


def forget() -> None:
    """Forget all secrets: for tests, whose processes live longer than a session."""
    _known.clear()


def _secrets_of(address: str) -> set[str]:
    """The secrets in a URL or in a connection string of libpq, as written and decoded."""
    scheme, colon, rest = address.partition("://")
    if not colon:
        return {pair["value"] for pair in _PAIR.finditer(address) if is_secret(pair["name"])}
    user, at, tail = _parted(rest)
    values = {user.partition(":")[2]} if at else set()
    if at and ":" not in user and not scheme.startswith("postgres"):
        values.add(user)
    query = re.split(r"[?#]", tail, maxsplit=1)
    for name, value in parse_qsl(query[1].replace("#", "&")) if len(query) > 1 else ():
        if is_secret(name):
            values.add(value)
    return {form for value in values for form in (value, unquote(value)) if value}


def _parted(rest: str) -> tuple[str, str, str]:
    """The text after ``://`` as user with password, "@" and the rest. A password may contain any character, even "@"."""
    user, at, tail = rest.rpartition("@")
    if "/" in user and ":" not in user:  # the "@" is part of a path
        return "", "", rest
    return user, at, tail


def secrets() -> list[str]:
    """All values to hide, the longest first, since values may contain others."""
    values = set(_known)
    for name, value in os.environ.items():
        if is_secret(name) and not value.startswith(
            ("/", ".", "~")
        ):  # not a path, of a socket or of a file with the key
            values.add(value)
        elif "://" in value:
            values |= _secrets_of(value)
    return sorted((value for value in values if _tells(value)), key=len, reverse=True)


def _tells(value: str) -> bool:
    """Whether the value differs from common words, which would be hidden in every sentence."""
    return len(value) >= LEAST and not (value.isalpha() and value.islower() and len(value) < 12) and not value.isspace()


def message(text: str) -> str:
    """A message for the terminal, with hidden secrets and without control sequences."""
    return text_out.message(hide(text))


def address(text: str) -> str:
    """An address without password, query and fragment; all of it is hidden if it cannot be parsed."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        return pairs(text)
    user, at, tail = _parted(rest)
    name = user.partition(":")[0]
    if at and not _USER.fullmatch(name):
        return f"{scheme}://{HIDDEN}"
    shown = re.split(r"[?#]", tail, maxsplit=1)
    alone = (
        f"{name}@" if scheme.startswith("postgres") else f"{HIDDEN}@"
    )  # "https://KEY@host" has a key instead of a user
    who = f"{name}:{HIDDEN}@" if ":" in user else alone if at else ""
    return f"{scheme}://{who}{shown[0]}" + (f"?{HIDDEN}" if len(shown) > 1 else "")


def pairs(text: str) -> str:
    """The text, with hidden values in ``name=value`` and ``name: value`` if the name is secret."""
    return _PAIR.sub(_pair, _BEARER.sub(rf"\1 {HIDDEN}", text))


def _pair(match: re.Match[str]) -> str:
    spoken = ":" in match["sign"] and match["name"].lower() == "token"  # "unexpected token: ]", "J/token: 3"
    return match["name"] + match["sign"] + HIDDEN if is_secret(match["name"]) and not spoken else match[0]


def hide(text: str) -> str:
    """A message with every secret hidden: known values, passwords and queries of addresses, pairs with a secret name."""
    text = hide_known(text)
    if "://" in text:
        text = _ADDRESS.sub(lambda match: address(match[0]), text)
    return pairs(_MARKED.sub(HIDDEN, text))


def hide_known(text: str) -> str:
    """A text that is not ours, such as a traceback of somebody's test, with the known secrets hidden and nothing else."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return text


def masked(text: str) -> str:
    """The text with every secret that its form or its name gives away as stars, one a character: the length stays."""

    def stars(match: re.Match[str]) -> str:
        return "*" * len(match[0])

    def of_address(match: re.Match[str]) -> str:
        shown = match[0]
        for secret in _secrets_of(shown):
            shown = shown.replace(secret, "*" * len(secret))
        return shown

    def of_pair(match: re.Match[str]) -> str:
        value = match["value"]
        return match[0] if _pair(match) == match[0] else match[0][: -len(value)] + "*" * len(value)

    text = _BEARER.sub(lambda match: match[1] + "*" * (len(match[0]) - len(match[1])), _MARKED.sub(stars, text))
    return _PAIR.sub(of_pair, _ADDRESS.sub(of_address, text))


def hidden(value: Any) -> Any:
    """Plain data for a record: the values of secret names are hidden, and known secrets in every text.

    A test whose id has a secret in it is refused when it is collected: its record would not be found again.
    """
    known = secrets()
    pattern = re.compile("|".join(map(re.escape, known))) if known else None
    return _hidden(value, pattern)


def _hidden(value: Any, pattern: re.Pattern[str] | None) -> Any:
    if isinstance(value, str):
        return pattern.sub(HIDDEN, value) if pattern is not None else value
    if isinstance(value, dict):
        return {_hidden(name, pattern): _named(name, item, pattern) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_hidden(item, pattern) for item in value) if type(value) in (list, tuple) else value
    return value


def _named(name: object, value: Any, pattern: re.Pattern[str] | None) -> Any:
    if isinstance(value, str) and value and isinstance(name, str) and is_secret(name):
        return HIDDEN
    return _hidden(value, pattern)
