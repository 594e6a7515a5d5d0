"""A labelled month: ordinary days, made by the samples' generator, and incidents planted in them.

Written before the rules were tuned. Of the ordinary days is left out what by a rule's own words is
an incident although nobody planted it: a setting changed at night, MFA removed by an administrator,
a rotation of all tokens, a session that the application itself calls suspicious.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from random import Random
from typing import Any

from audit.detection.rules.facts import Fact
from audit.enums import ACTIONS
from audit.samples import sample_events

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 30
PEOPLE = 600

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(slots=True)
class Row:
    """An event with the application that wrote it, when it was recorded, and its incident."""

    source: str
    event: dict[str, Any]
    recorded_at: datetime = START
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """What was planted: the rules that have to find it, and those that may do so as well."""

    number: int
    kind: str
    must: frozenset[str]
    may: frozenset[str]


@dataclass(slots=True)
class Month:
    """The events in the log's order, and what was planted among them."""

    rows: list[Row]
    incidents: list[Incident] = field(default_factory=list)


def make_month(seed: int, *, events: int = 300_000, days: int = DAYS, rounds: int = 2) -> Month:
    """The month of a seed: the same each time, with `rounds` incidents of each kind."""
    random = Random(f"month {seed}")
    end = START + timedelta(days=days)
    rows = [
        Row(source, event)
        for source, event in sample_events(
            events, seed=seed, start=START, end=end, people=PEOPLE, is_eventful=False
        )
        if _is_ordinary(event)
    ]
    planting = Planting(random, rows, days)
    for number in range(rounds):
        for plant in KINDS:
            plant(planting, number)
    return Month(_arrived(planting.rows, random), planting.incidents)


def _is_ordinary(event: dict[str, Any]) -> bool:
    operation, at = ACTIONS[event["action"]].operation, event["occurred_at"]
    if operation == "admin_config_change":
        return at.weekday() < 5 and 7 <= at.hour < 19
    if operation == "user_mfa_disable":
        return event.get("actor_type") == "user"
    return operation not in ("suspicious_session_activity", "global_token_rotation")


def _arrived(rows: list[Row], random: Random) -> list[Row]:
    """The rows as the portal takes them: some at a time, in order of arrival, some of them late."""
    rows.sort(key=lambda row: (row.event["occurred_at"], row.event.get("source_seq", 0)))
    batches = []
    for _, together in groupby(rows, key=lambda row: int(_clock(row).timestamp() // 20)):
        for source, group in groupby(sorted(together, key=_source), key=_source):
            batch = list(group)
            arrived = max(map(_clock, batch)) + SECOND
            if source == "mobile-api" and random.random() < 0.01:
                arrived += random.uniform(1, 40) * MINUTE
            batches.append((arrived, source, batch))
    batches.sort(key=lambda batch: batch[:2])
    for arrived, _, batch in batches:
        for row in batch:
            row.recorded_at = arrived
    return [row for _, _, batch in batches for row in batch]


def _source(row: Row) -> str:
    return row.source


def _clock(row: Row) -> datetime:
    """When it happened by a clock that is right."""
    return row.event.get("true_time", row.event["occurred_at"])


def fact(index: int, row: Row) -> Fact:
    """The event as the rules see it."""
    event, context = row.event, row.event.get("context", {})
    return Fact(
        index,
        _ms(event["occurred_at"]),
        _ms(row.recorded_at),
        event["action"],
        row.source,
        event.get("correlation_id"),
        event.get("user_id"),
        event.get("subject_id"),
        event.get("ip_address"),
        event.get("resource_type"),
        event.get("resource_id"),
        context,
    )


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# --- planting ----------------------------------------------------------------------------------


class Planting:
    """Puts incidents among the rows."""

    def __init__(self, random: Random, rows: list[Row], days: int) -> None:
        self.random = random
        self.rows = rows
        self.days = days
        self.incidents: list[Incident] = []
        self._people = sorted({row.event["user_id"] for row in rows if _is_user(row)})
        self._correlations = 0

    def incident(self, kind: str, *must: str, may: tuple[str, ...] = ()) -> int:
        number = len(self.incidents)
        self.incidents.append(Incident(number, kind, frozenset(must), frozenset(may)))
        return number

    def person(self) -> str:
        return self.random.choice(self._people)

    def stranger(self) -> str:
        return f"203.0.113.{self.random.randint(2, 254)}"

    def time(self, *, earliest: float = 0.05, latest: float = 0.9, hour: int = -1) -> datetime:
        """Some time of the month; on a working day at that hour, if one is named."""
        day = int(self.days * self.random.uniform(earliest, latest))
        at = START + day * DAY
        while hour >= 0 and at.weekday() >= 5:
            at += DAY
        hour = hour if hour >= 0 else self.random.randrange(24)
        return at + hour * HOUR + self.random.random() * 30 * MINUTE

    def put(self, label: int, at: datetime, source: str, action: str, **fields: Any) -> None:
        """An event; if it is an outcome, after its attempt."""
        context = fields.pop("context", {})
        course = [a for a in _attempts(action) if fields.get("attempted", True)]
        fields.pop("attempted", None)
        self._correlations += 1
        if course:
            fields["correlation_id"] = f"planted-{self._correlations}"
        for step in (*course, action):
            event = {"action": step, "occurred_at": at, "context": context, **fields}
            self.rows.append(Row(source, event, label=label))
            at += self.random.uniform(0.05, 0.5) * SECOND


def _is_user(row: Row) -> bool:
    return row.event.get("actor_type") == "user"


def _attempts(action: str) -> list[str]:
    operation = ACTIONS[action].operation
    return [a for a, member in ACTIONS.items() if member.operation == operation
            and member.phase == "attempted" and a != action]  # fmt: skip


NEW = ("new-action",)
"""What a source writes for the first time is noticed as well."""


def guessing_one(plan: Planting, number: int) -> None:
    """Failure after failure of one account, slow or quick."""
    label = plan.incident(
        "guessing one password", "failed-sign-ins-user", may=("failed-sign-ins-address", *NEW)
    )
    who, address, at = plan.person(), plan.stranger(), plan.time()
    for _ in range(8 + 4 * number):
        plan.put(label, at, "web-app", "user_login_failed", user_id=who, ip_address=address,
                 context={"reason": "invalid_password"})  # fmt: skip
        at += plan.random.uniform(5, 60 + 60 * number) * SECOND


def guessing_from_one_address(plan: Planting, number: int) -> None:
    """One address tries a few accounts, many times in all."""
    label = plan.incident(
        "guessing from one address", "failed-sign-ins-address", may=("failed-sign-ins-user", *NEW)
    )
    address, at, people = plan.stranger(), plan.time(), [plan.person() for _ in range(4)]
    for turn in range(16):
        plan.put(label, at, "web-app", "user_login_failed", user_id=people[turn % 4],
                 ip_address=address, context={"reason": "invalid_password"})  # fmt: skip
        at += plan.random.uniform(5, 60) * SECOND


def guessed(plan: Planting, number: int) -> None:
    """Failures, and then a success."""
    label = plan.incident(
        "guessed at last",
        "success-after-failures",
        may=("failed-sign-ins-user", "failed-sign-ins-address", "success-after-failures-address"),
    )
    who, address, at = plan.person(), plan.stranger(), plan.time()
    for _ in range(5 + 3 * number):
        plan.put(label, at, "web-app", "user_login_failed", user_id=who, ip_address=address,
                 context={"reason": "invalid_password"})  # fmt: skip
        at += plan.random.uniform(10, 90) * SECOND
    plan.put(label, at, "web-app", "user_login_success", user_id=who, ip_address=address,
             context={"method": "password"})  # fmt: skip


def sprayed(plan: Planting, number: int) -> None:
    """One address tries many users once or twice; in the second round it gets into an account."""
    address, at = plan.stranger(), plan.time()
    others = ("failed-sign-ins-address", "failed-sign-ins-user")
    gets_in = number % 2 == 1
    must = ("password-spraying", *(("success-after-failures-address",) if gets_in else ()))
    label = plan.incident("spraying", *must, may=(*others, *NEW))
    for person in plan.random.sample(plan._people, 14 + 10 * number):
        plan.put(label, at, "web-app", "user_login_failed", user_id=person, ip_address=address,
                 context={"reason": "invalid_password"})  # fmt: skip
        at += plan.random.uniform(2, 100) * SECOND
    if gets_in:
        plan.put(label, at, "web-app", "user_login_success", user_id=plan.person(),
                 ip_address=address, context={"method": "password"})  # fmt: skip


def probing(plan: Planting, number: int) -> None:
    """One user is denied again and again."""
    label = plan.incident("probing", "denied-access", may=NEW)
    who, at = plan.person(), plan.time()
    for _ in range(10 + 10 * number):
        plan.put(label, at, "api-gateway", "access_denied", user_id=who, ip_address="192.0.2.9",
                 context={"resource": "users", "reason": "no_permission"})  # fmt: skip
        at += plan.random.uniform(3, 100) * SECOND


def self_promoted(plan: Planting, number: int) -> None:
    """An administrator gives a right to themselves."""
    label = plan.incident("own privileges", "own-privileges", may=NEW)
    action = ("role_assigned", "permission_changed")[number % 2]
    fields: dict[str, Any] = {"user_id": "a-103", "context": {"role_name": "admin"}}
    if number % 2:
        fields |= {"resource_type": "user", "resource_id": "a-103"}
    else:
        fields |= {"subject_id": "a-103"}
    plan.put(label, plan.time(), "admin-console", action, actor_type="admin", **fields)


def mfa_removed(plan: Planting, number: int) -> None:
    """An administrator takes somebody's second factor away."""
    label = plan.incident("MFA disabled by another", "mfa-disabled-by-other", may=NEW)
    plan.put(label, plan.time(), "admin-console", "user_mfa_disabled", user_id="a-104",
             subject_id=plan.person(), actor_type="admin",
             context={"initiated_by": "admin", "reason": "user_request"})  # fmt: skip


def taken_over(plan: Planting, number: int) -> None:
    """A session removes MFA and changes the password."""
    label = plan.incident("taken over", "mfa-disabled-then-password", may=NEW)
    who, at = plan.person(), plan.time()
    plan.put(label, at, "web-app", "user_mfa_disabled", user_id=who, actor_type="user",
             context={"initiated_by": "user"})  # fmt: skip
    at += plan.random.uniform(0.5, 40) * MINUTE
    plan.put(label, at, "web-app", "user_password_changed", user_id=who, actor_type="user",
             context={"initiated_by": "user"})  # fmt: skip


def suspicious(plan: Planting, number: int) -> None:
    """An application reports a session."""
    label = plan.incident("suspicious session", "suspicious-session", may=NEW)
    plan.put(label, plan.time(), "web-app", "suspicious_session_activity", user_id=plan.person(),
             context={"activity_type": "token_reuse", "risk_score": 94})  # fmt: skip


def old_tokens(plan: Planting, number: int) -> None:
    """Somebody's outdated token is tried for a while."""
    label = plan.incident("outdated tokens", "token-version-mismatch", may=NEW)
    who, at = plan.person(), plan.time()
    for _ in range(7 + 10 * number):
        plan.put(label, at, "api-gateway", "token_rejected_version_mismatch", user_id=who,
                 context={"token_version": 1, "required_version": 3})  # fmt: skip
        at += plan.random.uniform(1, 300) * SECOND


def rotated(plan: Planting, number: int) -> None:
    """All tokens are rotated."""
    label = plan.incident("global rotation", "global-token-rotation", may=NEW)
    action = ("global_token_rotation_succeeded", "global_token_rotation_failed")[number % 2]
    plan.put(label, plan.time(), "admin-console", action, user_id="a-101", actor_type="admin",
             context={"reason": "security_breach"})  # fmt: skip


def short_lived(plan: Planting, number: int) -> None:
    """An account exists for some hours."""
    label = plan.incident("short-lived account", "short-lived-account", may=NEW)
    who, at = f"u-temp-{number}", plan.time(latest=0.85)
    plan.put(label, at, "admin-console", "admin_user_created", user_id="a-105", subject_id=who,
             actor_type="admin", context={"initial_role": "analyst"})  # fmt: skip
    at += plan.random.uniform(1, 22) * HOUR
    plan.put(label, at, "admin-console", "admin_user_deleted", user_id="a-105", subject_id=who,
             actor_type="admin")  # fmt: skip


def at_night(plan: Planting, number: int) -> None:
    """A setting is changed when nobody is about."""
    label = plan.incident("setting at night", "config-outside-hours", may=NEW)
    at = plan.time(hour=(2, 23)[number % 2])
    plan.put(label, at, "admin-console", "admin_config_changed", user_id="a-106",
             actor_type="admin", context={"config_key": "mfa.required_for_admins"})  # fmt: skip


def exported(plan: Planting, number: int) -> None:
    """Somebody takes everything, file after file."""
    label = plan.incident("mass export", "mass-export", may=NEW)
    who, at = plan.person(), plan.time()
    for _ in range(10 + 10 * number):
        plan.put(label, at, "web-app", "data_exported", user_id=who, actor_type="user",
                 context={"export_format": "csv", "data_scope": "all"})  # fmt: skip
        at += plan.random.uniform(10, 150) * SECOND


def viewed(plan: Planting, number: int) -> None:
    """Somebody reads account after account."""
    label = plan.incident("mass view", "mass-view", may=NEW)
    who, at = f"a-10{7 + number % 2}", plan.time()
    for turn in range(90 + 60 * number):
        action = ("data_viewed", "provider_account_viewed")[turn % 2]
        plan.put(label, at, "admin-console", action, user_id=who, actor_type="admin",
                 subject_id=plan.person())  # fmt: skip
        at += plan.random.uniform(2, 30) * SECOND


def left_open(plan: Planting, number: int) -> None:
    """An application fails in the middle, over and over."""
    label = plan.incident("open attempts", "attempts-left-open", may=NEW)
    at = plan.time()
    for turn in range(8):
        plan.put(label, at, "sync-worker", "holdings_sync_attempted",
                 correlation_id=f"open-{number}-{turn}", subject_id=plan.person())  # fmt: skip
        at += plan.random.uniform(10, 180) * SECOND


def unannounced(plan: Planting, number: int) -> None:
    """Outcomes come that nothing announced."""
    label = plan.incident("outcomes alone", "outcome-without-attempt", may=NEW)
    at = plan.time()
    for turn in range(6):
        plan.put(label, at, "web-app", "data_deleted", attempted=False, user_id=plan.person(),
                 correlation_id=f"alone-{number}-{turn}")  # fmt: skip
        at += plan.random.uniform(10, 300) * SECOND


def silent(plan: Planting, number: int) -> None:
    """A source stops for most of a day: what it would have written is not there."""
    label = plan.incident("source silent", "source-silent")
    source = ("sync-worker", "api-gateway")[number % 2]
    at = plan.time(earliest=0.4 + 0.25 * number, latest=0.5 + 0.25 * number, hour=9)
    until = at + plan.random.uniform(8, 14) * HOUR
    gone = {id(row) for row in plan.rows if row.source == source and row.label is None
            and at <= row.event["occurred_at"] < until}  # fmt: skip
    plan.rows = [row for row in plan.rows if id(row) not in gone]
    before = [row for row in plan.rows if row.source == source and _clock(row) < at]
    last = max(before, key=_clock)
    for row in before:
        if _clock(last) - _clock(row) < MINUTE and row.label is None:
            row.label = label


def _shift(plan: Planting, label: int, source: str, at: datetime, by: timedelta) -> None:
    """Let a source's clock be wrong for three hours."""
    for row in plan.rows:
        if row.source == source and row.label is None:
            clock = row.event["occurred_at"]
            if at <= clock < at + 3 * HOUR:
                row.event |= {"true_time": clock, "occurred_at": clock + by}
                row.label = label


def clock_ahead(plan: Planting, number: int) -> None:
    """A source's clock runs ahead for a few hours."""
    label = plan.incident("clock ahead", "clock-ahead", may=("outcome-without-attempt",))
    at = plan.time(earliest=0.1, latest=0.4, hour=10)
    _shift(plan, label, ("web-app", "mobile-api")[number % 2], at, (7 + 20 * number) * MINUTE)


def clock_behind(plan: Planting, number: int) -> None:
    """A source's clock runs behind for a few hours."""
    label = plan.incident("clock behind", "clock-behind")
    at = plan.time(earliest=0.6, latest=0.9, hour=10)
    _shift(plan, label, ("sync-worker", "web-app")[number % 2], at, -(12 + 20 * number) * MINUTE)


def limited(plan: Planting, number: int) -> None:
    """A client that does not stop when it is told to."""
    label = plan.incident("rate limits", "rate-limit-denials", may=NEW)
    address, at = plan.stranger(), plan.time()
    for _ in range(20 + 30 * number):
        plan.put(label, at, "api-gateway", "rate_limit_check_denied", ip_address=address,
                 context={"identifier": address, "scope": "ip", "endpoint": "x"})  # fmt: skip
        at += plan.random.uniform(0.2, 12) * SECOND


def never_seen(plan: Planting, number: int) -> None:
    """A source writes what is none of its business."""
    label = plan.incident("new action", "new-action")
    at = plan.time(earliest=0.6 + 0.15 * number, latest=0.7 + 0.15 * number, hour=11)
    action = ("admin_backup_created", "session_evicted")[number % 2]
    source = ("mobile-api", "api-gateway")[number % 2]
    plan.put(label, at, source, action, user_id=plan.person())


KINDS: tuple[Callable[[Planting, int], None], ...] = (
    guessing_one, guessing_from_one_address, guessed, sprayed, probing, self_promoted, mfa_removed,
    taken_over, suspicious, old_tokens, rotated, short_lived, at_night, exported, viewed, left_open,
    unannounced, silent, clock_ahead, clock_behind, limited, never_seen,
)  # fmt: skip
"""Every kind of incident: at two rounds 44 of them."""


def planted(month: Month) -> Iterator[tuple[Incident, set[int]]]:
    """Each incident with the indexes of its events."""
    indexes: dict[int, set[int]] = {incident.number: set() for incident in month.incidents}
    for index, row in enumerate(month.rows):
        if row.label is not None:
            indexes[row.label].add(index)
    for incident in month.incidents:
        yield incident, indexes[incident.number]
