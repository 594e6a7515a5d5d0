"""Proofs: that an entry is in the log, in one text for offline verification (C2SP tlog-proof)."""

from __future__ import annotations

from dataclasses import dataclass

from audit.ledger.checkpoints import Checkpoint
from audit.ledger.encoding import (
    from_base64,
    from_decimal,
    from_hash,
    require_hash,
    to_base64,
    to_hash_line,
    to_text,
)
from audit.ledger.notes import Note

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
"""The depth of the largest tree whose size is below 2^63."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Inclusion of the entry number `index` in the tree of a signed checkpoint.

    `hashes` lead from the leaf's sibling up to the root's child; `merkle.verify_inclusion` says
    whether they do. `extra` is not authenticated by anything. Raises `ValueError` for a note that
    is no checkpoint, or an index that its tree has not.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: Note
    extra: bytes = b""

    def __post_init__(self) -> None:
        size = self.checkpoint.size
        if not 0 <= self.index < size:
            raise ValueError(f"there is no entry {self.index} in a log of {size}")
        if len(self.hashes) > MAX_HASHES:
            raise ValueError(f"a proof has {MAX_HASHES} hashes at most, not {len(self.hashes)}")
        for hash in self.hashes:
            require_hash(hash, "a hash of a proof")

    @classmethod
    def parse(cls, text: str | bytes) -> Proof:
        """Read a proof strictly; nothing is verified yet. Raises `ValueError`."""
        head, _, note = to_text(text).partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER:
            raise ValueError(f"a proof begins with the line {HEADER}")
        extra = _extra(lines.pop(0)) if lines and lines[0].startswith("extra ") else b""
        if not lines or not lines[0].startswith("index "):
            raise ValueError("a proof needs a line 'index' with the number of its entry")
        index = from_decimal(lines.pop(0).removeprefix("index "), "the index of a proof")
        hashes = tuple(from_hash(line, "a hash of a proof") for line in lines)
        return cls(index, hashes, Note.parse(note), extra)

    def __str__(self) -> str:
        extra = f"extra {to_base64(self.extra)}\n" if self.extra else ""
        hashes = "".join(map(to_hash_line, self.hashes))
        return f"{HEADER}\n{extra}index {self.index}\n{hashes}\n{self.note}"

    @property
    def checkpoint(self) -> Checkpoint:
        """The head of the tree that the entry is in, as far as its signatures are verified."""
        return Checkpoint.parse(self.note.text)


def _extra(line: str) -> bytes:
    extra = from_base64(line.removeprefix("extra "), "the extra data of a proof")
    if not extra:
        raise ValueError("a proof without extra data has no line for it")
    return extra
