"""`manage.py rotate_signing_key`: the log's key signs that another one takes over."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit import tasks
from audit.enums import PortalAction
from audit.ledger.keys import hand_over, read_key
from audit.ledger.notes import VerifierKey
from audit.models import LogKey
from audit.recorder import audit


class Command(BaseCommand):
    help = "Hand the log over from the key in AUDITPORTAL_SIGNING_KEY_FILE to a new one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("new", type=Path, help="the new key, made with make_signing_key")

    def handle(self, *args: Any, new: Path, **options: Any) -> None:
        old = settings.AUDITPORTAL_SIGNING_KEY_FILE
        try:
            taken = hand_over(read_key(old), read_key(new), using=tasks.USING)
            _record(taken)
        except (ImproperlyConfigured, ValueError, DatabaseError) as error:
            raise CommandError(" ".join(str(error).split())) from error
        self.stdout.write(taken.vkey)
        self.stderr.write(
            f"This key signs from {taken.from_size:,} entries on. Until the worker has it, nothing "
            f"is sealed: set AUDITPORTAL_SIGNING_KEY_FILE={new} and restart the worker. Keep {old} "
            "until it runs, then destroy it. Who verifies the log needs nothing new: the old key "
            "has signed the hand-over."
        )


def _record(taken: LogKey) -> None:
    key = VerifierKey.parse(taken.vkey).key_id.hex()
    audit.record_sync(
        action=PortalAction.PORTAL_SIGNING_KEY_ROTATED,
        actor_type="system",
        context={"signing_key": key, "from_size": taken.from_size},
    )
