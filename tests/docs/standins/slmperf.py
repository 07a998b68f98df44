"""The command `slmperf` of the code under test."""

import os
import sys

python = os.environ["SLMPERF_DOCS_PYTHON"]
os.execv(python, [python, "-m", "pytest_slmperf.cli.main", *sys.argv[1:]])
