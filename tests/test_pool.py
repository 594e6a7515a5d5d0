"""The web server and its database: how many connections, and what happens while it is away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import psycopg
import pytest

from auditportal.embedded import server
from tests.test_embedded import REPOSITORY

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(240)]

WORKERS, THREADS = 2, 4
EVENT = json.dumps({"action": "user_logout"})


class Portal:
    """gunicorn before a server of PostgreSQL that it did not start and cannot start again."""

    def __init__(self, data_dir: Path) -> None:
        self.cluster = server.running(data_dir)
        self.port = _free_port()
        url = f"postgres://{{}}@/auditportal?host={self.cluster.socket_dir}"
        self.environ = os.environ | {
            "AUDITPORTAL_DATA_DIR": str(data_dir),
            "AUDITPORTAL_ORIGIN": "pool.example",
            "SECRET_KEY": "x" * 50,
            "HTTPS": "false",
            "DATABASE_URL": url.format("auditportal_web"),
            "DATABASE_MIGRATION_URL": url.format("auditportal_owner"),
            "DATABASE_WORKER_URL": url.format("auditportal_worker"),
        }
        self.environ.pop("DATABASE_POOL_SIZE", None)
        self.manage("migrate", "--verbosity=0")
        self.key = self.manage("issue_api_key", "shop").strip()
        config = str(REPOSITORY / "auditportal" / "gunicorn.py")
        command = ["gunicorn", "-c", config, "--bind", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, "auditportal.wsgi"],
            cwd=REPOSITORY,
            env=self.environ,
            stderr=subprocess.DEVNULL,
        )

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self) -> tuple[int, str | None]:
        """One event; the status, and after how many seconds to come back."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Api-Key {self.key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/api/v1/events/", EVENT, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers["Retry-After"]
        finally:
            connection.close()

    def send_at_once(self, meanwhile: Callable[[], object] = lambda: None) -> list[int]:
        """The statuses of 300 events that 30 clients send."""
        seen: list[int] = []
        senders = [
            threading.Thread(target=lambda: seen.extend(self.send()[0] for _ in range(10)))
            for _ in range(30)
        ]
        for sender in senders:
            sender.start()
        while any(sender.is_alive() for sender in senders):
            meanwhile()
            time.sleep(0.02)
        return seen

    def wait_for(self, status: int, seconds: float) -> float:
        """Send until that is the answer; how long it took."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            with suppress(ConnectionError, RemoteDisconnected):
                if self.send()[0] == status:
                    return time.monotonic() - began
            time.sleep(0.2)
        raise AssertionError(f"no {status} within {seconds} seconds")

    def connections(self) -> int:
        """How many connections web has now."""
        counted = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'auditportal_web'"
        with psycopg.connect(self.cluster.dsn("postgres", "auditportal")) as connection:
            row = connection.execute(counted).fetchone()
            return int(row[0]) if row else 0

    def events(self) -> int:
        with psycopg.connect(self.cluster.dsn("postgres", "auditportal")) as connection:
            row = connection.execute(
                "SELECT count(*) FROM audit_auditevent WHERE source = 'shop'"
            ).fetchone()
            return int(row[0]) if row else 0


@pytest.fixture
def portal() -> Iterator[Portal]:
    data_dir = Path(tempfile.mkdtemp(prefix="pool-", dir="/tmp"))
    found = Portal(data_dir)
    yield found
    found.process.send_signal(signal.SIGTERM)
    found.process.wait()
    server.leave(data_dir)
    shutil.rmtree(data_dir)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_connections_are_bounded_and_a_database_that_went_away_is_found_again(
    portal: Portal,
) -> None:
    portal.wait_for(201, 30)

    # Many clients at once: everyone is answered, and connections stay within the bound.
    most: list[int] = []
    assert portal.send_at_once(lambda: most.append(portal.connections())) == [201] * 300
    assert 1 <= max(most) <= WORKERS * THREADS
    stored = portal.events()

    # Away: each request is told so, and when to come back, before long.
    portal.cluster.stop()
    began = time.monotonic()
    assert [portal.send() for _ in range(3)] == [(503, "5")] * 3
    assert time.monotonic() - began < 12, "2 seconds each, and the machine may be busy"
    time.sleep(8)  # longer than the pool goes on trying

    # Back: so is the portal, and nothing was stored of what was refused.
    portal.cluster.wake()
    assert portal.wait_for(201, 20) < 15
    assert all(portal.send()[0] == 201 for _ in range(20))
    assert portal.events() == stored + 21


def test_a_database_that_restarts_costs_nobody_a_lasting_failure(portal: Portal) -> None:
    portal.wait_for(201, 30)
    assert set(portal.send_at_once()) == {201}  # so that many connections will be dead
    portal.cluster.stop()
    portal.cluster.wake()
    answers = [portal.send()[0] for _ in range(20)]
    assert answers == [201] * 20, "idle connections are looked at before they are used"
