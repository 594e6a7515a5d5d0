"""What events look like in the API: how one is shown, and what the OpenAPI document says of it.

Only `EventSerializer` and `ReceiptSerializer` turn objects into JSON; what comes in is read by
`audit.wire` alone, and the serializers of it are there for the document.
"""

# mypy: disable-error-code="assignment"
# Fields are named as the JSON is (source, label, context, errors); the framework takes them out of
# the class before those names could hide its own.

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from audit import enums, sources, wire
from audit.canonical import time_text
from audit.ingest import Receipt
from audit.ledger.encoding import to_base64
from audit.ledger.evidence import Proved
from audit.models import AlertStatus, AuditEvent, Severity

_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def _choices(values: Any) -> list[str]:
    return [str(value) for value in values]


def _optional(**kwargs: Any) -> dict[str, Any]:
    return {"required": False, "allow_null": True} | kwargs


class TimeField(serializers.DateTimeField):
    """A time as everywhere in the portal: RFC 3339, UTC, six digits, ``Z``."""

    def to_representation(self, value: datetime) -> str:
        return time_text(value)


@extend_schema_field(_SHA256)
class HashField(serializers.Field):
    """A hash in hexadecimal."""

    def to_representation(self, value: bytes) -> str:
        return bytes(value).hex()


# --- events as they are read -------------------------------------------------------------------


class EventSerializer(serializers.Serializer):
    """A stored event. What the application did not give, or what was forgotten since, is null."""

    id = serializers.UUIDField(help_text="UUIDv7")
    recorded_at = TimeField(help_text="the portal's clock")
    occurred_at = TimeField(help_text="the application's clock; the portal's, if it gave none")
    action = serializers.CharField(help_text="a value of the catalogue; it may grow")
    label = serializers.CharField(source="definition.label", help_text="the action in words")
    category = serializers.ChoiceField(choices=_choices(enums.Category))
    frameworks = serializers.ListField(
        child=serializers.ChoiceField(choices=_choices(enums.Framework)),
        source="definition.frameworks",
    )
    operation = serializers.CharField(source="definition.operation", help_text="what was tried")
    phase = serializers.ChoiceField(choices=_choices(enums.Phase), source="definition.phase")
    outcome = serializers.ChoiceField(choices=_choices(enums.Outcome))
    source = serializers.CharField(help_text="the application that wrote it, by its API key")
    key = serializers.CharField(help_text="the beginning of that API key")
    actor_type = serializers.ChoiceField(choices=_choices(wire.ACTOR_TYPES), allow_null=True)
    user_id = serializers.CharField(allow_null=True)
    subject_id = serializers.CharField(allow_null=True, help_text="to whom it was done")
    resource_type = serializers.CharField(allow_null=True)
    resource_id = serializers.CharField(allow_null=True)
    correlation_id = serializers.CharField(
        allow_null=True, help_text="ties an attempt to its outcome"
    )
    request_id = serializers.CharField(allow_null=True)
    source_seq = serializers.IntegerField(
        allow_null=True, help_text="the application's own counter"
    )
    purpose = serializers.CharField(allow_null=True)
    ip_address = serializers.IPAddressField(allow_null=True)
    user_agent = serializers.CharField(allow_null=True)
    context = serializers.SerializerMethodField(help_text="as the application sent it")
    personal = serializers.SerializerMethodField(
        help_text="the keys of the context that hold personal data"
    )
    changed = serializers.ListField(
        child=serializers.CharField(), help_text="what was cut before it was stored"
    )
    digests = serializers.DictField(
        child=serializers.CharField(),
        help_text="of each personal value, salted (RFC 9901); they stay when it is forgotten",
    )
    leaf_hash = HashField(help_text="of the event's entry in the log (RFC 6962)")

    @extend_schema_field({"type": "object", "additionalProperties": {}})
    def get_context(self, event: AuditEvent) -> dict[str, Any]:
        return event.context | (event.personal_context or {})

    def get_personal(self, event: AuditEvent) -> list[str]:
        return sorted(event.personal_context or {})


class EventPageSerializer(serializers.Serializer):
    """One page of events, newest first."""

    next = serializers.URLField(allow_null=True, help_text="older events")
    previous = serializers.URLField(allow_null=True, help_text="newer events")
    results = EventSerializer(many=True)


# --- events as they are written ----------------------------------------------------------------


class EventInSerializer(serializers.Serializer):
    """An event as an application sends it. Null stands for absent; no other fields are taken."""

    id = serializers.UUIDField(
        **_optional(
            help_text="UUIDv7 of your own: sending the event again with it is safe. Its time has "
            "to lie at most 31 days before and 10 minutes after the portal's clock."
        )
    )
    action = serializers.ChoiceField(choices=_choices(enums.AuditAction))
    occurred_at = serializers.DateTimeField(
        **_optional(help_text="RFC 3339 with an offset; left out, the portal's clock counts")
    )
    actor_type = serializers.ChoiceField(**_optional(choices=_choices(wire.ACTOR_TYPES)))
    user_id = serializers.CharField(**_optional(max_length=wire.MAX_IDENTIFIER, allow_blank=True))
    subject_id = serializers.CharField(
        **_optional(
            max_length=wire.MAX_IDENTIFIER, allow_blank=True, help_text="to whom it is done"
        )
    )
    resource_type = serializers.CharField(
        **_optional(max_length=wire.MAX_IDENTIFIER, allow_blank=True)
    )
    resource_id = serializers.CharField(
        **_optional(max_length=wire.MAX_IDENTIFIER, allow_blank=True)
    )
    correlation_id = serializers.CharField(
        **_optional(
            max_length=wire.MAX_IDENTIFIER,
            allow_blank=True,
            help_text="the same for an attempt and its outcome",
        )
    )
    request_id = serializers.CharField(
        **_optional(max_length=wire.MAX_IDENTIFIER, allow_blank=True)
    )
    source_seq = serializers.IntegerField(
        **_optional(
            min_value=0, max_value=2**53 - 1, help_text="your own counter, for finding gaps"
        )
    )
    purpose = serializers.CharField(**_optional(max_length=wire.MAX_IDENTIFIER, allow_blank=True))
    ip_address = serializers.IPAddressField(**_optional(help_text="without mask or zone"))
    user_agent = serializers.CharField(
        **_optional(max_length=wire.MAX_USER_AGENT, allow_blank=True)
    )
    context = serializers.DictField(
        **_optional(help_text="what the catalogue lists for the action, and whatever else")
    )
    personal = serializers.ListField(
        child=serializers.CharField(),
        **_optional(help_text="keys of the context that hold personal data besides"),
    )


class WarningSerializer(serializers.Serializer):
    """What was odd about an event that was stored all the same."""

    code = serializers.ChoiceField(
        choices=["cut", "empty", "masked", "missing_key", "more", "unknown_key"]
    )
    detail = serializers.CharField()
    pointer = serializers.CharField(help_text="JSON pointer (RFC 6901) into the event")


class ReceiptSerializer(serializers.Serializer):
    """The receipt for a stored event: keep the hash, the log will prove that it holds it."""

    id = serializers.UUIDField()
    recorded_at = TimeField()
    leaf_hash = HashField()
    warnings = WarningSerializer(many=True)


def receipts(stored: list[Receipt]) -> list[dict[str, Any]]:
    """What `ReceiptSerializer` documents, by hand: a serializer costs more than the hashing.

    Ids and warnings are left to `audit.api.renderers`, which writes them as they are.
    """
    text_of = {at: time_text(at) for at in {receipt.recorded_at for receipt in stored}}
    return [
        {
            "id": receipt.id,
            "recorded_at": text_of[receipt.recorded_at],
            "leaf_hash": receipt.leaf_hash.hex(),
            "warnings": receipt.warnings,
        }
        for receipt in stored
    ]


class ReceiptsSerializer(serializers.Serializer):
    """The receipts for a batch, in the order of its events."""

    count = serializers.IntegerField(min_value=1)
    results = ReceiptSerializer(many=True)


# --- the log -----------------------------------------------------------------------------------

_BASE64 = {"type": "string", "format": "byte"}


@extend_schema_field(_BASE64)
class Base64Field(serializers.Field):
    """A hash as C2SP writes it (RFC 4648, section 4)."""


class ProofSerializer(serializers.Serializer):
    """That an event is in the log: everything that a verifier needs, but for the log's key."""

    event_id = serializers.UUIDField()
    index = serializers.IntegerField(min_value=0, help_text="its number in the log, from 0")
    leaf_hash = HashField(help_text="SHA-256 of `0x00` and the entry (RFC 6962)")
    size = serializers.IntegerField(min_value=1, help_text="how many entries the checkpoint has")
    root = Base64Field(help_text="the root of their tree")
    hashes = serializers.ListField(
        child=Base64Field(), help_text="from the leaf's sibling up to the root's child"
    )
    checkpoint = serializers.CharField(
        help_text="the signed note (tlog-checkpoint), with the lines of the witnesses"
    )
    entry = serializers.CharField(
        allow_null=True,
        help_text="the canonical JSON whose bytes are hashed; null when the event is not stored "
        "any more",
    )
    tlog_proof = serializers.CharField(help_text="the same as one text (C2SP tlog-proof)")


def proof(proved: Proved) -> dict[str, Any]:
    """What `ProofSerializer` documents, by hand."""
    head = proved.proof.checkpoint
    return {
        "event_id": proved.event_id,
        "index": proved.proof.index,
        "leaf_hash": proved.leaf.hex(),
        "size": head.size,
        "root": to_base64(head.root),
        "hashes": list(map(to_base64, proved.proof.hashes)),
        "checkpoint": str(proved.proof.note),
        "entry": proved.entry.decode() if proved.entry is not None else None,
        "tlog_proof": str(proved.proof),
    }


# --- everything else ---------------------------------------------------------------------------


class ContextKeySerializer(serializers.Serializer):
    """One key that an action's context should carry."""

    name = serializers.CharField()
    meaning = serializers.CharField()
    type = serializers.CharField()
    conditional = serializers.CharField(allow_null=True, help_text="when it applies; null: always")
    examples = serializers.ListField(child=serializers.CharField())
    open = serializers.BooleanField(help_text="whether other values are as normal as the examples")
    sensitivity = serializers.ChoiceField(choices=_choices(enums.Sensitivity))


class ActionSerializer(serializers.Serializer):
    """One action of the catalogue. Those of the category `portal` no application can write."""

    value = serializers.CharField(help_text="what stands in an event's `action`")
    label = serializers.CharField()
    category = serializers.ChoiceField(choices=_choices(enums.Category))
    frameworks = serializers.ListField(
        child=serializers.ChoiceField(choices=_choices(enums.Framework))
    )
    operation = serializers.CharField()
    phase = serializers.ChoiceField(choices=_choices(enums.Phase))
    outcome = serializers.ChoiceField(choices=_choices(enums.Outcome))
    context_keys = ContextKeySerializer(many=True)


class ActionsSerializer(serializers.Serializer):
    """The whole catalogue."""

    results = ActionSerializer(many=True)


class SummaryRowSerializer(serializers.Serializer):
    """A number of events, and of each group that was asked for its value."""

    category = serializers.CharField(required=False)
    framework = serializers.CharField(required=False)
    action = serializers.CharField(required=False)
    outcome = serializers.CharField(required=False)
    source = serializers.CharField(required=False)
    day = serializers.DateField(required=False, help_text="of UTC")
    hour = serializers.DateTimeField(required=False, help_text="of UTC")
    count = serializers.IntegerField()


class SummarySerializer(serializers.Serializer):
    """How many events there are in each combination of groups."""

    results = SummaryRowSerializer(many=True)


class AlertSerializer(serializers.Serializer):
    """What a rule found. Whom it concerns stands in its events, and in no alert."""

    id = serializers.UUIDField()
    rule = serializers.CharField()
    rule_version = serializers.IntegerField()
    severity = serializers.ChoiceField(choices=Severity.choices)
    category = serializers.ChoiceField(choices=_choices(enums.Category))
    status = serializers.ChoiceField(choices=AlertStatus.choices)
    assigned_to = serializers.CharField(help_text="empty where it is nobody's")
    count = serializers.IntegerField(help_text="its events")
    grown = serializers.IntegerField(
        allow_null=True, help_text="how many of them came after it was last decided"
    )
    first_at = TimeField(help_text="of its events, by their applications' clocks")
    last_at = TimeField()
    raised_at = TimeField(help_text="the portal's clock")


class AlertPageSerializer(serializers.Serializer):
    """One page of alerts, newest first."""

    next = serializers.URLField(allow_null=True, help_text="older alerts")
    previous = serializers.URLField(allow_null=True, help_text="newer alerts")
    results = AlertSerializer(many=True)


class ExceptionSerializer(serializers.Serializer):
    """What is followed up, or was (PCI DSS 10.4.3)."""

    number = serializers.IntegerField()
    title = serializers.CharField()
    category = serializers.ChoiceField(choices=_choices(enums.Category))
    severity = serializers.ChoiceField(choices=Severity.choices)
    owner = serializers.CharField()
    due = serializers.DateField(help_text="of UTC")
    opened_at = TimeField()
    opened_by = serializers.CharField()
    is_closed = serializers.BooleanField()
    disposition = serializers.CharField(help_text="what it turned out to be; empty while open")
    asked_by = serializers.CharField(help_text="who wants to close it and waits for a second")


class ExceptionPageSerializer(serializers.Serializer):
    """One page of exceptions, newest first."""

    next = serializers.URLField(allow_null=True, help_text="older exceptions")
    previous = serializers.URLField(allow_null=True, help_text="newer exceptions")
    results = ExceptionSerializer(many=True)


class ReasonSerializer(serializers.Serializer):
    """Why requests were refused."""

    code = serializers.CharField()
    pointer = serializers.CharField(help_text="of the field, in the first bad event")
    reason = serializers.CharField(source="words", help_text="the code in words")
    count = serializers.IntegerField(help_text="requests, of the last 24 hours")


class GapSerializer(serializers.Serializer):
    """Numbers that are missing, both ends included."""

    first = serializers.IntegerField()
    last = serializers.IntegerField()


class UnknownSendersSerializer(serializers.Serializer):
    """Requests of the last 24 hours that no valid key came with."""

    refused_24h = serializers.IntegerField(source="refused")
    last_refused_at = TimeField(allow_null=True)
    reasons = ReasonSerializer(many=True, help_text="the most frequent")


class SourceSerializer(UnknownSendersSerializer):
    """How one source is doing."""

    name = serializers.CharField()
    states = serializers.ListField(
        child=serializers.ChoiceField(choices=list(sources.STATES)),
        help_text="; ".join(f"`{name}`: {state.meaning}" for name, state in sources.STATES.items()),
    )
    last_event_at = TimeField(source="last_at", allow_null=True, help_text="the portal's clock")
    usual_pause_seconds = serializers.FloatField(
        source="pause_seconds",
        allow_null=True,
        help_text=f"between two arrivals, the median of its last {sources.RHYTHM} events",
    )
    events_24h = serializers.IntegerField(
        source="events", help_text=f"counted up to {sources.MOST_COUNTED}; one more means: more"
    )
    missing = serializers.IntegerField(
        help_text=f"numbers (`source_seq`) missing among its last {sources.NUMBERED} events"
    )
    gaps = GapSerializer(many=True, help_text="the newest of them")


class SourcesSerializer(serializers.Serializer):
    """How the sources are doing, by name."""

    results = SourceSerializer(many=True)
    unknown_senders = UnknownSendersSerializer()


class ProblemErrorSerializer(serializers.Serializer):
    """One thing that is wrong, and where."""

    index = serializers.IntegerField(required=False, help_text="of the event, from 0")
    line = serializers.IntegerField(required=False, help_text="of the NDJSON, from 1")
    pointer = serializers.CharField(required=False, help_text="JSON pointer into the event")
    parameter = serializers.CharField(required=False, help_text="of the address")
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer):
    """Problem details (RFC 9457)."""

    type = serializers.CharField(help_text="stays the same for one kind of problem")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="what is wrong, where, and what would be right")
    errors = ProblemErrorSerializer(many=True, required=False)
    more_errors = serializers.IntegerField(
        required=False, help_text="how many errors there are besides those listed"
    )


class ClosedObject(OpenApiSerializerExtension):
    """Says in the document that an event takes no fields but those listed."""

    target_class = EventInSerializer

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        schema = auto_schema._map_basic_serializer(self.target, direction)
        return schema | {"additionalProperties": False}
