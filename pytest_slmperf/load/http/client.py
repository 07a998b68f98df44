"""A client process: sends its slice of a schedule, times the answers, prints what came of it. Standard library only.

It is a function of its slice.  In on stdin: a frame with the slice, its requests counted, frames with these, and one with
the start time.  Out on stdout: "ready",
"progress", then "rows" (one list per request, fields in ``ROW``) and last "done" with the sums.  Times are
CLOCK_MONOTONIC nanoseconds.  While the load runs it only moves bytes; they are read when the window is over.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from pytest_slmperf.load.http.event_loop import FAR, LAG_BITS, Loop
from pytest_slmperf.load.http.parser import Answer
from pytest_slmperf.load.token_counter import Tally, spread
from pytest_slmperf.util.framing import Decoder, pack, read_message, write_all

ROW = (
    "index",
    "due_ns",
    "sent_ns",
    "first_ns",
    "last_ns",
    "n_in",
    "n_out",
    "status",
    "error",
    "error_text",
    "retry_after",
    "inside",
    "measured",
)
ROWS_PER_FRAME = 2000
Send = Callable[[dict[str, Any]], None]
HELD = 16 * 2**20  # bytes that wait at most to be given to their answers


def _scrub(text: str, key: str | None) -> str:
    """An error text as it may be shown: short, one line, and without the key even where a server sends it back."""
    if key:
        text = text.replace(key, "***")
        if len(key) > 8:  # servers that mask the middle still show both ends
            text = text.replace(key[:8], "***").replace(key[-8:], "***")
    return " ".join(text.split())[:300]


def report(loop: Loop, plan: dict[str, Any], key: str | None, send: Send) -> None:
    """Read the kept bytes and write the rows and the sums."""
    cpu = time.process_time()
    window = plan.get("window_ns")
    start, end = window if window else (loop.started_ns, max(loop.ended_ns, loop.started_ns + 1))
    tiles = max(1, min(600, round((end - start) / 1e9)))
    tally = Tally(start, end, tiles)
    answers: dict[int, Answer] = {}
    rows: list[list[Any]] = []
    counted_by_events = 0

    # reads are given to their answers in bundles: most of what a read costs is then paid once for many
    came: dict[int, tuple[list[int], list[bytes]]] = {}
    held = 0

    def settle(serial: int) -> None:
        nonlocal counted_by_events
        answer = answers.pop(serial, None)
        if serial in came:
            answer = answer or Answer()
            answer.feed(*came.pop(serial))
        sent = loop.requests[serial]
        error, text, first, last, n_in, n_out, status = sent.error, "", None, None, None, 0, None
        retry_after = None
        inside = 0
        begin = sent.due_ns if plan["loop"] == "open" else sent.sent_ns
        measured = window is None or start <= begin < end
        if answer is not None:
            answer.finished(sent.error)
            error, text, status, retry_after = answer.error, answer.error_text, answer.status, answer.retry_after
            n_in = answer.n_in
            if answer.times:
                if answer.n_out is None:
                    counted_by_events += 1
                n_out = answer.n_out if answer.n_out else sum(answer.tokens) + answer.tokens.count(0)
                inside = tally.add(answer.times, spread(answer.tokens, n_out), measured and error is None)
                first, last = answer.times[0], answer.times[-1]
        rows.append([sent.index, sent.due_ns, sent.sent_ns, first, last, n_in, n_out, status, error,
                     _scrub(text, key), retry_after, inside, measured])  # fmt: skip
        if len(rows) >= ROWS_PER_FRAME:
            send({"type": "rows", "rows": rows})
            rows.clear()

    ends = [*loop.ends, (FAR, -1)]  # (reads so far, serial): which answers were over by then
    upto = 0
    over = ends[0][0]
    for number, (at, serial, data) in enumerate(loop.arena.replay(), 1):
        bundle = came.get(serial)
        if bundle is None:
            bundle = came[serial] = [], []
        bundle[0].append(at)
        bundle[1].append(data)
        held += len(data)
        if number >= over:
            while ends[upto][0] <= number:
                settle(ends[upto][1])
                upto += 1
            over = ends[upto][0]
        if held > HELD:
            for serial, (times, reads) in came.items():
                answers.setdefault(serial, Answer()).feed(times, reads)
            came.clear()
            held = 0
    for _, serial in loop.ends[upto:]:
        settle(serial)
    send({"type": "rows", "rows": rows})
    send(
        {
            "type": "done",
            "gaps": tally.gaps,
            "gap_sum_ns": tally.gap_sum,
            "gap_count": tally.gap_count,
            "tiles": tally.tiles,
            "window_ns": [start, end],
            "read_lag": [(lag << LAG_BITS, times) for lag, times in sorted(loop.lags.items())],
            "cpu_s": loop.cpu_s,
            "reading_cpu_s": time.process_time() - cpu,
            "wall_s": (loop.ended_ns - loop.started_ns) / 1e9,
            "stale_reconnects": loop.stale_reconnects,
            "repeats": loop.repeats,
            "counted_by_events": counted_by_events,
            "bytes": loop.arena.received,
            "max_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
    )


def main() -> int:
    source, out, decoder = sys.stdin.fileno(), sys.stdout.fileno(), Decoder()
    sys.stdout = sys.stderr  # nothing else may reach the frames

    def send(message: dict[str, Any]) -> None:
        write_all(out, pack(message))

    plan = read_message(source, decoder)
    if plan is None:
        return 0
    expected, plan["requests"] = plan["requests"], []
    while len(plan["requests"]) < expected:
        part = read_message(source, decoder)
        if part is None:
            return 0
        plan["requests"] += part["requests"]
    if plan.get("cpus"):
        os.sched_setaffinity(0, plan["cpus"])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    key = os.environ.get(plan["key_env"], "").strip() if plan.get("key_env") else None
    loop = Loop(plan, key)
    loop.preconnect()
    send({"type": "ready", "connections": len(loop.connections)})
    begin = read_message(source, decoder)
    if begin is None:
        return 0
    start_ns = int(begin["start_ns"])
    if plan.get("window_s"):
        first = start_ns + round(plan.get("warmup_s", 0.0) * 1e9)
        plan["window_ns"] = [first, first + round(plan["window_s"] * 1e9)]
    gc.collect()
    gc.disable()  # a collection in the window would show as latency; what is read afterwards makes no cycles either
    last = time.monotonic_ns()

    def progress(sent: int, finished: int, running: int, now_ns: int) -> None:
        nonlocal last
        if now_ns - last > 1_000_000_000:
            last = now_ns
            send({"type": "progress", "sent": sent, "finished": finished, "running": running})

    loop.run(start_ns, progress)
    report(loop, plan, key, send)
    loop.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
