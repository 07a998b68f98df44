"""The plugin's former place, kept for one release: ``-p pytest_slmperf.plugin`` may be in users' ini files."""

import sys
import warnings

from pytest_slmperf.pytest_plugin import plugin

warnings.warn(
    "pytest_slmperf.plugin is now pytest_slmperf.pytest_plugin.plugin; pytest loads it without -p where it is installed",
    DeprecationWarning,
    stacklevel=2,
)
sys.modules[__name__] = plugin
