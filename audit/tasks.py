"""What the worker does, each part in a thread of its own, until it is told to stop.

A part that fails says so in the log and in the portal, and is tried again: the database may come
back, a key may be put in its place. Nothing of it is lost, as all of its work waits in tables.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event, Thread

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from procrastinate.exceptions import ConnectorException

from audit import following, jobs, notices, pairing, searching
from audit.detection import detecting
from audit.ingest import origin
from audit.ledger import publishing, sealing, storage
from audit.ledger.keys import make_key, read_key, require_current
from audit.ledger.notes import SigningKey
from audit.models import Checkpoint, Heartbeat
from audit.rows import CHANNEL

USING = "worker"

LONGEST_WAIT = 1.0
"""Seconds after which the sealer looks for pending events although nobody called."""

GATHERING = 0.2
"""Seconds between two checkpoints, in which events gather: fewer and larger checkpoints."""

BEAT = timedelta(seconds=5)
"""How often a part says that it is alive."""

PATIENCE = 5.0
"""Seconds after a failure until the next try."""

LOOK = 5.0
"""Seconds until it is looked again whether a job is due, or an alert is to be told of."""

REST = 1.0
"""Seconds until a follower that has seen the whole log looks again."""

FOLLOWERS = {searching.FOLLOWER: searching.follow, pairing.FOLLOWER: pairing.follow}
"""What follows the log, each with a place of its own in it."""

Part = tuple[Callable[[], object], Callable[[Event], object]]
"""What a part does again and again, and how it waits in between."""

logger = logging.getLogger(__name__)


def require_ready() -> None:
    """Raise `ImproperlyConfigured` for what no second try mends: a key, a witness's address."""
    signing_key()
    publishing.witnesses()


def signing_key() -> SigningKey:
    """The log's private key; the embedded portal makes one, a deployment has to bring its own."""
    path = settings.AUDITPORTAL_SIGNING_KEY_FILE
    if settings.LEDGER_MAKES_ITS_KEY and not path.exists():
        with suppress(FileExistsError):
            return make_key(path, origin(USING))
    return read_key(path)


def seal_pending() -> Checkpoint | None:
    """Seal all that is pending now; the newest checkpoint made, None where nothing was pending.

    What comes meanwhile is left to the next call: a checkpoint has its price, however small it is.

    Raises `sealing.Busy`, `publishing.Contradiction` or `ImproperlyConfigured`.
    """
    signer = signing_key()

    def check(head: Checkpoint | None) -> None:
        publishing.check_extends(head, using=USING)
        require_current(signer, USING)

    newest = None
    while (sealed := sealing.seal(signer, check, using=USING)) is not None:
        newest = sealed.checkpoint
        publishing.remember(settings.LEDGER_MEMORY_DIR, newest.note)
        if sealed.is_all:
            break
    return newest


def publish_newest() -> None:
    """Bring the newest checkpoint to the witnesses, then, cosigned, to the folders outside."""
    checkpoint = storage.head(USING)
    if checkpoint is not None:
        publishing.publish_everywhere(checkpoint, using=USING)


def collect_rarely() -> None:
    """For the worker's process: what is loaded now stays, and what it does leaves few cycles.

    To look for some as often as Python does by itself is a sixth of detection's work.
    """
    gc.freeze()
    gc.set_threshold(100_000)


# --- the threads -------------------------------------------------------------------------------


def start(stop: Event) -> list[Thread]:
    """Start every part of the worker; each ends soon after `stop` is set."""
    parts: dict[str, Part] = {
        "sealer": (seal_pending, lambda _: until_events_come()),
        "publisher": (publish_newest, lambda stop: stop.wait(settings.LEDGER_PUBLISH_SECONDS)),
        **{
            name: (partial(following.follow, name, work, using=USING), partial(_rest, name))
            for name, work in FOLLOWERS.items()
        },
        detecting.FOLLOWER: (
            partial(detecting.detect, using=USING),
            partial(_rest, detecting.FOLLOWER),
        ),
        "scheduler": (jobs.schedule, lambda stop: stop.wait(LOOK)),
        "notices": (notices.tell_alerts, lambda stop: stop.wait(LOOK)),
        "jobs": (partial(jobs.work, stop, partial(_beat, "jobs", "")), lambda _: None),
    }
    threads = [
        Thread(target=_keep_doing, args=(part, work, pause, stop), name=part)
        for part, (work, pause) in parts.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def _rest(name: str, stop: Event) -> None:
    """Rest where a follower of the log has seen all of it."""
    if not following.behind(name, using=USING):
        stop.wait(REST)


def _keep_doing(
    part: str, work: Callable[[], object], pause: Callable[[Event], object], stop: Event
) -> None:
    """Do the work of a part again and again; a fault is logged when it is a new one."""
    told, beat_at = "", datetime.min.replace(tzinfo=UTC)
    while not stop.is_set():
        error = _done(work)
        if error and error != told:
            logger.error("%s: %s", part, error)
        if error != told or datetime.now(UTC) - beat_at > BEAT:
            _beat(part, error)
            beat_at = datetime.now(UTC)
        told = error
        if error:
            stop.wait(PATIENCE)
        else:
            _done(lambda: pause(stop))
    connections.close_all()


def _done(work: Callable[[], object]) -> str:
    """Do it; what went wrong in one sentence, else empty text."""
    try:
        work()
    except sealing.Busy:
        return ""  # another worker does it: this one stands by
    except (publishing.Contradiction, ImproperlyConfigured, OSError) as error:
        return str(error)
    except (DatabaseError, InterfaceError, ConnectorException) as error:
        close_old_connections()
        return f"the database: {' '.join(str(error).split())}"
    except Exception as error:  # a fault of ours may not end a part unseen
        logger.exception("a part of the worker failed")
        return f"{type(error).__name__}: {error}"
    return ""


def _beat(part: str, error: str) -> None:
    values = {"at": datetime.now(UTC), "error": error}
    _done(lambda: Heartbeat.objects.using(USING).update_or_create(part=part, defaults=values))


def until_events_come() -> None:
    """Wait until ingest calls, `LONGEST_WAIT` at most; then a moment more, for others to follow."""
    connection = connections[USING]
    connection.ensure_connection()
    with connection.wrap_database_errors:
        listening = connection.connection
        listening.execute(f"LISTEN {CHANNEL}")
        for _ in listening.notifies(timeout=LONGEST_WAIT, stop_after=1):
            time.sleep(GATHERING)
