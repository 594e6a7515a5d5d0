"""Notices by mail: a digest each day, also when there is nothing, and high alerts at once.

What is to be sent is written down first, one row for each recipient, with the job that sends it in
the same transaction: a mail server that is away loses nothing, and nothing is written down twice.
No mail holds personal data: it says how many and which, and links to the portal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from smtplib import SMTPException
from typing import NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import connections, transaction
from django.db.models import Count, QuerySet
from django.http import QueryDict
from django.urls import reverse
from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

from audit import counts
from audit.filters import AuditEventFilter
from audit.models import Alert, AlertNotice, AlertStatus, Mail, Severity, Verification
from audit.review import calendar, findings
from audit.review.alerts import UNDECIDED
from audit.review.deeds import PERMISSION
from audit.review.standing import State

USING = "worker"

MOST_ALERTS = 1_000
"""How many alerts one mail tells of at most; the next mail tells of the others."""

MOST_NAMED = 20
"""How many of them it names by rule."""

LONGEST_PAUSE = timedelta(hours=1)
"""How long at most a mail waits until it is tried again."""

DAYS = 30
"""How many days back a digest looks for days that are not signed off."""

WAITING = (State.DUE, State.MISSING, State.WAITS, State.REOPENED)
"""The states of a day that somebody has to do something about."""


class Letter(NamedTuple):
    """What a mail says."""

    subject: str
    text: str


Address = Callable[[str], str]
"""The portal's address of a page, from the name of the page."""


def address(page: str) -> str:
    """Where a page of the portal is reached from outside."""
    return f"{settings.AUDITPORTAL_URL}{reverse(page)}"


# --- the digest --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verified:
    """What the newest verification of the whole log said, when, and how many events that were."""

    verdict: str
    at: datetime
    faults: int
    size: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a digest tells of, as it is `at` that moment; `open_attempts` may be bounded."""

    at: datetime
    zone: str
    unsigned_days: int
    """Days of the last month, of one category each, that are over and not wholly signed."""
    overdue: Sequence[int]
    """The numbers of the exceptions whose due date is over."""
    raised: Mapping[str, int]
    """Alerts raised in the 24 hours before, by severity."""
    undecided: Mapping[str, int]
    """Alerts nobody has decided, by severity."""
    open_attempts: int
    open_attempts_are_all: bool
    verified: Verified | None

    @property
    def log_is_in_doubt(self) -> bool:
        """Whether the log was not verified for two days, or did not hold."""
        if self.verified is None or self.verified.verdict != "consistent":
            return True
        return self.at - self.verified.at > timedelta(days=2)


def digest(figures: Figures, address: Address) -> Letter:
    """The daily mail: first what somebody has to do, then the figures. Pure."""
    needs = list(_needs(figures, address))
    day = f"{figures.at.astimezone(ZoneInfo(figures.zone)):%A, %d %B %Y, %H:%M} {figures.zone}"
    if needs:
        begin = f"{_many(len(needs), 'thing')} {'needs' if len(needs) == 1 else 'need'} you"
        subject = f"AuditPortal: {begin}"
    else:
        begin = "Nothing needs you today"
        subject = "AuditPortal: nothing needs you today"
    lines = [f"{begin}.", day, ""]
    for need, url in needs:
        lines += [f"- {need}", f"  {url}"]
    lines += [*([""] if needs else []), "Figures", *_lines(figures), "", address("admin:index")]
    return Letter(subject, "\n".join(lines) + "\n")


def _needs(figures: Figures, address: Address) -> list[tuple[str, str]]:
    """What somebody has to do, each with the page on which they do it."""
    needs = []
    if undecided := sum(figures.undecided.values()):
        needs.append((f"{_many(undecided, 'alert')} to decide", address("admin:alerts")))
    if figures.unsigned_days:
        what = _many(figures.unsigned_days, "day and category", "days and categories")
        needs.append((f"{what} to sign off", address("admin:review_calendar")))
    if figures.overdue:
        numbers = ", ".join(str(number) for number in figures.overdue[:MOST_NAMED])
        more = len(figures.overdue) - MOST_NAMED
        what = _many(len(figures.overdue), "exception")
        numbers += f" and {more:,} more" if more > 0 else ""
        needs.append((f"{what} overdue: {numbers}", address("admin:exceptions")))
    if figures.log_is_in_doubt:
        needs.append((_of_the_log(figures), address("admin:ledger")))
    return needs


def _lines(figures: Figures) -> list[str]:
    attempts = f"{'' if figures.open_attempts_are_all else 'over '}{figures.open_attempts:,}"
    return [
        f"- Alerts raised in 24 hours: {_by_severity(figures.raised)}",
        f"- Alerts nobody has decided: {_by_severity(figures.undecided)}",
        f"- Days and categories not signed off, of the last {DAYS} days: {figures.unsigned_days:,}",
        f"- Exceptions overdue: {len(figures.overdue):,}",
        f"- Open attempts: {attempts}",
        f"- {_of_the_log(figures)}",
    ]


def _of_the_log(figures: Figures) -> str:
    verified = figures.verified
    if verified is None:
        return "The log has not been verified yet"
    found = "no fault" if not verified.faults else _many(verified.faults, "fault")
    at = f"{verified.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    size = _many(verified.size, "event")
    return f"The log was last verified {at}, {size}: {verified.verdict}, {found}"


def _by_severity(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{numbers.get(each, 0):,} {each}" for each in reversed(Severity.values))


def _many(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def figures(at: datetime) -> Figures:
    """What there is to tell at that time, which is now."""
    alerts = Alert.objects.using(USING)
    newest = Verification.objects.using(USING).filter(first=0).order_by("-id").first()
    attempts = counts.bounded(AuditEventFilter(QueryDict("attempt=open")).events())
    return Figures(
        at=at,
        zone=settings.AUDITPORTAL_REVIEW_ZONE,
        unsigned_days=_unsigned_days(at),
        overdue=list(findings.overdue().values_list("number", flat=True)),
        raised=_severities(alerts.filter(raised_at__gte=at - timedelta(days=1))),
        undecided=_severities(alerts.filter(status__in=UNDECIDED)),
        open_attempts=attempts.number,
        open_attempts_are_all=attempts.is_exact,
        verified=_verified(newest) if newest else None,
    )


def _verified(run: Verification) -> Verified:
    return Verified(run.verdict, run.finished_at, run.fault_count, run.size)


def _unsigned_days(at: datetime) -> int:
    today = at.astimezone(ZoneInfo(settings.AUDITPORTAL_REVIEW_ZONE)).date()
    found = calendar.standings(today - timedelta(days=DAYS), today, at)
    return sum(one.state in WAITING for one in found.values())


def _severities(alerts: QuerySet[Alert]) -> dict[str, int]:
    rows = alerts.order_by().values_list("severity").annotate(Count("id"))
    return dict(rows)


def post_digest(day: date, at: datetime) -> int:
    """Write the digest of a day to everybody who gets notices; how many they are."""
    letter = digest(figures(at), address)
    with transaction.atomic(using=USING):
        return post("digest", day.isoformat(), letter)


# --- alerts of high severity -------------------------------------------------------------------


def tell_alerts() -> int:
    """Write to everybody of the alerts of high severity of which nobody was told yet; how many.

    Of an alert that somebody looks into already, or has decided, no mail tells; one that was opened
    again stands among the undecided of the digest.
    """
    untold = Alert.objects.using(USING).filter(severity=Severity.HIGH, notice=None)
    if not untold.exists():
        return 0
    with transaction.atomic(using=USING):
        with connections[USING].cursor() as cursor:  # of two workers, one after the other
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('audit_notices'))")
        alerts = list(untold.order_by("raised_at", "id")[:MOST_ALERTS])
        AlertNotice.objects.using(USING).bulk_create(AlertNotice(alert=each) for each in alerts)
        waiting = [alert for alert in alerts if alert.status == AlertStatus.OPEN]
        if waiting:
            post("alerts", str(waiting[0].pk), letter_of_alerts(waiting, address))
    return len(alerts)


def letter_of_alerts(alerts: list[Alert], address: Address) -> Letter:
    """What is mailed at once: which rules raised them, when, over how many events. Pure."""
    many = _many(len(alerts), "alert")
    lines = [f"{many} of high severity {'was' if len(alerts) == 1 else 'were'} raised:", ""]
    for alert in alerts[:MOST_NAMED]:
        lines += [
            f"- {alert.rule.replace('_', ' ')}, {_many(alert.count, 'event')} from "
            f"{alert.first_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            f"  {alert.pk}",
        ]
    if len(alerts) > MOST_NAMED:
        lines.append(f"- and {len(alerts) - MOST_NAMED:,} more")
    lines += ["", "Look into them, and decide:", address("admin:alerts")]
    return Letter(f"AuditPortal: {many} of high severity", "\n".join(lines) + "\n")


# --- sending -----------------------------------------------------------------------------------


def readers(using: str = USING) -> list[User]:
    """The staff who get notices: who may review alerts, and have an e-mail address."""
    users = User.objects.db_manager(using).with_perm(
        PERMISSION, backend="django.contrib.auth.backends.ModelBackend"
    )
    return list(users.filter(is_staff=True).exclude(email="").order_by("username"))


def post(kind: str, key: str, letter: Letter) -> int:
    """Write a letter to each reader, once for its kind and key; how many it was written to.

    In the transaction that is open: the letters, and the jobs that send them, are part of it.
    """
    subject, text = letter
    known = set(Mail.objects.using(USING).filter(kind=kind, key=key).values_list("to", flat=True))
    new = [
        Mail(kind=kind, key=key, to=reader.username, subject=subject, text=text)
        for reader in readers()
        if reader.username not in known
    ]
    for mail in Mail.objects.using(USING).bulk_create(new):
        send.defer(mail_id=mail.pk)
    return len(new)


class Backoff(BaseRetryStrategy):
    """Try again after 15 seconds, then after twice as long each time, up to `LONGEST_PAUSE`.

    `most` is how many times there is another try; None for as long as it takes.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def pause(self, tries: int) -> timedelta | None:
        """How long to wait after that many tries; None where it was the last."""
        if self.most is not None and tries > self.most:
            return None
        return min(timedelta(seconds=15 * 2 ** min(tries - 1, 10)), LONGEST_PAUSE)

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        pause = self.pause(job.attempts + 1)
        return None if pause is None else RetryDecision(retry_at=datetime.now(UTC) + pause)


class Undeliverable(Exception):
    """Nobody can be written to under that name at this time."""


@app.task(name="send_mail", queue="mail", retry=Backoff())
def send(mail_id: int) -> None:
    """Send a mail, unless it was sent; raises where that fails, and is then tried again.

    A worker that is killed between the mail server's yes and the commit sends it once more, under
    the same `message_id`.
    """
    mails = Mail.objects.using(USING)
    try:
        with transaction.atomic(using=USING):
            mail = mails.select_for_update().filter(pk=mail_id, sent_at=None).first()
            if mail is not None:
                _send(mail)
                mail.sent_at, mail.error = datetime.now(UTC), ""
                mail.save(using=USING)
    except (OSError, SMTPException, Undeliverable) as error:
        row = mails.get(pk=mail_id)
        mails.filter(pk=mail_id).update(tries=row.tries + 1, error=str(error))
        raise


def _send(mail: Mail) -> None:
    reader = User.objects.using(USING).filter(username=mail.to, is_active=True).first()
    if reader is None or not reader.email:
        raise Undeliverable(f"{mail.to} has no account with an e-mail address any more")
    headers = {"Message-ID": message_id(mail)}
    EmailMessage(mail.subject, mail.text, to=[reader.email], headers=headers).send()


def message_id(mail: Mail) -> str:
    """The Message-ID of a mail, which follows from what it tells, of which log, and in what words.

    So what is sent twice is one message to every mail system, which may show it once (RFC 5322,
    3.6.4): also where the database was brought back from a copy in which it was not sent yet. What
    is said in other words is another message.
    """
    host = settings.AUDITPORTAL_ORIGIN.partition("/")[0]
    told = (settings.AUDITPORTAL_ORIGIN, mail.kind, mail.key, mail.subject, mail.text)
    hashed = sha256("\0".join(told).encode()).hexdigest()
    return f"<{mail.kind}.{hashed[:24]}@{host}>"
