"""Files that are none."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def make_socket(path: Path) -> None:
    """A socket without a listener at ``path``."""
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has 107 characters at most
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)
