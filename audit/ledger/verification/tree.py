"""The stored tree: leaves against tiles of level 0, every other tile against those below it."""

from __future__ import annotations

from django.db import connections

from audit.ledger import merkle, storage, tiles
from audit.ledger.merkle import HASH_BYTES, Frontier, Node
from audit.ledger.tiles import HEIGHT, TILE_BYTES, WIDTH, Tile
from audit.ledger.verification.events import NO_LEAF, Found
from audit.ledger.verification.faults import Faults, Kind


class Tree:
    """The tree of `size` leaves, which grows once more while they stream by, from `start` on.

    What stands before `start`, which begins a tile, is taken from the tiles. Raises `LookupError`
    or `ValueError` where they do not give it. `signed` is the root that is signed for this size.
    """

    def __init__(self, start: int, size: int, signed: bytes | None, using: str) -> None:
        self._size, self._signed, self._using = size, signed, using
        self.frontier = Frontier.at(start, storage.reader(merkle.root_nodes(start), using))
        self._at, self._edge = start, self._stored_edge(start)

    def _stored_edge(self, size: int) -> dict[Tile, bytes]:
        edge = tiles.edge_at(size)
        stored = storage.read_tiles((tile for tile, _ in edge), self._using)
        return {tile: stored[tile][: width * HASH_BYTES] for tile, width in edge}

    # --- leaves --------------------------------------------------------------------------------

    def settle(self, found: Found, faults: Faults) -> bytes:
        """Compare the leaves of a block with the tiles; the hashes that the tree is to have there.

        These are the tiles', unless it is a tile that is wrong: then those of the events.
        """
        end = found.start + len(found.leaves)
        places = [Tile(0, number) for number in range(found.start // WIDTH, -(-end // WIDTH))]
        stored = storage.read_tiles(places, self._using)
        settled = []
        for place in places:
            first = place.number * WIDTH
            leaves = found.leaves[first - found.start : first - found.start + WIDTH]
            computed = b"".join(leaves)
            kept = stored.get(place, b"")[: len(computed)]
            if kept != computed and self._is_wrong(place, kept, computed):
                detail = f"tile 0/{place.number} does not hold the leaves of its events"
                faults.add(Kind.TILE_MISMATCH, detail, index=first)
                kept = computed
            if kept != computed:
                _name_leaves(found, first, leaves, kept, faults)
            settled.append(kept)
        return b"".join(settled)

    def _is_wrong(self, place: Tile, kept: bytes, computed: bytes) -> bool:
        """Whether it is the tile, not the events, that does not fit what lies above it."""
        if len(kept) < len(computed):
            return True
        try:
            if len(computed) == TILE_BYTES:
                above = Node(HEIGHT, place.number)
                return storage.reader([above], self._using)(above) == _root(computed)
            edge = self._stored_edge(self._size) | {place: computed}
            return merkle.root(self._size, tiles.reader(edge)) == self._signed
        except (LookupError, ValueError):
            return False

    # --- tiles ---------------------------------------------------------------------------------

    def grow(self, leaves: bytes, faults: Faults) -> None:
        """Compare the tiles above the next leaves, those that are complete, with those below."""
        by_level = {tile.level: hashes for tile, hashes in self._edge.items()}
        grown = self._edge | dict(tiles.grown(by_level, self._at, leaves))
        self._at += len(leaves) // HASH_BYTES
        above = {
            tile: hashes
            for tile, hashes in grown.items()
            if tile.level and len(hashes) == tiles.width(tile, self._size) * HASH_BYTES
        }
        stored = storage.read_tiles(above, self._using)
        for tile, hashes in above.items():
            if stored.get(tile, b"")[: len(hashes)] != hashes:
                detail = f"tile {tile.level}/{tile.number} is not what the tiles below it give"
                faults.add(
                    Kind.TILE_MISMATCH, detail, index=tile.number << HEIGHT * (tile.level + 1)
                )
        self._edge = {tile: grown[tile] for tile, _ in tiles.edge_at(self._at)}


def _root(leaves: bytes) -> bytes:
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def _name_leaves(
    found: Found, first: int, leaves: list[bytes], kept: bytes, faults: Faults
) -> None:
    """Name the events whose leaf is not the sealed one; those that are gone are named elsewhere."""
    for at, leaf in enumerate(leaves):
        index = first + at
        if leaf not in (NO_LEAF, kept[at * HASH_BYTES : (at + 1) * HASH_BYTES]):
            found.own_leaf_differs.discard(index)
            detail = "the row does not give the leaf that was sealed"
            event_id = found.ids[index - found.start]
            faults.add(Kind.LEAF_MISMATCH, detail, index=index, event_id=event_id)


def check_own_leaves(found: Found, faults: Faults) -> None:
    """Name the events whose row, whatever the tree holds, does not fit its own leaf hash."""
    for index in sorted(found.own_leaf_differs):
        detail = "the row and its own leaf hash, or version, do not fit"
        event_id = found.ids[index - found.start]
        faults.add(Kind.LEAF_MISMATCH, detail, index=index, event_id=event_id)


_BEYOND = """
    SELECT level, number FROM audit_tile
    LEFT JOIN unnest(%s::int[], %s::bigint[]) AS wanted (level, count) USING (level)
    WHERE number < 0 OR number >= coalesce(count, 0)
"""


def check_nothing_beyond(size: int, using: str, faults: Faults) -> None:
    """Name the tiles that no tree of this size has."""
    levels = range((size.bit_length() + HEIGHT - 1) // HEIGHT)
    counts = [-(-(size >> HEIGHT * level) // WIDTH) for level in levels]
    with connections[using].cursor() as cursor:
        cursor.execute(_BEYOND, [list(levels), counts])
        for level, number in cursor:
            detail = f"no tree of {size} leaves has the tile {level}/{number}"
            faults.add(Kind.TILE_MISMATCH, detail, size=size)
    edge = dict(tiles.edge_at(size))
    for tile, hashes in storage.read_tiles(edge, using).items():
        if len(hashes) > edge[tile] * HASH_BYTES:
            detail = f"tile {tile.level}/{tile.number} is wider than in a tree of {size} leaves"
            faults.add(Kind.TILE_MISMATCH, detail, size=size)
