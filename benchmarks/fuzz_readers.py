"""Fuzzing of the readers of what comes from outside: mutated files of six kinds, and mutated streams of seven kinds.

    python benchmarks/fuzz_readers.py                      170,000 inputs a group, 2,210,000 in all
    python benchmarks/fuzz_readers.py --quick              some 35 s of them, for CI
    python benchmarks/fuzz_readers.py --group imports --first 4000 --inputs 1 --show    one input again

Files, read by the commands themselves: results (results files and journals, through compare, report and the terminal),
baselines, histories, traces, points (tables for ``slmperf frontier``) and imports (every format).

Streams, in random reads, by ``fuzz_streams.py``: answers (HTTP, server-sent events), like-events (the fast path), loads
(kept bytes to records), connections (which find an answer's end), plain (models, version, metrics), frames (of a worker) and
packets (of a launch host).

For every input, the reader must end with a result, or with an error of this package of one line that names the file; within
1 s of processor time; with less than 500 MB in use; and a refused import leaves no file.  Group and number determine an
input.  Exit code 1 if a reader fails; each kind of find (error and place) is printed once, and kept with ``--finds FOLDER``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz_mutations import Seed, mutated
from fuzz_stream_seeds import mutated as mutated_stream
from fuzz_streams import STREAMS, RuleBroken
from support import result_files
from support.sample_results import sample_results

from pytest_slmperf.baselines.journal import Journal
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.cli.main import build_parser
from pytest_slmperf.cli.output import read_results
from pytest_slmperf.errors import SlmperfError
from pytest_slmperf.model.results_file import encode
from pytest_slmperf.reports.wording import printable
from pytest_slmperf.scenarios.serving_options import scenario as serving

REPOSITORY = Path(__file__).resolve().parents[1]
MOST_CPU_S, MOST_BYTES, HANGS_S = 1.0, 500 * 10**6, 20
MEMORY = Path("/dev/shm")  # each input is a file, for which a disk would be slow


# ---- readers -----------------------------------------------------------------------------------------------------------

PARSER = build_parser()
DEEP_SHARE = 0.25  # share of inputs that go through the commands, since most are refused at reading


def command(*arguments: Any) -> None:
    """Run a command in this process; SlmperfError if it refuses its input."""
    args = PARSER.parse_args([str(argument) for argument in arguments])
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        args.run(args)


def results(path: Path, draw: random.Random) -> None:
    read_results(path)
    if draw.random() < DEEP_SHARE:
        command("compare", path, path, *draw.choice(((), ("--json",), ("-vv",))))
    if draw.random() < DEEP_SHARE / 4:
        out = path.parent / "out"
        command("report", path, "-o", f"{out}.html", "--markdown", f"{out}.md", "--results", f"{out}.json")


def baselines(path: Path, draw: random.Random) -> None:
    root = path.parents[3]
    stored = FileStore(root).all()
    if draw.random() < DEEP_SHARE:
        for baseline in stored:
            FileStore(root).load(baseline.fingerprint, baseline.name, baseline.id)
        command("compare", root, root, *draw.choice(((), ("--json",), ("-vv",))))
        command("baselines", "list", "--baselines", root)


def histories(path: Path, draw: random.Random) -> None:
    root = path.parents[3]
    store = FileStore(root)
    for fingerprint in store.fingerprints():
        for test in store.history_tests(fingerprint):
            store.history(fingerprint, test)
            if draw.random() < DEEP_SHARE:
                command("history", "--baselines", root, *draw.choice(((), ("--json",), ("--last", "2"))), "--", test)


def traces(path: Path, draw: random.Random) -> None:
    lengths = draw.choice((None, 16))
    scenario = serving(
        workload=path, output_len=lengths, trace_unit=draw.choice((None, "s", "ms")), skip_empty=draw.random() < 0.5
    )
    scenario.workload.describe()
    scenario.workload.items(40, 1, draw.choice((None, 4096)))


def points(path: Path, draw: random.Random) -> None:
    options: list[str] = []
    if draw.random() < 0.3:
        options.append("--repeats")
    if draw.random() < 0.3:
        options += ["--by", "device"]
    if draw.random() < 0.5:
        options += ["--slo", "itl=40"]
    command(
        "frontier", path, "--key", "batch", "--max", "tput", "--min", "itl", *options, *draw.choice(((), ("--json",)))
    )


def imports(path: Path, draw: random.Random) -> None:
    out = path.parent / "out"
    out.mkdir(exist_ok=True)
    options = draw.choice(
        ((), ("--output-len", "8"), ("--as", "chat"), ("--batch", "4", "--output-len", "8"), ("--save", "main"))
    )
    source = path.parent if draw.random() < 0.1 else path
    written = ("-o", out / "r.res", "--csv", out / "p.points", "--baselines", out / "b")
    try:
        command("import", source, *options, *written)
    except SlmperfError:
        if any(out.iterdir()):
            raise AssertionError(f"refused, and {[file.name for file in out.iterdir()]} stored") from None
        raise
    if draw.random() < 0.2:
        command("compare", out / "r.res", out / "r.res")


# ---- seeds -------------------------------------------------------------------------------------------------------------


def seeds_of_results() -> Iterator[Seed]:
    whole = sample_results()
    for result in whole.results[:12]:
        for value in result.metrics.values():  # few readings, so that mutations rather change fields
            value.launches = [rounds[:2] for rounds in value.launches[:3]]
        result.samples = {}
        whole_session = type(whole)(session=whole.session, machine=whole.machine, results=[result])
        yield Seed("r.json", encode(whole_session))
    yield Seed("r.json", (REPOSITORY / "tests/compat/results-base.json").read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), whole.session, whole.machine)
        for result in whole.results[:4]:
            journal.append(result)
        yield Seed("r.jsonl", journal.path.read_bytes())


def seeds_of_baselines() -> Iterator[Seed]:
    for root in ("tests/compat/baselines", "baselines"):
        for path in sorted((REPOSITORY / root).glob("*/main/*/*.json")):
            if path.stat().st_size < 15_000:
                yield Seed("/".join(path.parts[-4:]), path.read_bytes())


def seeds_of_histories() -> Iterator[Seed]:
    for path in sorted((REPOSITORY / "baselines").glob("*/.history/*/*.jsonl")):
        yield Seed("/".join(path.parts[-4:]), path.read_bytes())


def seeds_of_traces() -> Iterator[Seed]:
    azure, burst = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n",
        "Timestamp,Model,Request tokens,Response tokens,Log Type\n",
    )
    yield from (
        Seed("t.csv", table.encode())
        for table in (
            f"{azure}2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109",
            f"{azure}2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,9,7",
            f"{burst}5,ChatGPT,472,18,Conversation log\n45,GPT-4,0,0,API log",
            "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,120,30\n1.5,80,20",
            "arrival_time,input_len,output_len\n0,12,3\n0.25,8,2\n1.5,100,20",
        )
    )
    mooncake = {"timestamp": 27482, "input_length": 1100, "output_length": 52, "hash_ids": [46, 47, 48]}
    bailian = {
        "chat_id": 1,
        "timestamp": 61.1,
        "input_length": 30,
        "output_length": 5,
        "type": "text",
        "hash_ids": [1, 2],
    }
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    turns = [{"text": "Hi", "timestamp": 0, "output_length": 3}, {"text": "Ho", "delay": 500, "output_length": 4}]
    forms: list[list[dict[str, Any]]] = [
        [mooncake, mooncake | {"timestamp": 30535}],
        [bailian, bailian | {"chat_id": 2, "timestamp": 62}],
        [{"prompt": "What is it?", "output_tokens": 12}, {"prompt": "And that?", "output_tokens": 7}],
        [{"prompt": "Say", "prompt_tokens_count": 4, "output_tokens_count": 9}],
        [{"id": "a", "conversations": talk}],
        [{"text": "Hi", "timestamp": 5, "output_length": 4}, {"text": "Ho", "timestamp": 9, "output_length": 4}],
        [{"session_id": "x", "turns": turns}],
        [{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "arrival": 0.5}],
        [{"prompt_token_ids": [1, 2, 3], "n_out": 4, "arrival": 1}],
    ]
    for form in forms:
        yield Seed("t.jsonl", "\n".join(map(json.dumps, form)).encode())
        yield Seed("t.json", json.dumps(form).encode())


def seeds_of_points() -> Iterator[Seed]:
    yield Seed("p.csv", b"batch,tput,itl,device\n1,100,5,a\n8,700,6.5,a\n32,2100,9,b\n64,2500,15,b\n64,2510,15.2,b")
    yield Seed("p.csv", b"batch,tput,itl,num_preemptions\n1,100.5,5,0\n8,700,6.5,0\n32,2100,9,3\n64,oom,n/a,0")
    yield Seed("p.csv", b'batch,tput,itl,device\n1,"1,100.5",5,x\n8,"7,700.0",6.5,x\n32,"21,000.0",9,x')
    yield Seed(
        "p.csv", b"name,batch,tput,itl\n" + b"\n".join(b"m,%d,%d,%d" % (n, 100 * n, 5 + n) for n in range(1, 30))
    )


def seeds_of_imports() -> Iterator[Seed]:
    documents = [value for name, value in vars(result_files).items() if name.isupper() and isinstance(value, dict)]
    for document in documents:
        yield Seed("x.json", json.dumps(document).encode())
        yield Seed("x.jsonl", f"{json.dumps(document)}\n{json.dumps(document | {'max_concurrency': 3})}\n".encode())
    yield Seed("exp/SERVE--max_num_seqs=8/run=0.json", json.dumps(result_files.SERVE | {"max_num_seqs": 8}).encode())


FILES: dict[str, tuple[Callable[[], Iterator[Seed]], Callable[[Path, random.Random], None]]] = {
    "results": (seeds_of_results, results),
    "baselines": (seeds_of_baselines, baselines),
    "histories": (seeds_of_histories, histories),
    "traces": (seeds_of_traces, traces),
    "points": (seeds_of_points, points),
    "imports": (seeds_of_imports, imports),
}


# ---- the run -----------------------------------------------------------------------------------------------------------


class Hangs(BaseException):
    """The reader was stopped."""


def stopped(number: int, frame: Any) -> None:
    raise Hangs


@dataclass
class Find:
    """The fault of a reader with an input. ``kind``: equal for finds of the same cause."""

    kind: str
    text: str


@dataclass
class Input:
    """A mutated input. ``file``: the name that an error must tell; None for a stream."""

    data: bytes
    read: Callable[[], None]
    file: str | None = None


def fault(changed: Input) -> Find | None:
    """The fault of the reader with this input; None if there is none."""
    started, memory = time.process_time(), peak_bytes()
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    find = None
    try:
        changed.read()
    except SlmperfError as error:
        message = printable(str(error))
        if "\n" in message:
            find = Find(f"several lines: {place(error)}", message)
        elif changed.file is not None and changed.file not in message and "the history of" not in message:
            find = Find(f"names no file: {place(error)}", message)
    except RuleBroken as error:
        find = Find(error.rule, str(error))
    except Hangs:
        find = Find("hangs", f"more than {HANGS_S} s")
    except BaseException as error:
        find = Find(f"{type(error).__name__}: {place(error)}", traceback.format_exc(limit=-12))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.process_time() - started
    if find is None and took > MOST_CPU_S:
        find = Find("slow", f"{took:.1f} s of processor time")
    if find is None and peak_bytes() > MOST_BYTES >= memory:
        find = Find("memory", f"{peak_bytes() / 1e6:.0f} MB")
    return find


def place(error: BaseException) -> str:
    """The innermost line of this package in the traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "pytest_slmperf" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def warm_up(seeds: Sequence[Seed], read: Callable[[Path, random.Random], None], folder: Path) -> None:
    """Read sound files first: what is imported at the first call must not count as the time of an input."""
    for number in range(12):
        draw = random.Random(f"warm up {number}")
        seed = draw.choice(seeds)
        path = folder / "in" / seed.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed.data)
        with suppress(SlmperfError):
            read(path, draw)
        shutil.rmtree(folder / "in")


def maker(name: str, folder: Path) -> Callable[[random.Random], Input]:
    """The maker of a group's inputs; a file is written into the folder, in the place of the last."""
    if name in STREAMS:
        make_streams, read_stream = STREAMS[name]
        streams = list(make_streams())

        def stream(draw: random.Random) -> Input:
            pieces = mutated_stream(streams, draw)
            return Input(b"".join(pieces), lambda: read_stream(pieces, draw))

        return stream
    make_seeds, read = FILES[name]
    seeds = list(make_seeds())
    own = folder / "in"
    warm_up(seeds, read, folder)

    def file(draw: random.Random) -> Input:
        changed = mutated(seeds, draw)
        shutil.rmtree(own, ignore_errors=True)
        path = own / changed.name
        path.parent.mkdir(parents=True)
        path.write_bytes(changed.data)
        return Input(changed.data, lambda: read(path, draw), path.stem)

    return file


def run(name: str, numbers: range, seconds: float, finds: Path | None, show: bool) -> tuple[int, dict[str, Find]]:
    """(inputs read, kinds of finds)"""
    kinds: dict[str, Find] = {}
    counts: dict[str, int] = {}
    folder = Path(tempfile.mkdtemp(prefix="slmperf-fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        make = maker(name, folder)
        ends = time.monotonic() + seconds
        for number in numbers:
            if time.monotonic() > ends:
                return number - numbers.start, kinds
            changed = make(random.Random(f"{name} {number}"))
            if show:
                sys.stdout.buffer.write(changed.data + b"\n")
            find = fault(changed)
            if find is not None and find.kind == "hangs":  # a machine that was suspended is no fault of the reader
                find = fault(make(random.Random(f"{name} {number}")))
            if find is None:
                continue
            counts[find.kind] = counts.get(find.kind, 0) + 1
            if find.kind not in kinds:
                kinds[find.kind] = find
                print(f"{name} {number}: {find.kind}\n{find.text}", flush=True)
                if finds is not None:
                    finds.mkdir(parents=True, exist_ok=True)
                    (finds / f"{name}-{number}").write_bytes(changed.data)
        return len(numbers), kinds
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for kind, count in counts.items():
            print(f"{name}: {count} × {kind}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=[*FILES, *STREAMS], help="[all]")
    parser.add_argument("--inputs", type=int, default=170_000, help="a group [%(default)s]")
    parser.add_argument("--first", type=int, default=0, help="number of the first input [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="3.5 s a group of files, 1.5 s a group of streams")
    parser.add_argument("--finds", type=Path, metavar="FOLDER", help="keep the first input of each kind of find here")
    parser.add_argument("--show", action="store_true", help="print each input")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, stopped)
    failed = False
    for name in args.group or (*FILES, *STREAMS):
        numbers = range(args.first, args.first + args.inputs)
        started = time.monotonic()
        seconds = (1.5 if name in STREAMS else 3.5) if args.quick else math.inf
        cpu = time.process_time()
        count, kinds = run(name, numbers, seconds, args.finds, args.show)
        took, rate = time.monotonic() - started, count / max(1e-9, time.process_time() - cpu)
        failed |= bool(kinds)
        print(
            f"{name}: {count} inputs in {took:.0f} s ({rate:,.0f} per s of processor time), "
            f"{len(kinds)} kinds of finds, peak {peak_bytes() / 1e6:.0f} MB",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
