"""A new API key, printed once: only its hash is stored."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from audit.canonical import time_text
from audit.keys import issue_key
from audit.models import Scope

NAME_LENGTH = 50  # the model's


def last_day(text: str) -> datetime:
    """The moment at which a key ends whose last day, in UTC, is written YYYY-MM-DD."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is no day such as 2026-12-31") from None


def scope_list(text: str) -> list[str]:
    """Scopes with commas between them, each once."""
    scopes = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in scopes if name not in Scope.values]:
        known = ", ".join(Scope.values)
        raise ArgumentTypeError(f"{unknown[0]!r} is no scope; there are {known}")
    return scopes


class Command(BaseCommand):
    help = "Make an API key for a source, and the source if it is new. Prints the key on stdout."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", help="the application, as it will stand in its events")
        parser.add_argument("--name", default="", help="what the key is for; by default the source")
        parser.add_argument(
            "--scopes",
            type=scope_list,
            default=[Scope.WRITE.value],
            help=f"what it opens, of {','.join(Scope.values)}; by default write",
        )
        parser.add_argument(
            "--expires", type=last_day, metavar="YYYY-MM-DD", help="the key's last day, in UTC"
        )
        parser.add_argument(
            "--rate", type=int, metavar="N", help="how many events it may send in a minute"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        source, expires = options["source"], options["expires"]
        try:
            key, text = issue_key(
                source=source,
                name=options["name"] or source[:NAME_LENGTH],
                scopes=options["scopes"],
                expires=expires,
                rate=options["rate"],
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(text)
        until = f"until {time_text(expires)}" if expires else "without an end"
        pace = f", {key.rate} events a minute" if key.rate else ""
        self.stderr.write(
            f"This key of {source} may {', '.join(key.scopes)}{pace}, {until}. "
            "Keep it now: it cannot be shown again."
        )
