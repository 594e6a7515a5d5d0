"""`manage.py try_rule`: what a detection rule would have raised over past events."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit.detection import trying, versions
from audit.detection.rules import rule
from audit.ingest import now


class Command(BaseCommand):
    help = "Try a detection rule over past events; nothing is written."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("rule", help="the rule's name, such as failed-sign-ins-user")
        parser.add_argument("--days", type=int, default=90, help="how far back (default: 90)")
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chosen = rule(options["rule"])
            given = versions.newest()[chosen.slug].parameters | dict(
                map(_parameter, options["set"])
            )
            trial = trying.attempt(chosen, given, days=options["days"], at=now())
        except (DatabaseError, ValueError) as error:
            raise CommandError(" ".join(str(error).split())) from error
        set_to = ", ".join(f"{name}={value}" for name, value in trial.parameters.items())
        self.stdout.write(f"{chosen.slug} ({set_to}) {trial.sentence}")
        for example in trial.examples:
            self.stdout.write(f"  {_line(example)}")
        if trial.alerts > len(trial.examples):
            self.stdout.write(f"  and {trial.alerts - len(trial.examples):,} earlier ones")


def _line(example: trying.Example) -> str:
    times = f"{example.first_at:%Y-%m-%d %H:%M:%S} to {example.last_at:%Y-%m-%d %H:%M:%S} UTC"
    events = f"{example.count:,} event" + ("" if example.count == 1 else "s")
    return f"{times}: {events}" + (f", event {example.event.pk}" if example.event else "")


def _parameter(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        return name, int(value)
    except ValueError:
        raise ValueError(f"--set takes NAME=VALUE with a whole number, not {text!r}") from None
