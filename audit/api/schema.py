"""What the OpenAPI document says beside the serializers: parameters, examples, errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from audit import enums, pairing, reviewed
from audit.api import problems
from audit.api.serializers import ProblemSerializer
from audit.counts import GROUPS
from audit.detection.rules import BY_SLUG
from audit.filters import AuditEventFilter
from audit.models import AlertStatus, Severity
from audit.periods import EXPECTED
from audit.review.lists import STATES, AlertFilter, FindingFilter

_SENTENCES = {
    "category": "Events of this category.",
    "framework": "Events that are kept for this framework.",
    "operation": "Events of this operation: its attempts and their outcomes.",
    "action": "Events with this action.",
    "outcome": "Events with this outcome.",
    "source": "Events that this application wrote.",
    "user_id": "Events of this user.",
    "resource_type": "Events about this kind of resource.",
    "resource_id": "Events about this resource.",
    "correlation_id": "The events of one operation: its attempt and its outcome.",
    "session": "Events of this session: it is named in their context, or is their resource.",
    "attempt": "Attempts that have had no outcome for 15 minutes (`open`), outcomes without an "
    "attempt (`missing`), or outcomes whose attempt was inferred without a correlation id "
    "(`inferred`).",
    "review": "Events that somebody looked at (`looked_at`), commented (`commented`), made part of "
    "an exception (`in_exception`), or that a detection rule raised an alert about (`alerted`); "
    "or, within up to 31 days that have to be given, those nobody looked at (`not_looked_at`).",
    "ip": "Events from this address, or from this network in CIDR notation.",
    "occurred_after": f"Events that happened then or later: {EXPECTED}.",
    "occurred_before": f"Events that happened then or earlier: {EXPECTED}.",
    "recorded_after": f"Events that were recorded then or later: {EXPECTED}.",
    "recorded_before": f"Events that were recorded then or earlier: {EXPECTED}.",
    "context": "Events whose context has this key with this value, written `key:value`.",
    "q": "Events that hold all of these words, in the context or an identifier.",
}

_CHOICES = {
    "category": list(map(str, enums.Category)),
    "framework": list(map(str, enums.Framework)),
    "operation": list(enums.OPERATIONS),
    "action": list(enums.ACTIONS),
    "outcome": list(map(str, enums.Outcome)),
    "attempt": list(pairing.STATES),
    "review": list(reviewed.STATES),
}


def _filter(
    name: str, sentences: Mapping[str, str], choices: Mapping[str, list[str]]
) -> OpenApiParameter:
    item: dict[str, Any] = {"type": "string"}
    if name in choices:
        item["enum"] = choices[name]
    return OpenApiParameter(
        name,
        {"type": "array", "items": item},
        explode=True,
        style="form",
        description=f"{sentences[name]} Repeated values mean 'any of'.",
    )


FILTERS = [_filter(name, _SENTENCES, _CHOICES) for name in AuditEventFilter.base_filters]
"""Every filter there is; one without a sentence above stops the import."""

_OF_REVIEWS = {
    "status": "Alerts with this status.",
    "rule": "Alerts that this rule raised.",
    "severity": "Those of this severity.",
    "category": "Those of this category.",
    "assigned_to": "Alerts that are assigned to this person.",
    "state": "Exceptions in this state; `overdue` and `waiting` ones are open, too.",
    "owner": "Exceptions that this person has to follow up.",
}

_CHOICES_OF_REVIEWS = {
    "status": AlertStatus.values,
    "rule": list(BY_SLUG),
    "severity": Severity.values,
    "category": list(map(str, enums.Category)),
    "state": list(STATES),
}


_of_review = partial(_filter, sentences=_OF_REVIEWS, choices=_CHOICES_OF_REVIEWS)

ALERT_FILTERS = [_of_review(name) for name in AlertFilter.base_filters]
FINDING_FILTERS = [_of_review(name) for name in FindingFilter.base_filters]

PAGING = [
    OpenApiParameter("cursor", str, description="From `next` or `previous` of another page."),
    OpenApiParameter(
        "page_size",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
        description="How many events a page has.",
    ),
]

GROUP_BY = OpenApiParameter(
    "group_by",
    str,
    required=True,
    description=f"Groups with commas between them, each at most once: {', '.join(GROUPS)}.",
    examples=[OpenApiExample("two groups", "category,day")],
)

NO_FORMAT = OpenApiParameter("format", exclude=True)
"""The framework's own parameter for choosing a renderer: here it is unknown, as any other."""

_ALWAYS = (401, 403, 406, 503)


def failures(*statuses: int) -> dict[Any, Any]:
    """The answers of an operation that fails, beside those that any may have."""
    titles: dict[int, list[str]] = {}
    for kind in problems.KINDS.values():
        titles.setdefault(kind.status, []).append(kind.title)
    return {
        (status, problems.MEDIA_TYPE): OpenApiResponse(
            ProblemSerializer, description=", or: ".join(titles[status])
        )
        for status in sorted({*_ALWAYS, *statuses})
    }


CONTENT_ENCODING = OpenApiParameter(
    "Content-Encoding",
    {"type": "string", "enum": ["gzip", "identity"]},
    location=OpenApiParameter.HEADER,
    description="`gzip` for a compressed body, of any number of members.",
)

NDJSON = "application/x-ndjson"
TEXT = OpenApiTypes.STR

_SIGN_IN = {
    "action": "user_login_failed",
    "occurred_at": "2026-03-01T09:30:00Z",
    "user_id": "u-4711",
    "actor_type": "user",
    "resource_type": "session",
    "correlation_id": "7e1f0c52",
    "ip_address": "192.0.2.7",
    "user_agent": "Mozilla/5.0",
    "context": {"reason": "invalid_password", "attempts": 3, "email": "ada@example.com"},
}
_SIGN_OUT = {"action": "user_logout", "user_id": "u-4711", "context": {"logout_method": "timeout"}}

_RECEIPT = {
    "id": "019ca8d1-5cf8-7000-8000-2f1d3c5b7a99",
    "recorded_at": "2026-03-01T09:30:00.250000Z",
    "leaf_hash": "6c2c7b2a0f8f3f6a3c3f0b8f1b0b5d0e9d6f4a7e8c1b2a39485766574839201f",
    "warnings": [],
}
_REFUSAL = {
    "type": "urn:auditportal:problem:rejected-events",
    "title": "The events were refused",
    "status": 400,
    "detail": "Nothing was stored. At event 1, /action: unknown action 'user_login': did you mean "
    "user_logout?",
    "errors": [
        {
            "index": 1,
            "pointer": "/action",
            "code": "unknown_action",
            "detail": "unknown action 'user_login': did you mean user_logout?",
        }
    ],
}

WRITING = [
    OpenApiExample("one event", _SIGN_IN, request_only=True, media_type="application/json"),
    OpenApiExample(
        "a batch", [_SIGN_IN, _SIGN_OUT], request_only=True, media_type="application/json"
    ),
    OpenApiExample(
        "lines",
        '{"action": "user_logout", "user_id": "u-4711"}\n{"action": "user_email_verified"}\n',
        request_only=True,
        media_type=NDJSON,
    ),
    OpenApiExample("receipt", _RECEIPT, response_only=True, status_codes=["201"]),
    OpenApiExample(
        "receipts", {"count": 1, "results": [_RECEIPT]}, response_only=True, status_codes=["201"]
    ),
    OpenApiExample(
        "refusal",
        _REFUSAL,
        response_only=True,
        status_codes=["400"],
        media_type=problems.MEDIA_TYPE,
    ),
]
