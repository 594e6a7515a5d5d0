"""Asking witnesses for cosignatures, of a real one and of servers that answer nonsense."""

import threading
from base64 import b64encode
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from socket import create_server
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger import merkle, witnesses
from audit.ledger.checkpoints import Checkpoint
from audit.ledger.cosignatures import cosign
from audit.ledger.notes import Note, SigningKey, VerifierKey
from audit.ledger.witnesses import Answer, cosignature_by
from tests.test_checkpoints import SECOND, SOFA, SOFA_NOTE, SOFA_TEXT, WITNESS, WITNESS_LINE
from tests.test_notes import KEY, SUMDB_NOTE, SUMDB_VKEY
from tests.witness import Reply, Witness, serving, witness

ORIGIN = KEY.name
LEAVES = [sha256(bytes([0, number])).digest() for number in range(20)]
NOTE = Note.parse(SOFA_NOTE)
TEXT = "text/plain"
SIZE = "text/x.tlog.size"


def read_node(node, leaves=LEAVES):
    """The naive way: from the leaves, each time."""
    if node.level == 0:
        return leaves[node.number]
    left, right = (merkle.Node(node.level - 1, 2 * node.number + side) for side in (0, 1))
    return merkle.node_hash(read_node(left, leaves), read_node(right, leaves))


def signed(size, leaves=LEAVES, key=KEY):
    """The checkpoint of the first leaves, as a note."""
    root = merkle.root(size, lambda node: read_node(node, leaves))
    return Note.parse(key.sign(Checkpoint(ORIGIN, size, root).text()))


def ask(w, note, *, leaves=LEAVES, **options):
    """Bring a note to a witness as a log does."""
    size = Checkpoint.parse(note.text).size

    def consistency(old):
        return merkle.consistency_proof(old, size, lambda node: read_node(node, leaves))

    return cosignature_by(w.vkey, w.url, note, consistency, **options)


# --- a log and its witness ---------------------------------------------------------------------


def test_a_growing_log_is_cosigned_at_every_size():
    with witness(KEY.verifier) as w:
        w.clock = lambda: SECOND
        for old, size in [(0, 0), (0, 0), (0, 1), (1, 5), (5, 5), (5, 20)]:
            note = signed(size)
            cosignature = ask(w, note, old=old)
            assert (cosignature.witness, cosignature.at) == (w.vkey, SECOND)
            cosigned = note.with_signatures(cosignature.signature)
            assert cosigned.verified([KEY.verifier, w.vkey]).keys() == {KEY.verifier, w.vkey}
            assert w.head(ORIGIN) == Checkpoint.parse(note.text)
        assert len(w.requests) == 6


def test_a_log_that_does_not_know_the_witnesss_size_learns_it_with_one_more_request():
    with witness(KEY.verifier) as w:
        ask(w, signed(5))
        assert ask(w, signed(12)).witness == w.vkey
        assert [request.split(b"\n")[0] for request in w.requests[1:]] == [b"old 0", b"old 5"]


def test_a_log_that_takes_the_witness_for_newer_than_it_is_learns_that_too():
    with witness(KEY.verifier) as w:
        assert ask(w, signed(12), old=7).witness == w.vkey
        assert [request.split(b"\n")[0] for request in w.requests] == [b"old 7", b"old 0"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=5).map(sorted), st.booleans())
def test_all_sizes_are_witnessed_one_after_the_other(sizes, knows_the_size):
    with witness(KEY.verifier) as w:
        old = 0
        for size in sizes:
            ask(w, signed(size), old=old if knows_the_size else 0)
            old = size
        assert w.head(ORIGIN).size == old


def test_a_witness_that_has_seen_a_larger_tree_is_an_alarm():
    with witness(KEY.verifier) as w:
        ask(w, signed(12))
        with pytest.raises(witnesses.Ahead, match="at size 12; here it has 5") as alarm:
            ask(w, signed(5))
        assert (alarm.value.size, alarm.value.ours) == (12, 5)
        assert w.head(ORIGIN).size == 12


@pytest.mark.parametrize("size", [5, 6, 8, 20])
def test_a_rewritten_history_is_not_cosigned(size):
    other = [LEAVES[1], *LEAVES[1:]]
    with witness(KEY.verifier) as w:
        ask(w, signed(5))
        with pytest.raises(witnesses.NotConsistent, match="422 b'the consistency proof"):
            ask(w, signed(size, other), leaves=other)
        assert w.head(ORIGIN) == Checkpoint.parse(signed(5).text)


def test_a_witness_trusts_only_the_logs_own_keys():
    stranger = SigningKey(ORIGIN, bytes(32))
    with witness(KEY.verifier) as w:
        with pytest.raises(witnesses.KeyNotTrusted, match="403"):
            ask(w, signed(5, key=stranger))
        w.trust(stranger.verifier)
        assert ask(w, signed(5, key=stranger)).witness == w.vkey


def test_a_log_that_the_witness_does_not_know_is_told_so():
    other = SigningKey.generate("other.example/log").verifier
    with witness(other) as w, pytest.raises(witnesses.LogNotKnown, match="404"):
        ask(w, signed(5))


def test_another_key_than_the_witnesss_own_is_not_taken_for_it():
    with (
        witness(KEY.verifier) as w,
        pytest.raises(witnesses.BadAnswer, match="holds no cosignature by PeterNeumann"),
    ):
        cosignature_by(WITNESS.verifier, w.url, signed(5), list)


def test_monitors_read_what_was_cosigned_last():
    with witness(KEY.verifier) as w:
        url = f"{w.url}/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
        with pytest.raises(HTTPError) as missing:
            urlopen(url)
        missing.value.close()
        ask(w, signed(5))
        ask(w, signed(12))
        with urlopen(url) as page:
            note = Note.parse(page.read())
        assert note.text == signed(12).text
        assert note.verified([KEY.verifier, w.vkey]).keys() == {KEY.verifier, w.vkey}


# --- the reference witness, to the letter ------------------------------------------------------

# The requests of torchwood's tests of its own witness, and what it answers to each.
SIGSUM = VerifierKey.parse(
    "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
    "+5202289b+Af/cLU2Y5BJNP+r3iMDC+av9eWCD0fBJVDfzAux5zxAP"
)
HASH = [b64encode(bytes([0x2A, number, *bytes(30)])).decode() for number in range(5)]
ONE = f"""\
{SIGSUM.name}
1
KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

— {SIGSUM.name} UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=
"""  # noqa: E501
THREE = f"""\
{SIGSUM.name}
3
RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=

— {SIGSUM.name} UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=
"""  # noqa: E501
FIVE = f"""\
{SIGSUM.name}
5
QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=

— {SIGSUM.name} UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=
"""  # noqa: E501
TO_THREE = f"{HASH[1]}\n{HASH[2]}\n"
TO_FIVE = f"{HASH[2]}\n{HASH[3]}\nwgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=\n{HASH[4]}\n"


def reply(w, old, proof, note):
    return w("POST", "/add-checkpoint", f"old {old}\n{proof}\n{note}".encode())


def test_the_reference_witness_answers_as_another_implementation_does():
    w = Witness(SIGSUM)
    assert reply(w, 0, "", ONE).status == 200
    assert reply(w, 1, TO_THREE, THREE.replace("6go=", "6gx=")).status == 400
    assert reply(w, 1, TO_THREE, THREE.replace("6go=", "6gs=")).status == 403
    assert reply(w, 1, TO_THREE, THREE.replace("562\n", "563\n")).status == 404
    assert reply(w, 1, "", THREE).status == 422
    assert reply(w, 1, f"{HASH[1]}\n{HASH[1]}\n", THREE).status == 422
    assert reply(w, 1, TO_THREE, THREE).status == 200
    assert reply(w, 1, TO_FIVE, FIVE) == Reply(409, b"3\n", SIZE)
    assert reply(w, 3, TO_FIVE, FIVE).status == 200
    assert reply(w, 0, "", FIVE) == Reply(409, b"5\n", SIZE)
    assert reply(w, 5, "", FIVE).status == 200
    assert reply(w, 6, "", FIVE).status == 400
    assert w.head(SIGSUM.name).size == 5


def test_the_reference_witness_knows_origins_that_are_not_key_names():
    w = Witness()
    w.trust(VerifierKey.parse(SUMDB_VKEY), "go.sum database tree")
    assert reply(w, 0, "", SUMDB_NOTE).status == 200
    assert w.head("go.sum database tree").size == 35225469


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 0\n\n", 400),
        (b"old 00\n\n%b", 400),
        (b"old -1\n\n%b", 400),
        (b"old x\n\n%b", 400),
        (b"0\n\n%b", 400),
        (b"old 0\nAAAA\xff\n\n%b", 400),
        (b"old 0\nA\n\n%b", 400),
        (b"old 0\n" + b"AAAA\n" * 64 + b"\n%b", 400),
        (b"old 0\nAAAA\n\n%b", 422),  # no proof is needed from the empty tree, and none allowed
        (b"old 0\n\n%b", 200),
    ],
)
def test_the_reference_witness_reads_requests_strictly(body, status):
    body = body.replace(b"%b", str(signed(5)).encode())
    assert Witness(KEY.verifier)("POST", "/add-checkpoint", body).status == status


def test_the_reference_witness_wants_the_empty_tree_to_have_its_root():
    note = KEY.sign(Checkpoint(ORIGIN, 0, bytes(32)).text())
    assert reply(Witness(KEY.verifier), 0, "", note).status == 422
    assert Witness(KEY.verifier)("GET", "/add-checkpoint", b"").status == 404


# --- requests ----------------------------------------------------------------------------------


def test_a_request_has_exactly_these_bytes():
    # tlog-witness, its example, with one of its two signatures.
    hashes = [sha256(bytes([number])).digest() for number in range(2)]
    body = witnesses.request(20852014, hashes, NOTE).decode()
    lines = "".join(b64encode(hash).decode() + "\n" for hash in hashes)
    assert body == f"old 20852014\n{lines}\n{SOFA_NOTE}"
    assert witnesses.request(0, [], NOTE).decode() == f"old 0\n\n{SOFA_NOTE}"


@pytest.mark.parametrize(
    ("old", "proof", "why"),
    [
        (-1, [], "cannot follow one of size -1"),
        (SOFA.size + 1, [], "cannot follow one of size 20852164"),
        (1, [bytes(32)] * 64, "63 lines at most"),
        (1, [bytes(31)], "31 bytes, not 32"),
    ],
)
def test_what_the_protocol_forbids_is_not_asked(old, proof, why):
    with pytest.raises(ValueError, match=why):
        witnesses.request(old, proof, NOTE)


def test_only_signed_checkpoints_are_brought_to_a_witness():
    with pytest.raises(ValueError, match="three lines"):
        cosignature_by(WITNESS.verifier, "http://x", Note.parse(KEY.sign("no\n")), list)


# --- answers -----------------------------------------------------------------------------------


def test_a_valid_cosignature_is_found_among_those_of_unknown_keys():
    other = SigningKey.generate("other.example", WITNESS.algorithm)
    body = f"{cosign(SOFA, other, SECOND)}\n{WITNESS_LINE}\n".encode()
    found = witnesses.read(Answer(200, TEXT, body), NOTE, WITNESS.verifier)
    assert (str(found.signature), found.at) == (WITNESS_LINE, SECOND)


LATER = str(cosign(SOFA, WITNESS, datetime(2030, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "does not end with a newline"),
        ("\n", "a signature line is"),
        (WITNESS_LINE, "does not end with a newline"),
        (WITNESS_LINE + "\n\n", "a signature line is"),
        (f"\n{WITNESS_LINE}\n", "a signature line is"),
        (f"{SOFA_TEXT}\n{WITNESS_LINE}\n", "a signature line is"),
        (WITNESS_LINE.replace("PeterNeumann", "Peter") + "\n", "no cosignature by PeterNeumann"),
        (LATER[:40] + WITNESS_LINE[40:] + "\n", "is not of this text"),
        (f"{WITNESS_LINE}\n{LATER[:40]}{WITNESS_LINE[40:]}\n", "is not of this text"),
        (f"{WITNESS_LINE}\n" * 101, "100 signatures at most"),
        (b"\xff", "utf-8"),
    ],
)
def test_an_answer_without_a_valid_cosignature_is_refused(body, why):
    body = body if isinstance(body, bytes) else body.encode()
    with pytest.raises(witnesses.BadAnswer, match=why):
        witnesses.read(Answer(200, TEXT, body), NOTE, WITNESS.verifier)


def test_the_cosignature_of_another_checkpoint_is_refused():
    other = Note.parse(KEY.sign(SOFA_TEXT.replace("20852163", "20852164")))
    with pytest.raises(witnesses.BadAnswer, match="is not of this text"):
        witnesses.read(Answer(200, TEXT, f"{WITNESS_LINE}\n".encode()), other, WITNESS.verifier)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, witnesses.Malformed),
        (403, witnesses.KeyNotTrusted),
        (404, witnesses.LogNotKnown),
        (422, witnesses.NotConsistent),
        (201, witnesses.BadAnswer),
        (204, witnesses.BadAnswer),
        (301, witnesses.BadAnswer),
        (429, witnesses.BadAnswer),
        (500, witnesses.BadAnswer),
    ],
)
def test_every_refusal_has_its_name_and_says_what_the_witness_said(status, error):
    body = f"{WITNESS_LINE}\n".encode()
    with pytest.raises(error, match=f"the witness answered {status} b'") as refused:
        witnesses.read(Answer(status, TEXT, body), NOTE, WITNESS.verifier)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        (SIZE, b"0\n", witnesses.Behind),
        (SIZE, b"20852163\n", witnesses.Behind),
        (SIZE, b"20852164\n", witnesses.Ahead),
        (SIZE, b"9223372036854775807\n", witnesses.Ahead),
        (SIZE, b"9223372036854775808\n", witnesses.BadAnswer),
        (SIZE, b"01\n", witnesses.BadAnswer),
        (SIZE, b"-1\n", witnesses.BadAnswer),
        (SIZE, b"1", witnesses.BadAnswer),
        (SIZE, b"1\n\n", witnesses.BadAnswer),
        (SIZE, b"", witnesses.BadAnswer),
        (SIZE, b"\xff\n", witnesses.BadAnswer),
        (TEXT, b"1\n", witnesses.BadAnswer),
    ],
)
def test_a_conflict_is_another_size_a_larger_tree_or_nonsense(kind, body, error):
    with pytest.raises(error) as conflict:
        witnesses.read(Answer(409, kind, body), NOTE, WITNESS.verifier)
    assert type(conflict.value) is error


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([200, 409, 500]),
    st.sampled_from([TEXT, SIZE]),
    st.binary(max_size=40) | st.text("— \n019aB+/=", max_size=40).map(str.encode),
)
def test_whatever_a_witness_answers_is_a_named_error(status, kind, body):
    with pytest.raises(witnesses.WitnessError):
        witnesses.read(Answer(status, kind, body), NOTE, WITNESS.verifier)


# --- servers -----------------------------------------------------------------------------------


def ask_server(url, **options):
    """Bring a checkpoint to a server that is no witness, with proofs that prove nothing."""
    return cosignature_by(WITNESS.verifier, url, NOTE, lambda _: [bytes(32)], **options)


def test_the_address_may_end_with_a_slash_and_the_request_is_a_post():
    seen = []

    def application(method, path, body):
        seen.append((method, path))
        return Reply(200, f"{WITNESS_LINE}\n".encode())

    with serving(application) as url:
        assert ask_server(url).at == SECOND
        assert ask_server(f"{url}/").at == SECOND
    assert seen == [("POST", "/add-checkpoint")] * 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status):
    paths = []

    def application(method, path, body):
        paths.append(path)
        return Reply(status, b"", location="/elsewhere")

    with serving(application) as url, pytest.raises(witnesses.BadAnswer, match=str(status)):
        ask_server(url)
    assert paths == ["/add-checkpoint"]


@pytest.mark.parametrize("size", [witnesses.MAX_ANSWER_BYTES + 1, 10_000_000])
def test_no_more_is_read_than_an_answer_may_have(size):
    with (
        serving(lambda *_: Reply(200, b"x" * size)) as url,
        pytest.raises(witnesses.BadAnswer, match="more than 65536 bytes"),
    ):
        ask_server(url)


def test_a_witness_that_asks_for_the_size_it_was_given_is_not_asked_again():
    bodies = []

    def application(method, path, body):
        bodies.append(body)
        return Reply(409, b"7\n", SIZE)

    with serving(application) as url, pytest.raises(witnesses.BadAnswer, match="wants size 7"):
        ask_server(url)
    assert [body.split(b"\n")[0] for body in bodies] == [b"old 0", b"old 7"]


def test_a_witness_that_names_ever_other_sizes_is_given_up():
    sizes = iter(range(1, 100))
    with (
        serving(lambda *_: Reply(409, b"%d\n" % next(sizes), SIZE)) as url,
        pytest.raises(witnesses.BadAnswer, match="another size 3 times"),
    ):
        ask_server(url)
    assert next(sizes) == 4


@contextmanager
def listening(answer):
    """A server that sends these bytes, and then nothing more, until the end of the block."""
    done = threading.Event()
    with create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)
                if not answer.startswith(b"bye"):
                    done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"bye",
        b"bye\r\n\r\n",
    ],
)
def test_a_server_that_says_nothing_or_no_http_is_not_reached(answer):
    with listening(answer) as url, pytest.raises(witnesses.Unreachable, match=url):
        ask_server(url, timeout=0.1)


def test_a_machine_that_does_not_listen_is_not_reached():
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(witnesses.Unreachable, match="refused"):
        ask_server(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "x", "", "data:,x"])
def test_only_web_addresses_are_asked(url):
    with pytest.raises(ValueError, match="it needs http or https"):
        ask_server(url)
