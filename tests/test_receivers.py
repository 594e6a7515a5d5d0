"""What Django tells us of: sign-ins through the real admin, and what follows a migrate."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from audit import roles
from audit.models import AuditEvent, Log

PASSWORD = "correct horse battery"
AGENT = {"headers": {"User-Agent": "Browser/1.0"}}


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def sign_in(name, password=PASSWORD, client=None):
    client = client or Client(REMOTE_ADDR="192.0.2.9", **AGENT)
    client.post(reverse("admin:login"), {"username": name, "password": password})
    return client


def recorded(*actions):
    """The events of these actions, in the order of recording."""
    return list(AuditEvent.objects.filter(action__in=actions).order_by("id"))


PAIR = ("user_login_attempted", "user_login_success", "user_login_failed")


def test_a_sign_in_is_recorded_as_a_pair(auditor):
    client = sign_in("auditor")
    assert client.get(reverse("admin:index")).status_code == 200
    attempt, success = recorded(*PAIR)
    assert (attempt.action, success.action) == PAIR[:2]
    for event in (attempt, success):
        assert (event.source, event.user_id, event.resource_type) == (
            "auditportal", "auditor", "session",
        )  # fmt: skip
        assert (event.ip_address, event.user_agent) == ("192.0.2.9", "Browser/1.0")
    assert attempt.correlation_id == success.correlation_id is not None
    assert success.context == {"method": "password", "mfa": False, "remember_me": False}


def test_a_refused_sign_in_is_recorded_as_a_pair(auditor):
    sign_in("auditor", "wrong")
    attempt, failure = recorded(*PAIR)
    assert (attempt.action, failure.action) == (PAIR[0], PAIR[2])
    assert attempt.correlation_id == failure.correlation_id is not None
    assert failure.user_id == "auditor"
    assert failure.outcome == "failure"
    assert failure.context == {"reason": "invalid_credentials"}


def test_each_sign_in_has_a_correlation_id_of_its_own(auditor):
    for password in ("wrong", "wrong", PASSWORD):
        sign_in("auditor", password)
    events = recorded(*PAIR)
    assert len(events) == 6
    assert len({event.correlation_id for event in events}) == 3


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["nobody", "x" * 254, "a\x01b", "😀", "' OR 1=1 --", "=1+1"])
def test_a_name_that_nobody_has_is_recorded_as_given(name):
    sign_in(name)
    assert [event.user_id for event in recorded(*PAIR)] == [name, name]


def test_no_password_is_recorded(auditor):
    sign_in("auditor", "my-secret-password")
    sign_in("auditor")
    for event in AuditEvent.objects.all():
        assert "my-secret-password" not in str(vars(event))
        assert PASSWORD not in str(vars(event))


def test_a_sign_out_is_recorded(auditor):
    client = sign_in("auditor")
    client.post(reverse("admin:logout"))
    [event] = recorded("user_logout")
    assert (event.user_id, event.resource_type, event.source) == (
        "auditor",
        "session",
        "auditportal",
    )
    assert event.context == {"logout_method": "explicit"}


@pytest.mark.django_db
def test_a_sign_out_of_nobody_is_not_recorded():
    Client().post(reverse("admin:logout"))
    assert recorded("user_logout") == []


def test_a_browser_without_a_name_or_with_a_long_one_may_sign_in(auditor):
    for agent in ("", "x" * 5000):
        client = Client(REMOTE_ADDR="::1", headers={"User-Agent": agent})
        assert sign_in("auditor", client=client).get(reverse("admin:index")).status_code == 200
    assert {event.user_agent for event in recorded(PAIR[1])} == {None, "x" * 1024}


def test_a_failure_to_record_refuses_the_sign_in(auditor, monkeypatch):
    """No evidence, no entry."""

    def broken(*arguments, **fields):
        raise RuntimeError("no database")

    monkeypatch.setattr("audit.recorder.ingest", broken)
    client = Client(raise_request_exception=False)
    answer = client.post(reverse("admin:login"), {"username": "auditor", "password": PASSWORD})
    assert answer.status_code == 500
    assert client.get(reverse("admin:index")).status_code == 302


# --- roles -------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("name", roles.ROLES)
def test_a_group_has_exactly_the_permissions_of_the_table(name):
    found = Group.objects.get(name=name).permissions.values_list(
        "content_type__app_label", "codename"
    )
    assert set(found) == {("audit", code) for code in roles.ROLES[name].split()}


@pytest.mark.django_db
def test_every_code_of_the_table_is_a_permission():
    codes = {code for line in roles.ROLES.values() for code in line.split()}
    known = set(
        Permission.objects.filter(content_type__app_label="audit").values_list(
            "codename", flat=True
        )
    )
    assert codes <= known


@pytest.mark.django_db(databases=["owner"])
def test_migrating_again_takes_back_what_somebody_added():
    group = Group.objects.using("owner").get(name="Reviewer")
    group.permissions.add(Permission.objects.using("owner").get(codename="change_user"))
    roles.ensure("owner")
    held = {permission.codename for permission in group.permissions.all()}
    assert held == set(roles.ROLES["Reviewer"].split())


@pytest.mark.django_db
def test_no_permission_lets_anyone_change_or_delete_events():
    codes = set(
        Permission.objects.filter(content_type__model="auditevent").values_list(
            "codename", flat=True
        )
    )
    assert codes == {"view_auditevent", "export_auditevent"}


@pytest.mark.parametrize("role", ["auditor", "reviewer", "manager", "outsider"])
@pytest.mark.parametrize("model", ["user", "group"])
def test_nobody_but_superusers_changes_users(request, as_user, role, model):
    user = request.getfixturevalue(role)
    client = as_user(user)
    for permission in ("view", "add", "change", "delete"):
        assert not user.has_perm(f"auth.{permission}_{model}")
    for page, arguments in (
        ("changelist", []),
        ("add", []),
        ("change", [user.pk]),
        ("delete", [user.pk]),
    ):
        answer = client.get(reverse(f"admin:auth_{model}_{page}", args=arguments))
        assert answer.status_code in (302, 403), page


def test_a_superuser_changes_users(as_user, db):
    root = User.objects.create_superuser("root", password=PASSWORD)
    answer = as_user(root).get(reverse("admin:auth_user_change", args=[root.pk]))
    assert answer.status_code == 200


def test_a_database_may_be_migrated_again(own_database, settings):
    call_command("migrate", verbosity=0)
    assert [log.origin for log in Log.objects.using("owner").all()] == [settings.AUDITPORTAL_ORIGIN]
    assert Group.objects.count() == len(roles.ROLES)
