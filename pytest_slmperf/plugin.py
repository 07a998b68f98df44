"""The plugin's former place, kept for one release: ``-p pytest_slmperf.plugin`` may stand in users' ini files."""

import sys

from pytest_slmperf.pytest_plugin import plugin

sys.modules[__name__] = plugin
