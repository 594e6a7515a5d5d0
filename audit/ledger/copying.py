"""A copy of the log as files, for an assessor: what `/log/` serves (C2SP tlog-tiles), in a folder.

A folder can be brought up to date: what is in a tile never changes, so what is there stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from audit.ingest import origin
from audit.ledger import publishing, storage, tiles
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.notes import Note
from audit.ledger.tiles import Tile
from audit.models import Checkpoint, LogKey


class OtherContent(ValueError):
    """The folder holds something that is not a copy of this log."""


def write_copy(
    folder: Path,
    checkpoint: Checkpoint,
    progress: Callable[[int], object] = lambda _: None,
    *,
    using: str = "default",
) -> list[str]:
    """Write the log as it was at a checkpoint; the paths of what could not be written.

    These are entries whose events are not stored any more, and tiles that somebody cut. `progress`
    is told how many entries are done. The checkpoint comes last: a folder that has it is complete.
    Raises `OtherContent` for a folder with other things in it, and `OSError`.
    """
    _take(folder, using)
    left_out, done = [], 0
    for tile, width in _places(checkpoint.size):
        path = tiles.path(tile, width)
        if not _copy(folder / path, tile, width, using):
            left_out.append(path)
        if tile.level == tiles.ENTRIES:
            done += width
            progress(done)
    publishing.publish(folder, checkpoint, using=using)
    return left_out


def _places(size: int) -> Iterator[tuple[Tile, int]]:
    for tile, width in tiles.tiles_at(size):
        yield tile, width
        if tile.level == 0:
            yield Tile(tiles.ENTRIES, tile.number), width


def _copy(path: Path, tile: Tile, width: int, using: str) -> bool:
    """Have the file in the folder, whole or not at all; whether it is there."""
    if path.exists():
        return True
    try:
        content = storage.content(tile, width, using)
    except storage.NotStored:
        return False
    if content is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
    return True


# --- whose folder it is ------------------------------------------------------------------------


def _take(folder: Path, using: str) -> None:
    """Make the folder ours by the key in it, or see that it is."""
    own = f"{LogKey.objects.using(using).order_by('id')[0].vkey}\n"
    vkey = folder / "vkey"
    if vkey.exists():
        if vkey.read_text() != own:
            raise OtherContent(f"{folder} holds a copy of another log: its key is another one")
        _require_extended(folder, using)
        return
    if folder.exists() and any(folder.iterdir()):
        raise OtherContent(f"{folder} is not empty, and holds no copy of a log: name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    vkey.write_text(own)


def _require_extended(folder: Path, using: str) -> None:
    """Raise `OtherContent` unless the stored log extends the copy."""
    note = publishing.published(folder)
    if note is None:
        return
    try:
        held = Head.parse(Note.parse(note).text)
        extends = held.origin == origin(using) and storage.root(held.size, using) == held.root
    except (ValueError, KeyError):  # no checkpoint at all; more entries than are stored
        extends = False
    if not extends:
        raise OtherContent(
            f"{folder} holds a copy that this log does not extend: keep it, and compare the two "
            f"with 'manage.py verify_ledger --against {folder}'"
        )
