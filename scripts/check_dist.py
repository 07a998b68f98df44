"""Check a freshly built wheel and sdist: required files, forbidden files, and metadata that renders.

Usage: check_dist.py FOLDER. Prints every fault and exits with 1 if there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "pytest_slmperf"
# Files that no import needs, whose absence from a wheel would therefore go unnoticed.
WANTED_IN_WHEEL = (
    r"pytest_slmperf/py\.typed",
    r"pytest_slmperf/pytest_plugin/plugin\.py",
    r"pytest_slmperf/cli/main\.py",
    r"pytest_slmperf/engines/worker/main\.py",
    r"pytest_slmperf/templates/.+\.(html|j2|jinja)",
    r"pytest_slmperf-[^/]+\.dist-info/entry_points\.txt",
    r"pytest_slmperf-[^/]+\.dist-info/licenses/LICENSE",
)
UNWANTED_IN_WHEEL = (r"(^|/)(tests|perf_tests|benchmarks|docs|baselines/[0-9a-z-]+)/.*", r".*\.pyc", r".*__pycache__.*")
WANTED_IN_SDIST = (
    r"pyproject\.toml",
    r"README\.md",
    r"tox\.ini",
    r"tests/.+\.py",
    r"perf_tests/.+\.py",
    r"templates/.+",
    # needed by its own tests and documents
    r"\.ci/run",
    r"\.github/action/.+\.py",
    r"docs/pictures/.+\.png",
)
ROOT = Path(__file__).parents[1]


def data_files() -> list[str]:
    """Every tracked file of the package that is not Python: presets, schemas, tables, templates, charts."""
    command = ["git", "ls-files", PACKAGE, "templates"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    names = [f"{PACKAGE}/{name}" if name.startswith("templates/") else name for name in listed]
    return [re.escape(name) for name in names if not name.endswith(".py")]


def compare(names: list[str], wanted: tuple[str, ...], unwanted: tuple[str, ...], where: str) -> list[str]:
    problems = [f"{where}: lacks {pattern}" for pattern in wanted if not any(re.fullmatch(pattern, n) for n in names)]
    own = [name for name in names if not name.startswith(f"{PACKAGE}/baselines/")]
    problems += [f"{where}: holds {name}" for name in own if any(re.fullmatch(pattern, name) for pattern in unwanted)]
    return problems


def main(folder: Path) -> int:
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        print(f"{folder} must hold one wheel and one sdist, not {len(wheels)} and {len(sdists)}")
        return 1
    with zipfile.ZipFile(wheels[0]) as wheel:
        problems = compare(wheel.namelist(), (*WANTED_IN_WHEEL, *data_files()), UNWANTED_IN_WHEEL, wheels[0].name)
    with tarfile.open(sdists[0]) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
        problems += compare(names, WANTED_IN_SDIST, (), sdists[0].name)
    if subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(wheels[0]), str(sdists[0])]).returncode:
        problems.append("twine check failed")
    for problem in problems:
        print(problem)
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1024:.0f} KiB" for path in (wheels[0], sdists[0]))
    print(sizes)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
