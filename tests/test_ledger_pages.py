"""The ledger in the admin: its own page, and an event's place in the log with its verification."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client

from audit import tasks
from audit.enums import PortalAction
from audit.ingest import Receipt, ingest
from audit.ledger import evidence, keys, merkle, storage
from audit.ledger.notes import COSIGNATURE_V1, SigningKey
from audit.ledger.proofs import Proof
from audit.models import (
    AuditEvent,
    Checkpoint,
    Cosignature,
    Heartbeat,
    LogKey,
    Publication,
    Verification,
)
from tests.conftest import App, a_sign_in, superuser_dsn
from tests.test_pages import seen

LEDGER = "/admin/ledger/"


def sealed(count: int = 3) -> list[Receipt]:
    receipts = ingest([a_sign_in() for _ in range(count)], source="payments")
    tasks.seal_pending()
    return receipts


def signed_in(*roles: str) -> Client:
    user = User.objects.create_user("-".join(roles) or "outsider", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    client = Client(enforce_csrf_checks=False)
    client.force_login(user)
    return client


def alive(**fields: Any) -> None:
    """Say that the worker's sealer is at work; or what the fields say of it."""
    values = {"part": "sealer", "at": datetime.now(UTC)} | fields
    Heartbeat.objects.using("worker").create(**values)


def tamper(statement: str, *values: Any) -> None:
    """Change what nobody may, as the superuser, past the guard."""
    with psycopg.connect(superuser_dsn(), dbname=connection.settings_dict["NAME"]) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("ALTER TABLE audit_auditevent DISABLE TRIGGER ALL")
        superuser.execute("ALTER TABLE audit_checkpoint DISABLE TRIGGER ALL")
        superuser.execute("ALTER TABLE audit_tile DISABLE TRIGGER ALL")
        assert superuser.execute(statement.encode(), values).rowcount > 0


# --- the ledger's page -------------------------------------------------------------------------


def test_the_ledger_says_what_is_sealed_and_by_which_key(own_database):
    client = signed_in("Reviewer")
    sealed(3)
    alive()
    page = seen(client.get(LEDGER))
    assert f"Everything recorded is sealed : {storage.head().size} events" in page.text
    assert LogKey.objects.get().vkey in page.text
    assert f"python3 verify_log.py log --vkey '{LogKey.objects.get().vkey}'" in page.text
    assert "No checkpoint leaves this machine yet" in page.text
    assert "has not been verified yet" in page.text
    assert page.hrefs("verify_log")
    assert page.hrefs("/log/checkpoint")
    assert page.forbidden == []
    assert "Somebody has to look" not in page.text


def test_the_ledger_of_an_empty_portal_says_what_comes_next(own_database):
    page = seen(signed_in("Reviewer").get(LEDGER))
    assert "There is no checkpoint yet" in page.text
    assert "The log has no key yet" in page.text
    assert "has never run" in page.text
    assert "manage.py worker" in page.text


def test_the_ledger_is_for_those_who_may_view_events(own_database):
    assert Client().get(LEDGER)["Location"].startswith("/admin/login/")
    client = signed_in()
    assert client.get(LEDGER).status_code == 403
    assert seen(client.get("/admin/")).hrefs(LEDGER) == []
    assert seen(signed_in("Auditor").get("/admin/")).hrefs(LEDGER) == [LEDGER]


@pytest.mark.parametrize(
    ("beat", "says"),
    [
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "sealer was last heard of"),
        ({"error": "SIZE_ROLLBACK: an older copy"}, "cannot go on: SIZE_ROLLBACK: an older copy"),
        ({"part": "publisher"}, "has never run"),
    ],
)
def test_a_worker_that_does_not_work_is_told_plainly(own_database, beat, says):
    sealed(1)
    alive(**beat)
    page = seen(signed_in("Reviewer").get(LEDGER))
    assert "Somebody has to look after this" in page.text
    assert says in page.text


def test_a_publisher_may_be_quiet_between_its_rounds(own_database):
    sealed(1)
    alive()
    alive(part="publisher", at=datetime.now(UTC) - timedelta(seconds=50))
    assert "Somebody has to look" not in seen(signed_in("Reviewer").get(LEDGER)).text


def test_what_waits_too_long_is_told(own_database):
    sealed(1)
    alive()
    ingest([a_sign_in()], source="payments")
    client = signed_in("Reviewer")
    assert "just being sealed" in seen(client.get(LEDGER)).text
    tamper("UPDATE audit_pending SET created_at = now() - interval '1 minute'")
    page = seen(client.get(LEDGER))
    assert "wait to be sealed , the oldest for 1 min" in page.text
    assert "Nothing is lost" in page.text


def test_the_ledger_shows_where_checkpoints_were_brought_and_who_cosigned(own_database):
    sealed(2)
    witness = SigningKey.generate("witness.example/w", COSIGNATURE_V1).verifier.text()
    at = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    stored = Publication.objects.using("worker")
    stored.create(target="/mnt/out", size=1, at=at, tried_at=at, error="PermissionError: no")
    stored.create(target=witness, size=2, at=at, tried_at=at)
    Cosignature.objects.using("worker").create(
        checkpoint=storage.head(), vkey=witness, line="x", signed_at=at
    )
    text = seen(signed_in("Reviewer").get(LEDGER)).text
    assert "/mnt/out Folder failed 2026-03-01 09:30:00: PermissionError: no 1 events" in text
    assert "witness.example/w Witness brought 2 events 2026-03-01 09:30:00" in text
    assert "Cosigned by witness.example/w 2026-03-01 09:30:00 UTC" in text


def test_the_ledger_shows_keys_that_were_handed_over(own_database, tmp_path, settings):
    sealed(2)
    new = keys.make_key(tmp_path / "new", tasks.signing_key().name)
    keys.hand_over(tasks.signing_key(), new)
    text = seen(signed_in("Reviewer").get(LEDGER)).text
    assert all(vkey in text for vkey in LogKey.objects.values_list("vkey", flat=True))
    assert "Key number 2 signs from size 2 on" in text
    assert "An assessor needs the first key only" in text


def test_the_ledger_shows_the_last_verifications_with_their_faults(own_database):
    [receipt, *_] = sealed(3)
    at = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    fault = {"kind": "LEAF_MISMATCH", "detail": "its fields", "index": 0}
    faults = [
        fault | {"event_id": str(receipt.id)},
        *({"kind": "SOURCE_SEQ_GAP", "detail": f"gap {n}"} for n in range(5)),
    ]
    shared: dict[str, Any] = {"started_at": at, "finished_at": at, "first": 0, "size": 3}
    stored = Verification.objects.using("worker")
    stored.create(**shared, verdict="consistent", fault_count=0, faults=[], pruned=12)
    stored.create(
        **shared, verdict="inconsistent", fault_count=9, faults=faults, against="/mnt/out"
    )
    page = seen(signed_in("Reviewer").get(LEDGER))
    assert "inconsistent 3 numbers 0 to 2 /mnt/out LEAF_MISMATCH an event is not" in page.text
    assert page.hrefs(f"/admin/audit/auditevent/{receipt.id}/")
    assert "gap 2 and 2 more" in page.text
    assert "9 faults in all" in page.text
    assert "consistent 3 numbers 0 to 2 what this machine keeps no fault" in page.text
    assert "12 events were dropped when their time was over" in page.text


def test_the_program_for_assessors_is_the_one_that_is_tested():
    template = Path(__file__).parent.parent / "templates" / "audit" / "ledger.html"
    assert "{% static 'audit/verify_log.py' %}" in template.read_text()


# --- an event's place --------------------------------------------------------------------------


def page_of(id: Any, end: str = "/") -> str:
    return f"/admin/audit/auditevent/{id}{end}"


def test_an_event_says_where_it_is_sealed(own_database):
    sealed(2)
    [receipt] = sealed(1)
    sealed(5)
    text = seen(signed_in("Reviewer").get(page_of(receipt.id))).text
    assert "Sealed as number 2 (counted from 0), included in the checkpoint of 3 events" in text
    assert "Verify now" in text


def test_an_event_that_is_not_sealed_says_so(own_database):
    [receipt] = ingest([a_sign_in()], source="payments")
    client = signed_in("Reviewer")
    page = seen(client.get(page_of(receipt.id)))
    assert "Not sealed yet" in page.text
    assert page.hrefs(LEDGER) == [LEDGER, LEDGER], "in the navigation, and where it says why"
    again = client.post(page_of(receipt.id, "/verify/"))
    assert "Not sealed yet" in seen(again).text
    assert verifications() == []
    for end in (".tlog-proof", ".entry"):
        assert client.get(page_of(receipt.id, end)).status_code == 404


def verifications() -> list[tuple[str, Any, str | None]]:
    """The verifications of single events that were recorded."""
    actions = PortalAction.PORTAL_LEDGER_VERIFIED, PortalAction.PORTAL_LEDGER_VERIFICATION_FAILED
    found = AuditEvent.objects.filter(action__in=[action.value for action in actions])
    return [(event.action, event.context, event.resource_id) for event in found.order_by("id")]


def test_verifying_an_event_shows_each_step_and_is_recorded(own_database):
    [receipt, *_] = sealed(300)
    page = seen(signed_in("Reviewer").post(page_of(receipt.id, "/verify/")))
    assert "Verified just now." in page.text
    assert page.text.count("Holds") == 4
    assert "Does not hold" not in page.text
    assert "Against the checkpoint of 300 events" in page.text
    assert verifications() == [
        (
            "portal_ledger_verified",
            {"tree_size": 300, "verdict": "consistent"},
            str(receipt.id),
        )
    ]


def test_verifying_needs_a_token_a_sign_in_and_the_right(own_database):
    [receipt, *_] = sealed(1)
    url = page_of(receipt.id, "/verify/")
    assert Client().post(url)["Location"].startswith("/admin/login/")
    assert signed_in().post(url).status_code == 403
    reviewer = signed_in("Reviewer")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = reviewer.cookies
    assert strict.post(url).status_code == 403
    assert reviewer.get(url)["Location"] == page_of(receipt.id)
    assert reviewer.post(page_of(uuid4(), "/verify/")).status_code == 404
    assert verifications() == []


EVENT = "UPDATE audit_auditevent SET {} WHERE id = %s"
TAMPERS = {
    "a column": (EVENT.format("purpose = 'x'"), ["entry"]),
    "the context": (EVENT.format("context = '{\"reason\": \"x\"}'"), ["entry"]),
    "digests": (EVENT.format("digests = '{}'"), ["entry", "personal"]),
    "a personal field": (EVENT.format("user_id = 'eve'"), ["personal"]),
    "a personal field emptied": (EVENT.format("user_id = NULL"), ["personal"]),
    "the personal part forgotten by hand": (
        EVENT.format(
            "user_id = NULL, ip_address = NULL, personal_context = NULL, salt = NULL"
        ),
        ["personal"],
    ),
    "the row's leaf": (EVENT.format("leaf_hash = sha256('x')"), ["entry"]),
    "the leaf in the tile": (
        "UPDATE audit_tile SET hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0)) "
        "WHERE level = 0 AND %s::uuid IS NOT NULL",
        ["entry", "included"],
    ),
    "another leaf in the tile": (
        "UPDATE audit_tile SET hashes = set_byte(hashes, 40, 255 - get_byte(hashes, 40)) "
        "WHERE level = 0 AND %s::uuid IS NOT NULL",
        ["included"],
    ),
    "the checkpoint": (
        "UPDATE audit_checkpoint SET note = replace(note, E'\\n3\\n', E'\\n4\\n') "
        "WHERE %s::uuid IS NOT NULL",
        ["signed"],
    ),
    "the checkpoint made illegible": (
        "UPDATE audit_checkpoint SET note = 'x' WHERE %s::uuid IS NOT NULL",
        ["included", "signed"],
    ),
    "the tiles taken away": (
        "DELETE FROM audit_tile WHERE %s::uuid IS NOT NULL",
        ["included", "signed"],
    ),
    "the checkpoint taken away": (
        "DELETE FROM audit_checkpoint WHERE %s::uuid IS NOT NULL",
        ["included", "signed"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERS)
def test_whatever_was_changed_the_step_that_fails_is_named(what, own_database):
    [receipt, *_] = sealed(3)
    statement, fails = TAMPERS[what]
    tamper(statement, receipt.id)
    client = signed_in("Reviewer")
    page = seen(client.post(page_of(receipt.id, "/verify/")))
    assert "This event does not hold." in page.text
    assert page.text.count("Does not hold") == len(fails)
    checked = evidence.check(AuditEvent.objects.get(pk=receipt.id))
    assert [name for name, holds in checked.outcomes.items() if not holds] == fails
    [(action, context, _)] = verifications()
    assert (action, context["verdict"]) == ("portal_ledger_verification_failed", "inconsistent")


DAMAGES = [what for what, (_, fails) in TAMPERS.items() if fails == ["included", "signed"]]


@pytest.mark.parametrize("what", DAMAGES)
def test_what_a_damaged_log_cannot_prove_is_said_and_is_no_fault_of_the_server(what, own_database):
    [receipt, *_] = sealed(3)
    tamper(TAMPERS[what][0], receipt.id)
    app = App("reader", ["read", "ledger"])
    answer = app.get(f"/api/v1/events/{receipt.id}/proof/")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:auditportal:problem:damaged-log"
    assert "cannot prove it" in answer.json()["detail"]
    assert app.get(f"/api/v1/events/{receipt.id}/").status_code == 200
    assert signed_in("Reviewer").get(page_of(receipt.id, ".tlog-proof")).status_code == 404


def test_a_tree_signed_by_another_key_does_not_hold(own_database, tmp_path):
    [receipt, *_] = sealed(3)
    other = SigningKey.generate(tasks.signing_key().name)
    note = other.sign(storage.head().note.partition("\n\n")[0] + "\n")
    tamper("UPDATE audit_checkpoint SET note = %s", note)
    checked = evidence.check(AuditEvent.objects.get(pk=receipt.id))
    assert [name for name, holds in checked.outcomes.items() if not holds] == ["signed"]


@pytest.mark.parametrize("column", ["action", "outcome", "category"])
def test_a_row_changed_to_what_no_catalogue_knows_is_shown_as_that(column, own_database):
    [receipt, *_] = sealed(3)
    tamper(f"UPDATE audit_auditevent SET {column} = 'robbed' WHERE id = %s", receipt.id)
    client = signed_in("Reviewer")
    page = seen(client.get(page_of(receipt.id)))
    story = seen(client.get("/admin/story/?user_id=u-1"))
    listed = seen(client.get("/admin/audit/auditevent/?user_id=u-1"))
    for group_by in ("action", "category", "operation", "framework"):
        address = f"/admin/audit/auditevent/?user_id=u-1&group_by={group_by}"
        assert client.get(address).status_code == 200
    for shown in (page, story, listed) if column != "category" else ():
        assert "“robbed”" in shown.text
    if column == "action":
        assert "The catalogue knows no action “robbed”." in page.text
        assert "Unknown action “robbed”" in listed.text
    assert "This event does not hold." in seen(client.post(page_of(receipt.id, "/verify/"))).text
    assert client.get("/admin/audit/auditevent/events.csv?user_id=u-1").status_code in (200, 403)


# --- the files for an assessor -----------------------------------------------------------------


def test_the_files_of_an_event_are_downloaded_under_its_id_and_that_is_recorded(own_database):
    [receipt, *_] = sealed(3)
    client = signed_in("Reviewer")
    proof, entry = (client.get(page_of(receipt.id, end)) for end in (".tlog-proof", ".entry"))
    for answer, end in ((proof, ".tlog-proof"), (entry, ".entry")):
        name = f'attachment; filename="{receipt.id}{end}"'
        assert (answer.status_code, answer["Content-Disposition"]) == (200, name)
        assert "no-store" in answer["Cache-Control"]
    parsed, head = Proof.parse(proof.content), Checkpoint.objects.get()
    leaf = receipt.leaf_hash
    assert merkle.verify_inclusion(leaf, parsed.index, 3, parsed.hashes, bytes(head.root))
    assert entry.content == AuditEvent.objects.get(pk=receipt.id).entry(parsed.checkpoint.origin)
    views = AuditEvent.objects.filter(action=PortalAction.PORTAL_EVENT_VIEWED.value)
    assert [event.context["event_id"] for event in views] == [str(receipt.id)] * 2


def test_the_files_need_a_sign_in_and_the_right(own_database):
    [receipt, *_] = sealed(1)
    outsider, reviewer = signed_in(), signed_in("Reviewer")
    for end in (".tlog-proof", ".entry"):
        url = page_of(receipt.id, end)
        assert Client().get(url)["Location"].startswith("/admin/login/")
        assert outsider.get(url).status_code == 403
        assert reviewer.get(page_of(uuid4(), end)).status_code == 404
        assert reviewer.post(url).status_code == 405
