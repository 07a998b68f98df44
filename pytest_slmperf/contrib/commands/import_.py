"""``slmperf import``: result files of other benchmarks, and folders of them, as results file or as baselines."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.cli import output
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.text_out import csv_table
from pytest_slmperf.util.formatting import counted

if TYPE_CHECKING:
    from pytest_slmperf.contrib.importers.combinations import Combination, Given
    from pytest_slmperf.contrib.importers.run import Run
    from pytest_slmperf.model.result import Machine, Result, Results

IMPORTED = "imported"  # the fingerprint of imports without --machine, which are comparable with each other only
THIS = "this"
EPILOG = """\
examples:
  slmperf import monday.json tuesday.json --as chat --save main --reason "before the upgrade"
  slmperf import today.json again.json --as chat -o today-results.json
  slmperf compare baselines/ today-results.json

exit codes: 0 done, 4 wrong usage, a file that cannot be read, or nothing that could be saved
"""


def add_parser(subparsers: Any) -> None:
    """Add ``import`` to the subcommands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "import",
        help="turn result files of other benchmarks into a results file",
        description=(
            "Reads result files of vllm bench (serve, throughput, latency, startup, also --append-result files, and folders "
            "of sweep), GuideLLM, AIPerf, SGLang's bench_serving, InferenceX, inference-perf and optimum-benchmark, and "
            "writes a results file that slmperf compare, report and frontier read. "
            "With --save or --approve they also become baselines."
        ),
        epilog=EPILOG,
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="FILE|FOLDER")
    parser.add_argument("-o", "--output", type=Path, default=Path("results.json"), metavar="PATH", help="[%(default)s]")
    parser.add_argument("--csv", type=Path, metavar="PATH", help="also write one line per point, for slmperf frontier")
    parser.add_argument("--batch", type=_count, metavar="N", help="batch size of a latency run (its file does not say)")
    parser.add_argument("--input-len", type=_count, metavar="N", help="prompt tokens per request")
    parser.add_argument(
        "--output-len", type=_count, metavar="N", help="output tokens per request of a latency or throughput run"
    )
    parser.add_argument("--engine-version", default="unknown", metavar="VERSION", help="vLLM version of the runs")
    parser.add_argument(
        "--weights", choices=("real", "dummy"), default="real", help="weights of the runs [%(default)s]"
    )
    parser.add_argument("--device", default="unknown", metavar="NAME", help="device of the runs, for instance cuda")
    parser.add_argument(
        "--machine",
        default=IMPORTED,
        metavar="FINGERPRINT",
        help="fingerprint of the machine the runs are from, or 'this' for the one this command runs on "
        "[%(default)s: comparable with other imports only]",
    )
    parser.add_argument(
        "--as",
        dest="id",
        metavar="ID",
        help="id of the results instead of one made of the file's name; several files or folders of one setting are then "
        "launches of one result",
    )
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="FIELD",
        help="metadata (vllm bench serve --metadata FIELD=VALUE) that tells settings apart, repeatable; all other is for "
        "the record, and runs that differ in it only are of one setting",
    )
    parser.add_argument("--save", metavar="NAME", help="keep the results as a baseline of this name")
    parser.add_argument(
        "--approve", action="store_true", help="mark the baseline as approved; without --save its name is main"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why; recorded in the baseline (needed with --approve)")
    output.add_store(parser)
    output.add_json(parser)
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text[:20]!r}") from None


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or that of saving (``output.code_of``)."""
    if args.approve and not (args.reason or "").strip():
        raise InvalidInput('say why with --reason "…": it is recorded in the baseline that --approve makes')
    from pytest_slmperf.util import files

    _check_targets(args)
    results, skipped, notes = _results(args)
    output.write_file(args.output, _encoded(results), files.RESULTS)
    if args.csv is not None:
        output.write_file(args.csv, _csv(results.results).encode())
    lines, code = _keep(args, results) if args.save is not None or args.approve else ([], 0)
    for line in skipped:
        output.complain(f"skipped: {line}")
    points = sum(len(result.points) for result in results.results)
    if args.json:
        summary = {"results": str(args.output), "tests": len(results.results), "points": points}
        output.print_json(summary | {"skipped": skipped, "notes": notes + lines})
        return code
    output.say(
        f"{args.output}: {counted(len(results.results), 'result')}"
        + (f", {counted(points, 'sweep point')}" if points else "")
    )
    for line in [f"note: {note}" for note in notes] + lines:
        output.say(line)
    return code


def _check_targets(args: argparse.Namespace) -> None:
    """Raise InvalidInput before anything is written if the baseline's name is invalid, or if the table would replace a file
    that this import reads or writes."""
    if args.save is not None:
        from pytest_slmperf.baselines.store import check_name

        check_name(args.save)
    if args.csv is None:
        return
    taken = next((path for path in (args.output, *args.sources) if path.resolve() == args.csv.resolve()), None)
    if taken is not None:
        what = "the results file" if taken == args.output else "an input"
        raise InvalidInput(f"--csv {args.csv}: is {what} of this import; give the table a name of its own")


def _keep(args: argparse.Namespace, results: Results) -> tuple[list[str], int]:
    """Save the results as a baseline. Returns lines on what changes and on what it is comparable with, and the exit code."""
    from datetime import UTC, datetime

    from pytest_slmperf.baselines.approve import save_all

    store, name = output.open_store(args.baselines), args.save or "main"
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    changes = save_all(store, results, name, reason=args.reason, approved_at=now if args.approve else None)
    lines = [line for change in changes for line in change.lines()]
    saved = sum(change.action != "refused" for change in changes)
    lines.append(f"{saved} of {len(changes)} {'approved' if args.approve else 'saved'} as {name!r} in {store}")
    unknown = [
        f"{what} (--{option})"
        for what, option, value in (
            ("the machine", "machine", args.machine if args.machine != IMPORTED else "unknown"),
            ("the device", "device", args.device),
            ("the engine's version", "engine-version", args.engine_version),
        )
        if value == "unknown"
    ]
    if unknown:
        lines.append(f"not known: {', '.join(unknown)}; comparable only with imports of which the same is said")
    return lines, output.code_of(changes)


def _results(args: argparse.Namespace) -> tuple[Results, list[str], list[str]]:
    """The results, a line for each thing that was left out, and the notes for the reader."""
    from pytest_slmperf.contrib.importers.axis import Axis, axis_of
    from pytest_slmperf.contrib.importers.combinations import (
        Given,
        distinct,
        metadata,
        named_by_setting,
        of_one_length,
        of_one_work,
        with_settings,
    )
    from pytest_slmperf.contrib.importers.files import combinations_of
    from pytest_slmperf.contrib.importers.result import Origin, Shape, cautions, result_of
    from pytest_slmperf.contrib.importers.session import results_of
    from pytest_slmperf.contrib.importers.sweep import sweep_result

    for name in ("batch", "input_len", "output_len"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InvalidInput(f"--{name.replace('_', '-')} must be a positive whole number, not {value}")
    shape = Shape(args.batch, args.input_len, args.output_len)
    origin = Origin(version=args.engine_version, weights=args.weights, device=args.device)
    skipped: list[str] = []
    given, repeated = distinct([Given(str(path), combinations_of(path, skipped)) for path in args.sources])
    for number, source in enumerate(given):
        checked = [of_one_work(setting) for setting in source.combinations]
        given[number] = Given(source.path, [setting for setting, _ in checked])
        skipped += [line for _, left in checked for line in left]
    if args.id is None:
        given = _apart(given)
    runs = [run for setting in given for run in setting.runs]
    results: list[Result] = []
    notes: list[str] = []
    _check_asked(runs)
    _check_by(args.by, runs)
    for name, folder, every, combinations in _named(given, args.id, args.by):
        settings = named_by_setting(with_settings(of_one_length(combinations), args.by))
        _check_formats(name, settings)
        notes += [
            f"{name}: {field} ({some(values)}) is metadata, and tells no settings apart; --by {field} does"
            for field, values in metadata(every, args.by).items()
        ]
        results += [result_of(setting, shape=shape, origin=origin) for setting in settings]
        notes += [f"{name}: {note}" for note in cautions(settings, shape)]
        axis = axis_of(settings) if folder and len(settings) > 1 else ""
        if isinstance(axis, Axis):
            sweep = sweep_result(name, axis, shape=shape, origin=origin)
            results.append(sweep)
            notes += [f"{name}: {note}" for note in sweep.notes[1:]]
        elif axis:
            notes.append(f"{name}: no sweep: {axis}")
    if args.id is not None:
        _rename(results, args.id, apart=bool(args.by) or any(run.names for run in runs))
    _check_distinct(results, args.sources)
    return results_of(results, runs, _machine(args.machine)), skipped + repeated, notes


def _check_formats(name: str, combinations: Sequence[Combination]) -> None:
    """Raise InvalidInput if one name would hold results of two tools."""
    first = combinations[0].runs[0]
    other = next((run for setting in combinations for run in setting.every if run.format != first.format), None)
    if other is not None:
        raise InvalidInput(
            f"{name}: {other.file} is of {other.format} and {first.file} of {first.format}; import each format apart"
        )


def _check_by(fields: Sequence[str], runs: Sequence[Run]) -> None:
    from pytest_slmperf.contrib.importers.combinations import is_setting

    for field in fields:
        having = [run for run in runs if field in run.scalars or field in run.fields]
        if not having:
            raise InvalidInput(
                f"--by {field!r}: no run has that field; it is given to vllm bench serve with --metadata"
            )
        if not all(is_setting(field, run) for run in having):
            raise InvalidInput(
                f"--by {field!r}: is what a run measures, not a setting; name a field given with --metadata"
            )


def some(values: Sequence[str], most: int = 4) -> str:
    """The first ``most`` values as text, and the number of the others."""
    more = f", {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _named(
    given: Sequence[Given], name: str | None, by: Sequence[str]
) -> Iterator[tuple[str, bool, Sequence[Combination], Sequence[Combination]]]:
    """For each source, or for all sources together if ``name`` is given: the name, whether it may be a sweep, the settings
    as they were found, and the settings with equal ones merged."""
    from pytest_slmperf.contrib.importers.combinations import as_launches
    from pytest_slmperf.contrib.importers.files import name_of

    if name is not None:
        every = [setting for source in given for setting in source.combinations]
        yield name, True, every, as_launches([source.combinations for source in given], by)
        return
    for source in given:
        path = Path(source.path)
        yield name_of(path), path.is_dir(), source.combinations, source.combinations


def _machine(fingerprint: str) -> Machine:
    from pytest_slmperf.environment.fingerprint import describe_machine
    from pytest_slmperf.model.result import Machine

    return describe_machine() if fingerprint == THIS else Machine(fingerprint=fingerprint)


def _rename(results: list[Result], name: str, apart: bool) -> None:
    """Give ``name`` to the sweep or to the only result; the ids of other results begin with it.

    ``apart``: results are distinguished by a setting, so that a setting imported alone keeps the id that it has among
    others.
    """
    if not name.strip():
        raise InvalidInput("--as needs a name that is not empty")
    for result in results:
        alone = (len(results) == 1 and not apart) or result.scenario["kind"] == "sweep"
        result.id = name if alone else f"{name}::{result.id.partition('::')[2]}"


def _check_asked(runs: Sequence[Run]) -> None:
    """Raise InvalidInput if a load cannot have been asked for: an import of it could not be compared with anything."""
    for run in runs:
        for name in ("max_concurrency", "request_rate", "input_len", "output_len"):
            value = run.work.get(name)
            if isinstance(value, int | float) and value < 0:
                raise InvalidInput(f"{run.file}: {name} is {value}, and must not be negative")


def _check_distinct(results: Sequence[Result], sources: Sequence[Path]) -> None:
    """Raise InvalidInput if two results of different files would have one id."""
    seen: set[str] = set()
    for result in results:
        if result.id in seen:
            raise InvalidInput(
                f"{some([str(path) for path in sources])}: two of the results have the id {result.id!r}; --as ID makes "
                "them launches of one result"
            )
        seen.add(result.id)


def _apart(given: Sequence[Given]) -> list[Given]:
    """The sources; settings whose name occurs in several files get the file's folder in front of it."""
    from pytest_slmperf.contrib.importers.combinations import Given

    counts = Counter(setting.name for source in given for setting in source.combinations)
    twice = {name for name, count in counts.items() if count > 1}
    apart = []
    for source in given:
        folder = str(Path(source.path).parent)
        named = [
            replace(setting, name=f"{folder}/{setting.name}") if setting.name in twice else setting
            for setting in source.combinations
        ]
        apart.append(Given(source.path, named))
    return apart


def _encoded(results: Results) -> bytes:
    from pytest_slmperf.model.results_file import encode

    return encode(results)


def _csv(results: list[Result]) -> str:
    """One line per point of every sweep, or per result if there is no sweep: the varied settings, then the measured
    values."""
    rows = [
        {result.scenario["key"]: record["key"], **record["settings"], **_numbers(record)}
        for result in results
        for record in result.points
    ] or [
        {"result": result.id, **settings, **_read(result)}
        for result, settings in zip(results, _varied(results), strict=True)
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return csv_table([names, *([row.get(name) for name in names] for row in rows)])


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "key" and isinstance(value, int | float)}


def _varied(results: list[Result]) -> list[dict[str, Any]]:
    """For each result, the parameters of its scenario that differ between the results."""
    names = dict.fromkeys(name for result in results for name in result.scenario)
    varied = [name for name in names if len({repr(result.scenario.get(name)) for result in results}) > 1]
    return [{name: result.scenario[name] for name in varied if name in result.scenario} for result in results]


def _read(result: Result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items() if metric.value is not None}
