"""A rule is tried over what is past, with the same result as if it had been on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from audit import tasks
from audit.detection import trying
from audit.detection.rules import BY_SLUG, RULES
from audit.ingest import ingest
from audit.models import Alert, AuditEvent, RuleVersion
from tests.conftest import a_sign_in
from tests.detection.logs import alerts, detect, store
from tests.detection.month import make_month

pytestmark = pytest.mark.usefixtures("own_database")

END = datetime(2026, 3, 14, tzinfo=UTC)


@pytest.fixture(scope="module")
def month():
    return make_month(12, events=1_500, days=12, rounds=1).rows


def test_a_trial_finds_what_the_rule_raises(month):
    store(month)
    detect()
    raised = [row[0] for row in alerts().values()]
    tried = {
        rule.slug: trying.attempt(rule, {}, days=30, at=END).alerts
        for rule in RULES
        if rule.slug != "source-silent"  # the trial also tells that all have been silent since
    }
    assert tried == {slug: raised.count(slug) for slug in tried}
    assert sum(tried.values()) > 15


def test_a_trial_stops_when_its_time_is_over_and_says_how_far_it_came(month):
    store(month)
    trial = trying.attempt(BY_SLUG["denied-access"], {}, days=30, at=END, seconds=0)
    assert trial.until is not None
    assert trial.sentence.endswith("then the time for a trial was over")


def test_a_page_tries_a_rule_with_what_was_typed_and_writes_nothing():
    at = datetime.now(UTC) - timedelta(days=2)
    ingest(
        [a_sign_in(occurred_at=(at + timedelta(minutes=n)).isoformat()) for n in range(5)],
        source="payments",
    )
    tasks.seal_pending()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    page, sent = "/admin/rules/failed-sign-ins-user/", {"minutes": "30", "do": "try"}
    for count, days, said in (("5", "90", "1 alert in 90 days"), ("6", "90", "0 alerts in 90 days"),
                              ("5", "1", "0 alerts in 1 day.")):  # fmt: skip
        text = client.post(page, sent | {"count": count, "days": days}).content.decode()
        assert f"would have raised {said}" in text
        assert f'name="count" value="{count}"' in text
    assert (Alert.objects.count(), RuleVersion.objects.filter(version=2).count()) == (0, 0)
    tried = AuditEvent.objects.filter(action="portal_rule_tried").order_by("id").first()
    assert tried.context == {"rule": "failed-sign-ins-user", "days": 90, "count": 1}


def test_the_command_prints_the_sentence_and_examples(month, capsys, monkeypatch):
    store(month)
    days = (datetime.now(UTC) - END + timedelta(days=30)).days
    before = Alert.objects.count()
    call_command("try_rule", "denied-access", "--days", str(days), "--set", "count=5")
    printed = capsys.readouterr().out
    assert "denied-access (count=5, minutes=30) would have raised 1 alert in" in printed
    assert ", event 0" in printed
    assert Alert.objects.count() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nonsense"], "there is no rule 'nonsense'; there are failed-sign-ins-user, "),
        (["denied-access", "--days", "0"], "1 to 400 days, not 0"),
        (["denied-access", "--set", "count"], "NAME=VALUE with a whole number, not 'count'"),
        (["denied-access", "--set", "count=0"], "count lies between 1 and 1000"),
        (["denied-access", "--set", "size=2"], "no parameter 'size'"),
    ],
)
def test_the_command_says_what_is_wrong(given, said):
    with pytest.raises(CommandError, match=said):
        call_command("try_rule", *given)
