"""The Merkle tree: roots, proofs, and their verification (RFC 6962, section 2.1; RFC 9162, 2.1).

Pure functions over hashes of 32 bytes. Whatever is computed from stored hashes says first which
*nodes* it needs, so that a caller can fetch them all at once. A node is a complete subtree, whose
hash never changes again; a subtree at the right edge, which still grows, is a tuple of nodes that
are folded from right to left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
MAX_LEVELS = 64
"""A tree has fewer than 2^64 leaves (RFC 9162, section 4.10: `tree_size` is a uint64)."""

EMPTY_ROOT = sha256().digest()


class Node(NamedTuple):
    """A complete subtree: it covers the 2^level leaves from leaf number·2^level on."""

    level: int
    number: int


Read = Callable[[Node], bytes]
"""Gives the hash of a complete subtree."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash above two neighbours (RFC 9162, section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def level_above(hashes: bytes) -> bytes:
    """The parents of an even number of neighbours, all of them one after the other in one string.

    This loop is most of the time that sealing takes.
    """
    return b"".join(
        [sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)]
    )


# --- which nodes are needed --------------------------------------------------------------------


def root_nodes(size: int) -> tuple[Node, ...]:
    """The nodes that fold to the root of a tree; none for the empty tree."""
    return _cover(0, size)


def inclusion_proof_nodes(index: int, size: int) -> list[tuple[Node, ...]]:
    """The nodes of each hash of PATH(index, D[size]), the leaf's sibling first (RFC 9162, 2.1.3.1).

    Raises `ValueError` for a leaf that the tree has not.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_cover(middle, end))
            end = middle
        else:
            path.append(_cover(start, middle))
            start = middle
    return path[::-1]


def consistency_proof_nodes(old: int, new: int) -> list[tuple[Node, ...]]:
    """The nodes of each hash of PROOF(old, D[new]) (RFC 9162, 2.1.4.1).

    The proof is empty from an empty tree and between equal ones. Raises `ValueError` if the old
    tree is larger.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not extend one of {old}")
    if old == 0:
        return []
    start, end, path = 0, new, []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_cover(middle, end))
            end = middle
        else:
            path.append(_cover(start, middle))
            start = middle
    if start > 0:  # else what is left is the whole old tree, whose root the verifier has
        path.append(_cover(start, end))
    return path[::-1]


def _split(count: int) -> int:
    """The largest power of two below the number of leaves, `k` in the RFC."""
    return 1 << ((count - 1).bit_length() - 1)


def _cover(start: int, end: int) -> tuple[Node, ...]:
    """MTH(D[start:end]) as complete subtrees, the largest first."""
    nodes = []
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return tuple(nodes)


# --- hashes from nodes -------------------------------------------------------------------------


def root(size: int, read: Read) -> bytes:
    """The root of the tree of the first `size` leaves."""
    return _fold(map(read, reversed(root_nodes(size))))


def inclusion_proof(index: int, size: int, read: Read) -> list[bytes]:
    """Proof that the tree of that size has the leaf. `ValueError` as for its nodes."""
    return [_fold(map(read, nodes[::-1])) for nodes in inclusion_proof_nodes(index, size)]


def consistency_proof(old: int, new: int, read: Read) -> list[bytes]:
    """Proof that the new tree extends the old one. `ValueError` as for its nodes."""
    return [_fold(map(read, nodes[::-1])) for nodes in consistency_proof_nodes(old, new)]


def _fold(from_the_right: Iterable[bytes]) -> bytes:
    hashes = iter(from_the_right)
    return reduce(lambda right, left: node_hash(left, right), hashes, next(hashes, EMPTY_ROOT))


# --- verification ------------------------------------------------------------------------------


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether the proof shows that `leaf` has that index in the tree (RFC 9162, 2.1.3.2).

    Whatever the arguments hold, the answer is yes or no.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        return False
    at, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            computed = node_hash(sibling, computed)
            at, last = _climb_to_left_edge(at, last)
        else:
            computed = node_hash(computed, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the new tree extends the old one (RFC 9162, 2.1.4.2).

    What the RFC leaves open is as in tlog-witness: a tree extends itself and the empty tree, with
    an empty proof. Whatever the arguments hold, the answer is yes or no.
    """
    if not 0 <= old_size <= new_size or not _are_hashes(old_root, new_root, *proof):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root and (old_size > 0 or old_root == EMPTY_ROOT)
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if not proof:
        return False
    return _extends(old_size, old_root, new_size, new_root, proof)


def _extends(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Steps 2 to 7 of RFC 9162, 2.1.4.2."""
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    # An old tree that is one complete subtree is not in the proof: the verifier knows its root.
    first, *others = [old_root, *proof] if old_size & (old_size - 1) == 0 else proof
    old = new = first
    for sibling in others:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            at, last = _climb_to_left_edge(at, last)
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and (old, new) == (old_root, new_root)


def _climb_to_left_edge(at: int, last: int) -> tuple[int, int]:
    """At the right edge a node may skip levels: up to where it has a left neighbour."""
    while at and not at & 1:
        at, last = at >> 1, last >> 1
    return at, last


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


# --- a tree that grows -------------------------------------------------------------------------


class Frontier:
    """A growing tree of which only the right edge is kept: at most one hash a level.

    For streaming any number of leaves and taking the root at any size on the way.
    """

    __slots__ = ("_edge", "size")

    def __init__(self) -> None:
        self.size = 0
        self._edge = [b""] * MAX_LEVELS
        """By level, the hash of the complete subtree there; it counts where `size` has a bit."""

    @classmethod
    def at(cls, size: int, read: Read) -> Frontier:
        """The frontier of a tree whose hashes are stored, to go on from there."""
        frontier = cls()
        frontier.size = size
        for node in root_nodes(size):
            frontier._edge[node.level] = read(node)
        return frontier

    def append(self, leaf: bytes) -> None:
        """Adds one leaf."""
        size, level, edge = self.size, 0, self._edge
        while size & 1:
            leaf = sha256(b"\x01" + edge[level] + leaf).digest()
            size >>= 1
            level += 1
        edge[level] = leaf
        self.size += 1

    def extend(self, leaves: bytes) -> None:
        """Adds many leaves, one after the other in one string: quicker than one by one."""
        if len(leaves) % HASH_BYTES:
            raise ValueError(f"{len(leaves)} bytes are no whole number of hashes")
        row, level = leaves, 0
        while row:
            if self.size >> level & 1:
                row = self._edge[level] + row
            if len(row) % (2 * HASH_BYTES):
                self._edge[level] = row[-HASH_BYTES:]
                row = row[:-HASH_BYTES]
            row = level_above(row)
            level += 1
        self.size += len(leaves) // HASH_BYTES

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        levels = range(self.size.bit_length())
        return _fold(self._edge[level] for level in levels if self.size >> level & 1)
