"""``python -m pytest_slmperf.cli``: the ``slmperf`` command."""

import sys

from pytest_slmperf.cli.main import main

sys.exit(main())
