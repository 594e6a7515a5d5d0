"""How often each operation happens, where, and how it goes: a table, and the variants made of it.

A variant is one way an operation can go: the lines (attempt, outcome) with ready contexts. They are
made once, from the catalogue, so that playing an operation is little more than copying.
"""

from __future__ import annotations

from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from audit.enums import OPERATIONS, AuditAction, ContextKey, Outcome, Phase
from audit.samples.facts import ACTORS, FROM_SCENE, MORE, ROWS, VALUES

VARIANTS = 96
"""Ways each outcome of each operation can go."""

CONDITIONAL_SHARE = 0.6
"""How often a key is there that the catalogue wants only on some condition."""


class Habit(NamedTuple):
    """What is usual for an operation.

    `failing` is the share of failures. The last four columns are weights among what happens in a
    user's visit, at the door (nobody has signed in), at the administrators' console, in a job;
    signing in and out are part of every visit and need no weight.
    """

    resource: str
    failing: float
    visit: float = 0
    door: float = 0
    console: float = 0
    job: float = 0


# fmt: off
HABITS = {
    #                                       resource       failing visit  door  console job
    "user_login":                      Habit("session",       0.090),
    "user_logout":                     Habit("session",       0.010),
    "user_registration":               Habit("user",          0.080, 0,     14,   0,      0),
    "user_password_change":            Habit("user",          0.080, 0.25,  0,    1,      0),
    "password_reset_request":          Habit("user",          0.000, 0,     12,   0,      0),
    "password_reset_confirm":          Habit("user",          0.080, 0,     10,   0,      0),
    "auth_token_refresh":              Habit("session",       0.040, 11,    0,    6,      0),
    "token_rejected_version_mismatch": Habit("session",       0.000, 0.1,   6,    0,      0),
    "global_token_rotation":           Habit("token",         0.100, 0,     0,    0.15,   0.005),
    "user_token_rotation":             Habit("user",          0.050, 0.1,   0,    1.5,    0.1),
    "user_email_verification":         Habit("user",          0.070, 0.05,  12,   0,      0),
    "user_mfa_enable":                 Habit("user",          0.080, 0.2,   0,    0,      0),
    "user_mfa_disable":                Habit("user",          0.080, 0.03,  0,    0.8,    0),
    "access":                          Habit("account",       0.055, 20,    0,    9,      0),
    "permission_change":               Habit("user",          0.060, 0,     0,    3,      0),
    "role_assignment":                 Habit("user",          0.060, 0,     0,    3,      0),
    "role_revocation":                 Habit("user",          0.050, 0,     0,    2,      0),
    "data_view":                       Habit("account",       0.000, 22,    0,    9,      0),
    "data_export":                     Habit("export",        0.050, 0.7,   0,    2,      0),
    "data_deletion":                   Habit("user",          0.060, 0.05,  0,    1,      0.05),
    "data_modification":               Habit("user",          0.080, 2.5,   0,    3,      0),
    "admin_user_creation":             Habit("user",          0.050, 0,     0,    5,      0),
    "admin_user_deletion":             Habit("user",          0.050, 0,     0,    2,      0),
    "admin_user_suspension":           Habit("user",          0.050, 0,     0,    2,      0),
    "admin_config_change":             Habit("setting",       0.060, 0,     0,    3,      0),
    "admin_backup":                    Habit("backup",        0.000, 0,     0,    0.6,    0.6),
    "provider_connection":             Habit("connection",    0.080, 0.6,   0,    0,      0),
    "provider_disconnection":          Habit("connection",    0.040, 0.15,  0,    0,      0.05),
    "provider_token_refresh":          Habit("connection",    0.070, 0,     0,    0,      20),
    "provider_data_sync":              Habit("connection",    0.080, 2,     0,    0,      14),
    "provider_account_view":           Habit("account",       0.000, 7,     0,    2,      0),
    "provider_transaction_view":       Habit("account",       0.000, 9,     0,    2,      0),
    "session_revocation":              Habit("session",       0.040, 0.2,   0,    2,      0.6),
    "session_eviction":                Habit("session",       0.000, 0.1,   0,    0,      0.6),
    "all_sessions_revocation":         Habit("user",          0.050, 0.1,   0,    1,      0.05),
    "session_provider_access":         Habit("connection",    0.000, 4,     0,    0,      0),
    "suspicious_session_activity":     Habit("session",       0.000, 0.02,  0,    0,      0.25),
    "account_sync":                    Habit("connection",    0.070, 0.3,   0,    0,      14),
    "transaction_sync":                Habit("connection",    0.080, 0.3,   0,    0,      24),
    "holdings_sync":                   Habit("account",       0.080, 0.2,   0,    0,      9),
    "file_import":                     Habit("import",        0.080, 0.6,   0,    0,      0.3),
    "rate_limit_check":                Habit("endpoint",      0.045, 18,    8,    4,      0),
}
# fmt: on

GATEWAY = frozenset({"access", "rate_limit_check", "token_rejected_version_mismatch"})
"""Operations that the API gateway reports, whatever application the user is in."""

RESOURCE_FACTS = {
    "user": "user_id",
    "session": "session_id",
    "connection": "connection_id",
    "account": "account_id",
}
"""Kind of resource to the fact of the scene that is its id."""

RESOURCE_KEYS = {"endpoint": "endpoint", "setting": "config_key"}
"""Kind of resource to the context key that is its id; the ids of other kinds are made up."""


class Mix(NamedTuple):
    """What happens in one place: operations with their cumulated weights, for `random.choices`."""

    operations: tuple[str, ...]
    weights: tuple[float, ...]


def mix(place: str) -> Mix:
    """The operations of a place: `visit`, `door`, `console` or `job`."""
    found = {name: getattr(habit, place) for name, habit in HABITS.items()}
    found = {name: weight for name, weight in found.items() if weight}
    return Mix(tuple(found), tuple(accumulate(found.values())))


def usual_place(operation: str) -> str:
    """Where an operation happens most."""
    habit = HABITS[operation]
    return max(("visit", "door", "console", "job"), key=lambda place: getattr(habit, place))


class Line(NamedTuple):
    """One event to be: its context but for what the scene supplies (context key, fact)."""

    action: str
    context: dict[str, Any]
    from_scene: tuple[tuple[str, str], ...]


Variant = tuple[Line, ...]


class Plot(NamedTuple):
    """All the ways one operation can go."""

    resource: str
    failing: float
    successes: tuple[Variant, ...]
    failures: tuple[Variant, ...]
    by_action: dict[str, tuple[Variant, ...]]


def make_plots(random: Random) -> dict[str, Plot]:
    """A plot for each operation of the catalogue that applications report."""
    return {operation: _plot(random, operation) for operation in HABITS}


def _plot(random: Random, operation: str) -> Plot:
    members = [member for member in OPERATIONS[operation] if isinstance(member, AuditAction)]
    attempts = [member for member in members if member.phase is Phase.ATTEMPTED]
    by_action = {
        end.value: tuple(_variant(random, members, [*attempts, end]) for _ in range(VARIANTS))
        for end in members
        if end not in attempts
    }
    failures = [
        variant
        for end in members
        if end.outcome is Outcome.FAILURE and attempts
        for variant in by_action[end.value]
    ]
    successes = [
        variant
        for end in members
        if end not in attempts and (end.outcome is not Outcome.FAILURE or not attempts)
        for variant in by_action[end.value]
    ]
    habit = HABITS[operation]
    return Plot(habit.resource, habit.failing, tuple(successes), tuple(failures), by_action)


def _variant(random: Random, members: list[AuditAction], acted: list[AuditAction]) -> Variant:
    told = _told(random, members)
    skipped = {
        _slot(key)
        for member in members
        for key in member.context_keys
        if key.conditional and random.random() > CONDITIONAL_SHARE
    }
    return tuple(_line(member, told, skipped) for member in acted)


def _line(action: AuditAction, told: dict[tuple[str, str], Any], skipped: set[Any]) -> Line:
    keys = [key for key in action.context_keys if _slot(key) not in skipped]
    context = {key.name: told[_slot(key)] for key in keys}
    from_scene = tuple(
        (name, value.name) for name, value in context.items() if isinstance(value, Fact)
    )
    return Line(action.value, context, from_scene)


class Fact(NamedTuple):
    """Stands in a variant for what the scene supplies."""

    name: str


def _slot(key: ContextKey) -> tuple[str, str]:
    """A key and what it means: `reason` may be motive or cause of failure, in one operation."""
    return key.name, key.meaning


def _told(random: Random, members: list[AuditAction]) -> dict[tuple[str, str], Any]:
    """A value for each key of an operation's actions: attempt and outcome tell the same story."""
    rows = _row_values(random, members[0].operation)
    slots: dict[tuple[str, str], list[ContextKey]] = {}
    for member in members:
        for key in member.context_keys:
            slots.setdefault(_slot(key), []).append(key)
    told = {slot: _value(random, keys, rows) for slot, keys in slots.items()}
    if "ip" in told.values():  # whose requests are counted depends on the scope
        told = {
            slot: Fact("ip_address") if slot[0] == "identifier" else value
            for slot, value in told.items()
        }
    return told


def _row_values(random: Random, operation: str) -> dict[str, Any]:
    chosen = [table for table in ROWS if table.operation in ("", operation)]
    values: dict[str, Any] = {}
    for table in chosen:
        values |= zip(table.keys, random.choice(table.rows), strict=True)
    return values


def _value(random: Random, keys: list[ContextKey], rows: dict[str, Any]) -> Any:
    """What stands under a key; `keys` is the same key in several actions of one operation."""
    name, listed = keys[0].name, keys[0].type == "list"
    examples = next((key.examples for key in keys if key.examples), ())
    if name in rows:
        return rows[name]
    if examples and ACTORS.issuperset(examples):
        return Fact("who")
    if name in FROM_SCENE:
        return Fact(FROM_SCENE[name])
    value = random.choice(examples + MORE.get(name, ()) if examples else VALUES[name])
    return [value] if listed else value
