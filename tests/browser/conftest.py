"""Chromium with the network off, opening reports from ``file:`` URLs.

``SLMPERF_CHROMIUM`` names the browser; otherwise Debian's or the one on the PATH is taken.  Without a browser the tests
are skipped, and with ``SLMPERF_BROWSER=required`` (set in CI) they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.sample_results import hostile_results, sample_results

from pytest_slmperf.model.result import Results
from pytest_slmperf.reports.html.report import write_report

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def missing(what: str) -> None:
    if os.environ.get("SLMPERF_BROWSER") == "required":
        pytest.fail(f"{what}, and SLMPERF_BROWSER=required")
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("SLMPERF_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing("no Chromium on the PATH; name one in SLMPERF_CHROMIUM")
    assert path is not None
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (dependency group test)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe() -> Any:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("axe-playwright-python is not installed (dependency group test)")
    return Axe()


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


def written(folder: Path, name: str, make: Callable[[], Results]) -> Path:
    path = folder / f"{name}.html"
    write_report(make(), path)
    return path


@pytest.fixture(scope="session")
def gallery(report_folder: Path) -> Path:
    pytest.importorskip("vl_convert")
    return written(report_folder, "gallery", sample_results)


@pytest.fixture(scope="session")
def hostile(report_folder: Path) -> Path:
    pytest.importorskip("vl_convert")
    return written(report_folder, "hostile", hostile_results)


@pytest.fixture(scope="session")
def many(report_folder: Path) -> Path:
    pytest.importorskip("vl_convert")
    return written(report_folder, "many", lambda: sample_results(500))


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition; the page's policy forbids the evaluation that Playwright's own waiting needs."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < end, "the page did not get there in 15 s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def draw_all() -> Callable[[Any, Any], int]:
    """Scrolls each chart of a part of the page into view until it is drawn; returns how many there are."""

    def draw(page: Any, holder: Any) -> int:
        places = holder.locator(".canvas").all()
        for place in places:
            place.evaluate("place => place.scrollIntoView({block: 'center', behavior: 'instant'})")
            place.locator("svg").first.wait_for()
        return len(places)

    return draw


@pytest.fixture
def headless(chromium: str, tmp_path: Path) -> Callable[..., str]:
    """Runs Chromium from the command line, as a CI job does that keeps a picture; returns what it writes to stdout."""

    def run(*arguments: str) -> str:
        command = [chromium, "--headless", *ARGUMENTS, f"--user-data-dir={tmp_path}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return run


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a report in a fresh, offline browser context; a request, console message or script error fails the test."""
    contexts: list[Any] = []
    problems: list[str] = []

    def refuse(dialog: Any) -> None:
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def watch(request: Any) -> None:
        if not request.url.startswith("file:"):
            problems.append(f"request: {request.url}")

    def open_(path: Path, *, width: int = 1280, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", refuse)
        page.on("request", watch)
        page.goto(path.as_uri() + fragment)
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []
