#!/usr/bin/env python3
"""Check a copy of an AuditPortal log without trusting, or asking, whoever runs the portal.

    python3 verify_log.py FOLDER --vkey 'NAME+KEYID+BASE64' [--previous OLDER] [--witness VKEY]

Needs Python 3.9 or newer and the package `cryptography`, nothing else, and no network. It shares no
code with the portal, and is meant to be read from top to bottom before it is believed.

The log
    Every event is one *entry*: canonical JSON (RFC 8785) in which each value that identifies a
    person is replaced by a salted digest. The SHA-256 hashes of the entries are the leaves of a
    Merkle tree (RFC 9162, section 2.1), whose root is signed together with the number of entries:
    a *checkpoint*. Change, drop, insert or swap anything, and the root is another one.

What FOLDER may hold (the formats are those of c2sp.org)
    checkpoint               the signed root                            (tlog-checkpoint)
    tile/<L>/<N>[.p/<W>]     the tree's hashes, 256 a file              (tlog-tiles)
    tile/entries/<N>[.p/<W>] the entries, 256 a file                    (tlog-tiles)
    handovers/000001 …       how the log's key was replaced, each step signed by both keys
    X.tlog-proof             proof that one event is in the log         (tlog-proof), with
    X.entry                  that event's entry, and maybe
    X.disclosures            personal values of it, one a line, each with its salt (RFC 9901)

What is proved if nothing is found
    - Whoever has the key signed exactly these entries in exactly this order.
    - Each checkpoint given with --previous (a file, or a folder with `checkpoint` or
      `checkpoints/`) is a beginning of this log: since then nothing was changed or taken away.
    - Each witness given with --witness saw the same tree, at the time that is printed.
    - No event is there twice. A value that was disclosed is the one that was recorded.

What is not proved
    - That what an application reported is true, or that it reported everything.
    - That others were shown the same log. For that, compare checkpoints that you got at other
      times and by other ways (--previous), or name witnesses.
    - That the key is the portal's: get it another way than FOLDER. FOLDER/vkey is not read.
    - That a key was not replaced, if neither FOLDER nor --previous holds the hand-over.
    - When an event was recorded, other than: before the time at which a witness saw it.

Prints a line for each check; a fault's line begins with its kind in capitals. Exit status: 0 if
everything holds, 1 if there is a fault, 2 if it was called wrongly or could not do its work.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import re
import sqlite3
import sys
import time
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    print("verify_log.py needs the package 'cryptography': python3 -m pip install cryptography")
    sys.exit(2)

KINDS = """
BAD_SIGNATURE        a key that you trust did not sign this, or a witness did not
UNKNOWN_KEY          no key that you trust signed this
MALFORMED            a file or an entry is not what it should be
MISSING_ROW          an entry or a file is not there
LEAF_MISMATCH        an entry is not the one whose hash is in the tree
TILE_MISMATCH        a hash in a tile is not that of what lies below it
INCONSISTENT         the entries do not give the root that was signed, now or earlier
SIZE_ROLLBACK        there were more entries once
SPLIT_VIEW           two signed checkpoints have the same size and different roots
DUPLICATE_EVENT      two entries have the same id
DISCLOSURE_MISMATCH  a disclosed value is not the one that was recorded
"""

SHOWN = 20
"""So many faults of each kind are printed; the others are counted."""

MOST_MISSING = 100
"""After so many missing files the rest is not looked for."""


class Fault(Exception):
    """What is wrong with a file: one of the KINDS, and a sentence."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


# --- what is printed ---------------------------------------------------------------------------


class Report:
    """Collects a line for each check, and prints it at once unless the whole is to be JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.lines: list[dict[str, str]] = []
        self.faults: Counter[str] = Counter()

    def ok(self, text: str) -> None:
        self._line("ok", text)

    def note(self, text: str) -> None:
        """Something to know that is no fault."""
        self._line("note", text)

    def fault(self, kind: str, text: str) -> None:
        self.faults[kind] += 1
        if self.faults[kind] <= SHOWN:
            self._line(kind, text)

    def more(self, kind: str, count: int) -> None:
        """Faults that are only counted."""
        self.faults[kind] += count

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """A fault found inside is one line about `what`; then the next thing is checked."""
        try:
            yield
        except Fault as fault:
            self.fault(fault.kind, f"{what}: {fault.text}")

    def finish(self) -> int:
        """The verdict, and the exit status."""
        for kind, count in self.faults.items():
            if count > SHOWN:
                self._line(kind, f"and {count - SHOWN} more")
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        verdict = f"this log does not hold: {counts}" if counts else "all that was checked holds"
        if self.as_json:
            document = {"holds": not counts, "verdict": verdict, "faults": dict(self.faults)}
            print(json.dumps({**document, "lines": self.lines}, indent=1))
        else:
            print(f"verdict: {verdict}")
        return 1 if counts else 0

    def _line(self, kind: str, text: str) -> None:
        text = printable(text)
        self.lines.append({"kind": kind, "text": text})
        if not self.as_json:
            print(f"{kind}: {text}", flush=True)


def printable(text: str) -> str:
    """Text from a file may hold anything; a terminal should not obey it."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


# --- bytes and files ---------------------------------------------------------------------------


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def from_base64(text: str, what: str) -> bytes:
    """Standard base64, in its one canonical form (RFC 4648, section 4)."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = b""
    if not data or b64encode(data).decode() != text:
        raise Fault("MALFORMED", f"{what} is not in base64")
    return data


def to_hash(text: str, what: str) -> bytes:
    data = from_base64(text, what)
    if len(data) != 32:
        raise Fault("MALFORMED", f"{what} has {len(data)} bytes instead of 32")
    return data


def to_number(text: str, what: str) -> int:
    """A decimal number below 2^63, without sign or leading zeroes."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text) or int(text) >= 2**63:
        raise Fault("MALFORMED", f"{what} is not a number: {text[:40]!r}")
    return int(text)


def to_text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("MALFORMED", "it is not text in UTF-8") from None


def read(path: Path, limit: int = 1 << 20) -> bytes:
    """A file of at most `limit` bytes. A fault if it is missing or cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise Fault("MALFORMED", "it is not a file")
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise Fault("MISSING_ROW", "there is no such file") from None
    except OSError as error:
        raise Fault("MALFORMED", f"it cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise Fault("MALFORMED", f"it is longer than {limit} bytes, which such a file never is")
    return data


# --- signed notes (c2sp.org/signed-note) -------------------------------------------------------

ED25519, COSIGNATURE = 1, 4
"""The types of keys: the log's own, and those of witnesses."""


class Key:
    """A key that can verify: ``NAME+KEYID+BASE64``. A fault if it is none."""

    def __init__(self, text: str, type_: int = ED25519) -> None:
        parts = text.split("+", 2)
        if len(parts) != 3 or not re.fullmatch(r"[^\s+]+", parts[0]):
            raise Fault("MALFORMED", f"{text[:200]!r} is no verifier key, NAME+KEYID+BASE64")
        packed = from_base64(parts[2], f"the last part of the key {text[:200]!r}")
        if packed[0] != type_ or len(packed) != 33:
            whose = "the log" if type_ == ED25519 else "a witness"
            raise Fault("MALFORMED", f"{text[:200]!r} is not an Ed25519 key of {whose}")
        self.text, self.name = text, parts[0]
        self.id = sha256(self.name.encode("utf-8", "surrogateescape") + b"\n" + packed)[:4]
        if self.id.hex() != parts[1]:
            raise Fault("MALFORMED", f"the key id in {text[:200]!r} should be {self.id.hex()}")
        try:
            self._public = Ed25519PublicKey.from_public_bytes(packed[1:])
        except ValueError:
            raise Fault("MALFORMED", f"{text[:200]!r} is not a point of Ed25519") from None

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signature(NamedTuple):
    name: str
    id: bytes
    value: bytes


class Note(NamedTuple):
    """A text and the signatures under it, none of them verified yet."""

    text: str
    signatures: list[Signature]

    def by(self, key: Key) -> list[bytes]:
        """What claims to be this key's signature. Those of other keys are ignored."""
        return [s.value for s in self.signatures if (s.name, s.id) == (key.name, key.id)]

    def signed_by(self, key: Key) -> bool:
        """Whether this key signed. A fault if a signature says so and is wrong."""
        found = self.by(key)
        if not all(key.verifies(value, self.text.encode()) for value in found):
            raise Fault("BAD_SIGNATURE", f"the signature by {key} is not of this text")
        return bool(found)


def to_note(text: str) -> Note:
    """Text, an empty line, then at least one line ``— NAME BASE64``."""
    if re.search(r"[\x00-\x09\x0b-\x1f]", text):
        raise Fault("MALFORMED", "a signed note has no control characters")
    before, blank, block = text.rpartition("\n\n")
    if not blank or not block.endswith("\n"):
        raise Fault("MALFORMED", "it is not a signed note: a text, an empty line, signatures")
    return Note(before + "\n", [to_signature(line) for line in block[:-1].split("\n")])


def to_signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not re.fullmatch(r"[^\s+]+", parts[1]):
        raise Fault("MALFORMED", f"this is no signature: {line[:80]!r}")
    packed = from_base64(parts[2], f"the signature by {parts[1]!r}")
    return Signature(parts[1], packed[:4], packed[4:])


class Checkpoint(NamedTuple):
    """At this size the log's tree has this root (c2sp.org/tlog-checkpoint)."""

    where: str
    origin: str
    size: int
    root: bytes
    note: Note


def to_checkpoint(text: str, where: str) -> Checkpoint:
    note = to_note(text)
    lines = note.text[:-1].split("\n")
    if len(lines) < 3 or "" in lines:
        raise Fault("MALFORMED", "it is not a checkpoint: the log's name, its size, its root")
    size, root = to_number(lines[1], "the size"), to_hash(lines[2], "the root")
    if size == 0 and root != EMPTY_ROOT:
        raise Fault("INCONSISTENT", "a log without entries has another root")
    return Checkpoint(where, lines[0], size, root, note)


# --- whose signature counts --------------------------------------------------------------------


class Tenure:
    """A key, the log it signs, and for which sizes of it."""

    def __init__(self, key: Key, origin: str, since: int = 0) -> None:
        self.key, self.origin, self.since = key, origin, since
        self.until: int | None = None  # the size at which the next key takes over

    def why_not(self, origin: str, size: int) -> str:
        """Why it may not sign a checkpoint of this log and size; empty if it may."""
        if origin != self.origin:
            return f"{self.key} signs the log {self.origin!r}, not {origin!r}"
        if size < self.since:
            return f"{self.key} signs from size {self.since} on"
        if self.until is not None and size > self.until:
            return f"{self.key} handed over at size {self.until}"
        return ""


class Keyring:
    """The keys that you gave, and those that they handed over to.

    A key that you gave signs the log of its own name.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self.given = {key.text: key for key in keys}
        self.tenures = [Tenure(key, key.name) for key in self.given.values()]

    def signer(self, note: Note, origin: str, size: int) -> Tenure:
        """The trusted key that rightly signed; a fault if there is none."""
        return self._signer(self.tenures, note, origin, size)

    @staticmethod
    def _signer(tenures: list[Tenure], note: Note, origin: str, size: int) -> Tenure:
        signed = [tenure for tenure in tenures if note.signed_by(tenure.key)]
        reasons = [tenure.why_not(origin, size) for tenure in signed]
        if "" in reasons:
            return signed[reasons.index("")]
        claimed = ", ".join(sorted({f"{s.name}+{s.id.hex()}" for s in note.signatures}))
        nobody = f"it is signed by {claimed}, and you trust none of them"
        raise Fault("UNKNOWN_KEY", "; ".join(reasons) or nobody)

    def hand_over(self, handover: Handover) -> None:
        """Trust the new key from its size on; a fault unless the old and the new one signed."""
        _, origin, size, new, note = handover
        if not note.signed_by(new):
            raise Fault("BAD_SIGNATURE", f"the new key {new} did not sign it")
        others = [tenure for tenure in self.tenures if tenure.key.text != new.text]
        old = self._signer(others, note, origin, size)
        if old.until is not None:
            raise Fault("UNKNOWN_KEY", f"{old.key} had handed over before, at size {old.until}")
        old.until = size
        # If you gave the new key too, it no longer counts for every size.
        kept = [t for t in self.tenures if t.key.text != new.text or t.until is not None]
        self.tenures = [*kept, Tenure(new, origin, size)]


class Handover(NamedTuple):
    where: str
    origin: str
    size: int
    key: Key
    note: Note


def to_handover(text: str, where: str) -> Handover:
    note = to_note(text)
    lines = note.text[:-1].split("\n")
    if len(lines) != 4 or lines[0] != "auditportal key handover v1":
        raise Fault("MALFORMED", "it is not a hand-over: header, log, size, new key")
    return Handover(where, lines[1], to_number(lines[2], "the size"), Key(lines[3]), note)


def follow_handovers(folder: Path, ring: Keyring, report: Report) -> list[Handover]:
    """Extend trust along ``handovers/000001`` and on; the hand-overs that hold."""
    found: list[Handover] = []
    followed = []
    for number in range(1, last_handover(folder) + 1):
        where = f"handovers/{number:06}"
        with report.of(where):
            found.append(to_handover(to_text(read(folder / where)), where))
    given = [n for n, handover in enumerate(found) if handover.key.text in ring.given]
    for n, handover in enumerate(found):
        try:
            ring.hand_over(handover)
        except Fault as fault:
            if fault.kind == "UNKNOWN_KEY" and given and n <= given[-1]:
                report.note(f"{handover.where}: lies before the keys that you gave; not followed")
            else:
                report.fault(fault.kind, f"{handover.where}: {fault.text}")
            continue
        followed.append(handover)
        report.ok(f"{handover.where}: from size {handover.size} on {handover.key} signs")
    return followed


def last_handover(folder: Path) -> int:
    names = [path.name for path in listed(folder / "handovers")]
    return max([int(name) for name in names if re.fullmatch(r"[0-9]{6}", name)], default=0)


def listed(folder: Path) -> list[Path]:
    """What is in a folder, hidden files aside; nothing if there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


# --- witnesses (c2sp.org/tlog-cosignature) -----------------------------------------------------


def check_witnesses(checkpoint: Checkpoint, witnesses: Sequence[Key], report: Report) -> None:
    """Each witness that you named must have seen this checkpoint."""
    for witness in witnesses:
        with report.of(checkpoint.where):
            seconds = cosigned_at(checkpoint.note, witness)
            at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
            report.ok(f"{checkpoint.where}: the witness {witness.name} saw it at {at}")


def cosigned_at(note: Note, witness: Key) -> int:
    """When the witness signed, in POSIX seconds: the earliest time if it did more than once."""
    times = []
    for value in note.by(witness):
        seconds = int.from_bytes(value[:8], "big")
        message = f"cosignature/v1\ntime {seconds}\n{note.text}".encode()
        in_range = 0 < seconds < 1 << 37  # the year 6325
        if not in_range or not witness.verifies(value[8:], message):
            raise Fault("BAD_SIGNATURE", f"the cosignature by {witness} is not of this text")
        times.append(seconds)
    if not times:
        raise Fault("BAD_SIGNATURE", f"the witness {witness} did not cosign it")
    return min(times)


# --- the Merkle tree (RFC 9162, section 2.1) ---------------------------------------------------

EMPTY_ROOT = sha256(b"")


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


class Tree:
    """A tree that grows leaf by leaf. Only its right edge is kept, however large it is."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []  # the roots of the complete subtrees, the largest first
        self.rows: dict[int, list[bytes]] = {}
        """By level of tiles (from 1), the hashes of the tile that is being filled."""

    def add(self, leaf: bytes) -> None:
        self.size += 1
        count, height, hash_ = self.size, 0, leaf
        while count % 2 == 0:  # this hash completes a subtree, twice as large each time
            hash_ = node_hash(self._edge.pop(), hash_)
            count, height = count // 2, height + 1
            if height % 8 == 0:
                self.rows.setdefault(height // 8, []).append(hash_)
        self._edge.append(hash_)

    def root(self) -> bytes:
        if not self._edge:
            return EMPTY_ROOT
        *others, root = self._edge
        for left in reversed(others):
            root = node_hash(left, root)
        return root


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf with this index leads to the root (RFC 9162, section 2.1.3.2)."""
    at, last, hash_ = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at % 2 == 1 or at == last:
            hash_ = node_hash(sibling, hash_)
            while at % 2 == 0 and at > 0:  # no right neighbour here: it stays what it is
                at, last = at // 2, last // 2
        else:
            hash_ = node_hash(hash_, sibling)
        at, last = at // 2, last // 2
    return index < size and last == 0 and hash_ == root


# --- tiles and entries (c2sp.org/tlog-tiles) ---------------------------------------------------


def tile_path(level: str, number: int, width: int) -> str:
    """``tile/0/x001/234/067``, with ``.p/W`` if it holds fewer than 256."""
    digits = f"{number % 1000:03}"
    while number := number // 1000:
        digits = f"x{number % 1000:03}/{digits}"
    return f"tile/{level}/{digits}" + (f".p/{width}" if width < 256 else "")


def read_tile(folder: Path, level: str, number: int, width: int, limit: int) -> tuple[bytes, int]:
    """A tile's bytes and width. The full one will do where the partial one is gone."""
    try:
        return read(folder / tile_path(level, number, width), limit), width
    except Fault as fault:
        if fault.kind != "MISSING_ROW" or width == 256:
            raise
        try:
            return read(folder / tile_path(level, number, 256), limit), 256
        except Fault:
            raise fault from None


def read_hashes(folder: Path, level: int, number: int, width: int) -> list[bytes]:
    data, held = read_tile(folder, str(level), number, width, 256 * 32)
    if len(data) != held * 32:
        raise Fault("MALFORMED", f"it has {len(data)} bytes instead of {held * 32}")
    return [data[at : at + 32] for at in range(0, width * 32, 32)]


def read_entries(folder: Path, number: int, width: int) -> list[bytes]:
    data, held = read_tile(folder, "entries", number, width, 256 * (2 + 65535))
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data):
            raise Fault("MALFORMED", f"it ends amid entry {number * 256 + len(entries)}")
        entries.append(data[start:at])
    if len(entries) != held:
        kind = "MISSING_ROW" if len(entries) < held else "MALFORMED"
        raise Fault(kind, f"it holds {len(entries)} entries instead of {held}")
    return entries[:width]


def to_event(entry: bytes, origin: str) -> dict[str, Any]:
    """The event in an entry, as far as it has to be what this program knows."""
    try:
        event = from_json(entry)
    except ValueError:
        raise Fault("MALFORMED", "it is not JSON that can be read in one way only") from None
    if not isinstance(event, dict) or not isinstance(event.get("personal"), dict):
        raise Fault("MALFORMED", "it is not an event with a personal part")
    if event.get("v") != 1:
        raise Fault("MALFORMED", f"its version is {event.get('v')!r}; this program knows 1")
    if event.get("log") != origin:
        raise Fault("MALFORMED", f"it was written for the log {event.get('log')!r}")
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(event.get("id"))):
        raise Fault("MALFORMED", f"its id is not a UUID: {str(event.get('id'))[:80]!r}")
    return event


def from_json(data: bytes) -> Any:
    """JSON that everyone reads alike (RFC 7493). Raises `ValueError`."""
    try:
        text = data.decode("utf-8")
        return json.loads(text, object_pairs_hook=without_twins, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two members of one name would be read as the one by some, as the other by others."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members


def refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class Ids:
    """The ids that came before, in a temporary file: the log may be larger than memory."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("")
        self._seen.execute("PRAGMA journal_mode = OFF")
        self._seen.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, entry INTEGER) WITHOUT ROWID")

    def twins(self, ids: list[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
        """Remembers (id, entry); gives (id, entry, earlier entry) of those that came before."""
        before = self._seen.total_changes
        self._seen.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", ids)
        if self._seen.total_changes - before == len(ids):
            return
        for id_, entry in ids:
            found = self._seen.execute("SELECT entry FROM seen WHERE id = ?", [id_]).fetchone()
            if found[0] != entry:
                yield id_, entry, found[0]

    def close(self) -> None:
        self._seen.close()


# --- the whole log -----------------------------------------------------------------------------


class LogCheck:
    """Computes the tree anew from the entries, 256 at a time, and compares all that is stored.

    Where an entry and its stored leaf differ, two trees are computed from there on: one from the
    entries and one from the stored leaves. The one that leads to the signed root tells in the end
    which of the two was tampered with.
    """

    def __init__(
        self, folder: Path, checkpoint: Checkpoint, older: Sequence[Checkpoint], report: Report
    ) -> None:
        self.folder, self.checkpoint, self.report = folder, checkpoint, report
        self.older = {one.size: one for one in older}
        self.tree = self.stored = Tree()
        self.is_whole = True  # until neither an entry nor its leaf is there
        self.missing = 0
        self.differing: list[tuple[int, str]] = []  # entries, and the tiles of their leaves
        self.more_differing = 0
        self.tiles = self.extended = 0
        self.ids = Ids()

    def run(self) -> None:
        """Everything, entry by entry."""
        size = self.checkpoint.size
        self._compare_older()
        for number in range((size + 255) // 256):
            if self.missing > MOST_MISSING:
                self.report.note(f"{self.missing} files are missing; the rest was not looked for")
                self.is_whole = False
                break
            self._check_bundle(number, min(size - number * 256, 256))
            show_progress(number * 256, size)
        self.ids.close()
        self._name_differing()
        if self.extended:
            self.report.ok(f"{self.extended} other checkpoints are beginnings of this log")
        if self.is_whole:
            self._compare_root()
        else:
            self.report.note("with entries and leaves missing the root cannot be computed")

    def _check_bundle(self, number: int, width: int) -> None:
        """256 entries, or at the end fewer, and their leaves."""
        stored = self._hashes(0, number, width)
        entries = self._entries(number, width)
        computed = [leaf_hash(entry) for entry in entries] if entries else stored
        stored = stored or computed
        if not computed:
            self.is_whole = False
        if entries:
            self._check_entries(number * 256, entries)
        for at, leaf in enumerate(computed):
            if leaf != stored[at]:
                self._differ(number * 256 + at, tile_path("0", number, width))
        if self.is_whole:
            self._grow(computed, stored)

    def _entries(self, number: int, width: int) -> list[bytes]:
        """The entries of a bundle; none if they cannot be read, which is reported."""
        try:
            return read_entries(self.folder, number, width)
        except Fault as fault:
            return self._unreadable(tile_path("entries", number, width), fault)

    def _hashes(self, level: int, number: int, width: int) -> list[bytes]:
        """The hashes of a tile; none if they cannot be read, which is reported."""
        self.tiles += 1
        try:
            return read_hashes(self.folder, level, number, width)
        except Fault as fault:
            return self._unreadable(tile_path(str(level), number, width), fault)

    def _unreadable(self, where: str, fault: Fault) -> list[bytes]:
        self.missing += fault.kind == "MISSING_ROW"
        self.report.fault(fault.kind, f"{where}: {fault.text}")
        return []

    def _check_entries(self, first: int, entries: list[bytes]) -> None:
        """What can be said of entries without the tree."""
        ids = []
        for number, entry in enumerate(entries, first):
            with self.report.of(f"entry {number}"):
                ids.append((to_event(entry, self.checkpoint.origin)["id"], number))
        for id_, number, earlier in self.ids.twins(ids):
            self.report.fault("DUPLICATE_EVENT", f"entries {earlier} and {number} are both {id_}")

    def _differ(self, number: int, tile: str) -> None:
        if len(self.differing) < SHOWN:
            self.differing.append((number, tile))
        else:
            self.more_differing += 1

    def _grow(self, computed: list[bytes], stored: list[bytes]) -> None:
        if computed != stored and self.stored is self.tree:
            self.stored = copy.deepcopy(self.tree)
        for at, leaf in enumerate(computed):
            self.tree.add(leaf)
            if self.stored is not self.tree:
                self.stored.add(stored[at])
            self._compare_older()
        for level, row in self.tree.rows.items():
            if len(row) == 256:
                self._check_tile(level)

    def _check_tile(self, level: int) -> None:
        """A tile above the leaves, as soon as all below it is there."""
        row, other = self.tree.rows[level], self.stored.rows[level]
        number = ((self.tree.size >> (8 * level)) - 1) // 256
        for at, hash_ in enumerate(self._hashes(level, number, len(row))):
            if hash_ not in (row[at], other[at]):
                where = tile_path(str(level), number, len(row))
                below = tile_path(str(level - 1), number * 256 + at, 256)
                self.report.fault("TILE_MISMATCH", f"{where}: hash {at} is not that of {below}")
        self.tree.rows[level], self.stored.rows[level] = [], []

    def _roots(self) -> set[bytes]:
        return {self.tree.root(), self.stored.root()}

    def _compare_older(self) -> None:
        """Older checkpoints of the size that the tree has just reached."""
        older = self.older.get(self.tree.size)
        if older is None:
            return
        if older.root in self._roots():
            self.extended += 1
        else:
            text = f"the first {older.size} entries are not those that it was made of"
            self.report.fault("INCONSISTENT", f"{older.where}: {text}")

    def _compare_root(self) -> None:
        for level in [level for level, row in self.tree.rows.items() if row]:
            self._check_tile(level)
        size = self.checkpoint.size
        if self.checkpoint.root not in self._roots():
            text = f"the {size} entries and their tiles do not lead to the root that was signed"
            self.report.fault("INCONSISTENT", f"{self.checkpoint.where}: {text}")
        elif self.tree.root() == self.checkpoint.root:
            self.report.ok(f"{size} entries lead to the signed root; {self.tiles} tiles compared")

    def _name_differing(self) -> None:
        """Entries that are not what their stored leaf says, or leaves that are not."""
        kind, what = "LEAF_MISMATCH", "it is not the entry whose hash is in"
        if self.tree.root() == self.checkpoint.root:
            kind, what = "TILE_MISMATCH", "it leads to the signed root, but has another hash in"
        for number, tile in self.differing:
            self.report.fault(kind, f"entry {number}: {what} {tile}")
        if self.more_differing:
            self.report.more(kind, self.more_differing)


def show_progress(done: int, size: int) -> None:
    if sys.stderr.isatty() and done % 25600 == 0:
        print(f"{100 * done // size} %", end="\r", file=sys.stderr, flush=True)


# --- single events -----------------------------------------------------------------------------


class Proof(NamedTuple):
    number: int
    hashes: list[bytes]
    checkpoint: Checkpoint


def to_proof(text: str, where: str) -> Proof:
    """The text of a ``.tlog-proof`` (c2sp.org/tlog-proof)."""
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Fault("MALFORMED", "it does not begin as a proof does, c2sp.org/tlog-proof@v1")
    if lines and lines[0].startswith("extra "):
        from_base64(lines.pop(0)[6:], "the extra data")  # it may be anything, and proves nothing
    if not lines or not lines[0].startswith("index "):
        raise Fault("MALFORMED", "it does not say the index of its entry")
    number = to_number(lines.pop(0)[6:], "the index")
    hashes = [to_hash(line, "a hash") for line in lines]
    return Proof(number, hashes, to_checkpoint(note, where))


def check_proof(path: Path, ring: Keyring, witnesses: Sequence[Key], report: Report) -> Checkpoint:
    """One event: its proof, its entry, what was disclosed. The checkpoint that it rests on."""
    proof = to_proof(to_text(read(path)), path.name)
    head = proof.checkpoint
    signer = ring.signer(head.note, head.origin, head.size).key
    check_witnesses(head, witnesses, report)
    entry_path = path.with_suffix(".entry")
    with report.of(entry_path.name):
        entry = read(entry_path, 65535)
        if not is_included(leaf_hash(entry), proof.number, head.size, proof.hashes, head.root):
            raise Fault("LEAF_MISMATCH", f"it is not what {path.name} proves to be in the log")
        event = to_event(entry, head.origin)
        report.ok(
            f"{entry_path.name}: event {event['id']} is entry {proof.number} of the {head.size} "
            f"that {signer} signed"
        )
        check_disclosures(path.with_suffix(".disclosures"), event["personal"], report)
    return head


def check_disclosures(path: Path, digests: dict[str, Any], report: Report) -> None:
    if not path.exists():
        return
    with report.of(path.name):
        for number, line in enumerate(to_text(read(path, 1 << 24)).splitlines(), 1):
            with report.of(f"{path.name}, line {number}"):
                name, value = disclosed(line.strip(), digests)
                shown = json.dumps(value, ensure_ascii=False)
                report.ok(f"{path.name}, line {number}: {name} was recorded as {shown}")


def disclosed(text: str, digests: dict[str, Any]) -> tuple[str, Any]:
    """The name and value of a disclosure whose digest is in the entry (RFC 9901, section 4.2)."""
    try:
        parts = from_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        parts = None
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text) or not isinstance(parts, list) or len(parts) != 3:
        raise Fault("MALFORMED", "it is not a disclosure of salt, name and value")
    _salt, name, value = parts
    digest = urlsafe_b64encode(sha256(text.encode())).decode().rstrip("=")
    if not isinstance(name, str) or digests.get(name) != digest:
        raise Fault("DISCLOSURE_MISMATCH", f"this is not the value of {name!r} in the entry")
    return name, value


# --- checkpoints that contradict each other ----------------------------------------------------


def read_older(path: Path, ring: Keyring, report: Report) -> list[Checkpoint]:
    """The checkpoints at a path given as --previous that are rightly signed."""
    files = [path]
    if path.is_dir():
        files = [path / "checkpoint"] if (path / "checkpoint").exists() else []
        files += listed(path / "checkpoints")
    if not files:
        report.fault("MISSING_ROW", f"{path}: there are no checkpoints to compare with")
    found = []
    for file in files:
        with report.of(str(file)):
            checkpoint = to_checkpoint(to_text(read(file)), str(file))
            ring.signer(checkpoint.note, checkpoint.origin, checkpoint.size)
            found.append(checkpoint)
    return found


def compare(head: Checkpoint, others: list[Checkpoint], report: Report) -> list[Checkpoint]:
    """Contradictions that the checkpoints alone show. Those that the entries still have to."""
    by_size = {head.size: head}
    for other in others:
        if other.origin != head.origin:
            report.fault("MALFORMED", f"{other.where}: it is of another log, {other.origin!r}")
            continue
        same = by_size.setdefault(other.size, other)
        if same.root != other.root:
            text = f"{other.where} and {same.where} have {same.size} entries and different roots"
            report.fault("SPLIT_VIEW", text)
    return [one for size, one in by_size.items() if size < head.size]


def check_rollback(
    head: Checkpoint, older: list[Checkpoint], handovers: list[Handover], report: Report
) -> None:
    """The log must be as long as anything that was signed before says."""
    before: list[tuple[str, int]] = [(one.where, one.size) for one in older]
    before += [(one.where, one.size) for one in handovers]
    for where, size in before:
        if size > head.size:
            text = f"{where}: there were {size} entries once, now there are {head.size}"
            report.fault("SIZE_ROLLBACK", text)


# --- all together ------------------------------------------------------------------------------


def verify(
    folder: Path, keys: list[Key], witnesses: list[Key], previous: list[Path], report: Report
) -> None:
    """Everything that can be checked in a folder."""
    ring = Keyring(keys)
    longest = max([folder, *previous], key=last_handover)  # FOLDER might hold one back
    handovers = follow_handovers(longest, ring, report)
    older = [one for path in previous for one in read_older(path, ring, report)]
    from_proofs = []
    proofs = sorted(folder.glob("*.tlog-proof"))
    for path in proofs:
        with report.of(path.name):
            from_proofs.append(check_proof(path, ring, witnesses, report))
    if proofs and not previous and not any((folder / n).exists() for n in ("checkpoint", "tile")):
        report.note("there is no checkpoint here: single events were checked, not the log")
        return
    with report.of("checkpoint"):
        head = to_checkpoint(to_text(read(folder / "checkpoint")), "checkpoint")
        check_head(head, ring, witnesses, report)
        check_rollback(head, older, handovers, report)
        known = compare(head, older + from_proofs, report)
        for one in from_proofs:
            if one.size > head.size:
                report.note(f"{one.where}: it is newer than this checkpoint, and not compared")
        if proofs and not previous and not (folder / "tile").exists():
            report.note("there are no tiles here: single events were checked, not the log")
            return
        LogCheck(folder, head, known, report).run()


def check_head(head: Checkpoint, ring: Keyring, witnesses: list[Key], report: Report) -> None:
    """Who signed the checkpoint. The tree is checked whatever comes of it."""
    with report.of(head.where):
        signer = ring.signer(head.note, head.origin, head.size).key
        report.ok(f"{head.where}: {signer} signed that {head.origin!r} has {head.size} entries")
    check_witnesses(head, witnesses, report)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=KINDS
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--vkey", action="append", default=[], help="a key of the log; repeatable")
    parser.add_argument("--vkey-file", action="append", default=[], type=Path, help="… in a file")
    parser.add_argument("--witness", action="append", default=[], help="a key of a witness")
    parser.add_argument("--previous", action="append", default=[], type=Path, metavar="OLDER")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments()
    given = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        texts = given.vkey + [line for file in given.vkey_file for line in key_lines(file)]
        keys = [Key(text) for text in texts]
        witnesses = [Key(text, COSIGNATURE) for text in given.witness]
    except Fault as fault:
        parser.error(printable(fault.text))
    if not keys:
        parser.error("name the log's key with --vkey or --vkey-file; do not take it from FOLDER")
    for path in [given.folder, *given.previous]:
        if not path.exists():
            parser.error(f"there is no {printable(str(path))}")
    report = Report(given.json)
    try:
        verify(given.folder, keys, witnesses, given.previous, report)
    except (OSError, sqlite3.Error) as error:
        print(f"verify_log.py could not go on: {printable(str(error))}", file=sys.stderr)
        return 2
    return report.finish()


def key_lines(path: Path) -> list[str]:
    """The keys in a file, one a line."""
    try:
        return to_text(read(path)).split()
    except Fault as fault:
        raise Fault(fault.kind, f"{path}: {fault.text}") from None


if __name__ == "__main__":
    sys.exit(main())
