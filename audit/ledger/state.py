"""How the log is doing: what waits to be sealed, and whether the worker is at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Min, Sum

from audit.models import Heartbeat, Pending

SILENT = timedelta(seconds=30)
"""So long without a sign of life, and a part of the worker does not run: it gives one every 5 s."""

LATE = timedelta(seconds=10)
"""So long an event waits only if sealing does not get on."""

SEALER = "sealer"


@dataclass(frozen=True, slots=True)
class State:
    """What waits, since when, and when each part of the worker was last heard of."""

    at: datetime
    waiting: int
    waiting_since: datetime | None
    parts: tuple[Heartbeat, ...]

    @property
    def waited(self) -> timedelta:
        """How long the oldest of what waits has waited."""
        return self.at - self.waiting_since if self.waiting_since else timedelta()

    @property
    def has_sealer(self) -> bool:
        """Whether the sealer ever ran."""
        return any(part.part == SEALER for part in self.parts)

    @property
    def silent(self) -> list[Heartbeat]:
        """The parts that were not heard of lately; the publisher is quiet between its rounds."""
        pause = timedelta(seconds=settings.LEDGER_PUBLISH_SECONDS)
        return [
            part
            for part in self.parts
            if self.at - part.at > SILENT + (timedelta() if part.part == SEALER else pause)
        ]

    @property
    def complaints(self) -> list[Heartbeat]:
        """The parts that say what keeps them from working."""
        return [part for part in self.parts if part.error]

    @property
    def is_late(self) -> bool:
        """Whether something waits longer than it should."""
        return self.waited > LATE

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything."""
        return self.has_sealer and not (self.silent or self.complaints or self.is_late)


def state(at: datetime, using: str = "default") -> State:
    """How the log is doing at that time, which is now."""
    waiting = Pending.objects.using(using).aggregate(n=Sum("ids__len"), since=Min("created_at"))
    parts = Heartbeat.objects.using(using).order_by("part")
    return State(at, waiting["n"] or 0, waiting["since"], tuple(parts))
