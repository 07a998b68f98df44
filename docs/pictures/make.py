"""Draw the pictures of the documentation anew: python docs/pictures/make.py

A repository of its own, the simulated engine with some noise, a baseline, then the same suite with every step of the
engine 12 % slower from 16 requests on.  The report that this run wrote is photographed in Chromium; figures come from
``slmperf``'s own figures.  Nothing is retouched, and the pictures say that the engine is simulated.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUITE = """
import pytest

NOISE = {"noise_round": 0.012, "noise_launch": 0.003, "clock": "virtual"}


@pytest.mark.parametrize("slm_engine", [NOISE], indirect=True, ids=["opt-125m"])
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16, 32, 64])
def test_batch(slm_engine, slmperf, batch):
    slmperf.offline(batch=batch, input_len=64, output_len=64)


@pytest.mark.parametrize("slm_engine", [NOISE], indirect=True, ids=["opt-125m"])
def test_frontier(slm_engine, slmperf):
    slmperf.sweep(batch=[1, 2, 4, 8, 16, 32, 64, 128], input_len=64, output_len=64)
"""
SLOWER = {"SLMPERF_SIMULATED_SLOWDOWN": "0.12", "SLMPERF_SIMULATED_SLOW_MIN_BATCH": "16"}
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "perf_tests",
    "--slmperf",
    "--slmperf-engine",
    "simulated",
    "-p",
    "no:cacheprovider",
]


def run(folder: Path, *command: str, ok: tuple[int, ...] = (0,), **environment: str) -> None:
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode not in ok:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")


def measured(folder: Path) -> Path:
    """The folder's report after a baseline and a slower run, each on a commit of its own."""
    git = ["git", "-c", "user.name=docs", "-c", "user.email=docs@example.org"]
    (folder / "perf_tests").mkdir()
    (folder / "perf_tests" / "test_chat.py").write_text(SUITE)
    run(folder, "git", "init", "-q")
    run(folder, *git, "add", "perf_tests")
    run(folder, *git, "commit", "-q", "-m", "Add the suite")
    run(folder, *PYTEST, "--slmperf-approve", "--slmperf-max-time", "400")
    run(folder, *git, "add", "baselines")
    run(folder, *git, "commit", "-q", "-m", "Approve")
    run(folder, *PYTEST, "--slmperf-max-time", "400", ok=(0, 1), **SLOWER)
    return folder / ".slmperf" / "report.html"


def shoot(report: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("SLMPERF_CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = opened(browser, report)
        page.screenshot(path=HERE / "report-top.png")
        section = open_test(page, "test_batch[64")
        section.screenshot(path=HERE / "report-test.png")
        page = opened(browser, report)
        open_test(page, "test_frontier")
        page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        page.screenshot(path=HERE / "report.png", full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": 1460})
        family = page.locator("details.family").first
        draw(family)
        family.screenshot(path=HERE / "report-batch.png")
        page = opened(browser, report, color_scheme="dark")
        open_test(page, "test_frontier").locator(".chart").first.screenshot(path=HERE / "report-frontier-dark.png")
        opened(browser, report, width=400).screenshot(path=HERE / "report-narrow.png")
        browser.close()


def opened(browser: Any, report: Path, width: int = 1280, **options: Any) -> Any:
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page


def open_test(page: Any, name: str) -> Any:
    test = page.locator("tbody.test", has=page.locator(".name", has_text=name)).first
    test.locator(".open").click()
    draw(test)
    return test


def draw(holder: Any) -> None:
    holder.locator(".canvas").first.wait_for()
    for place in holder.locator(".canvas").all():
        place.evaluate("place => place.scrollIntoView({block: 'center', behavior: 'instant'})")
        place.locator("svg").first.wait_for()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = measured(Path(folder))
        shoot(report)
        shutil.copy(report.with_name("results.json"), sys.argv[1]) if len(sys.argv) > 1 else None


if __name__ == "__main__":
    main()
