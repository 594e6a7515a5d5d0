"""An event's place in the log, as its page shows it: where it is, and whether that holds."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from django.http import Http404, HttpResponse

from audit.enums import PortalAction
from audit.ledger import evidence
from audit.ledger.evidence import Checked, Damaged, Proved
from audit.models import AuditEvent
from audit.recorder import audit


class Step(NamedTuple):
    """One thing that a verification looks at, and what it means if it holds or does not."""

    title: str
    holds: str
    fails: str


STEPS = {
    "entry": Step(
        "The event is the one that was sealed",
        "Its fields, put together again, give exactly the hash that the log has for it.",
        "Its fields give another hash than the log has for it: it was changed after sealing.",
    ),
    "personal": Step(
        "The personal values are those that were recorded",
        "Each of them gives the digest that was sealed with the event.",
        "One of them is not what was recorded, or is gone although no erasure is recorded.",
    ),
    "included": Step(
        "The event is part of the log",
        "Its hash leads, with its neighbours’ hashes, to the root that the checkpoint names.",
        "Its hash does not lead to the root that the checkpoint names: the log was changed.",
    ),
    "signed": Step(
        "The checkpoint is signed by the log’s key",
        "The signature is valid, and by the key of that time.",
        "It has no valid signature by the key of that time.",
    ),
}


def section(event: AuditEvent, checked: Checked | None = None) -> dict[str, Any]:
    """What the page needs to tell of the event's place in the log."""
    steps = [(STEPS[name], holds) for name, holds in checked.outcomes.items()] if checked else []
    return {"sealed": evidence.sealed(event.pk), "checked": checked, "steps": steps}


def verify(event: AuditEvent) -> Checked | None:
    """Recompute the event's way to the log's signature; that it was done is recorded.

    None, and no record, as long as the event is not sealed.
    """
    checked = evidence.check(event)
    if checked is not None:
        audit.record_sync(
            action=PortalAction.PORTAL_LEDGER_VERIFIED
            if checked.holds
            else PortalAction.PORTAL_LEDGER_VERIFICATION_FAILED,
            resource_type="event",
            resource_id=str(event.pk),
            context={
                "tree_size": checked.size,
                "verdict": "consistent" if checked.holds else "inconsistent",
            },
        )
    return checked


# --- what an assessor is given -----------------------------------------------------------------


def proof_file(event_id: UUID) -> HttpResponse:
    """The proof that the event is in the log, as C2SP tlog-proof has it."""
    return _file(f"{event_id}.tlog-proof", str(_proved(event_id).proof).encode())


def entry_file(event_id: UUID) -> HttpResponse:
    """The entry to the letter: what the proof is of. It holds no personal value."""
    entry = _proved(event_id).entry
    if entry is None:
        raise Http404("The event is not stored any more.")
    return _file(f"{event_id}.entry", entry)


def _proved(event_id: UUID) -> Proved:
    try:
        proved = evidence.proof_of(event_id)
    except Damaged as error:
        raise Http404(f"There is no proof: {error}.") from None
    if proved is None:
        raise Http404("There is no such event, or it is not sealed yet.")
    return proved


def _file(name: str, content: bytes) -> HttpResponse:
    # Not text/plain, as then a browser might call it NAME.txt: the verifier goes by names.
    response = HttpResponse(content, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
