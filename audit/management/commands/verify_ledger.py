"""`manage.py verify_ledger`: compute the whole log again, and say what does not fit."""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit.ingest import Rejected
from audit.jobs import keep
from audit.ledger.notes import VerifierKey
from audit.ledger.verification.faults import Fault
from audit.ledger.verification.run import Result, verify
from audit.management.commands.load_events import Progress

SHOWN = 20
"""How many faults of a kind are printed."""


class Command(BaseCommand):
    help = "Verify the log against the events, the keys, and what was published before."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--against", type=_folder, metavar="DIR", help="a folder with published checkpoints"
        )
        parser.add_argument(
            "--vkey",
            type=_vkey,
            help="the log's first key (default: that of --against, else of the database)",
        )
        parser.add_argument(
            "--since",
            type=_since,
            default=0,
            metavar="SIZE|TIME",
            help="verify only events sealed from there on, such as 100000 or 2026-11-01T00:00Z",
        )
        parser.add_argument("--json", action="store_true", help="print a JSON document")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        try:
            result = _verified(options["against"], options["vkey"], options["since"])
            _record(result)
        except (
            DatabaseError, psycopg.Error, BrokenProcessPool, ImproperlyConfigured, OSError,
            ValueError,
        ) as error:  # fmt: skip
            raise CommandError(" ".join(str(error).split()), returncode=2) from error
        self.stdout.write(_document(result) if json else _report(result))
        if result.faults.counts:
            sys.exit(1)


def _folder(text: str) -> Path:
    folder = Path(text)
    if not (folder / "checkpoint").is_file() and not (folder / "checkpoints").is_dir():
        raise ArgumentTypeError(f"{text} holds no checkpoints")
    return folder


def _vkey(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _since(text: str) -> int | datetime:
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a number of leaves nor a time") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _verified(against: Path | None, vkey: VerifierKey | None, since: int | datetime) -> Result:
    progress = Progress(sys.stderr)

    def show(done: int, size: int) -> None:
        progress.total = size
        progress.show(done, done)

    try:
        return verify(against=against, trusted=vkey, since=since, progress=show)
    finally:
        progress.clear()


def _record(result: Result) -> None:
    """Keep what came of it, and that it was done. Raises `CommandError`, with what came of it."""
    try:
        keep(result)
    except (DatabaseError, Rejected) as error:
        text = f"{_report(result)}\nthis could not be recorded: {' '.join(str(error).split())}"
        raise CommandError(text, returncode=2) from error


def _document(result: Result) -> str:
    return json.dumps(result.as_json(), indent=2)


def _report(result: Result) -> str:
    """For people: the first faults of each kind, how many there are, and what that comes to."""
    lines = []
    for kind in result.faults.counts:
        of_kind = [fault for fault in result.faults.kept if fault.kind is kind]
        lines += [_line(fault) for fault in of_kind[:SHOWN]]
    for kind, count in result.faults.counts.items():
        lines.append(f"{kind} {count:,}: {kind.meaning}")
    if result.pruned:
        lines.append(f"PRUNED {result.pruned:,}: events whose time was over")
    verified = f"verified {result.size - result.first:,} of {result.size:,} events"
    return "\n".join([*lines, f"{verified}: {result.verdict}"])


def _line(fault: Fault) -> str:
    places = {
        "event number": fault.index,
        "event": fault.event_id,
        "checkpoint": fault.size,
    }
    where = ", ".join(f"{name} {place}" for name, place in places.items() if place is not None)
    return f"{fault.kind}: {where}{': ' if where else ''}{fault.detail}"
