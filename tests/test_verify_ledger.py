"""Whatever is done to the log by somebody who owns the database is named, by kind and place.

`TAMPERS` is the table of what is tried; `pytest -s -k tamper_is_caught` prints what is said of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as portal
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as thoroughness
from hypothesis import strategies as st

from audit import canonical, following, pairing, tasks
from audit.ingest import ingest
from audit.ledger import handovers, keys, merkle, storage, tiles
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.copying import write_copy
from audit.ledger.notes import Note, SigningKey
from audit.ledger.verification import faults as faults_module
from audit.ledger.verification import parallel
from audit.ledger.verification.events import Stretch
from audit.ledger.verification.faults import Kind
from audit.ledger.verification.run import Result, verify
from audit.ledger.verification.sequences import Sequences
from audit.models import (
    AuditEvent,
    Checkpoint,
    Leaf,
    LogKey,
    Pruning,
    Unpaired,
    Verification,
)
from audit.recorder import audit
from tests.conftest import a_sign_in, superuser_dsn
from tests.strategies import events as hostile_events
from tests.witness import witness

ROOT = Path(__file__).parent.parent
STEP = 500
"""The log of the tampers: so many events in each of three checkpoints."""


def written(count: int, *, source: str = "payments", first: int | None = None, **more: Any) -> None:
    numbers = [{}] * count if first is None else [{"source_seq": first + n} for n in range(count)]
    ingest([a_sign_in(**more, **number) for number in numbers], source=source)


def sealed() -> None:
    tasks.seal_pending()


def kinds(result: Result) -> set[str]:
    return {kind.value for kind in result.faults.counts}


def places(result: Result, kind: Kind) -> set[int | None]:
    return {fault.index for fault in result.faults.kept if fault.kind is kind}


# --- a log, and a superuser --------------------------------------------------------------------


class Intruder:
    """PostgreSQL's superuser, to whom no guard applies."""

    def __init__(self, database: str) -> None:
        self.connection = psycopg.connect(superuser_dsn(), dbname=database, autocommit=True)
        tables = self.rows(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        )
        for (table,) in tables:
            self(f"ALTER TABLE {table} DISABLE TRIGGER ALL")

    def __call__(self, statement: str, **values: Any) -> None:
        self.connection.execute(statement.encode(), values or None)

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), values or None).fetchall()


@pytest.fixture
def intruder(own_database: str) -> Iterator[Intruder]:
    found = Intruder(own_database)
    yield found
    found.connection.close()


@pytest.fixture
def outside(settings: Any, tmp_path: Path) -> Path:
    """A folder that has left the machine."""
    settings.LEDGER_PUBLISH_DIR = str(tmp_path / "outside")
    return tmp_path / "outside"


@pytest.fixture
def log(own_database: str, outside: Path) -> Path:
    """Three checkpoints, each of them published."""
    for number in range(3):
        written(STEP, first=number * STEP, subject_id="s-1", user_agent="Mozilla/5.0 (ü)")
        sealed()
        tasks.publish_newest()
    return outside


EVENT = "(SELECT event_id FROM audit_leaf WHERE index = {})"


# --- what was sealed is rebuilt ----------------------------------------------------------------


def rebuild(intruder: Intruder, signer: SigningKey) -> None:
    """Everything above the rows anew: leaves, tiles, and checkpoints at the sizes there were."""
    leaves = []
    ids = Leaf.objects.order_by("index").values_list("event_id", flat=True)
    events = AuditEvent.objects.in_bulk(ids)
    for event_id in ids:
        event = events[event_id]
        leaves.append(canonical.leaf(event.entry(portal.AUDITPORTAL_ORIGIN)))
        if leaves[-1] != bytes(event.leaf_hash):
            intruder(
                "UPDATE audit_auditevent SET leaf_hash = %(leaf)s WHERE id = %(id)s",
                leaf=leaves[-1],
                id=event_id,
            )
    retile(intruder, leaves)
    for size in Checkpoint.objects.values_list("size", flat=True):
        root = merkle.root(size, tiles.reader(dict(tiles.grown({}, 0, b"".join(leaves[:size])))))
        intruder(
            "UPDATE audit_checkpoint SET root = %(root)s, note = %(note)s WHERE size = %(size)s",
            root=root,
            note=signer.sign(Head(portal.AUDITPORTAL_ORIGIN, size, root).text()),
            size=size,
        )


def retile(intruder: Intruder, leaves: list[bytes]) -> None:
    intruder("DELETE FROM audit_tile")
    for tile, hashes in tiles.grown({}, 0, b"".join(leaves)):
        intruder(
            "INSERT INTO audit_tile VALUES (%(level)s, %(number)s, %(hashes)s)",
            level=tile.level,
            number=tile.number,
            hashes=hashes,
        )


def the_leaves() -> list[bytes]:
    ids = Leaf.objects.order_by("index").values_list("event_id", flat=True)
    events = AuditEvent.objects.in_bulk(ids)
    return [bytes(events[event_id].leaf_hash) for event_id in ids]


# --- the tampers -------------------------------------------------------------------------------


def edit_column(intruder: Intruder) -> None:
    intruder(f"UPDATE audit_auditevent SET outcome = 'success' WHERE id = {EVENT.format(700)}")


def edit_context(intruder: Intruder) -> None:
    intruder(
        "UPDATE audit_auditevent SET context = jsonb_set(context, '{attempts}', '9')"
        f" WHERE id = {EVENT.format(700)}"
    )


def edit_personal(intruder: Intruder) -> None:
    intruder(f"UPDATE audit_auditevent SET user_id = 'u-2' WHERE id = {EVENT.format(700)}")


def add_personal(intruder: Intruder) -> None:
    intruder(f"UPDATE audit_auditevent SET resource_id = 'r-2' WHERE id = {EVENT.format(700)}")


def widen_address(intruder: Intruder) -> None:
    intruder(
        f"UPDATE audit_auditevent SET ip_address = '192.0.2.7/24' WHERE id = {EVENT.format(700)}"
    )


def empty_personal(intruder: Intruder) -> None:
    intruder(
        "UPDATE audit_auditevent SET user_id = NULL, subject_id = NULL, resource_id = NULL,"
        " ip_address = NULL, user_agent = NULL, personal_context = NULL, salt = NULL"
        f" WHERE id = {EVENT.format(700)}"
    )


def empty_one_value(intruder: Intruder) -> None:
    intruder(f"UPDATE audit_auditevent SET subject_id = NULL WHERE id = {EVENT.format(700)}")


def delete_row(intruder: Intruder) -> None:
    intruder(f"DELETE FROM audit_auditevent WHERE id = {EVENT.format(700)}")


def delete_with_leaf(intruder: Intruder) -> None:
    delete_row(intruder)
    intruder("DELETE FROM audit_leaf WHERE index = 700")


def insert_row(intruder: Intruder) -> None:
    """A copy under an id of its own, as old as the first event's."""
    columns = ", ".join(field.column for field in AuditEvent._meta.fields if field.name != "id")
    intruder(
        f"INSERT INTO audit_auditevent (id, {columns})"
        f" SELECT overlay(id::text PLACING 'ffffffffffff' FROM 25)::uuid, {columns}"
        f" FROM audit_auditevent WHERE id = {EVENT.format(0)}"
    )


def hide_row(intruder: Intruder) -> None:
    """The same with a leaf where none belongs."""
    insert_row(intruder)
    intruder(
        "INSERT INTO audit_leaf SELECT -1, id FROM audit_auditevent"
        " WHERE id::text LIKE '%-ffffffffffff'"
    )


def swap_rows(intruder: Intruder) -> None:
    one, two = (intruder.rows(f"SELECT {EVENT.format(n)}")[0][0] for n in (700, 701))
    change = "UPDATE audit_auditevent SET id = %(to)s WHERE id = %(of)s"
    between = type(one)(int=one.int ^ 1 << 20)
    for of, to in ((one, between), (two, one), (between, two)):
        intruder(change, of=of, to=to)


def swap_leaves(intruder: Intruder) -> None:
    one, two = (intruder.rows(f"SELECT {EVENT.format(n)}")[0][0] for n in (700, 701))
    intruder("DELETE FROM audit_leaf WHERE index IN (700, 701)")
    intruder("INSERT INTO audit_leaf VALUES (700, %(two)s), (701, %(one)s)", one=one, two=two)


def flip_leaf_tile(intruder: Intruder) -> None:
    flip(intruder, 0, 2)


def flip_last_tile(intruder: Intruder) -> None:
    flip(intruder, 0, 5)


def flip_upper_tile(intruder: Intruder) -> None:
    flip(intruder, 1, 0)


def flip(intruder: Intruder, level: int, number: int) -> None:
    intruder(
        "UPDATE audit_tile SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1)"
        f" WHERE level = {level} AND number = {number}"
    )


def cut_the_end(intruder: Intruder) -> None:
    """The last 1,000 events; checkpoints and counts stay."""
    kept = the_leaves()[:STEP]
    intruder(
        "DELETE FROM audit_auditevent WHERE id IN"
        f" (SELECT event_id FROM audit_leaf WHERE index >= {STEP})"
    )
    intruder(f"DELETE FROM audit_leaf WHERE index >= {STEP}")
    retile(intruder, kept)


def cut_everything(intruder: Intruder) -> None:
    """The same, and everything that could tell of it."""
    cut_the_end(intruder)
    intruder(f"DELETE FROM audit_checkpoint WHERE size > {STEP}")
    for table in ("audit_hourlycount", "audit_dailycount", "audit_weeklycount"):
        intruder(f"UPDATE {table} SET count = {STEP}")


def rewrite_all(intruder: Intruder) -> None:
    edit_context(intruder)
    rebuild(intruder, tasks.signing_key())


def rewrite_rekeyed(intruder: Intruder) -> None:
    edit_context(intruder)
    other = SigningKey.generate(portal.AUDITPORTAL_ORIGIN)
    rebuild(intruder, other)
    intruder("UPDATE audit_logkey SET vkey = %(vkey)s", vkey=other.verifier.text())


def sign_rekeyed(intruder: Intruder) -> None:
    head = storage.head()
    note = SigningKey.generate(portal.AUDITPORTAL_ORIGIN).sign(Note.parse(head.note).text)
    intruder("UPDATE audit_checkpoint SET note = %(note)s WHERE size = 1500", note=note)


def spoil_signature(intruder: Intruder) -> None:
    note = Note.parse(storage.head().note)
    [signature] = note.signatures
    value = bytes([signature.value[0] ^ 1]) + signature.value[1:]
    spoilt = Note(note.text, (type(signature)(signature.name, signature.key_id, value),))
    intruder("UPDATE audit_checkpoint SET note = %(note)s WHERE size = 1500", note=str(spoilt))


def go_back(intruder: Intruder) -> None:
    intruder("DELETE FROM audit_checkpoint WHERE size = 1500")


def put_older_one(intruder: Intruder) -> None:
    intruder(
        "UPDATE audit_checkpoint SET (root, note) ="
        " (SELECT root, note FROM audit_checkpoint WHERE size = 1000) WHERE size = 1500"
    )


def delete_pending(intruder: Intruder) -> None:
    written(5, first=3 * STEP)
    intruder("DELETE FROM audit_pending")


def date_back(intruder: Intruder) -> None:
    intruder(
        "UPDATE audit_checkpoint SET signed_at = signed_at - interval '1 day' WHERE size = 1500"
    )


def duplicate_leaf(intruder: Intruder) -> None:
    intruder("ALTER TABLE audit_leaf DROP CONSTRAINT audit_leaf_event_id_key")
    intruder(f"UPDATE audit_leaf SET event_id = {EVENT.format(700)} WHERE index = 701")


def change_a_count(intruder: Intruder) -> None:
    intruder("UPDATE audit_hourlycount SET count = count - 1")


@dataclass(frozen=True)
class Tamper:
    """What is done, and the kinds that must be named for it.

    `alone`: with nothing but the database. `memory`: with what the worker remembers beside it;
    `published`: with a published copy. None: they say no more. `offline`: by the assessor's own
    program, from an export and the published copy.
    """

    do: Callable[[Intruder], None]
    offline: str
    alone: str
    memory: str | None = None
    published: str | None = None

    def expected(self, column: str) -> set[str]:
        told = getattr(self, column)
        return set((self.alone if told is None else told).split())


LEAF, DISCLOSURE, ERASURE = "LEAF_MISMATCH", "DISCLOSURE_MISMATCH", "UNEXPLAINED_ERASURE"
TILE, MISSING, ROLLBACK = "TILE_MISMATCH", "MISSING_ROW", "SIZE_ROLLBACK"
KEY, SIGNATURE, TIME, COUNT = "UNKNOWN_KEY", "BAD_SIGNATURE", "TIME_REGRESSION", "COUNT_MISMATCH"
LACKS = f"{MISSING} {COUNT} SOURCE_SEQ_GAP"
MORE = f"UNSEALED {COUNT}"
TWO = f"DUPLICATE_EVENT {LEAF}"
TWICE = f"{TWO} UNSEALED SOURCE_SEQ_GAP"
AGAIN = "INCONSISTENT SPLIT_VIEW"
OLDER, CUT_ALONE = f"{MISSING} {ROLLBACK}", f"{ROLLBACK} {COUNT}"
OTHER_KEY, REKEYED = f"{KEY} INCONSISTENT", f"{KEY} {AGAIN}"
NONE = ""

# fmt: off
TAMPERS = {
    # What is done                                             offline    the database alone
    "a column edited":                Tamper(edit_column,      LEAF,      LEAF),
    "the context edited":             Tamper(edit_context,     LEAF,      LEAF),
    "a personal field edited":        Tamper(edit_personal,    NONE,      DISCLOSURE),
    "a personal field added":         Tamper(add_personal,     NONE,      DISCLOSURE),
    "an address made a network":      Tamper(widen_address,    NONE,      DISCLOSURE),
    "the personal part emptied":      Tamper(empty_personal,   NONE,      ERASURE),
    "one personal field emptied":     Tamper(empty_one_value,  NONE,      ERASURE),
    "a row deleted":                  Tamper(delete_row,       MISSING,   LACKS),
    "a row and its leaf deleted":     Tamper(delete_with_leaf, MISSING,   LACKS),
    "a row inserted with an old id":  Tamper(insert_row,       NONE,      MORE),
    "the same with a leaf number -1": Tamper(hide_row,         NONE,      MORE),
    "two rows swapped":               Tamper(swap_rows,        LEAF,      LEAF),
    "two leaves swapped":             Tamper(swap_leaves,      LEAF,      LEAF),
    "an event with two leaves":       Tamper(duplicate_leaf,   TWO,       TWICE),
    "a pending row deleted":          Tamper(delete_pending,   NONE,      MORE),
    "a count changed":                Tamper(change_a_count,   NONE,      COUNT),

    "a bit of a tile flipped":        Tamper(flip_leaf_tile,   TILE,      TILE),
    "a bit of the last tile flipped": Tamper(flip_last_tile,   TILE,      TILE),
    "a bit of a tile above flipped":  Tamper(flip_upper_tile,  TILE,      TILE),

    # A copy says more where a third column, with the worker's memory, and a fourth, published, are.
    "a checkpoint by another key":    Tamper(sign_rekeyed,     KEY,       KEY),
    "a signature spoilt":             Tamper(spoil_signature,  SIGNATURE, SIGNATURE),
    "back to an older checkpoint":    Tamper(go_back,          ROLLBACK,  ROLLBACK),
    "an older one in its place":      Tamper(put_older_one,    OLDER,     "INCONSISTENT"),
    "a checkpoint dated back":        Tamper(date_back,        NONE,      TIME),

    "1,000 cut, leaves and tiles":    Tamper(cut_the_end,      MISSING,   CUT_ALONE),
    "the same and all that tells":    Tamper(cut_everything,   ROLLBACK,  NONE, ROLLBACK, ROLLBACK),
    "rewritten, signed by the key":   Tamper(rewrite_all,      AGAIN,     NONE, AGAIN, AGAIN),
    "rewritten, by another key":      Tamper(rewrite_rekeyed,  REKEYED,   NONE, KEY, OTHER_KEY),
}
# fmt: on


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing numbers are told at once, not only when they can no longer come."""
    monkeypatch.setattr("audit.ledger.verification.run.GRACE", timedelta(0))


@pytest.fixture
def forgetful(settings: Any, tmp_path: Path) -> Callable[[], None]:
    """Takes away the worker's own memory of what it signed."""

    def forget() -> None:
        settings.LEDGER_MEMORY_DIR = tmp_path / "nothing"

    return forget


def said_offline(folder: Path, published: Path) -> set[str]:
    """The kinds that the assessor's own program names, given a new copy and the published one."""
    write_copy(folder, storage.head())
    command = [
        *(sys.executable, "static/audit/verify_log.py", folder, "--json"),
        *("--vkey", (published / "vkey").read_text().strip(), "--previous", published),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["holds"] else 1), done.stderr
    return set(document["faults"])


@pytest.mark.parametrize("name", TAMPERS)
def test_a_tamper_is_caught_by_the_database_or_a_copy(
    log, intruder, late, forgetful, name, tmp_path
):
    tamper = TAMPERS[name]
    tamper.do(intruder)
    said = {
        "memory": kinds(verify()),
        "published": kinds(verify(against=log)),
        "offline": said_offline(tmp_path / "export", log),
    }
    forgetful()
    said = {"alone": kinds(verify())} | said
    print(
        "|", name, "|", " | ".join(" ".join(sorted(found)) or "–" for found in said.values()), "|"
    )
    for column, found in said.items():
        assert found == tamper.expected(column), column
    assert said["published"], "each is caught at the latest with the published copy"


def test_a_fault_names_its_event(log, intruder, late):
    edit_column(intruder)
    edit_personal(intruder)
    result = verify()
    event_id = str(Leaf.objects.get(index=700).event_id)
    for kind in (Kind.LEAF_MISMATCH, Kind.DISCLOSURE_MISMATCH):
        [fault] = [fault for fault in result.faults.kept if fault.kind is kind]
        assert (fault.index, fault.event_id) == (700, event_id)
    delete_row(intruder)
    [fault] = [fault for fault in verify().faults.kept if fault.kind is Kind.MISSING_ROW]
    assert (fault.index, fault.event_id) == (700, event_id)


HOSTILE = {
    "a list for a context": "context = '[1]'",
    "a number that JSON readers round": "context = '{\"attempts\": 9007199254740993}'",
    "a deep context": "context = (repeat('[', 3000) || repeat(']', 3000))::jsonb",
    "a list for digests": "digests = '[1]'",
    "no digests": "digests = '{}'",
    "another version": "entry_version = 2",
    "another leaf hash": "leaf_hash = sha256('x')",
    "a year before Christ": "occurred_at = (occurred_at::text || ' BC')::timestamptz",
    "the end of time": "occurred_at = 'infinity'",
    "recorded at the end of time": "recorded_at = 'infinity'",
    "a list with a gap": "changed = ARRAY['a', NULL]",
    "a list of lists": "changed = ARRAY[['a'], ['b']]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_ingest_would_never_store_is_a_fault_and_stops_nothing(log, intruder, name):
    intruder(f"UPDATE audit_auditevent SET {HOSTILE[name]} WHERE id = {EVENT.format(700)}")
    result = verify()
    assert "LEAF_MISMATCH" in kinds(result)
    assert places(result, Kind.LEAF_MISMATCH) == {700}


@pytest.mark.parametrize("personal", ["[1]", '"x"', "7"])
def test_a_personal_part_that_cannot_be_read_is_a_fault(log, intruder, personal):
    intruder(
        f"UPDATE audit_auditevent SET personal_context = '{personal}'"
        f" WHERE id = {EVENT.format(700)}"
    )
    assert kinds(verify()) == {"DISCLOSURE_MISMATCH"}


def test_a_month_swept_by_hand_is_not_taken_for_pruned(log, intruder, late):
    month = datetime.now(UTC).date().replace(day=1)
    intruder("DELETE FROM audit_auditevent")
    intruder(f"INSERT INTO audit_pruning VALUES ('{month}', now(), 1500, 'forged')")
    result = verify()
    assert result.faults.counts[Kind.MISSING_ROW] == 3 * STEP
    assert result.pruned == 0


def test_of_many_equal_faults_the_first_are_kept_and_all_are_counted(log, intruder, monkeypatch):
    monkeypatch.setattr(faults_module, "MOST_KEPT", 10)
    intruder("UPDATE audit_auditevent SET purpose = 'other'")
    result = verify()
    assert result.faults.counts == {Kind.LEAF_MISMATCH: 3 * STEP}
    assert [fault.index for fault in result.faults.kept] == list(range(10))


def test_an_event_recorded_after_it_was_sealed_is_named(own_database, intruder):
    written(3)
    sealed()
    intruder("UPDATE audit_checkpoint SET signed_at = signed_at - interval '11 seconds'")
    result = verify()
    assert kinds(result) == {"TIME_REGRESSION"}
    assert places(result, Kind.TIME_REGRESSION) == {0, 1, 2}


def test_clocks_may_differ_by_seconds(own_database, intruder):
    written(3)
    sealed()
    intruder("UPDATE audit_checkpoint SET signed_at = signed_at - interval '9 seconds'")
    assert kinds(verify()) == set()


def test_what_is_pending_for_long_is_named_and_what_is_new_is_not(own_database):
    written(2)
    sealed()
    written(3)
    assert kinds(verify()) == set()
    result = verify(delay=timedelta(0))
    assert result.faults.counts == {Kind.UNSEALED: 3}


# --- a clean log -------------------------------------------------------------------------------


@pytest.fixture
def eventful(own_database: str, outside: Path, settings: Any, tmp_path: Path) -> Path:
    """A log that has seen much: two keys, late commits, several sources, several days."""
    sealed()
    written(300, first=0)
    written(40, source="crm", first=7)
    sealed()
    tasks.publish_newest()
    with transaction.atomic(using="evidence"):
        ingest([a_sign_in(source_seq=300)], source="payments", using="evidence")
        written(199, first=301)
        sealed()
    sealed()
    new = keys.make_key(tmp_path / "new", tasks.signing_key().name)
    keys.hand_over(tasks.signing_key(), new)
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "new"
    written(100, first=500, occurred_at="2026-01-01T23:59:59.999999Z")
    written(60, source="crm", first=47)
    written(30, source="crm", first=0)  # begins again
    ingest([{"action": "user_login_attempted"}], source="web")
    sealed()
    tasks.publish_newest()
    return outside


def test_a_clean_log_has_no_fault(eventful, late):
    for result in (verify(), verify(against=eventful)):
        assert result.faults.kept == []
        assert (result.verdict, result.first, result.size) == ("consistent", 0, 731)


def test_an_empty_log_has_no_fault(own_database):
    assert verify().verdict == "consistent"
    sealed()
    assert (verify().verdict, verify().size) == ("consistent", 0)


@thoroughness(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(hostile_events(), min_size=10, max_size=10))
def test_whatever_ingest_accepts_gives_no_fault(own_database, rows):
    for row in rows:
        row.pop("source_seq", None)
    ingest(rows, source="payments")
    sealed()
    assert verify().faults.kept == []


def test_several_processes_find_what_one_finds(log, intruder, late, monkeypatch):
    edit_context(intruder)
    delete_row(intruder)
    alone = verify(processes=1)
    monkeypatch.setattr(parallel, "BLOCK", 256)
    monkeypatch.setattr(parallel, "WORTH_IT", 0)
    together = verify(processes=2)
    assert together.faults == alone.faults
    assert together.size == alone.size


def test_a_sealer_and_writers_at_work_cause_no_fault(own_database, outside):
    done = threading.Event()
    broken: list[BaseException] = []

    def keep_doing(work: Callable[[], None]) -> None:
        try:
            while not done.is_set():
                work()
        except BaseException as error:
            broken.append(error)
        finally:
            connections.close_all()

    def seal_and_publish() -> None:
        tasks.seal_pending()
        tasks.publish_newest()

    sealed()
    tasks.publish_newest()
    works = (lambda: written(7), lambda: written(11, source="crm"), seal_and_publish)
    threads = [threading.Thread(target=keep_doing, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        sizes = []
        until = datetime.now(UTC) + timedelta(seconds=4)
        while datetime.now(UTC) < until:
            result = verify(against=outside)
            assert result.faults.kept == []
            sizes.append(result.size)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert broken == []
    assert sizes[-1] > sizes[0]


def test_cosignatures_are_verified(own_database, outside, settings, intruder):
    written(3)
    sealed()
    with witness(keys.known_keys()[0]) as found:
        settings.LEDGER_WITNESSES = [f"{found.vkey.text()} {found.url}"]
        tasks.publish_newest()
    assert verify(against=outside).verdict == "consistent"
    intruder("UPDATE audit_cosignature SET signed_at = signed_at - interval '1 hour'")
    assert kinds(verify()) == {"BAD_SIGNATURE"}


# --- a published copy --------------------------------------------------------------------------


def test_a_copy_may_be_older_or_have_no_history(log):
    (log / "checkpoint").write_text((log / "checkpoints" / f"{STEP:020}").read_text())
    assert verify(against=log).verdict == "consistent"
    for path in (log / "checkpoints").iterdir():
        path.unlink()
    assert verify(against=log).verdict == "consistent"


def test_the_key_that_is_given_is_trusted_before_all_others(log):
    other = SigningKey.generate(portal.AUDITPORTAL_ORIGIN).verifier
    assert "UNKNOWN_KEY" in kinds(verify(against=log, trusted=other))
    (log / "vkey").write_text(other.text())
    assert "UNKNOWN_KEY" in kinds(verify(against=log))
    assert kinds(verify(against=log, trusted=keys.known_keys()[0])) == set()


def test_a_published_hand_over_stands_before_another_by_a_stolen_old_key(eventful, intruder):
    """The key that was replaced hands the log over once more, to somebody else's."""
    first = LogKey.objects.first()
    thief = SigningKey.generate(portal.AUDITPORTAL_ORIGIN)
    old = keys.read_key(eventful.parent / "signing_key")
    assert old.verifier.text() == first.vkey
    second = LogKey.objects.last()
    intruder(
        "UPDATE audit_logkey SET vkey = %(vkey)s, handover = %(note)s WHERE id = %(id)s",
        vkey=thief.verifier.text(),
        note=handovers.make(old, thief, portal.AUDITPORTAL_ORIGIN, second.from_size),
        id=second.id,
    )
    assert "UNKNOWN_KEY" in kinds(verify(against=eventful))


def test_a_published_checkpoint_of_another_tree_is_named(log):
    other = Head(portal.AUDITPORTAL_ORIGIN, STEP, bytes(32)).text()
    path = log / "checkpoints" / f"{STEP:020}"
    path.write_text(tasks.signing_key().sign(other))
    assert kinds(verify(against=log)) == {"INCONSISTENT", "SPLIT_VIEW"}
    path.write_text(SigningKey.generate(portal.AUDITPORTAL_ORIGIN).sign(other))
    assert kinds(verify(against=log)) == {"UNKNOWN_KEY"}
    path.write_text("no note")
    assert kinds(verify(against=log)) == {"BAD_SIGNATURE"}


# --- a part of the log -------------------------------------------------------------------------


def test_since_a_size_only_what_follows_is_verified(log, intruder):
    edit_column(intruder)
    assert kinds(verify(since=600)) == {"LEAF_MISMATCH"}
    result = verify(since=1000)
    assert (result.first, result.size, kinds(result)) == (768, 1500, set())


def test_since_a_time_only_what_was_sealed_later_is_verified(log):
    second = Checkpoint.objects.get(size=2 * STEP)
    assert verify(since=second.signed_at).first == 2 * STEP // 256 * 256
    assert verify(since=second.signed_at - timedelta(days=1)).first == 0


def test_where_tiles_are_missing_all_is_verified(log, intruder):
    intruder("DELETE FROM audit_tile WHERE level = 1")
    result = verify(since=1000)
    assert (result.first, kinds(result)) == (0, {"TILE_MISMATCH"})


# --- the numbers of sources --------------------------------------------------------------------


def gaps(*numbers: int) -> list[tuple[int, int]]:
    sequences, found = Sequences(), []
    for at, number in enumerate(numbers):
        found += sequences.add(Stretch("payments", number, number, at, at, ""))
    return [(gap.first, gap.last) for gap in [*found, *sequences.gaps()]]


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([5, 6, 7], []),
        ([0, 1, 2, 5, 6, 9], [(3, 4), (7, 8)]),
        ([3, 1, 2, 6, 5, 4], []),  # batches overtake each other
        ([2, 1, 3, 3, 2], []),
        ([*range(1, 31), *range(1, 5)], []),  # it began again
        ([*range(30, 61), 0, 1, 3], [(2, 2)]),
        ([*range(2, 31), 1, 31], []),  # the first one is late: no new beginning
        ([*range(1, 30), 31, *range(5), 30, 32, 5], []),  # a late one of the run before
        ([100, 1, 2], []),
    ],
)
def test_missing_numbers_are_found_whatever_the_order(numbers, missing):
    assert gaps(*numbers) == missing


def test_a_counters_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("audit.ledger.verification.sequences.MOST_STRETCHES", 10)
    assert gaps(*range(0, 200, 2)) == [(n, n) for n in range(1, 198, 2)]


def test_numbers_that_are_missing_are_named_once_they_can_no_longer_come(own_database, late):
    written(5, first=1)
    written(5, first=9)
    sealed()
    result = verify()
    assert (result.verdict, kinds(result)) == ("incomplete", {"SOURCE_SEQ_GAP"})
    [fault] = result.faults.kept
    assert (fault.index, fault.detail) == (5, "payments has no event with the number 6 to 8")


def test_numbers_that_may_still_come_are_not_missing(own_database):
    written(5, first=1)
    written(5, first=9)
    sealed()
    assert kinds(verify()) == set()


# --- the command -------------------------------------------------------------------------------


def said(capsys: Any, *arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    status = 0
    try:
        call_command("verify_ledger", *arguments)
    except SystemExit as exit:
        status = exit.code
    return status, capsys.readouterr().out


def test_the_command_says_stores_and_records_that_all_is_well(log, capsys):
    status, out = said(capsys, "--against", str(log))
    assert (status, out) == (0, "verified 1,500 of 1,500 events: consistent\n")
    stored = Verification.objects.get()
    assert (stored.first, stored.size, stored.verdict) == (0, 1500, "consistent")
    assert (stored.fault_count, stored.faults, stored.against) == (0, [], str(log))
    event = AuditEvent.objects.get(action="portal_ledger_verified")
    assert event.context == {"tree_size": 1500, "verdict": "consistent"}


def test_the_command_ends_with_1_on_a_fault(log, intruder, capsys):
    edit_column(intruder)
    status, out = said(capsys)
    event_id = str(Leaf.objects.get(index=700).event_id)
    assert status == 1
    assert f"LEAF_MISMATCH: event number 700, event {event_id}: " in out
    assert out.endswith("verified 1,500 of 1,500 events: inconsistent\n")
    stored = Verification.objects.get()
    assert (stored.verdict, stored.fault_count) == ("inconsistent", 1)
    assert stored.faults[0]["event_id"] == event_id
    event = AuditEvent.objects.get(action="portal_ledger_verification_failed")
    assert event.context == {"tree_size": 1500, "verdict": "inconsistent"}


def test_the_command_speaks_json(log, intruder, capsys):
    flip_leaf_tile(intruder)
    status, out = said(capsys, "--json", "--since", "0")
    document = json.loads(out)
    assert status == 1
    assert document["verdict"] == "inconsistent"
    assert document["counts"] == {"TILE_MISMATCH": 1}
    assert document["faults"][0]["index"] == 512


@pytest.mark.parametrize(
    "arguments",
    [("--against", "/nowhere"), ("--vkey", "nonsense"), ("--since", "yesterday")],
)
def test_the_command_ends_with_2_where_it_cannot_run(own_database, arguments):
    command = [sys.executable, "manage.py", "verify_ledger", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_a_run_that_cannot_be_recorded_says_what_it_found_and_fails(log, monkeypatch):
    def refuse(**fields: Any) -> None:
        raise DatabaseError("no space left")

    monkeypatch.setattr(audit, "record_sync", refuse)
    with pytest.raises(CommandError, match=r"consistent.*\n.*not be recorded.*no space") as caught:
        call_command("verify_ledger")
    assert caught.value.returncode == 2


def test_a_log_that_was_larger_at_an_earlier_verification_is_named(log, intruder, forgetful):
    call_command("verify_ledger")
    cut_everything(intruder)
    forgetful()
    assert kinds(verify()) == {"SIZE_ROLLBACK"}


# --- pruning -----------------------------------------------------------------------------------

OLD = datetime(2025, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def old_month(own_database: str, outside: Path) -> Path:
    """Events of a month long ago, and of now, all sealed."""
    ingest([a_sign_in(source_seq=n) for n in range(300)], source="payments", clock=lambda: OLD)
    sealed()
    written(100, first=300)
    sealed()
    tasks.publish_newest()
    return outside


def test_a_pruned_month_is_counted_and_no_fault(old_month, late, capsys):
    assert following.follow(pairing.FOLLOWER, pairing.follow) == 400
    call_command("prune_events", "2025-11", "--reason", "retention_over")
    assert Unpaired.objects.count() == 100, "what was derived from its events goes with them"
    assert capsys.readouterr().out == "pruned 300 events of 2025-11\n"
    assert AuditEvent.objects.count() == 101
    pruning = Pruning.objects.get()
    assert (pruning.month, pruning.events) == (date(2025, 11, 1), 300)
    event = AuditEvent.objects.get(action="portal_events_pruned")
    assert event.context == {"month": "2025-11", "count": 300, "reason": "retention_over"}
    sealed()
    status, out = said(capsys, "--against", str(old_month))
    assert (status, out) == (
        0, "PRUNED 300: events whose time was over\nverified 401 of 401 events: consistent\n",
    )  # fmt: skip
    assert Verification.objects.get().pruned == 300


def test_what_is_changed_after_a_pruning_is_still_found(old_month, intruder, late):
    call_command("prune_events", "2025-11", "--reason", "retention_over")
    sealed()
    edit = "UPDATE audit_auditevent SET purpose = 'x' WHERE id = " + EVENT.format(350)
    intruder(edit)
    flip(intruder, 0, 0)
    assert kinds(verify()) == {"LEAF_MISMATCH", "TILE_MISMATCH", "INCONSISTENT"}
    assert places(verify(), Kind.LEAF_MISMATCH) == {350}


@pytest.mark.parametrize(
    ("month", "why"),
    [
        (f"{datetime.now(UTC):%Y-%m}", "may still come"),
        ("2024-02", "no month"),
    ],
)
def test_a_month_that_is_not_over_or_not_there_is_not_pruned(old_month, month, why):
    with pytest.raises(CommandError, match=why):
        call_command("prune_events", month, "--reason", "x")
    assert AuditEvent.objects.count() == 400


def test_a_month_with_unsealed_events_is_not_pruned(old_month):
    ingest([a_sign_in()], source="payments", clock=lambda: OLD)
    with pytest.raises(CommandError, match="1 of its 301 events are not sealed"):
        call_command("prune_events", "2025-11", "--reason", "x")
    assert Pruning.objects.count() == 0
    assert AuditEvent.objects.count() == 401


def test_a_month_is_pruned_once_and_with_a_reason(old_month):
    with pytest.raises(CommandError, match="--reason"):
        call_command("prune_events", "2025-11", "--reason", " ")
    call_command("prune_events", "2025-11", "--reason", "retention_over")
    with pytest.raises(CommandError, match="has been pruned"):
        call_command("prune_events", "2025-11", "--reason", "again")


def test_a_pruning_without_its_event_excuses_nothing(old_month, intruder, late):
    call_command("prune_events", "2025-11", "--reason", "retention_over")
    sealed()
    intruder("DELETE FROM audit_auditevent WHERE action = 'portal_events_pruned'")
    result = verify()
    assert result.faults.counts[Kind.MISSING_ROW] == 301
    assert result.pruned == 0


@pytest.mark.parametrize("month", ["2025", "2025-13", "11/2025"])
def test_what_is_no_month_is_refused(own_database, month):
    with pytest.raises(CommandError, match="no month"):
        call_command("prune_events", month, "--reason", "x")
