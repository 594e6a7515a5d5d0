"""The tree and its entries cut into files that never change (C2SP tlog-tiles).

A tile of level L holds up to 256 hashes: at level 0 leaves, above it the root of one full tile of
the level below for each hash. So the full and the partial tiles of a size give every node of the
tree. Pure functions; a tile's content is one string of 32 bytes a hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from audit.ledger.merkle import HASH_BYTES, Node, Read, level_above

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""How many hashes, or entries, a full tile holds."""

TILE_BYTES = WIDTH * HASH_BYTES
MAX_LEVEL = 63
ENTRIES = -1
"""The level of the entries: below the leaves."""

MAX_ENTRY_BYTES = 2**16 - 1


class Tile(NamedTuple):
    """A tile by its place; how wide it is depends on the tree's size."""

    level: int
    number: int


# --- paths -------------------------------------------------------------------------------------

# Six groups of digits are enough for 2^56 tiles, and fit a bigint of PostgreSQL.
_PATH = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-9][0-9])/(?P<number>(?:x[0-9]{3}/){0,5}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


def path(tile: Tile, width: int = WIDTH) -> str:
    """Where a tile is served: ``tile/0/x001/234/067``, or a partial one ``tile/1/000.p/7``."""
    groups = [f"{tile.number % 1000:03}"]
    number = tile.number // 1000
    while number:
        groups.append(f"x{number % 1000:03}")
        number //= 1000
    level = "entries" if tile.level == ENTRIES else str(tile.level)
    suffix = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{suffix}"


def parse_path(text: str) -> tuple[Tile, int]:
    """The tile at a path and the width asked for. `ValueError` unless it is written just so."""
    match = _PATH.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:100]!r} is no path of a tile")
    level = ENTRIES if match["level"] == "entries" else int(match["level"])
    tile = Tile(level, int(match["number"].replace("/", "").replace("x", "")))
    width = int(match["width"] or WIDTH)
    if level > MAX_LEVEL or (match["width"] and width >= WIDTH) or path(tile, width) != text:
        raise ValueError(f"{text[:100]!r} is not how a tile's path is written")
    return tile, width


# --- tiles of a tree ---------------------------------------------------------------------------


def width(tile: Tile, size: int) -> int:
    """How many hashes (or entries) the tile holds in a tree of that size: 0 to 256."""
    hashes = size >> (HEIGHT * max(tile.level, 0))
    return min(max(hashes - tile.number * WIDTH, 0), WIDTH)


def tiles_at(size: int) -> Iterator[tuple[Tile, int]]:
    """Every tile of a tree of that size with its width, level by level from the leaves."""
    level = 0
    while hashes := size >> (HEIGHT * level):
        for number in range((hashes + WIDTH - 1) // WIDTH):
            yield Tile(level, number), min(hashes - number * WIDTH, WIDTH)
        level += 1


def edge_at(size: int) -> list[tuple[Tile, int]]:
    """The partial tiles of a tree of that size with their widths.

    They are all that a growing tree needs: `grown` starts from them, and they hold the nodes that
    fold to the root.
    """
    levels = range((size.bit_length() + HEIGHT - 1) // HEIGHT)
    edge = [Tile(level, size >> (HEIGHT * (level + 1))) for level in levels]
    return [(tile, width(tile, size)) for tile in edge if width(tile, size)]


def tile_of(node: Node) -> Tile:
    """The tile from which a node is read or computed."""
    level, height = divmod(node.level, HEIGHT)
    return Tile(level, node.number >> (HEIGHT - height))


def node_in_tile(hashes: bytes, node: Node) -> bytes:
    """The hash of a node, from its tile's hashes. `ValueError` if the tile is too narrow for it."""
    height = node.level % HEIGHT
    start = (node.number << height) % WIDTH * HASH_BYTES
    row = hashes[start : start + (HASH_BYTES << height)]
    if len(row) < HASH_BYTES << height:
        raise ValueError(f"{node} needs more than the {len(hashes) // HASH_BYTES} hashes it got")
    return _up(row, height)


def reader(tiles: Mapping[Tile, bytes]) -> Read:
    """What `audit.ledger.merkle` reads nodes with, over tiles that were fetched before."""
    return lambda node: node_in_tile(tiles[tile_of(node)], node)


def grown(edge: Mapping[int, bytes], size: int, leaves: bytes) -> Iterator[tuple[Tile, bytes]]:
    """Every tile that is new or longer once `leaves` (32 bytes each) follow a tree of `size`.

    `edge` has the hashes of the old tree's partial tiles by level, as named by `edge_at`.
    """
    if len(leaves) % HASH_BYTES:
        raise ValueError(f"{len(leaves)} bytes are no whole number of hashes")
    level, row = 0, leaves
    while row:
        first = size >> (HEIGHT * level)
        row = _partial(edge, level, first % WIDTH) + row
        for number, start in enumerate(range(0, len(row), TILE_BYTES), first // WIDTH):
            yield Tile(level, number), row[start : start + TILE_BYTES]
        row = _up(row[: len(row) - len(row) % TILE_BYTES], HEIGHT)
        level += 1


def _partial(edge: Mapping[int, bytes], level: int, count: int) -> bytes:
    hashes = edge.get(level, b"")
    if len(hashes) != count * HASH_BYTES:
        raise ValueError(f"the partial tile of level {level} must hold {count} hashes")
    return hashes


def _up(row: bytes, levels: int) -> bytes:
    for _ in range(levels):
        row = level_above(row)
    return row


# --- entries -----------------------------------------------------------------------------------


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries as they are served: each after its length as two bytes, the larger first."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise ValueError(f"an entry of {len(entry)} bytes is longer than {MAX_ENTRY_BYTES}")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. `ValueError` if it ends amid one."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise ValueError(f"the bundle ends amid its entry {len(entries)}")
        entries.append(data[start:at])
    return entries
