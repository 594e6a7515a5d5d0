"""Attacks on passwords: guessing, spraying, and what came of it."""

from __future__ import annotations

from audit.detection.rules.facts import By
from audit.detection.rules.kinds import (
    ANOMALIES,
    AUTOMATED,
    REVIEWED,
    Burst,
    Followed,
    Rule,
    count_of,
    values,
    within,
)
from audit.enums import AuditAction, Category

_failed_sign_in = values(AuditAction.USER_LOGIN_FAILED)
_signed_in = values(AuditAction.USER_LOGIN_SUCCESS)


RULES = (
    Rule(
        "failed-sign-ins-user",
        "Repeated failed sign-ins of one user",
        "Sign-ins to one account fail again and again within a short time: somebody may be"
        " guessing its password.",
        Category.AUTHENTICATION,
        "medium",
        (REVIEWED, AUTOMATED, "PCI DSS 8.3.4", "SOC 2 CC6.1", ANOMALIES),
        (count_of(6, "failures"), within(30)),
        Burst(_failed_sign_in, By.USER),
    ),
    Rule(
        "failed-sign-ins-address",
        "Repeated failed sign-ins from one address",
        "Sign-ins from one network address fail again and again, whoever they were for.",
        Category.AUTHENTICATION,
        "medium",
        (REVIEWED, AUTOMATED, "PCI DSS 10.2.1.4", "SOC 2 CC6.6", ANOMALIES),
        (count_of(10, "failures"), within(30)),
        Burst(_failed_sign_in, By.ADDRESS),
    ),
    Rule(
        "success-after-failures",
        "A sign-in that succeeded after failures",
        "An account was signed in to right after several failures: the password may have been"
        " guessed.",
        Category.AUTHENTICATION,
        "high",
        (REVIEWED, AUTOMATED, "PCI DSS 8.3.4", "SOC 2 CC6.1", "SOC 2 CC7.3"),
        (count_of(4, "failures"), within(60)),
        Followed(_failed_sign_in, _signed_in, By.USER),
    ),
    Rule(
        "success-after-failures-address",
        "A sign-in from an address after its failures",
        "An address whose sign-ins had failed many times got in at last, to whichever account.",
        Category.AUTHENTICATION,
        "high",
        (REVIEWED, AUTOMATED, "SOC 2 CC6.6", "SOC 2 CC7.3"),
        (count_of(8, "failures"), within(60)),
        Followed(_failed_sign_in, _signed_in, By.ADDRESS),
    ),
    Rule(
        "password-spraying",
        "One address tries many users",
        "Sign-ins from one address fail for many different users: a few passwords are tried on"
        " everybody.",
        Category.AUTHENTICATION,
        "high",
        (REVIEWED, AUTOMATED, "PCI DSS 10.2.1.4", "SOC 2 CC6.6", ANOMALIES),
        (count_of(8, "users", 200, "How many users"), within(60)),
        Burst(_failed_sign_in, By.ADDRESS, of=By.USER),
    ),
)
