"""Detection as a part of the worker: feeds the engine from the log, and keeps what comes of it.

A follower, see `audit.following`: each event is judged once, and its alerts, the state and the
place in the log are written in one transaction. A block costs a few queries, however long the log
is: the state of the keys that occur in it is read before, and what changed of it written after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.conf import settings as django_settings
from django.db import connections, transaction

from audit import following
from audit.detection import versions
from audit.detection.engine import Engine
from audit.detection.judging import HOUR
from audit.detection.memory import CLOCK, Memory, Place, State
from audit.detection.raising import Raised, Setting
from audit.detection.rules import RULES, actions_of
from audit.detection.rules.facts import SAID, Fact
from audit.enums import ACTIONS
from audit.ingest import now
from audit.models import Follower, Pending

FOLLOWER = "detector"

QUIET = timedelta(minutes=5)
"""How long after an hour the log has to be idle until the hour is passed by the portal's clock:
what was recorded before the hour may still wait to be sealed."""


def detect(*, most: int = following.MOST, using: str = "worker") -> int:
    """Judge the next events of the log, or, where there are none, the hours that went by.

    How many events they were; 0 also while another worker detects.
    """
    seen = following.follow(
        FOLLOWER, lambda leaves: follow(leaves, using=using), most=most, using=using
    )
    if not seen:
        pass_idle_hours(now(), using=using)
    return seen


def follow(leaves: range, *, using: str = "worker") -> None:
    """Judge the events of these leaves, each by the rules' versions of its place in the log."""
    versions.hold_still(using)
    for part, settings in versions.in_force(leaves, using):
        judge(settings, part, load(part, using=using), using=using)


def pass_idle_hours(at: datetime, *, using: str = "worker") -> None:
    """Let the hours go by while nothing is recorded; does nothing where that was done already.

    Nor does it while events wait, or another worker detects.
    """
    hour = (milliseconds(at - QUIET) // HOUR) * HOUR
    with transaction.atomic(using=using):
        free = Follower.objects.using(using).select_for_update(skip_locked=True)
        follower = free.filter(name=FOLLOWER).first()
        size = following.size(using)
        if follower is None or follower.position < size or not size:
            return
        clock = read_states([CLOCK], using).get(CLOCK)
        if clock is None or clock.data["hour"] >= hour:
            return
        if Pending.objects.using(using).exists():
            return
        versions.hold_still(using)
        for part, settings in versions.in_force(range(size, size), using):
            judge(settings, part, [], until=hour, using=using)


def judge(
    settings: Sequence[Setting],
    leaves: range,
    facts: Sequence[Fact],
    *,
    until: int | None = None,
    using: str,
) -> None:
    """Judge the facts of these leaves by rules that are set so there, and store the result."""
    engine = Engine(settings, secret=secret(), size=leaves.start)
    last = max((fact.recorded for fact in facts), default=until or 0)
    hour = last - last % HOUR
    steps = [engine.steps(fact) for fact in facts]
    states = read_states(engine.wanted(steps), using)
    if CLOCK in states and states[CLOCK].data["hour"] < hour:
        states |= read_due(hour, using)
        states |= read_states({*engine.wanted_when_due(states.values())} - states.keys(), using)
    engine.remember(states)
    found = set(states)
    for fact, taken in zip(facts, steps, strict=True):
        engine.judge(fact, taken)
    if until is not None:
        engine.pass_to(until)
    write_states(engine.memory, found, using)
    write_alerts(engine.alerts.values(), using)


def secret() -> bytes:
    """What keys the digests: follows from the portal's secret key, so that all processes agree."""
    return hashlib.sha256(b"detection " + django_settings.SECRET_KEY.encode()).digest()


def milliseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# --- events ------------------------------------------------------------------------------------

WATCHED = sorted(frozenset[str]().union(*map(actions_of, RULES)))
"""The actions that a rule watches: of others only source, times and correlation id matter."""
SAYING = [action for action in WATCHED if ACTIONS[action].keys_by_name.keys() & set(SAID)]
"""The actions whose context says what a rule looks at."""

_BY_INDEX = "index >= %s AND index < %s"
_BY_EVENT = "event_id = ANY (%s::uuid[])"

# As text, because PostgreSQL 15 knows no smallest uuid.
_ENDS = """
    SELECT min(event_id::text COLLATE "C"), max(event_id::text COLLATE "C")
    FROM audit_leaf WHERE {}
"""

# A double holds microseconds until the year 2255, and is quicker than a numeric.
_MILLISECONDS = "(date_part('epoch', {}) * 1000000)::bigint / 1000"
_SAID = ", ".join(f"'{key}', personal_context -> '{key}'" for key in SAID)

# Between the ids of its ends: so the database looks into their months only. The leaves are gathered
# first: so it reads that stretch of the events once, instead of looking for each.
_FACTS = f"""
    WITH leaf AS MATERIALIZED (SELECT event_id AS id, index FROM audit_leaf WHERE {{}})
    SELECT index, {_MILLISECONDS.format("occurred_at")}, {_MILLISECONDS.format("recorded_at")},
        action, source, correlation_id,
        CASE WHEN action = ANY (%s) OR coalesce(correlation_id, '') = '' THEN json_build_array(
            user_id, subject_id, host(ip_address), resource_type, resource_id,
            CASE WHEN action = ANY (%s) THEN jsonb_strip_nulls(jsonb_build_object({_SAID}))
                ELSE '{{{{}}}}' END)::text END
    FROM leaf JOIN audit_auditevent USING (id)
    WHERE audit_auditevent.id BETWEEN %s AND %s
    ORDER BY index
"""


def load(leaves: range, *, using: str = "worker") -> list[Fact]:
    """The events of these leaves as the rules see them, in the log's order."""
    return _facts(_BY_INDEX, [leaves.start, leaves.stop], using)


def load_events(ids: Iterable[Any], *, using: str = "worker") -> list[Fact]:
    """The events of these ids as the rules see them, in the log's order."""
    return _facts(_BY_EVENT, [_array(ids)], using)


def _facts(which: str, values: Sequence[Any], using: str) -> list[Fact]:
    with connections[using].cursor() as cursor:
        cursor.execute(_ENDS.format(which), values)
        ends = cursor.fetchone()
        cursor.execute(_FACTS.format(which), [*values, WATCHED, SAYING, *ends])
        return [
            Fact(*event) if who is None else Fact(*event, *orjson.loads(who))
            for *event, who in cursor.fetchall()
        ]


# --- state -------------------------------------------------------------------------------------

_PLACES = "%s::text[], %s::int[], %s::text[]"
_COLUMNS = "rule, version, key, state::text, (extract(epoch FROM due) * 1000)::bigint"
_READ_DUE = f"SELECT {_COLUMNS} FROM audit_detectionstate WHERE due <= to_timestamp(%s / 1000.0)"
_READ = f"""
    SELECT {_COLUMNS} FROM audit_detectionstate
    JOIN unnest({_PLACES}) AS wanted (rule, version, key) USING (rule, version, key)
"""
_WRITE = f"""
    INSERT INTO audit_detectionstate (rule, version, key, state, due)
    SELECT rule, version, key, state, to_timestamp(due / 1000.0)
    FROM unnest({_PLACES}, string_to_array(%s, E'\\n')::jsonb[], %s::bigint[])
        AS changed (rule, version, key, state, due)
    ON CONFLICT (rule, version, key) DO UPDATE SET state = EXCLUDED.state, due = EXCLUDED.due
"""
_FORGET = f"""
    DELETE FROM audit_detectionstate USING unnest({_PLACES}) AS gone (rule, version, key)
    WHERE audit_detectionstate.rule = gone.rule
        AND audit_detectionstate.version = gone.version AND audit_detectionstate.key = gone.key
"""


def read_due(hour: int, using: str) -> dict[Place, State]:
    """The state of all places that are due by this whole hour."""
    return _read(_READ_DUE, [hour], using)


def read_states(places: Iterable[Place], using: str) -> dict[Place, State]:
    """The state of these places, as far as there is any."""
    wanted = list(places)
    return _read(_READ, _columns(wanted), using) if wanted else {}


def _read(query: str, values: Sequence[Any], using: str) -> dict[Place, State]:
    with connections[using].cursor() as cursor:
        cursor.execute(query, values)
        return {
            (row[0], row[1], row[2]): State(orjson.loads(row[3]), row[4])
            for row in cursor.fetchall()
        }


def write_states(memory: Memory, found: set[Place], using: str) -> None:
    """Keep what changed of the state; `found` is where there was any before."""
    kept = sorted(place for place in memory.changed if place in memory.states)
    gone = sorted(place for place in memory.changed & found if place not in memory.states)
    states = [memory.states[place] for place in kept]
    with connections[using].cursor() as cursor:
        if kept:
            texts = "\n".join(orjson.dumps(state.data).decode() for state in states)
            dues = _array("NULL" if state.due is None else state.due for state in states)
            cursor.execute(_WRITE, [*_columns(kept), texts, dues])
        if gone:
            cursor.execute(_FORGET, _columns(gone))


def _columns(places: Sequence[Place]) -> list[str]:
    return [_array(column) for column in zip(*places, strict=True)]


def _array(values: Iterable[Any]) -> str:
    """An array as PostgreSQL writes it, of names, numbers and hex digits, which need no quotes.

    A long list that is quoted value by value takes longer to send than to look up.
    """
    return f"{{{','.join(map(str, values))}}}"


# --- alerts ------------------------------------------------------------------------------------

# What is there already is at least as large: to judge a stretch of the log again changes nothing.
_ALERT = """
    INSERT INTO audit_alert (id, rule, rule_version, severity, category, key, first_at, last_at,
        raised_index, count, status, assigned_to)
    SELECT id, rule, version, severity, category, key, to_timestamp(first / 1000.0),
        to_timestamp(last / 1000.0), raised, count, 'open', ''
    FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[],
        %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS alert (id, rule, version, severity, category, key, first, last, raised, count)
    ON CONFLICT (id) DO UPDATE SET count = greatest(audit_alert.count, EXCLUDED.count),
        first_at = least(audit_alert.first_at, EXCLUDED.first_at),
        last_at = greatest(audit_alert.last_at, EXCLUDED.last_at)
"""
_ALERT_EVENT = """
    INSERT INTO audit_alertevent (alert_id, event_id, occurred_at)
    SELECT alert, event_id, to_timestamp(at / 1000.0)
    FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS named (alert, index, at)
    JOIN audit_leaf USING (index)
    ON CONFLICT (alert_id, event_id) DO NOTHING
"""


def write_alerts(alerts: Iterable[Raised], using: str) -> None:
    """Store the alerts that were raised, let those grow that are there, and name their events."""
    rows = [_alert_row(alert) for alert in alerts]
    named = [(alert.id, index, at) for alert in alerts for index, at in alert.named]
    with connections[using].cursor() as cursor:
        if rows:
            cursor.execute(_ALERT, [list(column) for column in zip(*rows, strict=True)])
        if named:
            cursor.execute(_ALERT_EVENT, [list(column) for column in zip(*named, strict=True)])


def _alert_row(alert: Raised) -> tuple[Any, ...]:
    setting = alert.setting
    return (
        alert.id, setting.rule.slug, setting.version, setting.rule.severity, alert.category,
        alert.key, alert.first, alert.last, alert.raised_index, alert.count,
    )  # fmt: skip
