"""Nothing is lost and nothing is stored twice: with kill -9, lost answers and a lost database.

A real portal: gunicorn's workers, a PostgreSQL of its own, and `AuditClient` on the other side.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from uuid import UUID

import httpx
import psutil
import psycopg
import pytest

from audit import client as module
from audit.client import AuditClient
from auditportal.embedded import server
from auditportal.embedded.cluster import PORT, Cluster
from tests.test_demo import REPOSITORY, free_port

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(100)]
BATCHES, SIZE = 200, 20


class Site:
    """A portal's data directory, its database and its web servers."""

    def __init__(self, data_dir: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self.environment = inherited | {"AUDITPORTAL_DATA_DIR": str(data_dir)}
        self.data_dir, self.started = data_dir, []  # type: ignore[var-annotated]
        setup = [sys.executable, "manage.py", "demo", "--events", "0", "--no-serve"]
        subprocess.run(
            setup, cwd=REPOSITORY, env=self.environment, check=True, capture_output=True, timeout=50
        )
        self.key = json.loads((data_dir / "demo.json").read_text())["api_key"]

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.data_dir.resolve())

    def serve(self, **environment: str) -> tuple[str, psutil.Process]:
        """The address and the process of a web server that answers."""
        port = free_port()
        bind = f"127.0.0.1:{port}"
        started = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "auditportal/gunicorn.py", "--bind", bind,
             "auditportal.wsgi"],
            cwd=REPOSITORY, env=self.environment | environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.started.append(started)
        assert until(lambda: answers(f"http://{bind}/healthz"))
        return f"http://{bind}", psutil.Process(started.pid)

    def kill_database(self) -> None:
        pid = int((self.cluster.pgdata / "postmaster.pid").read_text().split()[0])
        psutil.Process(pid).kill()

    def stored(self, user_id: str) -> list[UUID]:
        """The ids of all events of a user, in order, each as often as it is there."""
        query = "SELECT id FROM audit_auditevent WHERE user_id = %s ORDER BY id"
        try:
            with psycopg.connect(server.superuser_dsn(self.data_dir)) as connection:
                return [row[0] for row in connection.execute(query, [user_id])]
        finally:
            server.leave(self.data_dir)

    def stop(self) -> None:
        for process in self.started:
            process.terminate()
        for process in self.started:
            process.wait(40)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    data_dir = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    found = Site(data_dir)
    yield found
    found.stop()
    shutil.rmtree(data_dir)


@pytest.fixture
def client_of(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], AuditClient]]:
    """Makes the application's client of the portal at an address."""
    monkeypatch.setattr(module, "MAX_PAUSE", 0.02)
    monkeypatch.setattr(module, "MAX_RETRY_AFTER", 0.5)
    made: list[AuditClient] = []

    def make(url: str) -> AuditClient:
        spool = tmp_path / "spool.sqlite3"
        options: dict[str, Any] = {"batch": SIZE, "flush_interval": 0.01, "durable": False}
        made.append(AuditClient(url, site.key, spool=spool, **options))
        return made[0]

    yield make
    for client in made:
        client.close(0)


def until(found: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url).is_success
    return False


def test_killed_workers_and_a_killed_database_lose_nothing_and_double_nothing(
    site: Site, client_of: Callable[[str], AuditClient], caplog: pytest.LogCaptureFixture
) -> None:
    url, gunicorn = site.serve()
    client = client_of(url)

    def kill_worker() -> None:
        gunicorn.children()[0].kill()

    kills = [kill_worker, site.kill_database, kill_worker]
    ids = []
    for n in range(BATCHES * SIZE):
        ids.append(client.record(action="data_viewed", user_id="killed", context={"n": n}))
        if kills and n > (4 - len(kills)) * BATCHES * SIZE // 4:
            sent = client.stats().sent
            assert until(lambda: client.stats().sent > sent)  # noqa: B023
            kills.pop()()
    assert client.flush(40) == 0, client.stats()
    assert client.stats().dead_letters == 0
    assert site.stored("killed") == sorted(ids)
    assert len(ids) == BATCHES * SIZE
    assert "stay in the spool" in caplog.text, "nothing went wrong, so nothing was shown"


# --- answers that are lost ---------------------------------------------------------------------


class Wire(StreamRequestHandler):
    """Brings a request to the portal, and cuts the connection before its first answer goes back."""

    server: LossyProxy

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        if not head:
            return
        headers = {name.strip().lower(): value for name, _, value in _fields(head)}
        body = self.rfile.read(int(headers.get(b"content-length", 0)))
        head = head.replace(b"keep-alive", b"close")
        with socket.create_connection(self.server.portal) as portal:
            portal.sendall(head + b"\r\n" + body)
            answer = b"".join(iter(lambda: portal.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 201")
        if self.server.is_first(body):
            return
        self.wfile.write(answer)


def _fields(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [line.partition(b":") for line in head.splitlines()[1:]]


class LossyProxy(ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Wire)
        self.portal = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: set[bytes] = set()
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def is_first(self, body: bytes) -> bool:
        known = len(self.seen)
        self.seen.add(sha256(body).digest())
        return len(self.seen) > known


def test_every_answer_lost_once_doubles_nothing(
    site: Site, client_of: Callable[[str], AuditClient]
) -> None:
    url, _ = site.serve()
    proxy = LossyProxy(url)
    client = client_of(proxy.url)
    ids = [
        client.record(action="data_viewed", user_id="lossy", context={"n": n})
        for n in range(BATCHES * SIZE)
    ]
    assert client.flush(40) == 0, client.stats()
    proxy.shutdown()
    proxy.server_close()
    assert len(proxy.seen) >= BATCHES
    assert client.stats().dead_letters == 0
    assert site.stored("lossy") == sorted(ids)


# --- a database that is away -------------------------------------------------------------------


class Road:
    """Leads from a TCP port to the database's socket; it can be cut."""

    def __init__(self, cluster: Cluster) -> None:
        self.path = str(cluster.socket_dir / f".s.PGSQL.{PORT}")
        self.port, self.open = free_port(), False
        self.ends: list[socket.socket] = []

    def leads_to(self) -> dict[str, str]:
        """The environment of a portal that goes this way."""
        return {
            "DATABASE_URL": f"postgres://auditportal_web@127.0.0.1:{self.port}/auditportal",
            "AUDITPORTAL_ORIGIN": "demo.auditportal.invalid",
            "SECRET_KEY": "x" * 50,
            "ALLOWED_HOSTS": "127.0.0.1",
            "HTTPS": "false",
        }

    def build(self) -> None:
        self.entrance = socket.create_server(("127.0.0.1", self.port))
        self.ends = [self.entrance]
        threading.Thread(target=self._lead, args=[self.entrance], daemon=True).start()

    def cut(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _lead(self, entrance: socket.socket) -> None:
        with suppress(OSError):
            while True:
                coming, _ = entrance.accept()
                going = socket.socket(socket.AF_UNIX)
                going.connect(self.path)
                self.ends += [coming, going]
                for pair in ((coming, going), (going, coming)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def road(site: Site) -> Iterator[Road]:
    server.running(site.data_dir)
    found = Road(site.cluster)
    found.build()
    yield found
    found.cut()
    server.leave(site.data_dir)


def test_without_its_database_the_portal_says_when_to_come_back_and_recovers(
    site: Site, road: Road
) -> None:
    url, _ = site.serve(**road.leads_to())
    with httpx.Client(headers={"Authorization": f"Api-Key {site.key}"}, timeout=20) as http:

        def post() -> httpx.Response:
            event = {"action": "data_viewed", "user_id": "away"}
            return http.post(f"{url}/api/v1/events/", json=event)

        def statuses() -> list[int]:
            return [post().status_code for _ in range(12)]

        assert statuses() == [201] * 12
        road.cut()
        for _ in range(2):
            answer = post()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), answer.text
            assert answer.json()["type"].endswith(":unavailable")
        road.build()
        recovered = [until(lambda: post().status_code == 201) for _ in range(2)]
        assert (recovered, statuses()) == ([True] * 2, [201] * 12)
        # Connections that died while nobody used them, the portal notices by itself.
        with psycopg.connect(server.superuser_dsn(site.data_dir)) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'auditportal_web'"
            )
        assert statuses() == [201] * 12
    assert len(site.stored("away")) == 38


def test_a_database_that_goes_in_the_middle_of_a_request_is_503(site: Site, road: Road) -> None:
    url, _ = site.serve(**road.leads_to())
    found: set[int] = set()
    stop = threading.Event()

    def write() -> None:
        with httpx.Client(headers={"Authorization": f"Api-Key {site.key}"}, timeout=20) as http:
            while not stop.is_set():
                event = {"action": "data_viewed", "user_id": "middle"}
                found.add(http.post(f"{url}/api/v1/events/", json=[event] * 50).status_code)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    with psycopg.connect(server.superuser_dsn(site.data_dir), autocommit=True) as connection:
        for _ in range(40):
            time.sleep(0.05)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'auditportal_web'"
            )
    stop.set()
    for writer in writers:
        writer.join(20)
    assert found == {201, 503}
