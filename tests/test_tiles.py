"""Tiles: their paths, what they hold, how they grow (C2SP tlog-tiles)."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger import merkle, tiles
from audit.ledger.merkle import Frontier, Node
from audit.ledger.tiles import ENTRIES, Tile

HASHES = [sha256(n.to_bytes(3, "big")).digest() for n in range(70_000)]


def tree(size):
    """Every tile of the tree of that many HASHES, hash by hash: the specification's own words."""
    rows = [HASHES[:size]]
    while len(rows[-1]) >= 256:
        below = rows[-1]
        full = [below[at : at + 256] for at in range(0, len(below) - 255, 256)]
        rows.append([mth(tile) for tile in full])
    return {
        Tile(level, at // 256): b"".join(row[at : at + 256])
        for level, row in enumerate(rows)
        for at in range(0, len(row), 256)
    }


def mth(hashes):
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]


def grow(steps):
    """All tiles after the tree grew in these steps, and after each step only its partial ones."""
    stored, size = {}, 0
    for step in steps:
        new = HASHES[size : size + step]
        edge = {tile.level: stored[tile] for tile, _ in tiles.edge_at(size)}
        for tile, hashes in tiles.grown(edge, size, b"".join(new)):
            assert hashes.startswith(stored.get(tile, b""))  # a tile only ever grows longer
            assert hashes != stored.get(tile)
            stored[tile] = hashes
        size += len(new)
        assert merkle.root(size, tiles.reader(stored)) == frontier_root(size)
    return stored, size


def frontier_root(size):
    frontier = Frontier()
    frontier.extend(b"".join(HASHES[:size]))
    return frontier.root()


# --- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tile", "width", "path"),
    [
        (Tile(0, 1234067), 256, "tile/0/x001/x234/067"),  # the specification's example
        (Tile(0, 0), 256, "tile/0/000"),
        (Tile(0, 273), 112, "tile/0/273.p/112"),
        (Tile(1, 1), 17, "tile/1/001.p/17"),
        (Tile(2, 0), 1, "tile/2/000.p/1"),
        (Tile(63, 999), 255, "tile/63/999.p/255"),
        (Tile(0, 1000), 256, "tile/0/x001/000"),
        (Tile(5, 10**18 - 1), 256, "tile/5/x999/x999/x999/x999/x999/999"),
        (Tile(ENTRIES, 0), 1, "tile/entries/000.p/1"),
        (Tile(ENTRIES, 1234067), 256, "tile/entries/x001/x234/067"),
    ],
)
def test_a_tile_is_served_at_its_path(tile, width, path):
    assert tiles.path(tile, width) == path
    assert tiles.parse_path(path) == (tile, width)


@given(st.integers(ENTRIES, 63), st.integers(0, 10**18 - 1), st.integers(1, 256))
def test_every_path_is_read_as_it_was_written(level, number, width):
    tile = Tile(level, number)
    assert tiles.parse_path(tiles.path(tile, width)) == (tile, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x1/067",
        "tile/0/X001/067",
        "tile/0/x001/x067",
        "tile/0/x001//067",
        "tile/0/x001/x001/x001/x001/x001/x001/000",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/100/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/Entries/000",
        "tile/data/000",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/-1",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/000 ",
        " tile/0/000",
        "/tile/0/000",
        "tile/0/٠٠٠",
        "tile/٣/000",
        "tile/0/../0/000",
        "tile/0/%30%30%30",
    ],
)
def test_a_path_written_otherwise_is_refused(path):
    with pytest.raises(ValueError, match="path"):
        tiles.parse_path(path)


@given(st.text(alphabet="tile/0123x.pentris6", max_size=30).map("tile/{}".format))
def test_what_is_read_at_all_is_the_one_way_to_write_it(text):
    try:
        tile, width = tiles.parse_path(text)
    except ValueError:
        return
    assert tiles.path(tile, width) == text


# --- which tiles a tree has --------------------------------------------------------------------


def test_a_tree_of_70000_has_the_tiles_of_the_specifications_example():
    found = list(tiles.tiles_at(70_000))
    assert [(tile, width) for tile, width in found if width < 256] == [
        (Tile(0, 273), 112),
        (Tile(1, 1), 17),
        (Tile(2, 0), 1),
    ]
    full = [tile for tile, width in found if width == 256]
    assert full == [Tile(0, n) for n in range(273)] + [Tile(1, 0)]


def test_a_tree_of_256_has_a_full_tile_and_one_above_it():
    assert list(tiles.tiles_at(256)) == [(Tile(0, 0), 256), (Tile(1, 0), 1)]
    assert tiles.edge_at(256) == [(Tile(1, 0), 1)]


def test_an_empty_tree_has_no_tiles():
    assert list(tiles.tiles_at(0)) == tiles.edge_at(0) == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2000) | st.integers(0, len(HASHES)))
def test_widths_and_edges_are_those_of_all_tiles(size):
    found = dict(tiles.tiles_at(size))
    assert found == {tile: tiles.width(tile, size) for tile in found}
    assert tiles.edge_at(size) == [(tile, width) for tile, width in found.items() if width < 256]
    for tile in found:
        assert tiles.width(Tile(tile.level, tile.number + 1), size) == found.get(
            Tile(tile.level, tile.number + 1), 0
        )


@given(st.integers(0, 2**63 - 1))
def test_the_edge_of_the_largest_trees_is_found_at_once(size):
    edge = tiles.edge_at(size)
    assert len(edge) <= 8
    for tile, width in edge:
        assert width == size // 256**tile.level % 256
        assert tile.number == size // 256 ** (tile.level + 1)


def test_entries_are_as_many_as_leaves():
    assert tiles.width(Tile(ENTRIES, 273), 70_000) == 112
    assert tiles.width(Tile(ENTRIES, 0), 70_000) == 256
    assert tiles.width(Tile(ENTRIES, 274), 70_000) == 0


# --- growing -----------------------------------------------------------------------------------


def test_70000_leaves_at_once_make_the_tiles_of_the_specification():
    stored, size = grow([70_000])
    assert stored == tree(70_000)
    assert [(tile, len(hashes) // 32) for tile, hashes in stored.items()] == list(
        tiles.tiles_at(size)
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 254, 255, 256, 257, 511]) | st.integers(1, 3000)))
def test_growing_in_any_steps_is_growing_at_once(steps):
    stored, size = grow(steps[:12])
    assert stored == tree(size)


def test_growing_over_the_edge_of_level_one_makes_level_two():
    stored, size = grow([65_535, 1, 1])
    assert stored == tree(size)
    assert stored[Tile(2, 0)] == mth(HASHES[:65_536])


def test_growing_by_nothing_makes_nothing():
    assert list(tiles.grown({}, 0, b"")) == []


@pytest.mark.parametrize(
    ("edge", "size", "leaves"),
    [
        ({}, 1, bytes(32)),
        ({0: bytes(64)}, 1, bytes(32)),
        ({0: bytes(32)}, 0, bytes(32)),
        ({0: bytes(31)}, 1, bytes(33)),
        ({}, 0, bytes(33)),
        ({0: bytes(255 * 32)}, 511, bytes(32)),  # the partial tile of level 1 is missing
    ],
)
def test_growing_refuses_an_edge_that_is_not_the_trees(edge, size, leaves):
    with pytest.raises(ValueError, match="hashes"):
        list(tiles.grown(edge, size, leaves))


# --- nodes in tiles ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "tile"),
    [
        (Node(0, 0), Tile(0, 0)),
        (Node(0, 256), Tile(0, 1)),
        (Node(7, 1), Tile(0, 0)),
        (Node(7, 2), Tile(0, 1)),
        (Node(8, 255), Tile(1, 0)),
        (Node(8, 256), Tile(1, 1)),
        (Node(17, 128), Tile(2, 1)),
    ],
)
def test_a_node_lies_in_its_tile(node, tile):
    assert tiles.tile_of(node) == tile


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 16), st.data())
def test_a_node_is_computed_from_its_tile(level, data):
    node = Node(level, data.draw(st.integers(0, (len(HASHES) >> level) - 1)))
    first = node.number << level
    hashes = STORED[tiles.tile_of(node)]
    assert tiles.node_in_tile(hashes, node) == mth(HASHES[first : first + (1 << level)])


STORED = dict(tiles.grown({}, 0, b"".join(HASHES)))


def test_a_narrow_tile_has_only_the_nodes_it_covers():
    hashes = b"".join(HASHES[:5])
    assert tiles.node_in_tile(hashes, Node(2, 0)) == mth(HASHES[:4])
    for node in (Node(0, 5), Node(1, 2), Node(2, 1), Node(3, 0)):
        with pytest.raises(ValueError, match="needs more than the 5 hashes"):
            tiles.node_in_tile(hashes, node)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, len(HASHES)), st.data())
def test_proofs_come_from_the_tiles_of_their_size(size, data):
    index = data.draw(st.integers(0, size - 1))
    # Only what tiles that exist at this size hold, even where the stored tile is wider by now.
    narrow = {tile: STORED[tile][: 32 * tiles.width(tile, size)] for tile in STORED}
    read = tiles.reader(narrow)
    root = merkle.root(size, read)
    proof = merkle.inclusion_proof(index, size, read)
    assert merkle.verify_inclusion(HASHES[index], index, size, proof, root)
    proof = merkle.consistency_proof(index, size, read)
    assert merkle.verify_consistency(index, merkle.root(index, read), size, root, proof)


# --- entries -----------------------------------------------------------------------------------


def test_a_bundle_has_each_entry_after_its_length():
    assert tiles.bundle([b"", b"a", b"b" * 258]) == b"\0\0" + b"\0\1a" + b"\1\2" + b"b" * 258


@given(st.lists(st.binary(max_size=700), max_size=20))
def test_a_bundle_is_read_as_it_was_written(entries):
    assert tiles.unbundle(tiles.bundle(entries)) == entries


def test_the_longest_entry_fits_and_no_longer_one():
    assert tiles.unbundle(tiles.bundle([bytes(65_535), b"a"])) == [bytes(65_535), b"a"]
    with pytest.raises(ValueError, match="65536 bytes is longer than 65535"):
        tiles.bundle([bytes(65_536)])


@pytest.mark.parametrize("data", [b"\0", b"\0\1", b"\0\1a\0", b"\0\1a\0\2b", b"\xff\xffabc"])
def test_a_bundle_that_ends_early_is_refused(data):
    with pytest.raises(ValueError, match=r"ends amid its entry [01]"):
        tiles.unbundle(data)
