"""How the applications that write events are doing: who is silent, refused, or misses numbers.

Every figure is found through an index and within a bound that stands here, so that the page costs
the same whatever the log holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections

from audit import refusals
from audit.models import Refusal, Source

DAY = timedelta(hours=24)
MOST_COUNTED = 100_000
"""Up to how many events of a source and day are counted."""

RHYTHM = 10_000
"""Among how many of its last events the usual pause between two arrivals is looked for: those of
ten batches of 1,000, as the events of one request arrive together."""
FEWEST_ARRIVALS = 3
"""Of fewer arrivals nobody can say what is usual."""
WATCHED = timedelta(days=7)
"""A source that wrote nothing for so long has been given up: it is called away, not silent."""
SHORTEST_SILENCE, PAUSES = timedelta(hours=1), 10
"""Silent is who writes nothing for an hour and for ten times its usual pause."""

NUMBERED = 10_000
"""Among how many of its last events numbers are looked for that are missing."""
GRACE = timedelta(minutes=5)
"""How much later than the number after it a number may come."""
MOST_GAPS, MOST_REASONS = 5, 3
"""How many gaps, and how many reasons of refusals, are named."""


class State(NamedTuple):
    """Something that may be true of a source: in words, like which outcome, and what it means."""

    label: str
    outcome: str
    meaning: str


# fmt: off
STATES = {
    "failing": State("keeps failing",   "failure",       "refused of late, nothing stored since"),
    "silent":  State("silent",          "failure",       "no event for ten times its usual pause"),
    "gaps":    State("numbers missing", "failure",       "source_seq has gaps"),
    "refused": State("some refused",    "pending",       "refused of late, and stored since"),
    "away":    State("away",            "informational", "no event for 7 days"),
    "new":     State("never wrote",     "informational", "no event yet"),
    "writing": State("writing",         "success",       "nothing is wrong"),
}
# fmt: on
"""What can be true of a source, worst first."""


class Gap(NamedTuple):
    """Numbers that are missing, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Reason:
    """Why requests were refused, and how many of them."""

    code: str
    pointer: str
    count: int

    @property
    def words(self) -> str:
        return refusals.reason(self.code)


@dataclass(frozen=True, slots=True)
class Health:
    """What there is to say of one source. Times are the portal's clock."""

    name: str
    description: str = ""
    pk: int | None = None
    at: datetime | None = None
    last_at: datetime | None = None
    pause: timedelta | None = None
    events: int = 0
    refused: int = 0
    last_refused_at: datetime | None = None
    reasons: list[Reason] = field(default_factory=list)
    missing: int = 0
    gaps: list[Gap] = field(default_factory=list)

    @property
    def events_are_bounded(self) -> bool:
        """Whether there are more events than were counted."""
        return self.events > MOST_COUNTED

    @property
    def pause_seconds(self) -> float | None:
        """The usual pause as a number."""
        return None if self.pause is None else self.pause.total_seconds()

    @property
    def silence(self) -> timedelta | None:
        """How long it has written nothing."""
        return self.at - self.last_at if self.at and self.last_at else None

    @property
    def allowed_silence(self) -> timedelta | None:
        """How long it may write nothing before it is called silent; None where nobody knows."""
        return max(SHORTEST_SILENCE, PAUSES * self.pause) if self.pause is not None else None

    @property
    def states(self) -> list[str]:
        """All that is true of it, by its name in `STATES`, worst first."""
        found = [name for name, is_so in self._faults() if is_so]
        return found or ["writing"]

    def _faults(self) -> Iterable[tuple[str, bool]]:
        silence, allowed = self.silence, self.allowed_silence
        failing = self.refused > 0 and (
            self.last_at is None or self.last_at < (self.last_refused_at or self.last_at)
        )
        away = silence is not None and silence > WATCHED
        yield "failing", failing
        yield "silent", bool(silence and allowed and silence > allowed) and not away
        yield "gaps", self.missing > 0
        yield "refused", self.refused > 0 and not failing
        yield "away", away
        yield "new", self.last_at is None


def health(at: datetime) -> list[Health]:
    """All sources by name."""
    refused = _refused(at)
    return [_of(source, at, refused.get(source.name, [])) for source in Source.objects.all()]


def names() -> list[str]:
    """The names of all sources, in order."""
    return list(Source.objects.values_list("name", flat=True))


def unknown_senders(at: datetime) -> Health:
    """The requests of the last day that no key told the source of."""
    return Health(name="", at=at, **_summed(_refused(at, source="").get("", [])))


def latest_refusals(source: str | None, limit: int) -> list[Refusal]:
    """What was refused last, of one source ("": of nobody's) or of all (None)."""
    found = Refusal.objects.order_by("-last_at", "-id")
    return list((found if source is None else found.filter(source=source))[:limit])


# --- one source --------------------------------------------------------------------------------


def _of(source: Source, at: datetime, rows: list[Refusal]) -> Health:
    last_at, pause = _rhythm(source.name)
    gaps = _gaps(source.name, at) if last_at else []
    return Health(
        name=source.name,
        description=source.description,
        pk=source.pk,
        at=at,
        last_at=last_at,
        pause=pause,
        events=_events(source.name, at) if last_at else 0,
        missing=sum(last - first + 1 for first, last in gaps),
        gaps=gaps[:MOST_GAPS],
        **_summed(rows),
    )


def _rows(query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections["default"].cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


_EVENTS = """
    SELECT count(*) FROM (
        SELECT FROM audit_auditevent
        WHERE source = %(source)s AND occurred_at > %(since)s LIMIT %(most)s) found
"""


def _events(source: str, at: datetime) -> int:
    values = {"source": source, "since": at - DAY, "most": MOST_COUNTED + 1}
    return int(_rows(_EVENTS, values)[0][0])


# Events of one request arrive at one time, so that arrivals are counted and not events.
_RHYTHM = """
    WITH latest AS (
        SELECT recorded_at FROM audit_auditevent WHERE source = %(source)s
        ORDER BY occurred_at DESC, id DESC LIMIT %(limit)s),
    arrivals AS (SELECT DISTINCT recorded_at FROM latest),
    pauses AS (
        SELECT recorded_at, recorded_at - lag(recorded_at) OVER (ORDER BY recorded_at) AS pause
        FROM arrivals)
    SELECT max(recorded_at), count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY pause)
    FROM pauses
"""


def _rhythm(source: str) -> tuple[datetime | None, timedelta | None]:
    """When its last event came, and the median pause between two arrivals."""
    last_at, arrivals, pause = _rows(_RHYTHM, {"source": source, "limit": RHYTHM})[0]
    return last_at, pause if arrivals >= FEWEST_ARRIVALS else None


# A counter begins again where 0 or 1 follows a number above 20; below, events only changed places.
# At the far end of what is looked at, numbers may be missing only because they lie beyond it: the
# older half serves as a margin.
_GAPS = """
    WITH latest AS (
        SELECT source_seq AS number, recorded_at, occurred_at, id,
               row_number() OVER (ORDER BY occurred_at DESC, id DESC) AS rank
        FROM (SELECT source_seq, recorded_at, occurred_at, id FROM audit_auditevent
              WHERE source = %(source)s ORDER BY occurred_at DESC, id DESC LIMIT %(limit)s) newest),
    numbered AS (
        SELECT *, number <= 1 AND lag(number) OVER (ORDER BY occurred_at, id) > 20 AS begins
        FROM (SELECT *, count(*) OVER () AS found FROM latest) counted
        WHERE number IS NOT NULL),
    runs AS (
        SELECT *, count(*) FILTER (WHERE begins) OVER (ORDER BY occurred_at, id) AS run
        FROM numbered),
    steps AS (
        SELECT *, lag(number) OVER (PARTITION BY run ORDER BY number) AS before FROM runs)
    SELECT before + 1, number - 1 FROM steps
    WHERE number > before + 1 AND recorded_at < %(until)s
      AND (found < %(limit)s OR rank <= %(limit)s / 2)
    ORDER BY occurred_at DESC, id DESC
"""


def _gaps(source: str, at: datetime) -> list[Gap]:
    """The numbers that are missing among its last events, newest first."""
    values = {"source": source, "limit": NUMBERED, "until": at - GRACE}
    return [Gap(*row) for row in _rows(_GAPS, values)]


# --- refusals ----------------------------------------------------------------------------------


def _refused(at: datetime, **only: str) -> dict[str, list[Refusal]]:
    """The rows of the last day by source, most frequent first."""
    found: dict[str, list[Refusal]] = {}
    for row in Refusal.objects.filter(last_at__gt=at - DAY, hour__gt=at - 2 * DAY, **only):
        found.setdefault(row.source, []).append(row)
    return found


def _summed(rows: list[Refusal]) -> dict[str, Any]:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts[row.code, row.pointer] = counts.get((row.code, row.pointer), 0) + row.count
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "refused": sum(counts.values()),
        "last_refused_at": max((row.last_at for row in rows), default=None),
        "reasons": [Reason(code, pointer, n) for (code, pointer), n in most[:MOST_REASONS]],
    }
