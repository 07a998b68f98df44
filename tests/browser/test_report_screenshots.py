"""Pictures of the report as a reader meets it; CI keeps them (``SLMPERF_SCREENSHOTS`` names the folder)."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path):
    chosen = Path(os.environ.get("SLMPERF_SCREENSHOTS") or tmp_path)
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def test_pictures_in_every_mode(open_page, gallery, draw_all, folder):
    sizes = {}
    modes = (("light", 1440, "light"), ("dark", 1440, "dark"), ("tablet", 768, "light"), ("narrow", 390, "light"))
    for name, width, scheme in modes:
        page = open_page(gallery, width=width, color_scheme=scheme)
        page.screenshot(path=folder / f"report-{name}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself never scrolls sideways"
        test = page.locator("tbody.test").filter(has=page.locator(".name", has_text="test_batch[256]")).first
        test.locator(".open").click()
        draw_all(page, test)
        test.screenshot(path=folder / f"test-{name}.png")
        sizes[name] = page.evaluate("getComputedStyle(document.querySelector('.banner')).backgroundColor")
    assert sizes["light"] == sizes["narrow"] != sizes["dark"]
    for path in folder.glob("*-light.png"):
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert path.stat().st_size > 50_000, "a picture this small has hardly anything on it"


def test_printed_page_is_a_document(open_page, gallery, folder):
    page = open_page(gallery, color_scheme="dark")
    data = page.pdf(path=folder / "report.pdf", format="A4", print_background=True)
    assert data.startswith(b"%PDF")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
