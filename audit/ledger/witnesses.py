"""Asking a witness for its cosignature of a checkpoint (C2SP tlog-witness, ``add-checkpoint``).

`request` and `read` are pure; `post` alone uses the network, and `cosignature_by` puts the three
together. A witness is somebody else's program: whatever it answers, what comes out is its verified
cosignature or one of the errors below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.request import HTTPErrorProcessor, Request, build_opener

from audit.ledger.checkpoints import Checkpoint
from audit.ledger.cosignatures import Cosignature, cosignatures
from audit.ledger.encoding import from_decimal, to_hash_line
from audit.ledger.notes import Note, VerifierKey, parse_signatures

MAX_PROOF_LINES = 63
MAX_ANSWER_BYTES = 64 * 1024
"""Room for a dozen of the largest signatures that there are (ML-DSA-44, which we do not read)."""

SIZE_TYPE = "text/x.tlog.size"
ATTEMPTS = 3
"""Once to learn the witness's size, once to go on from there, and once for a race."""


class WitnessError(Exception):
    """There is no cosignature, for the reason that the class names."""


class Unreachable(WitnessError):
    """The witness did not answer: to be tried again later."""


class BadAnswer(WitnessError):
    """What came is not the protocol, or not a valid cosignature by the witness's key."""


class Malformed(WitnessError):
    """400: the witness could not read the request. A fault of ours."""


class KeyNotTrusted(WitnessError):
    """403: the checkpoint is not signed by a key that the witness trusts for this log."""


class LogNotKnown(WitnessError):
    """404: the witness is not configured for this log."""


class NotConsistent(WitnessError):
    """422: our tree does not extend what the witness has seen of this log. An alarm."""


class Behind(WitnessError):
    """409: the witness is at another size than was thought. To be asked again from there."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness has cosigned this log at size {size}")
        self.size = size


class Ahead(WitnessError):
    """409: the witness has seen a larger tree of this log than ours. An alarm.

    Either this log was set back (an older copy), or somebody else signs with its key.
    """

    def __init__(self, size: int, ours: int) -> None:
        super().__init__(f"the witness has cosigned this log at size {size}; here it has {ours}")
        self.size, self.ours = size, ours


REFUSALS: dict[int, type[WitnessError]] = {
    400: Malformed,
    403: KeyNotTrusted,
    404: LogNotKnown,
    422: NotConsistent,
}


class Answer(NamedTuple):
    """An answer by HTTP, as far as it matters."""

    status: int
    content_type: str
    body: bytes


Consistency = Callable[[int], Sequence[bytes]]
"""Gives the consistency proof from a tree of that size, above 0, to the checkpoint's."""


def cosignature_by(
    witness: VerifierKey,
    url: str,
    note: Note,
    consistency: Consistency,
    *,
    old: int = 0,
    timeout: float = 10,
) -> Cosignature:
    """Bring a signed checkpoint to a witness; its cosignature. Raises `WitnessError`.

    `url` is the witness's submission prefix; `old` the size that it cosigned last, as far as is
    known. `timeout`: see `post`. Checkpoints of one log are to be brought one after the other.
    """
    size = Checkpoint.parse(note.text).size
    for _ in range(ATTEMPTS):
        proof = consistency(old) if 0 < old < size else ()
        answer = post(f"{url.rstrip('/')}/add-checkpoint", request(old, proof, note), timeout)
        try:
            return read(answer, note, witness)
        except Behind as behind:
            if behind.size == old:
                raise BadAnswer(f"asked from size {old}, the witness wants size {old}") from None
            old = behind.size
    raise BadAnswer(f"the witness named another size {ATTEMPTS} times, the last one {old}")


def request(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    """The body of the request. Raises `ValueError` for what the protocol does not allow."""
    size = Checkpoint.parse(note.text).size
    if not 0 <= old <= size:
        raise ValueError(f"a checkpoint of size {size} cannot follow one of size {old}")
    if len(proof) > MAX_PROOF_LINES:
        raise ValueError(f"a consistency proof has {MAX_PROOF_LINES} lines at most")
    return f"old {old}\n{''.join(map(to_hash_line, proof))}\n{note}".encode()


def read(answer: Answer, note: Note, witness: VerifierKey) -> Cosignature:
    """The witness's cosignature of the note, verified. Raises `WitnessError`."""
    if answer.status == 409:
        raise _conflict(answer, Checkpoint.parse(note.text).size)
    if answer.status != 200:
        refusal = REFUSALS.get(answer.status, BadAnswer)
        raise refusal(f"the witness answered {answer.status} {answer.body[:200]!r}")
    try:
        answered = Note(note.text, parse_signatures(answer.body.decode("utf-8")))
        cosigned = cosignatures(answered, [witness])
    except ValueError as error:
        raise BadAnswer(f"the witness's answer is not valid: {error}") from error
    if not cosigned:
        raise BadAnswer(f"the witness's answer holds no cosignature by {witness.text()}")
    return cosigned[0]


def _conflict(answer: Answer, ours: int) -> WitnessError:
    body = answer.body.decode("utf-8", "replace")
    if answer.content_type != SIZE_TYPE or not body.endswith("\n"):
        return BadAnswer(f"the witness answered 409 and no size: {body[:200]!r}")
    try:
        size = from_decimal(body[:-1], "the witness's size")
    except ValueError as error:
        return BadAnswer(str(error))
    return Behind(size) if size <= ours else Ahead(size, ours)


class _AsAnswered(HTTPErrorProcessor):
    """Hands over every answer as it came: no redirect is followed, no status is an exception."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def post(url: str, body: bytes, timeout: float) -> Answer:
    """Send one request. Raises `Unreachable`, `BadAnswer`, or `ValueError` for no web address.

    `timeout` are the seconds that connecting, and each wait for more of the answer, may take.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is not the address of a witness: it needs http or https")
    headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": "auditportal"}
    asked = Request(url, body, headers)  # noqa: S310  # the scheme is looked at above
    try:
        with build_opener(_AsAnswered).open(asked, timeout=timeout) as got:
            answer = Answer(got.status, got.headers.get_content_type(), got.read(MAX_ANSWER_BYTES))
            is_whole = not got.read(1)
    except (OSError, HTTPException) as error:
        raise Unreachable(f"{url}: {error}") from error
    if not is_whole:
        raise BadAnswer(f"the witness's answer has more than {MAX_ANSWER_BYTES} bytes")
    return answer
