"""Signatures: which key may sign from where on, and whether it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit.ledger import handovers
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.cosignatures import cosignatures
from audit.ledger.handovers import Handover
from audit.ledger.notes import Note, UnknownKey, VerifierKey, parse_signatures
from audit.ledger.verification.faults import Faults, Kind
from audit.models import Checkpoint, Cosignature, LogKey


@dataclass(frozen=True, slots=True)
class Keys:
    """The log's name, the first key, which has to be trusted, and those that it handed over to."""

    origin: str
    first: VerifierKey | None
    handovers: Sequence[Handover] = ()

    def at(self, size: int) -> list[VerifierKey]:
        """The keys of which one has to have signed a checkpoint of this size."""
        return handovers.keys_at(size, self.first, self.handovers) if self.first else []


def kind_of(error: ValueError) -> Kind:
    """What a signature that was refused is called."""
    return Kind.UNKNOWN_KEY if isinstance(error, UnknownKey) else Kind.BAD_SIGNATURE


# --- keys --------------------------------------------------------------------------------------


def chain(
    origin: str,
    first: VerifierKey | None,
    published: Sequence[str],
    stored: Sequence[LogKey],
    faults: Faults,
) -> Keys:
    """The log's keys from the trusted first one on, or from the one that the database names.

    Hand-overs that were published stand before those that are stored: a key that was replaced long
    ago, and stolen, could make others.
    """
    keys = Keys(origin, first or _first(stored, faults))
    if keys.first is None:
        return keys
    notes = [*published, *(key.handover for key in stored[1 + len(published) :])]
    for count in range(1, len(notes) + 1):
        try:
            keys = Keys(origin, keys.first, handovers.chain(notes[:count], keys.first, origin))
        except ValueError as error:
            faults.add(kind_of(error), f"the hand-over number {count}: {error}")
            break
    _check_stored(keys, stored, faults)
    return keys


def _first(stored: Sequence[LogKey], faults: Faults) -> VerifierKey | None:
    try:
        return VerifierKey.parse(stored[0].vkey) if stored else None
    except ValueError as error:
        faults.add(Kind.UNKNOWN_KEY, f"the log's first key cannot be read: {error}")
        return None


def _check_stored(keys: Keys, stored: Sequence[LogKey], faults: Faults) -> None:
    """The table of keys is what pages show and the sealer asks: it has to be the chain."""
    assert keys.first is not None
    proven = [(keys.first.text(), 0), *((step.key.text(), step.size) for step in keys.handovers)]
    kept = [(key.vkey, key.from_size) for key in stored]
    for number, key in enumerate(kept):
        if key not in proven[number : number + 1]:
            detail = f"the stored key number {number + 1}, {key[0]}, is not one of this log's"
            faults.add(Kind.UNKNOWN_KEY, detail, size=key[1])
    if len(kept) < len(proven):
        faults.add(Kind.UNKNOWN_KEY, f"the database lacks {len(proven) - len(kept)} of the keys")


# --- checkpoints -------------------------------------------------------------------------------


def signed_head(note: str, keys: Keys) -> Head:
    """What a signed checkpoint of this log says. Raises `ValueError`, see `kind_of`."""
    parsed = Note.parse(note)
    head = Head.parse(parsed.text)
    parsed.verified(keys.at(head.size))
    if head.origin != keys.origin:
        raise ValueError(f"it is of the log {head.origin!r}, not of {keys.origin!r}")
    return head


def check_checkpoint(checkpoint: Checkpoint, keys: Keys, faults: Faults) -> None:
    """Its signature, and that it says what stands beside it."""
    place: dict[str, Any] = {"size": checkpoint.size}
    try:
        head = signed_head(checkpoint.note, keys)
    except ValueError as error:
        faults.add(kind_of(error), f"the checkpoint: {error}", **place)
        return
    if (head.size, head.root) != (checkpoint.size, bytes(checkpoint.root)):
        detail = f"the note that was signed says {head.size} leaves, or another root, than its row"
        faults.add(Kind.INCONSISTENT, detail, **place)


def check_cosignatures(using: str, first: int, size: int, faults: Faults) -> None:
    """Those of the checkpoints above `first`, each by the key that is stored with it."""
    stored = Cosignature.objects.using(using).select_related("checkpoint").order_by("checkpoint")
    for line in stored.filter(checkpoint__gte=first, checkpoint__lte=size).iterator(1_000):
        try:
            note = Note(Note.parse(line.checkpoint.note).text, parse_signatures(line.line + "\n"))
            found = cosignatures(note, [VerifierKey.parse(line.vkey)])
            if [cosignature.at for cosignature in found] != [line.signed_at]:
                raise ValueError("it is by another witness, or of another time")
        except ValueError as error:
            detail = f"the cosignature by {line.vkey}: {error}"
            faults.add(Kind.BAD_SIGNATURE, detail, size=line.checkpoint_id)
