"""The rules: what compliance staff want to know of, as a table of data.

Each says what it is about in words for staff, which control clauses ask for it, with what
parameters it is delivered, and what it watches. How that is judged says `audit.detection.judging`.
Clauses are our reading of PCI DSS v4.0.1 and SOC 2 (2017, rev. 2022), no assessor's advice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from audit.enums import OPERATIONS, AuditAction, Category, Outcome

Settings = Mapping[str, Any]
"""A rule's parameters by name."""


class Fact(NamedTuple):
    """An event as the rules see it. Times are whole milliseconds since 1970, UTC.

    `leaf` is its index in the log.
    `said` are the few keys of its context that a rule looks at, personal ones included.
    """

    leaf: int
    at: int
    recorded: int
    action: str
    source: str
    user: str | None = None
    subject: str | None = None
    address: str | None = None
    resource_type: str | None = None
    resource: str | None = None
    correlation: str | None = None
    said: Mapping[str, Any] = {}


class By(StrEnum):
    """What the events of an alert have in common."""

    USER = "user"
    ACTOR = "actor"
    TARGET = "target"
    ACTOR_AND_TARGET = "actor and target"
    ADDRESS = "address"
    LIMITED = "limited"
    ANYONE = "anyone"
    SOURCE = "source"


SAID = ("email", "initiated_by", "target_user_id", "assigned_by", "changed_by", "identifier")
"""The context keys that rules look at."""


def target(fact: Fact) -> str | None:
    """Whom it was done to: the subject, the user that the context or the resource names."""
    named = fact.subject or fact.said.get("target_user_id")
    if not named and fact.resource_type == "user":
        named = fact.resource
    return named or fact.user


def actor(fact: Fact) -> str | None:
    """Who did it."""
    return fact.user or fact.said.get("assigned_by") or fact.said.get("changed_by")


def _deed(fact: Fact) -> str | None:
    by, whom = actor(fact), target(fact)
    return f"{by} to {whom}" if by and whom else None


def _account(fact: Fact) -> str | None:
    return fact.user or fact.subject or fact.said.get("email")


KEYS: dict[By, Callable[[Fact], str | None]] = {
    By.USER: _account,
    By.ACTOR: actor,
    By.TARGET: target,
    By.ACTOR_AND_TARGET: _deed,
    By.ADDRESS: lambda fact: fact.address,
    By.LIMITED: lambda fact: fact.said.get("identifier") or fact.address or fact.user,
    By.ANYONE: lambda fact: _account(fact) or fact.address or fact.resource or fact.source,
    By.SOURCE: lambda fact: fact.source,
}
"""What an event's key is; None where the event does not say it."""


# --- what a rule watches -----------------------------------------------------------------------

Where = Callable[[Fact, Settings], bool]


@dataclass(frozen=True, slots=True)
class Burst:
    """`count` events of a key within `minutes`. With `of`: so many different ones of that."""

    actions: frozenset[str]
    by: By
    of: By | None = None
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """`count` events of the first kind, and then, within `minutes`, one of the other."""

    first: frozenset[str]
    then: frozenset[str]
    by: By


@dataclass(frozen=True, slots=True)
class Novel:
    """An operation that a source has never done; known for `days`, nothing new for `settled`."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A source that writes nothing for much longer than it ever did."""


@dataclass(frozen=True, slots=True)
class Slow:
    """A source whose events are all late by about the same."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Attempts without an outcome, or outcomes without an attempt."""

    is_attempt: bool


Watch = Burst | Followed | Novel | Silent | Slow | Unpaired


# --- the table ---------------------------------------------------------------------------------


class Parameter(NamedTuple):
    """A number that staff may change, within bounds that are included."""

    name: str
    label: str
    default: int
    least: int
    most: int
    unit: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What to find. `remembers` says that what was learnt outlives a change of parameters."""

    slug: str
    title: str
    words: str
    category: Category
    severity: str
    clauses: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    watch: Watch
    remembers: bool = False

    @property
    def defaults(self) -> dict[str, int]:
        """The parameters as the rule is delivered."""
        return {parameter.name: parameter.default for parameter in self.parameters}


def _count(default: int, unit: str = "events", most: int = 1_000, label: str = "") -> Parameter:
    return Parameter("count", label or "How many", default, 1, most, unit)


def _minutes(default: int, most: int = 7 * 24 * 60) -> Parameter:
    return Parameter("minutes", "Within", default, 1, most, "minutes")


def _joined(default: int) -> Parameter:
    return Parameter("minutes", "Further ones join for", default, 1, 24 * 60, "minutes")


def _of(*members: AuditAction) -> frozenset[str]:
    return frozenset(member.value for member in members)


_failed_sign_in = _of(AuditAction.USER_LOGIN_FAILED)
_signed_in = _of(AuditAction.USER_LOGIN_SUCCESS)
_views = _of(
    AuditAction.DATA_VIEWED,
    AuditAction.PROVIDER_ACCOUNT_VIEWED,
    AuditAction.PROVIDER_TRANSACTION_VIEWED,
)
_rights = _of(AuditAction.PERMISSION_CHANGED, AuditAction.ROLE_ASSIGNED)
_mfa_off = _of(AuditAction.USER_MFA_DISABLED)
_new_password = _of(AuditAction.USER_PASSWORD_CHANGED, AuditAction.USER_PASSWORD_RESET_COMPLETED)
_rotation = frozenset(
    member.value
    for member in OPERATIONS["global_token_rotation"]
    if member.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
)


def _to_oneself(fact: Fact, _: Settings) -> bool:
    whom = target(fact)
    return whom is not None and whom == actor(fact)


def _by_another(fact: Fact, _: Settings) -> bool:
    by = fact.said.get("initiated_by")
    whom = target(fact)
    return by == "admin" or (fact.user is not None and whom != fact.user)


def _outside_hours(fact: Fact, settings: Settings) -> bool:
    at = datetime.fromtimestamp(fact.at / 1000, UTC)
    return at.weekday() >= 5 or not settings["from_hour"] <= at.hour < settings["to_hour"]


def _ahead(fact: Fact, settings: Settings) -> bool:
    return fact.at - fact.recorded > 1000 * settings["seconds"]


_AUTOMATED = "PCI DSS 10.4.1.1"
_REVIEWED, _ANOMALIES = "PCI DSS 10.4.1", "SOC 2 CC7.2"

RULES: tuple[Rule, ...] = (
    Rule(
        "failed-sign-ins-user",
        "Repeated failed sign-ins of one user",
        "Sign-ins to one account fail again and again within a short time: somebody may be"
        " guessing its password.",
        Category.AUTHENTICATION,
        "medium",
        (_REVIEWED, _AUTOMATED, "PCI DSS 8.3.4", "SOC 2 CC6.1", _ANOMALIES),
        (_count(6, "failures"), _minutes(30)),
        Burst(_failed_sign_in, By.USER),
    ),
    Rule(
        "failed-sign-ins-address",
        "Repeated failed sign-ins from one address",
        "Sign-ins from one network address fail again and again, whoever they were for.",
        Category.AUTHENTICATION,
        "medium",
        (_REVIEWED, _AUTOMATED, "PCI DSS 10.2.1.4", "SOC 2 CC6.6", _ANOMALIES),
        (_count(10, "failures"), _minutes(30)),
        Burst(_failed_sign_in, By.ADDRESS),
    ),
    Rule(
        "success-after-failures",
        "A sign-in that succeeded after failures",
        "An account was signed in to right after several failures: the password may have been"
        " guessed.",
        Category.AUTHENTICATION,
        "high",
        (_REVIEWED, _AUTOMATED, "PCI DSS 8.3.4", "SOC 2 CC6.1", "SOC 2 CC7.3"),
        (_count(4, "failures"), _minutes(60)),
        Followed(_failed_sign_in, _signed_in, By.USER),
    ),
    Rule(
        "success-after-failures-address",
        "A sign-in from an address after its failures",
        "An address whose sign-ins had failed many times got in at last, to whichever account.",
        Category.AUTHENTICATION,
        "high",
        (_REVIEWED, _AUTOMATED, "SOC 2 CC6.6", "SOC 2 CC7.3"),
        (_count(8, "failures"), _minutes(60)),
        Followed(_failed_sign_in, _signed_in, By.ADDRESS),
    ),
    Rule(
        "password-spraying",
        "One address tries many users",
        "Sign-ins from one address fail for many different users: a few passwords are tried on"
        " everybody.",
        Category.AUTHENTICATION,
        "high",
        (_REVIEWED, _AUTOMATED, "PCI DSS 10.2.1.4", "SOC 2 CC6.6", _ANOMALIES),
        (_count(8, "users", 200, "How many users"), _minutes(60)),
        Burst(_failed_sign_in, By.ADDRESS, of=By.USER),
    ),
    Rule(
        "denied-access",
        "Access denied again and again",
        "One user is refused access many times within a short time: they may be looking for a"
        " way in.",
        Category.AUTHORIZATION,
        "medium",
        (_REVIEWED, _AUTOMATED, "PCI DSS 10.2.1.4", "SOC 2 CC6.1", _ANOMALIES),
        (_count(8, "denials"), _minutes(30)),
        Burst(_of(AuditAction.ACCESS_DENIED), By.ACTOR),
    ),
    Rule(
        "own-privileges",
        "Somebody gave rights to themselves",
        "A role was assigned or permissions were changed by the very person who has them now.",
        Category.AUTHORIZATION,
        "high",
        (_REVIEWED, "PCI DSS 10.2.1.5", "SOC 2 CC6.3", _ANOMALIES),
        (_joined(60),),
        Burst(_rights, By.ACTOR, where=_to_oneself),
    ),
    Rule(
        "mfa-disabled-by-other",
        "MFA disabled by somebody else",
        "A user's second factor was removed by another person than the user.",
        Category.AUTHENTICATION,
        "medium",
        (_REVIEWED, "PCI DSS 8.3.3", "PCI DSS 10.2.1.5", "SOC 2 CC6.1"),
        (_joined(60),),
        Burst(_mfa_off, By.TARGET, where=_by_another),
    ),
    Rule(
        "mfa-disabled-then-password",
        "MFA disabled, then the password changed",
        "A user's second factor was removed and the password changed soon after: the account may"
        " be being taken over.",
        Category.AUTHENTICATION,
        "high",
        (_REVIEWED, "PCI DSS 8.3.3", "PCI DSS 10.2.1.5", "SOC 2 CC7.3"),
        (_minutes(60),),
        Followed(_mfa_off, _new_password, By.TARGET),
    ),
    Rule(
        "suspicious-session",
        "Suspicious session",
        "An application itself reported that a session behaves suspiciously. What it reports of the"
        " same user or address within a day is one alert.",
        Category.SESSION,
        "medium",
        (_REVIEWED, _AUTOMATED, "SOC 2 CC6.6", _ANOMALIES),
        (_joined(24 * 60),),
        Burst(_of(AuditAction.SUSPICIOUS_SESSION_ACTIVITY), By.ANYONE),
    ),
    Rule(
        "token-version-mismatch",
        "Outdated tokens again and again",
        "Tokens of an outdated version keep being presented for one user: they may have been"
        " stolen before the rotation.",
        Category.AUTHENTICATION,
        "medium",
        (_REVIEWED, "PCI DSS 10.2.1.4", "SOC 2 CC6.1"),
        (_count(5, "rejections"), _minutes(60)),
        Burst(_of(AuditAction.TOKEN_REJECTED_VERSION_MISMATCH), By.ANYONE),
    ),
    Rule(
        "global-token-rotation",
        "All tokens rotated",
        "Everybody's tokens were rotated, or that was tried: what a breach is answered with.",
        Category.AUTHENTICATION,
        "medium",
        (_REVIEWED, "PCI DSS 10.2.1.2", "SOC 2 CC7.4"),
        (_joined(60),),
        Burst(_rotation, By.SOURCE),
    ),
    Rule(
        "short-lived-account",
        "Account created and deleted within a day",
        "A user account was created, and deleted again soon after by the same person: it may have"
        " served for one deed.",
        Category.ADMINISTRATIVE,
        "high",
        (_REVIEWED, "PCI DSS 8.2.4", "PCI DSS 10.2.1.5", "SOC 2 CC6.2"),
        (_minutes(24 * 60),),
        Followed(
            _of(AuditAction.ADMIN_USER_CREATED),
            _of(AuditAction.ADMIN_USER_DELETED),
            By.ACTOR_AND_TARGET,
        ),
    ),
    Rule(
        "config-outside-hours",
        "Configuration changed outside hours",
        "A setting was changed at night or on a weekend (UTC).",
        Category.ADMINISTRATIVE,
        "medium",
        (_REVIEWED, "PCI DSS 10.2.1.2", "SOC 2 CC7.1", "SOC 2 CC8.1"),
        (
            Parameter("from_hour", "Hours begin at", 6, 0, 23, "o’clock UTC"),
            Parameter("to_hour", "Hours end at", 20, 1, 24, "o’clock UTC"),
            _joined(60),
        ),
        Burst(_of(AuditAction.ADMIN_CONFIG_CHANGED), By.ACTOR, where=_outside_hours),
    ),
    Rule(
        "mass-export",
        "Mass export",
        "One user exported data many times within a short time.",
        Category.DATA_ACCESS,
        "high",
        (_REVIEWED, "PCI DSS 10.2.1.1", "SOC 2 CC6.7", _ANOMALIES),
        (_count(8, "exports"), _minutes(60)),
        Burst(_of(AuditAction.DATA_EXPORTED), By.ACTOR),
    ),
    Rule(
        "mass-view",
        "Mass view of account data",
        "One user looked at far more account data than anybody needs to within a short time.",
        Category.DATA_ACCESS,
        "high",
        (_REVIEWED, "PCI DSS 10.2.1.1", "SOC 2 CC6.7", _ANOMALIES),
        (_count(60, "views"), _minutes(60)),
        Burst(_views, By.ACTOR),
    ),
    Rule(
        "attempts-left-open",
        "Attempts left open",
        "Several attempts of one operation never had an outcome: an application may have failed"
        " in the middle, or hold something back.",
        Category.DATA_SYNC,
        "low",
        ("PCI DSS 10.2.2", "PCI DSS 10.7.2", _ANOMALIES),
        (_count(5, "attempts"), _minutes(60)),
        Unpaired(is_attempt=True),
    ),
    Rule(
        "outcome-without-attempt",
        "Outcomes without an attempt",
        "Several outcomes came although nothing had said that the operation was begun, from a"
        " source that does say so otherwise.",
        Category.DATA_SYNC,
        "low",
        ("PCI DSS 10.2.2", "PCI DSS 10.7.2", _ANOMALIES),
        (_count(3, "outcomes"), _minutes(60)),
        Unpaired(is_attempt=False),
    ),
    Rule(
        "source-silent",
        "A source has gone silent",
        "A source writes nothing for much longer than it ever did in the last four weeks.",
        Category.DATA_SYNC,
        "medium",
        ("PCI DSS 10.7.2", "SOC 2 CC7.2"),
        (
            Parameter("minutes", "Silent for at least", 120, 60, 7 * 24 * 60, "minutes"),
            Parameter("times", "And for", 2, 1, 100, "times its longest pause"),
            Parameter("days", "Known for", 7, 1, 90, "days"),
        ),
        Silent(),
        remembers=True,
    ),
    Rule(
        "clock-ahead",
        "The clock of a source is ahead",
        "Events of a source say that they happened in the future.",
        Category.DATA_SYNC,
        "medium",
        ("PCI DSS 10.6.1", "SOC 2 CC7.2"),
        (
            _count(5),
            _minutes(60),
            Parameter("seconds", "Ahead by more than", 120, 1, 86_400, "seconds"),
        ),
        Burst(frozenset(), By.SOURCE, where=_ahead),
    ),
    Rule(
        "clock-behind",
        "The clock of a source is behind",
        "All events of a source come late by about the same: its clock seems to be wrong.",
        Category.DATA_SYNC,
        "medium",
        ("PCI DSS 10.6.1", "SOC 2 CC7.2"),
        (
            _count(10, "arrivals in a row", 100),
            Parameter("seconds", "Behind by at least", 300, 60, 86_400, "seconds"),
            Parameter("spread", "And alike within", 60, 1, 3_600, "seconds"),
        ),
        Slow(),
        remembers=True,
    ),
    Rule(
        "rate-limit-denials",
        "Requests refused by rate limits in bursts",
        "Requests of one address or user are refused again and again by a rate limit.",
        Category.RATE_LIMIT,
        "low",
        (_REVIEWED, "SOC 2 CC6.6", _ANOMALIES),
        (_count(15, "refusals"), _minutes(10)),
        Burst(_of(AuditAction.RATE_LIMIT_CHECK_DENIED), By.LIMITED),
    ),
    Rule(
        "new-action",
        "An action never seen from that source before",
        "A source that has been known for a while, and did nothing new for long, does what it never"
        " did. Another outcome of what it does anyway is nothing new.",
        Category.DATA_SYNC,
        "low",
        (_REVIEWED, _ANOMALIES),
        (
            Parameter("days", "Known for", 14, 1, 365, "days"),
            Parameter("settled", "And nothing new for", 7, 0, 365, "days"),
            _joined(24 * 60),
        ),
        Novel(),
        remembers=True,
    ),
)
"""Every rule, in the order of the pages. A rule without `count` is raised by a single event."""

BY_SLUG = {rule.slug: rule for rule in RULES}


def rule(slug: str) -> Rule:
    """The rule of that name. Raises ValueError with all names for an unknown one."""
    if slug not in BY_SLUG:
        raise ValueError(f"there is no rule {slug[:64]!r}; there are {', '.join(BY_SLUG)}")
    return BY_SLUG[slug]


def actions_of(rule: Rule) -> frozenset[str]:
    """The actions that a rule looks at; none where it looks at all."""
    watch = rule.watch
    if isinstance(watch, Burst):
        return watch.actions
    return watch.first | watch.then if isinstance(watch, Followed) else frozenset()


def checked(rule: Rule, given: Mapping[str, Any]) -> dict[str, int]:
    """All parameters of a rule, those given in place of its defaults.

    Raises ValueError, with one sentence for each that is unknown, no whole number or out of bounds.
    """
    faults = [f"{rule.slug} has no parameter {name!r}" for name in given.keys() - rule.defaults]
    values = rule.defaults
    for parameter in rule.parameters:
        value = given.get(parameter.name, parameter.default)
        if isinstance(value, bool) or not isinstance(value, int):
            faults.append(f"{parameter.name} is a whole number, not {value!r}")
        elif not parameter.least <= value <= parameter.most:
            faults.append(
                f"{parameter.name} lies between {parameter.least} and {parameter.most}"
                f" {parameter.unit}; {value} does not"
            )
        else:
            values[parameter.name] = value
    if not faults and values.get("from_hour", 0) >= values.get("to_hour", 24):
        faults.append("from_hour has to be before to_hour")
    if faults:
        raise ValueError("; ".join(faults))
    return values
