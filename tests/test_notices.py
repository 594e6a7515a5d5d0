"""Notices by mail: what they say, to whom they go, and that each goes out exactly once."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail as outbox
from django.db import connections
from procrastinate.contrib.django.models import ProcrastinateJob

from audit import jobs, notices, tasks
from audit.ledger.verification.run import verify
from audit.models import Alert, AlertNotice, JobRun, Mail
from audit.notices import Figures, Verified
from audit.review import alerts

AT = datetime(2026, 3, 10, 7, 0, tzinfo=UTC)
QUIET = Figures(
    at=AT,
    zone="UTC",
    unsigned_days=0,
    overdue=(),
    raised={},
    undecided={},
    open_attempts=3,
    open_attempts_are_all=True,
    verified=Verified("consistent", AT - timedelta(hours=5), 0, 2_000),
)


def url(page: str) -> str:
    return f"https://audit.example.org/{page}"


# --- what it says ------------------------------------------------------------------------------


def test_a_digest_comes_also_when_there_is_nothing_and_says_so():
    subject, text = notices.digest(QUIET, url)
    assert subject == "AuditPortal: nothing needs you today"
    assert text.startswith("Nothing needs you today.\nTuesday, 10 March 2026, 07:00 UTC\n\nFigures")
    assert "Alerts raised in 24 hours: 0 high, 0 medium, 0 low" in text
    assert "Open attempts: 3" in text
    assert "The log was last verified 2026-03-10 02:00 UTC, 2,000 events: consistent" in text


def test_a_digest_says_what_needs_somebody_and_where():
    busy = replace(
        QUIET,
        unsigned_days=2,
        overdue=(4, 17),
        undecided={"high": 1, "low": 1_200},
        open_attempts=10_000,
        open_attempts_are_all=False,
    )
    subject, text = notices.digest(busy, url)
    assert subject == "AuditPortal: 3 things need you"
    assert "- 1,201 alerts to decide\n  https://audit.example.org/admin:alerts" in text
    assert "- 2 days and categories to sign off\n" in text
    assert "- 2 exceptions overdue: 4, 17\n" in text
    assert "Alerts nobody has decided: 1 high, 0 medium, 1,200 low" in text
    assert "Open attempts: over 10,000" in text


@pytest.mark.parametrize(
    ("verified", "says"),
    [
        (None, "The log has not been verified yet"),
        (Verified("inconsistent", AT, 2, 9), "inconsistent, 2 faults"),
        (
            Verified("consistent", AT - timedelta(days=3), 0, 9),
            "2026-03-07 07:00 UTC, 9 events: consistent",
        ),
    ],
)
def test_a_log_in_doubt_needs_somebody(verified, says):
    subject, text = notices.digest(replace(QUIET, verified=verified), url)
    assert subject == "AuditPortal: 1 thing needs you"
    assert says in text.partition("Figures")[0]


def test_the_day_of_a_digest_is_that_of_the_reviews_zone():
    _, text = notices.digest(replace(QUIET, at=AT.replace(hour=23), zone="Asia/Tokyo"), url)
    assert "Wednesday, 11 March 2026, 08:00 Asia/Tokyo" in text


def test_a_mail_of_many_alerts_names_the_first_and_counts_the_others():
    many = [an_alert() for _ in range(notices.MOST_NAMED + 2)]
    subject, text = notices.letter_of_alerts(many, url)
    assert subject == "AuditPortal: 22 alerts of high severity"
    assert text.count("- password spraying, 30 events from 2026-03-10 07:00 UTC\n") == 20
    assert "- and 2 more" in text


# --- to whom -----------------------------------------------------------------------------------


def an_alert(**fields: Any) -> Alert:
    values = {
        "id": uuid4(), "rule": "password_spraying", "rule_version": 1, "severity": "high",
        "category": "authentication", "key": uuid4().hex, "first_at": AT, "last_at": AT,
        "raised_index": 7, "count": 30,
    }  # fmt: skip
    return Alert(**values | fields)


def raised(**fields: Any) -> Alert:
    alert = an_alert(**fields)
    alert.save(using="worker", force_insert=True)
    return alert


def staff(name: str, role: str, **fields: Any) -> User:
    values = {"is_staff": True, "email": f"{name}@example.org"} | fields
    user = User.objects.create_user(name, **values)
    user.groups.set(Group.objects.filter(name=role))
    return user


@pytest.fixture
def reader(own_database: str) -> User:
    """Gets notices; others do not, for want of the permission, an address, or of being staff."""
    staff("auditor", "Auditor")
    staff("nowhere", "Reviewer", email="")
    staff("gone", "Reviewer", is_active=False)
    staff("customer", "Reviewer", is_staff=False)
    return staff("ada", "Reviewer")


def send_all() -> None:
    """Do the jobs that send mails, as often as they were asked for."""
    for job in ProcrastinateJob.objects.using("worker").filter(task_name="send_mail"):
        notices.send(**job.args)


def test_the_digest_goes_to_those_who_may_review_and_have_an_address(reader):
    assert notices.post_digest(date(2026, 3, 10), AT) == 1
    send_all()
    [sent] = outbox.outbox
    assert sent.to == ["ada@example.org"]
    assert re.search(r"https?://\S+/admin/ledger/", sent.body)


def test_a_digest_from_before_the_first_whole_verification_says_so(reader, store):
    store({}, {})
    tasks.seal_pending()
    replace(verify(), first=1).store()

    def said(day: date) -> list[str]:
        notices.post_digest(day, datetime.now(UTC))
        lines = Mail.objects.get(key=str(day)).text.splitlines()
        return [line.removeprefix("- ") for line in lines if "verified" in line]

    assert said(AT.date()) == ["The log has not been verified yet"] * 2, "as a need and as a figure"
    verify().store()
    [line] = said(AT.date() + timedelta(days=1))
    assert line.endswith("2 events: consistent, no fault")


def test_a_digest_is_sent_once_however_often_it_is_asked_for(reader):
    for _ in range(3):
        notices.post_digest(date(2026, 3, 10), AT)
    send_all()
    send_all()
    assert len(outbox.outbox) == 1
    assert notices.post_digest(date(2026, 3, 11), AT) == 1


def test_where_nobody_has_an_address_the_run_says_so(own_database):
    run = JobRun.objects.using("worker").create(job="digest", due_at=AT)
    assert jobs.send_digest(run, lambda: False).startswith("Nobody got it")


def test_a_mail_holds_no_personal_data(reader):
    raised(key="f" * 64)
    notices.tell_alerts()
    notices.post_digest(date(2026, 3, 10), AT)
    for mail in Mail.objects.all():
        assert not re.search(r"@|ada|\d+\.\d+\.\d+\.\d+|f{64}", mail.text.replace("127.0.0.1", ""))


# --- alerts at once ----------------------------------------------------------------------------


def test_alerts_of_high_severity_are_mailed_once_and_others_are_not(reader):
    high = raised()
    raised(severity="medium")
    alerts.decide_benign(raised().pk, "That was us.", by="ada")
    assert notices.tell_alerts() == 2
    assert notices.tell_alerts() == 0
    [mail] = Mail.objects.all()
    assert mail.subject == "AuditPortal: 1 alert of high severity"
    assert str(high.pk) in mail.text
    raised()
    assert notices.tell_alerts() == 1
    assert Mail.objects.count() == 2


def test_two_workers_at_once_tell_of_each_alert_once(reader):
    wanted = {str(raised().pk) for _ in range(20)}

    def tell(_: int) -> int:
        try:
            return notices.tell_alerts()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(tell, range(8)))
    assert sum(told) == AlertNotice.objects.count() == 20
    found = re.findall(r"[0-9a-f-]{36}", "".join(Mail.objects.values_list("text", flat=True)))
    assert sorted(found) == sorted(wanted)


def test_of_a_transaction_that_is_lost_neither_mail_nor_note_is_left(reader, monkeypatch):
    raised()
    monkeypatch.setattr(notices.send, "defer", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        notices.tell_alerts()
    assert not AlertNotice.objects.exists()
    assert not Mail.objects.exists()
    monkeypatch.undo()
    assert notices.tell_alerts() == 1


# --- a mail server -----------------------------------------------------------------------------


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mails by SMTP (RFC 5321), as far as Django speaks it; refuses them while `is_full`."""

    daemon_threads = True
    allow_reuse_address = True
    is_full = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.mails: list[str] = []


class Conversation(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            match line.upper().split()[0]:
                case "DATA":
                    self._say("354 go on")
                    self._take()
                case "MAIL" if self.server.is_full:
                    self._say("452 no room")
                case "QUIT":
                    return self._say("221 bye")
                case _:
                    self._say("250 ok")
        return None

    def _take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.decode())
        self.server.mails.append("".join(lines))
        self._say("250 taken")

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    with MailServer() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_mail_waits_while_the_mail_server_is_full_and_is_sent_once(reader, mail_server):
    raised()
    notices.tell_alerts()
    mail_server.is_full = True
    for tries in (1, 2):
        with pytest.raises(OSError, match="no room"):
            send_all()
        waiting = Mail.objects.get()
        assert (waiting.sent_at, waiting.tries) == (None, tries)
        assert "no room" in waiting.error
    mail_server.is_full = False
    send_all()
    send_all()
    [sent] = mail_server.mails
    assert "Subject: AuditPortal: 1 alert of high severity" in sent
    assert f"Message-ID: {notices.message_id(waiting)}" in sent
    assert Mail.objects.get().error == ""


def test_the_name_of_a_mail_follows_from_what_it_tells_and_of_which_log(settings):
    settings.AUDITPORTAL_ORIGIN = "audit.example.org/main"
    mail = Mail(pk=1, kind="digest", key="2026-03-10", to="ada", subject="S", text="T")
    name = notices.message_id(mail)
    assert re.fullmatch(r"<digest\.[0-9a-f]{24}@audit\.example\.org>", name)
    again = Mail(pk=7, kind="digest", key="2026-03-10", to="ada", subject="S", text="T")
    assert notices.message_id(again) == name
    for other in ({"key": "2026-03-11"}, {"kind": "alerts"}, {"text": "T."}, {"subject": "R"}):
        values = {"kind": "digest", "key": "2026-03-10", "subject": "S", "text": "T"} | other
        assert notices.message_id(Mail(**values)) != name
    settings.AUDITPORTAL_ORIGIN = "audit.example.org/other"
    assert notices.message_id(mail) != name


def test_a_mail_waits_while_there_is_no_mail_server(reader, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    raised()
    notices.tell_alerts()
    with pytest.raises(OSError, match="refused"):
        send_all()
    assert "refused" in Mail.objects.get().error


def test_two_workers_that_send_the_same_mail_send_it_once(reader, mail_server):
    raised()
    notices.tell_alerts()
    id = Mail.objects.get().pk

    def send(_: int) -> None:
        try:
            notices.send(mail_id=id)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(8)))
    assert len(mail_server.mails) == 1


def test_a_mail_to_somebody_without_an_address_says_so_and_waits(reader):
    raised()
    notices.tell_alerts()
    User.objects.filter(username="ada").update(email="")
    with pytest.raises(notices.Undeliverable):
        send_all()
    assert "no account with an e-mail address" in Mail.objects.get().error


def test_pauses_between_tries_grow_up_to_an_hour():
    forever, bounded = notices.Backoff(), notices.Backoff(most=3)
    pauses = [forever.pause(tries).total_seconds() for tries in range(1, 12)]
    assert pauses == [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert [bounded.pause(tries) is None for tries in (3, 4)] == [False, True]
