"""The log as it is served: what verifiers fetch, who may, and how long it may be kept."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit import canonical, tasks
from audit.enums import PortalAction
from audit.ingest import Receipt, ingest
from audit.ledger import evidence, keys, merkle, storage, tiles
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.cosignatures import cosign
from audit.ledger.notes import COSIGNATURE_V1, Note, SigningKey, VerifierKey
from audit.ledger.proofs import Proof
from audit.models import AuditEvent, Cosignature, Leaf, LogKey
from tests.conftest import App, a_sign_in, superuser_dsn

VERIFIER = Path(__file__).parent.parent / "static" / "audit" / "verify_log.py"
FILES = ["checkpoint", "vkey", "tile/0/000.p/3", "tile/entries/000.p/3"]


@pytest.fixture
def log(own_database: str) -> Callable[[int], list[Receipt]]:
    """Stores that many events and seals them; their receipts."""

    def grown(count: int) -> list[Receipt]:
        receipts = ingest([a_sign_in() for _ in range(count)], source="payments")
        tasks.seal_pending()
        return receipts

    return grown


@pytest.fixture
def reader(own_database: str) -> App:
    """An assessor's program: its key opens the log and nothing else."""
    return App("assessor", ["ledger"])


def signed_in(*roles: str) -> Client:
    """A browser of a member of staff with these roles."""
    user = User.objects.create_user("-".join(roles) or "outsider", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    client = Client()
    client.force_login(user)
    return client


def fetched(client: Any, path: str) -> Any:
    return client.get(f"/log/{path}")


# --- what is served ----------------------------------------------------------------------------


def test_an_outsider_can_compute_the_signed_root_from_what_is_served(log, reader):
    log(300)
    note = Note.parse(fetched(reader, "checkpoint").content)
    key = VerifierKey.parse(fetched(reader, "vkey").content.decode().strip())
    assert list(note.verified([key])) == [key]
    head = Head.parse(note.text)
    assert head.size == 300
    entries, leaves = [], b""
    for number, width in ((0, 256), (1, 44)):
        place = tiles.path(tiles.Tile(tiles.ENTRIES, number), width)
        entries += tiles.unbundle(fetched(reader, place).content)
        leaves += fetched(reader, tiles.path(tiles.Tile(0, number), width)).content
    assert b"".join(map(canonical.leaf, entries)) == leaves
    frontier = merkle.Frontier()
    frontier.extend(leaves)
    assert frontier.root() == head.root
    assert len(fetched(reader, "tile/1/000.p/1").content) == 32


def test_entries_stand_in_the_order_of_the_log_and_hold_no_personal_value(log, reader):
    ingest([a_sign_in(user_id="eve@example.com")], source="payments")
    log(2)
    body = fetched(reader, "tile/entries/000.p/3").content
    ids = [json.loads(entry)["id"] for entry in tiles.unbundle(body)]
    assert ids == [str(leaf.event_id) for leaf in Leaf.objects.order_by("index")]
    assert b"eve@example.com" not in body


def test_a_narrower_tile_is_the_beginning_of_a_wider_one(log, reader):
    log(260)
    full = fetched(reader, "tile/0/000").content
    assert len(full) == 256 * 32
    assert fetched(reader, "tile/0/000.p/7").content == full[: 7 * 32]
    bundle = fetched(reader, "tile/entries/000").content
    assert bundle.startswith(fetched(reader, "tile/entries/000.p/7").content)


def test_each_file_has_its_type_and_head_tells_it_too(log, reader):
    log(3)
    text, data = ["text/plain; charset=utf-8"] * 2, ["application/octet-stream"] * 2
    for path, expected in zip(FILES, text + data, strict=True):
        for method in (reader.client.get, reader.client.head):
            answer = method(f"/log/{path}", headers={"Accept": "image/png"})
            assert (answer.status_code, answer["Content-Type"]) == (200, expected), path


def test_hand_overs_are_served_by_number(log, reader, settings, tmp_path):
    log(1)
    new = keys.make_key(tmp_path / "new", tasks.signing_key().name)
    keys.hand_over(tasks.signing_key(), new, using=tasks.USING)
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "new"
    log(1)
    assert fetched(reader, "handovers/000001").content.decode() == LogKey.objects.last().handover
    assert fetched(reader, "vkey").content.decode().strip() == LogKey.objects.first().vkey
    for number in ("000000", "000002", "1", "0000001", "00000１", "x"):
        assert fetched(reader, f"handovers/{number}").status_code == 404, number


def test_with_witnesses_only_what_one_of_them_saw_is_served(log, reader, settings):
    [receipt] = log(1)
    witness = SigningKey.generate("witness.example", COSIGNATURE_V1)
    settings.LEDGER_WITNESSES = [f"{witness.verifier.text()} http://127.0.0.1:1/"]
    assert evidence.served().size == 1, "as long as none has cosigned, the newest"
    head = storage.head()
    signature = cosign(Head.parse(Note.parse(head.note).text), witness, head.signed_at)
    Cosignature.objects.using("worker").create(
        checkpoint=head,
        vkey=witness.verifier.text(),
        line=str(signature),
        signed_at=head.signed_at,
    )
    [later] = log(1)
    assert storage.head().size == 2
    note = Note.parse(fetched(reader, "checkpoint").content)
    assert Head.parse(note.text).size == 1
    assert witness.verifier in note.signers([witness.verifier])
    assert evidence.proof_of(receipt.id).proof.note == note
    assert evidence.proof_of(later.id).proof.checkpoint.size == 2, "no witness saw it yet"


# --- how long it may be kept -------------------------------------------------------------------


def test_tiles_are_kept_for_long_and_checkpoints_are_not(log, reader):
    log(3)
    kept = {path: fetched(reader, path)["Cache-Control"] for path in FILES}
    assert kept.pop("checkpoint") == kept.pop("vkey") == "private, no-cache"
    assert set(kept.values()) == {"private, max-age=31536000, immutable"}
    assert "Authorization" in fetched(reader, "tile/0/000.p/3")["Vary"]


def test_a_public_log_may_be_kept_by_everybody_but_its_entries(log, reader, settings):
    log(3)
    settings.LEDGER_PUBLIC = True
    tile, bundle = (fetched(reader, path) for path in FILES[2:])
    assert tile["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Vary" not in tile, "one copy for all"
    assert bundle["Cache-Control"] == "private, max-age=31536000, immutable"


def test_no_refusal_is_kept(log, reader):
    log(3)
    assert fetched(reader, "tile/0/000.p/4")["Cache-Control"] == "no-store"
    assert fetched(Client(), "tile/0/000.p/3")["Cache-Control"] == "no-store"


# --- who may -----------------------------------------------------------------------------------


def test_a_key_without_the_scope_and_nobody_are_refused(log):
    log(3)
    wrong = App("crm", ["read", "write", "export"])
    for path in FILES:
        nobody = fetched(Client(), path)
        assert (nobody.status_code, nobody["WWW-Authenticate"]) == (401, "Api-Key")
        assert nobody["Content-Type"] == "application/problem+json"
        assert fetched(wrong, path).status_code == 403
        assert "lacks the scope 'ledger'" in fetched(wrong, path).json()["detail"]
        bad = Client().get(f"/log/{path}", headers={"Authorization": "Api-Key abcdefgh.x"})
        assert bad.status_code == 401


def test_staff_who_may_view_events_read_it_in_a_browser(log):
    log(3)
    reviewer, outsider = signed_in("Reviewer"), signed_in()
    for path in FILES:
        assert fetched(reviewer, path).status_code == 200
        refused = fetched(outsider, path)
        assert refused.status_code == 403
        assert "does not let you view events" in refused.content.decode()
        answer = Client().get(f"/log/{path}", headers={"Accept": "text/html,*/*;q=0.8"})
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next=/log/{path}")


def test_a_key_counts_before_a_session(log):
    log(3)
    key = App("crm", ["read"]).key
    answer = signed_in("Reviewer").get(
        "/log/checkpoint", headers={"Authorization": f"Api-Key {key}"}
    )
    assert answer.status_code == 403


def test_a_public_log_shows_everybody_its_hashes_and_nobody_its_entries(log, settings):
    log(3)
    settings.LEDGER_PUBLIC = True
    assert [fetched(Client(), path).status_code for path in FILES] == [200, 200, 200, 401]


def test_nothing_but_reading_is_done_here(reader):
    for path in (*FILES, "handovers/000001"):
        for method in ("post", "put", "patch", "delete"):
            assert getattr(reader.client, method)(f"/log/{path}").status_code == 405, path


def test_reading_the_log_leaves_no_event(log, reader):
    log(3)
    before = AuditEvent.objects.count()
    for path in FILES:
        fetched(reader, path)
    assert AuditEvent.objects.count() == before


# --- what is not there -------------------------------------------------------------------------


def test_an_empty_log_has_neither_checkpoint_nor_key_nor_tiles(reader):
    for path in (*FILES, "tile/0/000"):
        answer = fetched(reader, path)
        assert (answer.status_code, answer.json()["status"]) == (404, 404), path


BAD_PATHS = [
    "tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/63/000", "tile/64/000", "tile/00/000",
    "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/03", "tile/0/000.p/3/", "tile/0/0",
    "tile/0/x000/000.p/3", "tile/0/000.p/３", "tile/-1/000.p/1", "tile/0/../0/000.p/3",
    "tile/0/%2e%2e/000", "tile/0//000.p/3", "tile/entries", "tile/entries/", "tile/entries/000",
    "tile/entries/001.p/1", "tile/entries/000.p/4", "tile/entries/%00", "tile/data/000", "tile/",
    "tile/0/x999/x999/x999/x999/x999/999", "tile/entries/x999/x999/x999/x999/x999/999.p/255",
    "tile/0/000.p/3%0A", "checkpoint/", "nothing", "",
]  # fmt: skip


def test_every_other_path_is_404_in_one_sentence(log, reader):
    log(3)
    for path in BAD_PATHS:
        answer = fetched(reader, path)
        assert answer.status_code == 404, path
        assert answer["Content-Type"] == "application/problem+json"
        assert len(answer.json()["detail"]) > 20


def test_a_parameter_is_refused(log, reader):
    log(3)
    assert fetched(reader, "checkpoint?size=1").status_code == 400


def test_an_entry_whose_event_is_gone_is_410(log, reader):
    log(3)
    gone = Leaf.objects.get(index=1).event_id
    with psycopg.connect(superuser_dsn(), dbname=connection.settings_dict["NAME"]) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("ALTER TABLE audit_auditevent DISABLE TRIGGER ALL")
        superuser.execute("DELETE FROM audit_auditevent WHERE id = %s", [gone])
    answer = fetched(reader, "tile/entries/000.p/3")
    assert answer.status_code == 410
    assert answer.json()["detail"].startswith("Entry 1 is no longer stored")
    assert fetched(reader, "tile/entries/000.p/1").status_code == 200
    told = reader.get(proof_url(gone)).json()
    assert (told["index"], told["entry"]) == (1, None)


# --- the proof of one event --------------------------------------------------------------------


def proof_url(id: Any) -> str:
    return f"/api/v1/events/{id}/proof/"


def test_a_proof_holds_all_that_shows_an_event_to_be_in_the_log(log, reader):
    receipts = log(300)
    told = reader.get(proof_url(receipts[257].id)).json()
    entry = told["entry"].encode()
    assert json.loads(entry)["id"] == told["event_id"] == str(receipts[257].id)
    leaf = canonical.leaf(entry)
    assert leaf.hex() == told["leaf_hash"] == receipts[257].leaf_hash.hex()
    root, hashes = b64decode(told["root"]), [b64decode(hash) for hash in told["hashes"]]
    assert merkle.verify_inclusion(leaf, told["index"], told["size"], hashes, root)
    head = Head.parse(Note.parse(told["checkpoint"]).text)
    assert (head.size, head.root) == (300, root)
    proof = Proof.parse(told["tlog_proof"])
    assert (proof.index, list(proof.hashes)) == (told["index"], hashes)


def test_as_text_it_is_a_tlog_proof_that_the_offline_verifier_takes(log, reader, tmp_path):
    [receipt, *_] = log(5)
    answer = reader.client.get(proof_url(receipt.id), headers={"Accept": "text/plain"})
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    (tmp_path / "x.tlog-proof").write_bytes(answer.content)
    (tmp_path / "x.entry").write_text(reader.get(proof_url(receipt.id)).json()["entry"])
    vkey = LogKey.objects.first().vkey
    done = subprocess.run(
        [sys.executable, VERIFIER, tmp_path, "--vkey", vkey], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert str(receipt.id) in done.stdout


def test_an_event_that_is_not_sealed_yet_is_to_be_asked_for_again(reader):
    [receipt] = ingest([a_sign_in()], source="payments")
    answer = reader.get(proof_url(receipt.id))
    assert (answer.status_code, answer["Retry-After"]) == (404, "1")
    assert "not sealed yet: it is pending" in answer.json()["detail"]


def test_there_is_no_proof_of_what_is_no_event(log, reader):
    log(1)
    for id in (uuid4(), "x", "0190%2F"):
        answer = reader.get(proof_url(id))
        assert answer.status_code == 404
        assert "Retry-After" not in answer


def test_a_proof_needs_the_scope_ledger_or_read(log):
    [receipt] = log(1)
    url = proof_url(receipt.id)
    assert App("crm", ["read"]).get(url).status_code == 200
    for scope in ("write", "export"):
        answer = App("crm", [scope]).get(url)
        assert answer.status_code == 403
        assert "lacks the scope 'ledger' or 'read'" in answer.json()["detail"]
    assert Client().get(url).status_code == 401


def test_a_proof_takes_no_parameter_and_no_other_form(log, reader):
    [receipt] = log(1)
    assert reader.get(proof_url(receipt.id), format="txt").status_code == 400
    other = reader.client.get(proof_url(receipt.id), headers={"Accept": "application/xml"})
    assert other.status_code == 406
    assert reader.client.post(proof_url(receipt.id)).status_code == 405


def test_proving_an_event_is_recorded_as_viewing_it(log, reader):
    [receipt] = log(1)
    reader.get(proof_url(receipt.id))
    [event] = AuditEvent.objects.filter(action=PortalAction.PORTAL_EVENT_VIEWED.value)
    assert event.context["event_id"] == str(receipt.id)


def test_a_proof_costs_a_handful_of_queries_however_large_the_log_is(log):
    [receipt] = log(1)
    with CaptureQueriesContext(connection) as few:
        evidence.proof_of(receipt.id)
    log(700)
    with CaptureQueriesContext(connection) as many:
        evidence.proof_of(receipt.id)
    assert len(few) == len(many) <= 6
