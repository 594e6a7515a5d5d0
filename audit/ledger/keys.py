"""The log's own keys: the file with the private one, and which key signs from which size on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from tempfile import NamedTemporaryFile

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from audit.ingest import origin
from audit.ledger import handovers, storage
from audit.ledger.notes import SigningKey, VerifierKey
from audit.models import LogKey


def make_key(path: Path, name: str) -> SigningKey:
    """Make a private key in a file of its own, mode 0600. Raises `FileExistsError`.

    `name` is the log's origin, as tlog-checkpoint wants it. The file is there whole or not at all:
    of two who make one at once, the second may read it at once.
    """
    key = SigningKey.generate(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent) as file:  # mode 0600
        file.write(key.text() + "\n")
        file.flush()
        os.fsync(file.fileno())
        os.link(file.name, path)
    return key


def read_key(path: Path) -> SigningKey:
    """The private key in a file. Raises `ImproperlyConfigured` in one sentence."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ImproperlyConfigured(f"{path} can be read by others: chmod 600 {path}")
        return SigningKey.parse(path.read_text().strip())
    except FileNotFoundError:
        raise ImproperlyConfigured(
            f"there is no signing key in {path}: make one with 'manage.py make_signing_key', or "
            "set AUDITPORTAL_SIGNING_KEY_FILE"
        ) from None
    except (OSError, ValueError) as error:
        raise ImproperlyConfigured(f"no signing key in {path}: {error}") from None


def require_current(signer: SigningKey, using: str = "worker") -> None:
    """Raise `ImproperlyConfigured` unless the log is signed with this key; the first is taken on.

    A key is never just exchanged: the one before it has to hand over, see `hand_over`.
    """
    vkey = signer.verifier.text()
    current = LogKey.objects.using(using).last()
    if current is None:
        _require_name(signer, using)
        LogKey.objects.using(using).create(vkey=vkey, from_size=0)
    elif current.vkey != vkey:
        raise ImproperlyConfigured(
            f"this log is signed with {current.vkey}, the key given is {vkey}: a new key is taken "
            "on with 'manage.py rotate_signing_key' only"
        )


def _require_name(signer: SigningKey, using: str) -> None:
    if signer.name != (name := origin(using)):
        raise ImproperlyConfigured(f"the signing key is for {signer.name!r}, this log is {name!r}")


def hand_over(old: SigningKey, new: SigningKey, using: str = "worker") -> LogKey:
    """Let `new` sign from the present size on; `old` has to be the log's key, and says so."""
    with transaction.atomic(using=using):
        require_current(old, using)
        _require_name(new, using)
        head = storage.head(using)
        size = head.size if head else 0
        note = handovers.make(old, new, origin(using), size)
        return LogKey.objects.using(using).create(
            vkey=new.verifier.text(), from_size=size, handover=note
        )


def known_keys(using: str = "default") -> list[VerifierKey]:
    """Every key that has ever signed this log, the first one first."""
    vkeys = LogKey.objects.using(using).values_list("vkey", flat=True)
    return [VerifierKey.parse(vkey) for vkey in vkeys]


def keys_at(size: int, using: str = "default") -> list[VerifierKey]:
    """The keys of which any may sign this log's checkpoint of that size; none before the first."""
    keys = list(LogKey.objects.using(using))
    if not keys:
        return []
    first = VerifierKey.parse(keys[0].vkey)
    chain = handovers.chain((key.handover for key in keys[1:]), first, origin(using))
    return handovers.keys_at(size, first, chain)
