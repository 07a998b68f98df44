"""A file that was asked for by name may be a link, a pipe or a device: none of them is taken away."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pytest_slmperf.errors import BaselineError
from pytest_slmperf.util import files


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    data = b"x" * 200_000  # more than a pipe holds
    while not got:
        try:
            files.replace(pipe, data)
            break
        except BaselineError:  # the reader has not opened it yet
            continue
    reader.join(10)
    assert got == [data]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_an_error_and_no_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BaselineError, match="pipe: cannot be written"):
        files.replace(tmp_path / "pipe", b"x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device nodes, and only root could replace one")
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    node = tmp_path / "null"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    files.replace(node, b"x")
    assert stat.S_ISCHR(node.stat().st_mode)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "results.json"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link = tmp_path / "results.json"
    link.symlink_to(target)
    files.replace(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(BaselineError, match="a link that leads to no file"):
        files.replace(loop, b"x")
