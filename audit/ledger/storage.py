"""What is stored of the log: its tiles, its head, and the entries put together from the events."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connections

from audit.ingest import origin
from audit.ledger import merkle, tiles
from audit.ledger.merkle import Node, Read
from audit.ledger.tiles import Tile
from audit.models import ENTRY_FIELDS, AuditEvent, Checkpoint, Leaf

_TILES = """
    SELECT level, number, hashes
    FROM unnest(%s::smallint[], %s::bigint[]) AS wanted (level, number)
    JOIN audit_tile USING (level, number)
"""


def head(using: str = "default") -> Checkpoint | None:
    """The newest checkpoint; None before the log's first one."""
    return Checkpoint.objects.using(using).order_by("-size").first()


def read_tiles(wanted: Iterable[Tile], using: str = "default") -> dict[Tile, bytes]:
    """The hashes of these tiles, as far as there are such tiles, with one query."""
    places = list(set(wanted))
    with connections[using].cursor() as cursor:
        levels, numbers = [tile.level for tile in places], [tile.number for tile in places]
        cursor.execute(_TILES, [levels, numbers])
        return {Tile(level, number): bytes(hashes) for level, number, hashes in cursor.fetchall()}


def reader(nodes: Iterable[Node], using: str = "default") -> Read:
    """What `merkle` reads these nodes with; their tiles are fetched now, with one query."""
    return tiles.reader(read_tiles(map(tiles.tile_of, nodes), using))


def root(size: int, using: str = "default") -> bytes:
    """The root of the stored tree when it had `size` leaves. Raises `KeyError` beyond its size."""
    return merkle.root(size, reader(merkle.root_nodes(size), using))


def consistency(old: int, new: int, using: str = "default") -> list[bytes]:
    """The proof that the stored tree of `new` leaves extends that of `old`."""
    nodes = [node for hash in merkle.consistency_proof_nodes(old, new) for node in hash]
    return merkle.consistency_proof(old, new, reader(nodes, using))


def inclusion(index: int, size: int, using: str = "default") -> list[bytes]:
    """The proof that the leaf is in the stored tree of `size` leaves."""
    nodes = [node for hash in merkle.inclusion_proof_nodes(index, size) for node in hash]
    return merkle.inclusion_proof(index, size, reader(nodes, using))


class NotStored(LookupError):
    """The log has an entry with this number, but its event is not stored any more."""

    def __init__(self, index: int) -> None:
        super().__init__(
            f"entry {index} is no longer stored: its event was dropped when its time was over, or "
            "is missing; 'manage.py verify_ledger' says which"
        )
        self.index = index


def entries(first: int, count: int, using: str = "default") -> list[bytes]:
    """The entries from the number `first` on, fewer where the log ends before. Raises `NotStored`.

    Of the events only what stands in an entry is read: no personal value leaves the database.
    """
    leaves = Leaf.objects.using(using).filter(index__gte=first, index__lt=first + count)
    ids = dict(leaves.order_by("index").values_list("index", "event_id"))
    events = AuditEvent.objects.using(using).only(*ENTRY_FIELDS, "digests").in_bulk(ids.values())
    for index, id in ids.items():
        if id not in events:
            raise NotStored(index)
    name = origin(using)
    return [events[id].entry(name) for id in ids.values()]


def content(tile: Tile, width: int, using: str = "default") -> bytes | None:
    """The file of a tile or of entries, so wide; None beyond the log. Raises `NotStored`."""
    if tile.level == tiles.ENTRIES:
        found = entries(tile.number * tiles.WIDTH, width, using)
        return tiles.bundle(found) if len(found) == width else None
    hashes = read_tiles([tile], using).get(tile, b"")[: width * merkle.HASH_BYTES]
    return hashes if len(hashes) == width * merkle.HASH_BYTES else None
