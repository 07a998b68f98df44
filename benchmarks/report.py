"""The weight of the HTML report: size, write time and time to interactive at 10, 100, 500 and 5,000 tests.

    python benchmarks/report.py                 the table; needs the report extra, playwright and a Chromium
    python benchmarks/report.py --no-browser    size and write time only
    python benchmarks/report.py --check         exit 1 unless 500 tests stay within 5 MB, 2 s and 1 s

The tests come from the generator of the report's own tests: six launches of eight rounds on each side, two gated metrics,
160 latencies per side, a power trace of 240 points.  "interactive": from the start of navigation until the page's script has
bound every control, the least of five loads of a ``file:`` URL in a fresh context; "÷ empty": relative to the load of an
empty page on the same machine at the same time.  "CPU, s": the processor time of writing, for shared machines.  "÷ JSON":
write time relative to encoding results.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.sample_results import sample_results

from pytest_slmperf.model.results_file import encode
from pytest_slmperf.reports.html import static_figures
from pytest_slmperf.reports.html.report import write_report

COUNTS = (10, 100, 500, 5000)
LIMIT_TESTS, LIMIT_MB, LIMIT_WRITE_S, LIMIT_READY_S = 500, 5.0, 2.0, 1.0
LOADS = 5
READY = """performance.getEntriesByName('slmperf-ready')[0]?.startTime
  ?? performance.getEntriesByType('navigation')[0].domInteractive"""


def seconds(action: Callable[[], Any], times: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    """Least time of several runs, the best estimate of the time on an idle machine."""
    taken = []
    for _ in range(times):
        start = clock()
        action()
        taken.append(clock() - start)
    return min(taken)


def ready_seconds(browser: Any, path: Path) -> float:
    """Least time from the start of navigation until the page is interactive."""
    taken = []
    for _ in range(LOADS):
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(path.as_uri())
        taken.append(page.evaluate(READY) / 1000)
        context.close()
    return min(taken)


def open_seconds(browser: Any, path: Path) -> float:
    """Seconds from the click on an unremarkable test (packed on a crowded page) until its first chart is drawn."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    test = page.locator("tbody.test[data-outcome=same]").first
    if page.locator("#unfold").count():
        page.locator("#search").fill(test.locator(".name").text_content())  # a very long page shows it only in a search
    test.locator(".open").wait_for()
    start = time.perf_counter()
    test.locator(".open").click()
    place = test.locator(".canvas").first
    place.scroll_into_view_if_needed()
    place.locator("svg").first.wait_for()
    taken = time.perf_counter() - start
    context.close()
    return taken


def row(count: int, folder: Path, browser: Any) -> dict[str, float | None]:
    results = sample_results(count)
    path = folder / f"{count}.html"
    write = seconds(lambda: write_report(results, path))
    found: dict[str, float | None] = {
        "tests": count,
        "size, MB": path.stat().st_size / 1e6,
        "KB a test": path.stat().st_size / 1e3 / count,
        "write, s": write,
        "CPU, s": seconds(lambda: write_report(results, path), clock=time.process_time),
        "÷ JSON": write / seconds(lambda: encode(results)),
        "interactive, s": None,
        "÷ empty": None,
        "open a test, s": None,
    }
    if browser:
        empty = folder / "empty.html"
        empty.write_text("<!doctype html><title>empty</title>")
        found["interactive, s"] = ready_seconds(browser, path)
        found["÷ empty"] = found["interactive, s"] / ready_seconds(browser, empty)
        found["open a test, s"] = open_seconds(browser, path)
    return found


def within(rows: list[dict[str, float | None]]) -> bool:
    measured = next(found for found in rows if found["tests"] == LIMIT_TESTS)
    limits = {"size, MB": LIMIT_MB, "write, s": LIMIT_WRITE_S, "interactive, s": LIMIT_READY_S}
    return all(measured[name] is None or measured[name] <= limit for name, limit in limits.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    arguments = parser.parse_args()
    if arguments.check and LIMIT_TESTS not in arguments.counts:
        parser.error(f"--check needs {LIMIT_TESTS} among --counts")
    first = seconds(static_figures.javascript, 1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.no_browser:
            rows = [row(count, Path(folder), None) for count in arguments.counts]
        else:
            from playwright.sync_api import sync_playwright

            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"),
                    args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
                )
                rows = [row(count, Path(folder), browser) for count in arguments.counts]
                browser.close()
    print(tabulate(rows, headers="keys", floatfmt=".3g", missingval="–"))
    print(f"\nchart library: {first:.2f} s once a process (about a second more when it is not in the user's cache yet)")
    return 1 if arguments.check and not within(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
