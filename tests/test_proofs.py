"""Proofs as files: what an assessor takes away."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.checkpoints import Checkpoint
from audit.ledger.cosignatures import cosign
from audit.ledger.merkle import node_hash, verify_inclusion
from audit.ledger.notes import BadSignature, Note
from audit.ledger.proofs import Proof
from tests.test_checkpoints import SECOND, SOFA_NOTE, WITNESS
from tests.test_notes import KEY, PETER_NOTE

LEAVES = [sha256(b"\x00" + bytes([number])).digest() for number in range(3)]
LEFT = node_hash(LEAVES[0], LEAVES[1])
HEAD = Checkpoint("demo.example/log", 3, node_hash(LEFT, LEAVES[2]))
NOTE = Note.parse(KEY.sign(HEAD.text()))

# The leaves and the root were hashed by openssl, which signed too.
GOLDEN = """\
c2sp.org/tlog-proof@v1
index 1
lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=
/PCmxwDdE+J0tvuo3uqN2bJuTu3eNJVxfKyECMnFF38=

demo.example/log
3
O2zM1+PgI/85MAbwMDFe562esRGwIrQfun5bejlz9og=

— demo.example/log 8a7xub6dI6xb3LO4LX26ASW3mf3gZGiMtXKA5nXkYKwoLusj5m55P8nNS/80x4pKbcrwmDoLDl9eq3lhEq4G+sRBZQ0=
"""  # noqa: E501


def proof(**changed):
    """A proof of the second of three leaves."""
    values = {"index": 1, "hashes": (LEAVES[0], LEAVES[2]), "note": NOTE}
    return Proof(**values | changed)


# --- the format --------------------------------------------------------------------------------


def test_a_proof_has_exactly_these_bytes():
    assert str(proof()) == GOLDEN
    assert Proof.parse(GOLDEN) == Proof.parse(GOLDEN.encode()) == proof()


def test_the_leaf_is_shown_to_be_in_the_signed_tree():
    parsed = Proof.parse(GOLDEN)
    assert parsed.note.verified([KEY.verifier])
    assert parsed.checkpoint == HEAD
    assert verify_inclusion(LEAVES[1], parsed.index, HEAD.size, parsed.hashes, HEAD.root)


def test_extra_data_has_a_line_of_its_own_and_only_if_there_is_any():
    text = GOLDEN.replace("index", "extra AP8=\nindex")
    assert str(proof(extra=b"\x00\xff")) == text
    assert Proof.parse(text) == proof(extra=b"\x00\xff")


def test_the_only_entry_of_a_log_needs_no_hashes():
    note = Note.parse(KEY.sign(Checkpoint("o", 1, LEAVES[0]).text()))
    text = str(proof(index=0, hashes=(), note=note))
    assert text == f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}"
    assert Proof.parse(text).hashes == ()


def test_the_checkpoint_is_included_verbatim_with_all_its_signatures():
    note = Note.parse(SOFA_NOTE).with_signatures(cosign(HEAD, WITNESS, SECOND))
    text = str(proof(note=note))
    assert text.endswith(f"\n\n{note}")
    assert Proof.parse(text).note == note


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple),
    st.binary(max_size=40),
    st.lists(st.text("abc +", min_size=1), max_size=2).map(tuple),
    st.data(),
)
def test_every_proof_reads_back(size, hashes, extra, extensions, data):
    note = Note.parse(KEY.sign(Checkpoint("o o", size, LEFT, extensions).text()))
    made = Proof(data.draw(st.integers(0, size - 1)), hashes, note, extra)
    assert Proof.parse(str(made)) == made
    assert str(Proof.parse(str(made))) == str(made)


# --- strictness --------------------------------------------------------------------------------


def test_no_bit_of_a_proof_can_be_changed():
    text = bytearray(GOLDEN.encode())
    for at in range(len(text)):
        for bit in (1, 2, 4):
            text[at] ^= bit
            assert not is_good(bytes(text)), bytes(text)
            text[at] ^= bit
    assert is_good(bytes(text))


def is_good(text):
    """The steps of tlog-proof, "Verifying a tlog proof", for the second leaf."""
    try:
        parsed = Proof.parse(text)
        parsed.note.verified([KEY.verifier])
    except ValueError:
        return False
    head = parsed.checkpoint
    return verify_inclusion(LEAVES[1], parsed.index, head.size, parsed.hashes, head.root)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with the line"),
        (GOLDEN.replace("@v1", "@v2"), "begins with the line"),
        ("\n" + GOLDEN, "begins with the line"),
        (GOLDEN.replace("\n", "\r\n"), "begins with the line"),
        (GOLDEN.partition("\n\n")[0], "an empty line, and signature lines"),
        (GOLDEN.rpartition("\n\n")[0], "an empty line, and signature lines"),
        ("c2sp.org/tlog-proof@v1\n\n" + GOLDEN.partition("\n\n")[2], "needs a line 'index'"),
        (GOLDEN.replace("index 1\n", ""), "needs a line 'index'"),
        (GOLDEN.replace("index 1", "index  1"), "decimal"),
        (GOLDEN.replace("index 1", "index 01"), "decimal"),
        (GOLDEN.replace("index 1", "index -1"), "decimal"),
        (GOLDEN.replace("index 1", "index "), "decimal"),
        (GOLDEN.replace("index 1", "index 1\nindex 1"), "a hash of a proof is not"),
        (GOLDEN.replace("index 1", "index 3"), "there is no entry 3 in a log of 3"),
        (GOLDEN.replace("index 1", f"index {2**63}"), "2\\^63"),
        (GOLDEN.replace("index", "extra \nindex"), "without extra data"),
        (GOLDEN.replace("index", "extra !!\nindex"), "extra data of a proof is not"),
        (GOLDEN.replace("index", "extra AA==\nextra AA==\nindex"), "needs a line 'index'"),
        (GOLDEN.replace("index 1", "index 1\nextra AA=="), "a hash of a proof is not"),
        (GOLDEN.replace("z8c=", "z8d="), "a hash of a proof is not"),
        (GOLDEN.replace("lqKW", ""), "a hash of a proof has 29 bytes"),
        (GOLDEN.replace("z8c=\n", "z8c=\n\n"), r"an empty line|decimal|base64"),
        (GOLDEN.replace("log\n3\n", "log\n03\n"), "size of a checkpoint"),
        (GOLDEN.partition("demo")[0] + PETER_NOTE, "three lines"),
        (b"\xff" + GOLDEN.encode(), "utf-8"),
    ],
)
def test_what_is_not_a_proof_to_the_letter_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        Proof.parse(text)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"index": -1}, "there is no entry -1 in a log of 3"),
        ({"index": 3}, "there is no entry 3 in a log of 3"),
        ({"hashes": (bytes(31),)}, "has 31 bytes"),
        ({"hashes": (LEFT,) * 64}, "63 hashes at most, not 64"),
        ({"note": Note.parse(PETER_NOTE)}, "three lines"),
    ],
)
def test_what_no_proof_can_say_is_not_made(changed, why):
    with pytest.raises(ValueError, match=why):
        proof(**changed)


def test_a_proof_does_not_vouch_for_its_signatures():
    changed = Proof.parse(GOLDEN.replace("demo.example/log\n3", "demo.example/log\n4"))
    with pytest.raises(BadSignature):
        changed.note.verified([KEY.verifier])
