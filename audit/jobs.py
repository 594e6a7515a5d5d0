"""The portal's jobs: what the worker does once a day, on procrastinate, each time exactly once.

When a job was due last follows from its hour alone, so every worker comes to the same answer, and
`schedule` makes that run unless it, or a later one, was made already. So what was missed while no
worker ran is caught up once; two workers make no run twice, nor does a clock that was set back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from smtplib import SMTPException
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction
from django.db.models import Max, Q
from procrastinate import JobContext
from procrastinate.app import WorkerOptions
from procrastinate.contrib.django import app, connector_params
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import JobAborted
from procrastinate.psycopg_connector import PsycopgConnector

from audit import notices, partitions
from audit.enums import PortalAction
from audit.ledger.verification.run import Result, verify
from audit.models import JobRun, Mail
from audit.recorder import audit

USING = "worker"

KEPT = timedelta(days=90)
"""How long runs and mails are kept."""

KEPT_HOURS = 7 * 24
"""How long procrastinate keeps jobs that are over."""

STALLED = timedelta(seconds=30)
"""After so long without a sign of life of its worker, a job that is being done is done again."""

ENDING = 2.0
"""Seconds that a job may go on when the worker is stopped; then it is told to stop, too."""

BEAT = 5.0
"""Seconds between two signs of life."""

BACKOFF = notices.Backoff(most=8)

IsStopped = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Task:
    """What is done once a day at an hour of the review's time zone.

    `work` gets the run and a question to ask now and then, whether it is to stop; it returns what
    came of it in one sentence.
    """

    name: str
    title: str
    words: str
    hour: int
    work: Callable[[JobRun, IsStopped], str]


# --- what is done ------------------------------------------------------------------------------


def make_partitions(run: JobRun, is_stopped: IsStopped) -> str:
    """Have the months ahead in which events will be stored."""
    partitions.ensure_ahead(connections[USING])
    last = partitions.following(datetime.now(UTC).date(), partitions.AHEAD)
    return f"There is a place for events up to the end of {last:%B %Y}."


def verify_ledger(run: JobRun, is_stopped: IsStopped) -> str:
    """Verify the whole log with one process, so that the portal stays quick."""

    def stop_in_between(done: int, size: int) -> None:
        if is_stopped():
            raise JobAborted

    result = verify(processes=1, progress=stop_in_between)
    keep(result)
    faults = result.faults.counts.total()
    found = "no fault" if not faults else f"{faults:,} fault{'' if faults == 1 else 's'}"
    return f"{result.size:,} events: {result.verdict}, {found}."


def keep(result: Result) -> None:
    """Store what a verification found where the pages show it, and record that it was done."""
    result.store()
    audit.record_sync(
        action=PortalAction.PORTAL_LEDGER_VERIFICATION_FAILED
        if result.faults.counts
        else PortalAction.PORTAL_LEDGER_VERIFIED,
        actor_type="system",
        context={"tree_size": result.size, "verdict": result.verdict},
    )


def send_digest(run: JobRun, is_stopped: IsStopped) -> str:
    """Write the digest of the day on which it was due."""
    written = notices.post_digest(local(run.due_at).date(), datetime.now(UTC))
    if not written and not notices.readers():
        return "Nobody got it: no one who may review alerts has an e-mail address."
    return f"Written to {written} member{'' if written == 1 else 's'} of staff."


def clear_up(run: JobRun, is_stopped: IsStopped) -> str:
    """Delete runs and mails whose time is over, and what procrastinate keeps of jobs."""
    before = datetime.now(UTC) - KEPT
    newest = JobRun.objects.using(USING).values("job").annotate(id=Max("id")).values("id")
    runs, _ = JobRun.objects.using(USING).filter(due_at__lt=before).exclude(id__in=newest).delete()
    mails, _ = Mail.objects.using(USING).filter(made_at__lt=before).delete()
    jobs = _delete_old_jobs()
    return f"Deleted of old ones: {runs:,} runs, {mails:,} mails, {jobs:,} jobs."


def _delete_old_jobs() -> int:
    with connections[USING].cursor() as cursor:
        cursor.execute(
            "DELETE FROM procrastinate_jobs WHERE status NOT IN ('todo', 'doing') AND NOT EXISTS "
            "(SELECT FROM procrastinate_events WHERE job_id = procrastinate_jobs.id "
            "AND at >= now() - make_interval(hours => %s))",
            [KEPT_HOURS],
        )
        return int(cursor.rowcount)


TASKS = {
    task.name: task
    for task in (
        Task(
            "partitions", "Partitions",
            "Makes the tables of the months to come, so that events always have a place.",
            1, make_partitions,
        ),
        Task(
            "verification", "Verification of the log",
            "Computes the whole log again from the events, and compares it with what was signed.",
            2, verify_ledger,
        ),
        Task(
            "upkeep", "Clearing up",
            "Deletes what is kept of jobs and mails when its time is over; never evidence.",
            3, clear_up,
        ),
        Task(
            "digest", "Daily digest",
            "Mails to everybody who may review what needs them today, also when nothing does.",
            settings.AUDITPORTAL_DIGEST_HOUR, send_digest,
        ),
    )
}  # fmt: skip


# --- when --------------------------------------------------------------------------------------


def local(at: datetime) -> datetime:
    """A time in the review's time zone."""
    return at.astimezone(ZoneInfo(settings.AUDITPORTAL_REVIEW_ZONE))


def last_due(hour: int, at: datetime) -> datetime:
    """When something that is done each day at that hour was due last, in UTC; `at` included."""
    today = _due_on(local(at).date(), hour)
    return today if today <= at else _due_on(local(at).date() - timedelta(days=1), hour)


def next_due(hour: int, at: datetime) -> datetime:
    """When it will be due next, in UTC: after `at`."""
    today = _due_on(local(at).date(), hour)
    return today if today > at else _due_on(local(at).date() + timedelta(days=1), hour)


def _due_on(day: date, hour: int) -> datetime:
    zone = ZoneInfo(settings.AUDITPORTAL_REVIEW_ZONE)
    return datetime.combine(day, time(hour), tzinfo=zone).astimezone(UTC)


def schedule(at: datetime | None = None) -> list[JobRun]:
    """Make the runs that are due, with the jobs that do them, and have stalled ones done again.

    `at` is the database's clock unless given, so that all workers go by one.
    """
    with transaction.atomic(using=USING):
        with connections[USING].cursor() as cursor:  # of two workers, one after the other
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('audit_jobs'))")
            cursor.execute("SELECT clock_timestamp()")
            now = at or cursor.fetchone()[0]
        _revive(now)
        made = JobRun.objects.using(USING).filter(due_at__lte=now)
        newest = dict(made.order_by().values_list("job").annotate(Max("due_at")))
        runs = []
        for task in TASKS.values():
            due = last_due(task.hour, now)
            if task.name not in newest or newest[task.name] < due:
                runs.append(JobRun.objects.using(USING).create(job=task.name, due_at=due))
        for run in runs:
            perform.configure(lock=run.job).defer(run_id=run.pk)
    return runs


def _revive(now: datetime) -> None:
    """Have those jobs done again whose worker was killed while it did them."""
    lost = Q(worker=None) | Q(worker__last_heartbeat__lt=now - STALLED)
    for job in ProcrastinateJob.objects.using(USING).filter(lost, status="doing"):
        app.job_manager.retry_job_by_id(job.pk, retry_at=now)


# --- doing it ----------------------------------------------------------------------------------


class Busy(Exception):
    """Another worker does this run: one that was thought to be dead."""


@app.task(name="perform", queue="jobs", retry=BACKOFF, pass_context=True)
def perform(context: JobContext, run_id: int) -> None:
    """Do a run, unless it is done; note how long it took, and what came of it or went wrong."""
    with _alone(run_id):
        run = JobRun.objects.using(USING).get(pk=run_id)
        if run.finished_at is not None:
            return  # a worker was killed between the end of the work and that of the job
        run.started_at, run.tries, run.try_at = datetime.now(UTC), run.tries + 1, None
        run.save(using=USING)
        try:
            run.result = TASKS[run.job].work(run, context.should_abort)
        except JobAborted:
            run.error = "The worker was stopped in the middle; it is done again at the next start."
            run.try_at = datetime.now(UTC)
            raise
        except Exception as error:
            pause = BACKOFF.pause((context.job.attempts or 0) + 1)
            run.error = in_words(error)
            run.try_at = datetime.now(UTC) + pause if pause else None
            raise
        else:
            run.finished_at, run.error = datetime.now(UTC), ""
        finally:
            run.save(using=USING)


@contextmanager
def _alone(run_id: int) -> Iterator[None]:
    """Hold a lock that the database takes back by itself when this worker dies, or raise `Busy`."""
    key = f"hashtext('audit_jobrun'), {int(run_id)}"
    with connections[USING].cursor() as cursor:
        cursor.execute(f"SELECT pg_try_advisory_lock({key})")
        if not cursor.fetchone()[0]:
            raise Busy("another worker is at it")
        try:
            yield
        finally:
            cursor.execute(f"SELECT pg_advisory_unlock({key})")


def in_words(error: Exception) -> str:
    """What went wrong, in one sentence for whoever runs the portal."""
    text = " ".join(str(error).split())
    if isinstance(error, DatabaseError):
        return f"the database: {text}"
    if isinstance(error, (ImproperlyConfigured, OSError, SMTPException)) and text:
        return text
    return f"{type(error).__name__}: {text}"


def work(stop: Event, beat: Callable[[], None]) -> None:
    """Do jobs as they come until `stop` is set; `beat` is called all the while.

    Raises where the database cannot be reached any more.
    """
    connections[USING].ensure_connection()  # says at once what the pool would say after 30 s
    with ThreadPoolExecutor(1, "jobs-loop") as loop:
        working = loop.submit(lambda: asyncio.run(_work(stop)))
        while not working.done():
            beat()
            wait([working], timeout=BEAT)
        working.result()


async def _work(stop: Event) -> None:
    # An app of its own: elsewhere in this process jobs are deferred in Django's transactions.
    connector = PsycopgConnector(kwargs=connector_params(USING), min_size=1, max_size=4)
    own = app.with_connector(connector)
    async with own.open_async():
        options: WorkerOptions = {
            "concurrency": 2,
            "install_signal_handlers": False,
            "shutdown_graceful_timeout": ENDING,
            "stalled_worker_timeout": STALLED.total_seconds(),
            "task_middleware": [_close_connections],
        }
        worker = asyncio.create_task(own.run_worker_async(**options))
        while not stop.is_set() and not worker.done():
            await asyncio.wait([worker], timeout=0.5)
        worker.cancel()
        await asyncio.wait([worker])
    if not stop.is_set():
        raise ConnectionError("doing jobs ended by itself: the database was lost")


def _close_connections(call_next: Any, context: JobContext, worker: Any) -> Any:
    """Leave none behind in the thread in which a job was done."""
    try:
        return call_next()
    finally:
        connections.close_all()
