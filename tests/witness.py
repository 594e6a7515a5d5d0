"""A small reference witness (C2SP tlog-witness), for whatever brings checkpoints to one.

    with witness(log.verifier) as w:
        w.url, w.vkey

It reads requests, keeps its state and answers as the specification says, sharing no code with
`audit.ledger.witnesses`. `serving` is the HTTP around it, for answers that no witness should give.
"""

from __future__ import annotations

import threading
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from audit.ledger.checkpoints import Checkpoint
from audit.ledger.cosignatures import cosign
from audit.ledger.merkle import EMPTY_ROOT, verify_consistency
from audit.ledger.notes import COSIGNATURE_V1, Note, SigningKey, VerifierKey

TEXT = "text/plain; charset=utf-8"


class Reply(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = TEXT
    location: str = ""


Application = Callable[[str, str, bytes], Reply]
"""Answers method, path and body."""


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, why: str, content_type: str = TEXT) -> None:
        super().__init__(why)
        self.reply = Reply(status, f"{why}\n".encode(), content_type)


class Witness:
    """Knows logs by their keys, and of each log the last checkpoint that it cosigned.

    `url` is its submission and its monitoring prefix. `clock` gives the time of cosignatures.
    """

    def __init__(self, *logs: VerifierKey, name: str = "witness.example/w1") -> None:
        self.key = SigningKey.generate(name, COSIGNATURE_V1)
        self.vkey = self.key.verifier
        self.url = ""
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.requests: list[bytes] = []
        self.latest: dict[str, Note] = {}
        self._keys: defaultdict[str, list[VerifierKey]] = defaultdict(list)
        self._lock = threading.Lock()
        for log in logs:
            self.trust(log)

    def trust(self, log: VerifierKey, origin: str | None = None) -> None:
        """Accept this key for a log; the log's origin is the key's name, if it is not given."""
        self._keys[origin or log.name].append(log)

    def head(self, origin: str) -> Checkpoint:
        """What it cosigned last of a log; the empty tree, if nothing."""
        with suppress(KeyError):
            return Checkpoint.parse(self.latest[origin].text)
        return Checkpoint(origin, 0, EMPTY_ROOT)

    def __call__(self, method: str, path: str, body: bytes) -> Reply:
        if (method, path) == ("POST", "/add-checkpoint"):
            self.requests.append(body)
            try:
                with self._lock:  # the old size is looked at and the new one kept in one go
                    return Reply(200, self._add(body))
            except Refusal as refusal:
                return refusal.reply
        for origin, note in self.latest.items():
            if (method, path) == ("GET", f"/{sha256(origin.encode()).hexdigest()}/checkpoint"):
                return Reply(200, str(note).encode())
        return Reply(404, b"no such page\n")

    def _add(self, body: bytes) -> bytes:
        try:
            old_size, proof, note = _read(body)
            new = Checkpoint.parse(note.text)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        note = self._by_the_log(note, new.origin)
        self._require_extension(old_size, new, proof)
        cosignature = cosign(new, self.key, self.clock())
        self.latest[new.origin] = note.with_signatures(cosignature)
        return f"{cosignature}\n".encode()

    def _by_the_log(self, note: Note, origin: str) -> Note:
        """The note with no signatures but the log's own."""
        if origin not in self._keys:
            raise Refusal(404, "this log is not known here")
        try:
            return Note(note.text, tuple(note.verified(self._keys[origin]).values()))
        except ValueError as error:
            raise Refusal(403, str(error)) from None

    def _require_extension(self, old_size: int, new: Checkpoint, proof: list[bytes]) -> None:
        old = self.head(new.origin)
        if old_size > new.size:
            raise Refusal(400, "the old size is larger than the new one")
        if old_size != old.size:
            raise Refusal(409, str(old.size), "text/x.tlog.size")
        if new.size == 0 and new.root != EMPTY_ROOT:
            raise Refusal(422, "this is not the root of an empty tree")
        if not verify_consistency(old.size, old.root, new.size, new.root, proof):
            raise Refusal(422, "the consistency proof does not hold")


def _read(body: bytes) -> tuple[int, list[bytes], Note]:
    """Old size, proof and checkpoint of a request to add-checkpoint. Raises `ValueError`."""
    head, blank, note = body.partition(b"\n\n")
    first, *lines = head.decode("ascii").split("\n")
    old = first.removeprefix("old ")
    if not blank or first == old or len(lines) > 63:
        raise ValueError("this is no request to add a checkpoint")
    if not (old.isdecimal() and str(int(old)) == old):
        raise ValueError("the old size is not a decimal number")
    return int(old), [b64decode(line, validate=True) for line in lines], Note.parse(note)


@contextmanager
def witness(*logs: VerifierKey) -> Iterator[Witness]:
    """A witness of these logs that answers at its `url`, until the end of the block."""
    running = Witness(*logs)
    with serving(running) as running.url:
        yield running


@contextmanager
def serving(application: Application) -> Iterator[str]:
    """Answers by HTTP on this machine, until the end of the block. Gives the URL's prefix."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server wants
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            reply = application(self.command, self.path, body)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.location:
                self.send_header("Location", reply.location)
            self.end_headers()
            with suppress(ConnectionError):  # the client may have read enough
                self.wfile.write(reply.body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
