"""Hand-overs: how the log gets a new key, so that whoever trusts the old one can follow.

A hand-over is a signed note of four lines, signed by the old key and by the new one. The format
is this portal's own: C2SP leaves the rotation of keys to each log. Its text can never be read as a
checkpoint, whose third line has 44 characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from audit.ledger.encoding import from_decimal, require_line, require_number, to_lines
from audit.ledger.notes import ED25519, Note, SigningKey, UnknownKey, VerifierKey, sign

HEADER = "auditportal key handover v1"


@dataclass(frozen=True, slots=True)
class Handover:
    """From this size of the log's tree on, `key` signs. Raises `ValueError` for what cannot be."""

    origin: str
    size: int
    key: VerifierKey

    def __post_init__(self) -> None:
        require_line(self.origin, "the origin of a hand-over")
        require_number(self.size, "the size of a hand-over")
        if self.key.algorithm != ED25519:
            raise ValueError(f"{self.key.text()} is a cosigner's key: it cannot sign a log")

    @classmethod
    def parse(cls, text: str) -> Handover:
        """Read the text of a note, of which nothing is verified yet. Raises `ValueError`."""
        lines = to_lines(text, "a hand-over")
        if len(lines) != 4 or lines[0] != HEADER:
            raise ValueError(f"a hand-over has four lines, the first one {HEADER!r}")
        _, origin, size, key = lines
        return cls(origin, from_decimal(size, "the size of a hand-over"), VerifierKey.parse(key))

    def text(self) -> str:
        """What both keys sign."""
        return f"{HEADER}\n{self.origin}\n{self.size}\n{self.key.text()}\n"


def make(old: SigningKey, new: SigningKey, origin: str, size: int) -> str:
    """The note by which `old` hands the log over to `new`. Raises `ValueError`."""
    if old == new:
        raise ValueError("a key cannot hand over to itself")
    return sign(Handover(origin, size, new.verifier).text(), old, new)


def verified(note: str, old: VerifierKey, origin: str) -> Handover:
    """Read a hand-over by the key `old` of the log `origin`.

    Raises `UnknownKey` or `BadSignature` unless both keys have signed, and `ValueError` for
    everything else that is not as it should be.
    """
    parsed = Note.parse(note)
    handover = Handover.parse(parsed.text)
    signed = parsed.signers([old, handover.key])
    for key in (old, handover.key):
        if key not in signed:
            raise UnknownKey(
                f"the hand-over to {handover.key.text()} is not signed by {key.text()}"
            )
    if handover.key == old:
        raise ValueError(f"{old.text()} hands over to itself")
    if handover.origin != origin:
        raise ValueError(f"the hand-over is of the log {handover.origin!r}, not of {origin!r}")
    return handover


def chain(notes: Iterable[str], first: VerifierKey, origin: str) -> list[Handover]:
    """All hand-overs of a log, from its first key on, each by the key before. Raises as `verified`.

    Sizes may not run backwards: a key could take back what it has given away.
    """
    handovers: list[Handover] = []
    key, size = first, 0
    for note in notes:
        handover = verified(note, key, origin)
        if handover.size < size:
            raise ValueError(f"a hand-over at size {handover.size} follows one at {size}")
        key, size = handover.key, handover.size
        handovers.append(handover)
    return handovers


def keys_at(size: int, first: VerifierKey, handovers: Iterable[Handover]) -> list[VerifierKey]:
    """The keys of which any may sign a checkpoint of this size: one, or at a hand-over all of its.

    `handovers` are those of `chain`.
    """
    keys = [first]
    for handover in handovers:
        if size > handover.size:
            keys = [handover.key]
        elif size == handover.size:
            keys.append(handover.key)
    return keys
