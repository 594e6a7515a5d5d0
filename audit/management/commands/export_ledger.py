"""`manage.py export_ledger`: a copy of the log, to be checked where the portal is not trusted."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from audit.ledger import evidence
from audit.ledger.copying import OtherContent, write_copy
from audit.management.commands.load_events import Progress
from audit.models import Checkpoint, LogKey
from audit.recorder import audit

NAMED = 10
"""How many files that could not be written are named."""


class Command(BaseCommand):
    help = "Write the log as files for the offline verifier; a folder is brought up to date."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="a new folder, or one with an older copy")
        parser.add_argument(
            "--size", type=int, help="the log as it was then; by default the newest checkpoint"
        )

    def handle(self, *args: Any, folder: Path, size: int | None, **options: Any) -> None:
        try:
            checkpoint = _checkpoint(size)
            left_out = _export(folder, checkpoint)
        except (OtherContent, OSError, DatabaseError) as error:
            raise CommandError(" ".join(str(error).split())) from error
        for path in left_out[:NAMED]:
            self.stderr.write(f"not written, as events of it are not stored any more: {path}")
        if len(left_out) > NAMED:
            self.stderr.write(f"and {len(left_out) - NAMED:,} more")
        self.stdout.write(f"{folder} is a copy of the log with {checkpoint.size:,} entries")
        self.stderr.write(
            f"To check it: python3 verify_log.py {folder} --vkey '{LogKey.objects.all()[0].vkey}'"
        )


def _checkpoint(size: int | None) -> Checkpoint:
    """The checkpoint of that size, or the served one."""
    if size is None:
        if (newest := evidence.served()) is None:
            raise CommandError("nothing has been sealed yet: run 'manage.py seal_ledger --once'")
        return newest
    stored = Checkpoint.objects
    if (exact := stored.filter(size=size).first()) is not None:
        return exact
    before = stored.filter(size__lt=size).order_by("-size").first()
    after = stored.filter(size__gt=size).order_by("size").first()
    near = " and ".join(f"{one.size}" for one in (before, after) if one)
    raise CommandError(f"there is no checkpoint of {size} entries; the nearest: {near or 'none'}")


def _export(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Write the copy; that events were taken away is recorded as every export is."""
    progress = Progress(sys.stderr)
    progress.total = checkpoint.size
    context = {"format": "tlog-tiles", "filter": "", "count": checkpoint.size}
    try:
        with audit.operation("portal_export", context=context, actor_type="system") as export:
            left_out = write_copy(folder, checkpoint, lambda done: progress.show(done, done))
            export.context["size"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            return left_out
    finally:
        progress.clear()
