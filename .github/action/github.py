"""What the steps share: their inputs, the workflow commands, git with the job's token, and GitHub's REST API."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn


MAX_BYTES = 512 * 2**20  # of an answer, and of baselines when they are unpacked

MEANING = {  # of pytest's exit codes
    "2": "it was interrupted",
    "3": "pytest failed inside",
    "4": "it was called wrongly, or what it compares with could not be made",
    "5": "it found no test",
    "6": "it ended without finished results",
}


def value(name: str, default: str | None = None) -> str:
    """An input of a step, handed over in the environment; ends the step when it is absent and has no default."""
    found = os.environ.get(name, "").strip()
    if found:
        return found
    if default is None:
        fail(f"{name} is not set; the steps of action.yml set it")
    return default


def choice(name: str, allowed: tuple[str, ...]) -> str:
    found = value(name, allowed[0])
    if found not in allowed:
        fail(f"{_input(name)}: {found!r} is none of {', '.join(allowed)}")
    return found


def words(name: str, default: str | None = None) -> list[str]:
    """An input as the words that a shell would see; ends the step when a quote is left open."""
    text = value(name, default)
    try:
        return shlex.split(text)
    except ValueError as error:
        fail(f"{_input(name)}: {text!r} is not what a shell would understand: {error}")


def _input(name: str) -> str:
    """The input of action.yml that a variable of its steps comes from."""
    return name.removeprefix("SLMPERF_").lower().replace("_", "-")


def event() -> dict[str, Any]:
    """The event that started the run; empty outside GitHub."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    return json.loads(Path(path).read_text()) if path and Path(path).is_file() else {}


def default_branch() -> str | None:
    """Its name. The event of a schedule does not tell it, but a schedule runs on no other branch."""
    if os.environ.get("GITHUB_EVENT_NAME") == "schedule":
        return os.environ.get("GITHUB_REF", "").removeprefix("refs/heads/") or None
    return event().get("repository", {}).get("default_branch")


def on_default_branch() -> bool:
    """Whether this run is of the default branch itself: never true for a pull request, whatever its branch is called."""
    name = os.environ.get("GITHUB_EVENT_NAME", "")
    if name.startswith("pull_request") or name in ("workflow_run", "issue_comment"):
        return False
    default = default_branch()
    return bool(default) and os.environ.get("GITHUB_REF") == f"refs/heads/{default}"


def _escape(text: str) -> str:
    """Text of a workflow command: line breaks as GitHub wants them, other control characters as escapes."""
    plain = "".join(sign if sign.isprintable() or sign in "\r\n" else repr(sign)[1:-1] for sign in text)
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def line(text: str) -> str:
    """One line for the log: it ends where the text does, and is no workflow command."""
    plain = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text).replace("##[", "#\\#[")
    return f"\\{plain}" if plain.lstrip().startswith("::") else plain


def notice(text: str) -> None:
    print(f"::notice title=slmperf::{_escape(text)}", flush=True)


def warning(text: str) -> None:
    print(f"::warning title=slmperf::{_escape(text)}", flush=True)


def error(text: str) -> None:
    print(f"::error title=slmperf::{_escape(text)}", flush=True)


def fail(text: str) -> NoReturn:
    error(text)
    sys.exit(1)


def output(name: str, text: str) -> None:
    """Set an output of the step. Our values are single lines; a line break would set another output."""
    if "\n" in text or "\r" in text:
        fail(f"the value of output {name} has a line break: {text!r}")
    path = os.environ.get("GITHUB_OUTPUT")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name}={text}\n")


def repository_url() -> str:
    return f"{value('GITHUB_SERVER_URL')}/{value('GITHUB_REPOSITORY')}.git"


def git(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run git with the token in its environment: on a command line or in .git/config others could read it."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    token = os.environ.get("SLMPERF_TOKEN", "").strip()
    server = value("GITHUB_SERVER_URL")
    if token and server.startswith("http"):
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{server}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {basic}",
        }
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    if check and done.returncode:
        fail(f"git {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done


class _NoTokenElsewhere(urllib.request.HTTPRedirectHandler):
    """An artifact's download redirects to a storage host; the token must not travel there."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            new.remove_header("Authorization")
        return new


def api(path: str, method: str = "GET", body: dict[str, Any] | None = None, *, raw: bool = False) -> Any:
    """Call GitHub's REST API. Raises urllib.error.HTTPError on a refusal."""
    request = urllib.request.Request(
        value("GITHUB_API_URL") + path,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {value('SLMPERF_TOKEN')}",
            "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.build_opener(_NoTokenElsewhere).open(request, timeout=60) as answer:
        data = answer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        fail(f"GitHub's answer to {path} has more than {MAX_BYTES // 2**20} MiB; it was left alone")
    try:
        return data if raw else json.loads(data or b"null")
    except (ValueError, RecursionError):
        fail(f"GitHub's answer to {path} is no JSON")
