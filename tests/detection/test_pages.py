"""The rules' pages: what staff read of a rule, how they try it, and how they change it."""

from __future__ import annotations

import re

import pytest

from audit.detection.rules import BY_SLUG, RULES
from audit.models import AuditEvent, RuleVersion

pytestmark = pytest.mark.django_db

SLUG = "failed-sign-ins-user"
PAGE = f"/admin/rules/{SLUG}/"


def form(**fields):
    return {"count": "6", "minutes": "30", "days": "90", "is_on": "on", "comment": ""} | fields


def newest():
    return RuleVersion.objects.filter(rule=SLUG).order_by("-version").first()


def test_the_list_shows_every_rule_with_its_words_and_clauses(as_user, auditor):
    page = as_user(auditor).get("/admin/rules/")
    text = page.content.decode()
    for rule in RULES:
        assert rule.title in text
        assert all(clause in text for clause in rule.clauses)
    assert f"{len(RULES)} of {len(RULES)} rules are on" in text


def test_a_rules_page_shows_how_it_is_set_and_its_history(as_user, auditor):
    text = as_user(auditor).get(PAGE).content.decode()
    assert BY_SLUG[SLUG].words in text
    assert "As delivered." in text
    assert 'name="count" value="6"' in text
    assert "Set from now on" not in text  # an auditor reads


def test_a_manager_changes_a_rule_and_says_why(as_user, manager):
    sent = form(do="change", count="4", comment="The last audit asked for it.")
    answer = as_user(manager).post(PAGE, sent, follow=True)
    assert "Version 2 is on from the next event on" in answer.content.decode()
    made = newest()
    assert (made.version, made.parameters) == (2, {"count": 4, "minutes": 30})
    assert (made.changed_by, made.comment) == ("manager", "The last audit asked for it.")
    event = AuditEvent.objects.get(action="portal_rule_changed")
    assert event.user_id == "manager"
    assert event.context == {"rule": SLUG, "rule_version": 2, "is_on": True}
    assert event.personal_context == {"comment": "The last audit asked for it."}


def test_a_rule_is_switched_off_and_the_history_keeps_both(as_user, manager):
    sent = form(do="change", comment="Too loud.")
    del sent["is_on"]
    as_user(manager).post(PAGE, sent)
    assert not newest().is_on
    text = as_user(manager).get(PAGE).content.decode()
    assert re.search(r"Too loud\..*As delivered\.", text, re.DOTALL)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"comment": " "}, "needs a comment that says why"),
        ({"comment": "x"}, "is set so already"),
        ({"comment": "x", "count": "0"}, "Count lies between 1 and 1000 failures; 0 does not"),
        ({"comment": "x", "count": "many"}, "is a whole number, not &#x27;many&#x27;"),
        ({"comment": "x", "count": "9" * 40}, "is a whole number"),
        ({"comment": "x", "minutes": ""}, "is a whole number"),
    ],
)
def test_a_bad_change_is_refused_in_words_and_keeps_what_was_typed(as_user, manager, fields, said):
    answer = as_user(manager).post(PAGE, form(do="change") | fields)
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert newest().version == 1


@pytest.mark.parametrize("user", ["auditor", "reviewer"])
def test_who_may_only_read_rules_changes_none(as_user, request, user):
    client = as_user(request.getfixturevalue(user))
    answer = client.post(PAGE, form(do="change", count="4", comment="x"))
    assert answer.status_code == 403
    assert newest().version == 1


@pytest.mark.parametrize("path", ["/admin/rules/", PAGE])
def test_the_pages_need_a_role_and_a_sign_in(as_user, outsider, client, path):
    assert as_user(outsider).get(path).status_code == 403
    assert client.get(path).status_code == 302


def test_an_unknown_rule_is_not_found(as_user, auditor):
    assert as_user(auditor).get("/admin/rules/nonsense/").status_code == 404


@pytest.mark.parametrize("days", ["0", "401", "x", ""])
def test_a_trial_over_no_time_is_refused(as_user, auditor, days):
    answer = as_user(auditor).post(PAGE, form(do="try", days=days))
    assert answer.status_code == 400
