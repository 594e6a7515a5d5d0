"""Cosignatures: a witness's word that it saw a checkpoint, and when (C2SP tlog-cosignature).

Of the two kinds of the specification this is ``cosignature/v1``, made with Ed25519.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit.ledger.checkpoints import Checkpoint
from audit.ledger.notes import (
    COSIGNATURE_V1,
    TIMESTAMP_BYTES,
    Note,
    Signature,
    SigningKey,
    VerifierKey,
    cosigned_message,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Cosignature:
    """When it signed, by its own clock, the witness knew no larger tree than the checkpoint's."""

    witness: VerifierKey
    at: datetime
    signature: Signature


def cosign(checkpoint: Checkpoint, key: SigningKey, at: datetime) -> Signature:
    """What a witness adds to a checkpoint; `at` is cut to seconds. Raises `ValueError`.

    The portal itself never cosigns; this is for the reference witness.
    """
    if key.algorithm != COSIGNATURE_V1:
        raise ValueError(f"{key.verifier.text()} is not a cosigner's key")
    seconds = (at - _EPOCH) // timedelta(seconds=1)
    if seconds <= 0:
        raise ValueError(f"no cosignature can be of {at.isoformat()}")
    message = cosigned_message(checkpoint.text(), seconds)
    return key.signature(message, before=seconds.to_bytes(TIMESTAMP_BYTES))


def cosignatures(note: Note, witnesses: Iterable[VerifierKey]) -> list[Cosignature]:
    """Which of the witnesses have cosigned a checkpoint; maybe none.

    Raises `BadSignature` for a wrong one, and `ValueError` for what is no checkpoint or witness.
    """
    Checkpoint.parse(note.text)
    known = list(witnesses)
    for key in known:
        if key.algorithm != COSIGNATURE_V1:
            raise ValueError(f"{key.text()} is not a witness's key, of type 0x{COSIGNATURE_V1:02x}")
    signed = note.signers(known)
    return [
        Cosignature(key, cosigned_at(signature), signature) for key, signature in signed.items()
    ]


def cosigned_at(signature: Signature) -> datetime:
    """When the witness says that it signed, in UTC. Raises `ValueError`."""
    if len(signature.value) != TIMESTAMP_BYTES + _SIGNATURE_BYTES:
        raise ValueError(f"the signature by {signature.name} is no cosignature/v1")
    seconds = int.from_bytes(signature.value[:TIMESTAMP_BYTES])
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"the cosignature by {signature.name} is of no time: {seconds}") from None
