"""The commands of the ledger beside sealing and verifying: copies for assessors, and keys."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as portal
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from audit import tasks
from audit.enums import PortalAction
from audit.ingest import ingest
from audit.ledger import keys, storage, tiles
from audit.ledger.notes import SigningKey, VerifierKey
from audit.models import AuditEvent, Checkpoint, Leaf, LogKey
from tests.conftest import a_sign_in, superuser_dsn

VERIFIER = Path(__file__).parent.parent / "static" / "audit" / "verify_log.py"


def run(*args: Any) -> tuple[str, str]:
    """What a command prints on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*map(str, args), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def grow(count: int) -> None:
    ingest([a_sign_in() for _ in range(count)], source="payments")
    tasks.seal_pending()


def verified(folder: Path, *more: Any) -> str:
    """What the offline verifier says of a copy, with its exit status before it."""
    vkey = LogKey.objects.all()[0].vkey
    done = subprocess.run(
        [sys.executable, VERIFIER, folder, "--vkey", vkey, *map(str, more)],
        capture_output=True,
        text=True,
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- export_ledger -----------------------------------------------------------------------------


def test_a_copy_holds_in_the_offline_verifier(own_database, tmp_path):
    grow(300)
    out, err = run("export_ledger", tmp_path / "log")
    assert out == f"{tmp_path / 'log'} is a copy of the log with 300 entries\n"
    assert LogKey.objects.get().vkey in err
    found = verified(tmp_path / "log")
    assert found.startswith("0 "), found
    assert "300 entries lead to the signed root" in found
    assert files(tmp_path / "log") == {
        "vkey", "checkpoint", f"checkpoints/{300:020}",
        "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1",
        "tile/entries/000", "tile/entries/001.p/44",
    }  # fmt: skip


def test_an_empty_log_has_a_copy_too(own_database, tmp_path):
    tasks.seal_pending()
    run("export_ledger", tmp_path / "log")
    assert verified(tmp_path / "log").startswith("0 ")


def test_a_copy_is_brought_up_to_date_and_nothing_is_written_twice(own_database, tmp_path):
    log, older = tmp_path / "log", tmp_path / "older"
    grow(300)
    run("export_ledger", log)
    shutil.copytree(log, older)
    (log / "tile/entries/000").touch()
    before = {name: (log / name).stat().st_mtime_ns for name in files(log)}
    grow(1)
    grow(300)
    run("export_ledger", log)
    found = verified(log, "--previous", older)
    assert found.startswith("0 "), found
    assert "603 entries lead to the signed root" in found, "with the first export's own two"
    rewritten = {name for name in before if (log / name).stat().st_mtime_ns != before[name]}
    assert rewritten == {"checkpoint"}


def test_a_copy_that_was_cut_short_is_completed(own_database, tmp_path, monkeypatch):
    grow(300)
    content = storage.content

    def fails_at_the_last(tile: tiles.Tile, *args: Any) -> Any:
        if tile.level == 1:
            raise OSError("the disk is full")
        return content(tile, *args)

    monkeypatch.setattr(storage, "content", fails_at_the_last)
    with pytest.raises(CommandError, match="the disk is full"):
        run("export_ledger", tmp_path / "log")
    assert not (tmp_path / "log" / "checkpoint").exists(), "what is not whole has none"
    monkeypatch.undo()
    run("export_ledger", tmp_path / "log")
    assert verified(tmp_path / "log").startswith("0 ")


def test_the_log_can_be_copied_as_it_was(own_database, tmp_path):
    for count in (5, 300):
        grow(count)
    run("export_ledger", tmp_path / "log", "--size", 5)
    assert "5 entries lead to the signed root" in verified(tmp_path / "log")
    with pytest.raises(CommandError, match="no checkpoint of 6 entries; the nearest: 5 and 305"):
        run("export_ledger", tmp_path / "other", "--size", 6)
    assert not (tmp_path / "other").exists()


def test_no_copy_is_made_before_anything_is_sealed(own_database, tmp_path):
    with pytest.raises(CommandError, match="nothing has been sealed yet"):
        run("export_ledger", tmp_path / "log")


def test_a_folder_with_something_else_in_it_is_refused(own_database, tmp_path):
    grow(3)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CommandError, match="not empty, and holds no copy of a log"):
        run("export_ledger", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(CommandError, match="thesis"):
        run("export_ledger", tmp_path / "thesis.txt")


def test_a_copy_of_another_log_is_refused(own_database, tmp_path):
    grow(3)
    run("export_ledger", tmp_path / "log")
    other = SigningKey.generate(portal.AUDITPORTAL_ORIGIN)
    (tmp_path / "log" / "vkey").write_text(other.verifier.text() + "\n")
    with pytest.raises(CommandError, match="another log"):
        run("export_ledger", tmp_path / "log")


@pytest.mark.parametrize("change", ["3\n", "9\n", "garbage"])
def test_a_copy_that_the_log_does_not_extend_is_refused(own_database, tmp_path, change):
    grow(3)
    run("export_ledger", tmp_path / "log")
    held = tmp_path / "log" / "checkpoint"
    origin, _, root, *rest = held.read_text().split("\n")
    root = "A" + root[1:] if root[0] != "A" else "B" + root[1:]
    text = change if change == "garbage" else "\n".join([origin, change.strip(), root, *rest])
    held.write_text(text)
    with pytest.raises(CommandError, match="does not extend"):
        run("export_ledger", tmp_path / "log")
    assert held.read_text() == text


def test_what_is_not_stored_any_more_is_left_out_and_said(own_database, tmp_path):
    grow(300)
    gone = Leaf.objects.get(index=3).event_id
    with psycopg.connect(superuser_dsn(), dbname=connection.settings_dict["NAME"]) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("ALTER TABLE audit_auditevent DISABLE TRIGGER ALL")
        superuser.execute("DELETE FROM audit_auditevent WHERE id = %s", [gone])
    _, err = run("export_ledger", tmp_path / "log")
    assert "not stored any more: tile/entries/000\n" in err
    assert "MISSING_ROW" in verified(tmp_path / "log")


def test_a_copy_is_recorded_as_an_export(own_database, tmp_path):
    grow(3)
    run("export_ledger", tmp_path / "log")
    event = AuditEvent.objects.get(action=PortalAction.PORTAL_EVENTS_EXPORTED.value)
    size = sum((tmp_path / "log" / name).stat().st_size for name in files(tmp_path / "log"))
    assert event.context["format"] == "tlog-tiles"
    assert (event.context["count"], event.context["size"]) == (3, size)
    attempt = AuditEvent.objects.get(action=PortalAction.PORTAL_EXPORT_ATTEMPTED.value)
    assert attempt.correlation_id == event.correlation_id


# --- keys --------------------------------------------------------------------------------------


def test_a_key_is_in_its_file_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(key):
        raise OSError("the disk is full")

    monkeypatch.setattr(SigningKey, "text", fails)
    with pytest.raises(OSError, match="full"):
        keys.make_key(tmp_path / "key", "log.example")
    assert list(tmp_path.iterdir()) == []


def test_a_new_key_is_for_this_log_and_only_its_owner_reads_it(tmp_path):
    out, err = run("make_signing_key", tmp_path / "keys" / "new")
    key = SigningKey.parse((tmp_path / "keys" / "new").read_text().strip())
    assert key.verifier == VerifierKey.parse(out.strip())
    assert key.name == portal.AUDITPORTAL_ORIGIN
    assert stat.S_IMODE((tmp_path / "keys" / "new").stat().st_mode) == 0o600
    assert key.text() not in out + err


def test_a_key_is_made_where_the_settings_say_and_never_overwritten(settings):
    run("make_signing_key")
    text = settings.AUDITPORTAL_SIGNING_KEY_FILE.read_text()
    with pytest.raises(CommandError, match="no key is ever overwritten"):
        run("make_signing_key")
    assert settings.AUDITPORTAL_SIGNING_KEY_FILE.read_text() == text


def test_a_key_that_cannot_be_kept_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="file is there already"):
        run("make_signing_key", tmp_path / "file" / "key")
    with pytest.raises(CommandError, match="no key was made"):
        run("make_signing_key", "/proc/key")


def test_a_key_is_rotated_and_the_log_still_verifies_from_the_first_one(
    own_database, tmp_path, settings
):
    grow(2)
    new = tmp_path / "new"
    made, _ = run("make_signing_key", new)
    out, err = run("rotate_signing_key", new)
    assert out == made
    assert f"AUDITPORTAL_SIGNING_KEY_FILE={new}" in err
    told = AuditEvent.objects.get(action="portal_signing_key_rotated").context
    assert told == {"signing_key": out.split("+")[1], "from_size": 2}
    settings.AUDITPORTAL_SIGNING_KEY_FILE = new
    grow(3)
    assert [key.from_size for key in LogKey.objects.all()] == [0, 2]
    run("export_ledger", tmp_path / "log")
    found = verified(tmp_path / "log")
    assert found.startswith("0 "), found
    assert "handovers/000001" in found


def test_a_new_key_signs_nothing_before_it_was_taken_on(own_database, tmp_path, settings):
    grow(2)
    run("make_signing_key", tmp_path / "new")
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "new"
    ingest([a_sign_in()], source="payments")
    with pytest.raises(ImproperlyConfigured, match="rotate_signing_key"):
        tasks.seal_pending()
    run("make_signing_key", tmp_path / "newer")
    with pytest.raises(CommandError, match="this log is signed with"):
        run("rotate_signing_key", tmp_path / "newer")
    assert Checkpoint.objects.count() == LogKey.objects.count() == 1


def test_the_old_key_signs_nothing_after_a_rotation(own_database, tmp_path):
    grow(2)
    run("make_signing_key", tmp_path / "new")
    run("rotate_signing_key", tmp_path / "new")
    ingest([a_sign_in()], source="payments")
    with pytest.raises(ImproperlyConfigured, match="this log is signed with"):
        tasks.seal_pending()
    with pytest.raises(CommandError, match="this log is signed with"):
        run("rotate_signing_key", tmp_path / "new")
    assert Checkpoint.objects.count() == 1


def test_a_rotation_that_cannot_be_is_one_sentence(own_database, tmp_path, settings):
    grow(1)
    with pytest.raises(CommandError, match="there is no signing key in"):
        run("rotate_signing_key", tmp_path / "nowhere")
    (tmp_path / "bad").write_text("no key")
    (tmp_path / "bad").chmod(0o600)
    with pytest.raises(CommandError, match="no signing key in"):
        run("rotate_signing_key", tmp_path / "bad")
    keys.make_key(tmp_path / "other", "another.log")
    with pytest.raises(CommandError, match=r"is for 'another\.log'"):
        run("rotate_signing_key", tmp_path / "other")
    with pytest.raises(CommandError, match="cannot hand over to itself"):
        run("rotate_signing_key", settings.AUDITPORTAL_SIGNING_KEY_FILE)
    assert LogKey.objects.count() == 1
