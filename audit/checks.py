"""System checks of what a deployment can get wrong; run by `migrate` and `check --database`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from audit import grants
from audit.models import Log

PRINTING = "django.core.mail.backends.console.EmailBackend"
"""What takes mails where no EMAIL_URL is set."""

_KIND = 2 | 8 | 16 | 32
"""pg_trigger.tgtype of the guard: BEFORE, DELETE, UPDATE, TRUNCATE, and not for each row."""

_UNGUARDED = """
    SELECT oid::regclass::text FROM pg_class
    WHERE (oid = ANY (%(tables)s::regclass[]) OR oid IN (
        SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY (%(tables)s::regclass[])))
      AND NOT EXISTS (SELECT FROM pg_trigger
                      WHERE tgrelid = pg_class.oid AND tgname = 'append_only' AND tgenabled = 'A'
                        AND tgfoid = to_regproc('audit_refuse_change')
                        AND tgtype = %(kind)s)
"""


@register(Tags.database)
def check_evidence(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The guard stands on every table of evidence, web does not own it, the log has its name."""
    messages: list[CheckMessage] = []
    for alias in databases or []:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [grants.EVIDENCE])
            if cursor.fetchone()[0] is None:
                continue
            cursor.execute(_UNGUARDED, {"tables": grants.APPEND_ONLY, "kind": _KIND})
            messages += [_unguarded(table) for (table,) in cursor.fetchall()]
            cursor.execute("SELECT tableowner FROM pg_tables WHERE tablename = %s", ["audit_log"])
            if cursor.fetchone()[0] == grants.role_names()["web"]:
                messages.append(_one_role())
        messages += _check_origin(alias)
    return messages


def _check_origin(alias: str) -> list[CheckMessage]:
    stored = Log.objects.using(alias).values_list("origin", flat=True).first()
    if stored in (None, settings.AUDITPORTAL_ORIGIN):
        return []
    return [
        Error(
            f"The database holds the log {stored!r}, not {settings.AUDITPORTAL_ORIGIN!r}.",
            hint="A log keeps its name for good: set AUDITPORTAL_ORIGIN to it.",
            id="audit.E002",
        )
    ]


def _unguarded(table: str) -> CheckMessage:
    return Error(
        f"The table {table} has no guard: its events could be changed.",
        hint=f"As the owner: SELECT audit_guard('{table}')",
        id="audit.E001",
    )


def _one_role() -> CheckMessage:
    return Warning(
        "The web role owns the evidence, so it could drop the guard.",
        hint="Give DATABASE_URL, DATABASE_MIGRATION_URL and DATABASE_WORKER_URL a role each.",
        id="audit.W001",
    )


@register(deploy=True)
def check_mail(**kwargs: Any) -> list[CheckMessage]:
    """Digests and alerts of high severity reach somebody."""
    if settings.EMAIL_BACKEND != PRINTING:
        return []
    return [
        Warning(
            "Mails are only printed by the worker: no digest and no alert reaches anybody.",
            hint="Set EMAIL_URL to the mail server, such as smtp+tls://user:password@host:587.",
            id="audit.W002",
        )
    ]
