"""The ledger's page: how the log is doing, and what an outsider needs to check it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse

from audit.admin.sources import length
from audit.ingest import now
from audit.ledger import evidence, storage
from audit.ledger.encoding import to_base64
from audit.ledger.notes import VerifierKey
from audit.ledger.state import State, state
from audit.ledger.verification.faults import Kind
from audit.models import Checkpoint, LogKey, Publication, Verification

VERIFICATIONS, PLACES = 10, 3
"""How many runs the page shows, and of each kind of fault how many places."""

MEANINGS = {kind.value: kind.meaning for kind in Kind}

VERDICTS = {"consistent": "success", "incomplete": "pending", "inconsistent": "failure"}
"""The outcome as whose sign a verdict is shown."""


def ledger_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """What is sealed, by whom signed, where kept, when verified; and whether the worker works."""
    if not request.user.has_perm("audit.view_auditevent"):
        raise PermissionDenied("Your role does not let you view the ledger.")
    head, found = storage.head(), state(now())
    context = site.each_context(request) | {
        "title": "Ledger",
        "origin": settings.AUDITPORTAL_ORIGIN,
        "head": head,
        "served": evidence.served(),
        "root": to_base64(bytes(head.root)) if head else "",
        "cosigned": list(_cosigned(head)) if head else [],
        "state": found,
        "waited": length(found.waited),
        "troubles": list(_troubles(found)),
        "keys": list(LogKey.objects.all()),
        "publications": list(_published()),
        "runs": [_run(run) for run in Verification.objects.all()[:VERIFICATIONS]],
        "is_public": settings.LEDGER_PUBLIC,
    }
    return TemplateResponse(request, "audit/ledger.html", context)


def _cosigned(head: Checkpoint) -> Iterator[tuple[str, Any]]:
    """Which witness cosigned a checkpoint, and when."""
    for cosignature in head.cosignatures.order_by("id"):
        yield _name(cosignature.vkey), cosignature.signed_at


def _name(vkey: str) -> str:
    return vkey.partition("+")[0]


# --- what somebody has to look after -----------------------------------------------------------


class Trouble(NamedTuple):
    """What is not as it should be, and what to do."""

    what: str
    next: str


_START = "Ask whoever runs the portal to start it, with “manage.py worker”, and to keep it running."


def _troubles(found: State) -> Iterator[Trouble]:
    if not found.has_sealer:
        yield Trouble("The worker, which seals the events, has never run.", _START)
    for part in found.silent:
        since = f"The worker’s {part.part} was last heard of {length(found.at - part.at)} ago."
        yield Trouble(f"{since} It seems not to run.", _START)
    for part in found.complaints:
        yield Trouble(
            f"The worker’s {part.part} cannot go on: {part.error}",
            "Show this sentence to whoever runs the portal.",
        )
    if found.is_late:
        yield Trouble(
            f"The oldest event that waits has waited for {length(found.waited)}; a second or two "
            "would be usual.",
            "Nothing is lost: it is stored, and will be sealed. Until then it cannot be proved.",
        )


# --- where checkpoints are kept, and what verifications said -----------------------------------


def _published() -> Iterator[dict[str, Any]]:
    for place in Publication.objects.order_by("target"):
        is_witness = _is_key(place.target)
        yield {
            "place": place,
            "kind": "Witness" if is_witness else "Folder",
            "name": _name(place.target) if is_witness else place.target,
        }


def _is_key(text: str) -> bool:
    try:
        return bool(VerifierKey.parse(text))
    except ValueError:
        return False


def _run(run: Verification) -> dict[str, Any]:
    """A verification as a row of the table: its range in words, its faults by kind."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for fault in run.faults:
        kinds.setdefault(fault["kind"], []).append(fault)
    return {
        "run": run,
        "outcome": VERDICTS.get(run.verdict, "pending"),
        "events": run.size - run.first,
        "last": run.size - 1,
        "kinds": [
            {
                "kind": kind,
                "meaning": MEANINGS.get(kind, ""),
                "faults": faults[:PLACES],
                "more": max(0, len(faults) - PLACES),
            }
            for kind, faults in kinds.items()
        ],
        "is_cut": run.fault_count > len(run.faults),
    }
