"""Where the action keeps baselines between runs: a branch of their own, or an artifact of the default branch."""

from __future__ import annotations

import io
import shutil
import urllib.error
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import github


def checkout_branch(branch: str, into: Path) -> bool:
    """Check the baseline branch out into an empty folder; False (and an unborn branch) where it does not exist yet."""
    into.mkdir(parents=True)
    github.git("init", "-q", cwd=into)
    url = github.repository_url()
    found = github.git("ls-remote", "--exit-code", "--heads", url, f"refs/heads/{branch}", cwd=into, check=False)
    if (
        found.returncode == 2
    ):  # git's word for "no such ref"; anything else is a failure and must not read as "no baseline"
        github.git("symbolic-ref", "HEAD", f"refs/heads/{branch}", cwd=into)
        return False
    if found.returncode:
        github.fail(f"the baseline branch {branch} cannot be read: {found.stderr.strip()}")
    github.git("fetch", "-q", "--depth=1", url, f"refs/heads/{branch}", cwd=into)
    github.git("checkout", "-q", "-B", branch, "FETCH_HEAD", cwd=into)
    return True


def copy_files(source: Path, target: Path) -> int:
    """Copy the plain files below ``source``; links are left out, since they could point anywhere."""
    count = 0
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if ".git" in relative.parts or path.is_symlink() or not path.is_file():
            continue
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / relative)
        count += 1
    return count


def newest_artifact(name: str) -> int | None:
    """Id of the newest unexpired artifact of that name made by the default branch of this very repository.

    A pull request from a fork can upload an artifact of any name, so the run that made it is checked.
    """
    repository = github.value("GITHUB_REPOSITORY")
    branch = github.default_branch()
    found = github.api(f"/repos/{repository}/actions/artifacts?per_page=100&name={quote(name)}")
    own = [
        artifact
        for artifact in found["artifacts"]
        if not artifact["expired"]
        and artifact["workflow_run"]["head_branch"] == branch
        and artifact["workflow_run"]["head_repository_id"] == artifact["workflow_run"]["repository_id"]
    ]
    return max(own, key=lambda artifact: artifact["created_at"])["id"] if own else None


def unpack(data: bytes, into: Path) -> int:
    """Unpack an artifact: plain files with relative names only, within ``github.MAX_BYTES``."""
    try:
        return _unpacked(data, into)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        github.fail(f"the baseline artifact is no archive that can be unpacked ({error}); delete it, or store it anew")
    except OSError as error:
        github.fail(f"the baseline artifact cannot be unpacked below {into}: {error}")


def _unpacked(data: bytes, into: Path) -> int:
    count = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > github.MAX_BYTES:
            github.fail(
                f"the baseline artifact unpacks to more than {github.MAX_BYTES // 2**20} MiB; it was left alone"
            )
        for member in archive.infolist():
            name = PurePosixPath(member.filename)
            if member.is_dir():
                continue
            if name.is_absolute() or ".." in name.parts:
                github.fail(f"the baseline artifact holds the name {member.filename!r}; it was left alone")
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(archive.read(member))
            count += 1
    return count


def download_artifact(name: str, into: Path) -> int | None:
    """Unpack the newest baseline artifact; None where there is none."""
    try:
        found = newest_artifact(name)
        if found is None:
            return None
        data = github.api(f"/repos/{github.value('GITHUB_REPOSITORY')}/actions/artifacts/{found}/zip", raw=True)
    except urllib.error.URLError as error:
        github.fail(f"the baseline artifact {name} cannot be read: {error}; the job needs actions: read")
    return unpack(data, into)
