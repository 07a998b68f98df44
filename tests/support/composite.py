"""Runs the steps of ``action.yml`` on this machine, as a GitHub runner would: same scripts, same environment files.

Only what that file uses is understood: inputs, outputs of earlier steps, and conditions of the forms ``x == 'y'``,
``x != 'y'`` and ``!cancelled()``, joined by ``&&``. After a failed step only those with ``!cancelled()`` run.
Steps that use another action are noted and not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@dataclass
class Outcome:
    """What a run of the action left behind."""

    failed: str | None = None  # name of the first step that failed
    log: str = ""
    summary: str = ""
    ran: list[str] = field(default_factory=list)
    used: dict[str, dict[str, str]] = field(default_factory=dict)  # steps that use another action, with their inputs
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def annotations(self) -> list[str]:
        return [line for line in self.log.splitlines() if line.startswith(("::error", "::warning", "::notice"))]


def _lookup(name: str, inputs: dict[str, str], outputs: dict[str, dict[str, str]]) -> str:
    parts = name.split(".")
    if parts[0] == "inputs":
        return inputs[parts[1]]
    if parts[0] == "steps" and parts[2] == "outputs":
        return outputs.get(parts[1], {}).get(parts[3], "")
    if name == "github.token":
        return "token-of-the-job"
    raise ValueError(f"action.yml uses the expression {name!r}, which this runner does not know")


def _wanted(condition: str, failed: str | None, lookup: Callable[[str], str]) -> bool:
    """Whether a step with this ``if`` runs."""
    parts = [
        part.strip() for part in condition.strip().removeprefix("${{").removesuffix("}}").split("&&") if part.strip()
    ]
    if failed is not None and "!cancelled()" not in parts:
        return False
    for part in parts:
        if part == "!cancelled()":
            continue
        left, sign, right = part.split()
        assert sign in ("==", "!="), f"action.yml uses the condition {part!r}, which this runner does not know"
        if (lookup(left) == right.strip("'")) != (sign == "=="):
            return False
    return True


def run(workspace: Path, scratch: Path, environment: dict[str, str], **given: str) -> Outcome:
    """Run the action in ``workspace`` with inputs ``given`` (dashes as underscores)."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    named = {key.replace("_", "-"): text for key, text in given.items()}
    unknown = set(named) - set(action["inputs"])
    assert not unknown, f"no such inputs: {unknown}"
    outcome = Outcome()

    def fill(text: str) -> str:
        return EXPRESSION.sub(lambda found: _lookup(found[1], inputs, outcome.outputs), str(text))

    inputs: dict[str, str] = {}
    for key, about in action["inputs"].items():
        inputs[key] = named.get(key, fill(about.get("default", "")))
    scratch.mkdir(parents=True, exist_ok=True)
    summary = scratch / "summary"
    for index, step in enumerate(action["runs"]["steps"]):
        if not _wanted(step.get("if", ""), outcome.failed, lambda name: _lookup(name, inputs, outcome.outputs)):
            continue
        outcome.ran.append(step["name"])
        if "uses" in step:
            outcome.used[step["name"]] = {key: fill(text) for key, text in step["with"].items()}
            continue
        output = scratch / f"output-{index}"
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            env={
                **{
                    key: text for key, text in os.environ.items() if not key.startswith(("PYTEST", "GITHUB", "SLMPERF"))
                },
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_WORKSPACE": str(workspace),
                "GITHUB_ACTIONS": "true",
                "RUNNER_TEMP": str(scratch),
                **environment,
                **{key: fill(text) for key, text in step.get("env", {}).items()},
            },
        )
        outcome.log += done.stdout
        if "id" in step:
            lines = output.read_text().splitlines()
            outcome.outputs[step["id"]] = dict(line.split("=", 1) for line in lines)
        if done.returncode:
            outcome.failed = outcome.failed or step["name"]
    outcome.summary = summary.read_text() if summary.is_file() else ""
    return outcome


def python() -> str:
    return sys.executable
