"""Sphinx configuration. `tox run -e docs` builds the site with warnings as errors."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pytest-slmperf"
author = copyright = "The pytest-slmperf developers"
version = release = installed("pytest-slmperf")

extensions = ["myst_parser", "slmperf_gallery", "slmperf_reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_ext", "Thumbs.db"]
myst_enable_extensions = ["deflist", "colon_fence"]
smartquotes = False  # --option must stay what a reader can copy
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "pytest-slmperf"
html_copy_source = False
html_show_sphinx = False
