"""Build hook: the README for a package index, where relative links into the repository do not work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_ABSOLUTE = r"(?!https?://|mailto:|#)"
_PICTURE = re.compile(rf"^!\[[^\]]*\]\({_ABSOLUTE}[^)]*\)\n+", re.MULTILINE)
_LINK = re.compile(rf"(?<!!)\[([^\]]+)\]\({_ABSOLUTE}[^)]*\)")
END = "\nThe pages named here are in the source distribution, under `docs/`.\n"


def long_description(readme: str) -> str:
    """The text with plain words in place of relative links, and without relative pictures."""
    return _LINK.sub(r"\1", _PICTURE.sub("", readme)) + END


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": long_description(text)}
