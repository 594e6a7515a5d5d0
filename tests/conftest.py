"""The cast of the tests, and what they share. Everything runs on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connections
from django.test import Client
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from audit.ingest import Receipt, ingest
from audit.models import ApiKey, Scope, Source
from audit.recorder import audit
from auditportal.embedded import cluster, server

ALIASES = ("default", "evidence", "owner", "worker")


@pytest.fixture(autouse=True)
def _plain_static_files(settings: Any) -> None:
    """Pages in tests need no collected static files."""
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }


@pytest.fixture(autouse=True)
def _recorder_in_transaction(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a test is a transaction that is rolled back, the recorder writes into it.

    Its own connection would commit, for all tests after it. With `own_database` it does that.
    """
    if "own_database" not in request.fixturenames:
        monkeypatch.setattr(audit, "using", "default")


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    """Django's hasher takes half a second for each user, on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _log_of_its_own(settings: Any, tmp_path: Path) -> None:
    """Each test signs with a key of its own and remembers its own checkpoints."""
    settings.AUDITPORTAL_SIGNING_KEY_FILE = tmp_path / "signing_key"
    settings.LEDGER_MEMORY_DIR = tmp_path / "published"
    settings.LEDGER_MAKES_ITS_KEY = True


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_modify_db_settings: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """The test database, always for all three roles.

    pytest-django would set up only what the collected tests name; with `default` alone, Django
    leaves its mirror `owner`, and so both, on the real database.
    """
    _start_server()
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases=set(ALIASES))
        assert connections["default"].settings_dict["NAME"].startswith("test_")
        yield
        connections.close_all()
        end_sessions(connections["owner"].settings_dict["NAME"])
        teardown_databases(made, verbosity=0)


def _start_server() -> None:
    """Have the tests' server in a directory of its own, and quick.

    What tests store may be lost with the machine. Without fsync a database of a test's own costs a
    tenth of the time; but never where a demo keeps its events.
    """
    if settings.DEPLOYED or settings.AUDITPORTAL_DATA_DIR == settings.BASE_DIR / "var":
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cluster.SETTINGS, "fsync", "off")
        server.running(settings.AUDITPORTAL_DATA_DIR)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the database, and what does so through a page or the API only.

    What is run again on another version of the database is told by these marks.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "django_db_setup" in fixtures or item.get_closest_marker("django_db"):
            item.add_marker("database")
        if fixtures & {"client", "as_user"}:
            item.add_marker("door")


def pytest_sessionfinish() -> None:
    """An xdist worker ends without Python's exit handlers: let go of the embedded server here."""
    if not settings.DEPLOYED:
        server.leave(settings.AUDITPORTAL_DATA_DIR)


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> None:
    """The tables for the cast below: those of a database of the test's own, if it has one."""
    own = "own_database" in request.fixturenames
    request.getfixturevalue("own_database" if own else "db")


# --- staff -------------------------------------------------------------------------------------


def _staff(name: str, role: str = "") -> User:
    user = User.objects.create_user(name, password="correct horse battery", is_staff=True)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def auditor(tables: None) -> User:
    """Views and exports events."""
    return _staff("auditor", "Auditor")


@pytest.fixture
def reviewer(tables: None) -> User:
    """Views events."""
    return _staff("reviewer", "Reviewer")


@pytest.fixture
def manager(tables: None) -> User:
    """Views and exports events, and hands out API keys."""
    return _staff("manager", "Manager")


@pytest.fixture
def outsider(tables: None) -> User:
    """Signs in as staff and has no role."""
    return _staff("outsider")


@pytest.fixture
def as_user() -> Callable[[User], Client]:
    """A client that is signed in as somebody."""

    def signed_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return signed_in


# --- applications ------------------------------------------------------------------------------


class App:
    """An application with an API key, which writes and reads events."""

    def __init__(self, source: str, scopes: list[str]) -> None:
        owner, _ = Source.objects.get_or_create(name=source)
        _, self.key = ApiKey.objects.create_key(name=source, source=owner, scopes=scopes)
        self.client = Client(headers={"Authorization": f"Api-Key {self.key}"})

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, query)

    def post(self, body: Any, content_type: str = "application/json") -> Any:
        """Send a body to the events' door: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post("/api/v1/events/", data, content_type=content_type)


@pytest.fixture
def app(tables: None) -> App:
    """An application whose key may do everything."""
    return App("payments", [scope.value for scope in Scope])


# --- events ------------------------------------------------------------------------------------


def a_sign_in(**fields: Any) -> dict[str, Any]:
    """A failed sign-in as an application sends it, complete by the catalogue."""
    return {
        "action": "user_login_failed",
        "user_id": "u-1",
        "ip_address": "192.0.2.7",
        "context": {"reason": "invalid_password", "attempts": 1, "email": "ada@example.com"},
    } | fields


@pytest.fixture
def store(tables: None) -> Callable[..., list[Receipt]]:
    """Stores events through the real ingest; a failed sign-in unless the fields say otherwise."""

    def stored(*events: dict[str, Any], source: str = "payments") -> list[Receipt]:
        return ingest([a_sign_in(**event) for event in events], source=source)

    return stored


# --- a database of one's own -------------------------------------------------------------------


@pytest.fixture
def own_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A copy of the test database for a test that commits; dropped afterwards."""
    with _copy_of_the_database(django_db_blocker) as name:
        yield name


@pytest.fixture(scope="module")
def database_of_module(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The same for all tests of a module that only read what it takes long to store."""
    with _copy_of_the_database(django_db_blocker) as name:
        yield name


@contextmanager
def _copy_of_the_database(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Django would empty its database with TRUNCATE, which the guard refuses."""
    template = connections["owner"].settings_dict["NAME"]
    name = f"{template}_{uuid4().hex[:8]}"
    with django_db_blocker.unblock():
        _point_to(template)
        end_sessions(template)
        _as_maintenance(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        _point_to(name)
        yield name
        _point_to(template)
        end_sessions(name)
        _as_maintenance(f'DROP DATABASE "{name}"')


def superuser_dsn() -> str:
    """How tests connect as PostgreSQL's superuser: to tamper, and to clear up after threads."""
    if settings.DEPLOYED:
        return os.environ["AUDITPORTAL_TEST_SUPERUSER_URL"]
    return server.superuser_dsn(settings.AUDITPORTAL_DATA_DIR)


def end_sessions(database: str) -> None:
    """End what threads of a test have left open: a database in use cannot be dropped."""
    with psycopg.connect(superuser_dsn()) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            [database],
        )


def _point_to(name: str) -> None:
    for alias in ALIASES:
        connections[alias].close()
        connections[alias].settings_dict["NAME"] = name


def _as_maintenance(statement: str) -> None:
    with connections["owner"]._nodb_cursor() as cursor:
        cursor.execute(statement)


# --- a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, closed with the module: other tests run event loops of their own."""
    from tests.browser import chromium  # most tests need no browser, and not the time to import it

    with chromium() as browser:
        yield browser


@pytest.fixture(params=[("light", 1280), ("dark", 400)], ids=["light-1280", "dark-400"])
def look(request: pytest.FixtureRequest) -> tuple[str, int]:
    """A colour scheme and a window's width, each once: `test_look` computes all contrasts."""
    found: tuple[str, int] = request.param
    return found


# --- waiting -----------------------------------------------------------------------------------


def soon(is_so: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it becomes so within that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.05)
    return False
