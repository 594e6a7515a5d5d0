"""The page of jobs: what the worker does by the clock, what came of it, and how its parts are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse

from audit import jobs, notices
from audit.admin.sources import length
from audit.ingest import now
from audit.ledger.state import SILENT, state
from audit.models import Heartbeat, JobRun, Mail

LATE = timedelta(minutes=5)
"""So long after it was due a job is begun, unless the worker does not run."""

RUNS = 20
"""How many of the last runs the page lists."""

PARTS = {
    "sealer": "Seals what is recorded",
    "publisher": "Brings checkpoints to witnesses and folders outside",
    "searcher": "Makes events findable by words",
    "pairer": "Joins attempts with their outcomes",
    "detector": "Judges events by the rules, and raises alerts",
    "scheduler": "Makes runs of what is due",
    "notices": "Mails alerts of high severity",
    "jobs": "Does the jobs, and sends mails",
}
"""What each part of the worker is for."""


def jobs_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """Each job with its last and next run, the mails that wait, and the parts of the worker."""
    if not request.user.has_perm("audit.view_auditevent"):
        raise PermissionDenied("Your role does not let you view the worker’s jobs.")
    at = now()
    tasks = [_job(task, at) for task in jobs.TASKS.values()]
    parts = [_part(beat, at) for beat in state(at).parts]
    mails = Mail.objects.filter(sent_at=None)
    failing = mails.exclude(error="").order_by("-tries", "id").first()
    context = site.each_context(request) | {
        "title": "Jobs",
        "zone": settings.AUDITPORTAL_REVIEW_ZONE,
        "jobs": tasks,
        "troubles": sum(each["outcome"] == "failure" for each in (*tasks, *parts))
        + (failing is not None),
        "parts": parts,
        "runs": [_run(run, at) for run in JobRun.objects.all()[:RUNS]],
        "waiting": mails.count(),
        "failing": failing,
        "sent": Mail.objects.filter(sent_at__gte=at - timedelta(days=1)).count(),
        "readers": len(notices.readers(using="default")),
    }
    return TemplateResponse(request, "audit/jobs.html", context)


def _job(task: jobs.Task, at: datetime) -> dict[str, Any]:
    """A job as a row: its newest run, and when it is due next."""
    run = JobRun.objects.filter(job=task.name).first()
    due = jobs.last_due(task.hour, at)
    found = _run(run, at) if run else {"outcome": "pending", "state": "never done yet"}
    if at - due > LATE and (run is None or run.due_at < due):
        found |= {"outcome": "failure", "state": "missed: no worker runs"}
    return found | {"task": task, "next": jobs.next_due(task.hour, at)}


def _run(run: JobRun, at: datetime) -> dict[str, Any]:
    """A run in words, how it ended, and how long it took."""
    outcome, words = _ending(run, at)
    took = length(run.finished_at - run.started_at) if run.finished_at and run.started_at else ""
    task = jobs.TASKS.get(run.job)
    return {
        "run": run,
        "title": task.title if task else run.job,
        "outcome": outcome,
        "state": words,
        "took": "under a second" if took == "0 s" else took,
    }


def _ending(run: JobRun, at: datetime) -> tuple[str, str]:
    """The outcome as whose sign a run is shown, and the words for it."""
    if run.finished_at:
        return "success", "done"
    if run.error and run.try_at:
        return (
            "failure",
            f"failed; it is tried again in {length(max(run.try_at - at, timedelta()))}",
        )
    if run.error:
        return "failure", "failed"
    if run.started_at:
        return "informational", f"is being done, for {length(at - run.started_at)}"
    return "pending", "waits for a worker"


def _part(beat: Heartbeat, at: datetime) -> dict[str, Any]:
    """A part of the worker: whether it was heard of lately, and what it complains of."""
    pause = SILENT + timedelta(seconds=settings.LEDGER_PUBLISH_SECONDS)
    is_silent = at - beat.at > pause
    return {
        "beat": beat,
        "what": PARTS.get(beat.part, ""),
        "ago": length(at - beat.at),
        "outcome": "failure" if is_silent or beat.error else "success",
        "state": "cannot go on" if beat.error else "silent" if is_silent else "works",
    }
