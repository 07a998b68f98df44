"""Reading of what others made: files within limits, everything else refused by its name, and nothing waits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.odd_files import make_socket

from pytest_slmperf.errors import BaselineError
from pytest_slmperf.util import read_file

ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "fifo": (os.mkfifo, "is a FIFO"),
    "socket": (make_socket, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "loop": (lambda path: path.symlink_to(path), "a link that leads in a circle"),
    "dangling": (lambda path: path.symlink_to("gone"), "a link to gone, which is not there"),
    "absent": (lambda path: None, "No such file"),
    "long": (lambda path: None, "the name is too long"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 if kind == "long" else "thing.json")
    make, words = ODD[kind]
    make(path)
    for reading in (lambda: read_file.read(path, 100), lambda: read_file.newest_lines(path, 100, 100)):
        with pytest.raises(BaselineError, match=words) as raised:
            reading()
        assert str(path) in str(raised.value)
    assert kind == "long" or read_file.exists(path) is (kind != "absent")


def test_limits_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_file.read(path, 100) == b"x" * 100
    with pytest.raises(BaselineError, match=r"file: 0 MiB is more than the 0 MiB that such a file may have; cut it"):
        read_file.read(path, 99, fix="cut it")
    assert read_file.read(Path("/proc/self/status"), 10**6)  # its size reads as 0
    with pytest.raises(BaselineError, match=r"would have 2\.0 MiB, and no more than 1 MiB can be read again; less"):
        read_file.room("x", 2**21, 2**20, "less")


def test_what_a_shell_hands_over_may_be_a_pipe() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"through a pipe")
    os.close(theirs)
    assert read_file.read(Path(f"/dev/fd/{ours}"), 100) == b"through a pipe"
    os.close(ours)


def test_of_a_long_file_the_newest_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"head\n" + b"".join(b"%04d\n" % number for number in range(1000)) + b"cut")
    assert read_file.newest_lines(path, 10**6, 10)[0] == b"head"
    assert len(read_file.newest_lines(path, 10**6, 10)[1]) == 1001
    head, lines = read_file.newest_lines(path, 20, 10)
    assert (head, lines) == (b"head", [b"0997", b"0998", b"0999", b"cut"])
    with pytest.raises(BaselineError, match="first line is longer"):
        read_file.newest_lines(path, 20, 3)


def test_folders_are_listed_or_named(tmp_path: Path) -> None:
    assert read_file.entries(tmp_path / "absent") == []
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/b/1.json", "a/b/.2.json", "a/b/3.txt", "a/4.json"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "a/b/5.json")
    assert list(read_file.files_below(tmp_path, ".json", 2)) == [tmp_path / "a/b/1.json", tmp_path / "a/b/5.json"]
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(BaselineError, match="a link to gone, which is not there"):
        read_file.is_folder(tmp_path / "link")
    with pytest.raises(BaselineError, match=r"cannot be read \(Not a directory\)"):
        read_file.entries(tmp_path / "a/4.json")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything; tests/faults runs this as another user")
def test_a_missing_right_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o000)
    with pytest.raises(BaselineError, match="no permission"):
        read_file.read(path, 100)
