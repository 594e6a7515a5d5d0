"""The catalogue: every action that can be evidence, and what is known about each.

Two tables say it all. `CONTEXT_KEYS` defines each key an event's context may carry, and whether it
holds personal data; `AuditAction` has one line an action, and is the whole vocabulary of the
applications. `PortalAction` is the same for what people do inside the portal. To add an action, add
its line; a misspelt key, phase or outcome stops the import. Nothing here needs Django.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum, auto
from functools import partial
from typing import Any, Literal, NamedTuple, Self


class Framework(StrEnum):
    """Whom the evidence is kept for; the values are written as the frameworks write themselves."""

    PCI_DSS = "PCI-DSS"
    SOC_2 = "SOC 2"
    GDPR = "GDPR"
    SECURITY = "Security"


FRAMEWORKS = tuple(Framework)


class Category(StrEnum):
    """The sections of the catalogue. An action's frameworks are those of its category."""

    label: str
    frameworks: tuple[Framework, ...]
    description: str

    def __new__(cls, value: str, *line: Any) -> Self:
        self = str.__new__(cls, value)
        self._value_ = value
        self.label, self.frameworks, self.description = line
        return self

    # fmt: off
    AUTHENTICATION = "authentication", "Authentication", (Framework.PCI_DSS,),  "signing in and out, passwords, tokens, MFA"
    AUTHORIZATION  = "authorization",  "Authorization",  (Framework.SOC_2,),    "access decisions, permissions, roles"
    DATA_ACCESS    = "data_access",    "Data access",    (Framework.GDPR,),     "viewing, exporting, changing and deleting personal data"
    ADMINISTRATIVE = "administrative", "Administrative", (Framework.SOC_2,),    "user accounts, configuration, backups"
    PROVIDER       = "provider",       "Provider",       (Framework.PCI_DSS,),  "connections to financial providers, and the cardholder data seen through them"
    SESSION        = "session",        "Session",        (Framework.SECURITY,), "how sessions end, and what is odd about them"
    DATA_SYNC      = "data_sync",      "Data sync",      (Framework.PCI_DSS,),  "accounts, transactions and holdings brought in from providers and files"
    RATE_LIMIT     = "rate_limit",     "Rate limit",     (Framework.SECURITY,), "requests counted against abuse"
    PORTAL         = "portal",         "Portal",         (),                    "what is done inside this portal"
    # fmt: on


class Phase(StrEnum):
    """How far an operation has come. Stated for each action, as a third of the names do not tell."""

    ATTEMPTED = "attempted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GRANTED = "granted"
    DENIED = "denied"
    ALLOWED = "allowed"
    EVENT = "event"  # stands alone: there is no attempt to wait for


class Outcome(StrEnum):
    """What a phase means to a reviewer: the one "failure" of every list, report and export."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    INFORMATIONAL = "informational"

    @property
    def label(self) -> str:
        """The outcome in the words of the pages."""
        return {"pending": "Attempted", "informational": "Information"}.get(self, self.capitalize())


# An event's outcome cannot be derived: its line in the table states it ("event/failure").
_OUTCOME_OF = {
    Phase.ATTEMPTED: Outcome.PENDING,
    Phase.SUCCEEDED: Outcome.SUCCESS,
    Phase.GRANTED: Outcome.SUCCESS,
    Phase.ALLOWED: Outcome.SUCCESS,
    Phase.FAILED: Outcome.FAILURE,
    Phase.DENIED: Outcome.FAILURE,
}


class Sensitivity(StrEnum):
    """What a context key's value may give away, and so where ingest keeps it.

    Plain values are stored and hashed as they are; personal ones can be forgotten, because the
    ledger holds only their salted digests; of a secret the application may send a fragment at most.
    """

    PLAIN = "plain"
    PERSONAL = "personal"
    SECRET = "secret"


KeyType = Literal[
    "string", "integer", "number", "boolean", "list", "object", "any", "string or object"
]


@dataclass(frozen=True, slots=True)
class ContextKey:
    """One key that an action's context should carry: a promise of the application, checked softly.

    `conditional` says when the key applies (None: always). `examples` are usual values, and `open`
    says that others are as normal as these; a key without examples takes any value of its type.
    """

    name: str
    meaning: str
    type: KeyType
    conditional: str | None
    examples: tuple[str, ...]
    open: bool
    sensitivity: Sensitivity


class _Key(NamedTuple):
    type: KeyType
    sensitivity: Sensitivity
    meaning: str
    when: str | None = None


_plain, _personal, _secret = Sensitivity.PLAIN, Sensitivity.PERSONAL, Sensitivity.SECRET

# Each key once. A key that means something else for some actions has a variant, "key:variant", and
# their lines name it. The last column, where there is one, says when a key marked "?" applies.
# fmt: off
CONTEXT_KEYS = {
    # Who did it
    "initiated_by":          _Key("string",  _personal, "who set it off: the user, an administrator or the system"),
    "triggered_by":          _Key("string",  _personal, "who set the rotation off: the id of a user or administrator, or 'system'"),
    "changed_by":            _Key("string",  _personal, "who made the change, or tried to"),
    "assigned_by":           _Key("string",  _personal, "who gave the role, or tried to"),
    "revoked_by":            _Key("string",  _personal, "who took the role away or ended the session, or tried to"),
    "requested_by":          _Key("string",  _personal, "who asked for the deletion"),
    "created_by":            _Key("string",  _personal, "administrator opening the account"),
    "deleted_by":            _Key("string",  _personal, "administrator deleting the account"),
    "suspended_by":          _Key("string",  _personal, "administrator suspending the account"),

    # Whom it concerns
    "email":                 _Key("string",  _personal, "e-mail address given; it need not belong to any account"),
    "user_email":            _Key("string",  _personal, "e-mail address of the account created or deleted"),
    "user_id":               _Key("string",  _personal, "user whose token or tokens it is about", "when the token tells whose it is"),
    "target_user_id":        _Key("string",  _personal, "user to whom it would be done"),
    "identifier":            _Key("string",  _personal, "whose requests are counted: an IP address or a user id"),

    # Why
    "reason":                _Key("string",  _plain,    "what made it fail or be refused"),
    "reason:motive":         _Key("string",  _plain,    "why it was wanted, whether or not it then worked"),
    "failure_reason":        _Key("string",  _plain,    "what made it fail, where reason keeps the motive"),
    "rejection_reason":      _Key("string",  _plain,    "which rotation had outdated the token"),
    "change_reason":         _Key("string",  _plain,    "why the data was to change"),
    "export_reason":         _Key("string",  _plain,    "what the export was for"),
    "disconnection_reason":  _Key("string",  _plain,    "why the provider was to be disconnected"),
    "eviction_reason":       _Key("string",  _plain,    "which rule chose the session"),
    "detection_reason":      _Key("string",  _plain,    "what drew attention to the session"),

    # Signing in
    "method":                _Key("string",  _plain,    "way of signing in"),
    "method:change":         _Key("string",  _plain,    "way the password came to change"),
    "method:reset":          _Key("string",  _plain,    "way the reset was asked for"),
    "mfa":                   _Key("boolean", _plain,    "whether a second factor was used"),
    "mfa_method":            _Key("string",  _plain,    "kind of second factor"),
    "remember_me":           _Key("boolean", _plain,    "whether the user asked to stay signed in"),
    "attempts":              _Key("integer", _plain,    "failures in a row so far"),
    "logout_method":         _Key("string",  _plain,    "what ended the session"),
    "registration_method":   _Key("string",  _plain,    "way of registering"),
    "email_verified":        _Key("boolean", _plain,    "whether registering also proved the e-mail address"),

    # Tokens
    "token":                 _Key("string",  _secret,   "the reset token presented, cut short by the application"),
    "token_type":            _Key("string",  _plain,    "which of the provider's tokens"),
    "token_version":         _Key("integer", _plain,    "version the rejected token carried"),
    "required_version":      _Key("integer", _plain,    "lowest version that would have been accepted"),
    "previous_version":      _Key("integer", _plain,    "lowest version accepted before the rotation"),
    "new_version":           _Key("integer", _plain,    "lowest version accepted since the rotation"),
    "grace_period_seconds":  _Key("integer", _plain,    "seconds until older tokens stop working"),

    # Sessions
    "session_id":            _Key("string",  _personal, "session it is about"),
    "except_session_id":     _Key("string",  _personal, "session to be left open", "when one session is to stay open"),
    "sessions_revoked_count": _Key("integer", _plain,   "sessions ended"),
    "active_sessions_count": _Key("integer", _plain,    "sessions left to the user afterwards"),
    "access_type":           _Key("string",  _plain,    "what the session did with the provider"),
    "activity_type":         _Key("string",  _plain,    "kind of suspicious behaviour"),
    "risk_score":            _Key("number",  _plain,    "how risky, on the application's own scale"),

    # Permissions and roles
    "resource":              _Key("string",  _plain,    "what the user wanted to reach"),
    "action":                _Key("string",  _plain,    "what was to be done with it"),
    "permission_level":      _Key("string",  _plain,    "how much access was given"),
    "requested_permissions": _Key("list",    _plain,    "permissions the user would have had"),
    "old_permissions":       _Key("list",    _plain,    "permissions before"),
    "new_permissions":       _Key("list",    _plain,    "permissions after"),
    "role_name":             _Key("string",  _plain,    "the role"),
    "initial_role":          _Key("string",  _plain,    "role the new account starts with"),

    # Data
    "data_type":             _Key("string",  _plain,    "kind of data seen"),
    "data_scope":            _Key("string",  _plain,    "which data it covers"),
    "fields_accessed":       _Key("list",    _plain,    "names of the fields seen"),
    "fields_to_change":      _Key("list",    _plain,    "names of the fields to be changed"),
    "fields_attempted":      _Key("list",    _plain,    "names of the fields that were not changed after all"),
    "fields_changed":        _Key("list",    _plain,    "names of the fields changed"),
    "old_values":            _Key("object",  _personal, "those fields before", "when the old values may be kept"),
    "new_values":            _Key("object",  _personal, "those fields after"),
    "deletion_type":         _Key("string",  _plain,    "how thorough the deletion is"),
    "export_format":         _Key("string",  _plain,    "format of the export"),
    "file_size":             _Key("number",  _plain,    "size of the exported file, in the application's unit"),

    # Administration
    "duration":              _Key("string or object", _plain, "how long the suspension lasts", "when the suspension is to end by itself"),
    "config_key":            _Key("string",  _plain,    "name of the setting"),
    "requested_value":       _Key("any",     _personal, "value the setting would have had; it may hold a secret"),
    "old_value":             _Key("any",     _personal, "value of the setting before; it may hold a secret"),
    "new_value":             _Key("any",     _personal, "value of the setting after; it may hold a secret"),
    "backup_type":           _Key("string",  _plain,    "how much the backup holds"),
    "backup_location":       _Key("string",  _plain,    "where the backup lies"),
    "backup_size":           _Key("number",  _plain,    "size of the backup, in the application's unit"),

    # Providers and accounts
    "provider_name":         _Key("string",  _plain,    "the financial provider"),
    "provider_slug":         _Key("string",  _plain,    "the financial provider's short name in addresses"),
    "connection_id":         _Key("string",  _plain,    "connection to the provider"),
    "connection_method":     _Key("string",  _plain,    "way of connecting"),
    "error_code":            _Key("string",  _plain,    "the provider's own code for what went wrong"),
    "error_message":         _Key("string",  _personal, "what went wrong, in words; it may quote a secret"),
    "data_types":            _Key("list",    _plain,    "kinds of data fetched, or to be fetched"),
    "records_synced":        _Key("integer", _plain,    "records fetched"),
    "account_id":            _Key("string",  _personal, "the financial account", "when the sync is for one account only"),
    "account_type":          _Key("string",  _plain,    "kind of account"),
    "account_mask":          _Key("string",  _personal, "the account number's final four digits"),
    "account_count":         _Key("integer", _plain,    "accounts brought in or brought up to date"),
    "transaction_count":     _Key("integer", _plain,    "transactions seen or brought in"),
    "holding_count":         _Key("integer", _plain,    "holdings brought in"),
    "date_range":            _Key("string or object", _plain, "period the transactions lie in"),
    "file_name":             _Key("string",  _personal, "name the file came with"),
    "file_format":           _Key("string",  _plain,    "format of the file"),

    # Rate limits
    "endpoint":              _Key("string",  _plain,    "endpoint that was called"),
    "scope":                 _Key("string",  _plain,    "what shares one allowance of requests"),
    "cost":                  _Key("integer", _plain,    "how much of the allowance the request takes"),
    "limit":                 _Key("integer", _plain,    "the whole allowance"),
    "remaining":             _Key("integer", _plain,    "what is left of it; none, when a request is refused"),
    "remaining_tokens":      _Key("integer", _plain,    "what is left of the allowance after the request"),
    "retry_after":           _Key("integer", _plain,    "seconds until a request may be tried again"),
    "execution_time_ms":     _Key("number",  _plain,    "milliseconds the check took"),

    # The portal's own
    "filter":                _Key("string",  _personal, "the filter as it stood in the URL; it may name people"),
    "count":                 _Key("integer", _plain,    "events it covers"),
    "event_id":              _Key("string",  _plain,    "the event looked at"),
    "event_ids":             _Key("list",    _plain,    "the events it covers"),
    "status":                _Key("string",  _plain,    "what the alert is from then on"),
    "assignee":              _Key("string",  _personal, "whose task it is from then on", "when it was given to somebody"),
    "exception":             _Key("integer", _plain,    "number of the exception", "when the alert is part of an exception"),
    "severity":              _Key("string",  _plain,    "how bad it would be", "when it was set"),
    "due":                   _Key("string",  _plain,    "day until which it is to be closed, as YYYY-MM-DD", "when it was set"),
    "disposition":           _Key("string",  _plain,    "what the exception turned out to be"),
    "step":                  _Key("integer", _plain,    "number of the step that was corrected"),
    "format":                _Key("string",  _plain,    "format of the export"),
    "size":                  _Key("integer", _plain,    "bytes written"),
    "tree_size":             _Key("integer", _plain,    "entries in the ledger at that moment"),
    "verdict":               _Key("string",  _plain,    "what the check found"),
    "day":                   _Key("string",  _plain,    "the day reviewed, as YYYY-MM-DD in the zone of reviews"),
    "category":              _Key("string",  _plain,    "the category of events it is about"),
    "zone":                  _Key("string",  _plain,    "the time zone whose calendar day it is"),
    "number":                _Key("integer", _plain,    "the sign-off's number: 2 where events came after the first one"),
    "signing_key":           _Key("string",  _plain,    "id of the key that signs the log from now on"),
    "from_size":             _Key("integer", _plain,    "entries in the log when the key took over"),
    "month":                 _Key("string",  _plain,    "the month whose events were dropped, as YYYY-MM in UTC"),
    "process":               _Key("string",  _plain,    "which part of the portal"),
    "version":               _Key("string",  _plain,    "the portal's version"),
    "key_prefix":            _Key("string",  _plain,    "the API key's public beginning"),
    "source":                _Key("string",  _plain,    "application the API key belongs to"),
    "scopes":                _Key("list",    _plain,    "what the API key may do"),
    "expires_at":            _Key("string",  _plain,    "when the API key ends, as RFC 3339", "when the API key has an end"),
    "days":                  _Key("integer", _plain,    "over how many past days"),
    "rule":                  _Key("string",  _plain,    "the detection rule"),
    "rule_version":          _Key("integer", _plain,    "its version from now on"),
    "comment":               _Key("string",  _personal, "why, in the words of who did it", "when something was said"),
    "is_on":                 _Key("boolean", _plain,    "whether the rule is on"),
    "events_per_minute":     _Key("integer", _plain,    "how many events a minute the API key may send", "when the API key has a limit"),
}
# fmt: on

_KEY_NOTATION = re.compile(
    r"(?P<entry>(?P<name>[a-z_]+)(?::[a-z]+)?)"  # a key of the table above, maybe a variant of it
    r"(?P<conditional>\?)?"  # only when its last column says so
    r"(?:=(?P<examples>[a-z0-9_]+(?:\|[a-z0-9_]+)*)(?P<open>\|…)?)?"  # usual values; … for "and others"
)


def parse_keys(notation: str) -> tuple[ContextKey, ...]:
    """Read the last column of the action tables: keys with spaces between them, in reporting order.

    `attempts` should always be there; `user_id?` only on the condition that `CONTEXT_KEYS` gives;
    `scope=ip|user` has these usual values, `scope=ip|user|…` has others too; `reason:motive` is the
    key `reason` in the meaning of that variant. Raises ValueError for anything else.
    """
    keys = tuple(_parse_key(word) for word in notation.split())
    if len({key.name for key in keys}) < len(keys):
        raise ValueError(f"a context key is listed twice in {notation!r}")
    return keys


def _parse_key(word: str) -> ContextKey:
    match = _KEY_NOTATION.fullmatch(word)
    entry = match and CONTEXT_KEYS.get(match["entry"])
    if not match or not entry:
        raise ValueError(f"{word!r} is not a context key, or not written as one")
    if match["conditional"] and not entry.when:
        raise ValueError(f"{word!r}: CONTEXT_KEYS does not say when this key applies")
    return ContextKey(
        name=match["name"],
        meaning=entry.meaning,
        type=entry.type,
        conditional=entry.when if match["conditional"] else None,
        examples=tuple(match["examples"].split("|")) if match["examples"] else (),
        open=bool(match["open"]),
        sensitivity=entry.sensitivity,
    )


class Action(StrEnum):
    """What a line of the tables below becomes.

    The value, which is what evidence stores, is the member's name in lower case.
    """

    _value_: str
    category: Category
    operation: str
    phase: Phase
    outcome: Outcome
    label: str
    context_keys: tuple[ContextKey, ...]
    keys_by_name: Mapping[str, ContextKey]  # the same keys, for ingest, which looks each one up

    def __new__(cls, value: str, *line: Any) -> Self:
        self = str.__new__(cls, value)
        self._value_ = value
        self.category, self.operation, self.phase, self.outcome, self.label, keys = line
        self.context_keys = keys
        self.keys_by_name = {key.name: key for key in keys}
        return self

    @property
    def frameworks(self) -> tuple[Framework, ...]:
        """The frameworks that ask for this evidence: its category's."""
        return self.category.frameworks


def _line(
    category: Category, operation: str, phase: str, label: str, keys: str = ""
) -> tuple[object, ...]:
    """One line of an action table; a phase that implies no outcome is written "phase/outcome"."""
    stage, _, stated = phase.partition("/")
    outcome = Outcome(stated) if stated else _OUTCOME_OF[Phase(stage)]
    return auto(), category, operation, Phase(stage), outcome, label, parse_keys(keys)


_authn = partial(_line, Category.AUTHENTICATION)
_authz = partial(_line, Category.AUTHORIZATION)
_data = partial(_line, Category.DATA_ACCESS)
_admin = partial(_line, Category.ADMINISTRATIVE)
_provider = partial(_line, Category.PROVIDER)
_session = partial(_line, Category.SESSION)
_sync = partial(_line, Category.DATA_SYNC)
_limit = partial(_line, Category.RATE_LIMIT)
_portal = partial(_line, Category.PORTAL)


class AuditAction(Action):
    """What applications may report, section by section.

    Columns: operation (what is being tried), phase, label for reviewers, context keys as read by
    `parse_keys`. Names and values never change once evidence holds them; new lines may be added.
    """

    # fmt: off
    # Authentication · PCI-DSS
    USER_LOGIN_ATTEMPTED              = _authn("user_login",                      "attempted",     "Sign-in attempted",                     "email method=password|oauth|mfa")
    USER_LOGIN_FAILED                 = _authn("user_login",                      "failed",        "Sign-in failed",                        "reason=invalid_password|user_not_found|… attempts email")
    USER_LOGIN_SUCCESS                = _authn("user_login",                      "succeeded",     "Signed in",                             "method=password|oauth|mfa mfa remember_me")
    USER_LOGOUT_ATTEMPTED             = _authn("user_logout",                     "attempted",     "Sign-out attempted",                    "session_id")
    USER_LOGOUT                       = _authn("user_logout",                     "succeeded",     "Signed out",                            "session_id logout_method=explicit|timeout|revoked")
    USER_LOGOUT_FAILED                = _authn("user_logout",                     "failed",        "Sign-out failed",                       "reason=session_not_found|cleanup_error session_id")
    USER_REGISTRATION_ATTEMPTED       = _authn("user_registration",               "attempted",     "Registration attempted",                "email registration_method=email|oauth|invite")
    USER_REGISTRATION_FAILED          = _authn("user_registration",               "failed",        "Registration failed",                   "email reason=duplicate_email|weak_password|validation_error")
    USER_REGISTERED                   = _authn("user_registration",               "succeeded",     "User registered",                       "registration_method=email|oauth|invite email_verified")
    USER_PASSWORD_CHANGE_ATTEMPTED    = _authn("user_password_change",            "attempted",     "Change of password attempted",          "initiated_by=user|admin|system")
    USER_PASSWORD_CHANGE_FAILED       = _authn("user_password_change",            "failed",        "Change of password failed",             "reason=wrong_current_password|weak_new_password|… initiated_by")
    USER_PASSWORD_CHANGED             = _authn("user_password_change",            "succeeded",     "Password changed",                      "initiated_by=user|admin|system method:change=self_service|admin_reset|forced_reset")
    PASSWORD_RESET_REQUEST_ATTEMPTED  = _authn("password_reset_request",          "attempted",     "Request for password reset attempted",  "email")
    USER_PASSWORD_RESET_REQUESTED     = _authn("password_reset_request",          "succeeded",     "Password reset requested",              "method:reset=email_link|security_questions email")
    PASSWORD_RESET_CONFIRM_ATTEMPTED  = _authn("password_reset_confirm",          "attempted",     "Password reset attempted",              "token")
    # The next two are one failure under two names; either may arrive, the operation counts once.
    USER_PASSWORD_RESET_FAILED        = _authn("password_reset_confirm",          "failed",        "Password reset failed",                 "reason=invalid_token|expired_link|weak_password")
    PASSWORD_RESET_CONFIRM_FAILED     = _authn("password_reset_confirm",          "failed",        "Password reset failed at confirmation", "reason=invalid_token|expired_link|weak_password token")
    USER_PASSWORD_RESET_COMPLETED     = _authn("password_reset_confirm",          "succeeded",     "Password reset completed")
    AUTH_TOKEN_REFRESH_ATTEMPTED      = _authn("auth_token_refresh",              "attempted",     "Refresh of token attempted",            "user_id?")
    AUTH_TOKEN_REFRESH_FAILED         = _authn("auth_token_refresh",              "failed",        "Refresh of token failed",               "reason=token_expired|token_revoked|token_invalid|user_not_found user_id?")
    AUTH_TOKEN_REFRESHED              = _authn("auth_token_refresh",              "succeeded",     "Token refreshed",                       "session_id")
    TOKEN_REJECTED_VERSION_MISMATCH   = _authn("token_rejected_version_mismatch", "event/failure", "Outdated token rejected",               "token_version required_version rejection_reason=global_rotation|user_rotation user_id?")
    GLOBAL_TOKEN_ROTATION_ATTEMPTED   = _authn("global_token_rotation",           "attempted",     "Rotation of all tokens attempted",      "triggered_by reason:motive=security_breach|scheduled|manual")
    GLOBAL_TOKEN_ROTATION_SUCCEEDED   = _authn("global_token_rotation",           "succeeded",     "All tokens rotated",                    "triggered_by previous_version new_version reason:motive grace_period_seconds")
    GLOBAL_TOKEN_ROTATION_FAILED      = _authn("global_token_rotation",           "failed",        "Rotation of all tokens failed",         "triggered_by reason:motive failure_reason=config_not_found|…")
    USER_TOKEN_ROTATION_ATTEMPTED     = _authn("user_token_rotation",             "attempted",     "Rotation of a user's tokens attempted", "user_id triggered_by reason:motive=password_change|suspicious_activity|manual")
    USER_TOKEN_ROTATION_SUCCEEDED     = _authn("user_token_rotation",             "succeeded",     "User's tokens rotated",                 "user_id triggered_by previous_version new_version reason:motive")
    USER_TOKEN_ROTATION_FAILED        = _authn("user_token_rotation",             "failed",        "Rotation of a user's tokens failed",    "user_id triggered_by reason:motive failure_reason=user_not_found|…")
    USER_EMAIL_VERIFICATION_ATTEMPTED = _authn("user_email_verification",         "attempted",     "Verification of e-mail attempted",      "email")
    USER_EMAIL_VERIFICATION_FAILED    = _authn("user_email_verification",         "failed",        "Verification of e-mail failed",         "reason=invalid_token|expired_token|already_verified")
    USER_EMAIL_VERIFIED               = _authn("user_email_verification",         "succeeded",     "E-mail address verified")
    USER_MFA_ENABLE_ATTEMPTED         = _authn("user_mfa_enable",                 "attempted",     "MFA enrolment attempted",               "mfa_method=totp|sms|email")
    USER_MFA_ENABLE_FAILED            = _authn("user_mfa_enable",                 "failed",        "MFA enrolment failed",                  "reason=invalid_code|setup_timeout|already_enabled mfa_method")
    USER_MFA_ENABLED                  = _authn("user_mfa_enable",                 "succeeded",     "MFA enabled",                           "mfa_method=totp|sms|email")
    USER_MFA_DISABLE_ATTEMPTED        = _authn("user_mfa_disable",                "attempted",     "MFA removal attempted",                 "initiated_by=user|admin")
    USER_MFA_DISABLE_FAILED           = _authn("user_mfa_disable",                "failed",        "MFA removal failed",                    "reason=wrong_password|security_check_failed initiated_by")
    USER_MFA_DISABLED                 = _authn("user_mfa_disable",                "succeeded",     "MFA disabled",                          "initiated_by=user|admin reason:motive=lost_device|user_request|…")

    # Authorization · SOC 2
    ACCESS_ATTEMPTED            = _authz("access",            "attempted", "Access attempted",                "resource action=read|write|delete")
    ACCESS_DENIED               = _authz("access",            "denied",    "Access denied",                   "resource reason=no_permission|suspended_account|… action")
    ACCESS_GRANTED              = _authz("access",            "granted",   "Access granted",                  "resource permission_level=read|write|admin action")
    PERMISSION_CHANGE_ATTEMPTED = _authz("permission_change", "attempted", "Change of permissions attempted", "changed_by target_user_id requested_permissions")
    PERMISSION_CHANGE_FAILED    = _authz("permission_change", "failed",    "Change of permissions failed",    "reason=insufficient_privileges|invalid_permission changed_by")
    PERMISSION_CHANGED          = _authz("permission_change", "succeeded", "Permissions changed",             "changed_by old_permissions new_permissions")
    ROLE_ASSIGNMENT_ATTEMPTED   = _authz("role_assignment",   "attempted", "Assignment of role attempted",    "role_name assigned_by target_user_id")
    ROLE_ASSIGNMENT_FAILED      = _authz("role_assignment",   "failed",    "Assignment of role failed",       "reason=invalid_role|no_permission|already_assigned role_name")
    ROLE_ASSIGNED               = _authz("role_assignment",   "succeeded", "Role assigned",                   "role_name assigned_by")
    ROLE_REVOCATION_ATTEMPTED   = _authz("role_revocation",   "attempted", "Revocation of role attempted",    "role_name revoked_by target_user_id")
    ROLE_REVOCATION_FAILED      = _authz("role_revocation",   "failed",    "Revocation of role failed",       "reason=last_admin_role|no_permission role_name")
    ROLE_REVOKED                = _authz("role_revocation",   "succeeded", "Role revoked",                    "role_name revoked_by reason:motive")

    # Data access · GDPR
    DATA_VIEWED                 = _data("data_view",         "event/success", "Data viewed",                "data_type=profile|financial|… fields_accessed")
    DATA_EXPORT_ATTEMPTED       = _data("data_export",       "attempted",     "Export of data attempted",   "export_format=json|csv|pdf data_scope")
    DATA_EXPORT_FAILED          = _data("data_export",       "failed",        "Export of data failed",      "reason=too_large|timeout|permission_denied export_format")
    DATA_EXPORTED               = _data("data_export",       "succeeded",     "Data exported",              "export_format=json|csv|pdf data_scope export_reason=user_request|backup|… file_size")
    DATA_DELETION_ATTEMPTED     = _data("data_deletion",     "attempted",     "Deletion of data attempted", "deletion_type=soft|hard|anonymization data_scope requested_by")
    DATA_DELETION_FAILED        = _data("data_deletion",     "failed",        "Deletion of data failed",    "reason=in_use|constraint_violation|insufficient_permission data_scope")
    DATA_DELETED                = _data("data_deletion",     "succeeded",     "Data deleted",               "deletion_type=soft|hard|anonymization data_scope requested_by")
    DATA_MODIFICATION_ATTEMPTED = _data("data_modification", "attempted",     "Change of data attempted",   "fields_to_change change_reason")
    DATA_MODIFICATION_FAILED    = _data("data_modification", "failed",        "Change of data failed",      "reason=validation_error|constraint_violation|permission_denied fields_attempted")
    DATA_MODIFIED               = _data("data_modification", "succeeded",     "Data changed",               "fields_changed change_reason old_values? new_values")

    # Administration · SOC 2
    ADMIN_USER_CREATION_ATTEMPTED   = _admin("admin_user_creation",   "attempted",     "Creation of user account attempted",   "created_by email initial_role")
    ADMIN_USER_CREATION_FAILED      = _admin("admin_user_creation",   "failed",        "Creation of user account failed",      "reason=duplicate_email|validation_error|permission_denied created_by")
    ADMIN_USER_CREATED              = _admin("admin_user_creation",   "succeeded",     "User account created",                 "created_by initial_role user_email")
    ADMIN_USER_DELETION_ATTEMPTED   = _admin("admin_user_deletion",   "attempted",     "Deletion of user account attempted",   "deleted_by target_user_id reason:motive")
    ADMIN_USER_DELETION_FAILED      = _admin("admin_user_deletion",   "failed",        "Deletion of user account failed",      "reason=in_use|constraint_violation|permission_denied deleted_by")
    ADMIN_USER_DELETED              = _admin("admin_user_deletion",   "succeeded",     "User account deleted",                 "deleted_by reason:motive user_email")
    ADMIN_USER_SUSPENSION_ATTEMPTED = _admin("admin_user_suspension", "attempted",     "Suspension of user account attempted", "suspended_by target_user_id reason:motive duration")
    ADMIN_USER_SUSPENSION_FAILED    = _admin("admin_user_suspension", "failed",        "Suspension of user account failed",    "reason=already_suspended|permission_denied|cannot_suspend_admin suspended_by")
    ADMIN_USER_SUSPENDED            = _admin("admin_user_suspension", "succeeded",     "User account suspended",               "suspended_by reason:motive duration?")
    ADMIN_CONFIG_CHANGE_ATTEMPTED   = _admin("admin_config_change",   "attempted",     "Change of configuration attempted",    "config_key requested_value changed_by")
    ADMIN_CONFIG_CHANGE_FAILED      = _admin("admin_config_change",   "failed",        "Change of configuration failed",       "reason=invalid_value|locked_config|permission_denied config_key changed_by")
    ADMIN_CONFIG_CHANGED            = _admin("admin_config_change",   "succeeded",     "Configuration changed",                "config_key old_value new_value changed_by")
    ADMIN_BACKUP_CREATED            = _admin("admin_backup",          "event/success", "Backup created",                       "backup_type=full|incremental|differential backup_location backup_size initiated_by=system|admin")

    # Providers · PCI-DSS
    PROVIDER_CONNECTION_ATTEMPTED    = _provider("provider_connection",       "attempted",     "Connection to provider attempted",    "provider_name=schwab|chase|… connection_method=oauth|api_key|…")
    PROVIDER_CONNECTION_FAILED       = _provider("provider_connection",       "failed",        "Connection to provider failed",       "provider_name reason=oauth_error|api_error|invalid_credentials error_code")
    PROVIDER_CONNECTED               = _provider("provider_connection",       "succeeded",     "Provider connected",                  "provider_name=schwab|chase|… connection_method=oauth|api_key|…")
    PROVIDER_DISCONNECTION_ATTEMPTED = _provider("provider_disconnection",    "attempted",     "Disconnection of provider attempted", "provider_name disconnection_reason")
    PROVIDER_DISCONNECTION_FAILED    = _provider("provider_disconnection",    "failed",        "Disconnection of provider failed",    "provider_name reason=api_error|pending_transactions")
    PROVIDER_DISCONNECTED            = _provider("provider_disconnection",    "succeeded",     "Provider disconnected",               "provider_name disconnection_reason=user_request|error|…")
    PROVIDER_TOKEN_REFRESH_ATTEMPTED = _provider("provider_token_refresh",    "attempted",     "Refresh of provider token attempted", "provider_name token_type=access|refresh")
    PROVIDER_TOKEN_REFRESH_FAILED    = _provider("provider_token_refresh",    "failed",        "Refresh of provider token failed",    "provider_name error_code error_message")
    PROVIDER_TOKEN_REFRESHED         = _provider("provider_token_refresh",    "succeeded",     "Provider token refreshed",            "provider_name token_type=access|refresh")
    PROVIDER_DATA_SYNC_ATTEMPTED     = _provider("provider_data_sync",        "attempted",     "Sync of provider data attempted",     "provider_name data_types=accounts|transactions")
    PROVIDER_DATA_SYNC_FAILED        = _provider("provider_data_sync",        "failed",        "Sync of provider data failed",        "provider_name reason=api_error|network_error|rate_limit error_code")
    PROVIDER_DATA_SYNCED             = _provider("provider_data_sync",        "succeeded",     "Provider data synced",                "provider_name data_types=accounts|transactions records_synced")
    PROVIDER_ACCOUNT_VIEWED          = _provider("provider_account_view",     "event/success", "Provider account viewed",             "provider_name account_type=checking|credit_card|… account_mask")
    PROVIDER_TRANSACTION_VIEWED      = _provider("provider_transaction_view", "event/success", "Provider transactions viewed",        "provider_name account_mask transaction_count date_range")

    # Sessions · Security
    SESSION_REVOCATION_ATTEMPTED      = _session("session_revocation",          "attempted",           "Revocation of session attempted",      "session_id revoked_by=user|admin|system reason:motive")
    SESSION_REVOKED                   = _session("session_revocation",          "succeeded",           "Session revoked",                      "session_id revoked_by=user|admin|system reason:motive=logout|timeout|security|admin_action")
    SESSION_REVOCATION_FAILED         = _session("session_revocation",          "failed",              "Revocation of session failed",         "session_id reason:motive failure_reason=not_found|not_owner|already_revoked")
    SESSION_EVICTED                   = _session("session_eviction",            "event/success",       "Session evicted",                      "session_id eviction_reason=limit_exceeded|oldest_session active_sessions_count")
    ALL_SESSIONS_REVOCATION_ATTEMPTED = _session("all_sessions_revocation",     "attempted",           "Revocation of all sessions attempted", "revoked_by=user|admin|system reason:motive=password_change|security_breach|user_request except_session_id?")
    ALL_SESSIONS_REVOKED              = _session("all_sessions_revocation",     "succeeded",           "All sessions revoked",                 "revoked_by=user|admin|system reason:motive=password_change|security_breach|user_request sessions_revoked_count")
    ALL_SESSIONS_REVOCATION_FAILED    = _session("all_sessions_revocation",     "failed",              "Revocation of all sessions failed",    "reason:motive failure_reason")
    SESSION_PROVIDER_ACCESS           = _session("session_provider_access",     "event/success",       "Provider accessed in session",         "session_id provider_name access_type=read|sync|update")
    SUSPICIOUS_SESSION_ACTIVITY       = _session("suspicious_session_activity", "event/informational", "Suspicious session activity",          "session_id activity_type risk_score detection_reason")

    # Data sync · PCI-DSS
    ACCOUNT_SYNC_ATTEMPTED     = _sync("account_sync",     "attempted", "Sync of accounts attempted",     "connection_id provider_name")
    ACCOUNT_SYNC_SUCCEEDED     = _sync("account_sync",     "succeeded", "Accounts synced",                "connection_id provider_name account_count")
    ACCOUNT_SYNC_FAILED        = _sync("account_sync",     "failed",    "Sync of accounts failed",        "connection_id provider_name reason=api_error|auth_failed|network_error")
    TRANSACTION_SYNC_ATTEMPTED = _sync("transaction_sync", "attempted", "Sync of transactions attempted", "connection_id provider_name account_id?")
    TRANSACTION_SYNC_SUCCEEDED = _sync("transaction_sync", "succeeded", "Transactions synced",            "connection_id provider_name account_id? transaction_count")
    TRANSACTION_SYNC_FAILED    = _sync("transaction_sync", "failed",    "Sync of transactions failed",    "connection_id provider_name account_id? reason=api_error|date_range_invalid|network_error")
    HOLDINGS_SYNC_ATTEMPTED    = _sync("holdings_sync",    "attempted", "Sync of holdings attempted",     "account_id provider_name")
    HOLDINGS_SYNC_SUCCEEDED    = _sync("holdings_sync",    "succeeded", "Holdings synced",                "account_id provider_name holding_count")
    HOLDINGS_SYNC_FAILED       = _sync("holdings_sync",    "failed",    "Sync of holdings failed",        "account_id provider_name reason=api_error|holdings_not_supported|network_error")
    FILE_IMPORT_ATTEMPTED      = _sync("file_import",      "attempted", "Import of file attempted",       "provider_slug file_name file_format=qfx|ofx|csv")
    FILE_IMPORT_SUCCEEDED      = _sync("file_import",      "succeeded", "File imported",                  "provider_slug file_name file_format account_count transaction_count")
    FILE_IMPORT_FAILED         = _sync("file_import",      "failed",    "Import of file failed",          "provider_slug file_name file_format reason=parse_error|unsupported_format|invalid_structure")

    # Rate limits · Security
    RATE_LIMIT_CHECK_ATTEMPTED = _limit("rate_limit_check", "attempted", "Rate limit check attempted",    "endpoint identifier scope=ip|user|user_provider|global cost")
    RATE_LIMIT_CHECK_ALLOWED   = _limit("rate_limit_check", "allowed",   "Request allowed by rate limit", "endpoint identifier scope remaining_tokens execution_time_ms")
    RATE_LIMIT_CHECK_DENIED    = _limit("rate_limit_check", "denied",    "Request refused by rate limit", "endpoint identifier scope=ip|user|user_provider|global retry_after limit remaining")
    # fmt: on


class PortalAction(Action):
    """What people do inside the portal, where no `AuditAction` says it. No API key can write these."""

    # fmt: off
    PORTAL_EVENTS_SEARCHED            = _portal("portal_event_search",        "event/success", "Events searched",            "filter count")
    PORTAL_EVENT_VIEWED               = _portal("portal_event_view",          "event/success", "Event viewed",               "event_id")
    PORTAL_EXPORT_ATTEMPTED           = _portal("portal_export",              "attempted",     "Event export attempted",     "format=csv|jsonl|xlsx|… filter")
    PORTAL_EXPORT_FAILED              = _portal("portal_export",              "failed",        "Event export failed",        "format=csv|jsonl|xlsx|… filter reason=too_large|interrupted|…")
    PORTAL_EVENTS_EXPORTED            = _portal("portal_export",              "succeeded",     "Events exported",            "format=csv|jsonl|xlsx|… filter count size")
    # A check that finds damage has worked; it is a failure all the same, so that reviewers see it.
    PORTAL_LEDGER_VERIFIED            = _portal("portal_ledger_verification", "event/success", "Ledger verified",            "tree_size verdict=consistent")
    PORTAL_LEDGER_VERIFICATION_FAILED = _portal("portal_ledger_verification", "event/failure", "Ledger verification failed", "tree_size verdict=inconsistent|incomplete|…")
    PORTAL_DAY_SIGNED_OFF             = _portal("portal_day_sign_off",        "event/success", "Day signed off",             "day category zone number count tree_size")
    PORTAL_DAY_COUNTERSIGNED          = _portal("portal_day_second_signature", "event/success", "Day signed by a second person", "day category zone number count tree_size")
    PORTAL_ALERT_VIEWED               = _portal("portal_alert_view",          "event/success", "Alert viewed",               "rule")
    PORTAL_ALERT_TAKEN                = _portal("portal_alert_taking",        "event/success", "Alert taken into review",    "rule status=in_review")
    PORTAL_ALERT_PUT_BACK             = _portal("portal_alert_return",        "event/success", "Alert put back",             "rule status=open")
    PORTAL_ALERT_ASSIGNED             = _portal("portal_alert_assignment",    "event/success", "Alert assigned",             "rule assignee")
    PORTAL_ALERT_COMMENTED            = _portal("portal_alert_comment",       "event/success", "Comment on an alert",        "rule comment")
    PORTAL_ALERT_DECIDED              = _portal("portal_alert_decision",      "event/success", "Alert decided",              "rule status=benign|exception comment? exception?")
    PORTAL_ALERT_REOPENED             = _portal("portal_alert_reopening",     "event/success", "Alert reopened",             "rule status=open comment")
    PORTAL_EXCEPTION_VIEWED           = _portal("portal_exception_view",      "event/success", "Exception viewed",           "exception")
    PORTAL_EXCEPTION_OPENED           = _portal("portal_exception_opening",   "event/success", "Exception opened",           "exception severity=low|medium|high assignee due count comment")
    PORTAL_EXCEPTION_EXTENDED         = _portal("portal_exception_extension", "event/success", "Added to an exception",      "exception count")
    PORTAL_EXCEPTION_COMMENTED        = _portal("portal_exception_comment",   "event/success", "Comment on an exception",    "exception comment")
    PORTAL_EXCEPTION_CHANGED          = _portal("portal_exception_change",    "event/success", "Exception changed",          "exception assignee? severity? due? comment?")
    PORTAL_EXCEPTION_CLOSE_ASKED      = _portal("portal_exception_closing_request", "event/success", "Closing of an exception asked for", "exception disposition=benign|event|incident|rule_change comment")
    PORTAL_EXCEPTION_CLOSED           = _portal("portal_exception_closing",   "event/success", "Exception closed",           "exception disposition=benign|event|incident|rule_change comment")
    PORTAL_EXCEPTION_REOPENED         = _portal("portal_exception_reopening", "event/success", "Exception reopened",         "exception comment")
    PORTAL_EXCEPTION_CORRECTED        = _portal("portal_exception_correction", "event/success", "Words on an exception corrected", "exception step comment")
    PORTAL_EVENTS_LOOKED_AT           = _portal("portal_events_look",         "event/success", "Events looked at",           "event_ids count")
    PORTAL_EVENTS_COMMENTED           = _portal("portal_events_comment",      "event/success", "Comment on events",          "event_ids count comment")
    PORTAL_SUBJECT_ERASED             = _portal("portal_subject_erasure",     "event/success", "Person erased",              "count reason:motive=erasure_request|retention_over|…")
    PORTAL_EVENTS_PRUNED              = _portal("portal_event_pruning",       "event/success", "Month of events dropped",    "month count reason:motive=retention_over|…")
    PORTAL_SIGNING_KEY_ROTATED        = _portal("portal_signing_key_rotation", "event/success", "Signing key rotated",       "signing_key from_size")
    PORTAL_LOG_STARTED                = _portal("portal_log_start",           "event/success", "Audit log started",          "process=web|worker|… version")
    PORTAL_LOG_STOPPED                = _portal("portal_log_stop",            "event/success", "Audit log stopped",          "process=web|worker|… version")
    PORTAL_API_KEY_ISSUED             = _portal("portal_api_key_issue",       "event/success", "API key issued",             "key_prefix source scopes=write|read|export|ledger expires_at? events_per_minute?")
    PORTAL_API_KEY_REVOKED            = _portal("portal_api_key_revocation",  "event/success", "API key revoked",            "key_prefix source reason:motive=replaced|leaked|…")
    PORTAL_RULE_CHANGED               = _portal("portal_rule_change",         "event/success", "Detection rule changed",     "rule rule_version is_on comment")
    PORTAL_RULE_TRIED                 = _portal("portal_rule_trial",          "event/success", "Detection rule tried",       "rule days count")
    # fmt: on


ACTIONS: dict[str, AuditAction | PortalAction] = {
    member.value: member for member in (*AuditAction, *PortalAction)
}

OPERATIONS: dict[str, tuple[AuditAction | PortalAction, ...]] = {
    operation: tuple(member for member in ACTIONS.values() if member.operation == operation)
    for operation in dict.fromkeys(member.operation for member in ACTIONS.values())
}


class Unknown(str):
    """Stands where the catalogue has nothing to say, with the text that is said instead."""

    __slots__ = ()

    @property
    def value(self) -> str:
        return str(self)

    @property
    def label(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """Stands for the action that a stored event names and no catalogue knows.

    Ingest lets none in, so such a row was changed past the portal; its page has to say so.
    """

    value: str
    operation: str = "unknown"
    frameworks: tuple[Framework, ...] = ()
    context_keys: tuple[ContextKey, ...] = ()

    @property
    def label(self) -> str:
        return f"Unknown action “{self.value}”"

    @property
    def category(self) -> Unknown:
        return Unknown("not in the catalogue")

    @property
    def phase(self) -> Unknown:
        return Unknown("unknown")

    @property
    def keys_by_name(self) -> Mapping[str, ContextKey]:
        return {}


def action(value: str) -> AuditAction | PortalAction:
    """Find the action that `value` names; an unknown one raises ValueError with the closest names."""
    if value in ACTIONS:
        return ACTIONS[value]
    close = get_close_matches(value, ACTIONS)
    hint = f"did you mean {' or '.join(close)}?" if close else "no action has a similar name"
    raise ValueError(f"unknown action {value[:64]!r}: {hint}")


def action_choices() -> list[tuple[str, list[tuple[str, str]]]]:
    """Every action under its category's label, as Django's grouped `choices`.

    A model field takes the function itself, so that a new action makes no migration.
    """
    groups: dict[str, list[tuple[str, str]]] = {category.label: [] for category in Category}
    for member in ACTIONS.values():
        groups[member.category.label].append((member.value, member.label))
    return list(groups.items())
