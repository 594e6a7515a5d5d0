"""What people with rights do: accounts, configuration, and data in bulk."""

from __future__ import annotations

from datetime import UTC, datetime

from audit.detection.rules.facts import By, Fact
from audit.detection.rules.kinds import (
    ANOMALIES,
    REVIEWED,
    Burst,
    Followed,
    Parameter,
    Rule,
    Settings,
    count_of,
    joined_for,
    values,
    within,
)
from audit.enums import AuditAction, Category

_views = values(
    AuditAction.DATA_VIEWED,
    AuditAction.PROVIDER_ACCOUNT_VIEWED,
    AuditAction.PROVIDER_TRANSACTION_VIEWED,
)


def _outside_hours(fact: Fact, settings: Settings) -> bool:
    at = datetime.fromtimestamp(fact.at / 1000, UTC)
    return at.weekday() >= 5 or not settings["from_hour"] <= at.hour < settings["to_hour"]


RULES = (
    Rule(
        "short-lived-account",
        "Account created and deleted within a day",
        "A user account was created, and deleted again soon after by the same person: it may have"
        " served for one deed.",
        Category.ADMINISTRATIVE,
        "high",
        (REVIEWED, "PCI DSS 8.2.4", "PCI DSS 10.2.1.5", "SOC 2 CC6.2"),
        (within(24 * 60),),
        Followed(
            values(AuditAction.ADMIN_USER_CREATED),
            values(AuditAction.ADMIN_USER_DELETED),
            By.ACTOR_AND_TARGET,
        ),
    ),
    Rule(
        "config-outside-hours",
        "Configuration changed outside hours",
        "A setting was changed at night or on a weekend (UTC).",
        Category.ADMINISTRATIVE,
        "medium",
        (REVIEWED, "PCI DSS 10.2.1.2", "SOC 2 CC7.1", "SOC 2 CC8.1"),
        (
            Parameter("from_hour", "Hours begin at", 6, 0, 23, "o’clock UTC"),
            Parameter("to_hour", "Hours end at", 20, 1, 24, "o’clock UTC"),
            joined_for(60),
        ),
        Burst(values(AuditAction.ADMIN_CONFIG_CHANGED), By.ACTOR, where=_outside_hours),
    ),
    Rule(
        "mass-export",
        "Mass export",
        "One user exported data many times within a short time.",
        Category.DATA_ACCESS,
        "high",
        (REVIEWED, "PCI DSS 10.2.1.1", "SOC 2 CC6.7", ANOMALIES),
        (count_of(8, "exports"), within(60)),
        Burst(values(AuditAction.DATA_EXPORTED), By.ACTOR),
    ),
    Rule(
        "mass-view",
        "Mass view of account data",
        "One user looked at far more account data than anybody needs to within a short time.",
        Category.DATA_ACCESS,
        "high",
        (REVIEWED, "PCI DSS 10.2.1.1", "SOC 2 CC6.7", ANOMALIES),
        (count_of(60, "views"), within(60)),
        Burst(_views, By.ACTOR),
    ),
)
