"""Checkpoints leave the machine: to folders and witnesses, each failing by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from audit import tasks
from audit.ingest import ingest
from audit.ledger import keys, publishing, storage
from audit.ledger.cosignatures import cosignatures
from audit.ledger.notes import Note, SigningKey, VerifierKey
from audit.models import Cosignature, LogKey, Publication
from tests.conftest import a_sign_in
from tests.witness import witness


def grow(count: int) -> None:
    ingest([a_sign_in() for _ in range(count)], source="payments")
    tasks.seal_pending()


@pytest.fixture
def outside(settings: Any, tmp_path: Path) -> Path:
    """A folder that leaves the machine."""
    settings.LEDGER_PUBLISH_DIR = str(tmp_path / "outside")
    return tmp_path / "outside"


def the_key() -> VerifierKey:
    return keys.known_keys()[0]


# --- folders -----------------------------------------------------------------------------------


def test_each_seal_is_remembered_at_once(own_database, settings):
    grow(3)
    assert publishing.published(settings.LEDGER_MEMORY_DIR) == storage.head().note


def test_a_folder_gets_every_checkpoint_that_is_published_and_what_checks_it(own_database, outside):
    grow(3)
    tasks.publish_newest()
    grow(2)
    tasks.publish_newest()
    files = sorted(str(path.relative_to(outside)) for path in outside.rglob("*") if path.is_file())
    assert files == ["checkpoint", f"checkpoints/{3:020}", f"checkpoints/{5:020}", "vkey"]
    assert (outside / "checkpoint").read_text() == storage.head().note
    assert VerifierKey.parse((outside / "vkey").read_text().strip()) == the_key()
    [publication] = Publication.objects.all()
    assert (publication.target, publication.size, publication.error) == (str(outside), 5, "")


def test_a_folder_gets_the_hand_overs_of_the_key(own_database, outside, settings, tmp_path):
    grow(1)
    new = keys.make_key(tmp_path / "new", tasks.signing_key().name)
    keys.hand_over(tasks.signing_key(), new)
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "new"
    grow(1)
    tasks.publish_newest()
    assert (outside / "handovers" / "000001").read_text() == LogKey.objects.last().handover
    assert VerifierKey.parse((outside / "vkey").read_text().strip()) == the_key()


def test_a_published_file_is_never_written_twice(own_database, outside):
    grow(3)
    tasks.publish_newest()
    old = outside / "checkpoints" / f"{3:020}"
    old.write_text("changed outside")
    tasks.publish_newest()
    assert old.read_text() == "changed outside"


def test_a_folder_that_cannot_be_written_is_said_and_tried_again(own_database, outside):
    outside.write_text("a file")
    grow(1)
    with pytest.raises(OSError, match="outside"):
        tasks.publish_newest()
    publication = Publication.objects.get()
    assert (publication.size, "Error" in publication.error) == (None, True)
    outside.unlink()
    tasks.publish_newest()
    publication.refresh_from_db()
    assert (publication.size, publication.error) == (1, "")


def test_a_retired_key_signs_no_later_checkpoint(own_database, outside, settings, tmp_path):
    grow(1)
    old = tasks.signing_key()
    keys.hand_over(old, keys.make_key(tmp_path / "new", old.name))
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "new"
    grow(1)
    outside.mkdir()
    text = Note.parse(storage.head().note).text
    (outside / "checkpoint").write_text(old.sign(text))
    ingest([a_sign_in()], source="payments")
    with pytest.raises(publishing.Contradiction, match="UNKNOWN_KEY"):
        tasks.seal_pending()


# --- witnesses ---------------------------------------------------------------------------------


def test_a_witness_cosigns_each_checkpoint_it_is_brought(own_database, settings, outside):
    grow(3)
    with witness(the_key()) as found:
        settings.LEDGER_WITNESSES = [f"{found.vkey.text()} {found.url}"]
        tasks.publish_newest()
        grow(300)
        tasks.publish_newest()
        tasks.publish_newest()
        assert len(found.requests) == 2
    note = Note.parse((outside / "checkpoint").read_text())
    assert [cosigned.witness for cosigned in cosignatures(note, [found.vkey])] == [found.vkey]
    assert note.text.splitlines()[1] == "303"
    stored = Cosignature.objects.order_by("id")
    assert [row.checkpoint_id for row in stored] == [3, 303]
    assert str(note) == publishing.cosigned(storage.head())


def test_a_witness_that_knows_more_than_was_stored_is_asked_again(own_database, settings):
    grow(3)
    with witness(the_key()) as found:
        settings.LEDGER_WITNESSES = [f"{found.vkey.text()} {found.url}"]
        tasks.publish_newest()
        with connections["owner"].cursor() as cursor:
            cursor.execute("ALTER TABLE audit_cosignature DISABLE TRIGGER append_only")
            cursor.execute("DELETE FROM audit_cosignature")
        grow(4)
        tasks.publish_newest()
    assert Cosignature.objects.get().checkpoint_id == 7


def test_a_witness_that_does_not_answer_holds_up_nobody(own_database, settings, outside):
    grow(3)
    with witness(the_key()) as gone:
        url = gone.url
    with witness(the_key()) as found:
        settings.LEDGER_WITNESSES = [
            f"{gone.vkey.text()} {url}", f"{found.vkey.text()} {found.url}",
        ]  # fmt: skip
        with pytest.raises(OSError, match="Unreachable"):
            tasks.publish_newest()
    errors = {row.target: bool(row.error) for row in Publication.objects.all()}
    assert errors == {gone.vkey.text(): True, found.vkey.text(): False, str(outside): False}


def test_a_witness_that_does_not_trust_the_key_is_named(own_database, settings):
    grow(3)
    stranger = SigningKey.generate(the_key().name).verifier
    with witness(stranger) as found:
        settings.LEDGER_WITNESSES = [f"{found.vkey.text()} {found.url}"]
        with pytest.raises(OSError, match="KeyNotTrusted"):
            tasks.publish_newest()
    assert not Cosignature.objects.exists()


@pytest.mark.parametrize("text", ["nonsense", "name+00000000+AAAA http://127.0.0.1/", ""])
def test_a_witness_that_is_misspelt_in_the_settings_stops_the_start(settings, text):
    settings.LEDGER_WITNESSES = [text]
    with pytest.raises(ImproperlyConfigured, match="LEDGER_WITNESSES"):
        publishing.witnesses()


def test_two_workers_do_not_publish_at_once(own_database, outside):
    grow(1)
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('audit_publish'))")
        tasks.publish_newest()
        assert not outside.exists()
        cursor.execute("SELECT pg_advisory_unlock(hashtext('audit_publish'))")
    tasks.publish_newest()
    assert outside.exists()
