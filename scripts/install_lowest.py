"""Install the lowest version of every direct dependency that pyproject.toml allows, so that tests check the bounds.

Run it inside the environment to change.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Bounds of test tools are not promises to users, and extras are too big for this environment.
BOUND = re.compile(r"^([A-Za-z0-9._-]+)>=([0-9.]+)$")


def lowest(requirement: str) -> str:
    """``scipy>=1.13`` → ``scipy==1.13.*``: the last patch of the oldest allowed series."""
    bound = BOUND.match(requirement)
    if bound is None:
        sys.exit(f"pyproject.toml: {requirement!r} has no single lower bound, so it cannot be tested")
    return f"{bound[1]}=={bound[2]}.*"


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = [lowest(requirement) for requirement in project["dependencies"]]
    print(" ".join(pinned), flush=True)
    return subprocess.run([sys.executable, "-m", "pip", "install", "-q", *pinned]).returncode


if __name__ == "__main__":
    sys.exit(main())
