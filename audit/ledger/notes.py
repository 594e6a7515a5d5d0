"""Signed notes: texts with signature lines, and the keys that make and verify them.

As in C2SP signed-note (c2sp.org/signed-note), which grew out of golang.org/x/mod/sumdb/note; the
form of a private key is that of the latter. Of the signature types there are the two that this
log needs: Ed25519 for the log itself, and the cosignatures of its witnesses (tlog-cosignature).

There is one way to write a note: whatever can be read, `str(Note.parse(note)) == note`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.ledger.encoding import (
    MAX_NUMBER,
    from_base64,
    require_line,
    to_base64,
    to_lines,
    to_text,
)

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
"""The signature types, as signed-note assigns them."""

MAX_SIGNATURES = 100
"""More than the 16 that every verifier must accept, and few enough to be verified at once."""

KEY_BYTES, KEY_ID_BYTES, TIMESTAMP_BYTES = 32, 4, 8

_NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")
_PRIVATE = "PRIVATE+KEY+"


class UnknownKey(ValueError):
    """None of the known keys has signed: nothing is known of the note, so it has to be ignored."""


class BadSignature(ValueError):
    """A line claims to be a known key's signature, and is not: the whole note is to be refused."""


# --- keys --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and its name, a *vkey* (signed-note, "Verifier keys").

    Raises `ValueError` for a name, algorithm or length that cannot be.
    """

    name: str
    public: bytes
    algorithm: int = ED25519

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_key(self.algorithm, self.public)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """From ``name+keyid+base64``. Raises `ValueError`, also if the key id does not fit."""
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        key = cls(name, *_unpack(encoded, "a verifier key"))
        if key.key_id.hex() != key_id:
            raise ValueError(f"the verifier key {text[:200]!r} has the key id {key.key_id.hex()}")
        return key

    def text(self) -> str:
        """What is handed to verifiers."""
        return f"{self.signer}+{_pack(self.algorithm, self.public)}"

    @property
    def signer(self) -> str:
        """As `Signature.signer`."""
        return f"{self.name}+{self.key_id.hex()}"

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signatures tell keys of one name apart."""
        kind = bytes([self.algorithm])
        return sha256(self.name.encode() + b"\n" + kind + self.public).digest()[:KEY_ID_BYTES]

    def has_signed(self, text: str, value: bytes) -> bool:
        """Whether `value`, the bytes after the key id, is this key's signature of the text."""
        message = text.encode()
        if self.algorithm == COSIGNATURE_V1:
            seconds, value = int.from_bytes(value[:TIMESTAMP_BYTES]), value[TIMESTAMP_BYTES:]
            if not 0 < seconds <= MAX_NUMBER:
                return False
            message = cosigned_message(text, seconds)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its name. It is in no `repr`. Raises `ValueError` as `VerifierKey` does."""

    name: str
    seed: bytes = field(repr=False)
    algorithm: int = ED25519

    def __post_init__(self) -> None:
        _require_name(self.name)
        _require_key(self.algorithm, self.seed)

    @classmethod
    def generate(cls, name: str, algorithm: int = ED25519) -> SigningKey:
        """A new key; for a log, `name` should be its origin (tlog-checkpoint)."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw(), algorithm)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """From the form that `text` gives. Raises `ValueError`, which tells nothing of the key."""
        if not text.startswith(_PRIVATE):
            raise ValueError(f"a signing key begins with {_PRIVATE}")
        name, _, rest = text.removeprefix(_PRIVATE).partition("+")
        key_id, _, encoded = rest.partition("+")
        key = cls(name, *_unpack(encoded, "a signing key"))
        if key.verifier.key_id.hex() != key_id:
            raise ValueError("the key id of the signing key is not that of its name and key")
        return key

    def text(self) -> str:
        """What is kept in a file, as golang.org/x/mod/sumdb/note writes it. Secret."""
        return f"{_PRIVATE}{self.verifier.signer}+{_pack(self.algorithm, self.seed)}"

    @property
    def verifier(self) -> VerifierKey:
        """The public key that belongs to it."""
        public = self._private().public_key().public_bytes_raw()
        return VerifierKey(self.name, public, self.algorithm)

    def sign(self, text: str) -> str:
        """The text as a note with this signature. Raises `ValueError` as `Note` does."""
        return sign(text, self)

    def signature(self, message: bytes, before: bytes = b"") -> Signature:
        """The signature of exactly these bytes; `before` stands before it in its line."""
        return Signature(self.name, self.verifier.key_id, before + self._private().sign(message))

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} cannot name a key: a name is not empty, and has no spaces, plus signs "
            "or control characters"
        )


def _require_key(algorithm: int, key: bytes) -> None:
    if algorithm not in (ED25519, COSIGNATURE_V1):
        raise ValueError(f"keys of the signature type 0x{algorithm:02x} are not known here")
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of Ed25519 has {KEY_BYTES} bytes, not {len(key)}")


def _pack(algorithm: int, key: bytes) -> str:
    return to_base64(bytes([algorithm]) + key)


def _unpack(encoded: str, what: str) -> tuple[bytes, int]:
    packed = from_base64(encoded, f"the last part of {what}")
    if not packed:
        raise ValueError(f"{what} is a name, a key id and base64, with '+' between them")
    return packed[1:], int.from_bytes(packed[:1])


# --- notes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature line: the key that claims to have signed, and what it says (`value`)."""

    name: str
    key_id: bytes
    value: bytes

    @classmethod
    def parse(cls, line: str) -> Signature:
        """From a line without its newline. Raises `ValueError`."""
        dash, *parts = line.split(" ")
        if dash != "—" or len(parts) != 2:
            raise ValueError(f"a signature line is '— name base64', not {line[:80]!r}")
        name, encoded = parts
        _require_name(name)
        packed = from_base64(encoded, f"the signature of {name!r}")
        if len(packed) <= KEY_ID_BYTES:
            raise ValueError(f"the signature of {name!r} is too short to be one")
        return cls(name, packed[:KEY_ID_BYTES], packed[KEY_ID_BYTES:])

    def __str__(self) -> str:
        return f"— {self.name} {to_base64(self.key_id + self.value)}"

    @property
    def signer(self) -> str:
        """What identifies the key: its name and its id, neither alone."""
        return f"{self.name}+{self.key_id.hex()}"


def parse_signatures(block: str) -> tuple[Signature, ...]:
    """The signature lines that end a note, or that a witness answers with. Raises `ValueError`."""
    lines = to_lines(block, "the last signature line")
    if len(lines) > MAX_SIGNATURES:
        raise ValueError(f"a note has {MAX_SIGNATURES} signatures at most, not {len(lines)}")
    return tuple(map(Signature.parse, lines))


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a newline, and the signatures that are claimed to be of it.

    Raises `ValueError` for a text that a note cannot have, or without a signature.
    """

    text: str
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        for line in to_lines(self.text, "a note's text"):
            if line:
                require_line(line, "a line of a note's text")
        if not 0 < len(self.signatures) <= MAX_SIGNATURES:
            raise ValueError(f"a note has 1 to {MAX_SIGNATURES} signatures")

    @classmethod
    def parse(cls, note: str | bytes) -> Note:
        """Read a note strictly; nothing is verified yet. Raises `ValueError`."""
        text, blank, block = to_text(note).rpartition("\n\n")
        if not blank or not block:
            raise ValueError("a note is a text, an empty line, and signature lines")
        return cls(text + "\n", parse_signatures(block))

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(f"{signature}\n" for signature in self.signatures)

    def with_signatures(self, *more: Signature) -> Note:
        """The note with these signatures too, each in the place of an earlier one by its key."""
        replaced = {signature.signer for signature in more}
        kept = (signature for signature in self.signatures if signature.signer not in replaced)
        return Note(self.text, (*kept, *more))

    def signers(self, known: Iterable[VerifierKey]) -> dict[VerifierKey, Signature]:
        """Which of the known keys have signed, each with its first signature; maybe none.

        Signatures of other keys are ignored. Raises `BadSignature` if one that claims to be by a
        known key is not, whatever else the note holds.
        """
        keys = list(known)
        signed: dict[VerifierKey, Signature] = {}
        for signature in self.signatures:
            claimed = [key for key in keys if key.signer == signature.signer]
            valid = [key for key in claimed if key.has_signed(self.text, signature.value)]
            if claimed and not valid:
                raise BadSignature(f"the signature by {signature.signer} is not of this text")
            for key in valid:
                signed.setdefault(key, signature)
        return signed

    def verified(self, known: Iterable[VerifierKey]) -> dict[VerifierKey, Signature]:
        """As `signers`; raises `UnknownKey` if there are none."""
        signed = self.signers(known)
        if not signed:
            claimed = ", ".join(dict.fromkeys(signature.signer for signature in self.signatures))
            raise UnknownKey(f"no known key has signed this note; it is signed by {claimed}")
        return signed


def sign(text: str, *keys: SigningKey) -> str:
    """The text as a note, signed by each of the keys. Raises `ValueError` as `Note` does.

    A cosigner's key signs checkpoints only, see `audit.ledger.cosignatures`.
    """
    for key in keys:
        if key.algorithm != ED25519:
            raise ValueError(f"{key.verifier.text()} is a cosigner's key: it does not sign notes")
    return str(Note(text, tuple(key.signature(text.encode()) for key in keys)))


def cosigned_message(text: str, seconds: int) -> bytes:
    """What a cosigner signs (tlog-cosignature, "Ed25519 signed message"); POSIX seconds."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
