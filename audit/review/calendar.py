"""The calendar: which days of which categories are signed, late or missing, at a glance.

A fixed number of queries, however many days and events there are; one or two more for each zone in
which days were signed before the setting changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connections
from django.db.models import Q

from audit import counts
from audit.enums import Category
from audit.models import SignOff
from audit.periods import whole_day
from audit.review.days import began, in_time, zone, zone_of
from audit.review.standing import Scope, Standing, State, standing

ONE_DAY = timedelta(days=1)

MOST_DAYS = 370
"""How many days are looked at together, at most."""

Standings = dict[tuple[date, Category], Standing]

_Numbers = Mapping[tuple[date, str], int]


def days_between(first: date, last: date) -> list[date]:
    """The days from the first to the last, both included."""
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]


def standings(first: date, last: date, at: datetime) -> Standings:
    """How every category of every day stands at `at`; up to `MOST_DAYS`."""
    days = days_between(first, last)
    assert len(days) <= MOST_DAYS
    signoffs = _signoffs(first, last)
    zones: defaultdict[str, set[date]] = defaultdict(set, {zone(): set(days)})
    for (day, _), of_it in signoffs.items():
        zones[zone_of(of_it)].add(day)
    events = {name: _events(of_zone, name) for name, of_zone in zones.items()}
    alerts = {name: _alerts(of_zone, name) for name, of_zone in zones.items()}
    log_began, limit = began(), in_time()
    found: Standings = {}
    for day in days:
        for category in Category:
            signed = signoffs.get((day, category.value), [])
            name = zone_of(signed)
            found[day, category] = standing(
                Scope(day, category, name),
                signed,
                events=events[name].get((day, category.value), 0),
                alerts=alerts[name].get((day, category.value), 0),
                at=at,
                began=log_began,
                in_time=limit,
            )
    return found


def _signoffs(first: date, last: date) -> dict[tuple[date, str], list[SignOff]]:
    found: dict[tuple[date, str], list[SignOff]] = {}
    rows = SignOff.objects.filter(day__gte=first, day__lte=last).select_related("second")
    # Of what was signed over, only who, when and over how much is needed here.
    for signed in rows.defer(
        "checkpoint", "totals", "rule_versions", "exceptions", "comment"
    ).order_by("number"):
        found.setdefault((signed.day, signed.category), []).append(signed)
    return found


def spans(days: set[date], zone: str) -> dict[date, counts.Range]:
    """From when to when each of the days lasts, in a zone."""
    return {day: counts.Range(*whole_day(day, ZoneInfo(zone))) for day in sorted(days)}


def _events(days: set[date], zone: str) -> _Numbers:
    rows = counts.by_day(spans(days, zone), ["category"], Q())
    return {(day, category): count for day, category, count in rows}


_ALERTS = """
    SELECT day, category, count(*)
    FROM unnest(%s::date[], %s::timestamptz[], %s::timestamptz[]) AS days (day, first, last)
    JOIN audit_alert ON first_at < last AND last_at >= first
    WHERE last_at >= %s AND first_at < %s
    GROUP BY day, category
"""


def _alerts(days: set[date], zone: str) -> _Numbers:
    found = spans(days, zone)
    firsts, lasts = [span.start for span in found.values()], [span.end for span in found.values()]
    with connections["default"].cursor() as cursor:
        cursor.execute(_ALERTS, [list(found), firsts, lasts, firsts[0], lasts[-1]])
        return {(day, category): count for day, category, count in cursor.fetchall()}


# --- what it comes to --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """What the days of one category come to.

    `streak` is how many days in a row up to now are signed, `gaps` are the stretches of missing
    days, first and last, and `signers` who signed how many.
    """

    category: Category
    states: Counter[State]
    streak: int
    longest: int
    gaps: list[tuple[date, date]]
    signers: Counter[str]

    @property
    def due(self) -> int:
        """How many days are over and have something to sign."""
        return self.states.total() - self.states[State.RUNNING] - self.states[State.NOTHING]

    @property
    def done(self) -> int:
        """How many of them are signed, and nothing is left to do."""
        return self.states[State.SIGNED] + self.states[State.LATE]


def summary(category: Category, found: Standings) -> Summary:
    """What the days of a category come to, in their order."""
    of_it = [(day, one) for (day, of), one in sorted(found.items()) if of is category]
    signed = [one.signoff for _, one in of_it if one.signoff]
    signers = Counter(one.by for one in signed)
    signers.update(one.second.by for one in signed if one.has_second)
    runs = list(_runs([one for _, one in of_it]))
    return Summary(
        category=category,
        states=Counter(one.state for _, one in of_it),
        streak=runs[-1] if runs else 0,
        longest=max(runs, default=0),
        gaps=_gaps([day for day, one in of_it if one.state is State.MISSING]),
        signers=signers,
    )


def _runs(of_it: Sequence[Standing]) -> Iterator[int]:
    """How long each run of signed days is; the last one, maybe 0, reaches until now.

    Days that may still be signed in time end none, nor do those on which there was no log.
    """
    length = 0
    for one in of_it:
        if one.is_done:
            length += 1
        elif one.state not in (State.RUNNING, State.NOTHING, State.DUE):
            yield length
            length = 0
    yield length


def _gaps(days: Sequence[date]) -> list[tuple[date, date]]:
    found: list[tuple[date, date]] = []
    for day in days:
        if found and day == found[-1][1] + ONE_DAY:
            found[-1] = found[-1][0], day
        else:
            found.append((day, day))
    return found
