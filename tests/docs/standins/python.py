"""python: the one that runs the tests. A virtual environment is made without packages and with a pip that only checks."""

import os
import shutil
import sys
from pathlib import Path

python = os.environ["SLMPERF_DOCS_PYTHON"]
if sys.argv[1:3] == ["-m", "venv"]:
    folder = Path(sys.argv[3], "bin")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("pip", "python"):
        shutil.copy(shutil.which(name), folder / name)
    (folder / "activate").write_text("")
else:
    os.execv(python, [python, *sys.argv[1:]])
