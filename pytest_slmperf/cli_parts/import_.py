"""``slmperf import``: result JSON of ``vllm bench`` and folders of ``vllm bench sweep`` as a results file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_slmperf.errors import InvalidInput, SlmperfError

if TYPE_CHECKING:
    from pytest_slmperf.importers.vllm_bench import Combination
    from pytest_slmperf.record import Result

USAGE = 4
IMPORTED = "imported"  # fingerprint of a machine nobody named: comparable with nothing but other imports


def add_parser(subparsers: Any) -> None:
    """Add ``import`` to the subcommands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "import",
        help="turn vllm bench result files into a results file",
        description=(
            "Reads result JSON of vllm bench latency, throughput and serve (also --append-result files) and experiment "
            "folders of vllm bench sweep, and writes a results file that slmperf compare, report and frontier read."
        ),
        epilog="Exit codes: 0 done, 4 wrong usage or a file that cannot be read.",
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="FILE|FOLDER")
    parser.add_argument("-o", "--output", type=Path, default=Path("results.json"), metavar="PATH", help="[%(default)s]")
    parser.add_argument("--csv", type=Path, metavar="PATH", help="also write one line per point, for slmperf frontier")
    parser.add_argument("--batch", type=int, metavar="N", help="batch size of a latency run (its file does not say)")
    parser.add_argument("--input-len", type=int, metavar="N", help="prompt tokens per request")
    parser.add_argument(
        "--output-len", type=int, metavar="N", help="output tokens per request of a latency or throughput run"
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
        help="fingerprint of the machine the runs are from [%(default)s: comparable with other imports only]",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or 4 with one line on standard error."""
    try:
        results, skipped = _results(args)
        _write(args, results)
    except SlmperfError as error:
        print(f"slmperf import: {error}", file=sys.stderr)
        return USAGE
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    points = sum(len(result.points) for result in results)
    print(f"{args.output}: {len(results)} results" + (f", {points} sweep points" if points else ""))
    return 0


def _results(args: argparse.Namespace) -> tuple[list[Result], list[str]]:
    from pytest_slmperf.importers.vllm_bench import Origin, Shape, result_of, sweep_result, with_settings

    for name in ("batch", "input_len", "output_len"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InvalidInput(f"--{name.replace('_', '-')} must be a positive whole number, not {value}")
    shape = Shape(args.batch, args.input_len, args.output_len)
    origin = Origin(version=args.engine_version, weights=args.weights, device=args.device)
    results: list[Result] = []
    skipped: list[str] = []
    for source in args.sources:
        found = with_settings(_folder(source, skipped) if source.is_dir() else _file(source))
        results += [result_of(one, shape=shape, origin=origin) for one in found]
        sweep = sweep_result(source.name, found, shape=shape, origin=origin) if source.is_dir() else None
        if sweep is not None:
            results.append(sweep)
    _distinct(results)
    return results, skipped


def _file(path: Path) -> list[Combination]:
    """One combination per run of a file; the file holds one JSON object, a list of them, or one per line."""
    from pytest_slmperf.importers.vllm_bench import Combination

    runs = _runs(path)
    name = path.name.removesuffix(".json")
    return [Combination(name if len(runs) == 1 else f"{name}#{number}", [run]) for number, run in enumerate(runs)]


def _folder(folder: Path, skipped: list[str]) -> list[Combination]:
    """One combination per subfolder of runs, as vllm bench sweep lays them out; else one per result file in the folder."""
    from pytest_slmperf.importers.vllm_bench import Combination

    groups: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name.endswith("failure.json"):
            skipped.append(f"{path}: the run failed")
        elif path.name.startswith("run="):
            groups.setdefault(path.parent, []).append(path)
    if groups:
        return [
            Combination(str(parent.relative_to(folder)) if parent != folder else folder.name, _pooled(paths))
            for parent, paths in sorted(groups.items())
        ]
    plain = [
        path for path in sorted(folder.glob("*.json")) if not path.name.endswith(("failure.json", ".pytorch.json"))
    ]
    if not plain:
        raise InvalidInput(f"{folder}: no result file of vllm bench in it (no run=N.json below it, no *.json in it)")
    return [one for path in plain for one in _file(path)]


def _pooled(paths: list[Path]) -> list[dict[str, Any]]:
    ordered = sorted(paths, key=lambda path: (len(path.name), path.name))
    return [run for path in ordered for run in _runs(path)]


def _runs(path: Path) -> list[dict[str, Any]]:
    from pytest_slmperf.record import read_bytes

    text = read_bytes(path).decode("utf-8", errors="replace")
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError as error:
        try:
            loaded = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise InvalidInput(f"{path}: not valid JSON, perhaps cut short ({error})") from error
    runs = loaded if isinstance(loaded, list) else [loaded]
    if not runs or not all(isinstance(run, dict) for run in runs):
        raise InvalidInput(f"{path}: holds no result object of vllm bench")
    return runs


def _distinct(results: list[Result]) -> None:
    seen: set[str] = set()
    for result in results:
        name, number = result.id, 1
        while result.id in seen:
            number += 1
            result.id = f"{name} ({number})"
        seen.add(result.id)


def _write(args: argparse.Namespace, results: list[Result]) -> None:
    from datetime import UTC, datetime
    from importlib.metadata import version

    from pytest_slmperf.record import Machine, Results, Session, encode

    now = datetime.now(UTC)
    session = Session(
        id=f"import-{now:%Y%m%dT%H%M%S}",
        started_at=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        plugin_version=version("pytest-slmperf"),
        notes=["imported from vllm bench; measured outside this plugin, without its contamination checks"],
    )
    data = encode(Results(session=session, machine=Machine(fingerprint=args.machine), results=results))
    _save(args.output, data)
    if args.csv is not None:
        _save(args.csv, _csv(results).encode())


def _csv(results: list[Result]) -> str:
    """One line per point of every sweep, or per result where nothing was swept."""
    import csv
    import io

    rows = [
        {result.scenario["key"]: record["key"], **_numbers(record)} for result in results for record in result.points
    ] or [
        {
            "result": result.id,
            **{name: metric.value for name, metric in result.metrics.items() if metric.value is not None},
        }
        for result in results
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name != "key" and isinstance(value, int | float)}


def _save(path: Path, data: bytes) -> None:
    import os
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror or error})") from error
