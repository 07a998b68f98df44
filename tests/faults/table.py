"""The fault matrix: what is done to a session or a command, and how it ends. One row a fault.

``tests/faults/test_matrix.py`` plays every row; the documentation's page "What it survives" is made of the same rows.
A row is a ``Fault`` in the list ``ROWS`` of one of the modules named in ``AREAS``, a heading of the page each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from support import in_process

# module of tests/faults → the heading of its rows on the page
AREAS = {
    "engine_rows": "Engines",
    "host_rows": "Launch hosts",
    "endpoint_rows": "Endpoints",
    "ending_rows": "How a session ends",
    "neighbour_rows": "pytest, its neighbours and its surroundings",
    "lying_rows": "Readings and hooks that cannot be",
    "file_rows": "Files and folders",
    "store_rows": "Stores of baselines",
    "text_rows": "Hostile text",
    "place_rows": "Odd places",
    "key_rows": "Keys and passwords",
}
TIMEOUT_S = 90.0
# pytest's plugins that a row has only if it asks for them: they cost time, or change how tests are run
WITHOUT = tuple(
    word
    for name in ("cacheprovider", "hypothesispytest", "anyio", "rerunfailures", "pytest_forked")
    for word in ("-p", f"no:{name}")
)
MARK = "SLMPERF_TEST_FOLDER"  # in the environment of whatever a row starts

SUITE = """
def test_first(slmperf):
    slmperf.offline(batch=1, input_len=16, output_len=16)

def test_second(slmperf):
    slmperf.offline(batch=2, input_len=16, output_len=16)
"""


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, and all that it printed."""

    code: int
    output: str


class PytestRun(Protocol):
    """Runs pytest in the folder of a row."""

    def __call__(self, *arguments: str, process: bool) -> Ended: ...


@dataclass
class Bench:
    """An empty folder, and the commands that a row runs in it."""

    folder: Path
    run_pytest: PytestRun
    environment: dict[str, str] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)  # variables that are taken away
    work: Path | None = None  # where commands run, if not in the folder
    prefix: list[str] = field(default_factory=list)  # words before a command, that take rights away from it

    def write(self, name: str, text: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def pytest(
        self, *arguments: str, suite: str = SUITE, engine: str | None = "simulated", process: bool = False
    ) -> Ended:
        """pytest with ``--slmperf`` over ``suite``; ``process``: in a process of its own, which rows need that end it."""
        self.write("test_perf.py", suite)
        chosen = ["--slmperf", "--slmperf-engine", engine] if engine else []
        return self.run_pytest(*chosen, *arguments, process=process)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """pytest in a process of its own, which the row signals; its output goes to ``output.txt``."""
        command = [*self.prefix, sys.executable, "-m", "pytest", *WITHOUT, *arguments]
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.work or self.folder,
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ended(self, process: subprocess.Popen[bytes]) -> Ended:
        """How a process of ``start`` ended."""
        try:
            code = process.wait(TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
        return Ended(code, (self.folder / "output.txt").read_text(errors="replace"))

    def slmperf(self, *arguments: str) -> Ended:
        """The command ``slmperf``, in a process of its own where a row takes rights away from it."""
        if not self.prefix and not self.environment:
            return Ended(*in_process.command(self.folder, *arguments))
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "pytest_slmperf.cli", *arguments],
            cwd=self.folder, env=self._environment(), input=b"", capture_output=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        return Ended(done.returncode, (done.stdout + done.stderr).decode(errors="surrogateescape"))

    def _environment(self) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
        given = kept | {MARK: str(self.folder)} | self.environment
        return {name: text for name, text in given.items() if name not in self.without}

    def results(self) -> dict[str, Any]:
        """The results file of the last session."""
        data: dict[str, Any] = json.loads((self.folder / ".slmperf" / "results.json").read_text())
        return data

    def result_ids(self) -> list[str]:
        """Ids of the results that were written, without the test file's name."""
        return [result["id"].partition("::")[2] for result in self.results()["results"]]


@dataclass(frozen=True)
class Fault:
    """One row.

    ``injected``: what is done, ``act`` does it. ``exit_code`` and ``says``: how it ends, and words of what is printed
    (white space does not count). ``kept``: what is not lost, ``keeps`` says what of it is lost after all, or None.
    ``mended``: False for a fault that is known and not mended yet; its row must fail, and is not on the page.
    """

    id: str
    injected: str
    act: Callable[[Bench], Ended]
    exit_code: int
    says: str
    kept: str = ""
    keeps: Callable[[Bench], str | None] = lambda bench: None
    mended: bool = True


def only(*ids: str) -> Callable[[Bench], str | None]:
    """``keeps``: these results are written, and no other."""

    def lost(bench: Bench) -> str | None:
        written = bench.result_ids()
        return None if written == list(ids) else f"results are {written}, not {list(ids)}"

    return lost


def rows() -> Mapping[str, list[Fault]]:
    """All rows by the heading of their area."""
    return {heading: list(import_module(f"faults.{module}").ROWS) for module, heading in AREAS.items()}


def shown_wrongly(output: str) -> list[str]:
    """What no output may hold: a traceback, an internal error, a control sequence, a runner's command."""
    # an engine's own traceback may stand in the lines of its log, which are indented
    wrong = re.findall(r"^(?:E\s+)?Traceback.*|^INTERNALERROR.*", output, re.MULTILINE)[:1]
    wrong += [f"control character {char!r}" for char in set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f]", output))]
    return wrong + [line for line in output.splitlines() if line.lstrip().startswith("::")]


def processes_of(folder: Path) -> Iterator[str]:
    """Command lines of living processes whose environment names the folder, or that work in it."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            named = f"{MARK}={folder}" in (entry / "environ").read_text(errors="replace")
            here = folder in Path(os.readlink(entry / "cwd")).parents or os.readlink(entry / "cwd") == str(folder)
            zombie = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
            if (named or here) and not zombie and int(entry.name) != os.getpid():
                yield (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
        except (OSError, ValueError):
            continue  # gone, or another user's


def page() -> str:
    """The page "What it survives" in Markdown."""
    text = (
        "# What it survives\n\n"
        "Each row is a test: the fault is injected, the exit code and the words are asserted, no traceback, control "
        "sequence or runner's command may be printed, no process may be left behind, and what is named under "
        "“kept” must still be there. The tests are `tests/faults/`; this page is made from the same table.\n"
    )
    for heading, faults in rows().items():
        text += f"\n## {heading}\n\n| injected | exit code | it says | kept |\n| --- | --- | --- | --- |\n"
        for fault in filter(lambda fault: fault.mended, faults):
            says = fault.says.replace("|", "\\|").replace("<", "&lt;")
            text += f"| {fault.injected} | {fault.exit_code} | {says} | {fault.kept} |\n"
    return text
