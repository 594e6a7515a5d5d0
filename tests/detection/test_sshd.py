"""Events as a server's log tells them, under attack: no user ids but names, many of them unknown.

The shape is that of a real OpenSSH log; the addresses are those that documents use.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit.ingest import ingest
from audit.models import Alert, AlertEvent, AuditEvent
from audit.tasks import seal_pending
from tests.detection.logs import detect

START = datetime(2025, 12, 10, 7, tzinfo=UTC)
ATTACKER, SPRAYER, OFFICE = "203.0.113.7", "203.0.113.99", "192.0.2.14"
NAMES = ("admin", "test", "guest", "oracle", "ftpuser", "pi", "ubnt", "support", "nagios", "git")


def sign_in(number: int, after: timedelta, user: str, address: str, ends: str) -> list[Any]:
    shared = {
        "occurred_at": (START + after).isoformat(),
        "user_id": user,
        "ip_address": address,
        "resource_type": "session",
        "resource_id": f"host/sshd/{number}",
        "correlation_id": f"host/sshd/{number}/1",
    }
    return [
        shared | {"action": "user_login_attempted", "context": {"email": user}},
        shared | {"action": f"user_login_{ends}", "context": {"email": user}},
    ]


def morning(*, gets_in: bool = False) -> list[dict[str, Any]]:
    """Root is guessed, ten names are sprayed, an address is odd, and the office signs in."""
    second = timedelta(seconds=1)
    tries = [(5 * n * second, "root", ATTACKER, "failed") for n in range(30)]
    tries += [(60 * n * second, name, SPRAYER, "failed") for n, name in enumerate(NAMES)]
    tries += [(3_000 * second, "fern", OFFICE, "success")]
    if gets_in:
        tries += [(160 * second, "root", ATTACKER, "success")]
    events = [
        event
        for number, (after, *rest) in enumerate(tries)
        for event in sign_in(number, after, *rest)
    ]
    odd = {
        "action": "suspicious_session_activity",
        "occurred_at": START.isoformat(),
        "ip_address": ATTACKER,
        "context": {"activity_type": "reverse_mapping_failed", "risk_score": 0.5},
    }
    return sorted([*events, odd], key=lambda event: event["occurred_at"])


@pytest.mark.parametrize("gets_in", [False, True])
def test_an_attack_is_told_by_its_addresses_and_users(own_database, gets_in):
    ingest(morning(gets_in=gets_in), source="sshd")
    seal_pending()
    detect()
    found = set()
    for alert in Alert.objects.all():
        ids = AlertEvent.objects.filter(alert=alert).values_list("event_id", flat=True)
        [address] = (
            AuditEvent.objects.filter(pk__in=list(ids))
            .values_list("ip_address", flat=True)
            .distinct()
        )
        found.add((alert.rule, address, alert.count))
    expected = {
        ("failed-sign-ins-user", ATTACKER, 30),
        ("failed-sign-ins-address", ATTACKER, 30),
        ("failed-sign-ins-address", SPRAYER, 10),
        ("password-spraying", SPRAYER, 10),
        ("suspicious-session", ATTACKER, 1),
    }
    if gets_in:
        expected |= {
            ("success-after-failures", ATTACKER, 17),  # so many are remembered
            ("success-after-failures-address", ATTACKER, 31),
        }
    assert found == expected
