"""Published copies: checkpoints that left the database, and that it has to extend.

A folder is read before the database: then whatever it holds has to be in there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from audit.ledger import publishing, storage
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.notes import Note
from audit.ledger.verification.faults import Faults, Kind
from audit.ledger.verification.signatures import Keys, kind_of, signed_head
from audit.models import Checkpoint

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Copy:
    """What a folder holds; see `audit.ledger.publishing`. `vkey` is empty where it has none."""

    place: Path
    newest: str | None
    names: tuple[str, ...]
    vkey: str
    handovers: tuple[str, ...]

    @classmethod
    def read(cls, place: Path) -> Self:
        """As it is now; the checkpoints of its history, which never change, are only listed."""
        vkey, history = place / "vkey", place / "checkpoints"
        return cls(
            place,
            publishing.published(place),
            tuple(sorted(path.name for path in _files(history))),
            vkey.read_text().strip() if vkey.exists() else "",
            tuple(path.read_text() for path in sorted(_files(place / "handovers"))),
        )

    def notes(self) -> Iterator[tuple[str, str]]:
        """Each checkpoint, with its file's name."""
        if self.newest is not None:
            yield "checkpoint", self.newest
        for name in self.names:
            yield name, (self.place / "checkpoints" / name).read_text(errors="replace")


def _files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if not path.name.startswith(".")]


def compare(copy: Copy, keys: Keys, first: int, size: int, using: str, faults: Faults) -> None:
    """Name what a folder's checkpoints and the stored tree of `size` leaves do not agree in.

    Those of more than `first` leaves that are stored to the letter are verified with the tree.
    """
    notes = copy.notes()
    while batch := list(islice(notes, _AT_ONCE)):
        stored = _stored_at((note for _, note in batch), using)
        for name, note in batch:
            known = stored.get(_size(note) or 0)
            if not (known and first < known.size <= size and note.startswith(known.note)):
                _compare_one(f"{copy.place}: {name}", note, stored, keys, size, using, faults)


def _compare_one(
    name: str,
    note: str,
    stored: dict[int, Checkpoint],
    keys: Keys,
    size: int,
    using: str,
    faults: Faults,
) -> None:
    try:
        head = signed_head(note, keys)
    except ValueError as error:
        faults.add(kind_of(error), f"{name}: {error}", size=_size(note))
        return
    if head.size > size:
        detail = f"{name}: {head.size} leaves were published, {size} are stored"
        faults.add(Kind.SIZE_ROLLBACK, detail, size=head.size)
        return
    if _root(head.size, using) != head.root:
        detail = f"{name}: the stored tree had another root at this size"
        faults.add(Kind.INCONSISTENT, detail, size=head.size)
    if head.size in stored and _is_other(stored[head.size], head, keys):
        detail = f"{name}: another tree of this size was signed too, and is stored"
        faults.add(Kind.SPLIT_VIEW, detail, size=head.size)


def _root(size: int, using: str) -> bytes | None:
    try:
        return storage.root(size, using)
    except (LookupError, ValueError):  # a tile is missing: named by itself
        return None


def _is_other(stored: Checkpoint, head: Head, keys: Keys) -> bool:
    try:
        other = signed_head(stored.note, keys)
    except ValueError:
        return False
    return other.size == head.size and other.root != head.root


def _stored_at(notes: Iterable[str], using: str) -> dict[int, Checkpoint]:
    sizes = {size for note in notes if (size := _size(note)) is not None}
    return Checkpoint.objects.using(using).in_bulk(sizes)


def _size(note: str) -> int | None:
    try:
        return Head.parse(Note.parse(note).text).size
    except ValueError:
        return None
