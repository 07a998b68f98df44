"""``slmperf baselines list|show|approve|rename|prune``: showing and changing the stored baselines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf import redaction
from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util.formatting import counted, number, with_unit

if TYPE_CHECKING:
    from pytest_slmperf.baselines.store import Store
    from pytest_slmperf.model.baseline import Baseline, BaselineSession

EPILOG = """\
examples:
  slmperf baselines list
  slmperf baselines show "test_batch[16]"
  slmperf baselines approve .slmperf/results.json --reason "engine 0.33, slower prefill accepted in #41"
  slmperf baselines prune --sessions 4 --history 200
"""


def _examples(*lines: str) -> str:
    return "examples:\n" + "".join(f"  slmperf baselines {line}\n" for line in lines)


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "baselines", help="list, show, approve, rename and prune stored baselines", epilog=EPILOG,
        description="Baselines are kept per machine and engine, under a name, one per test.",
    )  # fmt: skip
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    listing = actions.add_parser(
        "list", help="every baseline with its newest session", epilog=_examples("list --name main", "list --json")
    )
    listing.add_argument("--name", metavar="NAME", help="only baselines of this name")
    show = actions.add_parser(
        "show", help="one test's baseline: sessions, launches, who approved it and why",
        epilog=_examples('show "test_batch[16]"', 'show "test_batch[16]" --json'),
    )  # fmt: skip
    show.add_argument("test", metavar="TEST", help="test id, or a part of it")
    show.add_argument("--name", metavar="NAME", help="only the baseline of this name")
    approve = actions.add_parser(
        "approve", help="make results the baseline, after showing what changes",
        description="Shows what changes and saves it. With --dry-run it only shows.",
        epilog=_examples(
            "approve .slmperf/results.json --dry-run", 'approve .slmperf/results.json --reason "engine 0.33"'
        )
        + "\nexit codes: 0 all saved, 2 some refused and the others saved, 3 saved but not in the history, 4 none saved "
        "or wrong usage\n",
    )  # fmt: skip
    approve.add_argument("results", type=Path, metavar="RESULTS.json", help="results file, or a journal (.jsonl)")
    approve.add_argument(
        "--name", metavar="NAME", help="name of the baseline [the one that the session compared with, usually main]"
    )
    approve.add_argument("--reason", metavar="TEXT", help="why; recorded in the baseline (asked for unless --dry-run)")
    approve.add_argument(
        "--test",
        action="append",
        metavar="ID",
        help="only this test, also where it failed by its own assertion; may be given several times",
    )
    approve.add_argument(
        "--mode", choices=("auto", "extend", "replace"), default="auto",
        help="keep the older sessions beside the new one, or not; auto keeps them while nothing says they differ",
    )  # fmt: skip
    approve.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")
    rename = actions.add_parser(
        "rename", help="keep the baselines and the history of tests that were renamed or moved",
        description="Gives them the new test id: of one test, of all its parameters, or of a whole file.",
        epilog=_examples(
            "rename perf_tests/test_chat.py perf_tests/chat/test_chat.py --dry-run",
            'rename "perf_tests/test_chat.py::test_old" "perf_tests/test_chat.py::test_new"',
        ),
    )  # fmt: skip
    rename.add_argument("old", metavar="OLD", help="test id, with or without parameters, or file, as it was")
    rename.add_argument("new", metavar="NEW", help="the same, as it is now")
    rename.add_argument("--dry-run", action="store_true", help="show what would be renamed and rename nothing")
    prune = actions.add_parser(
        "prune", help="remove old sessions, history or whole baselines",
        epilog=_examples("prune --sessions 4 --dry-run", "prune --older-than 2026-01-01 --name main"),
    )  # fmt: skip
    prune.add_argument("--sessions", type=int, metavar="N", help="keep the newest N sessions of each baseline")
    prune.add_argument("--history", type=int, metavar="N", help="keep the newest N points of each test's history")
    prune.add_argument(
        "--older-than", metavar="DATE", help="remove baselines whose newest session is before YYYY-MM-DD"
    )
    prune.add_argument("--name", metavar="NAME", help="only baselines of this name (not for --history)")
    prune.add_argument("--dry-run", action="store_true", help="show what would be removed and remove nothing")
    for action in (listing, show, approve, rename, prune):
        output.add_store(action)
        output.add_json(action)


def run(args: argparse.Namespace) -> int:
    return {"list": _list, "show": _show, "approve": _approve, "rename": _rename, "prune": _prune}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    baselines = output.open_store(args.baselines).all(args.name)
    if args.json:
        output.print_json([_row(baseline) for baseline in baselines])
    elif not baselines and args.name is not None:
        names = ", ".join(sorted({baseline.name for baseline in output.open_store(args.baselines).all()})) or "nothing"
        output.say(f"no baselines named {args.name!r} in {redaction.address(args.baselines)}, which holds {names}")
    elif not baselines:
        output.say(
            f"no baselines in {redaction.address(args.baselines)}; pytest --slmperf --slmperf-save main makes one"
        )
    else:
        folder = None
        for baseline in baselines:
            if (baseline.fingerprint, baseline.name) != folder:
                folder = (baseline.fingerprint, baseline.name)
                output.say(f"{baseline.fingerprint}  {baseline.name}")
            newest = baseline.newest
            commit = newest.commit.id[:10] if newest.commit.id else "no commit"
            sessions = counted(len(baseline.sessions), "session")
            output.say(f"  {baseline.id}  {sessions}, newest {newest.started_at[:10]} @ {commit}")
    return 0


def _show(args: argparse.Namespace) -> int:
    baselines = [baseline for baseline in output.open_store(args.baselines).all(args.name) if args.test in baseline.id]
    exact = [baseline for baseline in baselines if baseline.id == args.test]
    baselines = exact or baselines
    if not baselines:
        raise InvalidInput(f"no baseline of a test like {args.test!r} in {redaction.address(args.baselines)}")
    if args.json:
        output.print_json(baselines)
        return 0
    for baseline in baselines:
        output.say(baseline.id)
        output.say(f"  {baseline.fingerprint}, baseline {baseline.name}")
        output.say(
            f"  engine {baseline.engine.name} {baseline.engine.version}, {baseline.engine.model} ({baseline.engine.weights})"
        )
        output.say("  work " + ", ".join(f"{key}={value}" for key, value in baseline.work.items()))
        for session in baseline.sessions:
            output.say(f"  session {_session_line(session)}")
            for name, metric in session.metrics.items():
                means = ", ".join(number(sum(rounds) / len(rounds)) for rounds in metric.launches)
                rounds = "/".join(str(len(launch)) for launch in metric.launches)
                output.say(f"    {name}: {with_unit(means, metric.unit)} ({rounds} rounds)")
    return 0


def _approve(args: argparse.Namespace) -> int:
    from pytest_slmperf.baselines import approve

    if not args.dry_run and not (args.reason or "").strip():
        raise InvalidInput('say why with --reason "…": it is recorded in the baseline (or look first with --dry-run)')
    store = output.open_store(args.baselines)
    results = output.read_results(args.results)
    if not results.results:
        raise InvalidInput(f"{args.results}: nothing was measured in that session, so there is nothing to approve")
    name = args.name or str(results.session.options.get("baseline") or "main")
    if args.dry_run:
        changes = approve.preview(store, results, name, args.mode, only=args.test)
    else:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        changes = approve.save_all(
            store, results, name, reason=args.reason, approved_at=now, mode=args.mode, only=args.test
        )
    if args.json:
        output.print_json([approve.as_json(change) for change in changes])
    else:
        for change in changes:
            for line in change.lines():
                output.say(line)
        saved = sum(change.action != "refused" for change in changes)
        done = "would be saved" if args.dry_run else "saved"
        output.say(f"{saved} of {len(changes)} {done} as {name!r} in {store!s}")
    return output.code_of(changes)


def _rename(args: argparse.Namespace) -> int:
    if args.old == args.new or not args.new.strip():
        raise InvalidInput("OLD and NEW are the same" if args.old == args.new else "NEW is empty")
    store = output.open_store(args.baselines)
    baselines = store.all()
    stored = {(baseline.fingerprint, baseline.id) for baseline in baselines}
    stored |= {(machine, test) for machine in store.fingerprints() for test in store.history_tests(machine)}
    # A file is followed by "::", a test by its parameters or by one of its scenarios.
    moves = [
        {"fingerprint": fingerprint, "id": test, "new_id": args.new + test.removeprefix(args.old)}
        for fingerprint, test in sorted(stored)
        if test == args.old or (test.startswith(args.old) and test[len(args.old) :].startswith(("::", "[", "#")))
    ]
    if not moves:
        raise InvalidInput(
            f"no baseline of {args.old!r} in {redaction.address(args.baselines)}; slmperf baselines list shows what is there"
        )
    if any("::" in move["id"] and "::" not in move["new_id"] for move in moves):
        raise InvalidInput(
            f"OLD names a test and NEW, {args.new!r}, a file; write the test's new id in full: {args.new}::…"
        )
    # Tests that move from a file into a class of it ("t.py" to "t.py::T") may take each other's ids, so that the order
    # matters: a test that occupies an id moves first.
    moves.sort(key=lambda move: len(move["id"]), reverse=len(args.new) > len(args.old))
    _check_free(baselines, moves, store)
    if not args.dry_run:
        for move in moves:
            store.rename(move["fingerprint"], move["id"], move["new_id"])
    if args.json:
        output.print_json({"renamed": moves, "dry_run": args.dry_run})
    else:
        for move in moves:
            output.say(f"{move['fingerprint']} {move['id']} is now {move['new_id']}")
        output.say(f"{counted(len(moves), 'test')} {'would be renamed' if args.dry_run else 'renamed'}")
    return 0


def _check_free(baselines: Sequence[Baseline], moves: Sequence[dict[str, str]], store: Store) -> None:
    """Refuse all moves if a new id is another test's, before the first move, since a partial renaming would be worse."""
    import msgspec

    going = {(move["fingerprint"], move["id"]): move["new_id"] for move in moves}
    staying = {
        (baseline.fingerprint, baseline.name, baseline.id): baseline
        for baseline in baselines
        if (baseline.fingerprint, baseline.id) not in going
    }
    for baseline in baselines:
        new_id = going.get((baseline.fingerprint, baseline.id), baseline.id)
        there = staying.get((baseline.fingerprint, baseline.name, new_id))
        # Equal except for its id: written by an interrupted renaming.
        if new_id != baseline.id and there is not None and there != msgspec.structs.replace(baseline, id=new_id):
            raise InvalidInput(
                f"{store}: {new_id!r} has a baseline {baseline.name!r} on {baseline.fingerprint} already; "
                "delete one of the two first. Nothing was renamed"
            )


def _prune(args: argparse.Namespace) -> int:
    for option in ("sessions", "history"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InvalidInput(f"--{option} must be at least 1, not {value}")
    if args.older_than and not _is_date(args.older_than):
        raise InvalidInput(f"--older-than {args.older_than!r}: write a date as YYYY-MM-DD")
    if args.sessions is None and args.history is None and args.older_than is None:
        raise InvalidInput("say what to remove: --sessions N, --history N or --older-than DATE")
    store = output.open_store(args.baselines)
    removed: dict[str, Any] = {"baselines": [], "sessions": 0, "history": 0}
    for baseline in store.all(args.name):
        if args.older_than and baseline.newest.started_at[:10] < args.older_than:
            removed["baselines"].append({"id": baseline.id, "fingerprint": baseline.fingerprint, "name": baseline.name})
            if not args.dry_run:
                store.delete(baseline)
        elif args.sessions and len(baseline.sessions) > args.sessions:
            removed["sessions"] += len(baseline.sessions) - args.sessions
            baseline.sessions = baseline.sessions[-args.sessions :]
            if not args.dry_run:
                store.put(baseline)
    if args.history is not None:
        removed["history"] = _prune_history(args, store)
    if args.json:
        output.print_json(removed | {"dry_run": args.dry_run})
    else:
        for row in removed["baselines"]:
            output.say(f"{row['fingerprint']} {row['name']} {row['id']}")
        done = "would be removed" if args.dry_run else "removed"
        counts = f"{counted(len(removed['baselines']), 'baseline')}, {counted(removed['sessions'], 'session')}"
        output.say(f"{counts}, {counted(removed['history'], 'point')} of history {done}")
    return 0


def _prune_history(args: argparse.Namespace, store: Any) -> int:
    if not args.dry_run:
        count: int = store.prune_history(args.history)
        return count
    lengths = [
        len(store.history(fingerprint, test))
        for fingerprint in store.fingerprints()
        for test in store.history_tests(fingerprint)
    ]
    return sum(max(0, length - args.history) for length in lengths)


def _row(baseline: Baseline) -> dict[str, Any]:
    return {
        "id": baseline.id,
        "name": baseline.name,
        "fingerprint": baseline.fingerprint,
        "sessions": len(baseline.sessions),
        "newest": baseline.newest.started_at,
        "commit": baseline.newest.commit.id,
        "approved_at": baseline.newest.approved_at,
        "reason": baseline.newest.reason,
        "engine_version": baseline.newest.engine_version,
        "metrics": sorted(baseline.newest.metrics),
    }


def _session_line(session: BaselineSession) -> str:
    commit = f" @ {session.commit.id[:10]}{' (dirty)' if session.commit.dirty else ''}" if session.commit.id else ""
    text = f"{session.id} of {session.started_at}{commit}, engine {session.engine_version}"
    if session.approved_at:
        text += f", approved {session.approved_at}"
    return text + (f": {session.reason}" if session.reason else "")


def _is_date(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d") == text
    except ValueError:
        return False
