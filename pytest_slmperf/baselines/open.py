"""From the text of ``--slmperf-baselines DIR|URL`` to the store it names."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_slmperf import redaction
from pytest_slmperf.baselines.store import Store
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.util import read_file

_LIBPQ = re.compile(r"\s*(?:host|hostaddr|port|dbname|user|password|passfile|service|sslmode)\s*=")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def open_store(place: str, relative_to: Path, option: str = "--slmperf-baselines") -> Store:
    """The store at ``place``: a folder, ``sqlite:///PATH`` or ``postgresql://…``; relative paths are below ``relative_to``.

    Nothing is created before the first save. InvalidInput, with ``option``, for a URL of another kind.
    """
    if not place.strip():
        raise InvalidInput(f"{option} is empty: give a folder, sqlite:///PATH or postgresql://HOST/DATABASE")
    scheme = _URL.match(place)
    redaction.remember_address(place)
    if scheme is None:
        if _LIBPQ.match(place):  # never the name of a folder
            raise InvalidInput(
                f"{option}: {redaction.address(place)!r} is the form of libpq; write postgresql://USER@HOST/DATABASE, and "
                "the password into PGPASSWORD"
            )
        if place.startswith(("sqlite:", "postgres:", "postgresql:")):  # never the name of a folder
            raise InvalidInput(f"{option}: {place!r}: write sqlite:///PATH or postgresql://HOST/DATABASE")
        folder = Path(relative_to, place).absolute()
        _check_folder(folder, option)
        return FileStore(folder)
    if scheme[1] == "sqlite":
        from pytest_slmperf.baselines.stores.sql import SqliteStore

        path = Path(relative_to, place.removeprefix("sqlite:///").removeprefix("sqlite://"))
        if path.is_dir():  # other kinds of files, and missing permissions, are reported when it is opened
            raise InvalidInput(f"{option}: {place} names no file ({path} is a folder); write sqlite:///FILE")
        return SqliteStore(path)
    if scheme[1] in ("postgresql", "postgres"):
        from pytest_slmperf.baselines.stores.sql import PostgresStore

        return PostgresStore(place)
    raise InvalidInput(
        f"{option}: {scheme[1]}:// is not known; give a folder, sqlite:///PATH or postgresql://HOST/DATABASE"
    )


def _check_folder(folder: Path, option: str) -> None:
    """InvalidInput for a broken link, and for anything other than a folder. The folder may not exist yet."""
    for link in (folder, *folder.parents):
        if link.is_symlink() and not link.exists():
            raise InvalidInput(
                f"{option}: {link} is a link to {link.readlink()}, which is not there; mend it, or give a folder"
            )
    if read_file.exists(folder) and not read_file.is_folder(folder):
        raise InvalidInput(f"{option}: {folder} is a file; give a folder, or sqlite:///{folder} for a database")
