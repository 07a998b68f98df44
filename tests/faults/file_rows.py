"""Rows: files and folders that are none, that may not be read, that are broken, full or too large."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from faults.table import Bench, Ended, Fault, only
from support.odd_files import make_socket

ONE = "def test_first(slmperf):\n    slmperf.offline(batch=1, input_len=16, output_len=16)\n"
SERVED = """
def test_first(slmperf):
    slmperf.serving(rate=20, num_requests=4, workload="trace.jsonl")
"""


ODD: dict[str, Callable[[Path], object]] = {
    "is a folder": lambda path: path.mkdir(),
    "is a FIFO": os.mkfifo,
    "is a socket": make_socket,
    "is a device": lambda path: path.symlink_to("/dev/zero"),
    "leads in a circle": lambda path: path.symlink_to(path),
    "a link to gone": lambda path: path.symlink_to("gone"),
}


def saved(bench: Bench) -> None:
    """A session that is the baseline, and its history."""
    ended = bench.pytest("--slmperf-approve", suite=ONE)
    assert ended.code == 0, ended.output


def baseline(bench: Bench) -> Path:
    (path,) = (path for path in bench.folder.glob("baselines/*/main/*/*.json"))
    return path


def history(bench: Bench) -> Path:
    (path,) = bench.folder.glob("baselines/*/.history/*/*.jsonl")
    return path


def results(bench: Bench) -> Path:
    return bench.folder / ".slmperf/results.json"


FEW = ("is a FIFO", "leads in a circle", "a link to gone")


def in_turn(
    place: Callable[[Bench], Path],
    run: Callable[[Bench], Ended],
    prepare: Callable[[Bench], None],
    kinds: Iterable[str],
) -> Callable[[Bench], Ended]:
    """The file at the place becomes one oddity after another, and each is named."""

    def act(bench: Bench) -> Ended:
        prepare(bench)
        path = place(bench)
        path.unlink()
        outputs, codes = [], set()
        for words in kinds:
            ODD[words](path)
            ended = run(bench)
            named = "".join(words.split()) in "".join(ended.output.split())
            outputs.append(ended.output if named else f"not said: {words}\nTraceback\n{ended.output}")
            codes.add(ended.code)
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        return Ended(codes.pop() if len(codes) == 1 else -1, "\n".join(outputs))

    return act


def command(*words: str) -> Callable[[Bench], Ended]:
    return lambda bench: bench.slmperf(*words)


def odd(
    id: str,
    what: str,
    place: Callable[[Bench], Path],
    run: Callable[[Bench], Ended],
    code: int = 4,
    prepare: Callable[[Bench], None] = saved,
    kinds: Iterable[str] = FEW,
) -> Fault:
    """``kinds``: all go through one reader, whose own test has them all."""
    others = "folder, FIFO, socket, device" if kinds is ODD else "FIFO"
    return Fault(
        id,
        f"{what} is a {others}, link in a circle or link to nothing",
        in_turn(place, run, prepare, kinds),
        code,
        "is a FIFO",
    )


def model(bench: Bench) -> None:
    bench.write("model/config.json", '{"model_type": "opt"}')


def traced(bench: Bench) -> None:
    bench.write("trace.jsonl", '{"timestamp": 0, "input_length": 8, "output_length": 4}\n')


def pointed(bench: Bench) -> None:
    bench.write("points.csv", "max_num_seqs,t,l\n1,10,1\n2,20,2\n")


def _shut(bench: Bench, path: Path) -> None:
    """No right to it, for this user; and this user is root no more."""
    path.chmod(0)
    bench.prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []


def unreadable(place: Callable[[Bench], Path], run: Callable[[Bench], Ended]) -> Callable[[Bench], Ended]:
    def act(bench: Bench) -> Ended:
        saved(bench)
        path = place(bench)
        mode = path.stat().st_mode
        _shut(bench, path)
        try:
            return run(bench)
        finally:
            path.chmod(mode)

    return act


def session(bench: Bench) -> Ended:
    """A session in a process of its own."""
    bench.write("test_perf.py", ONE)
    return bench.ended(bench.start("test_perf.py", "--slmperf", "--slmperf-engine", "simulated"))


def shut(id: str, what: str, place: Callable[[Bench], Path], run: Callable[[Bench], Ended], code: int = 4) -> Fault:
    return Fault(id, f"no right to read {what}", unreadable(place, run), code, "no permission")


def _folder(level: int) -> Callable[[Bench], Path]:
    return lambda bench: baseline(bench).parents[level]


def deep_line(bench: Bench) -> Ended:
    saved(bench)
    with history(bench).open("a") as file:
        file.write("[" * 100_000 + "\n")
    return bench.slmperf("baselines", "approve", ".slmperf/results.json", "--reason", "r")


def grown(bench: Bench) -> Ended:
    """A history of more than its reader takes, as earlier versions wrote it."""
    saved(bench)
    path = history(bench)
    head, line = path.read_bytes().splitlines()
    with path.open("wb") as file:
        file.write(head + b"\n")
        for number in range(60):
            point = line.replace(b'"session": "', b'"session": "%04d-' % number, 1)
            file.write(point[:-1] + b', "filler": "' + b"x" * 2**20 + b'"}\n')
    return bench.slmperf("baselines", "approve", ".slmperf/results.json", "--reason", "r")


def shortened(bench: Bench) -> str | None:
    size = history(bench).stat().st_size
    pruned = bench.slmperf("baselines", "prune", "--history", "5")
    told = bench.slmperf("history", "test_first")
    if pruned.code or told.code:
        return pruned.output + told.output
    return f"the history still has {size} bytes" if size > 32 * 2**20 else None


def own_input(bench: Bench) -> Ended:
    saved(bench)
    return bench.slmperf("report", ".slmperf/results.json", "-o", ".slmperf/results.json")


def written_over(*words: str, over: str, text: str = "[core]\nbare = false\n") -> Callable[[Bench], Ended]:
    def act(bench: Bench) -> Ended:
        bench.write(over, text)
        return bench.pytest(*words, suite=ONE) if words[0].startswith("--") else bench.slmperf(*words)

    return act


def still(name: str, text: str = "[core]\nbare = false\n") -> Callable[[Bench], str | None]:
    return lambda bench: None if (bench.folder / name).read_text() == text else f"{name} was overwritten"


def over_code(bench: Bench) -> Ended:
    saved(bench)
    return written_over("report", ".slmperf/results.json", "-o", "x.py", over="x.py")(bench)


def dangling_state(bench: Bench) -> Ended:
    (bench.folder / ".slmperf").symlink_to("gone")
    return bench.pytest(suite=ONE)


def journal_odd(bench: Bench) -> Ended:
    saved(bench)
    (path,) = bench.folder.glob(".slmperf/journal/*.jsonl")
    shutil.copy(path, bench.folder / "copy.jsonl")
    with (bench.folder / "copy.jsonl").open("a") as file:
        file.write("[" * 100_000 + "\n" + '{"id": 3}\n')
    return bench.slmperf("report", "copy.jsonl")


ROWS = [
    odd("odd-baseline-session", "a baseline", baseline, lambda bench: bench.pytest(suite=ONE), 1),
    odd("odd-baseline-list", "a baseline, listed,", baseline, command("baselines", "list"), kinds=ODD),
    odd("odd-baseline-compare", "a baseline, compared with,", baseline,
        lambda bench: bench.slmperf("compare", "baselines", str(results(bench)))),
    odd("odd-history-told", "a history", history, command("history", "test_first")),
    odd("odd-history-pruned", "a history, pruned,", history, command("baselines", "prune", "--history", "5")),
    odd("odd-history-renamed", "a history, renamed,", history,
        command("baselines", "rename", "test_perf.py::test_first", "test_perf.py::test_new")),
    odd("odd-results-report", "a results file", results, command("report", ".slmperf/results.json"), kinds=ODD),
    odd("odd-results-compare", "a results file, compared,", results,
        command("compare", ".slmperf/results.json", ".slmperf/results.json")),
    odd("odd-results-export", "a results file, exported,", results,
        command("export", "--format", "csv", ".slmperf/results.json")),
    odd("odd-results-approve", "a results file, approved,", results,
        command("baselines", "approve", ".slmperf/results.json", "--reason", "r")),
    odd("odd-points", "a table of points", lambda bench: bench.folder / "points.csv",
        command("frontier", "points.csv", "--max", "t", "--min", "l"), 4, pointed),
    odd("odd-import", "a file to import", lambda bench: bench.folder / "points.csv",
        command("import", "points.csv"), 4, pointed),
    odd("odd-trace", "a trace", lambda bench: bench.folder / "trace.jsonl",
        lambda bench: bench.pytest(suite=SERVED), 1, traced),
    odd("odd-config", "a model's config.json", lambda bench: bench.folder / "model/config.json",
        lambda bench: bench.pytest("--slmperf-model", "./model", suite=ONE), 4, model),
    odd("odd-database", "an SQLite store", lambda bench: bench.write("b.db", ""),
        command("baselines", "list", "--baselines", "sqlite:///b.db"), 4, lambda bench: None),
    shut("shut-baselines-session", "the folder of baselines", lambda bench: bench.folder / "baselines", session, 1),
    shut("shut-baselines-list", "the folder of baselines, listed", lambda bench: bench.folder / "baselines",
         command("baselines", "list")),
    shut("shut-baselines-compare", "the folder of baselines, compared", lambda bench: bench.folder / "baselines",
         command("compare", "baselines", ".slmperf/results.json")),
    shut("shut-name-list", "a name's folder of baselines", _folder(1), command("baselines", "list")),
    shut("shut-module-list", "a module's folder of baselines", _folder(0), command("baselines", "list")),
    shut("shut-module-session", "a module's folder of baselines, in a session", _folder(0), session, 1),
    shut("shut-baseline-list", "one baseline", baseline, command("baselines", "list")),
    shut("shut-history", "a history's folder", lambda bench: history(bench).parent, command("history", "test_first")),
    shut("shut-results", "the results file", results, command("report", ".slmperf/results.json")),
    Fault("deep-history", "a history with a line nested 100,000 deep", deep_line, 0, "1 of 1 saved",
          "the approval is saved, the line passed over"),
    Fault("deep-journal", "a journal with such a line and one that is no result", journal_odd, 4, "line 3"),
    Fault("grown-history", "a history of 60 MiB", grown, 0, "1 of 1 saved", "the newest sessions, and it is shortened",
          shortened),
    Fault("report-over-input", "report R -o R", own_input, 4, "is a file that is no report", "the results file",
          only("test_first")),
    Fault("report-over-code", "report -o names a file that is no report",
          over_code, 4, "give another name", "the file", still("x.py")),
    Fault("html-over-ini", "--slmperf-html names a file that is no report",
          written_over("--slmperf-html", "other.ini", over="other.ini"), 4, "give another name", "the file",
          still("other.ini")),
    Fault("json-over-config", "--slmperf-json names a file that is no results file",
          written_over("--slmperf-json", ".git/config", over=".git/config"), 4, "give another name", "the file",
          still(".git/config")),
    Fault("export-over-code", "--slmperf-export names a file that is no export",
          written_over("--slmperf-export", "csv=setup.cfg", over="setup.cfg"), 4, "give another name", "the file",
          still("setup.cfg")),
    Fault("dangling-state", "the state folder is a link to nothing", dangling_state, 4, "a link to gone"),
]  # fmt: skip
