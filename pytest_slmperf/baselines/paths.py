"""Safe file names for names that come from outside (test ids may hold anything)."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

_MODULE_LENGTH = 80
_TEST_LENGTH = 60


def slug(text: str, length: int) -> str:
    """``text`` in letters, digits, '.', '_' and '-', at most ``length`` long, never empty and never hidden."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")
    return plain[:length].rstrip("-._") or "test"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def file_for(test_id: str, suffix: str) -> PurePosixPath:
    """``module-slug/test-slug-hash8`` + suffix. The hash is of the whole id, so two tests never share a file."""
    module, _, test = test_id.partition("::")
    if not test:
        module, test = "tests", module
    folder = slug(module.removesuffix(".py").replace("/", "."), _MODULE_LENGTH)
    return PurePosixPath(folder) / f"{slug(test, _TEST_LENGTH)}-{short_hash(test_id)}{suffix}"
