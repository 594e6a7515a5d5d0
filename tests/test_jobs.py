"""Jobs: when they are due, that each is done exactly once, and what the page says of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connections
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import JobAborted

from audit import jobs, tasks
from audit.ingest import ingest
from audit.models import AuditEvent, Heartbeat, JobRun, Mail, Verification
from tests.conftest import a_sign_in, soon, superuser_dsn
from tests.test_ledger_pages import signed_in
from tests.test_pages import seen
from tests.test_sealing import WORK, environment

ROOT = Path(__file__).parent.parent
AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def context(attempts: int = 0, *, stopped: bool = False) -> Any:
    """What procrastinate hands to a job."""
    return SimpleNamespace(job=SimpleNamespace(attempts=attempts), should_abort=lambda: stopped)


def a_run(job: str, **fields: Any) -> JobRun:
    return JobRun.objects.using("worker").create(job=job, due_at=AT, **fields)


# --- when --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "at", "last", "following"),
    [
        ("UTC", "2026-03-10T06:59", "2026-03-09T07:00", "2026-03-10T07:00"),
        ("UTC", "2026-03-10T07:00", "2026-03-10T07:00", "2026-03-11T07:00"),
        ("Europe/Berlin", "2026-03-10T06:00", "2026-03-10T06:00", "2026-03-11T06:00"),
        ("Europe/Berlin", "2026-03-28T07:00", "2026-03-28T06:00", "2026-03-29T05:00"),
        ("America/New_York", "2026-03-10T03:00", "2026-03-09T11:00", "2026-03-10T11:00"),
    ],
)
def test_a_job_is_due_at_its_hour_of_the_reviews_zone(settings, zone, at, last, following):
    settings.AUDITPORTAL_REVIEW_ZONE = zone
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert f"{jobs.last_due(7, now):%Y-%m-%dT%H:%M}" == last
    assert f"{jobs.next_due(7, now):%Y-%m-%dT%H:%M}" == following


def test_an_hour_that_a_clock_leaves_out_or_repeats_is_due_once_a_day(settings):
    settings.AUDITPORTAL_REVIEW_ZONE = "Europe/Berlin"
    for start in (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)):
        found = {jobs.last_due(2, start + timedelta(minutes=15 * n)) for n in range(4 * 24 * 3)}
        assert len({jobs.local(due).date() for due in found}) == len(found)
        assert len(found) in (3, 4)


@pytest.mark.django_db(databases=["default", "worker"])
def test_each_job_is_made_once_for_each_day():
    assert {run.job for run in jobs.schedule(AT)} == jobs.TASKS.keys()
    assert jobs.schedule(AT) == []
    assert jobs.schedule(AT + timedelta(hours=1)) == []
    assert len(jobs.schedule(AT + DAY)) == len(jobs.TASKS)
    assert ProcrastinateJob.objects.using("worker").filter(task_name="perform").count() == 2 * len(
        jobs.TASKS
    )


@pytest.mark.django_db(databases=["default", "worker"])
def test_days_without_a_worker_are_caught_up_once():
    jobs.schedule(AT)
    later = jobs.schedule(AT + 5 * DAY)
    assert Counter(run.job for run in later) == Counter(list(jobs.TASKS))
    assert {jobs.local(run.due_at).date() for run in later} == {(AT + 5 * DAY).date()}


@pytest.mark.django_db(databases=["default", "worker"])
def test_a_clock_that_is_set_back_makes_no_run_twice():
    for days in range(4):
        jobs.schedule(AT + days * DAY)
    made = JobRun.objects.count()
    for days in (3, 2, 1, 0, 1, 2, 3):
        assert jobs.schedule(AT + days * DAY) == []
    assert JobRun.objects.count() == made
    assert len(jobs.schedule(AT + 4 * DAY)) == len(jobs.TASKS), "and goes on after that"


@pytest.mark.django_db(databases=["default", "worker"])
def test_a_clock_that_was_ahead_for_a_while_holds_up_nothing():
    jobs.schedule(AT)
    jobs.schedule(AT + 400 * DAY)
    assert len(jobs.schedule(AT + DAY)) == len(jobs.TASKS)


# --- doing it ----------------------------------------------------------------------------------


def test_partitions_are_made_for_the_months_ahead(own_database):
    run = a_run("partitions")
    jobs.perform(context(), run.pk)
    run.refresh_from_db()
    assert run.result.startswith("There is a place for events up to the end of")
    assert (run.error, run.tries) == ("", 1)
    assert run.started_at <= run.finished_at


def test_the_log_is_verified_and_that_is_recorded(own_database):
    ingest([a_sign_in(), a_sign_in()], source="payments")
    tasks.seal_pending()
    run = a_run("verification")
    jobs.perform(context(), run.pk)
    run.refresh_from_db()
    assert run.result == "2 events: consistent, no fault."
    assert Verification.objects.get().verdict == "consistent"
    event = AuditEvent.objects.get(action="portal_ledger_verified")
    assert event.context == {"tree_size": 2, "verdict": "consistent"}
    assert event.actor_type == "system"


def test_a_verification_stops_with_the_worker_and_is_done_again(own_database):
    ingest([a_sign_in()], source="payments")
    tasks.seal_pending()
    run = a_run("verification")
    with pytest.raises(JobAborted):
        jobs.perform(context(stopped=True), run.pk)
    run.refresh_from_db()
    assert run.finished_at is None
    assert "stopped in the middle" in run.error
    assert not Verification.objects.exists()
    jobs.perform(context(1), run.pk)
    run.refresh_from_db()
    assert (run.error, run.tries, run.finished_at is None) == ("", 2, False)


def test_a_job_that_fails_says_why_and_when_it_is_tried_again(own_database, settings, tmp_path):
    settings.LEDGER_MEMORY_DIR = tmp_path / "a file"
    settings.LEDGER_MEMORY_DIR.write_text("")
    run = a_run("verification")
    with pytest.raises(OSError, match="a file"):
        jobs.perform(context(2), run.pk)
    run.refresh_from_db()
    assert "a file" in run.error
    assert timedelta(seconds=50) < run.try_at - run.started_at < timedelta(seconds=70)
    with pytest.raises(OSError, match="a file"):
        jobs.perform(context(jobs.BACKOFF.most), run.pk)
    run.refresh_from_db()
    assert run.try_at is None, "the last one"


def test_what_is_done_is_not_done_again(own_database):
    run = a_run("verification", finished_at=AT, result="as it was")
    jobs.perform(context(), run.pk)
    run.refresh_from_db()
    assert (run.result, run.tries) == ("as it was", 0)
    assert not Verification.objects.exists()


def test_a_worker_that_was_thought_to_be_dead_keeps_others_out(own_database):
    run = a_run("partitions")
    with ThreadPoolExecutor(1) as other, jobs._alone(run.pk):
        attempt = other.submit(_in_thread, jobs.perform, context(), run.pk)
        with pytest.raises(jobs.Busy):
            attempt.result()
    jobs.perform(context(), run.pk)
    run.refresh_from_db()
    assert run.tries == 1


def _in_thread(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    finally:
        connections.close_all()


def test_two_workers_at_once_make_each_run_once(own_database):
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(_in_thread, jobs.schedule, AT) for _ in range(8)]
    assert sum(len(each.result()) for each in made) == len(jobs.TASKS)
    assert (
        JobRun.objects.count()
        == ProcrastinateJob.objects.using("worker").count()
        == len(jobs.TASKS)
    )


def test_upkeep_deletes_what_is_old_and_keeps_the_newest_run_of_each_job(own_database):
    now = datetime.now(UTC)
    for days in (400, 300, 1):
        JobRun.objects.using("worker").create(job="digest", due_at=now - days * DAY)
    JobRun.objects.using("worker").create(job="verification", due_at=now - 400 * DAY)
    Mail.objects.using("worker").create(kind="digest", key="old", to="ada", made_at=now - 100 * DAY)
    Mail.objects.using("worker").create(kind="digest", key="new", to="ada")
    jobs.perform.defer(run_id=0)
    jobs.perform.defer(run_id=1)
    with psycopg.connect(superuser_dsn(), dbname=own_database) as superuser:
        superuser.execute(
            "UPDATE procrastinate_jobs SET status = 'failed' WHERE args->>'run_id' = '0'"
        )
        superuser.execute("UPDATE procrastinate_events SET at = now() - interval '8 days'")
    run = a_run("upkeep")
    jobs.perform(context(), run.pk)
    run.refresh_from_db()
    assert run.result == "Deleted of old ones: 2 runs, 1 mails, 1 jobs."
    kept = Counter(JobRun.objects.values_list("job", flat=True))
    assert kept == {"digest": 1, "verification": 1, "upkeep": 1}
    assert ProcrastinateJob.objects.using("worker").get().args == {"run_id": 1}, "it waits"


# --- the worker --------------------------------------------------------------------------------


def worker(database: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORK, database]
    return subprocess.Popen(command, cwd=ROOT, env=environment())


def all_done() -> bool:
    runs = list(JobRun.objects.all())
    return len(runs) == len(jobs.TASKS) and all(run.finished_at for run in runs)


def test_two_workers_do_what_is_due_exactly_once_and_end_soon(own_database):
    workers = [worker(own_database), worker(own_database)]
    try:
        assert soon(all_done, 60)
        assert soon(lambda: Heartbeat.objects.filter(part="jobs", error="").exists())
    finally:
        for each in workers:
            each.terminate()
        assert [each.wait(20) for each in workers] == [0, 0]
    assert set(JobRun.objects.values_list("tries", "error")) == {(1, "")}
    assert Verification.objects.count() == 1
    assert AuditEvent.objects.filter(action="portal_ledger_verified").count() == 1


# --- the page ----------------------------------------------------------------------------------

PAGE = "/admin/jobs/"


def beats(**errors: str) -> None:
    for part in ("sealer", "jobs"):
        Heartbeat.objects.using("worker").create(
            part=part, at=datetime.now(UTC), error=errors.get(part, "")
        )


def test_the_page_of_jobs_says_what_was_done_and_what_comes_next(own_database):
    now = datetime.now(UTC)
    beats()
    for run in jobs.schedule(now):
        if run.job == "partitions":
            jobs.perform(context(), run.pk)
    page = seen(signed_in("Reviewer").get(PAGE))
    assert "Everything runs as it should" in page.text
    assert "There is a place for events up to the end of" in page.text
    assert f"{jobs.next_due(2, now):%Y-%m-%d} 02:00" in page.text
    assert "waits for a worker" in page.text
    assert "Nobody gets notices" in page.text
    assert page.forbidden == []


def test_the_page_of_jobs_shows_failures_with_their_message(own_database):
    now = datetime.now(UTC)
    beats(jobs="the database: is gone")
    JobRun.objects.using("worker").create(
        job="verification", due_at=jobs.last_due(2, now), started_at=now, tries=2,
        error="OSError: disk full", try_at=now + timedelta(minutes=3),
    )  # fmt: skip
    Mail.objects.using("worker").create(kind="digest", key="x", to="ada", error="no room", tries=4)
    page = seen(signed_in("Reviewer").get(PAGE))
    for words in ("failed; it is tried again in 2 min", "OSError: disk full", "no room"):
        assert words in page.text
    assert "cannot go on the database: is gone" in page.text
    assert "thing" in page.text
    assert "Show this page to whoever runs the portal" in page.text


def test_a_run_that_was_missed_is_told(own_database):
    beats()
    jobs.schedule(datetime.now(UTC) - 3 * DAY)
    page = seen(signed_in("Reviewer").get(PAGE))
    assert page.text.count("missed: no worker runs") >= len(jobs.TASKS) - 1


def test_the_page_of_jobs_of_an_empty_portal_says_what_comes_next(own_database):
    page = seen(signed_in("Reviewer").get(PAGE))
    assert "The worker has never run" in page.text
    assert "Nothing has run yet" in page.text


def test_the_page_of_jobs_is_for_those_who_may_view_events(own_database):
    assert signed_in().get(PAGE).status_code == 403
    assert signed_in("Auditor").post(PAGE).status_code == 405
    assert seen(signed_in("Manager").get("/admin/")).hrefs(PAGE) == [PAGE]
