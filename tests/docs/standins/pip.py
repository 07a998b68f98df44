"""pip, without installing: every requirement of ours must name extras that exist, every package a known one."""

import os
import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(os.environ["SLMPERF_DOCS_ROOT"], "pyproject.toml").read_text())["project"]
OTHERS = {"tox", "vllm", "torchvision", "torchaudio", "torchcodec"}

words = [word for word in sys.argv[2:] if not word.startswith("-")]
if sys.argv[1] not in ("install", "uninstall") or not words:
    sys.exit(f"pip: the page asks for {sys.argv[1:]}")
for word in words:
    name, _, extras = word.partition("[")
    name = re.split(r"[=<>~!]", name)[0]
    if name == project["name"]:
        unknown = set(filter(None, extras.rstrip("]").split(","))) - set(project["optional-dependencies"])
        if unknown:
            sys.exit(f"pip: {project['name']} has no extra {', '.join(sorted(unknown))}")
    elif name not in OTHERS:
        sys.exit(f"pip: the page installs {word!r}, which tests/docs/standins/pip.py does not know")
