"""The API's doors: each reads the request, calls one function and shows what it gives."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import islice
from typing import Any, ClassVar, NamedTuple, cast
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, StreamingHttpResponse
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.exceptions import NotFound, UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit import counts, paging, sources, throttle, wire
from audit.api import bodies, refused, schema
from audit.api import serializers as show
from audit.api.keys import Scopes
from audit.api.renderers import CsvRenderer, JSONRenderer, TextRenderer
from audit.downloads import csv_download
from audit.enums import ACTIONS, PortalAction
from audit.filters import AuditEventFilter, BadFilter
from audit.ingest import Receipt, Rejected, ingest, now
from audit.ledger import evidence
from audit.models import ApiKey, AuditEvent
from audit.recorder import audit
from audit.review.lists import AlertFilter, FindingFilter

MAX_ROWS = 10_000
"""How many events one request may bring."""

PAGE_SIZE, MAX_PAGE_SIZE = 100, 1_000

FILTER_TEXT = 8_192
"""How much of a filter is recorded, in characters: all of it but for the absurd."""


class Door(APIView):
    """What all doors share: `required_scopes` for each method, and no parameter is ignored."""

    required_scopes: ClassVar[Scopes] = {}
    http_method_names = ["get", "head", "post"]
    takes_parameters = False
    rows: Sequence[Any] = ()
    """The events that a request brought, for the sample of a refusal."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        _require_utf8(request)
        super().initial(request, *args, **kwargs)
        if request.query_params and not self.takes_parameters:
            raise BadFilter(
                {name[:64]: ["this address takes no parameters"] for name in request.query_params}
            )

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        refused.keep(self.request, exc, response.status_code, self.rows)
        return response

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Cache-Control"] = "no-store"
        return final


def _require_utf8(request: Request) -> None:
    """Before anything else: Django would read even the address in the charset named here."""
    charset = (request._request.content_params or {}).get("charset", "utf-8")
    try:
        if codecs.lookup(charset).name == "utf-8":
            return
    except (LookupError, ValueError):
        pass
    raise UnsupportedMediaType(charset, "The charset has to be UTF-8.")


def _only(request: Request, name: str) -> str:
    """The value of a parameter that may stand once; empty text where it does not."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise BadFilter({name: ["may stand here once only"]})
    return values[0] if values else ""


# --- writing -----------------------------------------------------------------------------------


class Batch(NamedTuple):
    """The events of a body, and the line of each where the body has lines."""

    rows: list[Any]
    lines: list[int | None]
    is_one_object: bool = False


def _batch(request: Request) -> Batch:
    body, media_type = bodies.read(request), request._request.content_type or ""
    if not body.strip():
        return Batch([], [])
    if media_type == schema.NDJSON:
        numbered = list(islice(wire.decode_lines(BytesIO(body)), MAX_ROWS + 1))
        return Batch([row for _, row in numbered], [line for line, _ in numbered])
    if media_type != "application/json":
        wanted = f"The body has to be application/json or {schema.NDJSON}"
        raise UnsupportedMediaType("", f"{wanted}, not {media_type[:100]!r}.")
    rows = wire.decode(body)
    return Batch(rows, [None] * len(rows), is_one_object=not body.lstrip().startswith(b"["))


def _require_size(rows: Sequence[Any]) -> None:
    if not rows:
        detail = "the body holds no event; send an object, an array of objects, or lines of them"
        raise Rejected([wire.Fault("empty_body", detail)])
    if len(rows) > MAX_ROWS:
        detail = f"a request may bring {MAX_ROWS} events; send more in several requests"
        raise Rejected([wire.Fault("too_many_events", detail)])


def _stored(request: Request, batch: Batch) -> list[Receipt]:
    """The receipts for the events in the body, whose faults name their lines."""
    _require_size(batch.rows)
    key = cast(ApiKey, request.auth)  # HasScope lets nobody else in
    endpoint = f"{request.method} {request.path}"
    throttle.take(key, len(batch.rows), endpoint=endpoint)
    try:
        return ingest(batch.rows, source=key.source.name, key=key.prefix)
    except Rejected as rejected:
        faults = [
            fault if fault.index is None else replace(fault, line=batch.lines[fault.index])
            for fault in rejected.faults
        ]
        raise type(rejected)(faults) from None


_EVENTS_IN = PolymorphicProxySerializer(
    component_name="EventsIn",
    serializers=[show.EventInSerializer, show.EventInSerializer(many=True)],
    resource_type_field_name=None,
    many=False,
)
_RECEIPTS_OUT = PolymorphicProxySerializer(
    component_name="ReceiptOrReceipts",
    serializers=[show.ReceiptSerializer, show.ReceiptsSerializer],
    resource_type_field_name=None,
)


# --- reading -----------------------------------------------------------------------------------


def _filtered(request: Request, *besides: str) -> AuditEventFilter:
    return AuditEventFilter(request.query_params, besides=besides)


def _filter_text(chosen: AuditEventFilter) -> str:
    return urlencode(chosen.given())[:FILTER_TEXT]


def _record_search(chosen: AuditEventFilter, count: int) -> None:
    audit.record_sync(
        action=PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": _filter_text(chosen), "count": count},
    )


def _page_size(request: Request) -> int:
    given = _only(request, "page_size") or str(PAGE_SIZE)
    if given.isascii() and given.isdigit() and len(given) < 5 and 1 <= int(given) <= MAX_PAGE_SIZE:
        return int(given)
    raise BadFilter({"page_size": [f"has to be a whole number from 1 to {MAX_PAGE_SIZE}"]})


def _address(request: Request, cursor: str | None) -> str | None:
    """This very address, with another cursor."""
    if cursor is None:
        return None
    query = request.query_params.copy()
    query["cursor"] = cursor
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


class EventsView(Door):
    """`/api/v1/events/`"""

    required_scopes: ClassVar = {"GET": "read", "POST": "write"}
    takes_parameters = True

    @extend_schema(
        operation_id="events_list",
        summary="Read events, newest first",
        parameters=[*schema.FILTERS, *schema.PAGING],
        responses={200: show.EventPageSerializer, **schema.failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Read events, newest first, page by page. That they were read is recorded."""
        chosen = _filtered(request, "cursor", "page_size")
        page = paging.page(chosen.events(), _page_size(request), _only(request, "cursor"))
        _record_search(chosen, len(page.events))
        return Response(
            {
                "next": _address(request, page.older),
                "previous": _address(request, page.newer),
                "results": show.EventSerializer(page.events, many=True).data,
            }
        )

    @extend_schema(
        operation_id="events_write",
        summary="Write events",
        request={"application/json": _EVENTS_IN, schema.NDJSON: schema.TEXT},
        parameters=[schema.CONTENT_ENCODING],
        responses={201: _RECEIPTS_OUT, **schema.failures(400, 409, 413, 415, 429)},
        examples=schema.WRITING,
    )
    def post(self, request: Request) -> Response:
        """Store one event, an array of them, or NDJSON: all of a request's events, or none.

        An event with an `id` may be sent again: the answer is the first one's receipt. A body may
        have 16 MiB, as it is sent and again when it is expanded, and 10,000 events; an event
        65,535 bytes, 32 levels of nesting and names of 255 characters in its context.
        """
        if request.query_params:
            raise BadFilter({"": ["writing takes no parameters"]})
        batch = _batch(request)
        self.rows = batch.rows
        receipts = show.receipts(_stored(request, batch))
        one = batch.is_one_object
        answer = receipts[0] if one else {"count": len(receipts), "results": receipts}
        return Response(answer, status=201)


class EventView(Door):
    """`/api/v1/events/{id}/`"""

    required_scopes: ClassVar = {"GET": "read"}

    @extend_schema(
        operation_id="events_read",
        summary="Read one event",
        responses={200: show.EventSerializer, **schema.failures(400, 404)},
    )
    def get(self, request: Request, id: str) -> Response:
        """Read one event. That it was read is recorded."""
        event = AuditEvent.objects.filter(id=_uuid(id)).first()
        if event is None:
            raise _no_event(id)
        audit.record_sync(
            action=PortalAction.PORTAL_EVENT_VIEWED,
            context={"event_id": str(event.id)},
        )
        return Response(show.EventSerializer(event).data)


class NotSealed(NotFound):
    """An event that is stored and has no place in the log yet. `wait` is sent as `Retry-After`."""

    default_detail = (
        "This event is stored, and not sealed yet: it is pending. That takes about a second while "
        "the portal's worker runs."
    )
    wait = 1


class ProofView(Door):
    """`/api/v1/events/{id}/proof/`"""

    required_scopes: ClassVar = {"GET": ("ledger", "read")}
    renderer_classes = (JSONRenderer, TextRenderer)

    @extend_schema(
        operation_id="events_prove",
        summary="Prove that an event is in the log",
        parameters=[schema.NO_FORMAT],
        responses={
            (200, "application/json"): show.ProofSerializer,
            (200, "text/plain"): schema.TEXT,
            **schema.failures(400, 404, 503),
        },
    )
    def get(self, request: Request, id: str) -> Response:
        """Prove that an event is in the log: as JSON, or as the text of C2SP tlog-proof itself.

        With the text (`Accept: text/plain`) and the entry, `verify_log.py` checks it offline. An
        event that was stored a moment ago is not sealed yet: 404 with `Retry-After`. It is recorded
        as a reading of the event.
        """
        event_id = _uuid(id)
        proved = evidence.proof_of(event_id)
        if proved is None:
            is_stored = AuditEvent.objects.filter(id=event_id).exists()
            raise NotSealed if is_stored else _no_event(id)
        audit.record_sync(
            action=PortalAction.PORTAL_EVENT_VIEWED, context={"event_id": str(event_id)}
        )
        is_text = request.accepted_renderer.format == TextRenderer.format
        return Response(str(proved.proof) if is_text else show.proof(proved))


def _uuid(text: str) -> UUID:
    try:
        if str(UUID(text)) == text.lower():
            return UUID(text)
    except ValueError:
        pass
    raise _no_event(text)


def _no_event(text: str) -> Http404:
    return Http404(f"There is no event {text[:64]!r}.")


class ActionsView(Door):
    """`/api/v1/actions/`"""

    required_scopes: ClassVar = {"GET": None}

    @extend_schema(
        operation_id="actions_list",
        summary="Read the catalogue of actions",
        responses={200: show.ActionsSerializer, **schema.failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Read every action, with the context keys it should carry. Open to every key."""
        actions = show.ActionSerializer(list(ACTIONS.values()), many=True)
        return Response({"results": actions.data})


class SourcesView(Door):
    """`/api/v1/sources/`"""

    required_scopes: ClassVar = {"GET": "read"}

    @extend_schema(
        operation_id="sources_list",
        summary="Read how the sources are doing",
        responses={200: show.SourcesSerializer, **schema.failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Read of every source when it wrote last, what was refused and what is missing."""
        at = now()
        found = show.SourceSerializer(sources.health(at), many=True).data
        nobody = show.UnknownSendersSerializer(sources.unknown_senders(at)).data
        return Response({"results": found, "unknown_senders": nobody})


class AlertsView(Door):
    """`/api/v1/alerts/`"""

    required_scopes: ClassVar = {"GET": "read"}
    takes_parameters = True
    not_here = "Alerts are decided by people, in the portal's pages; here they can be read."

    @extend_schema(
        operation_id="alerts_list",
        summary="Read alerts, newest first",
        parameters=[*schema.ALERT_FILTERS, *schema.PAGING],
        responses={200: show.AlertPageSerializer, **schema.failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Read alerts, newest first by their last event. They are decided by people only."""
        chosen = AlertFilter(request.query_params, besides=["cursor", "page_size"])
        page = paging.page(chosen.paged(), _page_size(request), _only(request, "cursor"))
        return Response(
            {
                "next": _address(request, page.older),
                "previous": _address(request, page.newer),
                "results": show.AlertSerializer(page.events, many=True).data,
            }
        )


class ExceptionsView(Door):
    """`/api/v1/exceptions/`"""

    required_scopes: ClassVar = {"GET": "read"}
    takes_parameters = True
    not_here = "Exceptions are followed up by people, in the portal's pages; here they can be read."

    @extend_schema(
        operation_id="exceptions_list",
        summary="Read exceptions, newest first",
        parameters=[*schema.FINDING_FILTERS, *schema.PAGING],
        responses={200: show.ExceptionPageSerializer, **schema.failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Read exceptions, newest first. They are followed up by people only."""
        chosen = FindingFilter(request.query_params, besides=["cursor", "page_size"])
        found, size = chosen.paged("opened_at"), _page_size(request)
        page = paging.page(found, size, _only(request, "cursor"))
        return Response(
            {
                "next": _address(request, page.older),
                "previous": _address(request, page.newer),
                "results": show.ExceptionSerializer(page.events, many=True).data,
            }
        )


class SummaryView(Door):
    """`/api/v1/summary/`"""

    required_scopes: ClassVar = {"GET": "read"}
    takes_parameters = True

    @extend_schema(
        operation_id="summary",
        summary="Count events",
        parameters=[schema.GROUP_BY, *schema.FILTERS],
        responses={200: show.SummarySerializer, **schema.failures(400)},
    )
    def get(self, request: Request) -> Response:
        """Count events by groups, under the same filters as the list. It is recorded."""
        chosen = _filtered(request, "group_by")
        groups = ",".join(request.query_params.getlist("group_by"))
        rows = counts.summary(chosen, [name.strip() for name in groups.split(",")])
        _record_search(chosen, sum(row["count"] for row in rows))
        return Response({"results": rows})


class CsvExportView(Door):
    """`/api/v1/export/events.csv`"""

    required_scopes: ClassVar = {"GET": "export"}
    # A HEAD would be recorded as an export cut short.
    http_method_names = ["get"]
    renderer_classes = (CsvRenderer, JSONRenderer)
    takes_parameters = True

    @extend_schema(
        operation_id="export_csv",
        summary="Export events as CSV",
        parameters=[*schema.FILTERS, schema.NO_FORMAT],
        responses={(200, "text/csv"): schema.TEXT, **schema.failures(400)},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Export all events that the filters keep. The attempt and its outcome are recorded."""
        chosen = _filtered(request)
        events, text = chosen.events(), _filter_text(chosen)
        return csv_download(events, filter_text=text)
