"""`manage.py seal_ledger`: give what is pending its place in the log, and sign the new tree."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit import tasks
from audit.ledger import publishing, sealing, storage


class Command(BaseCommand):
    help = "Seal what is pending. 'manage.py worker' does it all the time, and publishes too."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="seal what is pending now, and end")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        try:
            tasks.seal_pending()
            while not once:
                tasks.until_events_come()
                tasks.seal_pending()
        except KeyboardInterrupt:
            pass
        except (
            publishing.Contradiction, sealing.Busy, ImproperlyConfigured, DatabaseError, OSError,
        ) as error:  # fmt: skip
            raise CommandError(" ".join(str(error).split())) from error
        head = storage.head(tasks.USING)
        self.stdout.write(f"sealed {head.size if head else 0:,} events")
