"""Each rule raises an alert on what it is for, and none on what comes close to that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit.detection.engine import Engine, delivered
from audit.detection.raising import LONGEST, MOST_EVENTS
from audit.detection.rules import BY_SLUG, RULES, checked
from audit.detection.rules.facts import Fact
from audit.enums import ACTIONS, Category

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def event(action: str, after: timedelta = timedelta(), **fields: Any) -> dict[str, Any]:
    """An event so long after noon; recorded a second later unless `late` says how much later."""
    late = fields.pop("late", SECOND)
    at = NOON + after
    return {
        "action": action,
        "source": "web-app",
        "at": ms(at),
        "recorded": ms(at + late),
        **fields,
    }


def engine_after(events: list[dict[str, Any]], until: timedelta | None = None) -> Engine:
    engine = Engine(delivered())
    for leaf, fields in enumerate(events):
        engine.see(Fact(leaf, **fields))
    if until is not None:
        engine.pass_to(ms(NOON + until))
    return engine


def raised(events: list[dict[str, Any]], until: timedelta | None = None) -> dict[str, Any]:
    """The alerts of these events, by rule; a list where a rule raised several."""
    found: dict[str, Any] = {}
    for alert in engine_after(events, until).alerts.values():
        found.setdefault(alert.setting.rule.slug, []).append(alert)
    return found


def many(count: int, apart: timedelta, action: str, **fields: Any) -> list[dict[str, Any]]:
    return [event(action, apart * n, **fields) for n in range(count)]


def failures(count: int, apart: timedelta = MINUTE, **fields: Any) -> list[dict[str, Any]]:
    return many(count, apart, "user_login_failed", **({"user": "u-1", "address": None} | fields))


def spray(users: int, apart: timedelta = MINUTE) -> list[dict[str, Any]]:
    return [
        event("user_login_failed", apart * n, user=f"u-{n}", address="203.0.113.9")
        for n in range(users)
    ]


def known_for(days: int, action: str = "data_viewed", every: timedelta = HOUR) -> list[Any]:
    """A source that has written something every so often, until noon."""
    steps = int(days * DAY / every)
    return [event(action, every * (n - steps), user=f"v-{n}") for n in range(steps + 1)]


_admin = {"source": "admin-console", "user": "a-1"}
_old_token = "token_rejected_version_mismatch"
_create, _delete = "admin_user_created", "admin_user_deleted"

RAISES: dict[str, list[list[dict[str, Any]]]] = {
    "failed-sign-ins-user": [
        failures(6),
        [event("user_login_failed", MINUTE * n, said={"email": "a@b.c"}) for n in range(6)],
        failures(6, late=20 * DAY),  # all of it comes weeks late
        [*failures(3), *failures(3, late=45 * MINUTE)],
    ],
    "failed-sign-ins-address": [failures(10, user=None, address="203.0.113.9")],
    "success-after-failures": [
        [*failures(4), event("user_login_success", 10 * MINUTE, user="u-1")]
    ],
    "success-after-failures-address": [
        [*spray(8), event("user_login_success", 10 * MINUTE, user="v", address="203.0.113.9")]
    ],
    "password-spraying": [
        spray(8),
        [
            event("user_login_failed", MINUTE * n, user=f"u-{n}", address=f"2001:db8::{n + 1}")
            for n in range(8)
        ],
    ],
    "denied-access": [many(8, MINUTE, "access_denied", user="u-1")],
    "own-privileges": [
        [event("role_assigned", user="a-1", subject="a-1")],
        [event("permission_changed", user="a-1", resource_type="user", resource="a-1")],
        [event("role_assigned", subject="a-1", said={"assigned_by": "a-1"})],
    ],
    "mfa-disabled-by-other": [
        [event("user_mfa_disabled", user="a-1", subject="u-1")],
        [event("user_mfa_disabled", user="u-1", said={"initiated_by": "admin"})],
    ],
    "mfa-disabled-then-password": [
        [
            event("user_mfa_disabled", user="u-1"),
            event("user_password_changed", 59 * MINUTE, user="u-1"),
        ],
        [
            event("user_mfa_disabled", user="a-1", subject="u-1"),
            event("user_password_reset_completed", MINUTE, subject="u-1"),
        ],
    ],
    "suspicious-session": [
        [event("suspicious_session_activity", user="u-1")],
        [event("suspicious_session_activity", address="203.0.113.9")],
        [event("suspicious_session_activity")],  # nothing says whose session it is
        many(6, 2 * HOUR, "suspicious_session_activity", user="u-1"),
    ],
    "token-version-mismatch": [many(5, MINUTE, _old_token, user="u-1")],
    "global-token-rotation": [
        [event("global_token_rotation_succeeded", user="a-1")],
        [event("global_token_rotation_failed", user="a-1")],
    ],
    "short-lived-account": [
        [event(_create, **_admin, subject="x"), event(_delete, 23 * HOUR, **_admin, subject="x")]
    ],
    "config-outside-hours": [
        [event("admin_config_changed", 8 * HOUR, **_admin)],  # 20:00
        [event("admin_config_changed", 3 * DAY, **_admin)],  # Saturday
    ],
    "mass-export": [many(8, MINUTE, "data_exported", user="u-1")],
    "mass-view": [many(60, SECOND, "provider_account_viewed", user="u-1")],
    "attempts-left-open": [
        [event("holdings_sync_attempted", MINUTE * n, correlation=f"c{n}") for n in range(5)],
        [event("user_login_attempted", MINUTE * n, address=f"192.0.2.{n}") for n in range(5)],
    ],
    "outcome-without-attempt": [
        [
            event("data_deletion_attempted", correlation="first"),
            event("data_deleted", correlation="first"),
            *(event("data_deleted", MINUTE * n, correlation=f"c{n}") for n in range(3)),
        ]
    ],
    "source-silent": [known_for(8, every=10 * MINUTE)],
    "clock-ahead": [many(5, MINUTE, "data_viewed", late=-3 * MINUTE)],
    "clock-behind": [many(11, MINUTE, "data_viewed", late=10 * MINUTE)],
    "rate-limit-denials": [
        many(15, SECOND, "rate_limit_check_denied", said={"identifier": "203.0.113.9"})
    ],
    "new-action": [
        [*known_for(15, every=6 * HOUR), event("admin_backup_created", MINUTE)],
        [
            *known_for(15, every=6 * HOUR),
            event("admin_backup_created", MINUTE),
            event("admin_config_changed", 6 * HOUR),  # new as well, and soon after
        ],
    ],
}
"""For each rule what it has to find; in all of it, it raises one alert."""

IS_FINE: dict[str, list[list[dict[str, Any]]]] = {
    "failed-sign-ins-user": [
        failures(5),
        failures(6, apart=7 * MINUTE),
        [event("user_login_failed", MINUTE * n, user=f"u-{n % 2}") for n in range(10)],
    ],
    "failed-sign-ins-address": [failures(9, user=None, address="203.0.113.9")],
    "success-after-failures": [
        [*failures(3), event("user_login_success", 10 * MINUTE, user="u-1")],
        [*failures(4), event("user_login_success", 65 * MINUTE, user="u-1")],
        [*failures(4), event("user_login_success", 10 * MINUTE, user="u-2")],
        [event("user_login_success", -MINUTE, user="u-1"), *failures(4)],
        [
            *failures(2),
            event("user_login_success", 90 * SECOND, user="u-1"),  # not in a row
            event("user_login_failed", 2 * MINUTE, user="u-1"),
            event("user_login_failed", 3 * MINUTE, user="u-1"),
            event("user_login_success", 4 * MINUTE, user="u-1"),
        ],
    ],
    "success-after-failures-address": [
        [*spray(8), event("user_login_success", 10 * MINUTE, user="v", address="203.0.113.8")]
    ],
    "password-spraying": [
        [
            event("user_login_failed", MINUTE * n, user=f"u-{n % 7}", address="203.0.113.9")
            for n in range(30)
        ],
        spray(8, apart=10 * MINUTE),
    ],
    "denied-access": [many(7, MINUTE, "access_denied", user="u-1")],
    "own-privileges": [
        [event("role_assigned", user="a-1", subject="a-2")],
        [event("role_assignment_failed", user="a-1", subject="a-1")],
    ],
    "mfa-disabled-by-other": [
        [event("user_mfa_disabled", user="u-1", said={"initiated_by": "user"})],
        [event("user_mfa_disable_failed", user="a-1", subject="u-1")],
    ],
    "mfa-disabled-then-password": [
        [
            event("user_password_changed", user="u-1"),
            event("user_mfa_disabled", MINUTE, user="u-1"),
        ],
        [
            event("user_mfa_disabled", user="u-1"),
            event("user_password_changed", 61 * MINUTE, user="u-1"),
        ],
    ],
    "suspicious-session": [[event("session_revoked", user="u-1")]],
    "token-version-mismatch": [many(4, MINUTE, _old_token, user="u-1")],
    "global-token-rotation": [[event("user_token_rotation_succeeded", user="a-1")]],
    "short-lived-account": [
        [event(_create, **_admin, subject="x"), event(_delete, 25 * HOUR, **_admin, subject="x")],
        [event(_create, **_admin, subject="x"), event(_delete, HOUR, **_admin, subject="y")],
        [
            event(_create, **_admin, subject="x"),
            event(_delete, HOUR, **(_admin | {"user": "a-2"}), subject="x"),  # a second person
        ],
    ],
    "config-outside-hours": [
        [event("admin_config_changed", **_admin)],
        [event("admin_config_change_failed", 12 * HOUR, **_admin)],
    ],
    "mass-export": [many(8, 10 * MINUTE, "data_exported", user="u-1")],
    "mass-view": [many(59, SECOND, "data_viewed", user="u-1")],
    "attempts-left-open": [
        [event("holdings_sync_attempted", MINUTE * n, correlation=f"c{n}") for n in range(4)],
        [
            event(f"holdings_sync_{step}", MINUTE * n, correlation=f"c{n}")
            for n in range(20)
            for step in ("attempted", "succeeded")
        ],
    ],
    "outcome-without-attempt": [
        [event("data_deleted", MINUTE * n, correlation=f"c{n}") for n in range(9)],
        [
            event(f"data_{step}", MINUTE * n, correlation=f"c{n}")
            for n in range(9)
            for step in ("deleted", "deletion_attempted")  # the attempt arrives after its outcome
        ],
    ],
    "source-silent": [known_for(6, every=10 * MINUTE), known_for(20, every=4 * HOUR)],
    "clock-ahead": [many(5, MINUTE, "data_viewed", late=-MINUTE)],
    "clock-behind": [
        many(11, MINUTE, "data_viewed", late=4 * MINUTE),
        # A queue that was held up empties: its events arrive one by one, each less late.
        [event("data_viewed", MINUTE * n, late=(60 - n * 3) * MINUTE) for n in range(18)],
        many(11, MINUTE, "data_viewed", late=40 * DAY),  # an old log is read in
    ],
    "rate-limit-denials": [
        many(14, SECOND, "rate_limit_check_denied", said={"identifier": "203.0.113.9"})
    ],
    "new-action": [
        [*known_for(13, every=6 * HOUR), event("admin_backup_created", MINUTE)],
        known_for(15, every=6 * HOUR),
        [  # another outcome of what it does anyway
            *known_for(15, "data_exported", every=6 * HOUR),
            event("data_export_failed", MINUTE),
        ],
        [  # it is still being learnt
            *known_for(15, every=6 * HOUR)[:-20],
            event("data_exported", -4 * DAY),
            event("admin_backup_created", MINUTE),
        ],
    ],
}
"""For each rule what comes close, and raises nothing."""


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(slug, events, id=f"{slug}-{number}")
        for slug, of_rule in table.items()
        for number, events in enumerate(of_rule)
    ]


@pytest.mark.parametrize(("slug", "events"), cases(RAISES))
def test_a_rule_raises_one_alert_on_what_it_is_for(slug, events):
    [alert] = raised(events, until=7 * HOUR + MINUTE)[slug]
    assert alert.count == len(alert.named) > 0
    assert alert.first == min(at for _, at in alert.named)
    assert alert.last == max(at for _, at in alert.named)


@pytest.mark.parametrize(("slug", "events"), cases(IS_FINE))
def test_a_rule_raises_nothing_on_what_comes_close(slug, events):
    assert slug not in raised(events, until=7 * HOUR + MINUTE)


def test_every_rule_is_tried_both_ways():
    assert RAISES.keys() == IS_FINE.keys() == BY_SLUG.keys()


# --- what holds for all ------------------------------------------------------------------------


def test_what_goes_on_joins_the_alert():
    [alert] = raised(failures(30))["failed-sign-ins-user"]
    assert (alert.count, len(alert.named)) == (30, 30)


def test_what_begins_again_after_a_pause_raises_another_alert():
    again = [event("user_login_failed", 5 * HOUR + MINUTE * n, user="u-1") for n in range(6)]
    first, second = raised([*failures(6), *again])["failed-sign-ins-user"]
    assert (first.count, second.count, first.key) == (6, 6, second.key)


def test_what_goes_on_for_days_raises_an_alert_a_day():
    found = raised(failures(3 * 24 * 4, apart=15 * MINUTE // 3))["failed-sign-ins-user"]
    assert all(alert.last - alert.first <= LONGEST for alert in found)
    assert len(found) == 1
    found = raised(failures(3 * 24 * 12, apart=5 * MINUTE))["failed-sign-ins-user"]
    assert len(found) == 3


def test_an_alert_names_so_many_of_its_events_and_counts_all():
    [alert] = raised(failures(MOST_EVENTS + 50, apart=SECOND))["failed-sign-ins-user"]
    assert (alert.count, len(alert.named)) == (MOST_EVENTS + 50, MOST_EVENTS)


def test_the_order_of_arrival_within_an_hour_does_not_matter():
    late = failures(6)[::-1]
    for each in late:
        each["recorded"] = ms(NOON + 10 * MINUTE)
    [alert] = raised(late)["failed-sign-ins-user"]
    assert alert.count == 6


def test_ten_thousand_other_keys_are_forgotten_with_time():
    engine = engine_after(
        [event("user_login_failed", SECOND * n, user=f"u-{n}") for n in range(10_000)],
        until=10 * HOUR,
    )
    assert len(engine.memory.states) < 10


def test_an_alerts_id_follows_from_what_raised_it():
    assert engine_after(failures(6)).alerts.keys() == engine_after(failures(9)).alerts.keys()
    assert engine_after(failures(6)).alerts.keys() != engine_after(spray(8)).alerts.keys()


def test_an_alert_about_an_operation_is_in_its_category():
    [alert] = raised(RAISES["attempts-left-open"][1], until=HOUR)["attempts-left-open"]
    assert alert.category == Category.AUTHENTICATION
    [alert] = raised(RAISES["new-action"][0])["new-action"]
    assert alert.category == Category.ADMINISTRATIVE


# --- the table ---------------------------------------------------------------------------------


def test_every_rule_says_what_it_is_and_who_asks_for_it():
    for rule in RULES:
        assert rule.title
        assert rule.words.endswith(".")
        assert rule.clauses
        assert rule.severity in ("low", "medium", "high")
        assert all(p.least <= p.default <= p.most for p in rule.parameters)
        assert checked(rule, {}) == rule.defaults
        assert checked(rule, {p.name: p.most for p in rule.parameters})
        watched = getattr(rule.watch, "actions", frozenset())
        assert watched <= ACTIONS.keys()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 0}, "count lies between 1 and 1000 failures; 0 does not"),
        ({"count": 2.5}, "count is a whole number, not 2.5"),
        ({"count": True}, "count is a whole number, not True"),
        ({"window": 5}, "failed-sign-ins-user has no parameter 'window'"),
    ],
)
def test_a_bad_parameter_is_named_with_what_would_be_right(given, said):
    with pytest.raises(ValueError, match=said):
        checked(BY_SLUG["failed-sign-ins-user"], given)


def test_hours_have_to_begin_before_they_end():
    with pytest.raises(ValueError, match="from_hour has to be before to_hour"):
        checked(BY_SLUG["config-outside-hours"], {"from_hour": 20, "to_hour": 20})
