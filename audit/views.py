"""Pages outside the admin and the API: whether the portal lives, and whether it can serve."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as AnyDatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from audit.ingest import origin


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers at all; asks nothing of the database."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when events can be taken: the database answers, is migrated, and holds this log."""
    problem = _why_not_ready()
    return HttpResponse(
        f"{problem or 'ready'}\n", content_type="text/plain", status=503 if problem else 200
    )


def _why_not_ready() -> str:
    try:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return "the database is not migrated"
        origin()
    except AnyDatabaseError:
        return "the database does not answer"
    except ImproperlyConfigured as error:
        return str(error)
    return ""
