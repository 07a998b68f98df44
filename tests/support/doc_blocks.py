"""The code blocks of a Markdown page, and a place to run them as a reader would: in order, in one empty folder.

What a block is follows from its language and, for files, from its first line:

- any language whose first line is a comment that names a file (``# perf_tests/test_chat.py``): the block is that file;
- ``python`` otherwise: run by the interpreter;
- ``shell``: run by bash, each block after the one before; ``<!-- exit: 1 -->`` above it says that it must end so;
- ``toml``, ``yaml``, ``json``, ``ini``: must parse;
- ``text``: something a program printed; not run.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# ([\w./-]+\.(?:py|toml|ini|yml|yaml|cfg|json))\n")
EXIT = re.compile(r"<!-- exit: (\d+) -->\s*$")
OUTPUT = {"text"}
DIRECTIVE = re.compile(r"\{[a-z-]+\}.*")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    exit_code: int = 0

    @property
    def file(self) -> str | None:
        found = FILE.match(self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    found += [path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts]
    return sorted(found)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        language = found[3].strip()
        if DIRECTIVE.fullmatch(language):
            continue
        before = text[: found.start()]
        code = EXIT.search(before)
        yield Block(page, before.count("\n") + 1, language, found[4], int(code[1]) if code else 0)


SHIM = """#!{python}
import runpy, sys
sys.argv[0] = {name!r}
sys.path.insert(0, {folder!r})
runpy.run_path({script!r}, run_name="__main__")
"""


class Reader:
    """Somebody who types what the page says, on a machine where everything is installed already.

    What installs packages or measures for minutes is replaced by a stand-in that checks what it is asked for; the engine
    is the simulated one whatever the page names.
    """

    def __init__(self, home: Path) -> None:
        self.work = home / "work"
        self.work.mkdir(parents=True)
        self.bin = home / "bin"
        self.bin.mkdir()
        standins = ROOT / "tests/docs/standins"
        for script in standins.glob("*.py"):
            path = self.bin / script.stem
            text = SHIM.format(python=sys.executable, name=script.stem, folder=str(standins), script=str(script))
            path.write_text(text)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "SLMPERF", "GITHUB", "CI_"))}
        return {
            **kept,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.bin.parent),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "SLMPERF_DOCS_PYTHON": sys.executable,
            "SLMPERF_DOCS_ROOT": str(ROOT),
        }

    def bash(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", text],
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def python(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", text],
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
