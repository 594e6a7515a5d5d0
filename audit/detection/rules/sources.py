"""What the applications themselves do: operations left open, silence, wrong clocks, new deeds."""

from __future__ import annotations

from audit.detection.rules.facts import By, Fact
from audit.detection.rules.kinds import (
    ANOMALIES,
    REVIEWED,
    Burst,
    Novel,
    Parameter,
    Rule,
    Settings,
    Silent,
    Slow,
    Unpaired,
    count_of,
    joined_for,
    values,
    within,
)
from audit.enums import AuditAction, Category


def _ahead(fact: Fact, settings: Settings) -> bool:
    return fact.at - fact.recorded > 1000 * settings["seconds"]


RULES = (
    Rule(
        "attempts-left-open",
        "Attempts left open",
        "Several attempts of one operation never had an outcome: an application may have failed"
        " in the middle, or hold something back.",
        Category.DATA_SYNC,
        "low",
        ("PCI DSS 10.2.2", "PCI DSS 10.7.2", ANOMALIES),
        (count_of(5, "attempts"), within(60)),
        Unpaired(is_attempt=True),
    ),
    Rule(
        "outcome-without-attempt",
        "Outcomes without an attempt",
        "Several outcomes came although nothing had said that the operation was begun, from a"
        " source that does say so otherwise.",
        Category.DATA_SYNC,
        "low",
        ("PCI DSS 10.2.2", "PCI DSS 10.7.2", ANOMALIES),
        (count_of(3, "outcomes"), within(60)),
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
            count_of(5),
            within(60),
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
            count_of(10, "arrivals in a row", 100),
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
        (REVIEWED, "SOC 2 CC6.6", ANOMALIES),
        (count_of(15, "refusals"), within(10)),
        Burst(values(AuditAction.RATE_LIMIT_CHECK_DENIED), By.LIMITED),
    ),
    Rule(
        "new-action",
        "An action never seen from that source before",
        "A source that has been known for a while, and did nothing new for long, does what it never"
        " did. Another outcome of what it does anyway is nothing new.",
        Category.DATA_SYNC,
        "low",
        (REVIEWED, ANOMALIES),
        (
            Parameter("days", "Known for", 14, 1, 365, "days"),
            Parameter("settled", "And nothing new for", 7, 0, 365, "days"),
            joined_for(24 * 60),
        ),
        Novel(),
        remembers=True,
    ),
)
