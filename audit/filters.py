"""What a filter means: one FilterSet for the admin's list, the API, exports and reports.

Every filter lives in the URL under a fixed name; repeated values mean 'any of'. An unknown
parameter or a bad value is an error, never ignored: a list that silently shows more or less than
was asked for is no evidence.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from operator import and_, or_
from typing import Any
from uuid import UUID

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q, QuerySet
from django.http import QueryDict

from audit import canonical, enums, pairing, periods, reviewed, searching
from audit.ingest import FUTURE, PAST
from audit.models import AuditEvent

MAX_VALUES = 200
"""How many values one filter takes: enough for every action, too few to be a denial of service."""

MAX_LENGTH = 2_048
"""How long one value may be, in characters."""


MOST_DAYS = 31
"""How long a time a filter by what nobody has done may cover: such events are walked one by one."""

MAX_TOGETHER = 32_768
"""How long all parameters may be together, percent-encoded: a search is recorded as one event."""


class BadFilter(ValueError):
    """A parameter is unknown or its value bad. `errors` has the messages by parameter."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items()))
        self.errors = errors


# --- how values are read -----------------------------------------------------------------------


class ValuesInput(forms.TextInput):
    """A text input whose name may stand in the URL more than once."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        return [value for value in data.getlist(name) if value.strip()]


class ValuesField(forms.Field):
    """Several values, each read by `read`, which raises `ValueError` for a bad one."""

    widget = ValuesInput

    def __init__(self, *, read: Callable[[str], Any] = str.strip, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.read = read

    def to_python(self, values: list[str] | None) -> list[Any]:
        values = values or []
        if len(values) > MAX_VALUES:
            raise ValidationError(f"{len(values)} values, at most {MAX_VALUES} are taken")
        return [self._read(value) for value in values]

    def _read(self, value: str) -> Any:
        if "\0" in value or len(value) > MAX_LENGTH:
            raise ValidationError(f"has to be text of up to {MAX_LENGTH} characters")
        try:
            value.encode()  # a command line that is no UTF-8 brings halves of surrogate pairs
            return self.read(value)
        except UnicodeEncodeError:
            raise ValidationError("has to be text that UTF-8 can write") from None
        except ValueError as error:
            raise ValidationError(str(error)) from None


class AnyOf(django_filters.Filter):
    """Keeps the events for which one of the given values holds; `where` makes the condition."""

    field_class = ValuesField

    def __init__(self, where: Callable[[list[Any]], Q], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where

    def filter(self, queryset: QuerySet[AuditEvent], values: list[Any]) -> QuerySet[AuditEvent]:
        return queryset.filter(self.where(values)) if values else queryset


def one_of(known: Iterable[str], value: str) -> str:
    """The value, if it is a known one. Raises `ValueError` naming the choices."""
    if value in known:
        return value
    names = sorted(known)
    listed = ", ".join(names) if len(names) < 20 else f"{', '.join(names[:5])}, …"
    raise ValueError(f"{value[:64]!r} is none of {listed}")


def network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or a network in CIDR notation, IPv4-mapped addresses as IPv4."""
    try:
        found = ipaddress.ip_network(value.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{value[:64]!r} is no address or network such as 192.0.2.7 or 192.0.2.0/24"
        ) from None
    if "%" in value:
        raise ValueError("an address with a zone is not stored")
    address = found.network_address
    if isinstance(address, ipaddress.IPv6Address) and found.prefixlen >= 96 and address.ipv4_mapped:
        return ipaddress.ip_network(f"{address.ipv4_mapped}/{found.prefixlen - 96}")
    return found


def moment(value: str) -> periods.Moment:
    """A time, a day or a distance from now; see `audit.periods`."""
    return periods.moment(value, datetime.now(UTC))


def key_value(value: str) -> tuple[str, str]:
    """A context key and its value, written ``key:value``."""
    key, colon, wanted = value.partition(":")
    if not (colon and key.strip() and wanted.strip()):
        raise ValueError(f"{value[:64]!r} is not written as key:value, like reason:timeout")
    return key.strip(), wanted.strip()


# --- what they mean ----------------------------------------------------------------------------


@models.GenericIPAddressField.register_lookup
class Within(models.Lookup):
    """``ip_address <<= network``, which a B-tree index on inet serves.

    An incident's addresses lie close together in time. A planner that takes them for evenly spread
    would rather walk all events, newest first, until it has met enough of them. So it is told twice
    what is asked for: it then believes them to be rare, unless the network holds nearly all.
    """

    lookup_name = "within"
    prepare_rhs = False

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        left, params = compiler.compile(self.lhs)
        first, last = str(self.rhs), str(self.rhs.broadcast_address)
        sql = f"({left} <<= %s::inet AND {left} BETWEEN %s::inet AND %s::inet)"
        return sql, (*params, first, *params, first, last)


def field_is(name: str, values: list[Any]) -> Q:
    return Q(**{f"{name}__in": values})


def framework_is(values: list[str]) -> Q:
    wanted = [c.value for c in enums.Category if not set(values).isdisjoint(c.frameworks)]
    return Q(category__in=wanted)


def operation_is(values: list[str]) -> Q:
    return Q(action__in=[member.value for name in values for member in enums.OPERATIONS[name]])


def address_within(values: list[Any]) -> Q:
    return reduce(or_, (Q(ip_address__within=value) for value in values))


def not_before(name: str, values: list[periods.Moment]) -> Q:
    return Q(**{f"{name}__gte": min(value.start for value in values)})


def not_after(name: str, values: list[periods.Moment]) -> Q:
    last = max(values, key=lambda value: (value.until, value.start))
    return Q(**{f"{name}__lte" if last.start == last.until else f"{name}__lt": last.until})


# An id's time lies near the time of recording, as ingest sees to: so whole months are passed over.


def recorded_not_before(values: list[periods.Moment]) -> Q:
    first = min(value.start for value in values)
    return not_before("recorded_at", values) & Q(id__gte=_first_id(first, -PAST))


def recorded_not_after(values: list[periods.Moment]) -> Q:
    last = max(value.until for value in values)
    return not_after("recorded_at", values) & Q(id__lt=_first_id(last, FUTURE + MILLISECOND))


MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _first_id(at: datetime, distance: timedelta) -> UUID:
    """The smallest UUIDv7 of the time that lies so far from `at`."""
    milliseconds = (at - _EPOCH + distance) // MILLISECOND
    return UUID(int=max(0, milliseconds) << 80)


def context_has(values: list[tuple[str, str]]) -> Q:
    """A key with this value, as text, number or boolean, or as one item of a list.

    Containment, so that the GIN indexes serve it.
    """
    return reduce(
        or_,
        (
            Q(**{f"{column}__contains": {key: candidate}})
            for key, text in values
            for candidate in _readings(text)
            for column in ("context", "personal_context")
        ),
    )


def session_is(values: list[str]) -> Q:
    """What a session did and what was done to it: applications name it here or there."""
    in_context = context_has([("session_id", value) for value in values])
    return in_context | Q(resource_type="session", resource_id__in=values)


def _readings(text: str) -> list[Any]:
    readings: list[Any] = [text, [text]]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return readings
    if isinstance(value, bool | int | float) and abs(value) <= canonical.MAX_INTEGER:
        readings += [value, [value]]
    return readings


def _end(values: list[periods.Moment]) -> datetime | None:
    """The first moment that lies after all of them; None where there is none."""
    last = max(values, key=lambda value: (value.until, value.start), default=None)
    if last is None or last.until == datetime.max.replace(tzinfo=UTC):
        return None
    return last.until + timedelta(microseconds=1) if last.start == last.until else last.until


# --- the filter itself -------------------------------------------------------------------------


def _text(name: str) -> AnyOf:
    return AnyOf(partial(field_is, name))


def _choice(where: Callable[[list[str]], Q], known: Collection[str]) -> AnyOf:
    return AnyOf(where, read=partial(one_of, known))


COUNTABLE = (
    "category", "framework", "operation", "action", "outcome", "source",
    "occurred_after", "occurred_before",
)  # fmt: skip
"""The filters that the sealer's hourly and daily counts know."""


@dataclass(frozen=True, slots=True)
class Countable:
    """A filter as conditions on counts: `where` but for the time range, whose `end` is excluded."""

    where: Q
    start: datetime | None
    end: datetime | None


class UrlFilter(django_filters.FilterSet):
    """Filters that live in the URL: what is unknown there or bad is an error, never ignored.

    `besides` are parameters of the page itself (paging, columns), which filter nothing.
    """

    def __init__(
        self,
        data: QueryDict,
        queryset: QuerySet[Any] | None = None,
        *,
        besides: Collection[str] = (),
    ) -> None:
        super().__init__(data, queryset)
        self._unknown = [name for name in data if name not in self.filters and name not in besides]

    @property
    def problems(self) -> dict[str, list[str]]:
        """The messages about unknown parameters and bad values, by parameter."""
        found = {name: [str(text) for text in texts] for name, texts in self.form.errors.items()}
        for name in self._unknown:
            found[name[:64]] = [
                f"there is no such parameter; filters are {', '.join(self.filters)}"
            ]
        if not found and len(self.data.urlencode()) > MAX_TOGETHER:
            found["filters"] = [f"are too long together, at most {MAX_TOGETHER} bytes are taken"]
        return found

    def kept(self) -> QuerySet[Any]:
        """What the filter keeps, in no order. Raises `BadFilter`."""
        if self.problems:
            raise BadFilter(self.problems)
        return self.qs

    def given(self) -> list[tuple[str, str]]:
        """The filters in force as written, in the order of the filters."""
        return [
            (name, value)
            for name in self.filters
            for value in self.data.getlist(name)
            if value.strip()
        ]


class AuditEventFilter(UrlFilter):
    """The filters of events, by their names in every URL."""

    category = _choice(partial(field_is, "category"), [c.value for c in enums.Category])
    framework = _choice(framework_is, [f.value for f in enums.Framework])
    operation = _choice(operation_is, enums.OPERATIONS)
    action = _choice(partial(field_is, "action"), enums.ACTIONS)
    outcome = _choice(partial(field_is, "outcome"), [o.value for o in enums.Outcome])
    source = _text("source")
    user_id = _text("user_id")
    resource_type = _text("resource_type")
    resource_id = _text("resource_id")
    correlation_id = _text("correlation_id")
    session = AnyOf(session_is)
    attempt = _choice(pairing.attempt_is, pairing.STATES)
    review = _choice(reviewed.review_is, reviewed.STATES)
    ip = AnyOf(address_within, read=network)
    occurred_after = AnyOf(partial(not_before, "occurred_at"), read=moment)
    occurred_before = AnyOf(partial(not_after, "occurred_at"), read=moment)
    recorded_after = AnyOf(recorded_not_before, read=moment)
    recorded_before = AnyOf(recorded_not_after, read=moment)
    context = AnyOf(context_has, read=key_value)
    q = AnyOf(searching.has_words)

    class Meta:
        model = AuditEvent
        fields: list[str] = []

    @property
    def problems(self) -> dict[str, list[str]]:
        """And those about times that do not go together, or are missing."""
        found = super().problems
        for kind in ("occurred", "recorded"):
            if not found and self._turned_round(kind):
                found[f"{kind}_after"] = [f"lies after {kind}_before"]
        if not found and self._is_boundless():
            found["review"] = [
                f"{reviewed.NOT_LOOKED_AT} is for up to {MOST_DAYS} days: say from when on, by "
                "occurred_after, and if that is longer ago, until when"
            ]
        return found

    def _turned_round(self, kind: str) -> bool:
        after = self.form.cleaned_data.get(f"{kind}_after")
        before = self.form.cleaned_data.get(f"{kind}_before")
        if not (after and before):
            return False
        first, last = min(a.start for a in after), max(b.until for b in before)
        # The end of a day or a minute is no part of it; an instant is its own end.
        return first > last or (first == last and all(b.start != last for b in before))

    def _is_boundless(self) -> bool:
        given = self.form.cleaned_data
        if reviewed.NOT_LOOKED_AT not in given["review"]:
            return False
        now = datetime.now(UTC)
        after, before = given["occurred_after"], given["occurred_before"]
        last = max((b.until for b in before), default=now)
        return not after or last - min(a.start for a in after) > timedelta(days=MOST_DAYS, hours=1)

    def events(self) -> QuerySet[AuditEvent]:
        """The events that the filter keeps, newest first. Raises `BadFilter`."""
        return self.kept().order_by(F("occurred_at").desc(), F("id").desc())

    def countable(self) -> Countable | None:
        """The filter for the counts; None where they do not know it. Raises `BadFilter`."""
        if self.problems:
            raise BadFilter(self.problems)
        values = {name: found for name, found in self.form.cleaned_data.items() if found}
        if values.keys() - set(COUNTABLE):
            return None
        after, before = (values.pop(f"occurred_{end}", []) for end in ("after", "before"))
        return Countable(
            reduce(and_, (self.filters[name].where(values[name]) for name in values), Q()),
            start=min((moment.start for moment in after), default=None),
            end=_end(before),
        )

    def time_range(self) -> tuple[datetime | None, datetime | None]:
        """Begin and end of the range of time, where the filter says it. It has to be valid."""
        after, before = (
            self.form.cleaned_data.get(f"occurred_{end}") for end in ("after", "before")
        )
        return (
            min((moment.start for moment in after or []), default=None),
            max((moment.until for moment in before or []), default=None),
        )
