"""Hand-overs: how trust goes from one key of the log to the next."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger import handovers
from audit.ledger.checkpoints import Checkpoint
from audit.ledger.handovers import Handover
from audit.ledger.notes import (
    COSIGNATURE_V1,
    BadSignature,
    Note,
    SigningKey,
    UnknownKey,
    sign,
)
from tests.test_notes import KEY, PETER, PETER_PRIVATE

ORIGIN = "demo.example/log"
OLD = SigningKey.parse(PETER_PRIVATE)
KEYS = [SigningKey(ORIGIN, bytes([number] * 32)) for number in range(4)]

# Signed by openssl.
GOLDEN = """\
auditportal key handover v1
demo.example/log
5
demo.example/log+f1aef1b9+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4

— PeterNeumann x08go+3pzOqO0bbdYPKzOr3AGKzOGOLaeDABTb2mKb/11wxTMZWNNS6CGMCRK4IE5J43jNqGWYclxJ7MrIJJ5HQVPQs=
— demo.example/log 8a7xucRo+Y/KfX+EvcwI5VRq7tiEYD/Wsv5bWwatpzisAVzPGAT+Lmsjlgnxm7h6oGCCWGj4BDkV4zEpkBhE8mtMLAI=
"""  # noqa: E501


def chain_of(*sizes):
    """The notes by which the keys hand over to each other at these sizes."""
    pairs = zip(KEYS, KEYS[1:], sizes, strict=False)
    return [handovers.make(old, new, ORIGIN, size) for old, new, size in pairs]


# --- one hand-over -----------------------------------------------------------------------------


def test_a_hand_over_has_exactly_these_bytes():
    assert handovers.make(OLD, KEY, ORIGIN, 5) == GOLDEN
    assert handovers.verified(GOLDEN, PETER, ORIGIN) == Handover(ORIGIN, 5, KEY.verifier)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63 - 1), st.sampled_from([ORIGIN, "go.sum database tree", "журнал"]))
def test_every_hand_over_reads_back(size, origin):
    note = handovers.make(OLD, KEY, origin, size)
    assert handovers.verified(note, PETER, origin) == Handover(origin, size, KEY.verifier)


def test_no_bit_of_a_hand_over_can_be_changed():
    note = bytearray(GOLDEN.encode())
    for at in range(len(note)):
        note[at] ^= 1
        with pytest.raises(ValueError, match=r"\w"):
            handovers.verified(note.decode("utf-8"), PETER, ORIGIN)
        note[at] ^= 1


def test_both_keys_have_to_sign():
    text = Handover(ORIGIN, 5, KEY.verifier).text()
    for signers, missing in [([OLD], KEY), ([KEY], OLD), ([KEYS[0]], OLD)]:
        with pytest.raises(UnknownKey, match="is not signed by") as refused:
            handovers.verified(sign(text, *signers), PETER, ORIGIN)
        assert missing.verifier.text() in str(refused.value)
    assert handovers.verified(sign(text, KEYS[0], KEY, OLD), PETER, ORIGIN)


def test_a_wrong_signature_of_either_key_refuses_it():
    signatures = Note.parse(GOLDEN).signatures
    text = Handover(ORIGIN, 6, KEY.verifier).text()
    for kept, key in zip(signatures, [KEY, OLD], strict=True):
        note = Note(text, (kept, key.signature(text.encode())))
        with pytest.raises(BadSignature):
            handovers.verified(str(note), PETER, ORIGIN)


def test_a_hand_over_of_another_log_or_by_another_key_is_refused():
    with pytest.raises(ValueError, match=r"is of the log .+, not of 'other'"):
        handovers.verified(GOLDEN, PETER, "other")
    with pytest.raises(UnknownKey):
        handovers.verified(GOLDEN, KEYS[0].verifier, ORIGIN)


def test_a_key_does_not_hand_over_to_itself():
    with pytest.raises(ValueError, match="to itself"):
        handovers.make(KEY, KEY, ORIGIN, 5)
    note = sign(Handover(ORIGIN, 5, KEY.verifier).text(), KEY)
    with pytest.raises(ValueError, match="to itself"):
        handovers.verified(note, KEY.verifier, ORIGIN)


def test_a_witness_cannot_take_a_log_over():
    with pytest.raises(ValueError, match="cannot sign a log"):
        handovers.make(OLD, SigningKey.generate("w", COSIGNATURE_V1), ORIGIN, 5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "newline"),
        ("auditportal key handover v1\n", "four lines"),
        (GOLDEN.partition("\n\n")[0], "newline"),
        (GOLDEN.partition("\n\n")[0] + "\nmore\n", "four lines"),
        (GOLDEN.partition("\n\n")[0].replace("v1", "v2") + "\n", "four lines"),
        ("auditportal key handover v1\n\n5\n" + PETER.text() + "\n", "the origin"),
        ("auditportal key handover v1\no\n05\n" + PETER.text() + "\n", "the size"),
        ("auditportal key handover v1\no\n-5\n" + PETER.text() + "\n", "the size"),
        ("auditportal key handover v1\no\n5\n" + PETER.text()[:-1] + "\n", "base64"),
        ("auditportal key handover v1\no\n5\n" + PETER_PRIVATE + "\n", "base64"),
    ],
)
def test_what_is_not_a_hand_over_to_the_letter_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        Handover.parse(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63 - 1), st.text("0123456789", min_size=1, max_size=20))
def test_a_hand_over_is_never_a_checkpoint(size, origin):
    text = Handover(origin, size, KEY.verifier).text()
    with pytest.raises(ValueError, match=r"root of a checkpoint|size of a checkpoint"):
        Checkpoint.parse(text)


# --- all of a log's ----------------------------------------------------------------------------


def test_a_chain_leads_from_the_first_key_to_the_last():
    found = handovers.chain(chain_of(3, 3, 8), KEYS[0].verifier, ORIGIN)
    assert [(handover.size, handover.key) for handover in found] == [
        (3, KEYS[1].verifier),
        (3, KEYS[2].verifier),
        (8, KEYS[3].verifier),
    ]
    assert handovers.chain([], KEYS[0].verifier, ORIGIN) == []


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [0, 0, 1], [1]])
def test_a_chain_with_a_link_missing_repeated_or_misplaced_is_refused(order):
    notes = chain_of(3, 5, 8)
    with pytest.raises(ValueError, match=r"is not signed by|to itself"):
        handovers.chain([notes[at] for at in order], KEYS[0].verifier, ORIGIN)


def test_a_chain_whose_sizes_run_backwards_is_refused():
    with pytest.raises(ValueError, match="at size 2 follows one at 3"):
        handovers.chain(chain_of(3, 2), KEYS[0].verifier, ORIGIN)


@pytest.mark.parametrize(
    ("size", "who"),
    [(0, [0]), (2, [0]), (3, [0, 1]), (4, [1]), (8, [1, 2, 3]), (9, [3]), (2**63 - 1, [3])],
)
def test_the_new_key_signs_after_the_hand_over_and_at_its_size_either_may(size, who):
    found = handovers.chain(chain_of(3, 8, 8), KEYS[0].verifier, ORIGIN)
    assert handovers.keys_at(size, KEYS[0].verifier, found) == [KEYS[at].verifier for at in who]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=3).map(sorted), st.integers(0, 9))
def test_a_key_signs_from_its_hand_over_to_the_next_one_both_included(sizes, size):
    vkeys = [key.verifier for key in KEYS]
    found = [Handover(ORIGIN, at, key) for at, key in zip(sizes, vkeys[1:], strict=False)]
    times = zip(vkeys, [0, *sizes], [*sizes, 9], strict=False)
    expected = [key for key, since, until in times if since <= size <= until]
    assert handovers.keys_at(size, vkeys[0], found) == expected
