"""Two people who decide at the same moment, each on a connection of their own."""

import threading
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections

from audit.enums import PortalAction
from audit.models import AlertStep, Finding
from audit.review import Refused, alerts, findings
from tests.test_pages import recorded
from tests.test_review import opened, raised

pytestmark = pytest.mark.usefixtures("own_database")


def at_once(*deeds):
    """What each deed came to that began at the same moment: True, or how it was refused."""
    begin, answers = threading.Barrier(len(deeds)), []

    def do(deed):
        begin.wait(10)
        try:
            deed()
            answers.append(True)
        except Refused as refused:
            answers.append(str(refused))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=do, args=[deed]) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


@pytest.fixture
def people(own_database):
    for name in ("ada", "bob"):
        User.objects.create_superuser(name)
    return "ada", "bob"


def test_of_two_people_at_once_one_decides(people):
    alert = raised()
    answers = at_once(
        *(lambda by=by: alerts.decide_benign(alert.pk, by, by=by, after=0) for by in people)
    )
    assert answers.count(True) == 1
    assert AlertStep.objects.count() == 1
    assert len(recorded(PortalAction.PORTAL_ALERT_DECIDED)) == 1


def test_of_two_who_open_an_exception_of_one_alert_one_does(people):
    alert = raised()
    answers = at_once(*(lambda by=by: opened(by=by, alerts=[alert.pk]) for by in people))
    assert answers.count(True) == 1
    assert Finding.objects.count() == 1


def test_exceptions_opened_at_once_have_numbers_without_gaps(people):
    alerts_ = [raised() for _ in range(4)]
    answers = at_once(*(lambda a=a: opened(by="ada", alerts=[a.pk]) for a in alerts_))
    assert answers == [True] * 4
    assert sorted(Finding.objects.values_list("number", flat=True)) == [1, 2, 3, 4]


def test_a_double_click_opens_one_exception(people):
    alert, token = raised(), uuid4()
    at_once(*[lambda: opened(by="ada", alerts=[alert.pk], token=token)] * 2)
    assert Finding.objects.count() == 1


def test_of_two_who_confirm_at_once_one_closes(people):
    User.objects.create_superuser("eve")
    number = opened(by="eve", alerts=[raised().pk], severity="high").pk
    findings.close(number, "event", "done", by="eve", after=1)
    answers = at_once(
        *(lambda by=by: findings.confirm(number, by, by=by, after=2) for by in people)
    )
    assert answers.count(True) == 1
    assert len(recorded(PortalAction.PORTAL_EXCEPTION_CLOSED)) == 1
