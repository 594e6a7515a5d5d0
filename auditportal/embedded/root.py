"""What has to be done when root runs the portal, because PostgreSQL refuses to run as root.

The server then runs as the system user `pgserver`, or as whoever owns the data already. That user
must be able to pass through every folder above the data and above PostgreSQL's own programs.
"""

import os
import pwd
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from auditportal.embedded import EmbeddedServerError, say
from auditportal.embedded.locks import locked

USER = "pgserver"


def make_way(pgdata: Path, programs: Path) -> None:
    """Makes the folder above `pgdata`, and lets the server's user pass to it and to `programs`.

    Raises EmbeddedServerError where that would open somebody's private home.
    """
    uid, gid = server_ids(pgdata)
    wanted = [*pgdata.parents, programs, *programs.parents]
    for folder in _closed(wanted, uid, gid):
        if _is_home(folder):
            raise EmbeddedServerError(
                f"{folder} is a private home and stays closed, but the database (which cannot run"
                f" as root) would have to pass through it: set AUDITPORTAL_DATA_DIR to a folder"
                f" outside it{'' if folder in pgdata.parents else ', and install the portal there'}"
            )
    pgdata.parent.mkdir(parents=True, exist_ok=True)
    closed = _closed(wanted, uid, gid)
    for folder in closed:
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
    if closed:
        names = ", ".join(map(str, closed))
        say(
            f"runs as the user {name_of(uid)}, so everyone may now pass through (not list): {names}"
        )


def server_ids(pgdata: Path) -> tuple[int, int]:
    """User and group the server runs as: the data's owner, or `pgserver` before there are data."""
    if pgdata.exists():
        return pgdata.stat().st_uid, pgdata.stat().st_gid
    entry = _made_user()
    return entry.pw_uid, entry.pw_gid


def _made_user() -> pwd.struct_passwd:
    """The system user `pgserver`, made where there is none yet.

    One at a time on this machine: useradd looks for the name before it locks the file, so the
    second of two would give the user another number than the first has given files to already.
    """
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER]
    with locked(Path("/etc")):
        try:
            return pwd.getpwnam(USER)
        except KeyError:
            subprocess.run(command, check=False, capture_output=True)
        try:
            return pwd.getpwnam(USER)
        except KeyError:
            raise EmbeddedServerError(
                f"the database cannot run as root, and the system user {USER} could not be made"
            ) from None


def _closed(folders: list[Path], uid: int, gid: int) -> list[Path]:
    """Those that exist and that the user cannot pass through, outermost first."""
    return sorted({f for f in folders if f.exists() and not _passable(f.stat(), uid, gid)})


def _passable(status: os.stat_result, uid: int, gid: int) -> bool:
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _is_home(folder: Path) -> bool:
    """A directory service may refuse to list everybody, so the folder's owner is asked for too."""
    entries = pwd.getpwall()
    with suppress(KeyError):
        entries.append(pwd.getpwuid(folder.stat().st_uid))
    return any(folder == Path(entry.pw_dir).resolve() for entry in entries)


def name_of(uid: int) -> str:
    """What a sentence calls that user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
