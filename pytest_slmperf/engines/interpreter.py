"""The packages that are installed in the interpreter of an engine, found without importing them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache

PROBE = r"""
import importlib.metadata as m, importlib.util as u, json, os, re, sys
modules, names = json.loads(sys.argv[1])
versions = {}
for name in names:
    try: versions[name] = m.version(name)
    except m.PackageNotFoundError: pass
hip = None
try:
    torch = u.find_spec("torch")
    with open(os.path.join(os.path.dirname(torch.origin), "version.py")) as text:
        hip = re.search(r'''^hip\b[^=]*= *["'](.+?)["']''', text.read(), re.M)
except Exception: pass
print(json.dumps({"modules": [x for x in modules if u.find_spec(x)], "versions": versions,
                  "hip": hip and hip.group(1), "python": list(sys.version_info[:3])}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The packages of an interpreter.

    modules:  the requested modules that it can find
    versions: of the requested distributions that are installed
    error:    why the interpreter did not answer
    hip:      the HIP version that its torch is built for; None for any other torch
    """

    path: str
    modules: frozenset[str] = frozenset()
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    hip: str | None = None


@cache
def interpreter(python: str | None, modules: tuple[str, ...], distributions: tuple[str, ...]) -> Interpreter:
    """The answer of an interpreter (None: this one), cached for the session."""
    path = python or sys.executable
    try:
        done = subprocess.run(
            [path, "-c", PROBE, json.dumps([modules, distributions])],
            capture_output=True,
            timeout=60,
            cwd="/",
            check=False,
        )
        answer = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Interpreter(path, error=f"the interpreter {path} cannot be run ({error})")
    except ValueError:
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Interpreter(path, error=f"{path} is not a Python interpreter that works ({' '.join(tail)})")
    if tuple(answer["python"]) < (3, 10):
        return Interpreter(path, error=f"{path} is Python {'.'.join(map(str, answer['python']))}; engines need 3.10")
    return Interpreter(path, frozenset(answer["modules"]), dict(answer["versions"]), hip=answer["hip"])
