"""Every event gets one place in the log, whatever happens while it is sealed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as portal
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models import Count
from django.db.models.functions import Trunc
from django.test.utils import override_settings

from audit import tasks
from audit.ingest import ingest
from audit.ledger import keys, publishing, sealing, storage, tiles
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.notes import Note, SigningKey
from audit.models import (
    AuditEvent,
    Checkpoint,
    DailyCount,
    Heartbeat,
    HourlyCount,
    Leaf,
    LogKey,
    Pending,
    WeeklyCount,
)
from auditportal import VERSION
from auditportal.embedded import server
from auditportal.embedded.cluster import PROGRAMS
from tests.conftest import ALIASES, a_sign_in, end_sessions, soon, superuser_dsn

ROOT = Path(__file__).parent.parent


def written(count: int, source: str = "payments", **fields: Any) -> None:
    ingest([a_sign_in(**fields) for _ in range(count)], source=source)


def seal() -> int:
    """The size of the log when all that can be seen is sealed."""
    tasks.seal_pending()
    head = storage.head("worker")
    return head.size if head else 0


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH(D[n]) as RFC 6962, section 2.1, writes it."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256().digest()
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def assert_sealed_once() -> None:
    """Each event has one leaf, the indexes have no gap, and the head is the tree over them."""
    leaves = list(Leaf.objects.order_by("index"))
    assert [leaf.index for leaf in leaves] == list(range(len(leaves)))
    events = {event.id: bytes(event.leaf_hash) for event in AuditEvent.objects.all()}
    assert sorted(leaf.event_id for leaf in leaves) == sorted(events)
    assert Pending.objects.using("owner").count() == 0
    hashes = [events[leaf.event_id] for leaf in leaves]
    head = storage.head()
    assert head is not None
    assert head.size == len(leaves)
    assert bytes(head.root) == naive_root(hashes)
    stored = storage.read_tiles((tile for tile, _ in tiles.tiles_at(head.size)))
    wide = tiles.grown({}, 0, b"".join(hashes))
    assert stored == dict(wide)
    assert_counted()


def assert_counted() -> None:
    for model, unit in ((HourlyCount, "hour"), (DailyCount, "day"), (WeeklyCount, "week")):
        kept = {(row.start, row.source, row.action): row.count for row in model.objects.all()}
        rows = AuditEvent.objects.values_list(
            Trunc("occurred_at", unit, tzinfo=UTC), "source", "action"
        ).annotate(Count("id"))
        assert kept == {(start, source, action): n for start, source, action, n in rows}


# --- what a checkpoint says --------------------------------------------------------------------


def test_an_empty_log_is_signed_first(own_database):
    assert seal() == 0
    head = storage.head()
    assert head is not None
    assert bytes(head.root) == sha256().digest()


def test_a_checkpoint_is_signed_by_the_key_that_the_log_names(own_database):
    written(3)
    seal()
    head = storage.head()
    assert head is not None
    note = Note.parse(head.note)
    assert Head.parse(note.text) == Head(portal.AUDITPORTAL_ORIGIN, 3, bytes(head.root))
    assert list(note.verified(keys.known_keys())) == keys.known_keys()
    assert abs((datetime.now(UTC) - head.signed_at).total_seconds()) < 60


def test_the_log_grows_by_what_is_pending(own_database):
    for count in (1, 255, 1, 300, 0, 2):
        if count:
            written(count)
        seal()
    assert_sealed_once()
    assert list(Checkpoint.objects.order_by("size").values_list("size", flat=True)) == [
        1, 256, 257, 557, 559,
    ]  # fmt: skip


def test_nothing_pending_makes_no_checkpoint(own_database):
    written(1)
    assert seal() == 1
    assert tasks.seal_pending() is None
    assert Checkpoint.objects.count() == 1


def test_sealing_ends_though_events_keep_coming(own_database, monkeypatch):
    remember = publishing.remember

    def remember_while_one_comes(place: Path, note: str) -> None:
        written(1)
        remember(place, note)

    monkeypatch.setattr(sealing, "MOST_ROWS", 2)
    monkeypatch.setattr(publishing, "remember", remember_while_one_comes)
    for _ in range(5):
        written(1)
    # Two of five, of four, of three, of two; then the one that is left, which is all.
    newest = tasks.seal_pending()
    assert newest is not None
    assert newest.size + Pending.objects.using("owner").count() == AuditEvent.objects.count()
    assert Pending.objects.using("owner").count() == 1
    monkeypatch.undo()
    seal()
    assert_sealed_once()


def test_a_heap_is_sealed_in_bounded_steps(own_database, monkeypatch):
    monkeypatch.setattr(sealing, "MOST_EVENTS", 250)
    for _ in range(10):
        written(100)
    seal()
    sizes = list(Checkpoint.objects.order_by("size").values_list("size", flat=True))
    assert sizes == [300, 600, 900, 1000]
    assert_sealed_once()


def test_events_are_counted_by_the_hour_and_day_in_which_they_occurred(own_database):
    written(2, occurred_at="2026-11-23T23:59:59.999999Z")
    written(1, occurred_at="2026-11-24T01:30:00+01:00")
    written(1, source="crm", occurred_at="2026-11-24T00:10:00Z", action="user_login_attempted")
    seal()
    written(1, occurred_at="2026-11-23T23:00:00Z")
    seal()
    assert_counted()
    hour = HourlyCount.objects.get(start=datetime(2026, 11, 23, 23, tzinfo=UTC))
    assert (hour.count, hour.category, hour.outcome) == (3, "authentication", "failure")


# --- many at once ------------------------------------------------------------------------------


def in_threads(*works: Any) -> None:
    faults: list[BaseException] = []

    def run(work: Any) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_writers_rollbacks_and_two_sealers_leave_no_gap_and_no_double(own_database):
    done = threading.Event()

    def write() -> None:
        for number in range(25):
            written(7)
            with transaction.atomic():
                written(3)
                if number % 3:
                    transaction.set_rollback(True)

    def keep_sealing() -> None:
        while not done.is_set():
            try:
                tasks.seal_pending()
            except sealing.Busy:
                time.sleep(0.01)

    def write_all() -> None:
        try:
            in_threads(write, write)
        finally:
            done.set()

    in_threads(write_all, keep_sealing, keep_sealing)
    seal()
    assert_sealed_once()
    assert AuditEvent.objects.count() == 2 * (25 * 7 + 9 * 3)


def test_a_second_sealer_stands_by(own_database):
    written(1)
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('audit_seal'))")
        with pytest.raises(sealing.Busy):
            tasks.seal_pending()
    assert seal() == 1


def test_a_transaction_that_stays_open_holds_up_nobody_and_comes_later(own_database):
    with transaction.atomic():
        written(2, user_id="late")

        def meanwhile() -> None:
            written(3, user_id="early")
            assert seal() == 3

        in_threads(meanwhile)
    assert seal() == 5
    late = AuditEvent.objects.filter(user_id="late").values("id")
    assert sorted(Leaf.objects.filter(event_id__in=late).values_list("index", flat=True)) == [3, 4]
    assert_sealed_once()


# --- kill -9 at every step ---------------------------------------------------------------------

STEPS = {
    "sealing": ("_lock", "_take", "_write_leaves", "_write_tiles", "_add_counts", "_sign"),
    "publishing": ("_write",),
}

DIE = """
import os, signal, sys
import django
django.setup()
from django.db import connections
for alias in connections:
    connections[alias].settings_dict["NAME"] = sys.argv[1]
from audit import tasks
from audit.ledger import publishing, sealing
module = {"sealing": sealing, "publishing": publishing}[sys.argv[2]]
original = getattr(module, sys.argv[3])
def dying(*args, **kwargs):
    if sys.argv[4] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, sys.argv[3], dying)
tasks.seal_pending()
"""


def environment() -> dict[str, str]:
    """What another process needs to seal as this test does; its key is there."""
    tasks.signing_key()
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "auditportal.settings",
        "AUDITPORTAL_SIGNING_KEY_FILE": str(portal.AUDITPORTAL_SIGNING_KEY_FILE),
        "LEDGER_MEMORY_DIR": str(portal.LEDGER_MEMORY_DIR),
    }


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "step"), [(module, step) for module, steps in STEPS.items() for step in steps]
)
def test_a_sealer_killed_at_any_step_leaves_a_log_that_goes_on(own_database, module, step, moment):
    written(300)
    seal()
    written(300)
    command = [sys.executable, "-c", DIE, own_database, module, step, moment]
    done = subprocess.run(command, cwd=ROOT, env=environment(), timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    end_sessions_of_the_dead(own_database)
    written(5)
    assert seal() == 605
    assert_sealed_once()


def end_sessions_of_the_dead(database: str) -> None:
    """The server notices that a client is gone only when it has something to say to it."""
    with connections["owner"].cursor() as cursor:
        for _ in range(200):
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = %s)",
                [database],
            )
            if cursor.fetchone()[0] == 0:
                return
            time.sleep(0.05)
    pytest.fail("the dead sealer's lock stays")


# --- older copies ------------------------------------------------------------------------------


@pytest.fixture
def older_copy(own_database: str) -> Iterator[Any]:
    """Makes a copy of the database as it is, and later goes over to it."""
    name = f"{own_database}_copy"

    def point_to(database: str) -> None:
        for alias in ALIASES:
            connections[alias].close()
            connections[alias].settings_dict["NAME"] = database

    def copy() -> Any:
        point_to(own_database)
        end_sessions(own_database)
        with connections["owner"]._nodb_cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{own_database}"')
        return lambda: point_to(name)

    yield copy
    point_to(own_database)
    end_sessions(name)
    with connections["owner"]._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')


def test_an_older_copy_is_not_signed_however_it_grows(older_copy):
    written(10)
    seal()
    fail_over = older_copy()
    written(10)
    seal()
    fail_over()
    written(30)
    with pytest.raises(
        publishing.Contradiction, match=r"SIZE_ROLLBACK.* 20 leaves, the database 1"
    ):
        tasks.seal_pending()
    assert Pending.objects.using("owner").count() == 1
    assert storage.head().size == 10


def test_a_copy_that_went_another_way_is_not_signed(older_copy, settings, tmp_path):
    written(10)
    seal()
    fail_over = older_copy()
    written(10)
    seal()
    fail_over()
    memory, settings.LEDGER_MEMORY_DIR = settings.LEDGER_MEMORY_DIR, tmp_path / "elsewhere"
    written(30)
    assert seal() == 40
    settings.LEDGER_MEMORY_DIR = memory
    written(1)
    with pytest.raises(publishing.Contradiction, match=r"INCONSISTENT.* 20 leaves"):
        tasks.seal_pending()


def test_a_published_folder_is_asked_as_well(own_database, settings, tmp_path):
    settings.LEDGER_PUBLISH_DIR = str(tmp_path / "outside")
    written(10)
    seal()
    tasks.publish_newest()
    shutil.rmtree(settings.LEDGER_MEMORY_DIR)
    checkpoint = tmp_path / "outside" / "checkpoint"
    good = checkpoint.read_text()
    checkpoint.write_text(good.replace("\n10\n", "\n11\n"))
    written(1)
    with pytest.raises(publishing.Contradiction, match="BAD_SIGNATURE"):
        tasks.seal_pending()
    checkpoint.write_text(good)
    assert seal() == 11


def test_a_memory_without_a_log_is_not_overwritten(own_database, older_copy):
    fail_over = older_copy()
    written(1)
    seal()
    fail_over()
    with pytest.raises(publishing.Contradiction, match="this database no log yet"):
        tasks.seal_pending()


@pytest.mark.embedded
def test_a_log_restored_from_a_dump_goes_on(own_database, older_copy, tmp_path):
    written(300)
    seal()
    written(5)
    name = f"{own_database}_copy"
    dump = tmp_path / "dump"
    source = server.superuser_dsn(portal.AUDITPORTAL_DATA_DIR, own_database)
    target = server.superuser_dsn(portal.AUDITPORTAL_DATA_DIR, name)
    with open(dump, "wb") as file:
        subprocess.run([PROGRAMS / "pg_dump", "-Fc", "-d", source], stdout=file, check=True)
    with connections["owner"]._nodb_cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    subprocess.run([PROGRAMS / "pg_restore", "-d", target, dump], check=True)
    for alias in ALIASES:
        connections[alias].close()
        connections[alias].settings_dict["NAME"] = name
    written(2)
    assert seal() == 307
    assert_sealed_once()


# --- keys --------------------------------------------------------------------------------------


def test_another_key_does_not_sign(own_database, settings, tmp_path):
    written(1)
    seal()
    keys.make_key(tmp_path / "other", portal.AUDITPORTAL_ORIGIN)
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "other"
    written(1)
    with pytest.raises(ImproperlyConfigured, match="rotate_signing_key"):
        tasks.seal_pending()
    assert storage.head().size == 1


def test_a_key_of_another_log_does_not_begin_this_one(own_database, settings, tmp_path):
    keys.make_key(tmp_path / "other", "another.log")
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "other"
    with pytest.raises(ImproperlyConfigured, match=r"is for 'another\.log'"):
        tasks.seal_pending()


def test_after_a_hand_over_the_new_key_signs_and_the_old_does_not(own_database, settings, tmp_path):
    written(1)
    seal()
    old = tasks.signing_key()
    new = keys.make_key(tmp_path / "new", portal.AUDITPORTAL_ORIGIN)
    keys.hand_over(old, new)
    written(1)
    with pytest.raises(ImproperlyConfigured):
        tasks.seal_pending()
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "new"
    assert seal() == 2
    assert [key.from_size for key in LogKey.objects.all()] == [0, 1]


def test_a_key_that_others_can_read_is_refused(settings, tmp_path):
    path = tmp_path / "key"
    path.write_text(SigningKey.generate("log").text())
    path.chmod(0o640)
    with pytest.raises(ImproperlyConfigured, match="chmod 600"):
        keys.read_key(path)


@pytest.mark.parametrize("text", ["", "nonsense", "PRIVATE+KEY+log+00000000+AAAA"])
def test_a_file_that_is_no_key_is_refused_without_being_quoted(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ImproperlyConfigured, match="no signing key in") as refused:
        keys.read_key(path)
    assert "AAAA" not in str(refused.value)


def test_a_missing_key_is_refused_in_a_deployment(own_database):
    refused = pytest.raises(ImproperlyConfigured, match="make_signing_key")
    with override_settings(LEDGER_MAKES_ITS_KEY=False), refused:
        tasks.seal_pending()


# --- the commands ------------------------------------------------------------------------------


def test_seal_ledger_once_says_how_large_the_log_is(own_database, capsys):
    written(12)
    call_command("seal_ledger", "--once")
    assert capsys.readouterr().out == "sealed 12 events\n"


def test_seal_ledger_says_in_one_line_why_it_cannot(own_database, settings, tmp_path):
    written(1)
    seal()
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "none"
    refused = pytest.raises(CommandError, match="there is no signing key")
    with override_settings(LEDGER_MAKES_ITS_KEY=False), refused:
        call_command("seal_ledger", "--once")


WORK = """
import sys
import django
django.setup()
from django.core.management import call_command
from django.db import connections
for alias in connections:
    connections[alias].settings_dict["NAME"] = sys.argv[1]
call_command("worker")
"""


def test_the_worker_seals_until_it_is_stopped_and_says_so(own_database):
    command = [sys.executable, "-c", WORK, own_database]
    worker = subprocess.Popen(command, cwd=ROOT, env=environment())
    try:
        assert soon(lambda: Heartbeat.objects.filter(part="sealer", error="").exists())
        written(3)
        assert soon(lambda: Leaf.objects.count() >= 4)  # with the worker's own start
        with psycopg_superuser(own_database) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND pid <> pg_backend_pid()",
                [own_database],
            )
        for alias in ALIASES:
            connections[alias].close()
        written(3)
        assert soon(lambda: Leaf.objects.count() >= 7)
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
    own = AuditEvent.objects.filter(action__startswith="portal_log_").order_by("recorded_at")
    assert [event.action for event in own] == ["portal_log_started", "portal_log_stopped"]
    assert [event.context for event in own] == [{"process": "worker", "version": VERSION}] * 2


def psycopg_superuser(database: str) -> Any:
    return psycopg.connect(superuser_dsn(), dbname=database)
