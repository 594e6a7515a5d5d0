"""The tables. Nothing here knows a workflow.

That evidence cannot change is held by the database itself: see the guard in the migrations, and
`audit.grants` for what each database role may do.
"""

from audit.models.access import ApiKey, Refusal, Scope, Source, Throttle, default_scopes
from audit.models.derived import Follower, Pair, SearchText, Unpaired
from audit.models.detection import (
    Alert,
    AlertEvent,
    AlertStatus,
    DetectionState,
    RuleVersion,
    Severity,
)
from audit.models.evidence import ENTRY_FIELDS, AuditEvent, Log, Pending
from audit.models.jobs import AlertNotice, JobRun, Mail
from audit.models.ledger import (
    Checkpoint,
    Cosignature,
    DailyCount,
    Heartbeat,
    HourlyCount,
    Leaf,
    LogKey,
    Pruning,
    Publication,
    Tile,
    Verification,
    WeeklyCount,
)
from audit.models.review import (
    STATE,
    AlertStep,
    Disposition,
    Finding,
    FindingLink,
    FindingStep,
    Mark,
)
from audit.models.signoff import SecondSignature, SignOff
from audit.models.views import MAX_QUERY, SavedView

__all__ = [
    "ENTRY_FIELDS", "MAX_QUERY", "STATE", "Alert", "AlertEvent", "AlertNotice", "AlertStatus",
    "AlertStep", "ApiKey", "AuditEvent", "Checkpoint", "Cosignature", "DailyCount",
    "DetectionState", "Disposition", "Finding", "FindingLink", "FindingStep", "Follower",
    "Heartbeat", "HourlyCount", "JobRun", "Leaf", "Log", "LogKey", "Mail", "Mark", "Pair",
    "Pending", "Pruning", "Publication", "Refusal", "RuleVersion", "SavedView", "Scope",
    "SearchText", "SecondSignature", "Severity", "SignOff", "Source", "Throttle", "Tile",
    "Unpaired", "Verification", "WeeklyCount", "default_scopes",
]  # fmt: skip
