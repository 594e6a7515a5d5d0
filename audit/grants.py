"""What each database role may do: the owner migrates, web and worker get what stands here.

Applied after every `migrate`, as the owner. The web role writes evidence and runs the admin; the
worker takes what is pending. Neither owns a table, so neither can drop the guard.
"""

from __future__ import annotations

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

EVIDENCE = "audit_auditevent"

APPEND_ONLY = [
    EVIDENCE, "audit_leaf", "audit_checkpoint", "audit_cosignature", "audit_logkey",
    "audit_verification", "audit_pruning", "audit_ruleversion", "audit_alertevent",
    "audit_signoff", "audit_secondsignature",
    "audit_alertstep", "audit_findingstep", "audit_findinglink", "audit_mark",
]  # fmt: skip
"""The tables on which the guard stands; `audit_tile`, `audit_alert` and `audit_finding` have their
own."""

# UPDATE, DELETE and TRUNCATE are granted on evidence only so that it is the guard that answers,
# in words, rather than a bare 'permission denied'; the guard refuses them to every role, always.
GUARDED = "SELECT, UPDATE, DELETE, TRUNCATE"

READ_ONLY = {"web": "SELECT", "worker": "SELECT"}
WORKER_APPENDS = {"web": "SELECT", "worker": "SELECT, INSERT"}
WEB_APPENDS = {"web": "SELECT, INSERT", "worker": "SELECT"}
WORKER_KEEPS = {"web": "SELECT", "worker": "SELECT, INSERT, UPDATE"}
WORKER_ALONE = {"web": "", "worker": "SELECT, INSERT, UPDATE, DELETE"}

GRANTS = {
    EVIDENCE: {"web": f"INSERT, {GUARDED}", "worker": GUARDED},
    "audit_pending": {"web": "SELECT, INSERT", "worker": "SELECT, DELETE"},
    "audit_leaf": WORKER_APPENDS,
    "audit_checkpoint": WORKER_APPENDS,
    "audit_cosignature": WORKER_APPENDS,
    "audit_logkey": WORKER_APPENDS,
    "audit_verification": WORKER_APPENDS,
    "audit_tile": WORKER_KEEPS,
    "audit_publication": WORKER_KEEPS,
    "audit_heartbeat": WORKER_KEEPS,
    "audit_hourlycount": WORKER_KEEPS,
    "audit_dailycount": WORKER_KEEPS,
    "audit_weeklycount": WORKER_KEEPS,
    "audit_follower": WORKER_KEEPS,
    "audit_searchtext": {"web": "SELECT", "worker": "SELECT, INSERT, UPDATE, DELETE"},
    "audit_pair": WORKER_APPENDS,
    "audit_unpaired": {"web": "SELECT", "worker": "SELECT, INSERT, DELETE"},
    "audit_ruleversion": WEB_APPENDS,
    "audit_alert": WORKER_KEEPS,
    "audit_alertevent": WORKER_APPENDS,
    "audit_detectionstate": {"web": "SELECT", "worker": "SELECT, INSERT, UPDATE, DELETE"},
    # Only their steps, by triggers, change alerts and findings.
    "audit_alertstep": WEB_APPENDS,
    "audit_finding": WEB_APPENDS,
    "audit_findingstep": WEB_APPENDS,
    "audit_findinglink": WEB_APPENDS,
    "audit_mark": WEB_APPENDS,
    "audit_pruning": READ_ONLY,
    "audit_signoff": WEB_APPENDS,
    "audit_secondsignature": WEB_APPENDS,
    "audit_jobrun": {"web": "SELECT", "worker": "SELECT, INSERT, UPDATE, DELETE"},
    "audit_mail": {"web": "SELECT", "worker": "SELECT, INSERT, UPDATE, DELETE"},
    "audit_alertnotice": WORKER_APPENDS,
    "procrastinate_jobs": WORKER_ALONE,
    "procrastinate_events": WORKER_ALONE,
    "procrastinate_workers": WORKER_ALONE,
    "procrastinate_periodic_defers": WORKER_ALONE,
    "audit_log": READ_ONLY,
    "django_migrations": READ_ONLY,
}
EVERY_OTHER_TABLE = {"web": "SELECT, INSERT, UPDATE, DELETE", "worker": "SELECT"}

_TABLES = """
    SELECT table_.oid::regclass::text, coalesce(parent.relname, table_.relname)
    FROM pg_class table_
    LEFT JOIN pg_inherits ON inhrelid = table_.oid
    LEFT JOIN pg_class parent ON parent.oid = inhparent
    WHERE table_.relkind IN ('r', 'p') AND table_.relnamespace = 'public'::regnamespace
"""

_SEQUENCES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'S' AND relname LIKE 'procrastinate%' AND relnamespace = 'public'::regnamespace
"""  # our own tables count by identity columns, for which INSERT is enough


def apply(connection: BaseDatabaseWrapper) -> None:
    """Give the web and worker roles exactly the rights that stand above, on every table.

    A role that is the owner itself (a deployment with one role) is passed over: the system check
    `audit.W001` speaks of that.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        owner = cursor.fetchone()[0]
        cursor.execute(_TABLES)
        tables = cursor.fetchall()
        cursor.execute(_SEQUENCES)
        sequences = [sequence for (sequence,) in cursor.fetchall()]
        for role, name in role_names().items():
            if name == owner:
                continue
            quoted = connection.ops.quote_name(name)
            cursor.execute(f"GRANT USAGE ON SCHEMA public TO {quoted}")
            for table, relation in tables:
                cursor.execute(f"REVOKE ALL ON {table} FROM {quoted}")
                if rights := GRANTS.get(relation, EVERY_OTHER_TABLE)[role]:
                    cursor.execute(f"GRANT {rights} ON {table} TO {quoted}")
            cursor.execute(f"GRANT EXECUTE ON FUNCTION audit_make_partition(date) TO {quoted}")
            for sequence in sequences if role == "worker" else ():
                cursor.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {quoted}")


def role_names() -> dict[str, str]:
    """The login names of the web and the worker role, from the settings."""
    return {
        "web": connections["default"].settings_dict["USER"],
        "worker": connections["worker"].settings_dict["USER"],
    }
