"""`manage.py demo`: the whole portal on this machine, with made-up events, in one command.

On standard output stand only the lines that tools read: where the portal is and how to sign in.
What a person may want to know besides goes to standard error.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from audit import seeding
from audit.ingest import is_demo, now
from audit.keys import issue_key
from audit.ledger.publishing import Contradiction
from audit.ledger.sealing import Busy
from audit.models import ApiKey, Scope, Source
from audit.roles import ROLES
from audit.samples import SOURCES
from audit.tasks import seal_pending

HOST = "127.0.0.1"
USER = "demo"
PATIENCE = 60
"""Seconds until the portal has to answer."""


class Command(BaseCommand):
    help = "Set up and serve the portal with made-up events, on this machine only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--events", type=int, default=20_000, help="how many to make up")
        parser.add_argument("--port", type=int, default=8_000, help="where to serve the portal")
        parser.add_argument("--no-serve", action="store_true", help="only set everything up")

    def handle(self, *args: Any, events: int, port: int, no_serve: bool, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            run(events, port, serves=not no_serve)
        except KeyboardInterrupt:
            raise CommandError("stopped before the demo was ready", returncode=130) from None
        except (Contradiction, DatabaseError, ImproperlyConfigured, OSError) as error:
            raise CommandError(" ".join(str(error).split())) from error


def run(events: int, port: int, *, serves: bool) -> None:
    """Everything from an empty directory to a portal that is served until somebody stops it."""
    require_demo(events)
    if serves:
        require_free(port)
    call_command("migrate", verbosity=0)
    demo = remembered() | {"portal": f"http://{HOST}:{port}/", "pid": None}
    set_up(demo)
    remember(demo)
    load(events)
    if serves:
        call_command("collectstatic", verbosity=0, interactive=False)
        serve(demo, port)
    else:
        show(demo)


def require_demo(events: int) -> None:
    if not is_demo(settings.AUDITPORTAL_ORIGIN):
        raise CommandError(
            f"the log {settings.AUDITPORTAL_ORIGIN!r} is no demo: made-up events go only into a log"
            " with 'demo' in its name (AUDITPORTAL_ORIGIN)"
        )
    if events < 0:
        raise CommandError("--events has to be 0 or more")


def require_free(port: int) -> None:
    """Raise CommandError where something else listens on the port, or none may."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise CommandError(
                f"port {port} cannot be had ({error}): choose another one with --port"
            ) from None


# --- what is remembered ------------------------------------------------------------------------


def memory() -> Path:
    """Where the demo keeps its passwords: the database has only their hashes."""
    return Path(settings.AUDITPORTAL_DATA_DIR) / "demo.json"


def remembered() -> dict[str, Any]:
    try:
        return dict(json.loads(memory().read_text()))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise CommandError(f"{memory()} is no JSON any more: remove it, and start again") from None


def remember(demo: dict[str, Any]) -> None:
    """Write demo.json, whole or not at all, readable for its owner only."""
    new = memory().with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(json.dumps(demo, indent=2) + "\n")
    new.replace(memory())


def set_up(demo: dict[str, Any]) -> None:
    """Have the users, sources and the key in the database, and in `demo` how to use them."""
    names = {USER: None} | {role.lower(): role for role in ROLES}
    known = demo.get("users", {})
    demo["user"] = USER
    demo["users"] = {name: known.get(name) or secrets.token_urlsafe(12) for name in names}
    demo["password"] = demo["users"][USER]
    for name, role in names.items():
        set_up_user(name, role, demo["users"][name])
    for name, description in SOURCES.items():
        Source.objects.get_or_create(name=name, defaults={"description": description})
    demo["api_key"] = working_key(demo.get("api_key"))


def set_up_user(name: str, role: str | None, password: str) -> None:
    """A member of staff with the rights of a role; without a role, with all rights."""
    user, _ = User.objects.get_or_create(username=name)
    user.is_staff, user.is_superuser = True, role is None
    user.email = f"{name}@demo.auditportal.invalid"
    if not user.check_password(password):
        user.set_password(password)
    user.save()
    user.groups.set(Group.objects.filter(name=role))


def working_key(key: str | None) -> str:
    """The key itself if it still works, else a new one that may do everything."""
    if key and ApiKey.objects.is_valid(key):
        return key
    _, key = issue_key(source="demo", name="demo", scopes=[scope.value for scope in Scope])
    return key


# --- events ------------------------------------------------------------------------------------


def load(count: int) -> None:
    """Store the made-up events and seal them, if none are there yet."""
    if seeding.is_seeded():
        say("events are here already: all data are kept, nothing is loaded")
        return
    began, stored = time.monotonic(), 0
    try:
        with closing(seeding.store(count, end=now())) as storing:
            for stored in storing:
                with suppress(Busy):  # a worker does it
                    seal_pending()
                show_progress(stored, count)
    finally:
        say(f"{stored:,} events were stored in {time.monotonic() - began:.1f} s")


def show_progress(stored: int, count: int) -> None:
    if sys.stderr.isatty():
        ending = "\r" if stored < count else "\r\033[K"
        print(f"{stored:,} of {count:,} events", end=ending, file=sys.stderr, flush=True)


# --- serving -----------------------------------------------------------------------------------


def serve(demo: dict[str, Any], port: int) -> None:
    """Serve and seal until Ctrl-C or SIGTERM. Raises CommandError where one ends by itself."""
    connections.close_all()
    config = str(settings.BASE_DIR / "auditportal" / "gunicorn.py")
    bind = ("--bind", f"{HOST}:{port}")
    processes = {
        "gunicorn": start("-m", "gunicorn", "-c", config, *bind, "auditportal.wsgi"),
        "the worker": start("manage.py", "worker", AUDITPORTAL_URL=demo["portal"]),
    }
    try:
        wait_until_it_serves(processes["gunicorn"], demo["portal"] + "healthz")
        remember(demo | {"pid": os.getpid()})
        show(demo)
        wait_for_an_end(processes)
    except KeyboardInterrupt:
        say("the demo was stopped; start it again and everything is still there")
    finally:
        for process in processes.values():
            stop(process)
        remember(demo)


Process = subprocess.Popen[bytes]


def start(*arguments: str, **variables: str) -> Process:
    """In a session of its own, so that Ctrl-C reaches only us, and we stop it in order.

    What it prints goes to standard error: mails that are sent nowhere else.
    """
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env=os.environ | variables,
        stdout=2,
        start_new_session=True,
    )


def wait_until_it_serves(gunicorn: Process, url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if gunicorn.poll() is not None:
            raise CommandError(f"gunicorn does not start (exit status {gunicorn.returncode})")
        try:
            with urlopen(url, timeout=5) as answer:  # noqa: S310  # our own address
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    raise CommandError(f"{url} does not answer as it should within {PATIENCE} s")


def wait_for_an_end(processes: dict[str, Process]) -> NoReturn:
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise CommandError(f"{name} ended by itself (exit status {process.returncode})")
        time.sleep(0.5)


def stop(process: Process) -> None:
    """Let running requests end, for as long as they are granted or until a second Ctrl-C."""
    process.terminate()
    try:
        process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()


def show(demo: dict[str, Any]) -> None:
    """The three lines that tools read."""
    print(f"portal {demo['portal']}")
    print(f"sign in {demo['user']} {demo['password']}")
    print(f"api key {demo['api_key']}", flush=True)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
