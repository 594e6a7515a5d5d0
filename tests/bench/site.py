"""A portal to measure: its own database and directory, and gunicorn as a deployment runs it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PORT = 8765

Work = Callable[[int, float], tuple[int, float]]
"""A worker: its number and how many seconds it has, to how much it did and in how many seconds."""


@contextmanager
def site() -> Iterator[str]:
    """A migrated portal in a directory of its own, with the baseline's table; a key that writes."""
    with tempfile.TemporaryDirectory(prefix="auditportal-bench-", dir="/var/tmp") as folder:
        set_up(Path(folder))
        yield _prepare()


def set_up(folder: Path) -> None:
    """Have Django with its data in this folder, and so a database of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # the database's own user passes through
    for name in ("DATABASE_URL", "DATABASE_WORKER_URL", "DATABASE_MIGRATION_URL"):
        os.environ.pop(name, None)
    os.environ["AUDITPORTAL_DATA_DIR"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "auditportal.settings"
    import django

    django.setup()


def rate(work: Work, workers: int, seconds: float) -> float:
    """What all workers together do in a second."""
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        results = list(pool.map(work, range(workers), [seconds] * workers))
    return sum(count / elapsed for count, elapsed in results)


def cpu_of(processes: Iterable[int]) -> float:
    """Seconds of CPU time that these processes have had, in all threads that they have now.

    Linux counts them in nanoseconds.
    """
    tasks = (task for id in processes for task in Path(f"/proc/{id}/task").glob("*/schedstat"))
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _prepare() -> str:
    """A migrated portal, the baseline's table, and a key."""
    from django.core.management import call_command
    from django.db import connections

    from audit.keys import issue_key

    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    with connections["owner"].cursor() as cursor:
        cursor.execute("CREATE TABLE bench_plain (LIKE audit_auditevent INCLUDING ALL)")
        cursor.execute(
            "ALTER TABLE bench_plain DROP CONSTRAINT audit_event_id_is_version_7,"
            " ALTER leaf_hash SET DEFAULT sha256(''), ALTER changed SET DEFAULT '{}'"
        )
        cursor.execute("CREATE TABLE bench_bare (LIKE audit_auditevent, PRIMARY KEY (id))")
        cursor.execute("GRANT ALL ON bench_plain, bench_bare TO auditportal_web")
    _, key = issue_key(source="bench", name="bench", scopes=["write"])
    connections.close_all()
    return key


@contextmanager
def portal(workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """gunicorn as a deployment runs it, with the baselines' addresses beside the portal's own."""
    command = [
        *(sys.executable, "-m", "gunicorn", "-c", "auditportal/gunicorn.py"),
        *("-w", str(workers), "-b", f"127.0.0.1:{PORT}", "tests.bench.baselines:application"),
    ]
    server = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        _await(server)
        yield server
    finally:
        server.terminate()
        server.wait()


def _await(server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    sys.exit("the portal does not start")


class Poster:
    """A client that posts bodies one after the other over one connection."""

    def __init__(self, key: str, path: str, bodies: list[bytes]) -> None:
        self.path, self.bodies = path, bodies
        self.headers = {"Authorization": f"Api-Key {key}", "Content-Type": "application/json"}

    def __call__(self, number: int, seconds: float) -> tuple[int, float]:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            self.post(connection, number + done)
            done += 1
        return done, time.perf_counter() - begin

    def post(self, connection: http.client.HTTPConnection, number: int) -> None:
        """Send one body. Ends the benchmark where it is not taken."""
        body = self.bodies[number % len(self.bodies)]
        connection.request("POST", self.path, body, self.headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 201:
            sys.exit(f"{self.path} answered {answer.status}: {said[:400]!r}")
