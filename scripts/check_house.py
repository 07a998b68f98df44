"""Rules of the house that ordinary linters do not check: ``python scripts/check_house.py`` prints each breach and exits 1.

Run by ``tox run -e lint``. The rules, and why:

names     ``one``, ``found`` and ``told`` say nothing about a value; the noun does.
verdicts  ``VerdictRecord`` has one constructor call, so that every verdict carries the same fields.
engines   an engine's name decides nothing outside its own folder: traits do, so that an engine of another package can do
          all that a built-in one can.
getattr   ``getattr`` and ``hasattr`` with a constant name are an undeclared interface; a base class declares it.
length    a file of more than 400 lines is not read at one sitting.
printing  a command prints by ``cli/output.py``, where nothing in a text steers a terminal or commands a CI system.
reading   a file from outside is read by ``util/read_file.py``, where nothing waits and everything has a limit.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "pytest_slmperf"
NO_NAMES = {"one", "found", "told"}
MOST_LINES = 400
ENGINES = {"vllm", "vllm-async", "vllm-server", "transformers", "simulated", "openai"}

# Attributes that other projects define, and that some of their versions lack: no base class here can declare them.
FOREIGN = {
    "engines/vllm",
    "engines/vllm_common/faults.py",
    "engines/vllm_server/worker.py",
    "engines/transformers",
    "engines/worker",
    "engines/former_shape.py",
    "energy/registry.py",
    "devices/nvml.py",
    "devices/gpus.py",
    "energy/meters/amd.py",
    "pytest_plugin",
}

# Files of the system, of the package itself, and of our own making.
OWN_FILES = {
    "cli/commands/doctor.py",
    "contrib/roofline/measure.py",
    "devices",
    "energy/meters",
    "engines/device_lock.py",
    "engines/dummy_weights.py",
    "engines/presets.py",
    "engines/sharing/mps.py",
    "environment",
    "load/prompts/lengths.py",
    "reports/html/charts.py",
}


def breaches(path: Path) -> Iterator[str]:
    """The breaches in one file, one line each: ``path:line: rule: breach``."""
    place = path.relative_to(PACKAGE).as_posix()
    text = path.read_text(encoding="utf-8")
    if (count := text.count("\n")) > MOST_LINES:
        yield f"{place}:1: length: {count} lines, at most {MOST_LINES}"
    for node in ast.walk(ast.parse(text)):
        if (name := _bound_name(node)) in NO_NAMES:
            yield f"{place}:{node.lineno}: names: {name!r} is no name for a value; use the noun"  # type: ignore[attr-defined]
        if isinstance(node, ast.Compare) and not place.startswith(("engines/", "model/result.py")):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Constant) and side.value in ENGINES and _asks_for_engine(node):
                    yield f"{place}:{node.lineno}: engines: compares with {side.value!r}; ask the engine's traits"
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id == "print" and _is_command(place):
            yield f"{place}:{called.lineno}: printing: use output.say"
        reads = isinstance(called, ast.Attribute) and called.attr in ("read_text", "read_bytes")
        if reads and not any(place.startswith(own) for own in OWN_FILES):
            yield f"{place}:{node.lineno}: reading: use read_file.read"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            constant = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
            if constant and not any(place.startswith(foreign) for foreign in FOREIGN):
                yield f"{place}:{node.lineno}: getattr: declare {ast.unparse(node.args[1])} in a base class"


def _is_command(place: str) -> bool:
    """Whether a file prints for users; a shell's completion is a script of another package."""
    return place.startswith(("cli/", "contrib/commands/")) and place != "cli/commands/completion.py"


def _bound_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    return node.arg if isinstance(node, ast.arg) else None


def _asks_for_engine(node: ast.Compare) -> bool:
    """Whether the comparison is with an engine's name, rather than a model, a file format or a word in a text."""
    return "engine" in ast.unparse(node).replace("engines", "")


def constructions() -> list[str]:
    """Every place that constructs a ``VerdictRecord``."""
    return [
        f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "VerdictRecord"
    ]


def main() -> int:
    lines = [line for path in sorted(PACKAGE.rglob("*.py")) for line in breaches(path)]
    made = constructions()
    lines += [f"{place}: verdicts: VerdictRecord is made in {len(made)} places" for place in made[1:]]
    print("\n".join(lines) or "the rules of the house hold")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
