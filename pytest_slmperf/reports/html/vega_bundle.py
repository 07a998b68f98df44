"""The Vega libraries as one piece of JavaScript, taken from vl-convert (the ``report`` extra)."""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

EXPORT = "window.vegaEmbed = vegaEmbed;"


@cache
def javascript() -> str | None:
    """The source that defines ``vegaEmbed`` on ``window``; None where vl-convert is not installed.

    Bundling takes about a second, so the result is kept in the user's cache folder, one file a vl-convert version.
    """
    try:
        import vl_convert
    except ImportError:
        return None
    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js.gz"
    try:
        source = gzip.decompress(kept.read_bytes()).decode()
        if source.endswith(EXPORT_MARK):
            return source
    except (OSError, EOFError, ValueError, zlib.error):
        pass  # not there yet, or damaged: made anew
    source = f"(() => {{{vl_convert.javascript_bundle(EXPORT)}}})();{EXPORT_MARK}"
    _keep(kept, gzip.compress(source.encode(), mtime=0))
    return source


EXPORT_MARK = "/* vegaEmbed */"  # last of the file, so that a cut one is seen


def cache_folder() -> Path:
    """Where things that can be made anew are kept: ``$XDG_CACHE_HOME/pytest-slmperf``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "pytest-slmperf"


def _keep(path: Path, data: bytes) -> None:
    # A cache that cannot be written costs a second, never the report.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
