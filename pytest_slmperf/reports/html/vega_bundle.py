"""The Vega libraries as one piece of JavaScript, taken from vl-convert (the ``report`` extra)."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from functools import cache
from importlib.metadata import version

from pytest_slmperf.errors import BaselineError
from pytest_slmperf.util import atomic_write
from pytest_slmperf.util.cache_dirs import cache_folder

EXPORT = "window.vegaEmbed = vegaEmbed;"


@cache
def javascript() -> str | None:
    """The source that defines ``vegaEmbed`` on ``window``; None where vl-convert is not installed.

    Bundling takes about a second, so the result is kept in the user's cache folder, a file for each version of vl-convert.
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
    with contextlib.suppress(BaselineError):  # a cache that cannot be written costs a second, never the report
        atomic_write.replace(kept, gzip.compress(source.encode(), mtime=0))
    return source


EXPORT_MARK = "/* vegaEmbed */"  # last of the file, so that a cut one is seen
