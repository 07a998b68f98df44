"""The chart library is made once and kept."""

import functools
import gzip

import pytest

from pytest_slmperf.reports.html import static_figures


@pytest.fixture(scope="module")
def bundling():
    """vl-convert's bundling, which takes a second, done once."""
    return functools.cache(pytest.importorskip("vl_convert").javascript_bundle)


@pytest.fixture
def fresh(monkeypatch, tmp_path, bundling):
    monkeypatch.setattr("vl_convert.javascript_bundle", bundling)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    static_figures.javascript.cache_clear()
    yield tmp_path / "cache" / "pytest-slmperf"
    static_figures.javascript.cache_clear()


def test_bundle_is_kept_and_a_damaged_copy_is_made_anew(fresh):
    source = static_figures.javascript()
    assert "vegaEmbed" in source
    [kept] = fresh.iterdir()
    assert gzip.decompress(kept.read_bytes()).decode() == source
    kept.write_bytes(kept.read_bytes()[:1000])
    static_figures.javascript.cache_clear()
    assert static_figures.javascript() == source
    assert gzip.decompress(kept.read_bytes()).decode() == source


def test_a_cache_that_cannot_be_written_costs_no_report(fresh, monkeypatch):
    fresh.parent.write_text("a file where the folder should be")
    assert static_figures.javascript()
