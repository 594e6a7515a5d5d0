"""`manage.py worker`: what happens by itself, until it is stopped: sealing and publishing."""

import signal
from threading import Event
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit import tasks
from audit.enums import PortalAction
from audit.recorder import audit
from auditportal import VERSION


class Command(BaseCommand):
    help = "Seal and publish what is recorded, until SIGTERM or Ctrl-C. Any number may run."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        try:
            tasks.require_ready()
            _record(PortalAction.PORTAL_LOG_STARTED)
        except (DatabaseError, ImproperlyConfigured) as error:
            raise CommandError(" ".join(str(error).split())) from error
        tasks.collect_rarely()
        threads = tasks.start(stop)
        while not stop.wait(60):
            pass
        for thread in threads:
            thread.join()
        _record(PortalAction.PORTAL_LOG_STOPPED)


def _record(action: PortalAction) -> None:
    audit.record_sync(
        action=action, actor_type="system", context={"process": "worker", "version": VERSION}
    )
