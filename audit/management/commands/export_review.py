"""`manage.py export_review`: evidence of daily reviews, for an assessor who names the days."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit.enums import Category
from audit.ingest import now
from audit.review.evidence import BadRange, chosen, export


class Command(BaseCommand):
    help = "Write evidence of daily reviews as a ZIP: sign-offs, alerts, exceptions, proofs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="first", type=_day, required=True, metavar="DAY")
        parser.add_argument("--to", dest="last", type=_day, required=True, metavar="DAY")
        parser.add_argument(
            "--category", action="append", choices=[one.value for one in Category], default=[],
            help="may be given more than once; by default all",
        )  # fmt: skip
        parser.add_argument("-o", "--output", type=Path, required=True, help="the ZIP to write")

    def handle(
        self, *args: Any, first: date, last: date, category: list[str], output: Path, **options: Any
    ) -> None:
        categories = [Category(name) for name in category] or list(Category)
        try:
            wanted = chosen(first, last, categories, now())
            with output.open("wb") as file:
                size = export(file, wanted, actor_type="system")
        except (BadRange, OSError, DatabaseError) as error:
            raise CommandError(" ".join(str(error).split())) from error
        self.stdout.write(f"{output} holds the reviews of {first} to {last}: {size:,} bytes")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day; write it like 2026-03-01") from None
