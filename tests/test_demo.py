"""`manage.py demo`, as a person starts it: a process and a data directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import psycopg
import pytest

from audit.samples import SOURCES
from auditportal.embedded import server
from tests.conftest import soon

pytestmark = pytest.mark.embedded
REPOSITORY = Path(__file__).parent.parent
EVENTS = 500
PATIENCE = 60  # seconds until a demo that was told to stop is gone


class Demo:
    """One data directory, and the demos that run in it, one after the other."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir, self.port = data_dir, port
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = ["manage.py", "demo", "--events", str(EVENTS), "--port", str(self.port)]
        inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self.process = subprocess.Popen(
            [sys.executable, *command, *arguments],
            cwd=REPOSITORY,
            env=inherited | {"AUDITPORTAL_DATA_DIR": str(self.data_dir)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.process

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a demo that ends by itself."""
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Exit status and standard error of the demo that runs."""
        assert self.process
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err

    def lines(self) -> list[str]:
        """The three lines, once the demo serves; what it says instead is shown where it fails."""
        assert self.process
        assert self.process.stdout
        assert self.process.stderr
        found = [self.process.stdout.readline().rstrip("\n") for _ in range(3)]
        assert all(found), self.process.stderr.read()
        return found

    @property
    def memory(self) -> Path:
        return self.data_dir / "demo.json"

    def remembered(self) -> dict[str, Any]:
        return dict(json.loads(self.memory.read_text()))

    def events(self) -> int:
        """How many made-up events there are."""
        sources = ", ".join(f"'{source}'" for source in SOURCES)
        return self.count(f"SELECT count(*) FROM audit_auditevent WHERE source IN ({sources})")

    def count(self, query: str) -> int:
        try:
            with psycopg.connect(server.superuser_dsn(self.data_dir)) as connection:
                row = connection.execute(query.encode()).fetchone()
                return int(row[0]) if row else 0
        finally:
            server.leave(self.data_dir)


@pytest.fixture
def demo() -> Iterator[Demo]:
    """A data directory outside pytest's private folders, which the database must pass through."""
    data_dir = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    found = Demo(data_dir, free_port())
    yield found
    if found.process and found.process.poll() is None:
        found.process.terminate()
        found.process.communicate(timeout=PATIENCE)
    shutil.rmtree(data_dir)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, **headers: str) -> tuple[int, str]:
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return answer.status, answer.read().decode()


def test_it_serves_the_portal_says_how_to_sign_in_and_keeps_its_data(demo: Demo) -> None:
    # The first time everything is made, in an empty directory.
    process = demo.start()
    lines = demo.lines()
    kept = demo.remembered()
    portal = f"http://127.0.0.1:{demo.port}/"
    assert lines == [
        f"portal {portal}",
        f"sign in demo {kept['password']}",
        f"api key {kept['api_key']}",
    ]
    assert set(kept) == {"portal", "user", "password", "api_key", "users", "pid"}
    assert set(kept["users"]) == {"demo", "auditor", "reviewer", "manager"}
    assert (kept["portal"], kept["user"], kept["pid"]) == (portal, "demo", process.pid)
    assert stat.S_IMODE(demo.memory.stat().st_mode) == 0o600
    assert get(portal + "healthz") == (200, "ok\n")
    assert get(portal + "api/v1/actions/", Authorization=f"Api-Key {kept['api_key']}")[0] == 200

    assert soon(lambda: demo.count("SELECT count(*) FROM audit_leaf") >= EVENTS)

    # Ctrl-C ends all of it.
    children = psutil.Process(process.pid).children(recursive=True)
    status, said = demo.stop()
    assert (status, "500 events were stored" in said) == (0, True), said
    assert "start it again and everything is still there" in said
    assert not any(child.is_running() for child in children)
    assert demo.remembered() == kept | {"pid": None}
    assert demo.events() == EVENTS

    # The second time nothing is made anew; SIGTERM is as good as Ctrl-C.
    demo.start()
    assert demo.lines() == lines
    status, said = demo.stop(signal.SIGTERM)
    assert (status, "events are here already" in said) == (0, True), said
    assert demo.events() == EVENTS

    # Without serving, the lines are the same.
    status, out, _ = demo.run("--no-serve")
    assert (status, out.splitlines()) == (0, lines)


@pytest.mark.parametrize("part", ["gunicorn", "worker"])
def test_it_ends_with_each_of_its_parts(demo: Demo, part: str) -> None:
    process = demo.start()
    demo.lines()
    children = psutil.Process(process.pid).children()
    next(child for child in children if part in child.cmdline()).kill()
    _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, f"{part} ended by itself" in said) == (1, True), said


def test_it_refuses_a_port_that_is_taken_before_anything_is_made(demo: Demo) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", demo.port))
        other.listen()
        status, out, said = demo.run()
    assert (status, out) == (1, "")
    assert said.count("\n") == 1
    assert f"port {demo.port} cannot be had" in said
    assert not (demo.data_dir / "postgres").exists()


def test_it_refuses_a_log_that_is_no_demo(demo: Demo) -> None:
    status, out, said = demo.run(AUDITPORTAL_ORIGIN="audit.example.org/2026")
    assert (status, out) == (1, "")
    assert said.count("\n") == 1
    assert "is no demo" in said
    assert not (demo.data_dir / "postgres").exists()
