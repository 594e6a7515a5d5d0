"""What contexts say: believable values for the catalogue's context keys.

A value comes from the first of these that knows the key: `ROWS` (values that belong together), who
is acting (`ACTORS`), `FROM_SCENE`, the catalogue's examples with `MORE` of them, `VALUES`.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Rows(NamedTuple):
    """Values of several keys that belong together, for one operation, or for any ("")."""

    operation: str
    keys: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


# fmt: off
ROWS = (
    Rows("user_login", ("method", "mfa", "remember_me"), (
        ("password", False, True), ("password", False, False), ("password", True, False),
        ("oauth", False, True), ("oauth", True, False), ("mfa", True, False),
    )),
    Rows("user_login", ("reason", "attempts"), (
        ("invalid_password", 1), ("invalid_password", 1), ("invalid_password", 2),
        ("mfa_failed", 1),
    )),
    Rows("", ("token_version", "required_version"), ((3, 4), (4, 5), (1, 2), (2, 5))),
    Rows("", ("previous_version", "new_version"), ((3, 4), (4, 5), (5, 6), (6, 7))),
    Rows("access", ("resource", "permission_level", "action"), (
        ("accounts", "read", "read"), ("accounts", "read", "read"), ("holdings", "read", "read"),
        ("transactions", "read", "read"), ("transactions", "read", "read"),
        ("budgets", "write", "write"), ("profile", "write", "write"), ("reports", "read", "read"),
        ("connections", "write", "delete"), ("users", "admin", "write"),
    )),
    Rows("", ("old_permissions", "new_permissions", "requested_permissions"), tuple(
        (old, new, new) for old, new in (
            (["accounts:read"], ["accounts:read", "accounts:write"]),
            (["reports:read"], ["reports:read", "reports:export"]),
            (["users:read", "users:write"], ["users:read"]),
            ([], ["support:impersonate"]),
        )
    )),
    Rows("", ("data_type", "fields_accessed"), (
        ("profile", ["name", "email"]), ("profile", ["name", "email", "phone", "address"]),
        ("financial", ["balance"]), ("financial", ["balance", "transactions"]),
        ("financial", ["holdings", "cost_basis"]), ("tax", ["tax_id", "residence"]),
        ("preferences", ["language", "notifications"]),
    )),
    Rows("data_modification", (
        "fields_to_change", "fields_attempted", "fields_changed", "old_values", "new_values",
    ), tuple(
        (list(new), list(new), list(new), old, new) for old, new in (
            ({"phone": "+1 202 555 0143"}, {"phone": "+1 202 555 0178"}),
            ({"city": "Springfield", "zip": "01101"}, {"city": "Riverton", "zip": "82501"}),
            ({"display_name": "Sam"}, {"display_name": "S. K."}),
            ({"category": "other"}, {"category": "groceries"}),
            ({"monthly_budget": 450}, {"monthly_budget": 500}),
        )
    )),
    Rows("", ("config_key", "requested_value", "old_value", "new_value"), (
        ("session.timeout_minutes", 15, 30, 15), ("password.min_length", 14, 12, 14),
        ("mfa.required_for_admins", True, False, True), ("sync.interval_minutes", 60, 240, 60),
        ("rate_limit.login_per_minute", 10, 20, 10), ("export.max_rows", 50_000, 10_000, 50_000),
        ("mail.sender", "support@example.com", "no-reply@example.com", "support@example.com"),
    )),
    Rows("admin_backup", ("backup_type", "backup_size"), (
        ("full", 81_604_378_624), ("incremental", 1_288_490_188), ("incremental", 947_912_704),
        ("differential", 6_979_321_856),
    )),
    Rows("", ("endpoint", "cost", "limit", "remaining"), (
        ("GET /v1/accounts", 1, 100, 0), ("GET /v1/accounts", 1, 100, 0),
        ("GET /v1/transactions", 1, 100, 0), ("GET /v1/transactions", 1, 100, 0),
        ("GET /v1/holdings", 1, 100, 0), ("POST /v1/auth/login", 5, 20, 0),
        ("POST /v1/auth/refresh", 1, 60, 0), ("POST /v1/sync", 10, 50, 0),
        ("POST /v1/exports", 25, 50, 0), ("PATCH /v1/profile", 2, 60, 0),
    )),
    Rows("", ("activity_type", "detection_reason", "risk_score"), (
        ("impossible_travel", "two countries within an hour", 87.5),
        ("new_device", "first sign-in from this device", 35),
        ("unusual_volume", "ten times the usual number of requests", 72.25),
        ("token_reuse", "refresh token used twice", 94),
    )),
    Rows("", ("error_code", "error_message"), (
        ("PROV_401", "the provider refused the credentials"),
        ("PROV_429", "too many requests, try again later"),
        ("PROV_500", "the provider answered with an internal error"),
        ("PROV_TIMEOUT", "no answer within 30 s"),
    )),
)
# fmt: on

ACTORS = frozenset({"user", "admin", "system"})
"""A key whose examples are among these says who is acting; its value is the scene's `who`."""

FROM_SCENE = {
    "email": "email",
    "user_email": "email",
    "user_id": "user_id",
    "target_user_id": "user_id",
    "identifier": "user_id",
    "session_id": "session_id",
    "except_session_id": "session_id",
    "triggered_by": "actor",
    "changed_by": "actor",
    "assigned_by": "actor",
    "revoked_by": "actor",
    "requested_by": "actor",
    "created_by": "actor",
    "deleted_by": "actor",
    "suspended_by": "actor",
    "connection_id": "connection_id",
    "provider_name": "provider_name",
    "provider_slug": "provider_slug",
    "account_id": "account_id",
    "account_type": "account_type",
    "account_mask": "account_mask",
    "file_name": "file_name",
    "file_format": "file_format",
}
"""Context key to the fact of the scene that it takes its value from."""

MORE: dict[str, tuple[Any, ...]] = {
    "data_type": ("tax", "preferences"),
    "export_reason": ("tax_return", "audit"),
    "disconnection_reason": ("account_closed", "security"),
    "connection_method": ("credentials",),
}
"""More values where the catalogue's examples are open."""

VALUES: dict[str, tuple[Any, ...]] = {
    "reason": ("policy_violation", "left_company", "duplicate_account", "inactivity", "request"),
    "failure_reason": ("database_timeout", "session_store_unavailable"),
    "change_reason": ("user_request", "correction", "moved_house", "import_cleanup"),
    "token": ("9f3ac1", "b07e55", "41d2aa", "e8c903", "5a7714"),
    "grace_period_seconds": (0, 300, 900, 3600),
    "sessions_revoked_count": (1, 2, 3, 4, 7),
    "active_sessions_count": (2, 3, 5),
    "email_verified": (True, False),
    "role_name": ("viewer", "analyst", "support", "billing", "admin"),
    "initial_role": ("viewer", "viewer", "analyst", "support"),
    "data_scope": ("profile", "transactions", "accounts", "all", "2026-Q1"),
    "file_size": tuple(range(18_432, 4_000_000, 61_813)),
    "duration": ("24h", "7d", "30d", {"value": 90, "unit": "days"}),
    "backup_location": ("s3://example-backups/eu-1", "s3://example-backups/us-2"),
    "records_synced": tuple(range(1, 900, 13)),
    "account_count": (1, 1, 2, 2, 3, 4, 6),
    "transaction_count": tuple(range(0, 480, 7)),
    "holding_count": tuple(range(1, 60, 3)),
    "date_range": (
        "last_30_days",
        "last_90_days",
        {"from": "2026-01-01", "to": "2026-03-31"},
        {"from": "2026-06-01", "to": "2026-06-30"},
    ),
    "remaining_tokens": tuple(range(1, 100)),
    "retry_after": (5, 15, 30, 60),
    "execution_time_ms": tuple(round(0.31 + n * 0.17, 2) for n in range(60)),
}
"""Values of keys for which the catalogue gives no examples."""

UNKNOWN = (("build", "2026.11.3"), ("device_name", "Kitchen tablet"), ("trace", "00-4bf92f"))
"""What applications say although no catalogue asked them to."""
