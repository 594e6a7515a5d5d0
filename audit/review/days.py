"""What a reviewer has to see of a category of a day, read in a few bounded queries.

Numbers are of what is sealed. A day is a calendar day of `AUDITPORTAL_REVIEW_ZONE` by
`occurred_at`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connections
from django.db.models import Case, Q, When
from django.http import QueryDict

from audit import counts
from audit.enums import ACTIONS, AuditAction, Category, Outcome, PortalAction
from audit.filters import AuditEventFilter
from audit.models import (
    AuditEvent,
    Leaf,
    Log,
    SignOff,
)
from audit.periods import whole_day
from audit.review.alerts import UNDECIDED, with_growth
from audit.review.raised import RuleOfDay, alerts_of, exceptions_of, rules_of
from audit.review.standing import Scope, Standing, standing

FIRST_YEAR = 1970
"""The first year of which days are reviewed: a page may be asked for any."""

WEEKS = 8
"""Of how many days of that weekday before, the usual is made."""

MOST_SHOWN = 20
"""How many events, users or addresses a list on the page names."""

MOST_ALERTS = 200
"""How many alerts the page lists; their numbers are of all of them."""

MOST_LOOKED_UP = 1_000
"""Of how many of a day's users it is looked up whether the log knew them."""

MOST_READ = 50_000
"""Among how many events of a day, the newest, the largest users and addresses are looked for."""

PRIVILEGED = frozenset(
    {
        "permission_change", "role_assignment", "role_revocation", "admin_user_creation",
        "admin_user_deletion", "admin_user_suspension", "admin_config_change", "admin_backup",
        "global_token_rotation", "user_token_rotation", "user_mfa_disable",
        "all_sessions_revocation", "data_deletion", "data_export", "portal_export",
        "portal_subject_erasure", "portal_event_pruning", "portal_signing_key_rotation",
        "portal_api_key_issue", "portal_api_key_revocation",
    }
)  # fmt: skip
"""The operations that need more rights than everybody has (PCI DSS 10.2.1.2, 10.2.1.5)."""


def zone() -> str:
    """The name of the zone whose days are reviewed."""
    return str(settings.AUDITPORTAL_REVIEW_ZONE)


def in_time() -> timedelta:
    """How long after its end a day is signed in time."""
    return timedelta(hours=settings.AUDITPORTAL_REVIEW_HOURS)


class Usual(NamedTuple):
    """How many events such a weekday had: the middle, and from the fewest to the most."""

    middle: float
    fewest: int
    most: int


class Total(NamedTuple):
    """The events of one action, and how many of them are usual; None where nothing is known."""

    action: AuditAction | PortalAction
    events: int
    usual: Usual | None

    @property
    def is_unusual(self) -> bool:
        """Whether that is fewer or more than on any such day before."""
        return self.usual is not None and not self.usual.fewest <= self.events <= self.usual.most

    @property
    def is_told(self) -> bool:
        """Whether it needs a look: what is as absent as usual has no number to read."""
        return self.events > 0 or self.is_unusual


class Names(NamedTuple):
    """Users or sources, and whether these are all."""

    values: list[str]
    is_all: bool


@dataclass(frozen=True)
class Review:
    """A category of a day. What takes a query of its own is read when it is first asked for."""

    scope: Scope
    signoffs: list[SignOff]
    """The sign-offs there are, in the order of their numbers."""
    at: datetime

    # --- numbers -------------------------------------------------------------------------------

    @cached_property
    def hours(self) -> list[tuple[datetime, str, int]]:
        """Hour, action and number of sealed events."""
        span = {self.scope.day: counts.Range(self.scope.start, self.scope.end)}
        rows = counts.by_day(span, ["start", "action"], self._category, unit=counts.HOUR)
        return [(start, action, count) for _, start, action, count in rows]

    @cached_property
    def by_action(self) -> Counter[str]:
        """How many sealed events of each action there are."""
        found: Counter[str] = Counter()
        for _, action, count in self.hours:
            found[action] += count
        return found

    @property
    def events(self) -> int:
        """How many sealed events there are."""
        return self.by_action.total()

    @cached_property
    def totals(self) -> list[Total]:
        """Every action that happened or usually happens, failures first, then by number."""
        usual = self._usual()
        otherwise = Usual(0, 0, 0) if usual else None  # such days there were, without the action
        names = self.by_action.keys() | usual.keys()
        found = [
            Total(ACTIONS[name], self.by_action[name], usual.get(name, otherwise)) for name in names
        ]
        return sorted(
            found,
            key=lambda total: (
                total.action.outcome is not Outcome.FAILURE, -total.events, total.action.value
            ),
        )  # fmt: skip

    @property
    def outcomes(self) -> list[tuple[Outcome, int]]:
        """How many events of each outcome there are, of those that happened."""
        found: Counter[Outcome] = Counter()
        for name, count in self.by_action.items():
            found[ACTIONS[name].outcome] += count
        return [(outcome, found[outcome]) for outcome in Outcome if found[outcome]]

    @property
    def hours_by_outcome(self) -> list[tuple[datetime, str, int]]:
        """Hour, outcome and number of events, for a chart."""
        found: Counter[tuple[datetime, str]] = Counter()
        for start, action, count in self.hours:
            found[start, ACTIONS[action].outcome.value] += count
        return [(*key, count) for key, count in sorted(found.items())]

    @property
    def _category(self) -> Q:
        return Q(category=self.scope.category.value)

    def _usual(self) -> dict[str, Usual]:
        """The usual of each action, of the same weekdays before on which the log was kept."""
        days = [self.scope.day - timedelta(weeks=n) for n in range(1, WEEKS + 1)]
        spans = {day: counts.Range(*whole_day(day, ZoneInfo(self.scope.zone))) for day in days}
        rows = counts.by_day(spans, ["action"], self._category)
        known = sorted({day for day, _, _ in rows})
        kept = [day for day in days if known and day >= known[0]]
        found: dict[str, Counter[date]] = {}
        for day, action, count in rows:
            found.setdefault(action, Counter())[day] += count
        return {
            action: Usual(median(of), min(of), max(of))
            for action, by_day in found.items()
            if (of := [by_day[day] for day in kept])
        }

    # --- alerts and rules ----------------------------------------------------------------------

    @cached_property
    def alerts(self) -> list[Any]:
        """The alerts whose events lie on that day, undecided ones first; up to `MOST_ALERTS`.

        Each with how much it has `grown` since it was decided.
        """
        is_decided = Case(When(status__in=UNDECIDED, then=0), default=1)
        found = with_growth(alerts_of(self.scope)).order_by(is_decided, "-last_at", "id")
        return list(found[:MOST_ALERTS])

    @cached_property
    def rules(self) -> list[RuleOfDay]:
        """All rules of the category, those that matched nothing too."""
        return rules_of(self.scope)

    @property
    def alert_count(self) -> int:
        """How many alerts there are."""
        return sum(rule.alerts for rule in self.rules)

    @property
    def undecided(self) -> int:
        """How many of them nobody has decided."""
        return sum(rule.undecided for rule in self.rules)

    @cached_property
    def exceptions(self) -> list[dict[str, Any]]:
        """The exceptions that were opened for alerts or events of the day."""
        return exceptions_of(self.scope)

    # --- how it stands -------------------------------------------------------------------------

    @cached_property
    def standing(self) -> Standing:
        """How it stands now."""
        return standing(
            self.scope,
            self.signoffs,
            events=self.events,
            alerts=self.alert_count,
            at=self.at,
            began=began(),
            in_time=in_time(),
        )

    def late_events(self) -> list[AuditEvent]:
        """The first of the events that came after the newest sign-off: their index says so."""
        if not self.standing.late_events or self.standing.signoff is None:
            return []
        late = Leaf.objects.filter(index__gte=self.standing.signoff.tree_size)
        found = self._events().filter(pk__in=late.values("event_id"))
        return list(found.order_by("occurred_at", "id")[:MOST_SHOWN])

    # --- what else to look at ------------------------------------------------------------------

    def failures_by(self, name: str) -> list[tuple[str, int]]:
        """The users (`user_id`) or addresses (`ip_address`) that failed most, and how often."""
        return self._largest(name, MOST_SHOWN, "failure")

    def privileged(self) -> tuple[list[tuple[AuditAction | PortalAction, int]], list[AuditEvent]]:
        """What was done with more rights than everybody has: by action, and the newest of it."""
        named = [
            (ACTIONS[name], count)
            for name, count in sorted(self.by_action.items())
            if ACTIONS[name].operation in PRIVILEGED
        ]
        if not named:
            return [], []
        events = self._events().filter(action__in=[action.value for action, _ in named])
        return named, list(events.order_by("-occurred_at", "-id")[:MOST_SHOWN])

    def open_attempts(self) -> counts.Total:
        """How many attempts of the day have had no outcome."""
        return counts.bounded(self._filter([("attempt", "open")]).events())

    def waiting(self) -> int:
        """How many events of the whole log wait to be sealed, and are in no number here."""
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT coalesce(sum(cardinality(ids)), 0) FROM audit_pending")
            return int(cursor.fetchone()[0])

    def new_users(self) -> Names:
        """Users of that day and category whom the log had never seen before the day."""
        names = [name for name, _ in self._largest("user_id", MOST_LOOKED_UP + 1)]
        found = _unknown_before("user_id", names[:MOST_LOOKED_UP], self.scope.start)
        return Names(found, len(names) <= MOST_LOOKED_UP)

    def new_sources(self) -> Names:
        """Sources of that day and category that had never written before the day."""
        span = {self.scope.day: counts.Range(self.scope.start, self.scope.end)}
        rows = counts.by_day(span, ["source"], self._category)
        names = [source for _, source, _ in sorted(rows, key=lambda row: -row[2])]
        found = _unknown_before("source", names[:MOST_LOOKED_UP], self.scope.start)
        return Names(found, len(names) <= MOST_LOOKED_UP)

    def _largest(self, column: str, most: int, outcome: str = "") -> list[tuple[str, int]]:
        """The values of a column and their events, most first, of the newest `MOST_READ` events."""
        only = {"outcome": outcome} if outcome else {}
        newest = self._events().filter(**only).order_by("-occurred_at", "-id")
        sql, values = newest.values(column)[:MOST_READ].query.sql_with_params()
        with connections["default"].cursor() as cursor:
            query = _LARGEST.format(value=_VALUES[column], column=column, newest=sql)
            cursor.execute(query, [*values, most])
            return list(cursor.fetchall())

    def _events(self) -> Any:
        return AuditEvent.objects.filter(
            category=self.scope.category.value,
            occurred_at__gte=self.scope.start,
            occurred_at__lt=self.scope.end,
        )

    def _filter(self, more: Iterable[tuple[str, str]]) -> AuditEventFilter:
        return AuditEventFilter(QueryDict(urlencode([*self.scope.filters, *more])))


def review(day: date, category: Category, at: datetime) -> Review:
    """A category of a day, of the zone that is set; a day that was signed keeps its zone."""
    found = SignOff.objects.filter(day=day, category=category.value)
    signoffs = list(found.select_related("second").order_by("number"))
    return Review(Scope(day, category, zone_of(signoffs)), signoffs, at)


def zone_of(signoffs: Sequence[SignOff]) -> str:
    """In which zone a day is counted: that of its newest sign-off, else the one that is set."""
    return signoffs[-1].zone if signoffs else zone()


def began() -> datetime:
    """When the log did."""
    return Log.objects.values_list("created_at", flat=True).get()


_LARGEST = """
    SELECT {value}, count(*) FROM ({newest}) AS newest
    WHERE {column} IS NOT NULL GROUP BY {column} ORDER BY 2 DESC, 1 LIMIT %s
"""
_VALUES = {"user_id": "user_id", "ip_address": "host(ip_address)"}

# One look into an index for each name: the LIMIT keeps the database from reading the table instead.
_UNKNOWN = """
    SELECT name FROM unnest(%s::text[]) AS name
    LEFT JOIN LATERAL (
        SELECT true AS is_known FROM audit_auditevent
        WHERE {column} = name AND occurred_at < %s ORDER BY occurred_at LIMIT 1
    ) AS before ON true WHERE is_known IS NULL ORDER BY name
"""


def _unknown_before(column: str, names: Sequence[str], at: datetime) -> list[str]:
    """Those of the names that no event before `at` has."""
    if not names:
        return []
    with connections["default"].cursor() as cursor:
        cursor.execute(_UNKNOWN.format(column=column), [list(names), at])
        return [row[0] for row in cursor.fetchall()]
