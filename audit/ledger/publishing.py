"""Publishing: checkpoints leave the database, so that nobody can go back behind one unseen.

A checkpoint goes to a *folder* (the worker's own memory at once; mounted storage or a git work tree
on a schedule) and to witnesses, which cosign it. Before the sealer signs anything it asks the
folders: a database that does not extend what they hold is an older copy, or was changed.

A folder holds `checkpoint` (the newest), `checkpoints/SIZE` (every one that came), `vkey` and
`handovers/NUMBER`: what the offline verifier reads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from audit.ledger import storage
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.keys import keys_at
from audit.ledger.notes import Note, UnknownKey, VerifierKey
from audit.ledger.witnesses import WitnessError, cosignature_by
from audit.models import Checkpoint, Cosignature, LogKey, Publication


class Contradiction(Exception):
    """What is stored does not extend what was published. `kind` is that of `verify_ledger`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail


def folders() -> list[Path]:
    """Where checkpoints are published: our own memory of the last one first."""
    outside = [Path(settings.LEDGER_PUBLISH_DIR)] if settings.LEDGER_PUBLISH_DIR else []
    return [settings.LEDGER_MEMORY_DIR, *outside]


# --- before signing ----------------------------------------------------------------------------


def check_extends(head: Checkpoint | None, *, using: str = "worker") -> None:
    """Raise `Contradiction` unless the stored log extends the checkpoint in each folder.

    A folder outside that cannot be read just now holds up nothing: the publisher complains of it.
    """
    own, *outside = folders()
    held = {own: published(own)}
    for place in outside:
        with suppress(OSError):
            held[place] = published(place)
    for place, note in held.items():
        if note is not None:
            _check_note(note, str(place), head, using)


def published(place: Path) -> str | None:
    """The newest checkpoint in a folder, a signed note; None where there is none."""
    try:
        return (place / "checkpoint").read_text()
    except FileNotFoundError:
        return None


def _check_note(note: str, place: str, head: Checkpoint | None, using: str) -> None:
    if head is not None and note == head.note:
        return
    if head is None:
        raise Contradiction(
            "SIZE_ROLLBACK",
            f"{place} holds a checkpoint, this database no log yet; if this is a new log, move "
            "the old one's folder away",
        )
    try:
        parsed = Note.parse(note)
        found = Head.parse(parsed.text)
        parsed.verified(keys_at(found.size, using))
    except ValueError as error:
        kind = "UNKNOWN_KEY" if isinstance(error, UnknownKey) else "BAD_SIGNATURE"
        raise Contradiction(kind, f"the checkpoint in {place}: {error}") from None
    if found.size > head.size:
        raise Contradiction(
            "SIZE_ROLLBACK",
            f"the checkpoint in {place} has {found.size} leaves, the database {head.size}: it is "
            "an older copy; nothing is signed until it holds all that was published",
        )
    if storage.root(found.size, using) != found.root:
        raise Contradiction(
            "INCONSISTENT",
            f"the database does not extend the checkpoint of {found.size} leaves in {place}",
        )


# --- folders -----------------------------------------------------------------------------------


def remember(place: Path, note: str) -> None:
    """Put a checkpoint into a folder as its newest, whole or not at all."""
    place.mkdir(parents=True, exist_ok=True)
    _write(place / "checkpoint", note)


def publish(place: Path, checkpoint: Checkpoint, *, using: str = "worker") -> None:
    """Bring a checkpoint to a folder, with the keys that an outsider needs to check it."""
    for number, key in enumerate(LogKey.objects.using(using)):
        if number == 0:
            _keep(place / "vkey", key.vkey + "\n")
        else:
            _keep(place / "handovers" / f"{number:06}", key.handover)
    note = cosigned(checkpoint, using)
    _keep(place / "checkpoints" / f"{checkpoint.size:020}", note)
    remember(place, note)


def _keep(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)


def _write(path: Path, text: str) -> None:
    # Another worker, or thread, may be writing the same file.
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


# --- witnesses ---------------------------------------------------------------------------------


class Witness(NamedTuple):
    """Somebody else's program that cosigns checkpoints, and where it is asked."""

    vkey: VerifierKey
    url: str


def witnesses() -> list[Witness]:
    """Those of the settings. Raises `ImproperlyConfigured`."""
    found = []
    for text in settings.LEDGER_WITNESSES:
        vkey, _, url = text.strip().partition(" ")
        try:
            found.append(Witness(VerifierKey.parse(vkey), url.strip()))
        except ValueError as error:
            raise ImproperlyConfigured(f"LEDGER_WITNESSES: {error}") from None
    return found


def cosigned(checkpoint: Checkpoint, using: str = "default") -> str:
    """A checkpoint's note with the lines of its witnesses."""
    lines = Cosignature.objects.using(using).filter(checkpoint=checkpoint).order_by("id")
    return checkpoint.note + "".join(f"{line.line}\n" for line in lines)


def ask(witness: Witness, checkpoint: Checkpoint, *, using: str = "worker") -> None:
    """Have a checkpoint cosigned, and store the cosignature. Raises `WitnessError`."""
    vkey, stored = witness.vkey.text(), Cosignature.objects.using(using)
    sizes = stored.filter(vkey=vkey).order_by("-checkpoint").values_list("checkpoint_id", flat=True)
    old = sizes.first() or 0
    if old == checkpoint.size:
        return
    found = cosignature_by(
        witness.vkey,
        witness.url,
        Note.parse(checkpoint.note),
        lambda size: storage.consistency(size, checkpoint.size, using),
        old=old,
    )
    line = str(found.signature)
    stored.create(checkpoint=checkpoint, vkey=vkey, line=line, signed_at=found.at)


# --- everywhere --------------------------------------------------------------------------------


def publish_everywhere(checkpoint: Checkpoint, *, using: str = "worker") -> None:
    """To the witnesses first, then, with their cosignatures, to the folders outside.

    A place that fails holds up no other. What came of each is kept in `Publication`, and raised
    together as `OSError` at the end. Where another worker is publishing, nothing is done: a witness
    asked by two at once would see the log go back.
    """
    with _alone(using) as alone:
        if alone:
            _publish_everywhere(checkpoint, using)


@contextmanager
def _alone(using: str) -> Iterator[bool]:
    """Hold the publishers' lock, or say that another has it; no transaction is kept open for it."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtext('audit_publish'))")
        alone = bool(cursor.fetchone()[0])
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(hashtext('audit_publish'))")


def _publish_everywhere(checkpoint: Checkpoint, using: str) -> None:
    tasks: dict[str, Callable[[], None]] = {
        witness.vkey.text(): partial(ask, witness, checkpoint, using=using)
        for witness in witnesses()
    }
    tasks |= {
        str(place): partial(publish, place, checkpoint, using=using) for place in folders()[1:]
    }
    tried = (_tried(target, task, checkpoint, using) for target, task in tasks.items())
    errors = [error for error in tried if error]
    if errors:
        raise OSError("; ".join(errors))


def _tried(target: str, task: Callable[[], None], checkpoint: Checkpoint, using: str) -> str:
    """Do it and keep what came of it; the error in one sentence, else empty text."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {"tried_at": now, "error": ""}
    try:
        task()
        values |= {"size": checkpoint.size, "at": now}
    except (OSError, ValueError, WitnessError) as error:
        values["error"] = f"{type(error).__name__}: {error}"
    Publication.objects.using(using).update_or_create(target=target, defaults=values)
    return f"{target}: {values['error']}" if values["error"] else ""
