"""tox, without running: every environment named must be in tox.ini, with a description."""

import configparser
import os
import sys
from pathlib import Path

settings = configparser.ConfigParser(interpolation=None)
settings.read(Path(os.environ["SLMPERF_DOCS_ROOT"], "tox.ini"))
if sys.argv[1:3] != ["run", "-e"]:
    sys.exit(f"tox: the page asks for {sys.argv[1:]}")
for name in sys.argv[3].split(","):
    if not settings.has_option(f"testenv:{name}", "description"):
        sys.exit(f"tox: tox.ini has no environment {name!r}")
