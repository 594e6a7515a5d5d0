"""`manage.py make_signing_key`: a private key for the log, in a file that only its owner reads."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit.ledger.keys import make_key


class Command(BaseCommand):
    help = "Make a private key that signs the log. Prints its public half, the verifier key."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file",
            type=Path,
            nargs="?",
            default=settings.AUDITPORTAL_SIGNING_KEY_FILE,
            help="where it is kept; by default what AUDITPORTAL_SIGNING_KEY_FILE says",
        )

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            key = make_key(file, settings.AUDITPORTAL_ORIGIN)
        except FileExistsError as error:
            # The file itself, or one that is where a folder has to be.
            taken = error.filename2 or error.filename
            raise CommandError(f"{taken} is there already: no key is ever overwritten") from None
        except (OSError, ValueError) as error:
            raise CommandError(f"no key was made: {error}") from None
        self.stdout.write(key.verifier.text())
        self.stderr.write(
            f"The private key is in {file}, mode 0600. Whoever has it can sign for this log: keep "
            "a copy of it away from the portal's machines. Give the line above to your assessors."
        )
