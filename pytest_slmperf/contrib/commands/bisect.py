"""``slmperf bisect``: finds the commit that made a test slower, with ``git bisect run`` and a measurement at each step."""

from __future__ import annotations

import argparse
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput, SlmperfError
from pytest_slmperf.util.formatting import counted

DESCRIPTION = """\
Runs git bisect between GOOD and BAD in the repository of the current folder. At each commit it runs --setup (build,
install), then measures TEST as a duet (--against): the other side of the duet stays as it is, usually a virtual
environment with the good version, so every commit is judged against the same thing, side by side, in one session.

A commit is bad when a gated metric regressed, good when it is the same or improved; it is skipped when the setup fails,
the test cannot be measured, or the answer is inconclusive. At the end the work tree is as it was.

The test must not change underway: keep it outside of the repository that is bisected, or in commits before GOOD.
"""
EPILOG = """\
examples:
  git worktree add ../good v1.4 && python -m venv ../good/.venv && ../good/.venv/bin/pip install ../good
  slmperf bisect v1.4 HEAD "../perf/test_offline.py::test_batch[16]" \\
      --against python=../good/.venv/bin/python --setup "pip install -q -e ."
  slmperf bisect v1.4 HEAD ../perf/test_offline.py --against ... --dry-run      # how many steps, which commands

exit codes: 0 the commit was found, 2 only skipped commits are left, 3 a step failed, 4 wrong usage
"""
GOOD, BAD, SKIP, ABORT = 0, 1, 125, 128  # what git bisect run understands
FOUND, UNDECIDED = 0, 2


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bisect",
        help="find the commit that made a test slower, with git bisect",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("good", metavar="GOOD", help="a commit at which the test was fast")
    parser.add_argument("bad", metavar="BAD", help="a commit at which it is slow")
    parser.add_argument("test", metavar="TEST", help="what pytest is given: file, or file::test")
    parser.add_argument(
        "--against", metavar="SPEC", help="other side of the duet, as --slmperf-against; else the stored baseline"
    )
    parser.add_argument("--setup", metavar="COMMAND", help="run at every commit before measuring, by the shell")
    parser.add_argument(
        "--python", default=sys.executable, metavar="PATH", help="interpreter that runs pytest [this one]"
    )
    parser.add_argument("--option", action="append", default=[], metavar="WORD", help="a further word for pytest")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and change nothing")
    parser.add_argument("--step", action="store_true", help=argparse.SUPPRESS)  # one commit; called by git bisect run
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    return step(args) if args.step else _bisect(args)


def _bisect(args: argparse.Namespace) -> int:
    if not Path(args.test.partition("::")[0]).exists():
        raise InvalidInput(f"TEST {args.test!r}: there is no such file here")
    good, bad = _commit(args.good), _commit(args.bad)
    between = int(_git("rev-list", "--count", f"{good}..{bad}"))
    if between == 0:
        raise InvalidInput(
            f"there is no commit between GOOD {args.good} and BAD {args.bad}; are they the wrong way round?"
        )
    if _git("status", "--porcelain", "--untracked-files=no"):
        raise InvalidInput("the work tree has changes that are not committed; commit or stash them before bisecting")
    command = step_command(args)
    steps = max(1, math.ceil(math.log2(between + 1)))
    plan = {
        "commits": between,
        "steps": steps,
        "commands": [
            ["git", "bisect", "start", bad, good],
            ["git", "bisect", "run", *command],
            ["git", "bisect", "reset"],
        ],
    }
    if args.dry_run:
        _print_plan(plan, args.json)
        return FOUND
    if not args.json:
        work = f"{counted(between, 'commit')}, about {counted(steps, 'measurement')}"
        output.say(f"{work}; git bisect reset ends it at any time")
        sys.stdout.flush()
    _git("bisect", "start", bad, good)
    try:
        # With --json, the output of the steps goes to standard error, so that standard output holds the answer only.
        done = subprocess.run(["git", "bisect", "run", *command], stdout=2 if args.json else None)
        log = _git("bisect", "log")
        commit = _git("rev-parse", "refs/bisect/bad") if done.returncode == 0 else None
    finally:
        _git("bisect", "reset")
    return _tell(args, commit, log, done.returncode)


def _tell(args: argparse.Namespace, commit: str | None, log: str, code: int) -> int:
    skipped = [line.split()[-1] for line in log.split("\n") if line.startswith("git bisect skip")]
    about = _git("show", "-s", "--format=%h %an %ad %s", "--date=short", commit) if commit else None
    if args.json:
        output.print_json({"first_bad": commit, "about": about, "skipped": skipped, "log": log.split("\n")})
    elif commit:
        output.say()
        output.say(f"first slow commit: {about or commit}")
    if commit:
        return FOUND
    if skipped and "only skipped commits left" in log:
        output.complain(f"no answer: {counted(len(skipped), 'commit')} could not be judged, and nothing else is left")
        return UNDECIDED
    raise SlmperfError(f"git bisect run ended with exit code {code}; what the last step printed says why")


def step_command(args: argparse.Namespace) -> list[str]:
    """The command that judges one commit, for ``git bisect run``."""
    words = [sys.executable, "-m", "pytest_slmperf.cli", "bisect", "--step", "--python", args.python]
    for name in ("against", "setup"):
        if getattr(args, name):
            words += [f"--{name}", getattr(args, name)]
    for option in args.option:
        words += ["--option", option]
    return [*words, args.good, args.bad, args.test]


def step(args: argparse.Namespace) -> int:
    """Judge the commit that is checked out; returns what ``git bisect run`` understands."""
    if args.setup:
        done = subprocess.run(args.setup, shell=True)
        if done.returncode:
            output.say(f"skipped: --setup ended with exit code {done.returncode}")
            return SKIP
    with tempfile.TemporaryDirectory(prefix="slmperf-bisect-") as folder:
        results = Path(folder) / "results.json"
        words = [args.python, "-m", "pytest", "-p", "no:cacheprovider", "--slmperf", "--slmperf-fail-on", "never"]
        words += ["--slmperf-json", str(results), "--slmperf-html", str(Path(folder) / "report.html")]
        words += ["--slmperf-against", args.against] if args.against else []
        code = subprocess.run([*words, *args.option, args.test]).returncode
        if code in (2, 4):  # an interrupted or wrongly called pytest would end the same way at the next commit
            output.say(f"pytest ended with exit code {code}: bisecting cannot go on")
            return ABORT
        return judge(results)


def judge(path: Path) -> int:
    """Good, bad or skip from the verdicts of a results file."""
    from pytest_slmperf.model.results_file import load_results

    try:
        verdicts = [verdict for result in load_results(path).results for verdict in result.verdicts if verdict.gate]
    except SlmperfError as error:
        output.say(f"skipped: pytest left no results ({error})")
        return SKIP
    names = {verdict.verdict for verdict in verdicts}
    for verdict in verdicts:
        output.say(f"{verdict.metric}: {verdict.verdict}: {verdict.reason}")
    if "regressed" in names:
        return BAD
    if names and names <= {"same", "improved"}:
        return GOOD
    output.say("skipped: no answer at this commit")
    return SKIP


def _commit(name: str) -> str:
    if name.startswith("-"):
        raise InvalidInput(f"{name!r} is no commit")
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except SlmperfError:
        raise InvalidInput(f"{name!r} is no commit of the repository in this folder") from None


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        raise InvalidInput("git is not installed; bisecting needs it") from error
    if done.returncode:
        raise SlmperfError(f"git {words[0]}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout.strip()


def _print_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(plan)
        return
    output.say(f"{counted(plan['commits'], 'commit')}, about {counted(plan['steps'], 'measurement')}:")
    commands: Sequence[Sequence[str]] = plan["commands"]
    for command in commands:
        output.say(f"  {shlex.join(command)}")
