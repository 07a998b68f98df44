"""A throw-away repository and the environment that a runner would give a step in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from support import fakehub

ROOT = Path(__file__).parents[2]


def git(*arguments: str, cwd: Path) -> str:
    """Plain git without the developer's own configuration, which may sign, template or rename."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "tester",
        "GIT_AUTHOR_EMAIL": "tester@localhost",
        "GIT_COMMITTER_NAME": "tester",
        "GIT_COMMITTER_EMAIL": "tester@localhost",
    }
    done = subprocess.run(["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Project:
    """A throw-away repository with its "GitHub" (a folder of bare repositories) beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.remote = folder / "hub" / "someone" / "project.git"
        self.remote.mkdir(parents=True)
        git("init", "-q", "--bare", "-b", "main", cwd=self.remote)
        git("clone", "-q", self.remote.as_uri(), str(self.workspace), cwd=folder)
        git("checkout", "-q", "-b", "main", cwd=self.workspace)

    def commit(self, files: dict[str, str], branch: str = "main") -> None:
        if branch != git("branch", "--show-current", cwd=self.workspace).strip():
            git("checkout", "-q", "-B", branch, cwd=self.workspace)
        for name, text in files.items():
            path = self.workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git("add", "--all", cwd=self.workspace)
        git("commit", "-q", "-m", "change", cwd=self.workspace)
        git("push", "-q", "origin", branch, cwd=self.workspace)

    def environment(
        self, hub: fakehub.Hub, pull_request: int | None = None, branch: str = "main", name: str = "push"
    ) -> dict[str, str]:
        """What a runner sets for a push to ``branch``, for a schedule, or for a pull request."""
        # the event of a schedule holds nothing of the repository
        event: dict[str, object] = {} if name == "schedule" else {"repository": {"default_branch": "main"}}
        if pull_request is not None:
            event["pull_request"] = {"number": pull_request}
        path = self.folder / "event.json"
        path.write_text(json.dumps(event))
        return {
            "GITHUB_SERVER_URL": (self.folder / "hub").as_uri(),
            "GITHUB_API_URL": hub.url,
            "GITHUB_REPOSITORY": "someone/project",
            "GITHUB_EVENT_PATH": str(path),
            "GITHUB_EVENT_NAME": name if pull_request is None else "pull_request",
            "GITHUB_REF": f"refs/heads/{branch}" if pull_request is None else f"refs/pull/{pull_request}/merge",
            "GITHUB_SHA": git("rev-parse", "HEAD", cwd=self.workspace).strip(),
            "GITHUB_RUN_ID": "1",
            "GITHUB_BASE_REF": "" if pull_request is None else "main",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }

    def stored(self, branch: str = "slmperf-baselines") -> list[str]:
        """The files of the baseline branch on the remote; empty when there is no such branch."""
        if not git("branch", "--list", branch, cwd=self.remote).strip():
            return []
        return git("ls-tree", "-r", "--name-only", branch, cwd=self.remote).split()


def step(script: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one script of the action with nothing but the environment a runner would give it."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith(("GITHUB", "SLMPERF"))}
    return subprocess.run(
        [sys.executable, str(ROOT / ".github" / "action" / script)],
        cwd=cwd,
        env={**kept, "GITHUB_ACTION_PATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def wheel(folder: Path, version: str, pause_s: float, name: str = "tiny") -> Path:
    """A wheel of a package of one module, an engine that pauses for every token."""
    folder.mkdir(exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\nPAUSE_S = {pause_s}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path
