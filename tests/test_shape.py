"""The shape of the project: what is promised elsewhere, and would rot without anyone noticing."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import get_commands, load_command_class
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, get_resolver

from audit.models import ApiKey, Source
from auditportal import VERSION

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def sources(*patterns: str) -> Iterator[Path]:
    """The project's own files: not what tools and servers leave beside them."""
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


# --- addresses ---------------------------------------------------------------------------------

CHANGES = {
    "admin/login/": "test_receivers::test_a_sign_in_is_recorded_as_a_pair",
    "admin/logout/": "test_receivers::test_a_sign_out_is_recorded",
    "admin/password_change/": "test_shape::test_staff_change_their_own_password",
    "admin/audit/auditevent/{id}/verify/": (
        "test_ledger_pages::test_verifying_an_event_shows_each_step_and_is_recorded"
    ),
    "admin/audit/source/add/": "test_pages::test_a_bad_name_of_a_source_is_refused",
    "admin/audit/source/{id}/change/": (
        "test_pages::test_a_manager_makes_a_source_and_describes_it_later"
    ),
    "admin/audit/source/{id}/delete/": "test_pages::test_no_source_is_deleted",
    "admin/audit/apikey/add/": (
        "test_pages::test_a_new_key_is_shown_once_works_and_is_stored_hashed"
    ),
    "admin/audit/apikey/{id}/change/": (
        "test_pages::test_a_key_is_revoked_with_a_reason_and_for_good"
    ),
    "admin/audit/apikey/{id}/delete/": (
        "test_pages::test_nothing_else_of_a_key_can_be_changed_nor_is_it_deleted"
    ),
    "admin/audit/auditevent/views/": (
        "test_saved_views::test_what_the_list_shows_is_kept_under_a_name"
    ),
    "admin/audit/auditevent/views/{id}/": (
        "test_saved_views::test_one_renames_ones_own_view_and_shares_it"
    ),
    "admin/audit/auditevent/views/{id}/delete/": (
        "test_saved_views::test_a_deleted_view_is_shown_once_more_to_save_it_again"
    ),
    "admin/rules/{id}/": "detection/test_pages::test_a_manager_changes_a_rule_and_says_why",
    "admin/days/{id}/{id}/sign/": (
        "test_review_days::test_a_day_is_signed_through_the_page_and_then_by_a_second_person"
    ),
    "admin/days/{id}/{id}/second/": (
        "test_review_days::test_a_day_is_signed_through_the_page_and_then_by_a_second_person"
    ),
    "admin/auth/user/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/user/add/": "test_receivers::test_nobody_but_superusers_changes_users",
    "admin/auth/user/{id}/change/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/user/{id}/delete/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/user/{id}/password/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/group/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/group/add/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/group/{id}/change/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/auth/group/{id}/delete/": "test_shape::test_only_superusers_reach_users_and_groups",
    "admin/audit/auditevent/review/": "test_marking::test_selected_events_are_marked",
    "admin/alerts/{id}/": "test_review_pages::test_an_alert_is_decided_on_its_page",
    "admin/exceptions/new/": "test_review_pages::test_an_exception_is_opened_from_an_alert",
    "admin/exceptions/{id}/": ("test_review_pages::test_an_exception_is_followed_up_on_its_page"),
    "api/v1/events/": "test_api::TESTED",
}
"""Every address at which something may change, and a test of it. The others only read."""


def routes() -> list[str]:
    """Every address of the project, its parameters written {id}, without the catch-alls."""
    found = []

    def walk(patterns: list[Any], before: str) -> None:
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if isinstance(pattern, URLPattern):
                found.append(route)
            else:
                walk(pattern.url_patterns, route)

    walk(get_resolver().url_patterns, "")
    written = (re.sub(r"<[^>]*>", "{id}", route) for route in found if "(?P" not in route)
    return [route for route in written if route]


def test_every_address_that_changes_something_has_a_test():
    assert CHANGES.keys() <= set(routes()), "an address is gone"
    for named in CHANGES.values():
        module, _, function = named.partition("::")
        text = (ROOT / "tests" / f"{module}.py").read_text()
        assert function == "TESTED" or f"\ndef {function}(" in text, named
    assert '.post("/api/v1/events/"' in (ROOT / "tests" / "conftest.py").read_text()


@pytest.mark.django_db
def test_every_other_address_changes_nothing_even_when_it_is_posted_to(client):
    """But what the portal keeps of requests themselves: sessions, evidence, refusals."""
    client.force_login(User.objects.create_superuser("root"))
    source = Source.objects.create(name="crm")
    key, _ = ApiKey.objects.create_key(name="k", source=source, scopes=["write"])
    sent = {"action": "delete_selected", "_selected_action": [source.pk, key.pk], "post": "yes"}
    for route in routes():
        if route in CHANGES:
            continue
        id = key.pk if "apikey" in route else source.pk if "/source/" in route else uuid4()
        with CaptureQueriesContext(connection) as queries:
            client.post("/" + route.replace("{id}", str(id)), sent)
        written = [
            sql
            for sql in (str(query["sql"]).strip() for query in queries)
            if re.match(r"(INSERT|UPDATE|DELETE|COPY)\b", sql)
            and not re.search(r"django_session|audit_(auditevent|pending|refusal)", sql)
        ]
        assert written == [], route


@pytest.mark.django_db
def test_staff_change_their_own_password(as_user, reviewer):
    new = "another fine horse"
    old = "correct horse battery"
    sent = {"old_password": old, "new_password1": new, "new_password2": new}
    assert as_user(reviewer).post("/admin/password_change/", sent).status_code == 302
    reviewer.refresh_from_db()
    assert reviewer.check_password(new)


@pytest.mark.django_db
def test_only_superusers_reach_users_and_groups(as_user, manager):
    client = as_user(manager)
    before = list(User.objects.values()), list(Group.objects.values())
    ids = {"user": manager.pk, "group": Group.objects.first().pk}
    reached = [route for route in routes() if route.startswith("admin/auth/")]
    assert reached
    for route in reached:
        url = "/" + route.replace("{id}", str(ids[route.split("/")[2]]))
        answer = client.post(url, {"is_superuser": "on", "post": "yes"})
        assert answer.status_code in (302, 403), url
        assert answer.status_code == 403 or answer["Location"].endswith("/change/"), url
    assert (list(User.objects.values()), list(Group.objects.values())) == before


# --- commands ----------------------------------------------------------------------------------

OURS = sorted(name for name, app in get_commands().items() if app == "audit")


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_named_by_a_test_and_helps(name):
    here = Path(__file__)
    tests = [path.read_text() for path in sources("tests/**/test_*.py") if path != here]
    assert any(f'"{name}"' in text or f"import {name}" in text for text in tests)
    parser = load_command_class("audit", name).create_parser("manage.py", name)
    assert parser.description, "its help says what it is for"


def test_the_readmes_make_targets_and_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    told = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test", "lint", "format", "lock"} <= told <= targets
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    assert set(re.findall(r"\b([A-Z]+)=\d+", README)) <= variables
    assert set(re.findall(r"manage\.py ([a-z_]+)", README)) <= get_commands().keys()


def test_every_target_of_the_makefile_can_be_made():
    makefile = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert set(phony.split()) == targets


def test_the_readmes_paths_exist():
    told = re.findall(r"`((?:audit|auditportal|static|tests)/[\w./]+)`", README)
    told += re.findall(r"\]\(((?!http)[^)]+)\)", README)
    assert told
    missing = [name for name in told if not (ROOT / name).exists()]
    missing = [name for name in missing if not (ROOT / f"{name}.py").exists()]
    assert missing == []


# --- settings ----------------------------------------------------------------------------------


def test_the_readmes_variables_are_those_that_the_settings_read():
    text = (ROOT / "auditportal" / "settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', text))
    by = "required_when_deployed|database|hour|proxies|zone"
    read |= set(re.findall(rf'_(?:{by})\(\s*"([A-Z_]+)"', text))
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert read - told - {"DEBUG"} == set(), "not in the README's table"
    assert told - read == set(), "not read in settings.py"
    assert "`DEBUG`" in README


# --- migrations --------------------------------------------------------------------------------

PROJECT = ("audit", "auditportal", "static", "templates")
NEW_ACTION = (
    '    CARD_FROZEN = _provider("card_freeze", "event/success", "Card frozen", "provider_name")\n'
)


def test_a_new_action_is_one_line_and_makes_no_migration(tmp_path):
    for name in PROJECT:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    enums = tmp_path / "audit" / "enums.py"
    lines = enums.read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if re.match(r" {4}[A-Z_]+ += _provider\(", line))
    lines.insert(last + 1, NEW_ACTION)
    enums.write_text("".join(lines))
    script = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from audit.models import AuditEvent\n"
        "choices = str(list(AuditEvent._meta.get_field('action').choices))\n"
        "assert 'card_frozen' in choices, choices\n"
        "call_command('makemigrations', check_changes=True, dry_run=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "DJANGO_SETTINGS_MODULE": "auditportal.settings",
            "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing",  # none is needed, none answers
            "AUDITPORTAL_ORIGIN": "audit.example.org",
            "AUDITPORTAL_DATA_DIR": str(tmp_path / "var"),
            "SECRET_KEY": "only for this test",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "No changes detected\n"), done.stderr


def test_a_migrations_name_says_what_it_does():
    names = [path.stem for path in sources("audit/migrations/[0-9]*.py")]
    assert names
    for number, name in enumerate(sorted(names), start=1):
        assert re.fullmatch(rf"{number:04}_[a-z]+(_[a-z]+)*", name), name
        assert not re.search(r"_auto|_initial|_squashed|_alter_|_remove_", name), name


# --- what no file holds ------------------------------------------------------------------------

HERE = "/" + "work/"
REGISTRIES = re.compile(r"pypi\.|pythonhosted\.|npmjs\.|ghcr\.io|quay\.io")


def test_no_file_names_the_machine_it_was_written_on_or_a_registry():
    texts = ["audit/**/*", "auditportal/**/*", "templates/**/*", "static/**/*", "tests/**/*.py"]
    texts += ["*.md", "*.toml", "*.txt", "Makefile", ".ci/*", "manage.py"]
    for path in sources(*texts):
        if path.suffix in {".png", ".pyc"} or path == Path(__file__):
            continue
        text = path.read_text()
        assert HERE not in text, path
        assert not REGISTRIES.search(text), path


def test_templates_hold_no_inline_style_or_script():
    forbidden = re.compile(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\bsrc=)|javascript:")
    for path in sources("templates/**/*.html"):
        assert not forbidden.search(path.read_text()), path


def test_every_template_and_static_file_is_used():
    code = "\n".join(
        path.read_text() for path in sources("audit/**/*.py", "templates/**/*.html", "README.md")
    )
    by_convention = {"400.html", "403.html", "403_csrf.html", "404.html", "500.html"}
    for path in sources("templates/**/*.html", "static/**/*"):
        root = ROOT / path.relative_to(ROOT).parts[0]
        name = str(path.relative_to(root))
        assert name in code or name in by_convention or name.startswith("admin/"), path


def test_every_module_imports_by_itself():
    for path in sources("audit/**/*.py"):
        if "migrations" not in path.parts:
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_what_pyproject_asks_for_stands_in_the_locks() -> None:
    """A dependency that was added without `make lock` would be missing in every fresh clone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
    wanted = {
        "requirements.txt": project["project"]["dependencies"],
        "tests/requirements.txt": project["dependency-groups"]["test"],
    }
    for file, pins in wanted.items():
        locked = set(re.findall(r"^([\w.-]+==[\w.]+)", (ROOT / file).read_text(), re.MULTILINE))
        assert {re.sub(r"\[.*?\]", "", pin) for pin in pins} <= locked, file
