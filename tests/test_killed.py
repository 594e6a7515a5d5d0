"""`manage.py worker` killed with SIGKILL in the middle of its work: nothing is lost or done twice.

A lock of the test on a table stops the worker at the statement that writes there, in the middle of
its transaction: so each kill comes at the same place, however slow the machine is.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections

from audit import following, jobs
from audit.detection import detecting
from audit.models import AlertEvent, Follower, JobRun, Mail, Verification
from tests.conftest import soon, superuser_dsn
from tests.detection import logs
from tests.detection.month import START, Row, make_month
from tests.test_notices import staff
from tests.test_sealing import WORK, environment

ROOT = Path(__file__).parent.parent
SPOOL = timedelta(hours=6)

pytestmark = pytest.mark.timeout(180)


class Brake:
    """Keeps everybody else from writing to a table, once it is pulled and until it is released."""

    def __init__(self, database: str, table: str) -> None:
        self.connection = psycopg.connect(superuser_dsn(), dbname=database)
        self.table = table

    def pull(self) -> Brake:
        self.connection.execute(f"LOCK TABLE {self.table} IN SHARE MODE")
        return self

    def release(self) -> None:
        self.connection.close()


def waiting(table: str) -> int:
    """How many wait for somebody else's lock on a table."""
    with connections["owner"].cursor() as cursor:
        query = "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted"
        cursor.execute(query, [table])
        return int(cursor.fetchone()[0])


@contextmanager
def worker(database: str, mails: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The real worker; what it prints, which is what it mails, is added to a file."""
    with mails.open("ab") as out:
        command = [sys.executable, "-c", WORK, database]
        running = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=out)
    try:
        yield running
    finally:
        running.kill()
        running.wait(20)


def kill(running: subprocess.Popen[bytes], stopped_by: Brake) -> None:
    """Kill a worker where a brake has stopped it."""
    assert soon(lambda: waiting(stopped_by.table) > 0, 60)
    running.kill()
    assert running.wait(20) == -signal.SIGKILL
    stopped_by.release()


def let_through(stopped_by: Brake, then_by: Brake) -> None:
    """Let a worker finish the transaction in which a brake has stopped it; another stops the next.

    The other brake waits for the lock that the transaction holds, or waits for, on its table.
    """
    assert soon(lambda: waiting(stopped_by.table) > 0, 60)
    before = waiting(then_by.table)
    with ThreadPoolExecutor(1) as aside:
        pulled = aside.submit(then_by.pull)
        assert soon(lambda: waiting(then_by.table) > before)
        stopped_by.release()
        pulled.result(60)


def end(running: subprocess.Popen[bytes]) -> None:
    running.terminate()
    assert running.wait(20) == 0


# --- detection ---------------------------------------------------------------------------------


def spooled(rows: list[Row]) -> list[Row]:
    """The same events from applications that send a few times a day: they are stored quicker."""
    for row in rows:
        row.recorded_at += SPOOL - (row.recorded_at - START) % SPOOL
    return sorted(rows, key=lambda row: (row.recorded_at, row.source))


def place() -> int:
    """How far detection is in the log."""
    position = Follower.objects.filter(name=detecting.FOLLOWER).values_list("position", flat=True)
    return position.first() or 0


def found() -> tuple[Any, ...]:
    """All alerts with their counts, what they name, and all that is remembered."""
    return logs.alerts(), AlertEvent.objects.count(), logs.state()


def test_a_worker_killed_while_it_detects_loses_no_alert_and_raises_none_twice(
    own_database: str, tmp_path: Path
) -> None:
    rows = make_month(11, events=5_600, days=12, rounds=1).rows
    assert len(rows) > following.MOST, "it is judged in two transactions"
    logs.store(spooled(rows))
    mails = tmp_path / "mails"

    before_the_state = Brake(own_database, "audit_detectionstate").pull()
    with worker(own_database, mails) as running:
        kill(running, before_the_state)
    assert (place(), logs.alerts()) == (0, {})

    before_the_place = Brake(own_database, "audit_alertevent").pull()
    before_the_alerts = Brake(own_database, "audit_alert")
    with worker(own_database, mails) as running:
        let_through(before_the_place, before_the_alerts)
        kill(running, before_the_alerts)
    assert place() == following.MOST
    half = found()

    before_the_place = Brake(own_database, "audit_alertevent").pull()
    with worker(own_database, mails) as running:
        kill(running, before_the_place)
    assert (place(), found()) == (following.MOST, half)

    with worker(own_database, mails) as running:
        assert soon(lambda: following.behind(detecting.FOLLOWER) == 0, 60)
        end(running)
    logs.detect()  # the worker's own end, an event as well
    whole = found()
    assert len(whole[0]) > len(half[0]) > 20

    logs.start_anew()
    logs.forget_alerts()
    logs.detect()
    assert found() == whole


# --- jobs and mails ----------------------------------------------------------------------------


def half_a_minute_later(database: str) -> None:
    """As if a killed worker had given no sign of life for longer than a worker may."""
    with psycopg.connect(superuser_dsn(), dbname=database) as superuser:
        superuser.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - %s",
            [jobs.STALLED * 2],
        )


def done() -> set[str]:
    return set(JobRun.objects.exclude(finished_at=None).values_list("job", flat=True))


def test_a_worker_killed_in_a_job_or_a_mail_is_followed_by_one_that_does_it_once(
    own_database: str, tmp_path: Path
) -> None:
    staff("ada", "Reviewer")
    mails = tmp_path / "mails"
    now = datetime.now(UTC)  # clearing up is done: it would wait for the same lock
    JobRun.objects.using("worker").create(job="upkeep", due_at=now, finished_at=now, tries=1)

    while_it_writes = Brake(own_database, "audit_mail").pull()
    with worker(own_database, mails) as running:
        assert soon(lambda: done() == jobs.TASKS.keys() - {"digest"}, 60)
        kill(running, while_it_writes)
    assert JobRun.objects.get(job="digest").finished_at is None

    half_a_minute_later(own_database)
    while_it_writes = Brake(own_database, "audit_mail").pull()
    while_it_sends = Brake(own_database, "audit_mail")
    with worker(own_database, mails) as running:
        let_through(while_it_writes, while_it_sends)
        assert soon(lambda: done() == jobs.TASKS.keys(), 60)
        kill(running, while_it_sends)
    assert Mail.objects.get().sent_at is None

    half_a_minute_later(own_database)
    with worker(own_database, mails) as running:
        assert soon(lambda: Mail.objects.filter(sent_at=None).count() == 0, 60)
        end(running)
    tries = dict(JobRun.objects.values_list("job", "tries"))
    assert tries == dict.fromkeys(jobs.TASKS, 1) | {"digest": 2}
    assert Verification.objects.count() == 1
    names = re.findall("^Message-ID: (.*)$", mails.read_text(), re.MULTILINE)
    assert len(names) == 2, "the mail server had it before the worker was killed"
    assert len(set(names)) == 1, "by which they are one message"
