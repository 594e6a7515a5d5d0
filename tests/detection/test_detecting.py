"""Detection follows the log: each event is judged once, whoever does it, and however it is cut."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from audit.detection import detecting, versions
from audit.detection.rules.facts import Fact
from audit.models import Alert, AlertEvent, AlertStep, AuditEvent, DetectionState, Leaf, RuleVersion
from audit.review.alerts import decide_benign
from tests.detection.logs import (
    alerts,
    detect,
    facts,
    forget_alerts,
    in_memory,
    judge,
    start_anew,
    state,
    store,
)
from tests.detection.month import make_month
from tests.test_notices import staff

pytestmark = pytest.mark.usefixtures("own_database")


@pytest.fixture(scope="module")
def month():
    """A small month with an incident of each kind."""
    return make_month(11, events=1_200, days=12, rounds=1).rows


def test_the_database_gives_the_facts_and_alerts_that_the_pure_engine_gives(month):
    store(month)
    loaded = detecting.load(range(len(month)))
    assert [_asked(fact) for fact in loaded] == [_asked(fact) for fact in facts(month)]
    detect()
    expected = in_memory(month)
    found = alerts()
    assert found.keys() == expected.keys()
    assert len({row[0] for row in found.values()}) >= 18  # of nearly all rules
    for id, alert in expected.items():
        assert found[id][6] == alert.count
        assert found[id][-1] == sorted({index for index, _ in alert.named})


def _asked(fact: Fact) -> Fact:
    """What rules ask of the event, but for its context."""
    is_watched = fact.action in detecting.WATCHED or not fact.correlation
    return fact._replace(said={}) if is_watched else Fact(*fact[:6])


@pytest.mark.parametrize("most", [1, 7, 400])
def test_it_does_not_matter_how_the_log_is_cut_into_blocks(month, most):
    rows = month if most > 1 else month[:700]
    store(rows)
    detect()
    whole = alerts(), state()
    start_anew()
    forget_alerts()
    assert alerts() == {}
    detect(most)
    assert (alerts(), state()) == whole


def test_judging_the_same_stretch_again_changes_nothing(month):
    store(month)
    detect()
    before = alerts(), state()
    start_anew()
    detect(300)
    assert (alerts(), state()) == before


def test_a_crash_in_the_middle_loses_nothing_and_raises_nothing_twice(month, monkeypatch):
    store(month)
    detect()
    whole = alerts(), state()
    start_anew()
    forget_alerts()
    write, calls = detecting.write_alerts, []

    def crash(*args):
        calls.append(args)
        write(*args)
        if len(calls) % 2:
            raise OSError("power cut")

    monkeypatch.setattr(detecting, "write_alerts", crash)
    for _ in range(3):
        with pytest.raises(OSError, match="power cut"):
            judge(200)
        judge(200)
    monkeypatch.undo()
    detect(200)
    assert (alerts(), state()) == whole


def test_what_goes_on_after_its_decision_is_opened_again_and_raises_nothing_else(month):
    staff("ada", "Reviewer")
    store(month)
    detect()
    whole = alerts(), state()
    start_anew()
    forget_alerts()
    while judge(40):
        for alert in Alert.objects.filter(status="open"):
            decide_benign(alert.pk, "nothing", by="ada")
    assert (alerts(), state()) == whole
    steps = AlertStep.objects.order_by("alert", "number").values_list("alert", "by", "events")
    told = [list(of_one) for _, of_one in groupby(steps, key=lambda step: step[0])]
    assert len(told) == len(whole[0])
    assert any(len(of_one) > 1 for of_one in told), "some went on after their decision"
    for of_one in told:
        assert [by for _, by, _ in of_one] == ["ada", ""] * (len(of_one) // 2) + ["ada"]
        assert of_one[-1][2] == whole[0][of_one[0][0]][6], "the last decision was about all of it"


def test_two_workers_at_once_raise_the_same_alerts(month):
    store(month)
    detect()
    whole = alerts(), state()
    start_anew()
    forget_alerts()
    judge(1)  # so that the place in the log is there
    left = threading.Event()
    seen = []

    def work():
        while not left.is_set():
            seen.append(judge(50))
            if sum(seen) >= len(month) - 1:
                left.set()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert (alerts(), state()) == whole


def test_alerts_and_state_name_nobody(month):
    store(month)
    detect()
    people = set(AuditEvent.objects.exclude(user_id=None).values_list("user_id", flat=True))
    people |= set(AuditEvent.objects.exclude(ip_address=None).values_list("ip_address", flat=True))
    text = str([list(table.objects.values()) for table in (Alert, AlertEvent, DetectionState)])
    assert people
    assert [person for person in people if f"'{person}'" in text or f'"{person}"' in text] == []


def clock():
    return DetectionState.objects.get(rule="clock").state["hour"]


def test_idle_hours_go_by_once_and_never_backwards(month):
    store(month)
    detect()
    late = datetime(2026, 4, 20, 12, 30, tzinfo=UTC)
    detecting.pass_idle_hours(late)
    after, hour = (alerts(), state()), clock()
    assert hour == detecting.milliseconds(datetime(2026, 4, 20, 12, tzinfo=UTC))
    assert "source-silent" in {row[0] for row in after[0].values()}
    for set_back in (timedelta(), timedelta(hours=5), timedelta(days=400)):
        detecting.pass_idle_hours(late - set_back)
    assert (alerts(), state()) == after


def test_what_was_judged_by_the_idle_clock_is_judged_the_same_when_events_come(month):
    """Whether the hours between two events went by while the log was idle, or all at once."""
    store(month[:900])
    detect()
    until = month[900].recorded_at
    for hours in range(1, 40):
        detecting.pass_idle_hours(min(month[899].recorded_at + timedelta(hours=hours), until))
    store(month[900:])
    detect()
    idle = alerts(), state()
    start_anew()
    forget_alerts()
    detect()
    assert (alerts(), state()) == idle


def test_a_rule_is_judged_by_the_version_of_each_events_place_in_the_log(month):
    store(month[:600])
    detect()
    made = versions.change(
        "failed-sign-ins-user", {"count": 3}, is_on=True, comment="stricter", by="ada"
    )
    versions.change("new-action", {}, is_on=False, comment="too loud", by="ada")
    assert made.from_index == 600
    detect()
    store(month[600:])
    detect(100)
    whole = alerts()
    stricter = [row for row in whole.values() if row[0] == "failed-sign-ins-user"]
    assert {row[1] for row in stricter} == {1, 2}
    assert all(row[1] == (1 if row[5] < 600 else 2) for row in stricter)
    new = [row for row in whole.values() if row[0] == "new-action"]
    assert all(row[5] < 600 for row in new)
    start_anew()
    forget_alerts()
    detect()
    assert alerts() == whole


def test_a_rule_delivered_anew_is_a_new_version_but_where_staff_have_set_it(month, monkeypatch):
    versions.change("mass-export", {"count": 9}, is_on=True, comment="larger", by="ada")
    versions.change("mass-view", {}, is_on=False, comment="too loud", by="ada")
    store(month[:50])
    before = RuleVersion.objects.count()
    versions.ensure("owner")
    assert RuleVersion.objects.count() == before
    anew = [replace(rule, parameters=rule.parameters[::-1][1:]) for rule in versions.RULES]
    monkeypatch.setattr(versions, "RULES", anew)
    versions.ensure("owner")
    newest = versions.newest()
    assert newest["denied-access"].version == 2
    assert newest["denied-access"].from_index == Leaf.objects.count()
    assert newest["denied-access"].parameters == {"count": 8}
    assert newest["denied-access"].comment == versions.RENEWED
    assert newest["mass-export"].parameters["count"] == 9
    assert not newest["mass-view"].is_on


def test_a_block_takes_a_few_queries(month):
    store(month)
    with CaptureQueriesContext(connections["worker"]) as captured:
        judge()
    assert len(captured) <= 18
