"""What an outsider is given of the log, and the check of one event while somebody looks on."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from audit import canonical
from audit.ingest import origin
from audit.ledger import merkle, publishing, storage
from audit.ledger.keys import keys_at
from audit.ledger.merkle import Node
from audit.ledger.notes import Note
from audit.ledger.proofs import Proof
from audit.models import AuditEvent, Checkpoint, Cosignature, Leaf


def served(using: str = "default") -> Checkpoint | None:
    """The checkpoint that everybody gets; None before the log's first one.

    It is the newest, but where witnesses are asked the newest that one of them has cosigned: then
    nobody is shown a tree that no witness saw.
    """
    if settings.LEDGER_WITNESSES:
        seen = Cosignature.objects.using(using).select_related("checkpoint")
        newest = seen.order_by("-checkpoint").first()
        if newest is not None:
            return newest.checkpoint
    return storage.head(using)


@dataclass(frozen=True, slots=True)
class Proved:
    """The evidence that an event is in the log: its leaf, and the proof that the tree has it.

    `entry` are the bytes whose hash the leaf is, None where the event is not stored any more.
    """

    event_id: UUID
    leaf: bytes
    proof: Proof
    entry: bytes | None


class Damaged(ValueError):
    """The log cannot prove what it holds: a checkpoint or a tile was changed or taken away."""


def proof_of(event_id: UUID, using: str = "default") -> Proved | None:
    """The proof that the event is in the log, under the served checkpoint; None if it is not.

    Under the newest one, as long as the served one does not reach the event. Raises `Damaged`.
    """
    leaf = Leaf.objects.using(using).filter(event_id=event_id).first()
    try:
        return _proof_of(leaf, using) if leaf else None
    except (ValueError, KeyError) as error:  # a checkpoint that is none any more; no such tile
        raise Damaged(
            "the log has this event and cannot prove it: a checkpoint or a tile of hashes was "
            "changed or taken away; 'manage.py verify_ledger' says which"
        ) from error


def _proof_of(leaf: Leaf, using: str) -> Proved:
    checkpoint = _checkpoint_over(leaf.index, using)
    own = Node(0, leaf.index)
    path = merkle.inclusion_proof_nodes(leaf.index, checkpoint.size)
    read = storage.reader([own, *(node for hash in path for node in hash)], using)
    hashes = tuple(merkle.inclusion_proof(leaf.index, checkpoint.size, read))
    note = Note.parse(publishing.cosigned(checkpoint, using))
    proof = Proof(leaf.index, hashes, note)
    return Proved(leaf.event_id, read(own), proof, _entry(leaf.index, using))


def _entry(index: int, using: str) -> bytes | None:
    try:
        return storage.entries(index, 1, using)[0]
    except storage.NotStored:
        return None


def _checkpoint_over(index: int, using: str) -> Checkpoint:
    checkpoint = served(using)
    if checkpoint is None or checkpoint.size <= index:
        checkpoint = storage.head(using)
    if checkpoint is None or checkpoint.size <= index:
        raise ValueError(f"no checkpoint holds entry {index}: it was taken away")
    return checkpoint


# --- checking one event ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sealed:
    """The place of an event in the log, and the first checkpoint that holds it.

    There always is one, unless somebody took it away.
    """

    index: int
    checkpoint: Checkpoint | None


def sealed(event_id: UUID, using: str = "default") -> Sealed | None:
    """Where and when the event was sealed; None as long as it is not."""
    leaf = Leaf.objects.using(using).filter(event_id=event_id).first()
    if leaf is None:
        return None
    later = Checkpoint.objects.using(using).filter(size__gt=leaf.index)
    return Sealed(leaf.index, later.order_by("size").first())


@dataclass(frozen=True, slots=True)
class Checked:
    """What was recomputed of an event, and whether it holds, by name; see `check`."""

    size: int
    outcomes: dict[str, bool]

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        return all(self.outcomes.values())


def check(event: AuditEvent, using: str = "default") -> Checked | None:
    """Recompute everything between an event's row and the log's signature; None if not sealed.

    `entry`: the row gives the leaf that the log has. `personal`: the personal values have the
    digests in the entry. `included`: the leaf is in the tree of the checkpoint. `signed`: the
    checkpoint carries a signature by the log's key of that time.
    """
    place = sealed(event.pk, using)
    if place is None:
        return None
    own = {"entry": _leaf(event, using) == bytes(event.leaf_hash), "personal": _digests_hold(event)}
    try:
        proved = proof_of(event.pk, using)
        assert proved is not None, "its leaf is there"
    except Damaged:
        size = place.checkpoint.size if place.checkpoint else 0
        return Checked(size, {**own, "included": False, "signed": False})
    return Checked(
        proved.proof.checkpoint.size,
        {
            **own,
            "entry": own["entry"] and proved.leaf == bytes(event.leaf_hash),
            "included": _is_included(proved),
            "signed": _is_signed(proved.proof, using),
        },
    )


def _leaf(event: AuditEvent, using: str) -> bytes | None:
    try:
        return canonical.leaf(event.entry(origin(using)))
    except (TypeError, ValueError, AttributeError):  # what ingest would never have stored
        return None


def _digests_hold(event: AuditEvent) -> bool:
    try:
        values = canonical.digests(bytes(event.salt or b""), event.personal_values())
    except (TypeError, ValueError, AttributeError):
        return False
    return values == event.digests


def _is_included(proved: Proved) -> bool:
    proof, head = proved.proof, proved.proof.checkpoint
    return merkle.verify_inclusion(proved.leaf, proof.index, head.size, proof.hashes, head.root)


def _is_signed(proof: Proof, using: str) -> bool:
    head = proof.checkpoint
    try:
        return head.origin == origin(using) and bool(proof.note.verified(keys_at(head.size, using)))
    except ValueError:
        return False
