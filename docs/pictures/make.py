"""Draw the pictures of the documentation anew: python docs/pictures/make.py

The reports are made from the results files in ``docs/gallery/data``, which ``docs/gallery/measure.sh`` measures on the
real engine, and photographed in Chromium.  Nothing is retouched.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_slmperf.model.results_file import load_results
from pytest_slmperf.reports.html.report import write_report

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "gallery" / "data"
Open = Callable[..., Any]


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("SLMPERF_CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


def shoot(open_: Open) -> None:
    page = open_("slowed")
    page.screenshot(path=HERE / "report-top.png")
    family = page.locator("details.family").first
    draw(family)
    family.screenshot(path=HERE / "report-batch.png")
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    page.screenshot(path=HERE / "report.png", full_page=True, clip={"x": 0, "y": 0, "width": 1280, "height": 1200})
    open_test(page, "test_batch[32").screenshot(path=HERE / "report-test.png")
    open_("slowed", width=390).screenshot(path=HERE / "report-narrow.png")
    open_("slowed", color_scheme="dark").screenshot(path=HERE / "report-dark.png")
    open_("suite").screenshot(path=HERE / "report-suite.png")
    page = open_("suite", color_scheme="dark")
    open_test(page, "test_frontier").locator(".chart").first.screenshot(path=HERE / "report-frontier-dark.png")


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
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:

        def open_(name: str, width: int = 1280, **options: Any) -> Any:
            report = Path(folder) / f"{name}.html"
            if not report.exists():
                write_report(load_results(DATA / f"{name}.json"), report)
            page = browser.new_context(viewport={"width": width, "height": 860}, offline=True, **options).new_page()
            page.goto(report.as_uri())
            page.wait_for_selector("html[data-ready]")
            return page

        shoot(open_)


if __name__ == "__main__":
    main()
