"""Access refused, rights and second factors changed, sessions and tokens."""

from __future__ import annotations

from audit.detection.rules.facts import By, Fact, actor, target
from audit.detection.rules.kinds import (
    ANOMALIES,
    AUTOMATED,
    REVIEWED,
    Burst,
    Followed,
    Rule,
    Settings,
    count_of,
    joined_for,
    values,
    within,
)
from audit.enums import OPERATIONS, AuditAction, Category, Outcome

_rights = values(AuditAction.PERMISSION_CHANGED, AuditAction.ROLE_ASSIGNED)
_mfa_off = values(AuditAction.USER_MFA_DISABLED)
_new_password = values(AuditAction.USER_PASSWORD_CHANGED, AuditAction.USER_PASSWORD_RESET_COMPLETED)
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


RULES = (
    Rule(
        "denied-access",
        "Access denied again and again",
        "One user is refused access many times within a short time: they may be looking for a"
        " way in.",
        Category.AUTHORIZATION,
        "medium",
        (REVIEWED, AUTOMATED, "PCI DSS 10.2.1.4", "SOC 2 CC6.1", ANOMALIES),
        (count_of(8, "denials"), within(30)),
        Burst(values(AuditAction.ACCESS_DENIED), By.ACTOR),
    ),
    Rule(
        "own-privileges",
        "Somebody gave rights to themselves",
        "A role was assigned or permissions were changed by the very person who has them now.",
        Category.AUTHORIZATION,
        "high",
        (REVIEWED, "PCI DSS 10.2.1.5", "SOC 2 CC6.3", ANOMALIES),
        (joined_for(60),),
        Burst(_rights, By.ACTOR, where=_to_oneself),
    ),
    Rule(
        "mfa-disabled-by-other",
        "MFA disabled by somebody else",
        "A user's second factor was removed by another person than the user.",
        Category.AUTHENTICATION,
        "medium",
        (REVIEWED, "PCI DSS 8.3.3", "PCI DSS 10.2.1.5", "SOC 2 CC6.1"),
        (joined_for(60),),
        Burst(_mfa_off, By.TARGET, where=_by_another),
    ),
    Rule(
        "mfa-disabled-then-password",
        "MFA disabled, then the password changed",
        "A user's second factor was removed and the password changed soon after: the account may"
        " be being taken over.",
        Category.AUTHENTICATION,
        "high",
        (REVIEWED, "PCI DSS 8.3.3", "PCI DSS 10.2.1.5", "SOC 2 CC7.3"),
        (within(60),),
        Followed(_mfa_off, _new_password, By.TARGET),
    ),
    Rule(
        "suspicious-session",
        "Suspicious session",
        "An application itself reported that a session behaves suspiciously. What it reports of the"
        " same user or address within a day is one alert.",
        Category.SESSION,
        "medium",
        (REVIEWED, AUTOMATED, "SOC 2 CC6.6", ANOMALIES),
        (joined_for(24 * 60),),
        Burst(values(AuditAction.SUSPICIOUS_SESSION_ACTIVITY), By.ANYONE),
    ),
    Rule(
        "token-version-mismatch",
        "Outdated tokens again and again",
        "Tokens of an outdated version keep being presented for one user: they may have been"
        " stolen before the rotation.",
        Category.AUTHENTICATION,
        "medium",
        (REVIEWED, "PCI DSS 10.2.1.4", "SOC 2 CC6.1"),
        (count_of(5, "rejections"), within(60)),
        Burst(values(AuditAction.TOKEN_REJECTED_VERSION_MISMATCH), By.ANYONE),
    ),
    Rule(
        "global-token-rotation",
        "All tokens rotated",
        "Everybody's tokens were rotated, or that was tried: what a breach is answered with.",
        Category.AUTHENTICATION,
        "medium",
        (REVIEWED, "PCI DSS 10.2.1.2", "SOC 2 CC7.4"),
        (joined_for(60),),
        Burst(_rotation, By.SOURCE),
    ),
)
